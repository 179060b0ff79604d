"""What a pull has to ask Mixpanel for: which cohorts, which days, and what that takes of the hour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from cohortsync import ledger, mixpanel
from cohortsync.client import Client, fetch_cohorts, fetch_count
from cohortsync.errors import BadInput
from cohortsync.mixpanel import CohortSeen

MONTHS_AT_FIRST = 12
PAGE = 1000
# Noon of the next day, UTC: then a day is over in every time zone.
OVER_EVERYWHERE = timedelta(days=1, hours=12)
Span = tuple[date, date]


@dataclass(frozen=True)
class Wanted:
    """What a pull is to bring.

    ``cohorts``: names or ids, with the profiles of their members alone; None for all, with everyone's profiles.
    ``since`` and ``until``: days of events; ``late_days``: how long events may come in late, None for the setting.
    """

    cohorts: Sequence[str] | None = None
    since: date | None = None
    until: date | None = None
    events: bool = True
    profiles: bool = True
    late_days: int | None = None


@dataclass(frozen=True)
class PullPlan:
    """What a pull will ask for.

    ``left_out``: what it will not, in words; ``people``: how many profiles the project has, None when not all
    are asked for; ``spans``: first and last day of each export; ``period``: first and last day wanted, None without
    events; ``left``: what the hour still holds, by kind (query, export).
    """

    project_id: str
    cohorts: list[CohortSeen]
    left_out: list[str]
    profiles: bool
    people: int | None
    period: Span | None
    spans: list[Span]
    today: date
    left: Mapping[str, int]

    @property
    def exports(self) -> int:
        """How many requests the events take."""
        return len(self.spans)

    @property
    def days(self) -> int:
        """How many days of events are asked for."""
        return sum((last - first).days + 1 for first, last in self.spans)

    @property
    def queries(self) -> int:
        """Queries of the hour when only the first page of each counts."""
        return 2 * len(self.cohorts) + (self.people is not None)

    @property
    def queries_with_pages(self) -> int:
        """Queries of the hour when every page counts."""
        of_members = sum(_pages(seen.size) for seen in self.cohorts)
        again = of_members if self.profiles and self.people is None else len(self.cohorts)
        return of_members + again + (0 if self.people is None else _pages(self.people))

    @property
    def fits(self) -> bool:
        """Whether the hour still holds all of it, pages too."""
        return self.queries_with_pages <= self.left["query"] and self.exports <= self.left["export"]

    def as_dict(self) -> dict[str, Any]:
        """What a script would read."""
        return {"project_id": self.project_id, "cohorts": [seen.name for seen in self.cohorts],
                "left_out": self.left_out, "profiles": self.profiles, "days": self.days, "exports": self.exports,
                "queries": self.queries, "queries_with_pages": self.queries_with_pages, "left": dict(self.left),
                "fits": self.fits, "spans": [[first.isoformat(), last.isoformat()] for first, last in self.spans]}


def _pages(people: int) -> int:
    return max(-(-people // PAGE), 1)


def fetch_plan(home: Path, project: Mapping[str, Any], client: Client, wanted: Wanted) -> PullPlan:
    """Ask for the list of cohorts and, where all profiles are wanted, how many there are; plan with both."""
    project_id = project["project_id"]
    cohorts, left_out = chosen_cohorts(fetch_cohorts(client), wanted.cohorts,
                                       ledger.mixpanel_cohorts(home, project_id))
    everyone = wanted.profiles and wanted.cohorts is None
    today = _today(client, project)
    pulled = pulled_at(ledger.pulled_days(home, project_id), raw_folder(home, project_id) / "events")
    period = wanted_period(pulled, wanted, today) if wanted.events else None
    if period and wanted.until and wanted.until > today:
        left_out.append(f"events of days after {today}, which is today in the project")
    late = client.settings.pull_late_days if wanted.late_days is None else wanted.late_days
    days = wanted_days(pulled, period, late) if period else []
    people = fetch_count(client) if everyone else None
    return PullPlan(project_id, cohorts, left_out, wanted.profiles, people, period,
                    spans(days, client.settings.pull_span_days), today,
                    {kind: client.budget.left(kind) for kind in ("query", "export")})


def chosen_cohorts(seen: Sequence[CohortSeen], wanted: Sequence[str] | None, known: Mapping[str, str]
                   ) -> tuple[list[CohortSeen], list[str]]:
    """The cohorts to pull, and what is left out of them, in words.

    By default all that are shown in Mixpanel; those of groups cannot be synced. ``wanted``: ids, names here or in
    Mixpanel; ``known``: the name here by id. Raises BadInput for one that is not there.
    """
    of_users = [one for one in seen if one.of_users]
    if wanted is None:
        return [one for one in of_users if one.visible], _left_out(seen, known)
    found = [_named(of_users, name, known) for name in wanted]
    if missing := [name for name, cohorts in zip(wanted, found, strict=True) if not cohorts]:
        raise BadInput(f"The project has no cohort {', '.join(map(repr, missing))}. It has: "
                       f"{', '.join(one.name for one in of_users) or 'none'}.")
    return list(dict.fromkeys(one for cohorts in found for one in cohorts)), []


def _left_out(seen: Sequence[CohortSeen], known: Mapping[str, str]) -> list[str]:
    there = {one.cohort_id for one in seen}
    return [*(f"{one.name} (of a group, not of users)" for one in seen if not one.of_users),
            *(f"{one.name} (hidden in Mixpanel)" for one in seen if one.of_users and not one.visible),
            *(f"{name} (no longer in Mixpanel)" for cohort_id, name in known.items() if cohort_id not in there)]


def _named(seen: Sequence[CohortSeen], name: str, known: Mapping[str, str]) -> list[CohortSeen]:
    """The cohort of that name here, else of that id; else those of that name in Mixpanel, which may be several."""
    return ([one for one in seen if known.get(one.cohort_id) == name]
            or [one for one in seen if one.cohort_id == name]
            or [one for one in seen if one.name == name])


def _today(client: Client, project: Mapping[str, Any]) -> date:
    """The newest day that can be asked for, by the server's clock: UTC's, in old projects the project's own."""
    zone = ZoneInfo(project["timezone"]) if project["event_times"] == "local" else UTC
    return client.server_now().astimezone(zone).date()


