"""Cohorts, profiles and events from Mixpanel: planned, fetched into raw files, loaded as one whole.

What was fetched is kept when a pull ends early, and nothing of it is in force before all of it is there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from cohortsync import access, agenda, ledger, mixpanel
from cohortsync.agenda import PullPlan, Span, Wanted, halves
from cohortsync.client import Client, fetch_count
from cohortsync.cohorts import known_as
from cohortsync.config import Settings, private_folder
from cohortsync.disk import AT_ONCE, locking
from cohortsync.errors import ApiTransient
from cohortsync.intake import LoadReport
from cohortsync.load import Pulled, load
from cohortsync.mixpanel import CohortSeen, HistoryLimit, Interrupted, TooLate
from cohortsync.people import fetch_profiles
from cohortsync.raw import day_files
from cohortsync.sources import Progress, Source, silent
from cohortsync.warehouse import required_project

COHORT_COLUMNS = ["cohort", "cohort_id", "announced", "members", "with_profile", "without_profile"]
PULL_COLUMNS = ["pull_id", "status", "days", "events", "events_added", "profiles", "query", "page", "export",
                "started_at", "finished_at"]
EVERYTHING = Wanted()
EVENTS_LOCK, PEOPLE_LOCK = ".events.lock", ".people.lock"


@dataclass
class PullReport:
    """What a pull brought.

    ``cohorts``: one row per cohort, as ``COHORT_COLUMNS``: the size that Mixpanel announced, the members there were,
    and how many of them have a profile; ``requests`` by kind; ``notes``: what one should know.
    """

    pull_id: str = field(default_factory=ledger.new_run_id)
    days: int = 0
    events: int = 0
    profiles: int = 0
    requests: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    loaded: LoadReport = field(default_factory=LoadReport)
    cohorts: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=COHORT_COLUMNS))

    def as_dict(self) -> dict[str, Any]:
        """What a script would read, and the ledger keeps."""
        loaded = {name: getattr(self.loaded, name) for name in ("events_added", "duplicates", "replaced", "rekeyed",
                                                                "quarantined")}
        return {"pull_id": self.pull_id, "days": self.days, "events": self.events, "profiles": self.profiles, **loaded,
                "requests": self.requests, "cohorts": self.cohort_rows, "notes": self.notes}

    @property
    def cohort_rows(self) -> list[dict[str, Any]]:
        return json.loads(self.cohorts.to_json(orient="records"))


def ended(home: Path, project_id: str) -> pd.DataFrame:
    """One row per pull of a project that ended, the latest first, as ``PULL_COLUMNS``."""
    rows = [{**row["receipt"], **row["receipt"]["requests"], **row} for row in ledger.pulls(home, project_id)]
    return pd.DataFrame(rows, columns=PULL_COLUMNS)


def plan_pull(home: Path, project_id: str | None = None, wanted: Wanted = EVERYTHING) -> PullPlan:
    """What a pull would ask for; asks for the list of cohorts and the number of profiles."""
    project = required_project(home, project_id)
    return agenda.fetch_plan(home, project, access.client(home, project["project_id"]), wanted)


def pull(home: Path, project_id: str | None = None, wanted: Wanted = EVERYTHING, progress: Progress = silent,
         review: Callable[[PullPlan], None] = lambda _plan: None, settings: Settings | None = None) -> PullReport:
    """Plan, have the plan reviewed, fetch, load. ``review`` is shown the plan first, and raises to stop.

    Raises ApiTransient when Mixpanel does not answer for long, or another pull of the project's events is at work:
    the next pull goes on from there.
    """
    project = required_project(home, project_id)
    access.required_connection(home, project["project_id"])
    folder = private_folder(agenda.raw_folder(home, project["project_id"]))
    with _only_one_of_events(folder) if wanted.events else nullcontext():
        connection = access.check(home, project["project_id"])
        client = access.client(home, project["project_id"], settings)
        plan = agenda.fetch_plan(home, project, client, wanted)
        review(plan)
        work = _Pull(home, project["project_id"], client, plan, folder, progress)
        if connection["status"] != access.CONNECTED:
            work.report.notes.append(f"{connection['status']}: {connection['reason']}")
        return work.run()


@contextmanager
def at_rest(home: Path, project_id: str, progress: Progress = silent) -> Iterator[None]:
    """Nothing is pulled of the project inside; waits for the pull at work, and removes what a killed one left."""
    folder = private_folder(agenda.raw_folder(home, project_id))
    progress("Waiting for a pull", 0, 1)
    with locking(folder / EVENTS_LOCK), locking(folder / PEOPLE_LOCK):
        for draft in folder.rglob("*.draft"):
            draft.unlink()
        yield


@contextmanager
def _only_one_of_events(folder: Path) -> Iterator[None]:
    """The kernel ends the hold with the process."""
    with locking(folder / EVENTS_LOCK, AT_ONCE) as free:
        if not free:
            raise ApiTransient("Another pull of this project's events is at work. Wait until it has finished, or "
                               "pull without events: --no-events")
        yield


@contextmanager
def _one_after_another(folder: Path, progress: Progress) -> Iterator[None]:
    """Pulls of people wait for each other; they are short."""
    progress("Waiting for another pull", 0, 1)
    with locking(folder / PEOPLE_LOCK):
        yield


@dataclass
class _Pull:
    """One pull at work."""

    home: Path
    project_id: str
    client: Client
    plan: PullPlan
    folder: Path
    progress: Progress
    report: PullReport = field(default_factory=PullReport)
    started_at: str = field(default_factory=ledger.now)
    profiles: list[Path] = field(default_factory=list)
    cohorts: dict[str, Path] = field(default_factory=dict)
    known: dict[Path, Source] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.client.notice = lambda text: self.progress(text, 0, 1)

    def run(self) -> PullReport:
        try:
            if self.plan.period:
                self._sweep("events", "*.draft", ())
                self._fetch_events()
            with _one_after_another(self.folder, self.progress):
                self._fetch_everyone()
                self._fetch_cohorts()
                self._load()
        except BaseException:
            self._record("failed")
            raise
        self._record("completed")
        return self.report

    def _record(self, status: str) -> None:
        self.report.requests = dict(self.client.made)
        ledger.record_pull(self.home, {"pull_id": self.report.pull_id, "project_id": self.project_id, "status": status,
                                       "started_at": self.started_at, "finished_at": ledger.now(),
                                       "receipt": self.report.as_dict()})

    # events

    def _fetch_events(self) -> None:
        waiting, tries, broken = self.plan.spans[::-1], 0, 0
        while waiting:
            first, last = waiting.pop()
            self.progress(f"Events of {first} to {last}", self.report.days, self.plan.days)
            try:
                self._fetch_span(first, last)
                tries = 0
            except HistoryLimit as limit:
                waiting = self._within_history(limit, [*waiting, (first, last)])
            except TooLate:
                waiting += self._without_last_day(first, last)
            except Interrupted as error:
                tries, broken = (tries + 1 if first == last else 0), broken + 1
                if tries >= self.client.settings.attempts:
                    raise Interrupted(f"The events of {first} did not come whole in {tries} tries; what came of other "
                                      f"days is kept. {error}") from None
                self._pause(tries)
                waiting += halves(first, last) if first < last else [(first, last)]
        if broken:
            exports = "an export; its" if broken == 1 else f"{broken:,} exports; their"
            self.report.notes.append(f"Mixpanel broke off in the middle of {exports} days were asked for again.")

    def _pause(self, tries: int) -> None:
        settings = self.client.settings
        self.client.pause(min(settings.backoff_seconds * 2 ** tries, settings.backoff_max_seconds))

    def _fetch_span(self, first: date, last: date) -> None:
        """Fetch days in one request; they are kept only once the whole answer was there."""
        asked_at = self.client.server_now()
        request = mixpanel.build_export(self.project_id, first, last)
        with (self.client.stream(request) as pieces,
              day_files(self.folder / "events", self.report.pull_id, first, last) as days):
            for piece in pieces:
                days.write(piece)
            kept = days.keep()
        ledger.record_pulled_days(self.home, self.project_id, [
            {"day": on.isoformat(), "path": day.path.name if day.path else "", "events": day.events,
             "pulled_at": asked_at.isoformat()} for on, day in kept.items()])
        self.known |= {day.path: day.source for day in kept.values() if day.path and day.source}
        self.report.days += len(kept)
        self.report.events += sum(day.events for day in kept.values())

    def _within_history(self, limit: HistoryLimit, waiting: list[Span]) -> list[Span]:
        """What is left to ask for; a day less at the least, whatever clock the limit is counted by."""
        oldest = max(self.plan.today - timedelta(limit.days), waiting[-1][0] + timedelta(1))
        self.report.notes.append(f"The plan exports the last {limit.days:,} days only: events begin on {oldest}.")
        return [(max(first, oldest), last) for first, last in waiting if last >= oldest]

    def _without_last_day(self, first: date, last: date) -> list[Span]:
        self.report.notes.append(f"{last} has not begun in the project's own time; events end a day earlier.")
        return [(first, last - timedelta(1))] if first < last else []

    # profiles and cohorts

    def _fetch_everyone(self) -> None:
        if self.plan.people is not None:
            self.report.profiles = self._fetch_people("Profiles", self._new_profiles("everyone"))

    def _fetch_cohorts(self) -> None:
        rows = []
        for seen in self.plan.cohorts:
            cohort = self._name(seen)
            self.cohorts[cohort] = self._new_file("cohorts", seen.cohort_id)
            members = self._fetch_people(f"Members of {cohort}", self.cohorts[cohort], seen.cohort_id, properties=[])
            known = self._fetch_with_profile(cohort, seen.cohort_id)
            rows.append([cohort, seen.cohort_id, seen.size, members, known, members - known])
        self.report.cohorts = pd.DataFrame(rows, columns=COHORT_COLUMNS)

    def _fetch_with_profile(self, cohort: str, cohort_id: str) -> int:
        """How many members have a profile; where not everyone's is asked for, those profiles too."""
        if self.plan.people is not None or not self.plan.profiles:
            return fetch_count(self.client, cohort_id)
        known = self._fetch_people(f"Profiles of {cohort}", self._new_profiles(cohort_id), cohort_id, everyone=False)
        self.report.profiles += known
        return known

    def _fetch_people(self, label: str, path: Path, cohort_id: str = "", **wanted: Any) -> int:
        return fetch_profiles(self.client, path, cohort_id, **wanted,
                                       watch=lambda came, announced: self.progress(label, came, announced))

    def _new_profiles(self, whose: str) -> Path:
        self.profiles.append(self._new_file("profiles", whose))
        return self.profiles[-1]

    def _new_file(self, kind: str, name: str) -> Path:
        return private_folder(self.folder / kind) / f"{name}.{self.report.pull_id}.ndjson"

    def _name(self, seen: CohortSeen) -> str:
        cohort = known_as(self.home, self.project_id, seen.cohort_id, seen.name)
        if cohort not in (seen.name, f"{seen.name} ({seen.cohort_id})", f"cohort {seen.cohort_id}"):
            self.report.notes.append(f"The cohort {cohort!r} is now called {seen.name!r} in Mixpanel; here it keeps "
                                     "its name.")
        return cohort

    # loading

    def _load(self) -> None:
        days = self._fresh_days()
        if days or self.profiles or self.cohorts:
            everyone = self.plan.people is not None
            pulled = Pulled(days, all_profiles=everyone, members_profiles=self.plan.profiles and not everyone,
                            known=self.known)
            self.report.loaded = load(self.home, [], self.profiles, self.cohorts, self.progress, self.project_id,
                                      pulled=pulled)
        ledger.record_loaded(self.home, self.project_id, [day.isoformat() for day in days], self.report.cohort_rows)
        if self.plan.period:
            self._sweep("events", "*.gz", {row["path"] for row in ledger.pulled_days(self.home, self.project_id)})
        for kind, files in (("profiles", self.profiles), ("cohorts", self.cohorts.values())):
            for path in files:
                self._sweep(kind, f"{path.name.partition('.')[0]}.*", [path.name])

    def _fresh_days(self) -> dict[date, Path | None]:
        """The files of the days wanted that are not loaded yet, whichever pull fetched them."""
        first, last = self.plan.period or (date.max, date.min)
        fresh = {date.fromisoformat(row["day"]): row["path"] for row in ledger.pulled_days(self.home, self.project_id)
                 if not row["loaded"]}
        return {day: self.folder / "events" / path if path else None for day, path in fresh.items()
                if first <= day <= last}

    def _sweep(self, kind: str, pattern: str, kept: Collection[str]) -> None:
        """Remove the raw files that a later pull has replaced, or a crash left."""
        for path in (self.folder / kind).glob(pattern):
            if path.name not in kept:
                path.unlink()
