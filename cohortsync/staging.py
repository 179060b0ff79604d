"""Files of events to event rows, every line accounted for."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import duckdb
import pandas as pd

from cohortsync import events
from cohortsync.cutting import cut
from cohortsync.drafts import Draft
from cohortsync.lines import as_read, good_lines, one_name, refuse_unreadable, spell_to_stage
from cohortsync.sources import Hear, Progress, Reading, Source, Tell, unheard
from cohortsync.warehouse import event_source, one_file, sql

# Rows wait in memory for their day's file. Files are written by turns: fewer at a time where no two share a day, more
# where they may, since a day is in as many files as there are turns that write it.
LINES_A_TURN, LINES_A_TURN_APART = 10_000_000, 250_000
READERS = os.cpu_count() or 1  # threads: a turn has a file for each, or as many for each
USABLE = "event is not null and time_s is not null"


class LookFirst(Exception):
    """A file of which only the beginning is known has to be looked at before it is loaded."""


@dataclass(frozen=True)
class Staged:
    """Files written by day: ``paths``; by file number ``sources``: what each is, ``taken``: its events, ``spelt``: its
    lines if needed."""

    paths: list[Path]
    sources: dict[int, Source]
    taken: dict[int, int]
    spelt: dict[int, Path]


def stage(draft: Draft, sources: dict[int, Source], watch: Progress, apart: bool = False) -> Staged:
    """Write the events of numbered files by day; they are the view ``staged`` then. ``apart``: no two share a day.

    A file of which the fast reader took other lines than those that are events, read one by one, is written again
    from its lines. Raises BadInput for a file that is not what it says, LookFirst for one of which only the beginning
    was known and which is damaged, a copy of another, or has lines too long for the fast reader.
    """
    if not sources:
        draft.con.execute("create or replace temp view staged as from generation.no_events")
        return Staged([], {}, {}, {})
    spelt = {n: spell_to_stage(draft, n, s, watch) for n, s in sources.items() if s.needs_spelling}
    while True:
        paths, sources = _write(draft, sources, spelt, watch, LINES_A_TURN_APART if apart else LINES_A_TURN)
        taken = dict(draft.con.execute("select file_no, count(*) from staged group by file_no").fetchall())
        doubtful = {n: spelt.get(n) or spell_to_stage(draft, n, source, watch) for n, source in sources.items()
                    if n in spelt or taken.get(n, 0) != source.lines}
        astray = {n: path for n, path in doubtful.items() if not _agrees(draft.con, n, path)}
        if not astray:
            return Staged(paths, sources, taken, doubtful)
        for path in paths:
            path.unlink()
        spelt |= astray


def _write(draft: Draft, sources: dict[int, Source], spelt: dict[int, Path], watch: Progress,
           lines_a_turn: int) -> tuple[list[Path], dict[int, Source]]:
    """Write all files, those that were spelt out from what they hold; they are the view ``staged`` then.

    Answers where, and the files as they turned out to be.
    """
    con, total = draft.con, max(1, sum(source.lines for source in sources.values()))
    read: Counter[int] = Counter()
    unread = {n: Reading() for n, source in sources.items() if not source.digest}
    paths: list[Path] = []
    for turn, some in enumerate(_turns(sources, lines_a_turn)):
        alone = some[:-1] if _are_even([sources[n].lines for n in some]) else []  # whoever is done helps with the last
        lines = [_lines(con, n, sources[n], spelt.get(n), partial(read.__setitem__, n),
                        unread[n].note if n in unread else unheard, n in alone) for n in some]
        con.execute(f"create or replace temp view lines as {' union all '.join(lines)}")
        try:
            paths += events.write_days(draft, f"from ({sql('stage_events')}) where {USABLE}", f"-{turn}", watch,
                                       "Writing events by day", lambda: min(1, read.total() / total))
        except duckdb.Error as error:
            if unread:
                raise LookFirst from error
            for n in some:
                refuse_unreadable(con, sources[n])
            raise
    con.execute(f"create or replace temp view staged as from {event_source(paths)}")
    return paths, sources | _turned_out({n: sources[n].after(reading) for n, reading in unread.items()})


def _turned_out(sources: dict[int, Source]) -> dict[int, Source]:
    """Files of which only the beginning was known, if all of it was seen to fit."""
    if len({source.digest for source in sources.values()}) < len(sources) or any(
            source.needs_spelling for source in sources.values()):
        raise LookFirst
    return sources


def _turns(sources: dict[int, Source], lines_a_turn: int) -> Iterator[list[int]]:
    """The numbers of the files that are written together."""
    some, lines = list[int](), 0
    for number, source in sources.items():
        some, lines = [*some, number], lines + source.lines
        if len(some) % READERS == 0 and lines >= lines_a_turn:
            yield some
            some, lines = [], 0
    if some:
        yield some


def _are_even(lines: list[int]) -> bool:
    """Whether readers who take a file each, and the next one when it is read, end at about the same time."""
    load = [0] * READERS
    for some in lines:
        load[load.index(min(load))] += some
    return max(load) < 1.1 * sum(lines) / READERS


def _lines(con: duckdb.DuckDBPyConnection, number: int, source: Source, spelt: Path | None, tell: Tell,
           hear: Hear, alone: bool) -> str:
    """A query ``event, properties, file_no, line`` of one file; ``properties`` are text that may be no JSON.

    ``alone``: one thread reads all of it, and none waits for another who reads it too. DuckDB does so where it is to
    number the rows.
    """
    if source.nested and not spelt:
        con.register(one_name(source), cut(source, tell, hear=hear))
        line = "row_number() over ()" if alone else "line"
        return f"""select coalesce(event, name_of(json)) as event,
            coalesce(properties, properties_of(json)) as properties, {number} as file_no, line
            from (select event, properties, try_cast(whole as json) as json, {line} as line from {one_name(source)})"""
    return _records(number, good_lines(spelt) if spelt else as_read(con, source, tell))


def _records(number: int, lines: str) -> str:
    """A query ``event, properties, file_no, line`` of lines that are JSON."""
    return f"""select name_of(record) as event, properties_of(record) as properties, {number} as file_no, line
        from (select as_record(json) as record, line from {lines})"""


def _judge(con: duckdb.DuckDBPyConnection, path: Path) -> None:
    """The temp table ``judged``: the good lines of a spelt file, and what they lack to be events."""
    con.execute(f"create or replace temp view lines as {_records(0, good_lines(path))}")
    con.execute(f"""create or replace temp table judged as
        select line, case when properties is null then 'no readable properties'
                          when event is null then 'no event name'
                          when time_s is null then 'no readable time' end as lack
        from ({sql('stage_events')})""")


def _agrees(con: duckdb.DuckDBPyConnection, number: int, path: Path) -> bool:
    """Whether the lines of a file that were taken are those that should be."""
    _judge(con, path)
    return not con.execute("""select 1 from (select line from judged where lack is null) j
        full join (select line from staged where file_no = ?) s using (line)
        where j.line is null or s.line is null limit 1""", [number]).fetchall()


def quarantine(con: duckdb.DuckDBPyConnection, project_id: str) -> pd.DataFrame:
    """One row per line of a project's files that could not be taken: ``load_id, file, line, byte_offset, reason``."""
    return con.execute("""select q.* from quarantine q
        where load_id in (select load_id from files where project_id = ?) order by load_id, file, line""",
                       [project_id]).df()


def left_out(con: duckdb.DuckDBPyConnection, path: Path) -> str:
    """A query ``line, byte_offset, reason`` of the lines of a spelt file that are no events."""
    _judge(con, path)
    return f"""select line, byte_offset, coalesce(reason, lack) as reason
        from read_parquet({one_file(path)}) left join judged using (line) where coalesce(reason, lack) is not null"""
