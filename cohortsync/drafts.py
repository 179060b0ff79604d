"""A generation being written: copied from the one in force, published whole or not at all; old ones swept away."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from cohortsync import ledger, warehouse
from cohortsync.disk import AT_ONCE, locking, to_disk
from cohortsync.errors import StoreError
from cohortsync.warehouse import engine, event_paths, generation_path, lock_path, quoted, required_project, sql

# What a load may hold in memory (more goes to disk): 50 million events load in under 4 GiB, two thirds of it DuckDB's.
MEMORY_MB = 2500
PULL_MEMORY_MB = 150 * max(2, os.cpu_count() or 2)  # it runs beside all else on a machine, and is as fast with little
ROWS_HELD = 3_000  # of one day's events, before they are written
DISK_ERRORS = (OSError, duckdb.IOException, duckdb.FatalException, sqlite3.OperationalError)


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
def drafting(home: Path, project_id: str | None = None, memory_mb: int = MEMORY_MB,
             **settings: str) -> Iterator[Draft]:
    """Write the next generation: a copy of the one in force, published whole when the block ends well.

    ``memory_mb``: what DuckDB may hold in memory; more goes to disk. ``settings`` (``timezone``, ``id_merge``,
    ``event_times``) take the place of the project's. One loader at a time: a second one waits. On an error nothing of
    the block remains.
    """
    with _disk_errors_told(home), locking(home / "loader.lock"):
        for folder in ("warehouse", "events"):
            (home / folder).mkdir(mode=0o700, exist_ok=True)
        base = ledger.generation(home)
        _sweep(home, base)
        number = 1 + max([base, *warehouse.generations_on_disk(home)])
        (home / "stage").mkdir(mode=0o700, exist_ok=True)
        con = engine()
        try:
            _copy_base(home, con, number, base)
            con.execute(f"set memory_limit = '{min(memory_mb, MEMORY_MB, _half_of_memory_mb())} MB'")
            draft = Draft(con, number, home, required_project(home, project_id) | settings)
            yield draft
            if not draft.unchanged:
                _publish(draft, base)
        finally:
            con.close()
            with suppress(*DISK_ERRORS, StoreError):  # what is left is the next load's
                _sweep(home, ledger.generation(home))


@contextmanager
def _disk_errors_told(home: Path) -> Iterator[None]:
    """One message for whatever a disk that takes no more brings up."""
    try:
        yield
    except (*DISK_ERRORS, duckdb.TransactionException) as error:
        if isinstance(error, duckdb.TransactionException) and "Could not write file" not in str(error):
            raise
        raise StoreError(f"The load could not be written ({str(error).splitlines()[0]}). Nothing of it remains; what "
                         f"was loaded before stands. Look whether the disk of {home} is full or read-only, then load "
                         "again.") from error


def _copy_base(home: Path, con: duckdb.DuckDBPyConnection, number: int, base: int) -> None:
    """Begin with the bytes of the generation in force; nobody writes to those any more, so they may be copied."""
    path = generation_path(home, number)
    if base:
        shutil.copyfile(generation_path(home, base), path)
    con.execute(f"attach {quoted(path)} as generation")
    path.chmod(0o600)
    if not base:
        warehouse.create_schema(con)
    con.execute(f"set temp_directory = {quoted(home / 'stage')}")
    con.execute(f"set partitioned_write_flush_threshold = {ROWS_HELD}")
    con.execute("set parquet_metadata_cache = true")


def _half_of_memory_mb() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // (2 << 20)


@contextmanager
def proofreading(draft: Draft) -> Iterator[duckdb.DuckDBPyConnection]:
    """A read-only connection to what a draft holds so far, as ``reading``; the draft is let go of meanwhile."""
    draft.con.execute("checkpoint generation")
    draft.con.execute("detach generation")
    path = quoted(generation_path(draft.home, draft.number))
    con = engine()
    try:
        con.execute(f"attach {path} as generation (read_only)")
        warehouse.view_tables(draft.home, con)
        yield con
    finally:
        con.close()
        draft.con.execute(f"attach {path} as generation")


def rewrite(draft: Draft) -> None:
    """Copy a draft into a file of its own: what was deleted stays readable in the free blocks of the old one."""
    con, path = draft.con, generation_path(draft.home, draft.number)
    fresh = path.with_suffix(".rewritten")
    con.execute("checkpoint generation")
    con.execute("detach generation")
    con.execute(f"attach {quoted(path)} as former (read_only)")
    con.execute(f"attach {quoted(fresh)} as fresh")
    con.execute("copy from database former to fresh")
    con.execute("detach former")
    con.execute("detach fresh")
    fresh.chmod(0o600)
    fresh.replace(path)
    con.execute(f"attach {quoted(path)} as generation")


def _publish(draft: Draft, base: int) -> None:
    home, con, number = draft.home, draft.con, draft.number
    con.execute("delete from generation.published")
    con.execute("insert into generation.published values (?, ?)", [number, datetime.now(UTC).replace(tzinfo=None)])
    con.execute("checkpoint generation")
    paths = event_paths(home, con)
    con.execute("detach generation")
    lock_path(home, number).touch(mode=0o600)  # so that readers need no room on the disk
    new = [path for path in paths if path.name.startswith(f"{number:06d}")]
    to_disk(generation_path(home, number), *new, *{path.parent for path in new}, home / "events", home / "warehouse",
            home)
    if not ledger.publish_generation(home, number, base, draft.project, ledger.fingerprint(sql("schema"))):
        raise StoreError(f"Another load was published over generation {base} meanwhile. Run this load again.")


def sweep(home: Path) -> None:
    """Delete what nobody reads any more; left to the load at work where there is one."""
    with suppress(*DISK_ERRORS, StoreError), locking(home / "loader.lock", AT_ONCE) as free:
        if free:
            _sweep(home, ledger.generation(home))


def _sweep(home: Path, in_force: int) -> None:
    """Delete the generations nobody reads, then every event file that no surviving one lists."""
    for number in warehouse.generations_on_disk(home) - {in_force}:
        _delete_unread(home, number)
    for path in (home / "stage").glob("*"):
        _delete(path)
    with suppress(duckdb.Error):  # a generation that cannot be read may list any of them
        listed = warehouse.listed_files(home, *warehouse.generations_on_disk(home))
        for path in (home / "events").glob("day=*/*.parquet"):
            if str(path.relative_to(home)) not in listed:
                path.unlink()


def _delete_unread(home: Path, number: int) -> None:
    """Its log goes before the file: found beside another file of that number, it would be played into that."""
    path, lock = generation_path(home, number), lock_path(home, number)
    with locking(lock, AT_ONCE) as free:
        if free:
            for beside in path.parent.glob(f"{path.stem}.*"):
                if beside not in (path, lock):
                    _delete(beside)
            path.unlink(missing_ok=True)
            lock.unlink()


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
