"""Cohorts, profiles and events from Mixpanel: planned, fetched into raw files, loaded as one whole.

Only what is new, or may have changed, is asked for. What was fetched is kept when a pull ends early, and nothing of
it is in force before all of it is there.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import portalocker

from cohortsync import access, ledger, mixpanel, warehouse
from cohortsync.cohorts import checked_name
from cohortsync.config import private_folder
from cohortsync.errors import ApiTransient, BadInput
from cohortsync.load import LoadReport, Pulled, load
from cohortsync.mixpanel import Client, CohortSeen, HistoryLimit, Interrupted, TooLate
from cohortsync.raw import day_files
from cohortsync.sources import Progress, silent
from cohortsync.warehouse import required_project

MONTHS_AT_FIRST = 12
PAGE = 1000
COHORT_COLUMNS = ["cohort", "cohort_id", "announced", "members", "with_profile", "without_profile"]
Span = tuple[date, date]


@dataclass(frozen=True)
class Wanted:
    """What a pull is to bring. ``cohorts``: names or ids, None for all; ``since`` and ``until``: days of events."""

    cohorts: Sequence[str] | None = None
    since: date | None = None
    until: date | None = None
    events: bool = True
    profiles: bool = True
    late_days: int | None = None


@dataclass(frozen=True)
class PullPlan:
    """What a pull will ask for. ``spans``: first and last day of each export; ``pages``: of profiles and members, those
    of profiles as they were at the last pull (None when there was none); ``left``: what the hour still holds."""

    project_id: str
    cohorts: list[CohortSeen]
    left_out: list[str]
    profiles: bool
    spans: list[Span]
    today: date
    pages: int | None
    left: dict[str, int]

    @property
    def exports(self) -> int:
        return len(self.spans)

    @property
    def queries(self) -> int:
        """Queries of the hour when only the first page of each counts."""
        return 2 * len(self.cohorts) + self.profiles

    @property
    def queries_with_pages(self) -> int | None:
        """Queries of the hour when every page counts; None when it cannot be told."""
        return None if self.pages is None else len(self.cohorts) + self.pages

    @property
    def days(self) -> int:
        return sum((last - first).days + 1 for first, last in self.spans)

    def as_dict(self) -> dict[str, Any]:
        """What a script would read."""
        return {"project_id": self.project_id, "cohorts": [seen.name for seen in self.cohorts],
                "left_out": self.left_out, "profiles": self.profiles, "days": self.days, "exports": self.exports,
                "queries": self.queries, "queries_with_pages": self.queries_with_pages, "left": self.left,
                "spans": [[first.isoformat(), last.isoformat()] for first, last in self.spans]}


@dataclass
class PullReport:
    """What a pull brought. ``cohorts``: one row per cohort, as ``COHORT_COLUMNS``: the size that Mixpanel announced,
    the members there were, and how many of them have a profile; ``requests`` by kind; ``notes``: what one should
    know."""

    pull_id: str
    days: int = 0
    events: int = 0
    profiles: int = 0
    requests: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    loaded: LoadReport = field(default_factory=LoadReport)
    cohorts: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=COHORT_COLUMNS))

    def as_dict(self) -> dict[str, Any]:
        """What a script would read, and the ledger keeps."""
        return {"pull_id": self.pull_id, "days": self.days, "events": self.events, "profiles": self.profiles,
                "events_added": self.loaded.events_added, "duplicates": self.loaded.duplicates,
                "replaced": self.loaded.replaced, "quarantined": self.loaded.quarantined, "requests": self.requests,
                "cohorts": json.loads(self.cohorts.to_json(orient="records")), "notes": self.notes}


# planning

def plan_pull(home: Path, project_id: str | None = None, wanted: Wanted = Wanted()) -> PullPlan:
    """What a pull would ask for; asks only for the list of cohorts, and for the time."""
    project = required_project(home, project_id)
    return _plan(home, project, access.client(home, project["project_id"]), wanted)


def _plan(home: Path, project: dict[str, Any], client: Client, wanted: Wanted) -> PullPlan:
    project_id = project["project_id"]
    seen = mixpanel.fetch_cohorts(client)
    cohorts, left_out = chosen_cohorts(seen, wanted.cohorts)
    today = _today(client, project)
    rows = ledger.pulled_days(home, project_id)
    days = wanted_days(rows, wanted, today, client.settings.pull_late_days) if wanted.events else []
    return PullPlan(project_id, cohorts, left_out, wanted.profiles, spans(days, client.settings.pull_span_days), today,
                    _pages(home, project_id, cohorts, wanted.profiles),
                    {kind: client.budget.left(kind) for kind in ("query", "export")})


def chosen_cohorts(seen: Sequence[CohortSeen], names: Sequence[str] | None) -> tuple[list[CohortSeen], list[str]]:
    """The cohorts to pull, and what is left out of them, in words.

    By default all that can be seen; those of groups cannot be synced. Raises BadInput for one that is not there.
    """
    of_users = [one for one in seen if one.of_users]
    groups = [f"{one.name} (of a group, not of users)" for one in seen if not one.of_users]
    if names is None:
        return [one for one in of_users if one.visible], groups
    unknown = [name for name in names if not any(name in (one.cohort_id, one.name) for one in of_users)]
    if unknown:
        raise BadInput(f"The project has no cohort {', '.join(map(repr, unknown))}. It has: "
                       f"{', '.join(one.name for one in of_users) or 'none'}.")
    return [one for one in of_users if one.cohort_id in names or one.name in names], []


def _today(client: Client, project: dict[str, Any]) -> date:
    """The newest day that can be asked for, by the server's clock: UTC's, in old projects the project's own."""
    zone = ZoneInfo(project["timezone"]) if project["event_times"] == "local" else UTC
    return client.server_now().astimezone(zone).date()


