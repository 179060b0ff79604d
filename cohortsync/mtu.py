"""Monthly tracked users: what Mixpanel bills, in the readings that its pages allow.

Source: https://docs.mixpanel.com/docs/pricing/legacy-mtu-billing
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import duckdb
import pandas as pd

from cohortsync.errors import BadInput
from cohortsync.warehouse import sql

GUARDRAIL_EVENTS = ("all", "qualifying", "qualifying+opens")


def monthly(con: duckdb.DuckDBPyConnection, project_id: str, *, marked_only: bool = False,
            guardrail_events: str = "all", events_per_user: int = 1000) -> pd.DataFrame:
    """One row per month of the project's time zone.

    Columns: ``project_id, month, mtu`` (Mailchimp-exempt events left out), ``mtu_without_exemption`` (counted),
    ``mtu_engagement_counted`` (opens and clicks counted, the other three left out), ``exempt_users`` (the
    difference), ``events`` (all, duplicates left out), ``guardrail`` (events / ``events_per_user``, rounded up),
    ``billable`` (the larger of mtu and guardrail), ``complete`` (events reach from the first day to the last).
    ``marked_only``: a Mailchimp event is exempt only when its ``$source`` is ``mailchimp``.
    ``guardrail_events``: which events the guardrail counts, one of ``GUARDRAIL_EVENTS``.
    """
    if guardrail_events not in GUARDRAIL_EVENTS:
        raise BadInput(f"guardrail_events is {guardrail_events!r}; choose one of {', '.join(GUARDRAIL_EVENTS)}.")
    if events_per_user < 1:
        raise BadInput(f"events_per_user is {events_per_user}; it must be 1 or more.")
    return con.execute(sql("mtu"), {"project_id": project_id, "marked_only": marked_only,
                                    "guardrail_events": guardrail_events, "events_per_user": events_per_user}).df()


def month_bounds(first_s: int, last_s: int, timezone: str) -> list[tuple[str, int, int, bool]]:
    """The months that hold the instants from first to last: (month, start, end, complete), bounds in epoch s.

    A month is complete when the first instant's local day is not after its first day and the last
    instant's local day is not before its last.
    """
    zone = ZoneInfo(timezone)
    first, last = (datetime.fromtimestamp(s, UTC).astimezone(zone).date() for s in (first_s, last_s))
    count = (last.year - first.year) * 12 + last.month - first.month + 1
    starts = [_month_start(first.year, first.month + k, zone) for k in range(count + 1)]
    bounds = []
    for start, end in pairwise(starts):
        complete = first <= start.date() and last >= end.date() - timedelta(days=1)
        bounds.append((f"{start:%Y-%m}", int(start.timestamp()), int(end.timestamp()), complete))
    return bounds


def _month_start(year: int, month: int, zone: ZoneInfo) -> datetime:
    return datetime(year + (month - 1) // 12, (month - 1) % 12 + 1, 1, tzinfo=zone)


def derive_activity(con: duckdb.DuckDBPyConnection, id_merge: str, old: str, new: str) -> None:
    """Bring ``generation.activity`` up to date: take off the counts of ``old`` event rows, add those of ``new``.

    ``old`` and ``new`` are table expressions, so that the cost follows the days that changed.
    """
    statement = sql(f"activity_{id_merge}")
    con.execute(f"""create temp table folded as
        select project_id, month, distinct_id, event, marked, sum(events)::bigint as events from (
            with event_rows as (from {new}) select * from ({statement}) union all
            select * replace (-events as events) from (with event_rows as (from {old}) {statement})
            union all from generation.activity)
        group by all having sum(events) <> 0""")
    con.execute("delete from generation.activity")
    con.execute("insert into generation.activity from folded")
    con.execute("drop table folded")


def derive_user_months(con: duckdb.DuckDBPyConnection) -> None:
    """Join activity with identities and event classes into ``generation.user_months``."""
    con.execute("delete from generation.user_months")
    con.execute(f"insert into generation.user_months {sql('user_months')}")
