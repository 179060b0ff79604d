"""What happens on the local Mailchimp while time passes: a campaign goes out, people leave, someone edits by hand.

Nobody comes back: a status only ever changes to unsubscribed or cleaned.
"""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ..chance import how_many, some
from .activity import Mailed, record_activity, record_campaign
from .members import act_as_person
from .state import instant, move_clock
from .tags import add_tags, add_to_segment, remove_from_segment

HAND_TAG = "Called back"
LINK = "https://tally.example/whats-new"
CHANGES = {"unsub": "unsubscribe", "bounce": "bounce"}
HELD = "id in (select member_id from segment_members where segment_id = ?)"


@dataclass
class Audience:
    """One audience while `seconds` pass from `start`; what happens is counted in `done` and told in `mailed`."""

    db: sqlite3.Connection
    rng: random.Random
    start: datetime
    seconds: float
    id: str
    done: Counter[str] = field(default_factory=Counter)
    mailed: list[Mailed] = field(default_factory=list)

    def members(self, where: str, *values: object) -> list[sqlite3.Row]:
        query = f"select * from members where audience_id = ? and {where} order by id"
        return self.db.execute(query, (self.id, *values)).fetchall()

    def segments(self) -> dict[int, int]:
        """The static segments that hold somebody: how many each holds."""
        query = ("select segments.id, count(*) from segments join segment_members on segment_id = segments.id"
                 " where audience_id = ? and type = 'static' and name <> ? group by segments.id order by segments.id"
                 )  # fmt: skip
        return dict(self.db.execute(query, (self.id, HAND_TAG)).fetchall())

    def at(self, part: float) -> datetime:
        return self.start + timedelta(seconds=part * self.seconds)

    def act(self, member: sqlite3.Row, action: str, part: float, campaign: str = "", title: str = "") -> None:
        """Something that a person or their mailbox does; leaving and bouncing change the member as well."""
        if action in CHANGES:
            act_as_person(self.db, self.id, member["hash"], CHANGES[action])
        url = LINK if action == "click" else ""
        self.mailed.append(Mailed(member["id"], member["email"], action, part, self.at(part), campaign, title, url))
        self.done[action] += 1


def live(db: sqlite3.Connection, rng: random.Random, seconds: float) -> tuple[Counter[str], list[Mailed]]:
    """Let the time pass in every audience: how often each thing happened, and what became of which mail."""
    start = instant(db)
    move_clock(db, seconds)
    done: Counter[str] = Counter()
    mailed: list[Mailed] = []
    for (audience_id,) in db.execute("select id from audiences order by number").fetchall():
        audience = Audience(db, rng, start, seconds, audience_id)
        edit_by_hand(audience)
        send_campaigns(audience)
        leave(audience)
        record_activity(db, audience.mailed)
        done += audience.done
        mailed += audience.mailed
    return done, mailed


def edit_by_hand(audience: Audience) -> None:
    """Someone in the account takes people off each segment, puts others on, and tags a few."""
    times = how_many(audience.rng, 30, audience.seconds)
    for segment_id in audience.segments():
        off = some(audience.rng, audience.members(HELD, segment_id), times)
        on = some(audience.rng, audience.members(f"status = 'subscribed' and not {HELD}", segment_id), times)
        remove_from_segment(audience.db, segment_id, [member["id"] for member in off])
        add_to_segment(audience.db, segment_id, [member["id"] for member in on])
        audience.done += Counter(taken_off=len(off), put_on=len(on))
    for member in some(audience.rng, audience.members("status = 'subscribed'"), times):
        add_tags(audience.db, member, [HAND_TAG])
        audience.done["tagged"] += 1


def send_campaigns(audience: Audience) -> None:
    """Mail to a segment, the likelier the more it holds: one within two hours, and one more a week."""
    segments = audience.segments()
    for _ in range(how_many(audience.rng, 1 / 7, audience.seconds) if segments else 0):
        (segment_id,) = audience.rng.choices(list(segments), list(segments.values()))
        campaign, title = f"{audience.rng.getrandbits(40):010x}", f"News {audience.rng.randrange(100, 1000)}"
        begins = audience.rng.uniform(0.02, 0.1)
        record_campaign(audience.db, campaign, audience.id, segment_id, title, audience.at(begins))
        audience.done["campaigns"] += 1
        to = audience.members(f"status = 'subscribed' and {HELD}", segment_id)
        audience.rng.shuffle(to)
        for place, member in enumerate(to):
            for action, part in fate(audience.rng, place, begins):
                audience.act(member, action, part, campaign, title)


def fate(rng: random.Random, place: int, sent: float) -> Iterator[tuple[str, float]]:
    """What becomes of one mail, and when; the first three see to it that everything happens to somebody."""
    yield "sent", sent
    if place == 0 or rng.random() < 0.005:
        yield "bounce", sent + 0.02
    elif place in (1, 2) or rng.random() < 0.3:
        opened = rng.uniform(sent, 0.9)
        yield "open", opened
        if place == 1 or rng.random() < 0.3:
            yield "click", opened + 0.01
        if place == 2 or rng.random() < 0.01:
            yield "unsub", opened + 0.02


def leave(audience: Audience) -> None:
    """People unsubscribe or bounce without any of these campaigns."""
    subscribed = audience.members("status = 'subscribed'")
    leaving = how_many(audience.rng, len(subscribed) * 0.004, audience.seconds)
    bouncing = how_many(audience.rng, len(subscribed) * 0.002, audience.seconds)
    for place, member in enumerate(some(audience.rng, subscribed, leaving + bouncing)):
        audience.act(member, "unsub" if place < leaving else "bounce", audience.rng.random())
