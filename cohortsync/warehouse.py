"""The DuckDB side of a workspace: generations that are written once, published whole, only read after.

A generation is a file ``warehouse/NNNNNN.duckdb``; the one in force is named in the ledger. Event rows
stay in Parquet below ``events/day=…/`` and belong to a generation by its list ``event_files``. So a
reader is never blocked and never sees half a load, and a crash leaves the last generation in force.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import portalocker

from cohortsync import ledger
from cohortsync.errors import BadInput, ConfigurationError, StoreError

TABLES = ("profiles", "cohorts", "cohort_members", "cohort_snapshots", "identities", "activity", "user_months",
          "months", "event_classes", "addresses", "loads", "files", "quarantine", "device_links",
          "identity_verbs", "rekeys", "event_files")


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
    con.execute("set TimeZone = 'UTC'")
    return con


def required_project(home: Path) -> dict[str, Any]:
    """The workspace's project; raises ConfigurationError before there is one."""
    if project := ledger.project(home):
        return project
    raise ConfigurationError(f"The workspace {home} has no project yet. Make one first: "
                             "cohortsync init --timezone Europe/Berlin --id-merge simplified")


def generation_path(home: Path, number: int) -> Path:
    return home / "warehouse" / f"{number:06d}.duckdb"


@contextmanager
def _held(path: Path, flags: portalocker.LockFlags) -> Iterator[bool]:
    """Hold an OS lock on a file; False when someone else holds it. The kernel frees it with the process."""
    path.touch(mode=0o600)
    with path.open("r+") as file:
        try:
            portalocker.lock(file, flags)
        except portalocker.LockException:
            yield False
        else:
            yield True


def _lock_path(home: Path, number: int) -> Path:
    return generation_path(home, number).with_suffix(".lock")


@contextmanager
def _generation_in_force(home: Path) -> Iterator[int]:
    """Hold the generation in force against the sweeper; 0 when nothing was ever loaded."""
    while True:
        number = ledger.generation(home)
        if not number:
            yield 0
            return
        with _held(_lock_path(home, number), portalocker.LockFlags.SHARED):
            if ledger.generation(home) == number:
                yield number
                return


