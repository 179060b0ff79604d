"""What happens in the local Mixpanel's project while time passes: people come, go on, change and are merged.

New events look like the project's own: each is one of the last two weeks' again, with other ids and times.
"""

from __future__ import annotations

import json
import random
import re
import sqlite3
import uuid
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ..chance import DAY, how_many, some
from ..mailchimp.activity import Mailed
from .export import event_time
from .ingestion import VERBS, event_row, insert_rows
from .state import move_clock, now_s

Record = dict[str, Any]
MAIL_EVENTS = {"sent": "Mailchimp - Sent To", "open": "Mailchimp - Opened Campaign",
               "click": "Mailchimp - Clicked Campaign Url", "unsub": "Mailchimp - Unsubscribed",
               "bounce": "Mailchimp - Bounced"}  # fmt: skip
DEVICE = "$device:"
DEVICE_OF_LINE = ("case when json_valid(line) then coalesce(line ->> '$.properties.\"$device_id\"',"
                  " substr(line ->> '$.properties.\"$distinct_id_before_identity\"', 9)) end")  # fmt: skip
# Older projects merge no other anonymous id. Source: https://docs.mixpanel.com/docs/tracking-methods/id-management
UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.IGNORECASE)
PAST_DAYS, PAST_EVENTS = 14, 20_000
ACTIVE, RARELY, OFTEN = "active_days_of_30", (0, 5), (15, 29)
LATE = 0.05  # the share of events that come from phones which were offline for days
COHORT_SHARE = 0.1  # of a cohort that comes and goes in a day


@dataclass
class Project:
    """The project while `seconds` pass from `start_s`; what happens is counted in `done`, new rows wait in `new`."""

    db: sqlite3.Connection
    rng: random.Random
    start_s: float
    seconds: float
    done: Counter[str] = field(default_factory=Counter)
    new: list[Record] = field(default_factory=list)
    newcomers: list[str] = field(default_factory=list)

    @property
    def simplified(self) -> bool:
        return bool(self.db.execute("select id_merge = 'simplified' from project").fetchone()[0])

    def times(self, a_day: float) -> int:
        return how_many(self.rng, a_day, self.seconds)

    def at(self, part: float | None = None) -> float:
        """A moment of the time that passes; any, when its place is not said."""
        return self.start_s + (self.rng.random() if part is None else part) * self.seconds

    def note(self, name: str, properties: Record, at: float, received: float | None = None) -> None:
        """An event that happened at an instant, and was received moments later unless it is said when."""
        received_ms = int(min((received or at) + self.rng.uniform(0.2, 9), self.start_s + self.seconds) * 1000)
        told = {"time": event_time(self.db, at), "distinct_id": properties["distinct_id"],
                "$insert_id": f"{self.rng.getrandbits(64):016x}"}  # fmt: skip
        stamps = {"$mp_api_endpoint": "api.mixpanel.com", "$mp_api_timestamp_ms": received_ms,
                  "mp_processing_time_ms": received_ms + self.rng.randrange(150, 2500)}  # fmt: skip
        self.new.append({"event": name, "properties": told | (properties | told) | stamps})
        self.done["events"] += 1

    def profiles(self, where: str = "true") -> dict[str, Record]:
        query = f"select distinct_id, properties from profiles where {where} order by distinct_id"
        return {who: json.loads(text) for who, text in self.db.execute(query)}

    def keep_profile(self, who: str, properties: Record, at: float) -> None:
        seen = {"$last_seen": f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%S}"}
        self.db.execute("insert or replace into profiles values (?, ?)",
                        (who, json.dumps(properties | seen, ensure_ascii=False)))  # fmt: skip


def live(db: sqlite3.Connection, rng: random.Random, seconds: float, mailed: Iterable[Mailed]) -> Counter[str]:
    """Let the time pass in the project; how often each thing happened. `mailed` comes in as Mailchimp's events."""
    project = Project(db, rng, now_s(db), seconds)
    move_clock(db, seconds)
    past = past_events(project)
    sign_up(project)
    change_addresses(project)
    merge_late(project, past)
    change_cohorts(project)
    go_on(project, past)
    bring_in(project, mailed)
    project.new.sort(key=lambda record: record["properties"]["$mp_api_timestamp_ms"])
    insert_rows(db, [event_row(record) for record in project.new])
    return project.done


