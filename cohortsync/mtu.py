"""Monthly tracked users: what Mixpanel bills, in the readings that its pages allow.

Activity is reduced once, when a generation is written, to a few hundred rows a month, from which every
reading follows under every option. They are kept as versions: a month that changes gets a new one.
Source: https://docs.mixpanel.com/docs/pricing/legacy-mtu-billing
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

import duckdb
import pandas as pd

from cohortsync import clock, identity
from cohortsync.errors import BadInput
from cohortsync.warehouse import sql

GUARDRAIL_EVENTS = ("all", "qualifying", "qualifying+opens")
READINGS = ("mtu", "mtu_without_exemption", "mtu_engagement_counted")
COUNTS = (*READINGS, "exempt_users", "events", "guardrail", "billable")
QUALIFYING, ENGAGEMENT, ENGAGEMENT_UNMARKED, DELIVERY, DELIVERY_UNMARKED, PARTNER_UNMARKED = 1, 2, 4, 8, 16, 64
EPOCH_END = datetime(9999, 1, 1)


@dataclass(frozen=True)
class Effect:
    """What a campaign does to the bill of a month.

    ``month``: the newest, blank where no events are loaded; ``reached``: the people it gets to; ``untracked``: those of
    them without a qualifying event in the month so far; ``counted``: Mailchimp's events that are not exempt by the
    event classes.
    """

    month: str
    reached: int
    untracked: int
    counted: tuple[str, ...] = ()

    @property
    def adds_at_most(self) -> int:
        """An upper bound of the users whom the campaign adds to MTU; none while Mailchimp's events are exempt."""
        return self.untracked if self.counted else 0

    def __str__(self) -> str:
        if not self.month:
            return "What a campaign does to MTU cannot be reckoned: no events are loaded."
        bound = (f"at most {self.untracked:,} users (an upper bound): so many of the {self.reached:,} whom it reaches "
                 f"have no event that counts in {self.month} so far")
        if self.counted:
            return f"A campaign adds {bound}. By the event classes, {', '.join(self.counted)} count."
        return f"A campaign adds nobody to MTU: Mailchimp's events are exempt. Were they counted, it would add {bound}."


# reading

def monthly(con: duckdb.DuckDBPyConnection, project_id: str, *, as_of: datetime | str | None = None,
            **options: Any) -> pd.DataFrame:
    """One row per month of the project's time zone.

    Columns: ``project_id, month, mtu`` (Mailchimp-exempt events left out), ``mtu_without_exemption`` (counted),
    ``mtu_engagement_counted`` (opens and clicks counted, the other three left out), ``exempt_users`` (the
    difference), ``events`` (all, duplicates left out), ``guardrail`` (events / ``events_per_user``, rounded up),
    ``billable`` (the larger of mtu and guardrail), ``complete`` (events reach from the first day to the last).
    ``as_of``: the numbers as they stood at that instant (naive = UTC), before what was loaded later.
    Options: see ``settings``.
    """
    values = settings(**options) | {"project_id": project_id, "as_of": instant(as_of), "every_version": False}
    return con.execute(sql("mtu"), values).df().drop(columns=["as_of", "load_id"])


def history(con: duckdb.DuckDBPyConnection, project_id: str, **options: Any) -> pd.DataFrame:
    """One row per month and change of its numbers: those of ``monthly`` at every instant they changed.

    Columns: those of ``monthly``, ``as_of`` and ``load_id`` of the change, ``mtu_before`` (null for the first).
    Events that come late and merges that act backwards show here; so do edits of the event classes.
    """
    values = settings(**options) | {"project_id": project_id, "as_of": EPOCH_END, "every_version": True}
    frame = con.execute(sql("mtu"), values).df()
    return frame.assign(mtu_before=frame.groupby("month")["mtu"].shift().astype("Int64"))


def organisation(con: duckdb.DuckDBPyConnection, projects: Iterable[str] | None = None,
                 **options: Any) -> pd.DataFrame:
    """One row per month: the sum over projects (default: all), as an organisation is billed.

    Columns: ``month, projects`` (list of those with events in it), the counts of ``monthly``, ``complete``
    (in every one listed). A user of two projects counts twice. Months are compared by name, each in its
    project's own zone. Options: those of ``monthly``.
    """
    names = con.execute("select distinct project_id from month_versions order by project_id").fetchall()
    found = [monthly(con, name, **options) for name in projects or [name for (name,) in names]]
    frame = pd.concat(found) if found else monthly(con, "", **options)
    months = frame.groupby("month", as_index=False)
    total = months.agg(projects=("project_id", list), **{count: (count, "sum") for count in COUNTS},
                       complete=("complete", "all"))
    return total[["month", "projects", *COUNTS, "complete"]]