@contextmanager
def reading(home: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """One connection in which the workspace is tables: ``events, profiles, cohorts, cohort_members, …``.

    Read-only, on the generation in force when it was opened; loads that finish meanwhile do not show.
    """
    with _generation_in_force(home) as number:
        con = engine()
        try:
            if number:
                con.execute(f"attach {quoted(generation_path(home, number))} as generation (read_only)")
            else:
                con.execute("attach ':memory:' as generation")
                create_schema(con)
            for table in TABLES:
                con.execute(f"create view {table} as from generation.{table}")
            _view_events(home, con)
            _view_audience_members(home, con)
            yield con
        finally:
            con.close()


def _view_events(home: Path, con: duckdb.DuckDBPyConnection) -> None:
    paths = [home / path for (path,) in con.execute("from generation.event_files select path").fetchall()]
    con.execute(f"create view events as {sql('events').replace('$source', event_source(paths))}")


def _view_audience_members(home: Path, con: duckdb.DuckDBPyConnection) -> None:
    """The Mailchimp audiences as last read: one row per member."""
    mirrors = sorted((home / "audiences").glob("*/members.parquet"))
    source = f"read_parquet([{', '.join(map(one_file, mirrors))}])" if mirrors else "generation.no_audience_members"
    con.execute(f"create view audience_members as from {source}")


def event_source(paths: list[Path]) -> str:
    """The table expression that reads these event files; empty but typed when there are none."""
    if not paths:
        return "(from generation.no_events)"
    return f"read_parquet([{', '.join(map(one_file, paths))}], hive_partitioning = true, hive_types = {{day: date}})"


def create_schema(con: duckdb.DuckDBPyConnection) -> None:
    con.execute("use generation")
    con.execute(sql("schema"))
    con.execute("use memory")


@dataclass
class Draft:
    """A generation being written: its connection (attached as ``generation``), its number, the workspace.

    ``project``: the settings it is reckoned by, published with it. Set ``unchanged`` when the block found
    nothing to change: then nothing is published.
    """

    con: duckdb.DuckDBPyConnection
    number: int
    home: Path
    project: dict[str, Any]
    unchanged: bool = False

    @property
    def stage(self) -> Path:
        """A folder for this load's own files; gone when the load ends."""
        return self.home / "stage"


@contextmanager
def drafting(home: Path, **settings: str) -> Iterator[Draft]:
    """Write the next generation: a copy of the one in force, published whole when the block ends well.

    ``settings`` (``timezone``, ``id_merge``) take the place of the project's. One loader at a time: a second
    one waits. On an error nothing of the block remains.
    """
    for folder in ("warehouse", "events"):
        (home / folder).mkdir(mode=0o700, exist_ok=True)
    with _held(home / "loader.lock", portalocker.LockFlags.EXCLUSIVE):
        base = ledger.generation(home)
        _sweep(home, base)
        number = 1 + max([base, *_generations_on_disk(home)])
        (home / "stage").mkdir(mode=0o700, exist_ok=True)
        con = engine()
        try:
            _copy_base(home, con, number, base)
            draft = Draft(con, number, home, required_project(home) | settings)
            yield draft
            if not draft.unchanged:
                _publish(draft, base)
        finally:
            con.close()
            _sweep(home, ledger.generation(home))


def _copy_base(home: Path, con: duckdb.DuckDBPyConnection, number: int, base: int) -> None:
    con.execute(f"set temp_directory = {quoted(home / 'stage')}")
    con.execute(f"attach {quoted(generation_path(home, number))} as generation")
    generation_path(home, number).chmod(0o600)
    if not base:
        create_schema(con)
        return
    con.execute(f"attach {quoted(generation_path(home, base))} as base (read_only)")
    con.execute("copy from database base to generation")
    con.execute("detach base")


def _publish(draft: Draft, base: int) -> None:
    home, con, number = draft.home, draft.con, draft.number
    con.execute("checkpoint generation")
    paths = [home / path for (path,) in con.execute("from generation.event_files select path").fetchall()]
    con.execute("detach generation")
    new = [path for path in paths if path.name.startswith(f"{number:06d}_")]
    for path in [generation_path(home, number), *new, *{path.parent for path in new},
                 home / "events", home / "warehouse"]:
        _fsync(path)
    if not ledger.publish_generation(home, number, base, draft.project):
        raise StoreError(f"Another load was published over generation {base} meanwhile. Run this load again.")


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _generations_on_disk(home: Path) -> list[int]:
    return [int(path.stem) for path in (home / "warehouse").glob("*.duckdb")]


def _sweep(home: Path, in_force: int) -> None:
    """Delete the generations nobody reads, then every event file that no surviving one lists."""
    for number in _generations_on_disk(home):
        if number != in_force:
            _delete_unread(home, number)
    listed = set().union(*(_listed_files(home, number) for number in _generations_on_disk(home)))
    for path in (home / "events").glob("day=*/*.parquet"):
        if str(path.relative_to(home)) not in listed:
            path.unlink()
    for path in (home / "stage").glob("*"):
        path.unlink()


def _delete_unread(home: Path, number: int) -> None:
    alone = portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING
    with _held(_lock_path(home, number), alone) as free:
        if free:
            for suffix in (".duckdb", ".duckdb.wal", ".lock"):
                generation_path(home, number).with_suffix(suffix).unlink(missing_ok=True)


def _listed_files(home: Path, number: int) -> set[str]:
    con = engine()
    with suppress(duckdb.CatalogException):
        con.execute(f"attach {quoted(generation_path(home, number))} as generation (read_only)")
        return {path for (path,) in con.execute("from generation.event_files select path").fetchall()}
    return set()


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
