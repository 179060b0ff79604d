"""Event rows: written to Parquet by day, duplicates superseded, what is left counted by calendar day.

Rows are only ever added. A duplicate stays where it is and is named in ``superseded``, until enough of a day is,
or the day is in so many files, that it is worth writing the day anew. So the cost of a load follows what is new.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cohortsync import clock
from cohortsync.drafts import Draft
from cohortsync.sources import Progress
from cohortsync.warehouse import event_paths, event_source, offer, one_file, quoted, sql

MAX_FILES_A_DAY = 8
DAY_OFFSETS = pa.schema([("day", pa.date32()), ("offset_s", pa.int64()), ("changes_at_s", pa.int64()),
                         ("later_offset_s", pa.int64())])
# No row, of which DuckDB expects very many: it groups rows by day more finely then, and sorts only groups of several.
MANY = "(select null::date as day from range(32768) a, range(32768) b where a.range < 0)"
BY_ID = "order by hash(distinct_id)"  # repeated ids are cheap to keep: a generation is up to half as large
ROWS_AT_ONCE = 4_000_000  # events counted together, about, so that they fit in memory; a day is never split
KEY = "load_id, file_no, line"
KEPT = f"project_id, day, event, time_s, distinct_id, before_id, insert_id, processed_ms, {KEY}"


def write_days(draft: Draft, rows: str, mark: str, watch: Progress, label: str,
               share_read: Callable[[], float] = lambda: 0) -> list[Path]:
    """Write the rows of a query to ``events/day=…/``, one file a day; ``mark`` keeps their names apart.

    ``share_read``: how much of what DuckDB does not read by itself is read, from 0 to 1.
    """
    # No dictionary is tried of more values than there are event names: of ids it costs more than it saves.
    folder, prefix = draft.home / "events", f"{draft.number:06d}{mark}_"
    statement = f"""copy (({rows}) union all by name {MANY}) to {quoted(folder)} (format parquet, partition_by (day),
        filename_pattern '{prefix}{{i}}', overwrite_or_ignore, parquet_version v2, compression zstd,
        compression_level 1, dictionary_size_limit 256)"""
    try:
        draft.con.execute("set preserve_insertion_order = false")  # several files at once
        _execute_watched(draft.con, statement, watch, label, share_read)
    finally:
        draft.con.execute("set preserve_insertion_order = true")
        paths = sorted(folder.glob(f"day=*/{prefix}*.parquet"))
        for path in paths:
            path.parent.chmod(0o700)
            path.chmod(0o600)
    return paths


def _execute_watched(con: duckdb.DuckDBPyConnection, statement: str, watch: Progress, label: str,
                     share_read: Callable[[], float]) -> None:
    """Run a long statement beside, so that its progress can be told from here."""
    watch(label, 0, 100)
    with ThreadPoolExecutor(1) as beside:
        running = beside.submit(con.execute, statement)
        while wait([running], timeout=0.2).not_done:
            watch(label, max(con.query_progress(), 100 * share_read()), 100)
        running.result()


def add_files(con: duckdb.DuckDBPyConnection, project_id: str, paths: list[Path]) -> None:
    """Make files that were written part of the generation."""
    if paths:
        con.execute(f"""insert into generation.event_files
            select ?, day, concat('events/', parse_path(filename)[-2], '/', parse_filename(filename)), count(*),
                   min(time_s), max(time_s)
            from read_parquet([{', '.join(map(one_file, paths))}], hive_partitioning = true, filename = true,
                              hive_types = {{day: date}})
            group by day, filename""", [project_id])


def live(rows: str) -> str:
    """The rows of a table expression that no later one superseded."""
    return f"(from {rows} anti join generation.superseded using ({KEY}))"


def supersede(draft: Draft, project_id: str) -> tuple[str, str]:
    """Find what the rows of ``staged`` make superfluous; answers the rows that count from now on and those that end.

    Both as table expressions; the table ``losers`` names what is superseded. The rows of the files in ``replaced``
    (of a day each) end whatever they are, and what a duplicate among them had superseded counts again. Reads the
    rows already there of the days that are touched, and of those only what tells a duplicate.
    """
    con = draft.con
    there = event_source(event_paths(draft.home, con, f"""project_id = {quoted(project_id)} and day in
        (select day from staged union select day from replaced)"""))
    again = "day in (select day from replaced)"
    con.execute(f"""create temp view standing as from {there} anti join replaced using (load_id, file_no)
        anti join (from generation.superseded where not {again}) using ({KEY})""")
    con.execute(f"create temp view candidates as select {KEPT} from staged union all select {KEPT} from standing")
    offer(con, "repeated", pa.table({"key": _repeated(con)}))
    con.execute(f"create temp table losers as {sql('superseded')}")
    con.execute(f"""insert into losers select project_id, day, {KEY} from {there}
                    semi join replaced using (load_id, file_no)""")
    revived = f"(from standing semi join (from generation.superseded where {again}) using ({KEY}))"
    return (f"(from (from staged union all by name from {revived}) anti join losers using ({KEY}))",
            f"(from {live(there)} semi join losers using ({KEY}))")


def _repeated(con: duckdb.DuckDBPyConnection) -> npt.NDArray[np.uint64]:
    """What the two columns that tell most hash to in several of the ``candidates``: in every duplicate, in few others.

    Sorted here, which takes a third of what grouping so many different numbers takes.
    """
    found = con.execute("select hash(time_s, insert_id) as key from candidates where insert_id is not null")
    keys = np.asarray(found.fetchnumpy()["key"], np.uint64)
    keys.sort()
    return keys[1:][keys[1:] == keys[:-1]]


def note_lags(con: duckdb.DuckDBPyConnection, project_id: str) -> None:
    """Keep by how long after their time the events in ``staged`` were processed, within a day: that betrays a zone."""
    con.execute("""insert into generation.lags
        select ?, load_id, day,
               (processed_ms - time_s * 1000 + 450000) // 900000 * 900 as lag_s, count(*)
        from staged where processed_ms > 0 and not imported group by load_id, day, lag_s having abs(lag_s) < 86400""",
                [project_id])


def count(draft: Draft, project: Mapping[str, Any], new: str, gone: str, watch: Progress) -> None:
    """Bring the project's ``activity`` up to date, and keep what ``supersede`` found.

    Where there was activity before, the temp table ``touched`` gets the ids whose counts change.
    """
    con, project_id = draft.con, project["project_id"]
    if con.execute("select 1 from generation.activity where project_id = ? limit 1", [project_id]).fetchall():
        _count_changes(con, project, new, gone)
        _record_superseded(con, project_id)
    else:
        _record_superseded(con, project_id)
        recount(draft, project, watch)


def _record_superseded(con: duckdb.DuckDBPyConnection, project_id: str) -> None:
    con.execute("delete from generation.superseded where project_id = ? and day in (select day from replaced)",
                [project_id])
    con.execute("insert into generation.superseded from losers")


def _count_changes(con: duckdb.DuckDBPyConnection, project: Mapping[str, Any], new: str, gone: str) -> None:
    """Add the counts of new rows, take off those of rows that end."""
    _offer_day_offsets(con, project)
    more, less = (_activity(project, rows) for rows in (new, gone))
    con.execute(f"""create or replace temp table delta as
        from {more} union all select * replace (-events as events) from {less}""")
    con.execute("insert into touched select distinct distinct_id from delta")
    same_days = "project_id = ? and day in (select distinct day from delta)"
    con.execute(f"insert into delta from generation.activity where {same_days}", [project["project_id"]])
    con.execute(f"delete from generation.activity where {same_days}", [project["project_id"]])
    con.execute(f"""insert into generation.activity from (
        select * replace (sum(events)::bigint as events) from delta group by all having sum(events) > 0) {BY_ID}""")
    con.execute("drop table delta")


def recount(draft: Draft, project: Mapping[str, Any], watch: Progress) -> None:
    """Count every event of the project, as at first and after a change of its time zone or ID merge.

    A few days at a time, so that they fit in memory. A local day holds events of its own UTC day and of the days
    before and after.
    """
    con, mine = draft.con, f"project_id = {quoted(project['project_id'])}"
    for table in ("activity", "user_months"):
        con.execute(f"delete from generation.{table} where {mine}")
    _offer_day_offsets(con, project)
    spans = _spans(con, mine)
    for done, (first, after) in enumerate(spans):
        watch("Counting events", done, len(spans))
        # The files are named: by a condition on their days DuckDB misjudges how many rows there will be.
        there = event_source(event_paths(draft.home, con, f"{mine} and day between {first} - 1 and {after}"))
        con.execute(f"""insert into generation.activity from {_activity(project, live(there))}
            where day >= {first} and day < {after} {BY_ID}""")


def _spans(con: duckdb.DuckDBPyConnection, mine: str) -> list[tuple[str, str]]:
    """Half-open ranges of local days, as SQL dates, which together cover all time."""
    firsts = [f"date '{day}'" for (day,) in con.execute(f"""select min(day)::varchar from (
        select day, sum(sum(rows)) over (order by day) // {ROWS_AT_ONCE} as span from generation.event_files
        where {mine} group by day) group by span order by span""").fetchall()]
    return list(pairwise(["date '-infinity'", *firsts[1:], "date 'infinity'"]))


def _activity(project: Mapping[str, Any], rows: str) -> str:
    """The table expression that counts event rows; reads ``day_offsets``."""
    tracked = f"coalesce({project['id_merge']}_id(user_id, device_id, before_id, distinct_id), '') as tracked_id"
    return f"(with event_rows as (select *, {tracked} from {rows}) {sql('activity')})"


def _offer_day_offsets(con: duckdb.DuckDBPyConnection, project: Mapping[str, Any]) -> None:
    offsets = clock.day_offsets(days(con, project["project_id"]), clock.zone(project))
    offer(con, "day_offsets", pa.Table.from_pylist(
        [dict(zip(DAY_OFFSETS.names, row, strict=True)) for row in offsets], DAY_OFFSETS))


def days(con: duckdb.DuckDBPyConnection, project_id: str) -> list[Any]:
    """The export's days of which the project has events."""
    return [day for (day,) in con.execute(
        "select distinct day from generation.event_files where project_id = ? order by day", [project_id]).fetchall()]