def anonymous(con: duckdb.DuckDBPyConnection, project_id: str, **options: Any) -> pd.DataFrame:
    """One row per month: ``project_id, month, mtu, anonymous_users, anonymous_share`` (of mtu), ``complete``.

    Anonymous is who has no id but a device's: ``$device:…`` under simplified ID merge, an id of the form that
    Mixpanel's clients make under original.
    """
    values = {"project_id": project_id, "qualifying": settings(**options)["qualifying"]}
    return con.execute(sql("anonymous"), values).df()


def families(con: duckdb.DuckDBPyConnection, project_id: str) -> pd.DataFrame:
    """One row per month and page whose names for Mailchimp's events occurred: ``project_id, month, page, events``.

    ``page``: ``billing page`` (``Mailchimp Campaign - Open`` …) or ``integration page``
    (``Mailchimp - Opened Campaign`` …), the two that disagree.
    """
    return con.execute(f"with defaults as ({sql('event_classes')}) {sql('families')}", {"project_id": project_id}).df()


def effect(con: duckdb.DuckDBPyConnection, project_id: str, users: Sequence[str], **options: Any) -> Effect:
    """What a campaign to these canonical users does to the newest month.

    It supposes that Mailchimp's events come back under the users' own ids. Options: see ``settings``.
    """
    values = {"project_id": project_id, "users": list(users), "qualifying": settings(**options)["qualifying"]}
    query = f"with defaults as ({sql('event_classes')}) {sql('mtu_effect')}"
    month, tracked, counted = con.execute(query, values).fetchall()[0]
    return Effect(month or "", len(users), len(users) - tracked, tuple(counted))


def tracked_days(con: duckdb.DuckDBPyConnection, project_id: str, **options: Any) -> pd.DataFrame:
    """One row per day with a tracked user: ``day, users, new_users`` (for the first time in their month)."""
    values = {"project_id": project_id, "qualifying": settings(**options)["qualifying"], **days()}
    return con.execute(f"with deeds as ({sql('deeds')}) {sql('tracked_days')}", values).df()


def settings(*, marked_only: bool = False, partners_by_name: bool = False, guardrail_events: str = "all",
             events_per_user: int = 1000) -> dict[str, Any]:
    """What the pages leave open, as the statements take it.

    ``marked_only``: a Mailchimp event is exempt only when its ``$source`` is ``mailchimp``.
    ``partners_by_name``: a partner's event is exempt by its name alone, without ``$source`` or ``$partner_id``.
    ``guardrail_events``: which events the guardrail counts, one of ``GUARDRAIL_EVENTS``.
    ``events_per_user``: the guardrail's ratio.
    """
    if guardrail_events not in GUARDRAIL_EVENTS:
        raise BadInput(f"guardrail_events is {guardrail_events!r}; choose one of {', '.join(GUARDRAIL_EVENTS)}.")
    if events_per_user < 1:
        raise BadInput(f"events_per_user is {events_per_user}; it must be 1 or more.")
    qualifying = QUALIFYING + (ENGAGEMENT_UNMARKED + DELIVERY_UNMARKED) * marked_only
    return {"qualifying": qualifying + PARTNER_UNMARKED * (not partners_by_name),
            "engagement": ENGAGEMENT + ENGAGEMENT_UNMARKED, "delivery": DELIVERY + DELIVERY_UNMARKED,
            "guardrail_events": guardrail_events, "events_per_user": events_per_user}


def days(month: str | None = None) -> dict[str, date]:
    """The days of a month (default: of all time) as the statements take them: ``since``, ``until`` exclusive."""
    if month is None:
        return {"since": date.min, "until": EPOCH_END.date()}
    try:
        first = date.fromisoformat(f"{month}-01")
    except ValueError:
        raise BadInput(f"{month!r} is no month. Write it as 2026-11.") from None
    return {"since": first, "until": _month_start(first.year, first.month + 1)}