def wanted_days(rows: Sequence[dict[str, Any]], wanted: Wanted, today: date, late_days: int) -> list[date]:
    """The days to ask for: never pulled, or pulled when events of theirs could still come in.

    ``rows``: ``day, pulled_at`` of the days pulled before. Raises BadInput for days that are none.
    """
    pulled = {date.fromisoformat(row["day"]): datetime.fromisoformat(row["pulled_at"]) for row in rows}
    first = wanted.since or min(pulled, default=_months_before(today, MONTHS_AT_FIRST))
    last = min(wanted.until or today, today)
    if first > last:
        raise BadInput(f"There is no day from {first} to {last}; today is {today} in the project.")
    late = timedelta(days=1 + (late_days if wanted.late_days is None else wanted.late_days))
    days = [first + timedelta(n) for n in range((last - first).days + 1)]
    return [day for day in days if day not in pulled or pulled[day] < datetime(day.year, day.month, day.day,
                                                                               tzinfo=UTC) + late]


def _months_before(today: date, months: int) -> date:
    """The first day of the month so many months before."""
    years, month = divmod(today.year * 12 + today.month - 1 - months, 12)
    return date(years, month + 1, 1)


def spans(days: Sequence[date], longest: int) -> list[Span]:
    """Days that follow each other as spans of at most so many; the newest first are no better than the oldest."""
    found: list[Span] = []
    for day in sorted(days):
        if found and (day - found[-1][1]).days == 1 and (day - found[-1][0]).days < longest:
            found[-1] = (found[-1][0], day)
        else:
            found.append((day, day))
    return found


