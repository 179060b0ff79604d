"""What happened and what stands: the workspace's SQLite file ``state.sqlite``.

Holds the generation in force, the project, connections (no secrets), segments, runs, batches and
refusals. Many small transactions from several processes; addresses only as hashes.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cohortsync.errors import StoreError

DISK_ERRORS = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN}
# A new table or column is written into state.sql, a column with its default, and that is all: a file made before is
# brought to what it says when its workspace is opened, see ``migration``. VERSION rises once a release.
VERSION = 4
SCHEMA = (Path(__file__).parent / "sql" / "state.sql").read_text(encoding="utf-8")


def fingerprint(text: str) -> int:
    """A number that is another one when the text is: what a file was made by is told by it."""
    return zlib.crc32(text.encode()) >> 1  # as many bits as SQLite keeps of it


def now() -> str:
    """This instant, as it is kept: ISO, UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def new_run_id() -> str:
    """A new id of a run; runs sort by it as they began."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


@contextmanager
def state(home: Path) -> Iterator[sqlite3.Connection]:
    """The open state file, made on first use; rows answer by column name. On a read-only disk it can be read."""
    with state_file(home) as con:
        if not con.execute("select 1 from sqlite_master where name = 'workspace'").fetchone():
            _create(con)
        _same_version(con)
        yield con


@contextmanager
def state_file(home: Path) -> Iterator[sqlite3.Connection]:
    """The state file as it is, of whatever version, or empty."""
    con = None
    try:
        con = _opened(home / "state.sqlite")
        con.row_factory = sqlite3.Row
        for pragma in ("journal_mode=wal", "synchronous=full", "foreign_keys=on"):
            con.execute(f"pragma {pragma}")
        yield con
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF not in DISK_ERRORS:
            raise
        raise StoreError(f"The state of the workspace {home} could not be opened or written ({error}). Look whether "
                         "its disk is full or read-only.") from error
    finally:
        if con:
            con.close()


def _opened(path: Path) -> sqlite3.Connection:
    """SQLite's own files beside it cannot be made on a read-only disk; without a log there is nothing to miss."""
    if os.access(path.parent, os.W_OK):
        path.touch(mode=0o600)
        return sqlite3.connect(path, timeout=30, isolation_level=None)
    alone = "" if path.with_name(f"{path.name}-wal").exists() else "&immutable=1"
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro{alone}", timeout=30, isolation_level=None, uri=True)


def _create(con: sqlite3.Connection) -> None:
    with transaction(con):
        for statement in SCHEMA.split(";"):
            con.execute(statement)
        con.execute("insert into workspace (version, generation, salt) select ?, 0, ? "
                    "where not exists (select 1 from workspace)", (VERSION, secrets.token_hex(16)))
        con.execute(f"pragma user_version = {fingerprint(SCHEMA)}")


def _same_version(con: sqlite3.Connection) -> None:
    version = con.execute("select version from workspace").fetchone()["version"]
    if version != VERSION:
        raise StoreError(f"The workspace's format is {version}, and this cohortsync reads {VERSION}. A newer one needs "
                         "a newer cohortsync; an older one is brought up to date when it is opened.")


@contextmanager
def transaction(con: sqlite3.Connection, kind: str = "immediate") -> Iterator[None]:
    """Everything inside or nothing; waits for other writers instead of failing (``deferred``: only reads)."""
    con.execute(f"begin {kind}")
    try:
        yield
    except BaseException:
        if con.in_transaction:  # a full disk has ended it already
            con.execute("rollback")
        raise
    con.execute("commit")


def _one(home: Path, query: str, values: tuple[Any, ...] = ()) -> dict[str, Any] | None:
    with state(home) as con:
        row = con.execute(query, values).fetchone()
    return dict(row) if row else None


def _all(home: Path, query: str, values: tuple[Any, ...] = ()) -> list[dict[str, Any]]:
    with state(home) as con:
        return [dict(row) for row in con.execute(query, values)]


def _put(home: Path, table: str, row: Mapping[str, Any]) -> None:
    columns, marks = ", ".join(row), ", ".join("?" * len(row))
    with state(home) as con:
        con.execute(f"insert or replace into {table} ({columns}) values ({marks})", tuple(row.values()))