def instant(given: datetime | str | None) -> datetime:
    """A moment in UTC, naive as the warehouse keeps them; no moment means the latest."""
    if given is None:
        return EPOCH_END
    try:
        moment = datetime.fromisoformat(given) if isinstance(given, str) else given
    except ValueError:
        raise BadInput(f"{given!r} is no moment. Write it as 2026-11-01 or 2026-11-01T09:30+01:00.") from None
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


# deriving

def derive(con: duckdb.DuckDBPyConnection, project: dict[str, Any], load_id: int, loaded_at: datetime,
           concerned: bool = False) -> None:
    """Fill ``generation``'s months and what MTU is read from, for one project, from activity and identities.

    ``loaded_at``: when (naive UTC); months whose numbers changed get a version of that instant. ``concerned``:
    all users but those of the temp table ``concerned`` have the months they had.
    """
    write_classes(con)
    con.execute("set variable project_id = ?", [project["project_id"]])
    con.execute("set variable anonymous = ?", [anonymous_form(project)])
    _write_months(con, project)
    con.execute(f"create or replace temp table new_events as {sql('month_events')}")
    _renew_user_months(con, concerned)
    con.execute(f"create or replace temp table new_users as {sql('month_users')}")
    con.execute(f"create or replace temp table changed as {sql('months_changed')}", [loaded_at, load_id])
    con.execute("insert into generation.month_versions from changed")
    for new, table in (("new_events", "month_events"), ("new_users", "month_users")):
        con.execute(f"insert into generation.{table} by name select n.*, as_of from {new} n join changed using (month)")
        con.execute(f"drop table {new}")
    con.execute("drop table changed")


def _renew_user_months(con: duckdb.DuckDBPyConnection, concerned: bool) -> None:
    """Reckon the months of the concerned users anew, or of all."""
    mine = "where project_id = getvariable('project_id')"
    con.execute(f"create or replace temp view users_activity as from generation.activity {mine}")
    if concerned:
        con.execute(f"""create or replace temp table their_ids as select canonical_id as distinct_id from concerned
            union select distinct_id from generation.identities {mine} and canonical_id in (from concerned)""")
        con.execute(f"""create or replace temp view users_activity as
            from generation.activity {mine} and distinct_id in (from their_ids)""")
        mine += " and canonical_id in (from concerned)"
    con.execute(f"delete from generation.user_months {mine}")
    con.execute(f"insert into generation.user_months {sql('user_months')}")


def write_classes(con: duckdb.DuckDBPyConnection) -> None:
    """Fill ``generation``'s event classes with those that ship, where there are none."""
    if not con.execute("select 1 from generation.event_classes limit 1").fetchall():
        con.execute(f"insert into generation.event_classes {sql('event_classes')}")


def anonymous_form(project: dict[str, Any]) -> str:
    """The regular expression of the ids that mean nobody known."""
    return identity.ANONYMOUS.pattern if project["id_merge"] == "original" else r"\$device:.*"


def _write_months(con: duckdb.DuckDBPyConnection, project: dict[str, Any]) -> None:
    project_id = project["project_id"]
    con.execute("delete from generation.months where project_id = ?", [project_id])
    first_s, last_s = con.execute("select min(first_s), max(last_s) from generation.event_files where project_id = ?",
                                  [project_id]).fetchall()[0]
    if first_s is not None:
        bounds = month_bounds(local_day(first_s, project), local_day(last_s, project))
        con.executemany("insert into generation.months values (?, ?, ?, ?, ?)", [(project_id, *row) for row in bounds])


def local_day(seconds: int, project: dict[str, Any]) -> date:
    """The project's calendar day of an event's time."""
    return datetime.fromtimestamp(seconds, clock.zone(project)).date()


def month_bounds(first: date, last: date) -> list[tuple[str, date, date, bool]]:
    """The months from one day to another: (month, its first day, the first after it, complete).

    A month is complete when the days reach from its first to its last.
    """
    count = (last.year - first.year) * 12 + last.month - first.month + 1
    starts = [_month_start(first.year, first.month + k) for k in range(count + 1)]
    return [(f"{start:%Y-%m}", start, end, first <= start and last >= end - timedelta(days=1))
            for start, end in pairwise(starts)]


def _month_start(year: int, month: int) -> date:
    return date(year + (month - 1) // 12, (month - 1) % 12 + 1, 1)
