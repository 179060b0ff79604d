"""Files into the warehouse: staged, checked line by line, published as one generation."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from cohortsync import clock, cohorts, emails, events, identity, mtu, staging
from cohortsync.cohorts import checked_name
from cohortsync.errors import BadInput
from cohortsync.lines import CUT_SHORT, NOUN, as_read, good_lines, spell_to_stage, unreadable
from cohortsync.sources import Progress, Source, inspect, silent
from cohortsync.warehouse import Draft, drafting, one_file, required_project, sql


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


@dataclass
class LoadReport:
    """What a load did. ``files``: one dict per file (``file, kind, cohort, rows, quarantined, known``).

    ``replaced``: events of days pulled earlier that came anew; ``rekeyed``: events of pulled days that came under
    another id than they were sent with. ``notes``: what the user should know about it, a
    sentence or two each.
    """

    files: list[dict[str, Any]] = field(default_factory=list)
    events_added: int = 0
    duplicates: int = 0
    replaced: int = 0
    rekeyed: int = 0
    unkeyed_in_overlap: int = 0
    days: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def quarantined(self) -> int:
        return sum(file["quarantined"] for file in self.files)

    @property
    def unchanged(self) -> bool:
        return all(file["known"] for file in self.files)


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
    required_project(home, project_id)  # said before gigabytes are read
    days = [path for path in pulled.days.values() if path]
    found = _inspect_all([("events", path, "") for path in [*events, *days]] +
                         [("profiles", path, "") for path in profiles] +
                         [("mappings", path, "") for path in mappings] +
                         [("cohort", path, checked_name(name)) for name, path in (cohorts or {}).items()],
                         pulled.known, progress)
    if not found and not pulled.days:
        raise BadInput("There is nothing to load. Name files of events, profiles or members of a cohort.")
    with drafting(home, project_id) as draft:
        return _Load(draft, progress, pulled).run(found)


def rebuild(home: Path, project_id: str, **settings: str) -> None:
    """Give a project another time zone, ID merge or reading of times, and reckon everything derived anew by it."""
    with drafting(home, project_id, **settings) as draft:
        reckon(draft)


def reckon(draft: Draft, progress: Progress = silent) -> None:
    """Reckon everything that follows from the events of the draft's project anew."""
    _Load(draft, progress).rebuild()


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