def raw_folder(home: Path, project_id: str) -> Path:
    """Where the raw files of a project are kept."""
    return home / "raw" / mixpanel.project_number(project_id)


def pulled_at(rows: Sequence[Mapping[str, Any]], events: Path) -> dict[date, datetime]:
    """When each day was last pulled, of rows ``day, path, loaded, pulled_at``; one that got lost unloaded never was.

    ``events``: the folder of their files.
    """
    return {date.fromisoformat(row["day"]): datetime.fromisoformat(row["pulled_at"]) for row in rows
            if row["loaded"] or not row["path"] or (events / row["path"]).exists()}


def wanted_period(pulled: Mapping[date, datetime], wanted: Wanted, today: date) -> Span:
    """First and last day of events that a pull is to leave complete. Raises BadInput for days that are none."""
    first = wanted.since or min(pulled, default=_months_before(today, MONTHS_AT_FIRST))
    last = min(wanted.until or today, today)
    if first > last:
        raise BadInput(f"There is no day from {first} to {wanted.until or last}: it is {today} in the project. Choose "
                       "an earlier --since or a later --until.")
    return first, last


def wanted_days(pulled: Mapping[date, datetime], period: Span, late_days: int) -> list[date]:
    """The days of a period to ask for: never pulled, or pulled when events of theirs could still come in."""
    first, last = period
    days = [first + timedelta(n) for n in range((last - first).days + 1)]
    settled = OVER_EVERYWHERE + timedelta(late_days)
    return [day for day in days if day not in pulled
            or pulled[day] < datetime(day.year, day.month, day.day, tzinfo=UTC) + settled]


def _months_before(today: date, months: int) -> date:
    """The first day of the month so many months before."""
    years, month = divmod(today.year * 12 + today.month - 1 - months, 12)
    return date(years, month + 1, 1)


def spans(days: Sequence[date], longest: int) -> list[Span]:
    """Days that follow each other as spans of at most so many."""
    found: list[Span] = []
    for day in sorted(days):
        if found and (day - found[-1][1]).days == 1 and (day - found[-1][0]).days < longest:
            found[-1] = (found[-1][0], day)
        else:
            found.append((day, day))
    return found


def halves(first: date, last: date) -> list[Span]:
    """A span of several days in two, the later one first."""
    middle = first + (last - first) // 2
    return [(middle + timedelta(1), last), (first, middle)]