def past_events(project: Project) -> list[Record]:
    """Events of the last two weeks, as they are exported; some of them where there are many."""
    first = f"{datetime.fromtimestamp(project.start_s - PAST_DAYS * DAY, UTC):%Y-%m-%d}"
    ids = [row[0] for row in project.db.execute("select id from events where day >= ? order by id", (first,))]
    wanted = json.dumps(some(project.rng, ids, PAST_EVENTS))
    query = "select line from events where id in (select value from json_each(?)) order by id"
    return [json.loads(line) for (line,) in project.db.execute(query, (wanted,))]


def go_on(project: Project, past: list[Record]) -> None:
    """People do again what they did, as often as they did; some of it is heard of days later."""
    usual = [record for record in past if is_usual(record)]
    for record in project.rng.choices(usual, k=project.times(len(usual) / PAST_DAYS)) if usual else ():
        at, late = project.at(), project.rng.random() < LATE
        happened = at - project.rng.uniform(1, 3) * DAY if late else at
        project.note(record["event"], record["properties"], happened, received=at)
        project.done["late"] += late
        project.done["rekeyed"] += "$distinct_id_before_identity" in record["properties"]


def is_usual(record: Record) -> bool:
    """Whether an event is of somebody, and neither about who is who nor about mail."""
    return (bool(record["properties"].get("distinct_id")) and record["event"] not in VERBS
            and not record["event"].startswith("Mailchimp"))  # fmt: skip


def sign_up(project: Project) -> None:
    """New people look around on a device of theirs, and then sign up on it."""
    rng = project.rng
    named = list(project.profiles("json_type(properties, '$.\"$first_name\"') = 'text'").values()) or [{}]
    for _ in range(project.times(24)):
        number, at = f"{rng.getrandbits(40):010x}", project.at(rng.uniform(0, 0.7))
        who, device = f"new_{number}", str(uuid.UUID(int=rng.getrandbits(128), version=4))
        for look in range(rng.randrange(1, 4)):
            project.note("Page viewed", anonymous(project, device), at + 40 * look)
        link(project, "Signed up", who, device, at + 200)
        names = {name: rng.choice(named).get(name, "") for name in ("$first_name", "$last_name")}
        project.keep_profile(who, names | {"$email": f"hello.{number}@new-post.example"}, at + 200)
        project.newcomers.append(who)
        project.done["signed_up"] += 1


def anonymous(project: Project, device: str) -> Record:
    return {"distinct_id": f"{DEVICE}{device}" if project.simplified else device, "$device_id": device, "mp_lib": "web"}


def link(project: Project, name: str, who: str, device: str, at: float) -> None:
    """An event by which Mixpanel learns whose a device is; in older projects a verb says so."""
    project.note(name, {"distinct_id": who, "$user_id": who, "$device_id": device, "mp_lib": "web"}, at)
    if not project.simplified:
        project.note("$identify", {"distinct_id": who, "$identified_id": who, "$anon_id": device}, at)


def change_addresses(project: Project) -> None:
    """Members of cohorts write another address into their profile."""
    known = project.profiles("distinct_id in (select distinct_id from cohort_members)"
                             " and properties ->> '$.\"$email\"' like '_%@%.example'")  # fmt: skip
    for who in some(project.rng, list(known), project.times(24)):
        name, _, domain = known[who]["$email"].strip().rpartition("@")
        moved = {"$email": f"{name}.{project.rng.randrange(100, 1000)}@{domain}"}
        project.keep_profile(who, known[who] | moved, project.at())
        project.done["address_changed"] += 1


def merge_late(project: Project, past: list[Record]) -> None:
    """Devices used for long turn out to be somebody's: what they did becomes that user's, in part visibly."""
    users = [who for who in project.profiles() if not who.startswith(DEVICE)]
    unowned = {device: records for device, records in rows_of_devices(project, past).items()
               if (project.simplified or UUID4.fullmatch(device))
               and all(is_of_a_device(record["properties"]) for record in records.values())}  # fmt: skip
    for device in some(project.rng, list(unowned), project.times(24)) if users else ():
        merge(project, device, project.rng.choice(users), unowned[device])


