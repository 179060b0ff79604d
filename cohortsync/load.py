"""Files into the warehouse: staged, checked line by line, published as one generation."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import duckdb

from cohortsync import clock, cohorts, events, identity, ledger, mtu, profiles, staging
from cohortsync.cohorts import checked_name
from cohortsync.drafts import MEMORY_MB, PULL_MEMORY_MB, Draft, drafting
from cohortsync.errors import BadInput
from cohortsync.intake import Intake, LoadReport
from cohortsync.lines import NOUN
from cohortsync.sources import Progress, Source, glance, inspect, silent
from cohortsync.staging import LookFirst
from cohortsync.warehouse import attached, required_project, sql


@dataclass(frozen=True)
class Pulled:
    """What a pull knows of its files. ``days``: the file that is all of a day's events, None for a day without any.

    It takes the place of what an earlier pull brought of that day, never of files loaded by hand.
    ``all_profiles``: the files of profiles are all there are; others are gone. ``members_profiles``: they are all that
    the members of the cohorts loaded with them have. ``new_profiles``: a profile that is there stays as it is.
    ``known``: the files that need no look at them any more, since whoever wrote them tells what they are.
    """

    days: Mapping[date, Path | None] = field(default_factory=dict)
    all_profiles: bool = False
    members_profiles: bool = False
    new_profiles: bool = False
    known: Mapping[Path, Source] = field(default_factory=dict)


BY_HAND = Pulled()


def load(home: Path, events: Iterable[Path] = (), profiles: Iterable[Path] = (),
         cohorts: Mapping[str, Path] | None = None, progress: Progress = silent,
         project_id: str | None = None, mappings: Iterable[Path] = (), pulled: Pulled = BY_HAND) -> LoadReport:
    """Load files of events, profiles and cohort members as one whole: all of them or nothing.

    A file already loaded is skipped; a profile replaces the one with its id; a cohort replaces its members.
    ``mappings``: files of the warehouse's mp_identity_mappings_data, which replace all that were there;
    ``pulled``: more files of events, with what a pull knows of them. Lines that cannot be taken go to
    ``quarantine``. Raises BadInput for a file that is not what it should be, ConfigurationError when the workspace
    has no such project.
    """
    project = required_project(home, project_id)  # said before gigabytes are read
    named = [*(("events", path, "") for path in [*events, *(path for path in pulled.days.values() if path)]),
             *(("profiles", path, "") for path in profiles), *(("mappings", path, "") for path in mappings),
             *(("cohort", path, checked_name(name)) for name, path in (cohorts or {}).items())]
    if not named and not pulled.days:
        raise BadInput("There is nothing to load. Name files of events, profiles or members of a cohort.")
    if not pulled.days and (found := _at_first_sight(home, project["project_id"], named, progress)):
        with suppress(LookFirst), drafting(home, project_id) as draft:
            return _Load(draft, progress, pulled).run(found)
    found = _inspect_all(named, pulled.known, progress)
    if pulled.days:
        with suppress(duckdb.OutOfMemoryException), drafting(home, project_id, PULL_MEMORY_MB) as draft:
            return _Load(draft, progress, pulled).run(found)
    with drafting(home, project_id) as draft:
        return _Load(draft, progress, pulled).run(found)


def rebuild(home: Path, project_id: str, **settings: str) -> None:
    """Give a project another time zone, ID merge or reading of times, and reckon everything derived anew by it."""
    with drafting(home, project_id, MEMORY_MB, **settings) as draft:
        reckon(draft)


def reckon(draft: Draft, progress: Progress = silent) -> None:
    """Reckon everything that follows from the events of the draft's project anew."""
    _Load(draft, progress).rebuild()


def _at_first_sight(home: Path, project_id: str, named: list[tuple[str, Path, str]],
                    progress: Progress) -> list[Source]:
    """The files of a project's first events, those known by their beginning: they can repeat nothing that is there.

    So each is read once. Empty where that will not do.
    """
    paths = {path for kind, path, _ in named if kind == "events"}
    if not paths or _has_events(home, project_id):
        return []
    seen = {path: source for path in paths if (source := glance(path))}
    return _inspect_all(named, seen, progress) if len(seen) == len(paths) else []


def _has_events(home: Path, project_id: str) -> bool:
    if not ledger.generation(home):
        return False
    with attached(home) as con:
        return bool(con.execute("select 1 from files where project_id = ? and kind = 'events' limit 1",
                                [project_id]).fetchall())


def _inspect_all(named: list[tuple[str, Path, str]], known: Mapping[Path, Source], progress: Progress) -> list[Source]:
    """Read every file that is not known to its end, several at a time.

    The first that is not what it should be is the error.
    """
    read: Counter[int] = Counter()
    with ThreadPoolExecutor(os.cpu_count()) as readers:
        waiting = [readers.submit(known.__getitem__, one[1]) if one[1] in known else
                   readers.submit(inspect, *one, partial(read.__setitem__, n)) for n, one in enumerate(named)]
        size = sum(path.stat().st_size for _, path, _ in named if path not in known and os.path.isfile(path))
        while wait(waiting, timeout=0.2).not_done:
            progress("Reading files", sum(read.values()), size)
        return [source.result() for source in waiting]