def generation(home: Path) -> int:
    """The number of the warehouse generation in force; 0 before the first load."""
    return _one(home, "select generation from workspace")["generation"]  # type: ignore[index]


def in_force(home: Path) -> tuple[int, list[dict[str, Any]]]:
    """The generation in force and the ``projects`` it was reckoned by, as of one instant."""
    with state(home) as con, transaction(con, "deferred"):
        number = con.execute("select generation from workspace").fetchone()["generation"]
        return number, [dict(row) for row in con.execute("select * from projects order by project_id")]


def publish_generation(home: Path, new: int, base: int, settings: Mapping[str, str], form: int) -> bool:
    """Put a generation in force if ``base`` still is, with the project's settings it was reckoned by.

    One commit, so readers see old or new. ``settings``: ``project_id, timezone, id_merge, event_times``; ``form``:
    the fingerprint of its schema.
    """
    with state(home) as con, transaction(con):
        done = con.execute("update workspace set generation = ?, format = ? where generation = ?",
                           (new, form, base)).rowcount == 1
        if done:
            con.execute("update projects set timezone = :timezone, id_merge = :id_merge, event_times = :event_times "
                        "where project_id = :project_id", dict(settings))
    return done


def projects(home: Path) -> list[dict[str, Any]]:
    """``project_id, timezone, id_merge, event_times`` (auto, utc or local) of each project, by id."""
    return _all(home, "select * from projects order by project_id")


def record_project(home: Path, row: Mapping[str, str]) -> None:
    """Write or rewrite a project's settings; it stays as old as it is."""
    with state(home) as con:
        con.execute("insert into projects values (:project_id, :timezone, :id_merge, :event_times, :now, null) "
                    "on conflict do update set timezone = excluded.timezone, id_merge = excluded.id_merge, "
                    "event_times = excluded.event_times", {**row, "now": now()})


def connection(home: Path, kind: str = "mailchimp", project_id: str = "") -> dict[str, Any] | None:
    """The connection of a kind; Mixpanel's is one of each project, Mailchimp's one of the workspace."""
    return _one(home, "select * from connections where kind = ? and project_id = ?", (kind, project_id))


def connections(home: Path) -> list[dict[str, Any]]:
    """Every connection, Mixpanel's first."""
    return _all(home, "select * from connections order by kind desc, project_id")


def record_connection(home: Path, row: Mapping[str, Any]) -> None:
    """Put a connection in its place, checked now."""
    _put(home, "connections", {"project_id": "", **row, "checked_at": now()})


def record_connection_status(home: Path, status: str, reason: str = "", kind: str = "mailchimp",
                             project_id: str = "") -> None:
    """Say how a connection stands, looked at just now."""
    with state(home) as con:
        con.execute("update connections set status = ?, reason = ?, checked_at = ? where kind = ? and project_id = ?",
                    (status, reason, now(), kind, project_id))


def segment(home: Path, account_id: str, audience_id: str, project_id: str, cohort: str) -> dict[str, Any] | None:
    """The segment kept for a cohort; ``segment_id`` is None while its making is unanswered."""
    return _one(home, "select * from segments where account_id = ? and audience_id = ? and project_id = ? "
                      "and cohort = ?", (account_id, audience_id, project_id, cohort))


def segments(home: Path, audience_id: str) -> list[dict[str, Any]]:
    """The segments that are kept for cohorts in an audience, by cohort."""
    return _all(home, "select * from segments where audience_id = ? order by project_id, cohort", (audience_id,))


def record_segment(home: Path, row: Mapping[str, Any]) -> None:
    """Keep the id of a cohort's segment in an audience."""
    _put(home, "segments", {"created_at": now(), **row})


def segments_of_others(home: Path, account_id: str, audience_id: str, project_id: str, cohort: str) -> set[int]:
    """The segments of an audience that are kept for other cohorts, of this project or another."""
    rows = _all(home, "select segment_id from segments where account_id = ? and audience_id = ? "
                      "and (project_id, cohort) <> (?, ?)", (account_id, audience_id, project_id, cohort))
    return {row["segment_id"] for row in rows if row["segment_id"] is not None}