class _Load:
    """One load at work: the draft it writes to and the report it fills."""

    def __init__(self, draft: Draft, progress: Progress, pulled: Pulled = BY_HAND) -> None:
        self.pulled, self.pulled_on = pulled, {path: day for day, path in pulled.days.items() if path}
        self.draft, self.con, self.progress = draft, draft.con, progress
        self.project_id: str = draft.project["project_id"]
        self.report = LoadReport()
        self.quarantined: Counter[Source] = Counter()
        self.loaded_at = datetime.now(UTC).replace(tzinfo=None)
        for macros in ("macros", "records"):
            self.con.execute(sql(macros))
        self.load_id = 1 + self.scalar("select coalesce(max(load_id), 0) from generation.loads")

    def scalar(self, query: str, values: list[Any] | None = None) -> Any:
        return self.con.execute(query, values or []).fetchall()[0][0]

    def run(self, found: list[Source]) -> LoadReport:
        new = self._unknown(found)
        emptied = [day for day, path in self.pulled.days.items() if path is None and self._pulled_before.get(day)]
        if not new and not emptied:
            self.draft.unchanged = True
            return self.report
        self.con.execute("insert into generation.loads values (?, ?)", [self.load_id, self.loaded_at])
        self.con.execute("create or replace temp table touched (distinct_id varchar)")
        self.con.execute("set variable project_id = ?", [self.project_id])
        self.con.execute("set variable load_id = ?", [self.load_id])
        of_kind = {kind: [(n, s) for n, s in enumerate(new) if s.kind == kind] for kind in NOUN}
        self._load_profiles(of_kind["profiles"])
        for number, source in of_kind["cohort"]:
            self._load_cohort(number, source)
        if self.pulled.members_profiles and of_kind["profiles"]:
            self._drop_profiles_of([source.cohort for source in found if source.kind == "cohort"])
        self._load_mappings(of_kind["mappings"])
        self._load_events(of_kind["events"], emptied)
        self._recompute_cohorts()
        return self.report

    @cached_property
    def _pulled_before(self) -> dict[date | None, str]:
        """The hash of each day's latest pull; empty for a day that was found without events."""
        return dict(self.con.execute("""select pulled_on, arg_max(sha256, (load_id, file_no)) from generation.files
            where project_id = ? and pulled_on is not null group by pulled_on""", [self.project_id]).fetchall())

    @cached_property
    def _events_there(self) -> set[str]:
        """The hashes of the files whose events are there: loaded by hand, or a day's latest pull."""
        by_hand = self.con.execute("select sha256 from generation.files where project_id = ? and kind = 'events' "
                                   "and pulled_on is null", [self.project_id]).fetchall()
        return {sha256 for (sha256,) in by_hand} | set(self._pulled_before.values())

    def _unknown(self, found: list[Source]) -> list[Source]:
        """The files whose content would change something."""
        new: list[Source] = []
        for source in found:
            same = [s for s in new if (s.kind, s.cohort, s.sha256) == (source.kind, source.cohort, source.sha256)]
            if same or self._is_known(source, found):
                self.report.files.append(_file_row(source, rows=0, quarantined=0, known=True))
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
            return source.sha256 in (self._events_there if pulled_last is None else [pulled_last])
        of_kind = "generation.files where project_id = $project_id and kind = $kind and cohort = $cohort"
        key = {"project_id": self.project_id, "kind": source.kind}
        last = self.con.execute(f"""select sha256 from {of_kind} and load_id = (select max(load_id) from {of_kind})
                                    order by file_no""", {**key, "cohort": source.cohort}).fetchall()
        given = dict.fromkeys(s.sha256 for s in found if (s.kind, s.cohort) == (source.kind, source.cohort))
        return list(given) == [sha256 for (sha256,) in last]

    def _record_file(self, number: int, source: Source, rows: int) -> None:
        quarantined = self.quarantined[source]
        if quarantined and not rows:
            raise BadInput(f"{source.path} holds no {NOUN[source.kind]}: none of its {source.lines:,} lines "
                           "is one. Nothing was loaded; check that the file is what it should be.")
        self.con.execute("insert into generation.files values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                         [self.load_id, number, self.project_id, source.kind, source.cohort, str(source.path),
                          source.sha256, rows, quarantined, self.pulled_on.get(source.path)])
        self.report.files.append(_file_row(source, rows, quarantined, known=False))
        if quarantined:
            self._note_cut_short(source)

    def _note_cut_short(self, source: Source) -> None:
        """Say so when a file holds the line by which Mixpanel owns up to having stopped in the middle."""
        cut = self.scalar("select min(line) from generation.quarantine where load_id = ? and file = ? "
                          "and starts_with(reason, ?)", [self.load_id, str(source.path), CUT_SHORT])
        if cut:
            self.report.notes.append(f"{source.path.name} is not whole: Mixpanel gave up in the middle of it (line "
                                     f"{cut:,} says {CUT_SHORT}). What it holds was loaded; fetch it again.")

    def _note_split(self, source: Source, spelt: Path) -> None:
        split = self.scalar(f"select count(*) from read_parquet({one_file(spelt)}) where parts > 1 and reason is null")
        if split:
            self.report.notes.append(f"{source.path.name} breaks {split:,} of its records over several lines; they "
                                     "were put together, and their place is their first line.")

    def _quarantine(self, source: Source, rows: str) -> None:
        """Note the rows of a query ``line, byte_offset, reason`` as lines that were not taken."""
        self.quarantined[source] += self.scalar(
            f"insert into generation.quarantine select {self.load_id}, ?, line, byte_offset, reason from ({rows})",
            [str(source.path)])

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
            events.count(self.con, self._reckoned(), new, gone)
            events.record_superseded(self.con, self.project_id)
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
        for number, source in sources.items():
            if spelt := staged.spelt.get(number):
                self._note_split(source, spelt)
                self._quarantine(source, staging.left_out(self.con, spelt))
            self._record_file(number, source, staged.taken.get(number, 0))
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
        self.progress("Counting users", 0, 1)
        before = self.con.execute("select timezone, event_times from generation.clocks where project_id = ?",
                                  [self.project_id]).fetchall()
        if before not in ([], [(project["timezone"], project["event_times"])]):
            events.recount(self.draft, project)
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
        self.con.execute("insert into generation.loads values (?, ?)", [self.load_id, self.loaded_at])
        events.recount(self.draft, self._reckoned())
        self._derive()
        self._recompute_cohorts()

    def _recompute_cohorts(self) -> None:
        for row in cohorts.recompute_draft(self.draft, self.load_id, self.loaded_at):
            if row["failure"]:
                self.report.notes.append(f"The cohort {row['cohort']!r} keeps its last members: {row['failure']}")

    # profiles and cohorts

    def _gather_objects(self, number: int, source: Source) -> None:
        """The table ``objects``: one file's rows, pages opened, added to those of files before it."""
        self.progress(f"Loading {source.path.name}", 0, 1)
        if source.shape in ("csv", "ids") or not self._read_fast(source):
            path = spell_to_stage(self.draft, number, source, self.progress)
            self._note_split(source, path)
            self._quarantine(source, f"select line, byte_offset, reason from read_parquet({one_file(path)}) "
                                     "where reason is not null")
            self._read(good_lines(path))
        self.con.execute("""insert into objects select unnest(case when json_type(json, '$.results') = 'ARRAY'
            then json_extract(json, '$.results[*]') else [json] end), ?, line from pages order by line""", [number])

    def _read(self, lines: str) -> None:
        self.con.execute(f"create or replace temp table pages as select json, line from {lines}")

    def _read_fast(self, source: Source) -> bool:
        """The table ``pages`` without a look at each line; False when any is not accounted for."""
        try:
            self._read(as_read(self.con, source))
        except duckdb.Error as error:
            raise unreadable(source, error) from None
        return source.shape != "lines" or source.lines == self.scalar("select count(json) from pages")

    def _gather(self, sources: list[tuple[int, Source]]) -> None:
        """The rows of files of profiles or mappings as the table ``objects``."""
        self._empty_objects()
        for number, source in sources:
            self._gather_objects(number, source)
            self._set_aside_strangers(number, source)

    def _empty_objects(self) -> None:
        self.con.execute("create or replace temp table objects (json json, file_no integer, line bigint)")

    def _load_profiles(self, sources: list[tuple[int, Source]]) -> None:
        if not sources:
            return
        self._gather(sources)
        self.con.execute(f"create temp table new_profiles as {sql('profiles_new')}")
        if self.pulled.new_profiles:
            self.con.execute("""delete from new_profiles where (project_id, distinct_id) in
                                (select (project_id, distinct_id) from generation.profiles)""")
        cohorts.record_profile_changes(self.con, self.load_id, self.loaded_at)
        self.con.execute("""delete from generation.profiles where (project_id, distinct_id) in
                            (select (project_id, distinct_id) from new_profiles)""")
        self.con.execute("insert into generation.profiles from new_profiles")
        if self.pulled.all_profiles:
            self.con.execute("""delete from generation.profiles where project_id = ? and distinct_id not in
                                (select distinct_id from new_profiles)""", [self.project_id])
        self._check_addresses()

    def _drop_profiles_of(self, cohorts: list[str]) -> None:
        """Drop the profiles of members for whom none came."""
        self.con.execute("""delete from generation.profiles where project_id = ? and distinct_id in
                (select distinct_id from generation.cohort_members where project_id = ? and list_contains(?, cohort))
            and distinct_id not in (select distinct_id from new_profiles)""",
                         [self.project_id, self.project_id, cohorts])

    def _set_aside_strangers(self, number: int, source: Source) -> None:
        """Quarantine what names nobody, and rows of another kind, which name somebody but say nothing about them."""
        where = f"file_no = {number} and stranger(json, '{source.kind}') is not null"
        self._quarantine(source, f"""select line, null as byte_offset, stranger(json, '{source.kind}') as reason
            from objects where {where}""")
        self.con.execute(f"delete from objects where {where}")
        self._record_file(number, source, self.scalar("select count(*) from objects where file_no = ?", [number]))

    def _load_mappings(self, sources: list[tuple[int, Source]]) -> None:
        if not sources:
            return
        self._gather(sources)
        self.con.execute("delete from generation.identity_mappings where project_id = ?", [self.project_id])
        self.con.execute(f"insert into generation.identity_mappings {sql('mappings_new')}")

    def _check_addresses(self) -> None:
        """Judge each address once in its life; the library judges, the warehouse remembers."""
        fresh = [address for (address,) in self.con.execute("""select distinct address from new_profiles
            where address is not null and address not in (select address from generation.addresses)""").fetchall()]
        if fresh:
            self.progress("Checking addresses", 0, 1)
            judged = pa.table({"address": fresh, "valid": [emails.is_valid(address) for address in fresh]})
            self.con.register("judged", judged)
            self.con.execute("insert into generation.addresses from judged")
            self.con.unregister("judged")

    def _check_pages(self, number: int, source: Source) -> None:
        """Refuse a cohort of which pages are missing: its first page announces how many members there are."""
        announced = self.scalar("select max(try_cast(json_extract_string(json, '$.total') as bigint)) from pages "
                                "where json_type(json, '$.results') = 'ARRAY'") or 0
        there = self.scalar("select count(*) from objects where file_no = ?", [number])
        if there < announced:
            raise BadInput(f"{source.path} holds {there:,} of the {announced:,} members that its first page announces. "
                           "Fetch the other pages too (page=1, 2, … with the session_id) and put all into one file.")

    def _load_cohort(self, number: int, source: Source) -> None:
        cohorts.refuse_defined(self.con, self.project_id, source.cohort)
        self._empty_objects()
        self._gather_objects(number, source)
        if source.shape == "ids":
            self.con.execute("delete from objects where json_extract_string(json, '$') in ('$distinct_id', "
                             "'distinct_id', 'Distinct ID')")
        self._check_pages(number, source)
        self._set_aside_strangers(number, source)
        self.con.execute(f"create or replace temp table members as {sql('members_new')}")
        cohorts.write_members(self.con, self.project_id, source.cohort, self.load_id, self.loaded_at)


def _file_row(source: Source, rows: int, quarantined: int, known: bool) -> dict[str, Any]:
    return {"file": str(source.path), "kind": source.kind, "cohort": source.cohort, "rows": rows,
            "quarantined": quarantined, "known": known}
