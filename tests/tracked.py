"""Activity made by hand, and a slow and obvious reckoning of what MTU is under every option.

It shares no code with the package: plain loops over rows, no SQL.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, date, datetime, time
from typing import Any, NamedTuple

import duckdb
from hypothesis import strategies as st
from reckoning import ENGAGEMENT, MAILCHIMP, SYSTEM

from cohortsync import mtu, warehouse

PROJECT = {"project_id": "p", "timezone": "UTC", "id_merge": "simplified", "event_times": "utc"}
OPENS = {"Mailchimp Campaign - Open", "Mailchimp - Opened Campaign"}
BRAZE = {"Email Send", "Canvas Entry"}
NAMES = ["Buy", "Look", "Email Send", "Canvas Entry", "$opt_in", "Mailchimp - Opened Campaign", "Mailchimp - Sent To",
         "Mailchimp Campaign - Open", "Mailchimp Campaign - Sent"]
MERGED = {"$device:1": "ann", "$device:2": "bob"}


class Deed(NamedTuple):
    """One row of activity."""

    day: date
    distinct_id: str
    event: str
    marker: str | None
    events: int


deeds = st.lists(st.builds(
    Deed, st.dates(date(2026, 9, 28), date(2026, 11, 3)),
    st.sampled_from(["ann", "bob", "cy", "$device:1", "$device:2", "$device:3", ""]), st.sampled_from(NAMES),
    st.sampled_from([None, "mailchimp", "other"]), st.integers(1, 3000)), min_size=1, max_size=40)
options = st.fixed_dictionaries({}, optional={
    "marked_only": st.booleans(), "partners_by_name": st.booleans(),
    "guardrail_events": st.sampled_from(mtu.GUARDRAIL_EVENTS), "events_per_user": st.sampled_from([1, 700, 1000])})


def tables(braze: bool = True) -> duckdb.DuckDBPyConnection:
    """An empty generation in memory, with the classes as they ship (and Braze's), to write to and to read from."""
    con = warehouse.engine()
    con.execute("attach ':memory:' as generation")
    warehouse.create_schema(con)
    for table in warehouse.TABLES:
        con.execute(f"create view {table} as from generation.{table}")
    mtu.write_classes(con)
    if braze:
        con.execute("insert into generation.event_classes select unnest(?::varchar[]), 'partner', 'a page'",
                    [sorted(BRAZE)])
    return con


def derived(con: duckdb.DuckDBPyConnection, rows: Iterable[Deed], project: dict[str, Any] = PROJECT,
            load_id: int = 1, at: datetime = datetime(2026, 12, 1), merged: dict[str, str] = MERGED) -> None:
    """Put these rows in place of the project's activity and derive its months from them."""
    rows, project_id = list(rows), project["project_id"]
    for table in ("activity", "identities", "event_files"):
        con.execute(f"delete from generation.{table} where project_id = ?", [project_id])
    con.executemany("insert into generation.activity values (?, ?, ?, ?, ?, ?)", [(project_id, *row) for row in rows])
    con.execute("insert into generation.identities select ?, unnest(?::varchar[]), unnest(?::varchar[])",
                [project_id, list(merged), list(merged.values())])
    first, last = (int(datetime.combine(pick(row.day for row in rows), time(), UTC).timestamp())
                   for pick in (min, max))
    con.execute("insert into generation.event_files values (?, ?, 'f', 1, ?, ?)",
                [project_id, rows[0].day, first, last])
    mtu.derive(con, project, load_id, at)


def user_of(row: Deed) -> str:
    return MERGED.get(row.distinct_id, row.distinct_id)


def month_of(row: Deed) -> str:
    return row.day.strftime("%Y-%m")


def qualifies(row: Deed, marked_only: bool = False, partners_by_name: bool = False, **_: Any) -> bool:
    if row.event in SYSTEM:
        return False
    if row.event in MAILCHIMP:
        return marked_only and row.marker != "mailchimp"
    if row.event in BRAZE:
        return row.marker is None and not partners_by_name
    return True


def tracked(rows: Iterable[Deed], **chosen: Any) -> set[str]:
    return {user_of(row) for row in rows if row.distinct_id and qualifies(row, **chosen)}


def guardrail(rows: Iterable[Deed], guardrail_events: str = "all", events_per_user: int = 1000, **chosen: Any) -> int:
    counted = [row.events for row in rows if guardrail_events == "all" or qualifies(row, **chosen)
               or (guardrail_events == "qualifying+opens" and row.event in OPENS)]
    return math.ceil(sum(counted) / events_per_user)


def reckoned(rows: list[Deed], **chosen: Any) -> dict[str, dict[str, int]]:
    """Month → its counts."""
    months: dict[str, list[Deed]] = defaultdict(list)
    for row in rows:
        months[month_of(row)].append(row)
    return {month: _counts(these, **chosen) for month, these in sorted(months.items())}


def _counts(rows: list[Deed], **chosen: Any) -> dict[str, int]:
    users = tracked(rows, **chosen)
    exempted = {user_of(row) for row in rows if row.distinct_id and row.event in MAILCHIMP}
    engaged = {user_of(row) for row in rows if row.distinct_id and row.event in ENGAGEMENT}
    limit = guardrail(rows, **chosen)
    return {"mtu": len(users), "mtu_without_exemption": len(users | exempted),
            "mtu_engagement_counted": len(users | engaged), "exempt_users": len(exempted - users),
            "events": sum(row.events for row in rows), "guardrail": limit, "billable": max(len(users), limit)}
