"""The DuckDB side of a workspace, read: generations that are written once, published whole, only read after.

A generation is a file ``warehouse/NNNNNN.duckdb``; the one in force is named in the ledger. Event rows
stay in Parquet below ``events/day=…/`` and belong to a generation by its list ``event_files``. So a
reader is never blocked and never sees half a load, and a crash leaves the last generation in force.
"""

from __future__ import annotations

import os
import re
import secrets
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import duckdb
import pyarrow as pa

from cohortsync import ledger
from cohortsync.disk import SHARED, lock
from cohortsync.errors import BadInput, ConfigurationError

TABLES = ("profiles", "cohorts", "cohort_members", "cohort_snapshots", "identities", "activity", "user_months",
          "months", "month_versions", "month_users", "month_events", "event_classes", "addresses", "loads", "files",
          "quarantine", "device_links", "identity_verbs", "rekeys", "identity_mappings", "event_files", "superseded",
          "clocks", "lags", "published", "cohort_sizes", "cohort_definitions", "profile_changes")

MOST_IDLE = 4  # engines kept for the next question

_idle: dict[int, list[duckdb.DuckDBPyConnection]] = {}  # engines by process: one forked off can use no older one


def sql(name: str) -> str:
    """The text of one statement of ``cohortsync/sql``."""
    return (Path(__file__).parent / "sql" / f"{name}.sql").read_text(encoding="utf-8")


def quoted(text: object) -> str:
    """A string literal for the few places where SQL takes no parameter (paths we made ourselves)."""
    return "'" + str(text).replace("'", "''") + "'"


def one_file(path: object) -> str:
    """A string literal by which DuckDB's readers take this file alone, though its name look like a pattern."""
    return quoted(re.sub(r"[*?\[]", r"[\g<0>]", str(path)))


def engine() -> duckdb.DuckDBPyConnection:
    """A DuckDB in memory that fetches nothing from outside and reckons in UTC."""
    con = duckdb.connect(config={"autoinstall_known_extensions": False, "autoload_known_extensions": False})
    con.execute("set global TimeZone = 'UTC'")  # also for cursors
    return con


def offer(con: duckdb.DuckDBPyConnection, table: str, columns: pa.Table) -> None:
    """Make a temp table of an Arrow one, in place of another of its name."""
    con.register("offered", columns)
    con.execute(f"create or replace temp table {table} as from offered")
    con.unregister("offered")


@contextmanager
def lent() -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to an engine that nobody else uses meanwhile, for reading; it knows the macros.

    Engines are kept and lent again, since opening one takes longer than most questions. What is temporary goes
    with the connection, and so do its variables and settings, and ``generation`` if it is attached. Anything else
    done to the engine would stay: whoever does that needs an ``engine`` of their own.
    """
    process = os.getpid()
    idle = _idle.setdefault(process, [])
    try:
        con = idle.pop()
    except IndexError:
        con = engine()
        con.execute(sql("macros"))
    cursor = con.cursor()
    try:
        yield cursor
    finally:
        if os.getpid() == process:
            cursor.close()
            _take_back(con, idle)


def _close_idle() -> None:
    """An engine's threads do not live on in a process that is forked off, which would wait for them when it ends."""
    idle = _idle.get(os.getpid(), [])
    while idle:
        idle.pop().close()


os.register_at_fork(before=_close_idle)


def _take_back(con: duckdb.DuckDBPyConnection, idle: list[duckdb.DuckDBPyConnection]) -> None:
    try:
        con.execute("detach database if exists generation")
        con.execute("reset temp_directory")  # refused once something was spilled: that goes when the engine is closed
    except duckdb.Error:
        con.close()
        return
    if len(idle) < MOST_IDLE:
        idle.append(con)
    else:
        con.close()