def forget_segment(home: Path, account_id: str, audience_id: str, project_id: str, cohort: str) -> None:
    """Take back that a segment was about to be made: it was not."""
    with state(home) as con:
        con.execute("delete from segments where account_id = ? and audience_id = ? and project_id = ? and cohort = ? "
                    "and segment_id is null", (account_id, audience_id, project_id, cohort))


def record_run(home: Path, row: Mapping[str, Any]) -> None:
    """Write or rewrite one run; ``receipt`` is a dict."""
    _put(home, "runs", {**row, "receipt": json.dumps(row["receipt"])})


def runs(home: Path) -> list[dict[str, Any]]:
    """Every run, the latest first, with its receipt as a dict."""
    rows = _all(home, "select * from runs order by started_at desc, run_id desc")
    return [{**row, "receipt": json.loads(row["receipt"])} for row in rows]


def run(home: Path, run_id: str) -> dict[str, Any] | None:
    """One run with its receipt as a dict; None when there is none of that id."""
    row = _one(home, "select * from runs where run_id = ?", (run_id,))
    return {**row, "receipt": json.loads(row["receipt"])} if row else None


def runs_cut_short(home: Path, account_id: str) -> list[dict[str, Any]]:
    """The runs of an account that were left open, the oldest first; look only while holding its lease."""
    rows = _all(home, "select * from runs where status = 'applying' and account_id = ? order by started_at",
                (account_id,))
    return [{**row, "receipt": json.loads(row["receipt"])} for row in rows]


def last_unanswered(home: Path, run_id: str) -> str | None:
    """When a run last sent what was never answered."""
    row = _one(home, "select max(sent_at) as at from batches where run_id = ? and answered_at is null", (run_id,))
    return row["at"] if row else None


def record_read_back(home: Path, run_id: str) -> None:
    """Note that what a run sent without an answer was waited out and is now read back."""
    with state(home) as con:
        con.execute("update batches set answered_at = ?, outcome = 'read back' where run_id = ? "
                    "and answered_at is null", (now(), run_id))


def chunks_sent(home: Path, run_id: str) -> list[str]:
    """The kind of each chunk that a run has sent, in their order."""
    return [row["kind"] for row in _all(home, "select kind from batches where run_id = ? order by number", (run_id,))]


def record_sent(home: Path, run_id: str, number: int, kind: str, people: int) -> None:
    """Note a chunk before it leaves."""
    _put(home, "batches", {"run_id": run_id, "number": number, "kind": kind, "people": people,
                           "sent_at": now(), "outcome": "unanswered"})


def record_answered(home: Path, run_id: str, number: int, outcome: str) -> None:
    """Note that a request was answered, and how."""
    with state(home) as con:
        con.execute("update batches set answered_at = ?, outcome = ? where run_id = ? and number = ?",
                    (now(), outcome, run_id, number))


def record_rejects(home: Path, account_id: str, audience_id: str, reasons: Mapping[str, str], days: int) -> None:
    """Remember Mailchimp's refusals of people, by hash, until they expire."""
    expires_at = (datetime.now(UTC) + timedelta(days=days)).isoformat(timespec="seconds")
    with state(home) as con, transaction(con):
        con.executemany("insert or replace into rejects values (?, ?, ?, ?, ?)",
                        [(account_id, audience_id, key, reason, expires_at) for key, reason in reasons.items()])


def rejects(home: Path, account_id: str, audience_id: str) -> dict[str, str]:
    """Unexpired refusals: member hash → reason."""
    rows = _all(home, "select member_hash, reason from rejects where account_id = ? and audience_id = ? "
                      "and expires_at > ?", (account_id, audience_id, now()))
    return {row["member_hash"]: row["reason"] for row in rows}


def record_backup(home: Path, path: Path, made_at: str) -> None:
    """Note where a backup was written, for whoever must be erased from it."""
    _put(home, "backups", {"path": str(path.absolute()), "made_at": made_at})


def backups(home: Path) -> list[Path]:
    """The backups that were written and are still where they were."""
    return [Path(row["path"]) for row in _all(home, "select path from backups order by path")
            if Path(row["path"]).exists()]


def record_forgotten(home: Path, keys: Iterable[str]) -> None:
    """Note people who are never to be exported again, by keys as of ``forgotten_among``; of each a salted hash."""
    with state(home) as con, transaction(con):
        salt = con.execute("select salt from workspace").fetchone()["salt"]
        con.executemany("insert or ignore into forgotten values (?, ?)", [(_salted(salt, key), now()) for key in keys])