def rows_of_devices(project: Project, past: list[Record]) -> dict[str, dict[int, Record]]:
    """All rows, by id, of each device that was of late seen without its user."""
    seen = dict.fromkeys(p["$device_id"] for p in (record["properties"] for record in past) if is_of_a_device(p))
    rows: dict[str, dict[int, Record]] = {device: {} for device in seen}
    query = (f"select id, line, {DEVICE_OF_LINE} as device from events"
             " where device in (select value from json_each(?)) order by id")  # fmt: skip
    for row in project.db.execute(query, (json.dumps(list(seen)),)):
        rows[row["device"]][row["id"]] = json.loads(row["line"])
    return rows


def is_of_a_device(properties: Record) -> bool:
    device = properties.get("$device_id")
    return bool(device) and properties.get("distinct_id") in (device, f"{DEVICE}{device}")


def merge(project: Project, device: str, who: str, records: dict[int, Record]) -> None:
    link(project, "Logged in", who, device, project.at())
    before = str(anonymous(project, device)["distinct_id"])
    for event_id, record in records.items():
        if project.rng.random() < 0.5:
            record["properties"] |= {"distinct_id": who, "$distinct_id_before_identity": before, "$is_reshuffled": True}
            project.db.execute("update events set distinct_id = ?, line = ? where id = ?",
                               (who, event_row(record)[-1], event_id))  # fmt: skip
            project.done["rekeyed"] += 1
    project.db.execute("update or ignore cohort_members set distinct_id = ? where distinct_id = ?", (who, before))
    project.db.execute("delete from cohort_members where distinct_id = ?", (before,))
    project.done["merged"] += 1


def change_cohorts(project: Project) -> None:
    """People leave each cohort, and as many come, the new ones among them; it is counted anew.

    Those who come have been around more often of late, those who leave less, and their profiles say so.
    """
    users = project.profiles()
    for (cohort_id,) in project.db.execute("select id from cohorts order by id").fetchall():
        query = "select distinct_id from cohort_members where cohort_id = ? order by distinct_id"
        members = [row[0] for row in project.db.execute(query, (cohort_id,))]
        times = project.times(len(members) * COHORT_SHARE)
        leaving = some(project.rng, members, times)
        outside = sorted(set(users) - set(members) - set(project.newcomers))
        coming = some(project.rng, project.newcomers, min(times, 1))
        coming += some(project.rng, outside, times - len(coming))
        for who in filter(users.get, [*leaving, *coming]):
            users[who] |= {ACTIVE: project.rng.randrange(*(RARELY if who in leaving else OFTEN))}
            project.keep_profile(who, users[who], project.at())
        project.db.executemany("delete from cohort_members where cohort_id = ? and distinct_id = ?",
                               [(cohort_id, who) for who in leaving])  # fmt: skip
        project.db.executemany("insert into cohort_members values (?, ?)", [(cohort_id, who) for who in coming])
        project.db.execute("update cohorts set count = ? where id = ?",
                           (len(members) - len(leaving) + len(coming), cohort_id))  # fmt: skip
        project.done += Counter(left=len(leaving), joined=len(coming))


def bring_in(project: Project, mailed: Iterable[Mailed]) -> None:
    """What became of Mailchimp's mails, as Mixpanel's own integration brings it in: by the address of a profile."""
    known = project.profiles("json_type(properties, '$.\"$email\"') = 'text'")
    owners = {properties["$email"].strip().lower(): who for who, properties in reversed(known.items())}
    for each in mailed:
        if who := owners.get(each.address.lower()):
            told = {"distinct_id": who, "$import": True, "$source": "mailchimp", "campaign": each.title}
            told |= {"url": each.url} if each.url else {}
            project.note(MAIL_EVENTS[each.action], told, project.at(each.part))
            project.done["mail_events"] += 1