def required_project(home: Path, project_id: str | None = None,
                     projects: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """The workspace's project of this id, or its only one; raises ConfigurationError where there is none such.

    ``projects``: those of the generation that is read, if not of the one in force.
    """
    projects = ledger.projects(home) if projects is None else projects
    named = [project for project in projects if project_id in (None, project["project_id"])]
    if len(named) == 1:
        return named[0]
    if not projects:
        raise ConfigurationError(f"The workspace {home} has no project yet. Make one first: "
                                 "cohortsync connect mixpanel --project-id N --id-merge simplified, or for files: "
                                 "cohortsync init --timezone Europe/Berlin --id-merge simplified")
    have = ", ".join(project["project_id"] for project in projects)
    if project_id is None:
        raise ConfigurationError(f"The workspace {home} holds several projects ({have}). Name one with --project ID.")
    raise ConfigurationError(f"The workspace {home} has no project {project_id!r}. It holds: {have}.")


def generation_path(home: Path, number: int) -> Path:
    return home / "warehouse" / f"{number:06d}.duckdb"


def lock_path(home: Path, number: int) -> Path:
    return generation_path(home, number).with_suffix(".lock")


def generations_on_disk(home: Path) -> set[int]:
    """Also those of which only a lock or a log is left: a number is not used again before all of it is gone."""
    stems = {path.name.partition(".")[0] for path in (home / "warehouse").glob("*")}
    return {int(stem) for stem in stems if stem.isdecimal()}


def listed_files(home: Path, *numbers: int) -> set[str]:
    """The event files that any of these generations lists."""
    listed = set[str]()
    with lent() as con:
        for number in numbers:
            con.execute(f"attach {quoted(generation_path(home, number))} as generation (read_only)")
            listed |= {path for (path,) in con.execute("from generation.event_files select path").fetchall()}
            con.execute("detach generation")
    return listed


class Generation:
    """One generation, held for reading: no sweeper deletes it until it is released, or this object or process ends.

    ``number``: 0 when nothing was ever loaded; ``projects``: the settings that it was reckoned by.
    """

    def __init__(self, home: Path, number: int, projects: list[dict[str, Any]], held: BinaryIO | None = None) -> None:
        self.home, self.number, self.projects = home, number, projects
        self.release: Callable[[], Any] = weakref.finalize(self, held.close) if held else lambda: None

    @cached_property
    def as_of(self) -> datetime | None:
        """When it was published (UTC); None when nothing was ever loaded."""
        with attached(self.home, self) as con:
            return as_of(con)

    @property
    def is_newest(self) -> bool:
        return ledger.generation(self.home) == self.number


def hold(home: Path) -> Generation:
    """The generation in force, held for reading."""
    while True:
        number, projects = ledger.in_force(home)
        if not number:
            return Generation(home, 0, projects)
        writable = os.access(home, os.W_OK)  # where nothing can be written, nothing is swept
        file = lock(lock_path(home, number), SHARED) if writable else None
        held = Generation(home, number, projects, file)
        if held.is_newest:  # else the sweeper may have been there first
            return held
        held.release()


def as_of(con: duckdb.DuckDBPyConnection) -> datetime | None:
    """When the generation that a connection reads was published (UTC); None when nothing was ever loaded."""
    published = con.execute("select as_of from generation.published").fetchall()
    return published[0][0].replace(tzinfo=UTC) if published else None


@contextmanager
def attached(home: Path, held: Generation | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to the tables of a generation alone, for the numbers that need no event: opened in no time.

    Read-only, on the generation held, else on the one in force when it was opened; loads that finish meanwhile do
    not show. It is ``lent``.
    """
    with _holding(home, held) as generation, lent() as con:
        _attach(con, generation)
        yield con


@contextmanager
def reading(home: Path, held: Generation | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """As ``attached``, and all of the workspace is tables: ``events, profiles, cohorts, cohort_members, …``."""
    with attached(home, held) as con:
        for name, query in _file_tables(home, con).items():
            con.execute(f"create temp view {name} as {query}")
        yield con


@contextmanager
def opened(home: Path, held: Generation | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """As ``reading``, to be given away: an engine of its own, which may be locked; every cursor sees the tables."""
    with _holding(home, held) as generation, closing(engine()) as con:
        _attach(con, generation)
        con.execute("use memory")  # what is a view there is one for every cursor
        view_tables(home, con)
        yield con


@contextmanager
def _holding(home: Path, held: Generation | None) -> Iterator[Generation]:
    """The generation held, else the one in force, held for as long as the block lasts."""
    generation = held or hold(home)
    try:
        yield generation
    finally:
        if not held:
            generation.release()


def _attach(con: duckdb.DuckDBPyConnection, generation: Generation) -> None:
    if generation.number:
        path = generation_path(generation.home, generation.number)
        con.execute(f"attach {quoted(path)} as generation (read_only)")
        con.execute(f"set temp_directory = {quoted(path.with_suffix(f'.spill-{secrets.token_hex(4)}'))}")
    else:
        con.execute("attach ':memory:' as generation")
        create_schema(con)
    con.execute("set search_path = 'memory,generation'")
    vars(generation).setdefault("as_of", as_of(con))  # who asks for it later need not open the file again


def view_tables(home: Path, con: duckdb.DuckDBPyConnection) -> None:
    """Everything by its bare name, and ``prop('$city')`` for a property's value."""
    con.execute(sql("macros"))
    tables = {table: f"from generation.{table}" for table in TABLES} | _file_tables(home, con)
    for name, query in tables.items():
        con.execute(f"create view {name} as {query}")


def _file_tables(home: Path, con: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """The tables that lie in files beside the generation, as questions.

    ``events``, and ``audience_members``, one row per member of the Mailchimp audiences as last read.
    """
    mirrors = sorted((home / "audiences").glob("*/members.parquet"))
    members = f"read_parquet([{', '.join(map(one_file, mirrors))}], union_by_name = true)" if mirrors else (
        "generation.no_audience_members")
    return {"events": sql("events").replace("$source", event_source(event_paths(home, con))),
            "audience_members": "select member_hash, address, status, last_changed, tags, audience_id "
                                f"from {members}"}


def event_paths(home: Path, con: duckdb.DuckDBPyConnection, where: str = "true") -> list[Path]:
    """The event files of the attached generation for which a condition on ``event_files`` holds."""
    return [home / path for (path,) in con.execute(
        f"select path from generation.event_files where {where} order by path").fetchall()]


def event_source(paths: list[Path]) -> str:
    """The table expression that reads these event files; empty but typed when there are none."""
    if not paths:
        return "(from generation.no_events)"
    return f"read_parquet([{', '.join(map(one_file, paths))}], hive_partitioning = true, hive_types = {{day: date}})"


def create_schema(con: duckdb.DuckDBPyConnection, database: str = "generation") -> None:
    con.execute(f"use {database}")
    con.execute(sql("schema"))
    con.execute("use memory")


def select_only(query: str) -> str:
    """The query itself when it is exactly one SELECT, for questions that come from outside.

    Raises BadInput otherwise.
    """
    try:
        statements = duckdb.extract_statements(query)
    except duckdb.Error as error:
        raise BadInput(f"The question is not SQL ({str(error).splitlines()[0]}). Write one SELECT.") from None
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise BadInput("The question must be exactly one SELECT: nothing is written and no file opened here.")
    return query


def lock_down(con: duckdb.DuckDBPyConnection, home: Path) -> None:
    """Before outside SQL runs: no file but the workspace's own events, no way back."""
    folders = [spelt(home / name) for name in ("events", "audiences") for spelt in (quoted, one_file)]
    con.execute(f"set allowed_directories = [{', '.join(folders)}]")
    con.execute("set enable_external_access = false")
    con.execute("set lock_configuration = true")
