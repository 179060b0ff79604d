"""What the bill hangs on: users with one qualifying event, events without their mark, unusual months and days.

Asked of activity itself, so that every option holds; a month of a large project takes about a second.
"""

from __future__ import annotations

from typing import Any

import duckdb
import pandas as pd

from cohortsync import emails, mtu
from cohortsync.errors import BadInput
from cohortsync.warehouse import sql

# periods: (how many before it are compared, how many there must be, how far they lie apart)
PERIODS = {"month": (12, 3, 1), "day": (8, 4, 7)}
BEHIND = 3


def marginal(con: duckdb.DuckDBPyConnection, project_id: str, month: str | None = None,
             **options: Any) -> pd.DataFrame:
    """One row per month and event name: what the bill would be without that event.

    Columns: ``project_id, month, event, counts_as`` (qualifying, exempt or system), ``events``, ``users`` (who did
    it), ``sole_users`` (whose only qualifying event it is: they leave MTU without it), ``mtu``, ``billable``,
    ``billable_effect`` (how much lower ``billable`` would be). Most sole users first. ``month``: one only.
    Options: see ``mtu.settings``.
    """
    values = mtu.settings(**options)
    return con.execute(f"with deeds as ({sql('deeds')}), sole as ({sql('sole')}) {sql('marginal')}", {
        "project_id": project_id, "month": month, "period": "month", **mtu.days(month),
        **{name: values[name] for name in ("qualifying", "guardrail_events", "events_per_user")}}).df()


def unmarked(con: duckdb.DuckDBPyConnection, project_id: str, month: str | None = None,
             partners: bool = False) -> pd.DataFrame:
    """One row per month and user who is tracked only when exempt events must carry their mark.

    Columns: ``project_id, month, canonical_id`` (masked where it is an address), ``events`` (the unmarked ones that
    make the difference). They are MTU with ``marked_only`` less MTU without; with ``partners``, MTU less MTU with
    ``partners_by_name``.
    """
    by_name = mtu.settings(partners_by_name=partners)["qualifying"]
    marked = mtu.settings(marked_only=not partners)["qualifying"]
    frame = con.execute(f"with deeds as ({sql('deeds')}) {sql('unmarked')}", {
        "project_id": project_id, **mtu.days(month), "by_name": by_name, "marked": marked}).df()
    return frame.assign(canonical_id=frame["canonical_id"].map(emails.scrub), events=frame["events"].map(list))


def spikes(con: duckdb.DuckDBPyConnection, project_id: str, by: str = "month", **options: Any) -> pd.DataFrame:
    """One row per unusual month or day and event behind it (up to three).

    Columns: ``project_id, period, users`` (tracked in it), ``usual``, ``event, sole_users`` (whose only qualifying
    event of the period it is), ``usual_sole_users``; event is null where no single event explains it.
    Unusual is what lies further from the median of the periods before than three times their scaled median
    deviation (at least 5 % of the median). Before a month: up to 12 complete months, at least 3. Before a
    day: the same weekday of up to 8 weeks, at least 4. The first and last loaded day may be cut short and are left
    out. ``by``: month or day. Options: see ``mtu.settings``.
    """
    if by not in PERIODS:
        raise BadInput(f"Spikes can be sought by {' or '.join(PERIODS)}, not by {by!r}.")
    users = (_monthly_users if by == "month" else _daily_users)(con, project_id, options)
    sole = _sole_users(con, project_id, by, options).reindex(users.index, fill_value=0)
    rows = [{"project_id": project_id, "period": f"{users.index[place]:{'%Y-%m' if by == 'month' else '%Y-%m-%d'}}",
             "users": users.iloc[place], "usual": users.iloc[before].median(), **cause}
            for place, before in unusual(users, *PERIODS[by])
            for cause in _behind(sole.iloc[place], sole.iloc[before].median(),
                                 rising=users.iloc[place] > users.iloc[before].median())]
    return pd.DataFrame(rows, columns=["project_id", "period", "users", "usual", "event", "sole_users",
                                       "usual_sole_users"])


def unusual(users: pd.Series, most: int, least: int, apart: int) -> list[tuple[int, list[int]]]:
    """The places of unusual counts in a row, each with the places it was compared with."""
    compared = [(place, list(range(place - apart, -1, -apart))[:most]) for place in range(len(users))]
    return [(place, before) for place, before in compared
            if len(before) >= least and _far(users.iloc[place], users.iloc[before])]


def _far(count: float, before: pd.Series) -> bool:
    usual = before.median()
    spread = 1.4826 * (before - usual).abs().median()  # of a normal distribution: its standard deviation
    return bool(abs(count - usual) > 3 * max(spread, 0.05 * usual, 1))


def _behind(sole: pd.Series, usual: pd.Series, rising: bool) -> list[dict[str, Any]]:
    """The events whose sole users rose (or fell) most; one row without an event when none did."""
    change = (sole - usual) * (1 if rising else -1)
    events = change[change > 0].nlargest(BEHIND).index
    return [{"event": event, "sole_users": int(sole[event]), "usual_sole_users": float(usual[event])}
            for event in events] or [{"event": None, "sole_users": 0, "usual_sole_users": 0.0}]


def _monthly_users(con: duckdb.DuckDBPyConnection, project_id: str, options: dict[str, Any]) -> pd.Series:
    months = mtu.monthly(con, project_id, **options).query("complete")
    return pd.Series(months["mtu"].tolist(), index=pd.to_datetime(months["month"] + "-01"))


def _daily_users(con: duckdb.DuckDBPyConnection, project_id: str, options: dict[str, Any]) -> pd.Series:
    days = mtu.tracked_days(con, project_id, **options)
    users = pd.Series(days["users"].tolist(), index=pd.to_datetime(days["day"]))
    return users.asfreq("D", fill_value=0).iloc[1:-1] if len(users) else users


def _sole_users(con: duckdb.DuckDBPyConnection, project_id: str, by: str, options: dict[str, Any]) -> pd.DataFrame:
    """Users with one qualifying event in a period: a row per period, a column per event."""
    values = {"project_id": project_id, "period": by, "qualifying": mtu.settings(**options)["qualifying"]}
    frame = con.execute(f"with deeds as ({sql('deeds')}) {sql('sole')}", values | mtu.days()).df()
    return frame.pivot_table(index="period_on", columns="event", values="sole_users", fill_value=0)