def compact(draft: Draft, project_id: str, watch: Progress) -> None:
    """Write the days anew of which a quarter is superseded for good, or that are in more than eight files.

    What was loaded by hand on a day that is also pulled stays: the pull that supersedes it may be replaced.
    """
    con = draft.con
    con.execute("""create or replace temp table spent as
        select s.* from generation.superseded s join generation.files f using (load_id, file_no)
        where s.project_id = $project_id and (f.pulled_on is not null or s.day not in
            (select pulled_on from generation.files where project_id = $project_id and pulled_on is not null))""",
                {"project_id": project_id})
    con.execute(f"""create or replace temp table crowded as
        select f.day from (select day, count(*) as files, sum(rows) as stored from generation.event_files
                           where project_id = ? group by day) f
        left join (select day, count(*) as gone from spent group by day) s on s.day = f.day
        where files > {MAX_FILES_A_DAY} or coalesce(gone, 0) * 4 > stored""", [project_id])
    these = f"project_id = {quoted(project_id)} and day in (from crowded)"
    paths = event_paths(draft.home, con, these)
    if paths:
        left = f"from {event_source(paths)} anti join spent using ({KEY})"
        written = write_days(draft, left, "c", watch, "Compacting days")
        con.execute(f"delete from generation.event_files where {these}")
        con.execute(f"delete from generation.superseded where {these} and ({KEY}) in (select ({KEY}) from spent)")
        add_files(con, project_id, written)