def forgotten_among(home: Path, keys: Iterable[str]) -> set[str]:
    """Which of these keys are those of people who were forgotten here: ``member_hash``, or ``project_id|id``."""
    with state(home) as con:
        stored = {row["person_hash"] for row in con.execute("select person_hash from forgotten")}
        salt = con.execute("select salt from workspace").fetchone()["salt"]
    return {key for key in keys if _salted(salt, key) in stored} if stored else set()


def _salted(salt: str, key: str) -> str:
    return hashlib.sha256(f"{salt}|{key}".encode()).hexdigest()


def name_cohort(home: Path, project_id: str, cohort_id: str, name: str) -> str:
    """The name a Mixpanel cohort goes by here: its first one, told apart by its id where another has it.

    It stays when the cohort is renamed in Mixpanel, so that its snapshots and its segment do.
    """
    with state(home) as con, transaction(con):
        known = con.execute("select cohort from mixpanel_cohorts where project_id = ? and cohort_id = ?",
                            (project_id, cohort_id)).fetchone()
        if known:
            cohort = str(known["cohort"])
            con.execute("update mixpanel_cohorts set name = ?, checked_at = ? where project_id = ? and cohort_id = ?",
                        (name, now(), project_id, cohort_id))
        else:
            taken = con.execute("select 1 from mixpanel_cohorts where project_id = ? and cohort = ?",
                                (project_id, name)).fetchone()
            cohort = f"{name} ({cohort_id})" if taken else name
            con.execute("insert into mixpanel_cohorts values (?, ?, ?, ?, null, null, null, ?)",
                        (project_id, cohort_id, cohort, name, now()))
    return cohort


def mixpanel_cohorts(home: Path, project_id: str) -> dict[str, str]:
    """The name here of each cohort of Mixpanel's that was ever pulled or sent, by its id."""
    rows = _all(home, "select cohort_id, cohort from mixpanel_cohorts where project_id = ?", (project_id,))
    return {row["cohort_id"]: row["cohort"] for row in rows}


def record_assumed_admin(home: Path, project_id: str) -> None:
    """Note that someone vouched for being an admin of the project; the first time stays."""
    with state(home) as con:
        con.execute("update projects set admin_assumed_at = coalesce(admin_assumed_at, ?) where project_id = ?",
                    (now(), project_id))


def pulled_days(home: Path, project_id: str) -> list[dict[str, Any]]:
    """``day, path, events, pulled_at, loaded`` of each day that was pulled; ``pulled_at`` by Mixpanel's clock."""
    return _all(home, "select * from pulled_days where project_id = ? order by day", (project_id,))


def record_pulled_days(home: Path, project_id: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Note days whose raw files are on disk; all or none."""
    with state(home) as con, transaction(con):
        con.executemany("insert or replace into pulled_days values (:project_id, :day, :path, :events, :pulled_at, "
                        "0)", [{"project_id": project_id, **row} for row in rows])


def record_loaded(home: Path, project_id: str, days: Iterable[str], cohorts: Iterable[Mapping[str, Any]]) -> None:
    """Note what a pull has put in force. ``cohorts``: ``cohort_id, announced, members, with_profile`` of each."""
    with state(home) as con, transaction(con):
        con.executemany("update pulled_days set loaded = 1 where project_id = ? and day = ?",
                        [(project_id, day) for day in days])
        con.executemany("update mixpanel_cohorts set announced = :announced, members = :members, "
                        "with_profile = :with_profile where project_id = :project_id and cohort_id = :cohort_id",
                        [{**row, "project_id": project_id} for row in cohorts])


def record_pull(home: Path, row: Mapping[str, Any]) -> None:
    """Write a pull that ended; ``receipt`` is a dict."""
    _put(home, "pulls", {**row, "receipt": json.dumps(row["receipt"])})


def pulls(home: Path, project_id: str) -> list[dict[str, Any]]:
    """Every pull of a project that ended, the latest first, with its receipt as a dict."""
    rows = _all(home, "select * from pulls where project_id = ? order by started_at desc", (project_id,))
    return [{**row, "receipt": json.loads(row["receipt"])} for row in rows]