class _Load(Intake):
    """One load from its files to everything that follows from them."""

    def __init__(self, draft: Draft, progress: Progress, pulled: Pulled = BY_HAND) -> None:
        super().__init__(draft, progress, {path: day for day, path in pulled.days.items() if path})
        self.pulled = pulled

    def run(self, found: list[Source]) -> LoadReport:
        if not all(source.digest for source in found) and self._events_there:
            raise LookFirst  # another load was faster
        new = self._unknown(found)
        emptied = [day for day, path in self.pulled.days.items() if path is None and self._pulled_before.get(day)]
        if not new and not emptied:
            self.draft.unchanged = True
            return self.report
        self.begin()
        of_kind = {kind: [(n, s) for n, s in enumerate(new) if s.kind == kind] for kind in NOUN}
        if of_kind["profiles"]:
            profiles.load_profiles(self, of_kind["profiles"], self.pulled.new_profiles, self.pulled.all_profiles)
        for number, source in of_kind["cohort"]:
            profiles.load_cohort(self, number, source)
        if self.pulled.members_profiles and of_kind["profiles"]:
            profiles.drop_profiles_of(self, [source.cohort for source in found if source.kind == "cohort"])
        if of_kind["mappings"]:
            profiles.load_mappings(self, of_kind["mappings"])
        self._load_events(of_kind["events"], emptied)
        self._recompute_cohorts()
        return self.report

    @cached_property
    def _pulled_before(self) -> dict[date | None, str]:
        """The hash of each day's latest pull; empty for a day that was found without events."""
        return dict(self.con.execute("""select pulled_on, arg_max(digest, (load_id, file_no)) from generation.files
            where project_id = ? and pulled_on is not null group by pulled_on""", [self.project_id]).fetchall())

    @cached_property
    def _events_there(self) -> set[str]:
        """The hashes of the files whose events are there: loaded by hand, or a day's latest pull."""
        by_hand = self.con.execute("select digest from generation.files where project_id = ? and kind = 'events' "
                                   "and pulled_on is null", [self.project_id]).fetchall()
        return {digest for (digest,) in by_hand} | set(self._pulled_before.values())

    def _unknown(self, found: list[Source]) -> list[Source]:
        """The files whose content would change something."""
        new: list[Source] = []
        for source in found:
            same = [s for s in new if (s.kind, s.cohort, s.digest) == (source.kind, source.cohort, source.digest)
                    and (s.digest or s.path == source.path)]
            if same or self._is_known(source, found):
                self.report.add_file(source, known=True)
            else:
                new.append(source)
        return new

    def _is_known(self, source: Source, found: list[Source]) -> bool:
        """Events that were ever loaded, or are a day's latest pull; of the rest what is, file for file, the latest."""
        if source.kind == "profiles" and self.pulled.members_profiles and not all(
                self._is_known(other, found) for other in found if other.kind == "cohort"):
            return False  # they say who of the new members has none
        if source.kind == "events":
            pulled_last = self._pulled_before.get(self.pulled_on.get(source.path))
            return source.is_among(self._events_there if pulled_last is None else [pulled_last])
        of_kind = "generation.files where project_id = $project_id and kind = $kind and cohort = $cohort"
        key = {"project_id": self.project_id, "kind": source.kind}
        last = self.con.execute(f"""select digest from {of_kind} and load_id = (select max(load_id) from {of_kind})
                                    order by file_no""", {**key, "cohort": source.cohort}).fetchall()
        given = {s.digest: s for s in found if (s.kind, s.cohort) == (source.kind, source.cohort)}
        return len(given) == len(last) and all(s.is_among(kept) for s, kept in zip(given.values(), last, strict=True))

    # events

    def _load_events(self, sources: list[tuple[int, Source]], emptied: list[date]) -> None:
        if sources or emptied:
            self._replace([*emptied, *(self.pulled_on[s.path] for _, s in sources if s.path in self.pulled_on)])
            self._record_empty(emptied)
            paths = self._stage(dict(sources))
            self.progress("Linking identities", 0, 1)
            identity.refresh_evidence(self.con)
            self.progress("Finding duplicates", 0, 1)
            new, gone = events.supersede(self.draft, self.project_id)
            self._report_events()
            events.add_files(self.con, self.project_id, paths)
            events.note_lags(self.con, self.project_id)
            self.progress("Counting events", 0, 1)
            events.count(self.draft, self._reckoned(), new, gone, self.progress)
            events.compact(self.draft, self.project_id, self.progress)
        self._derive()

    def _replace(self, days: list[date]) -> None:
        """The table ``replaced``: the files of earlier pulls of these days."""
        self.con.execute("""create temp table replaced as select load_id, file_no, pulled_on as day
            from generation.files where project_id = ? and list_contains(?::date[], pulled_on)""",
                         [self.project_id, days])

    def _record_empty(self, days: list[date]) -> None:
        """Keep that the latest pull of these days found no events."""
        self.con.execute("""insert into generation.files
            select ?, -1 - generate_subscripts(days, 1), ?, 'events', '', '', '', 0, 0, unnest(days)
            from (select ?::date[] as days)""", [self.load_id, self.project_id, days])

    def _stage(self, sources: dict[int, Source]) -> list[Path]:
        """Write the files' events by day, as the view ``staged``; what is no event goes to quarantine."""
        pulled = all(source.path in self.pulled_on for source in sources.values())
        staged = staging.stage(self.draft, sources, self.progress, apart=pulled)
        self.con.begin()  # a pull brings a file a day: they wait for the disk once, not each
        for number, source in staged.sources.items():
            if spelt := staged.spelt.get(number):
                self.note_split(source, spelt)
                self.quarantine(source, staging.left_out(self.con, spelt))
            self.record_file(number, source, staged.taken.get(number, 0))
        self.con.commit()
        return staged.paths

    def _report_events(self) -> None:
        ended = "losers anti join generation.superseded using (load_id, file_no, line)"
        self.report.replaced = self.scalar(f"select count(*) from {ended} semi join replaced using (load_id, file_no)")
        self.report.duplicates = self.scalar(f"select count(*) from {ended}") - self.report.replaced
        revived = self.scalar("""select count(*) from generation.superseded semi join replaced using (day)
            anti join losers using (load_id, file_no, line) where project_id = ?""", [self.project_id])
        self.report.events_added = (self.scalar("select count(*) from staged") + revived - self.report.duplicates
                                    - self.report.replaced)
        self.report.days = self.scalar("select count(distinct day) from staged")
        if self.pulled.days:
            self.report.rekeyed = self.scalar("select count(*) from staged where before_id <> distinct_id")
        if self.scalar("select count(*) from staged where insert_id is null"):
            self.report.unkeyed_in_overlap = self.scalar("""select count(*) from staged
                where insert_id is null and day in (
                    select day from (select distinct day, load_id, file_no from candidates)
                    group by day having count(*) > 1)""")

    def _reckoned(self) -> dict[str, Any]:
        """The project, with what its events' times were found to be where that was left to be found."""
        project = self.draft.project
        if project["event_times"] != "auto":
            return project
        return project | {"event_times": clock.guess(self._lags(), project["timezone"])}

    def _lags(self) -> dict[tuple[date, int], int]:
        return {(day, lag_s): found for day, lag_s, found in self.con.execute(
            "select day, lag_s, sum(events)::bigint from generation.lags where project_id = ? group by day, lag_s",
            [self.project_id]).fetchall()}

    def _derive(self) -> None:
        """Everything that follows from activity, evidence and profiles, in the order it follows."""
        project, key = self._reckoned(), {"project_id": self.project_id}
        before = self.con.execute("select timezone, event_times from generation.clocks where project_id = ?",
                                  [self.project_id]).fetchall()
        if before not in ([], [(project["timezone"], project["event_times"])]):
            events.recount(self.draft, project, self.progress)
        self.progress("Counting users", 0, 1)
        self.con.execute("delete from generation.clocks where project_id = ?", [self.project_id])
        self.con.execute("insert into generation.clocks values (?, ?, ?)",
                         [self.project_id, project["timezone"], project["event_times"]])
        known = bool(self.con.execute("select 1 from generation.user_months where project_id = $project_id limit 1",
                                      key).fetchall())
        self.con.execute("create or replace temp table identities_before as "
                         "from generation.identities where project_id = $project_id", key)
        identity.derive_identities(self.con, project)
        if known:
            self.con.execute(f"create or replace temp table concerned as {sql('concerned')}", key)
        mtu.derive(self.con, project, self.load_id, self.loaded_at, concerned=known)
        self._note_clock(project)

    def _note_clock(self, project: dict[str, Any]) -> None:
        if project["event_times"] == "local" and self.draft.project["event_times"] == "auto":
            self.report.notes.append(
                f"The times of these events are read as clocks of {project['timezone']}, not as UTC: they were "
                "processed as much later as its clocks are behind, as in projects made before 2023. If that is "
                "wrong, say so: cohortsync init … --event-times utc")
        lag_s = clock.strange_lag(self._lags(), project["timezone"])
        if lag_s is not None and self.draft.project["event_times"] != "utc":
            self.report.notes.append(
                f"Most events were processed {abs(lag_s) / 3600:g} hours {'after' if lag_s > 0 else 'before'} their "
                f"time, and clocks of {project['timezone']} are not that far from UTC. The project's time zone may be "
                "another one; see Mixpanel's Project Settings, then: cohortsync init --timezone …")

    def rebuild(self) -> None:
        """Reckon everything derived anew, by settings that changed."""
        self.begin()
        events.recount(self.draft, self._reckoned(), self.progress)
        self.con.execute("delete from generation.clocks where project_id = ?", [self.project_id])  # or it counts again
        self._derive()
        self._recompute_cohorts()

    def _recompute_cohorts(self) -> None:
        for row in cohorts.recompute_draft(self.draft, self.load_id, self.loaded_at):
            if row["failure"]:
                self.report.notes.append(f"The cohort {row['cohort']!r} keeps its last members: {row['failure']}")
