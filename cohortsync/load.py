"""Files into the warehouse: staged, checked line by line, deduplicated by day, published as one generation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from cohortsync import emails, identity, mtu
from cohortsync.errors import BadInput
from cohortsync.sources import Progress, Source, inspect, silent, split
from cohortsync.warehouse import Draft, drafting, event_source, one_file, quoted, required_project, sql

STAGED = """select * replace (coalesce(line, file_row_number + 1) as line),
    cast(make_timestamp(time_s * 1000000) as date) as day
    from read_parquet($files, file_row_number = true) where event is not null and time_s is not null"""
EVENT_COLUMNS = ("project_id, event, time_s, distinct_id, before_id, insert_id, user_id, device_id, ingest_ms, "
                 "processed_ms, source, properties, load_id, file_no, line, day")
MAX_OBJECT = 256 * 1024 * 1024
BY_LINE = ("lines", "csv", "ids")
ONE_COLUMN = ("header = false, delim = '\\x01', quote = '', escape = '', auto_detect = false, "
              "columns = {text: 'VARCHAR'}")
BARE_ID = """to_json(regexp_replace(text, '^[\\s\\p{Z}"]+|[\\s\\p{Z}"]+$', '', 'g'))"""
BAD_LINE = """case when text = 'terminated early' then 'terminated early: the export is not whole'
    when not json_valid(text) then 'not valid JSON'
    when json_type(text) <> 'OBJECT' then 'not a JSON object' end"""


@dataclass
class LoadReport:
    """What a load did. ``files``: one dict per file (``file, kind, cohort, rows, quarantined, known``)."""

    files: list[dict[str, Any]] = field(default_factory=list)
    events_added: int = 0
    duplicates: int = 0
    unkeyed_in_overlap: int = 0
    days: int = 0

    @property
    def quarantined(self) -> int:
        return sum(file["quarantined"] for file in self.files)

    @property
    def unchanged(self) -> bool:
        return all(file["known"] for file in self.files)


def load(home: Path, events: Iterable[Path] = (), profiles: Iterable[Path] = (),
         cohorts: Mapping[str, Path] | None = None, progress: Progress = silent) -> LoadReport:
    """Load files of events, profiles and cohort members as one whole: all of them or nothing.

    A file already loaded is skipped; a profile replaces the one with its id; a cohort replaces its members.
    Lines that cannot be taken go to ``quarantine``. Raises BadInput for a file that is not what it should be,
    ConfigurationError when the workspace has no project yet.
    """
    required_project(home)  # said before gigabytes are read
    found = [inspect("events", path, progress=progress) for path in events]
    found += [inspect("profiles", path, progress=progress) for path in profiles]
    found += [inspect("cohort", path, _cohort_name(name), progress) for name, path in (cohorts or {}).items()]
    if not found:
        raise BadInput("There is nothing to load. Name files of events, profiles or members of a cohort.")
    with drafting(home) as draft:
        return _Load(draft, progress).run(found)


def rebuild(home: Path, timezone: str, id_merge: str) -> None:
    """Give the project another time zone or ID merge, and reckon everything derived anew by it."""
    with drafting(home, timezone=timezone, id_merge=id_merge) as draft:
        draft.con.execute(sql("macros"))
        draft.con.execute("delete from generation.activity")
        every = [home / path for (path,) in draft.con.execute("select path from generation.event_files").fetchall()]
        _derive(draft.con, draft.project, old=event_source([]), new=event_source(every))


def _cohort_name(name: str) -> str:
    if not name.strip() or len(name) > 255 or not name.isprintable():
        raise BadInput(f"{name!r} cannot name a cohort: use 1 to 255 printable characters.")
    return name


def _derive(con: duckdb.DuckDBPyConnection, project: dict[str, Any], old: str, new: str) -> None:
    """Everything that follows from events, evidence and profiles, in the order it follows."""
    _write_months(con, project["timezone"])
    _write_classes(con)
    mtu.derive_activity(con, project["id_merge"], old, new)
    identity.derive_identities(con, project["project_id"], project["id_merge"])
    mtu.derive_user_months(con)


def _write_months(con: duckdb.DuckDBPyConnection, timezone: str) -> None:
    first, last = con.execute("select min(first_s), max(last_s) from generation.event_files").fetchall()[0]
    con.execute("delete from generation.months")
    if first is not None:
        con.executemany("insert into generation.months values (?, ?, ?, ?)",
                        mtu.month_bounds(first, last, timezone))


def _write_classes(con: duckdb.DuckDBPyConnection) -> None:
    if not con.execute("select 1 from generation.event_classes limit 1").fetchall():
        con.execute(f"insert into generation.event_classes {sql('event_classes')}")


class _Load:
    """One load at work: the draft it writes to and the report it fills."""

    def __init__(self, draft: Draft, progress: Progress) -> None:
        self.draft, self.con, self.project, self.progress = draft, draft.con, draft.project, progress
        self.report = LoadReport()
        self.quarantined: Counter[Source] = Counter()
        self.loaded_at = datetime.now(UTC).replace(tzinfo=None)
        self.load_id = 1 + self.scalar("select coalesce(max(load_id), 0) from generation.loads")

    def scalar(self, query: str, values: list[Any] | None = None) -> Any:
        return self.con.execute(query, values or []).fetchall()[0][0]

    def run(self, found: list[Source]) -> LoadReport:
        self.con.execute(sql("macros"))
        new = self._unknown(found)
        if not new:
            self.draft.unchanged = True
            return self.report
        self.con.execute("insert into generation.loads values (?, ?)", [self.load_id, self.loaded_at])
        self.con.execute("set variable project_id = ?", [self.project["project_id"]])
        self.con.execute("set variable load_id = ?", [self.load_id])
        of_kind = {kind: [(n, s) for n, s in enumerate(new) if s.kind == kind]
                   for kind in ("events", "profiles", "cohort")}
        self._load_profiles(of_kind["profiles"])
        for number, source in of_kind["cohort"]:
            self._load_cohort(number, source)
        self._load_events(of_kind["events"])
        return self.report

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
        """Events that were ever loaded; profiles and cohorts that are, file for file, what was loaded last."""
        if source.kind == "events":
            return bool(self.scalar("select count(*) from generation.files where kind = 'events' and sha256 = ?",
                                    [source.sha256]))
        last = self.con.execute("""select sha256 from generation.files where kind = $kind and cohort = $cohort and
            load_id = (select max(load_id) from generation.files where kind = $kind and cohort = $cohort)
            order by file_no""", {"kind": source.kind, "cohort": source.cohort}).fetchall()
        given = dict.fromkeys(s.sha256 for s in found if (s.kind, s.cohort) == (source.kind, source.cohort))
        return list(given) == [sha256 for (sha256,) in last]

    def _record_file(self, number: int, source: Source, rows: int) -> None:
        quarantined = self.quarantined[source]
        if quarantined and not rows:
            raise BadInput(f"{source.path} holds no {_NOUN[source.kind]}: none of its {source.lines:,} lines "
                           "is one. Nothing was loaded; check that the file is what it should be.")
        self.con.execute("insert into generation.files values (?, ?, ?, ?, ?, ?, ?, ?)",
                         [self.load_id, number, source.kind, source.cohort, str(source.path), source.sha256,
                          rows, quarantined])
        self.report.files.append(_file_row(source, rows, quarantined, known=False))

    def _quarantine(self, source: Source, rows: str) -> None:
        """Note the rows of a query ``line, byte_offset, reason`` as lines that were not taken."""
        self.quarantined[source] += self.scalar(
            f"insert into generation.quarantine select {self.load_id}, ?, line, byte_offset, reason from ({rows})",
            [str(source.path)])

    # reading: every shape becomes a view of JSON values with their line

    def _view_fast(self, source: Source) -> None:
        """``lines`` straight from DuckDB's own reader of the file's shape."""
        file = f"{one_file(source.path)}, compression = '{source.compression}'"
        large = f"maximum_object_size = {MAX_OBJECT}"
        value, reader = {
            "lines": ("json", f"read_ndjson_objects({file}, {large})"),
            "array": ("json", f"read_json_objects({file}, {large}, format = 'array')"),
            "document": ("json", f"read_json_objects({file}, {large}, format = 'unstructured')"),
            "ids": (BARE_ID, f"read_csv({file}, {ONE_COLUMN}) where trim(text) <> ''"),
        }[source.shape]
        self.con.execute(f"create or replace temp view lines as select {value} as json, null::bigint as line, "
                         f"null::bigint as byte_offset from {reader}")

    def _view_split(self, source: Source) -> None:
        """``lines`` from the slow splitter, the unreadable ones in quarantine; for the shapes of ``BY_LINE``."""
        path = self.draft.stage / "split.parquet"
        self.con.register("raw_lines", split(source))
        value, bad = (BARE_ID, "null") if source.shape == "ids" else ("text", BAD_LINE)
        self.con.execute(f"""copy (select line, byte_offset, {value} as json, coalesce(reason, {bad}) as reason
            from raw_lines) to {quoted(path)} (compression zstd, compression_level 1)""")
        self.con.unregister("raw_lines")
        self._quarantine(source, f"from read_parquet({one_file(path)}) where reason is not null")
        self.con.execute("create or replace temp view lines as select json::json as json, line, byte_offset "
                         f"from read_parquet({one_file(path)}) where reason is null")

    # events

    def _load_events(self, sources: list[tuple[int, Source]]) -> None:
        staged = [self._stage(number, source) for number, source in sources]
        old = new = event_source([])
        if staged:
            files = "[" + ", ".join(map(one_file, staged)) + "]"
            self.con.execute(f"create temp view staged as {STAGED.replace('$files', files)}")
            self.progress("Linking identities", 0, 1)
            identity.refresh_evidence(self.con)
            self.progress("Writing events by day", 0, 1)
            old, new = self._merge_days()
        self.progress("Counting", 0, 1)
        _derive(self.con, self.project, old, new)

    def _stage(self, number: int, source: Source) -> Path:
        """One file's events as a Parquet file in their order; what is no event goes to quarantine."""
        self.progress(f"Loading {source.path.name}", 0, 1)
        path = self.draft.stage / f"events-{number:06d}.parquet"
        self.con.execute("set variable file_no = ?", [number])
        if not self._stage_fast(source, path):
            if source.shape in BY_LINE:
                self._view_split(source)
                self._copy_stage(path)
            self._quarantine(source, f"""select coalesce(line, file_row_number + 1) as line, byte_offset,
                case when event is null then 'no event name' else 'no readable time' end as reason
                from read_parquet({one_file(path)}, file_row_number = true) where event is null or time_s is null""")
        self._record_file(number, source, self._staged_rows(path, "where event is not null and time_s is not null"))
        return path

    def _stage_fast(self, source: Source, path: Path) -> bool:
        """Stage by DuckDB's own reader; False when any line is not an event or not accounted for."""
        if source.needs_splitting:
            return False
        try:
            self._view_fast(source)
            self._copy_stage(path)
        except duckdb.Error as error:
            if source.shape not in BY_LINE:
                raise BadInput(f"{source.path} is not a file of events ({_first_line(error)}).") from None
            return False
        bad = self._staged_rows(path, "where event is null or time_s is null")
        return not bad and (source.shape != "lines" or self._staged_rows(path) == source.lines)

    def _copy_stage(self, path: Path) -> None:
        self.con.execute(f"copy ({sql('stage_events')}) to {quoted(path)} (compression zstd, compression_level 1)")

    def _staged_rows(self, path: Path, where: str = "") -> int:
        return int(self.scalar(f"select count(*) from read_parquet({one_file(path)}) {where}"))

    def _merge_days(self) -> tuple[str, str]:
        """Write the days that the staged rows touch anew; answers the rows before and after, as tables."""
        touched = "day in (select distinct day from staged)"
        old_paths = [self.draft.home / path for (path,) in self.con.execute(
            f"select path from generation.event_files where {touched}").fetchall()]
        old = event_source(old_paths)
        self.con.execute(f"create temp view candidates as select {EVENT_COLUMNS} from staged "
                         f"union all by name select {EVENT_COLUMNS} from {old}")
        self.con.execute(f"create temp table losers as {sql('losers')}")
        before = self.scalar("select coalesce(sum(rows), 0) from generation.event_files")
        self.con.execute(f"delete from generation.event_files where {touched}")
        new = event_source(self._write_days())
        self.report.duplicates = self.scalar("select count(*) from losers")
        self.report.events_added = self.scalar("select coalesce(sum(rows), 0) from generation.event_files") - before
        self.report.days = self.scalar("select count(distinct day) from staged")
        self.report.unkeyed_in_overlap = self.scalar("""select count(*) from staged
            where insert_id is null and day in (select day from candidates group by day
                having min((load_id, file_no)) <> max((load_id, file_no)))""")
        return old, new

    def _write_days(self) -> list[Path]:
        folder, prefix = self.draft.home / "events", f"{self.draft.number:06d}_"
        self.con.execute(f"""copy (from candidates anti join losers using (load_id, file_no, line))
            to {quoted(folder)} (format parquet, partition_by (day), filename_pattern '{prefix}{{i}}',
                                 overwrite_or_ignore, compression zstd, compression_level 1)""")
        paths = sorted(folder.glob(f"day=*/{prefix}*.parquet"))
        for path in paths:
            path.parent.chmod(0o700)
            path.chmod(0o600)
        if not paths:
            return []
        self.con.execute(f"""insert into generation.event_files
            select day, concat('events/', parse_path(filename)[-2], '/', parse_filename(filename)), count(*),
                   min(time_s), max(time_s)
            from read_parquet([{', '.join(map(one_file, paths))}], hive_partitioning = true, filename = true,
                              hive_types = {{day: date}})
            group by day, filename""")
        return paths

    # profiles and cohorts

    def _gather_objects(self, number: int, source: Source) -> None:
        """Add one file's rows to ``objects``, pages opened."""
        self.progress(f"Loading {source.path.name}", 0, 1)
        if not self._gather_fast(number, source):
            self._view_split(source)
            self._open_pages(number)

    def _gather_fast(self, number: int, source: Source) -> bool:
        """Gather by DuckDB's own reader; False when any line is not accounted for."""
        if source.needs_splitting:
            return False
        try:
            self._view_fast(source)
            if source.shape in BY_LINE and self.scalar("select count(json) from lines") != source.lines:
                return False
            self._open_pages(number)
        except duckdb.Error as error:
            if source.shape not in BY_LINE:
                raise BadInput(f"{source.path} cannot be read as {_NOUN[source.kind]} "
                               f"({_first_line(error)}).") from None
            return False
        return True

    def _open_pages(self, number: int) -> None:
        self.con.execute("""insert into objects select unnest(case when json_type(json, '$.results') = 'ARRAY'
            then json_extract(json, '$.results[*]') else [json] end), ?, coalesce(line, row_number() over ())
            from lines""", [number])

    def _load_profiles(self, sources: list[tuple[int, Source]]) -> None:
        self.con.execute("create or replace temp table objects (json json, file_no integer, line bigint)")
        for number, source in sources:
            self._gather_objects(number, source)
            self._set_aside_strangers(number, source)
        self.con.execute(f"create temp table new_profiles as {sql('profiles_new')}")
        self.con.execute("""delete from generation.profiles where (project_id, distinct_id) in
                            (select (project_id, distinct_id) from new_profiles)""")
        self.con.execute("insert into generation.profiles from new_profiles")
        self._check_addresses()

    def _set_aside_strangers(self, number: int, source: Source) -> None:
        """Quarantine what names nobody, and events, which name somebody but say nothing about them."""
        event = "json_extract_string(json, '$.event') is not null and json_extract_string(json, '$.time') is not null"
        nobody = "valid_id(id_of(json)) is null"
        if source.kind == "profiles":
            nobody += " or json_type(json) <> 'OBJECT'"
        where = f"file_no = {number} and ({nobody} or ({event}))"
        self._quarantine(source, f"""select line, null as byte_offset,
            case when {nobody} then 'no $distinct_id' else 'an event' end as reason from objects where {where}""")
        self.con.execute(f"delete from objects where {where}")
        self._record_file(number, source, self.scalar("select count(*) from objects where file_no = ?", [number]))

    def _check_addresses(self) -> None:
        """Judge each address once in its life; the library judges, the warehouse remembers."""
        fresh = [address for (address,) in self.con.execute("""select distinct address from new_profiles
            where address is not null and address not in (select address from generation.addresses)""").fetchall()]
        if fresh:
            self.progress("Checking addresses", 0, 1)
            import pyarrow as pa

            judged = pa.table({"address": fresh, "valid": [emails.is_valid(address) for address in fresh]})
            self.con.register("judged", judged)
            self.con.execute("insert into generation.addresses from judged")
            self.con.unregister("judged")

    def _check_pages(self, number: int, source: Source) -> None:
        """Refuse a cohort of which pages are missing: its first page announces how many members there are."""
        announced = self.scalar("select max(try_cast(json_extract_string(json, '$.total') as bigint)) from lines "
                                "where json_type(json, '$.results') = 'ARRAY'") or 0
        there = self.scalar("select count(*) from objects where file_no = ?", [number])
        if there < announced:
            raise BadInput(f"{source.path} holds {there:,} of the {announced:,} members that its first page announces. "
                           "Fetch the other pages too (page=1, 2, … with the session_id) and put all into one file.")

    def _load_cohort(self, number: int, source: Source) -> None:
        self.con.execute("create or replace temp table objects (json json, file_no integer, line bigint)")
        self._gather_objects(number, source)
        if source.shape == "ids":
            self.con.execute("delete from objects where json_extract_string(json, '$') in ('$distinct_id', "
                             "'distinct_id', 'Distinct ID')")
        self._check_pages(number, source)
        self._set_aside_strangers(number, source)
        self.con.execute(f"create or replace temp table members as {sql('members_new')}")
        key = [self.project["project_id"], source.cohort]
        for table in ("cohort_members", "cohorts"):
            self.con.execute(f"delete from generation.{table} where project_id = ? and cohort = ?", key)
        self.con.execute("insert into generation.cohort_members select ?, ?, distinct_id from members", key)
        stamp = [*key, self.load_id, self.loaded_at]
        self.con.execute("insert into generation.cohort_snapshots select ?, ?, ?, ?, distinct_id from members", stamp)
        self.con.execute("insert into generation.cohorts select ?, ?, ?, ?, count(*) from members", stamp)


_NOUN = {"events": "events", "profiles": "profiles", "cohort": "cohort members"}


def _file_row(source: Source, rows: int, quarantined: int, known: bool) -> dict[str, Any]:
    return {"file": str(source.path), "kind": source.kind, "cohort": source.cohort, "rows": rows,
            "quarantined": quarantined, "known": known}


def _first_line(error: Exception) -> str:
    return emails.scrub(str(error).splitlines()[0])[:200]
