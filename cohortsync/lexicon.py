"""What the data holds: the events there are, the properties they and the profiles carry, and their values.

Mixpanel calls its data dictionary Lexicon. Source: https://docs.mixpanel.com/docs/data-governance/lexicon
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import date, datetime, time, timedelta
from itertools import accumulate
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pandas as pd

from cohortsync import clock, emails
from cohortsync.errors import BadInput
from cohortsync.warehouse import sql

SAMPLE = 20_000
SAMPLE_FROM = 20  # times as many events are read as are drawn
DAYS_AT_LEAST = 7
EXAMPLE_LENGTH = 60
TOKEN = re.compile(r"(?<![A-Za-z0-9])(?=[A-Za-z0-9_+/=-]*[0-9])(?=[A-Za-z0-9_+/=-]*[A-Za-z])[A-Za-z0-9_+/=-]{16,}"
                   r"|\+\d[\d ()-]{6,}\d|\d{15,}")
WITH_AT = re.compile(r"(?<![^\s])[^\s•]*@[^\s•]*(?![^\s])")
EVENT_COLUMNS = {"project_id": "e.project_id", "occurred_at": "e.occurred_at", "event": "e.event",
                 "distinct_id": "e.tracked_id", "canonical_id": "coalesce(i.canonical_id, e.tracked_id)"}


def shown(text: str) -> str:
    """A value from outside as it may be shown: addresses, even broken ones, phone numbers and long tokens masked."""
    text = WITH_AT.sub("•••", emails.scrub(text))
    return TOKEN.sub(lambda found: f"{found.group()[:2]}•••", text)


def events_seen(con: duckdb.DuckDBPyConnection, project_id: str) -> pd.DataFrame:
    """One row per event name: ``project_id, event, events, users, first_on, last_on, class``.

    ``users`` are canonical; days are the project's; the class is the one MTU is counted by.
    """
    return con.execute(sql("events_seen"), {"project_id": project_id}).df()


def event_properties(con: duckdb.DuckDBPyConnection, project_id: str, event: str | None = None,
                     sample: int | None = SAMPLE) -> pd.DataFrame:
    """One row per property name of an event's (or of all) events; see ``_described`` for the columns.

    ``sample``: of how many events, drawn at random from a week of days or more; None for all. Raises BadInput
    for an event never seen.
    """
    if event is not None:
        _last_on(con, project_id, event)
    rows = "select properties from events where project_id = $project_id and ($event is null or event = $event)"
    if sample and (days := _drawn_days(con, project_id, event, sample)):
        rows += f" and day in ({', '.join(days)})"
    return _described(con, rows, {"project_id": project_id, "event": event}, sample)


def _drawn_days(con: duckdb.DuckDBPyConnection, project_id: str, event: str | None, sample: int) -> list[str]:
    """Days enough to draw a sample from, a week at least, so that the others need not be read; none: take all."""
    days = con.execute("""select day, sum(events) from activity
        where project_id = $project_id and ($event is null or event = $event) group by day order by hash(day)""",
                       {"project_id": project_id, "event": event}).fetchall()
    wanted = SAMPLE_FROM * sample
    behind = accumulate((events for _, events in days), initial=0)
    drawn = [f"date '{day}'" for n, ((day, _), so_far) in enumerate(zip(days, behind, strict=False))
             if n < DAYS_AT_LEAST or so_far < wanted]
    return drawn if len(drawn) < len(days) else []


def profile_properties(con: duckdb.DuckDBPyConnection, project_id: str, sample: int | None = SAMPLE) -> pd.DataFrame:
    """One row per property name of the profiles; as ``event_properties``."""
    rows = "select properties from profiles where project_id = $project_id and property_count > 0"
    return _described(con, rows, {"project_id": project_id}, sample)


def _described(con: duckdb.DuckDBPyConnection, rows: str, values: dict[str, Any], sample: int | None) -> pd.DataFrame:
    """``property, filled, fill_rate, types, drifts, distinct_values, examples, sampled``.

    ``filled``: sampled rows in which it is set; ``types``: type → rows; ``drifts``: it has several types;
    ``distinct_values``: about, in the sample; ``examples``: the commonest values, masked.
    """
    drawn = f"using sample reservoir({int(sample)} rows)" if sample else ""
    con.execute(f"create or replace temp table sampled as from ({rows}) {drawn}", values)
    frame = con.execute(sql("properties")).df()
    frame["property"] = frame["property"].map(emails.scrub)
    frame["types"] = frame["types"].map(json.loads)
    frame["examples"] = frame["examples"].map(lambda values: [_example(value) for value in json.loads(values or "[]")])
    return frame


def _example(value: str) -> str:
    """One value of JSON as it may be shown; a text without its quotes."""
    text = value
    if value.startswith('"'):
        text = json.loads(value) if value.endswith('"') and len(value) > 1 else value[1:]
    text = shown(text)
    return text if len(text) <= EXAMPLE_LENGTH else text[:EXAMPLE_LENGTH - 1] + "…"


def events(con: duckdb.DuckDBPyConnection, project: dict[str, Any], event: str, properties: Iterable[str] = (),
           days: int | None = None, limit: int | None = 1000, whole: bool = False) -> pd.DataFrame:
    """One row per event of a name, the latest first: ``EVENT_COLUMNS``, then the properties named, as text.

    ``days``: only the event's last so many days; ``limit``: at most so many rows, None for all; ``whole``:
    leave addresses and tokens unmasked. A property called like one of ``EVENT_COLUMNS`` takes that column's
    place. Raises BadInput for an event never seen.
    """
    names = list(dict.fromkeys(properties))
    fixed = [column for column in EVENT_COLUMNS if column not in names]
    picked = [f"{EVENT_COLUMNS[column]} as c{n}" for n, column in enumerate(fixed)]
    picked += [f"prop(e.properties, $p{n}) as p{n}" for n in range(len(names))]
    where = clock.zone(clock.as_found(con, project))
    values = {"project_id": project["project_id"], "event": event, "original": project["id_merge"] == "original",
              "limit": limit, **_from(_last_on(con, project["project_id"], event), days, where),
              **{f"p{n}": name for n, name in enumerate(names)}}
    frame = con.execute(sql("events_of").replace("$picked", ", ".join(picked)), values).df()
    frame.columns = pd.Index(fixed + names)
    return frame if whole else _masked(frame, names)


def _masked(frame: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    for column in frame.columns.intersection(["distinct_id", "canonical_id", *names]):
        frame[column] = frame[column].map(shown if column in names else emails.scrub, na_action="ignore").astype("str")
    return frame


def _from(last_on: date, days: int | None, where: ZoneInfo) -> dict[str, Any]:
    """Where the last so many days of the project's zone begin: the instant, and a UTC day not after it."""
    if days is None:
        return {"from_s": None, "from_on": None}
    first_on = last_on - timedelta(days=days - 1)
    starts_at = datetime.combine(first_on, time.min, where)
    return {"from_s": int(starts_at.timestamp()), "from_on": first_on - timedelta(days=1)}


def _last_on(con: duckdb.DuckDBPyConnection, project_id: str, event: str) -> date:
    """The last day of an event; raises BadInput when there is none of that name."""
    last_on = con.execute("select max(day) from activity where project_id = ? and event = ?",
                          [project_id, event]).fetchall()[0][0]
    if last_on is None:
        raise BadInput(f"There is no event {emails.scrub(event)!r} here. List them: cohortsync lexicon events")
    return last_on