def _pages(home: Path, project_id: str, cohorts: Sequence[CohortSeen], profiles: bool) -> int | None:
    of_cohorts = sum(max(-(-one.size // PAGE), 1) for one in cohorts)
    if not profiles:
        return of_cohorts
    last = ledger.last_pull(home, project_id)
    return None if last is None else of_cohorts + max(-(-last["receipt"].get("profiles", 0) // PAGE), 1)


# pulling

def pull(home: Path, project_id: str | None = None, wanted: Wanted = Wanted(), progress: Progress = silent,
         review: Callable[[PullPlan], None] = lambda _plan: None) -> PullReport:
    """Plan, have the plan reviewed, fetch, load. ``review`` is shown the plan first, and raises to stop.

    Raises ApiTransient when Mixpanel does not answer for long: the next pull goes on from there.
    """
    project = required_project(home, project_id)
    folder = private_folder(home / "raw" / mixpanel.project_number(project["project_id"]))
    with _alone(folder):
        connection = access.check(home, project["project_id"])
        client = access.client(home, project["project_id"])
        plan = _plan(home, project, client, wanted)
        review(plan)
        work = _Pull(home, project, client, plan, folder, progress)
        if connection["status"] != access.CONNECTED:
            work.report.notes.append(f"{connection['status']}: {connection['reason']}")
        return work.run()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One pull at a time; the kernel ends the hold with the process."""
    with (folder / ".lock").open("a+") as file:
        try:
            portalocker.lock(file, portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING)
        except portalocker.LockException:
            raise ApiTransient("Another pull of this project is at work. Wait until it has finished.") from None
        yield


@dataclass
class _Pull:
    """One pull at work."""

    home: Path
    project: dict[str, Any]
    client: Client
    plan: PullPlan
    folder: Path
    progress: Progress
    pull_id: str = field(default_factory=lambda: f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}")
    report: PullReport = field(init=False)
    started_at: str = field(default_factory=ledger.now)

    def __post_init__(self) -> None:
        self.report = PullReport(self.pull_id)
        self.client.notice = lambda text: self.progress(text, 0, 1)

    @property
    def project_id(self) -> str:
        return str(self.project["project_id"])

    def run(self) -> PullReport:
        self._record("pulling")
        try:
            self._sweep("*.draft", set())
            self._fetch_events()
            profiles = self._fetch_profiles()
            cohorts = self._fetch_cohorts()
            self._load(profiles, cohorts)
        except BaseException:
            self._record("failed")
            raise
        self._record("completed")
        return self.report

    def _record(self, status: str) -> None:
        self.report.requests = dict(self.client.made)
        ledger.record_pull(self.home, {"pull_id": self.pull_id, "project_id": self.project_id, "status": status,
                                       "started_at": self.started_at, "receipt": self.report.as_dict(),
                                       "finished_at": None if status == "pulling" else ledger.now()})

    # events

    def _fetch_events(self) -> None:
        waiting, total = list(reversed(self.plan.spans)), self.plan.days
        tries = 0
        while waiting:
            first, last = waiting.pop()
            self.progress(f"Events of {first} to {last}", self.report.days, total)
            try:
                self._fetch_span(first, last)
                tries = 0
            except HistoryLimit as limit:
                waiting = self._within_history(limit, [*waiting, (first, last)])
            except TooLate:
                waiting += self._without_last_day(first, last)
            except Interrupted:
                tries += first == last
                if tries >= self.client.settings.attempts:
                    raise
                waiting += _halves(first, last)

    def _fetch_span(self, first: date, last: date) -> None:
        """Fetch days in one request; they are kept only once the whole answer was there."""
        asked_at = self.client.server_now()
        request = mixpanel.build_export(self.project_id, first, last)
        with (self.client.stream(request) as pieces,
              day_files(self.folder / "events", self.pull_id, first, last) as days):
            for piece in pieces:
                days.write(piece)
            kept = days.keep()
        ledger.record_pulled_days(self.home, self.project_id, [
            {"day": day.isoformat(), "path": path.name if path else "", "events": events,
             "pulled_at": asked_at.isoformat(), "over": int(day < self.plan.today)}
            for day, (path, events) in kept.items()])
        self.report.days += len(kept)
        self.report.events += sum(events for _, events in kept.values())

    def _within_history(self, limit: HistoryLimit, waiting: list[Span]) -> list[Span]:
        oldest = self.plan.today - timedelta(limit.days)
        self.report.notes.append(f"The plan exports the last {limit.days:,} days only: events begin on {oldest}.")
        return [(max(first, oldest), last) for first, last in waiting if last >= oldest]

    def _without_last_day(self, first: date, last: date) -> list[Span]:
        self.report.notes.append(f"{last} has not begun in the project's own time; events end a day earlier.")
        return [(first, last - timedelta(1))] if first < last else []

    # profiles and cohorts

    def _fetch_profiles(self) -> Path | None:
        if not self.plan.profiles:
            return None
        self.progress("Profiles", 0, 1)
        path = private_folder(self.folder / "profiles") / f"{self.pull_id}.ndjson"
        self.report.profiles = mixpanel.fetch_profiles(self.client, path)
        return path

    def _fetch_cohorts(self) -> dict[str, Path]:
        files: dict[str, Path] = {}
        rows = []
        defined = _defined(self.home, self.project_id)
        for number, seen in enumerate(self.plan.cohorts):
            self.progress("Members of cohorts", number, len(self.plan.cohorts))
            cohort = self._name(seen, defined)
            path = private_folder(self.folder / "cohorts") / f"{seen.cohort_id}.{self.pull_id}.ndjson"
            members = mixpanel.fetch_profiles(self.client, path, seen.cohort_id, [])
            known = mixpanel.fetch_with_profile(self.client, seen.cohort_id)
            rows.append([cohort, seen.cohort_id, seen.size, members, known, members - known])
            files[cohort] = path
        self.report.cohorts = pd.DataFrame(rows, columns=COHORT_COLUMNS)
        return files

    def _name(self, seen: CohortSeen, defined: Collection[str]) -> str:
        try:
            name = checked_name(seen.name)
        except BadInput:
            name = f"cohort {seen.cohort_id}"
        cohort = ledger.name_cohort(self.home, self.project_id, seen.cohort_id,
                                    f"{name} ({seen.cohort_id})" if name in defined else name)
        if name not in cohort:
            self.report.notes.append(f"The cohort {cohort!r} is now called {name!r} in Mixpanel; here it keeps its "
                                     "name.")
        return cohort

    # loading

    def _load(self, profiles: Path | None, cohorts: dict[str, Path]) -> None:
        fresh = [row for row in ledger.pulled_days(self.home, self.project_id) if not row["loaded"]]
        days = {date.fromisoformat(row["day"]): self.folder / "events" / row["path"] if row["path"] else None
                for row in fresh}
        if days or profiles or cohorts:
            self.report.loaded = load(self.home, [], [profiles] if profiles else [], cohorts, self.progress,
                                      self.project_id, pulled=Pulled(days, all_profiles=profiles is not None))
        ledger.record_loaded(self.home, self.project_id, [row["day"] for row in fresh],
                             json.loads(self.report.cohorts.to_json(orient="records")))
        kept = {row["path"] for row in ledger.pulled_days(self.home, self.project_id)}
        self._sweep("*.gz", kept)
        self._sweep("*.ndjson", {path.name for path in [*cohorts.values(), *filter(None, [profiles])]})

    def _sweep(self, pattern: str, kept: Collection[str]) -> None:
        """Remove the raw files that a later pull has replaced, or a crash left."""
        for path in self.folder.rglob(pattern):
            if path.name not in kept:
                path.unlink()


def _halves(first: date, last: date) -> list[Span]:
    """A span in two, to be taken from the end; a day stays a day."""
    if first == last:
        return [(first, last)]
    middle = first + (last - first) // 2
    return [(middle + timedelta(1), last), (first, middle)]


def _defined(home: Path, project_id: str) -> set[str]:
    """The names of the cohorts that are defined in SQL here."""
    with warehouse.reading(home) as con:
        return {name for (name,) in con.execute("select cohort from cohort_definitions where project_id = ?",
                                                [project_id]).fetchall()}
