"""A workspace of an older release brought to the present formats, after a backup of it.

**How to change a format.** The state's: write the table, or the column with its default, into ``sql/state.sql``. The
warehouse's: write it into ``sql/schema.sql``; where null will not do for what was loaded before, say in ``FILLED`` how
a new table is filled, and in ``FORMER`` how a column was called before. That is all: whatever a file lacks of what the
two say is added when the workspace is opened.
Raise ``ledger.VERSION`` with the first change after a release, and add that release's workspace to ``tests/released``.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from cohortsync import backup, events, identity, ledger, load, warehouse
from cohortsync.disk import locking
from cohortsync.drafts import Draft, drafting
from cohortsync.errors import StoreError
from cohortsync.sources import Progress, silent
from cohortsync.warehouse import create_schema, event_source, quoted, sql

FILLED = {"cohort_sizes": "select project_id, cohort, load_id, any_value(loaded_at), count(*) "
                          "from generation.cohort_snapshots group by project_id, cohort, load_id"}
FORMER = {"digest": "sha256"}  # columns that had another name
GATHERED = {"event_files", "superseded", "lags", "device_links", "identity_verbs", "rekeys"}  # from each event once
DERIVED = {"identities", "months", "activity", "user_months", "month_versions", "month_users", "month_events", "clocks"}


def bring_up_to_date(home: Path, progress: Progress = silent) -> Path | None:
    """Bring an older workspace to the present formats; answers the folder of its backup, None if it was up to date.

    What is interrupted goes on the next time. Raises StoreError for a workspace of a newer release, and for an older
    one that cannot be written to.
    """
    if _is_up_to_date(home):
        return None
    if not os.access(home, os.W_OK):
        raise StoreError(f"The workspace {home} is of an older release and cannot be written to, so it cannot be "
                         "brought up to date. Copy it to a folder of yours.")
    with locking(home / "migration.lock"):
        if _is_up_to_date(home):  # another process did it
            return None
        progress("Bringing the workspace up to date", 0, 1)
        kept = home / "backups" / f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
        with locking(home / "loader.lock"):
            backup.snapshot(home, kept)
            _migrate_state(home)
        _migrate_warehouse(home, progress)
    return kept


def _is_up_to_date(home: Path) -> bool:
    """Whether nothing is to be done, as where nothing is."""
    if not (home / "state.sqlite").exists():
        return True
    with ledger.state_file(home) as con:
        if not _tables(con):
            return True
        found = dict(con.execute("select * from workspace").fetchone())
        made_by = con.execute("pragma user_version").fetchone()[0]
    if found["version"] > ledger.VERSION:
        raise StoreError(f"The workspace {home} was made by a newer cohortsync (its format is {found['version']}, this "
                         f"one reads up to {ledger.VERSION}). Update cohortsync.")
    return made_by == ledger.fingerprint(ledger.SCHEMA) and (
        not found["generation"] or found["format"] == ledger.fingerprint(sql("schema")))


# the state

def _tables(con: sqlite3.Connection) -> dict[str, str]:
    """The text of each table of a state file."""
    return dict(tuple(row) for row in con.execute(
        "select name, sql from sqlite_master where type = 'table' and name not like 'sqlite_%'"))


def _migrate_state(home: Path) -> None:
    """Make every table what ``sql/state.sql`` says, all or none; rows stay, with the defaults of what they lack."""
    with closing(sqlite3.connect(":memory:")) as present:
        present.executescript(ledger.SCHEMA)
        wanted = _tables(present)
    with ledger.state_file(home) as con:
        for pragma in ("foreign_keys = off", "legacy_alter_table = on"):  # others go on referring to it by its name
            con.execute(f"pragma {pragma}")
        with ledger.transaction(con):
            for table, text in _tables(con).items():
                if wanted.get(table, text) != text:
                    _write_anew(con, table, wanted[table])
            for statement in ledger.SCHEMA.split(";"):
                con.execute(statement)
            con.execute("update workspace set version = ?", (ledger.VERSION,))
            con.execute(f"pragma user_version = {ledger.fingerprint(ledger.SCHEMA)}")


def _write_anew(con: sqlite3.Connection, table: str, text: str) -> None:
    con.execute(f"alter table {table} rename to former_{table}")
    con.execute(text)
    known = {row["name"] for row in con.execute(f"pragma table_info(former_{table})")}
    shared = ", ".join(row["name"] for row in con.execute(f"pragma table_info({table})") if row["name"] in known)
    con.execute(f"insert into {table} ({shared}) select {shared} from former_{table}")
    con.execute(f"drop table former_{table}")


# the warehouse

def _migrate_warehouse(home: Path, progress: Progress) -> None:
    """Publish the generation in force as one of the present schema; readers of the old one go on reading that."""
    projects = ledger.projects(home)
    if not ledger.generation(home):
        return
    with drafting(home, projects[0]["project_id"]) as draft:
        paths = warehouse.event_paths(home, draft.con)
        changed = _conform(draft.con, projects[0]["project_id"])
        for macros in ("macros", "records"):
            draft.con.execute(sql(macros))
        anew = changed & {"no_events", *GATHERED}
        if anew:
            _gather_anew(draft, projects, paths, progress)
        for project in projects if anew or changed & DERIVED else []:
            draft.project = project
            load.reckon(draft, progress)


def _conform(con: duckdb.DuckDBPyConnection, project_id: str) -> set[str]:
    """Give every table of the draft the columns that ``schema.sql`` says; answers those that had others or were not.

    Rows stay, with null for what they lack; what knew no project is the first one's.
    """
    con.execute("attach ':memory:' as wanted")
    create_schema(con, "wanted")
    have, wanted = _columns(con, "generation"), _columns(con, "wanted")
    changed = {table for table, columns in wanted.items() if columns != have.get(table)}
    for table in changed:
        if table in have and table not in DERIVED:
            lacking = {"project_id": quoted(project_id), **FORMER}
            columns = ", ".join(f"{name if name in have[table] else lacking.get(name, 'null')}::{kind} as {name}"
                                for name, kind in wanted[table].items())
            con.execute(f"create or replace table generation.{table} as select {columns} from generation.{table}")
        else:
            con.execute(f"create or replace table generation.{table} as from wanted.{table}")
    for table in changed & FILLED.keys() - have.keys():
        con.execute(f"insert into generation.{table} {FILLED[table]}")
    con.execute("detach wanted")
    return changed


def _columns(con: duckdb.DuckDBPyConnection, database: str) -> dict[str, dict[str, str]]:
    """The columns of each table, in their order, with their types."""
    found: dict[str, dict[str, str]] = {}
    for table, column, kind in con.execute("""select table_name, column_name, data_type from duckdb_columns()
            where database_name = ? order by table_name, column_index""", [database]).fetchall():
        found.setdefault(table, {})[column] = kind
    return found


def _gather_anew(draft: Draft, projects: list[dict[str, Any]], paths: list[Path], watch: Progress) -> None:
    """Write all events anew as a load would today, each with its place in its file, and gather what follows from each.

    What ``properties`` hold is all that was ever sent.
    """
    con = draft.con
    con.execute(f"""create temp view former as
        select event, properties, project_id,
               (load_id::bigint << 32) | file_no as file_no, line from {events.live(event_source(paths))}""")
    written = {project["project_id"]: _write_events(draft, project["project_id"], f"m{number}", watch)
               for number, project in enumerate(projects)}
    for table in GATHERED:
        con.execute(f"delete from generation.{table}")
    for project_id, new in written.items():
        con.execute(f"create or replace temp view staged as from {event_source(new)}")
        identity.refresh_evidence(con)
        events.add_files(con, project_id, new)
        events.note_lags(con, project_id)


def _write_events(draft: Draft, project_id: str, mark: str, watch: Progress) -> list[Path]:
    """The project's events of the view ``former``, by day; a row's load travels in its file's number."""
    draft.con.execute("set variable project_id = ?", [project_id])
    draft.con.execute("set variable load_id = 0")
    draft.con.execute(f"create or replace temp view lines as from former where project_id = {quoted(project_id)}")
    rows = f"""select * replace ((file_no >> 32)::integer as load_id, (file_no & {0xffffffff})::integer as file_no)
        from ({sql("stage_events")})"""
    return events.write_days(draft, rows, mark, watch, "Writing events by day")
