"""Cohorts that Mixpanel sends: each page kept before it is answered, each session loaded as one whole.

The last results of a cohort are kept beside its pages: a change is meant for the last one that Mixpanel knows to have
arrived, which need not be the last one that did.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from cohortsync import access, cohorts, ledger, webhook
from cohortsync.config import Settings, private_folder
from cohortsync.disk import locking, to_disk
from cohortsync.load import Pulled, load
from cohortsync.warehouse import lent, one_file, quoted
from cohortsync.webhook import ADDED, APPLIED, LATER, MEMBERS, REMOVED, STALE, UNKNOWN, Page, Refused, Session

PERSON = pa.schema([("distinct_id", pa.string()), ("email", pa.string()), ("first_name", pa.string()),
                    ("last_name", pa.string())])
SESSION = "(project_id, cohort_id, session_id) = (:project_id, :cohort_id, :session_id)"
COHORT = "(project_id, cohort_id) = (:project_id, :cohort_id)"


def receive(home: Path, page: Page) -> None:
    """Keep a page; when its session is whole, or half of a sync is, load it.

    Returning stands for ``success``: the page is on disk, and its session loaded if it was the last one. Raises
    Refused, and StoreError when the session could not be loaded; the same page again then tries again.
    """
    if page.project_id not in {row["project_id"] for row in ledger.projects(home)}:
        raise Refused(f"Project {page.project_id} is none of this receiver's.", UNKNOWN)
    folder = private_folder(home / "webhook" / page.project_id / page.cohort_id)
    with locking(folder / ".lock"):
        inbox = _Inbox(home, folder, page)
        if inbox.keep():
            inbox.apply()


def answered(home: Path, page: Page) -> None:
    """Note that Mixpanel was told of the page's success, and so of its session's where that is loaded."""
    with ledger.state(home) as con:
        con.execute(f"update webhook_sessions set answered_at = :now where {SESSION} and applied_at is not null",
                    {**_key(page), "now": ledger.now()})


def _key(page: Page) -> dict[str, str]:
    return {"project_id": page.project_id, "cohort_id": page.cohort_id, "session_id": page.session_id}


class _Inbox:
    """What is there of one cohort, and a page that came for it."""

    def __init__(self, home: Path, folder: Path, page: Page) -> None:
        self.home, self.folder, self.page, self.key = home, folder, page, _key(page)
        self._look()

    def _look(self) -> None:
        with ledger.state(self.home) as con:
            rows = con.execute(f"select * from webhook_sessions where {COHORT} order by number", self.key).fetchall()
            pages = con.execute(f"""select session_id, action, count(*) as came, max(total) as total
                from webhook_pages where {COHORT} group by session_id, action""", self.key).fetchall()
            numbers = dict(tuple(row) for row in con.execute(f"""select session_id, count(distinct page)
                from webhook_pages where {COHORT} group by session_id""", self.key))
        self.sessions = [Session(row["session_id"], {one["action"]: (one["came"], one["total"]) for one in pages
                                                     if one["session_id"] == row["session_id"]},
                                 numbers.get(row["session_id"], 0), row["status"], bool(row["answered_at"]))
                         for row in rows]
        self.results = {row["session_id"]: self.folder / row["result"] for row in rows if row["result"]}
        self.loaded = {row["session_id"]: row["pages"] for row in rows}

    @property
    def session(self) -> Session | None:
        """The page's session, if anything of it came before."""
        return next((one for one in self.sessions if one.session_id == self.page.session_id), None)

    @property
    def earlier(self) -> list[Session]:
        return [one for one in self.sessions if one.session_id != self.page.session_id]

    # keeping

    def keep(self) -> bool:
        """Keep the page if it is new; answers whether its session is the one to look at.

        Raises Refused for a page of a session that a later one has overtaken, and for a change of nothing known.
        """
        if self.session and self.session is not self.sessions[-1]:
            if self.session.status == APPLIED:
                return False
            raise Refused("A later session of this cohort has begun; this one was dropped.", LATER)
        if not self._is_known():
            self._refuse_baseless()
            self._store()
            self._look()
        return True

    def _is_known(self) -> bool:
        with ledger.state(self.home) as con:
            return con.execute(f"""select 1 from webhook_pages where {SESSION} and (action, page, total) =
                                   (:action, :page, :total)""", self._page_key).fetchone() is not None

    @property
    def _page_key(self) -> dict[str, str | int]:
        return {**self.key, "action": self.page.action, "page": self.page.number, "total": self.page.total}

    def _refuse_baseless(self) -> None:
        """Refuse a change of a cohort of which nothing is known."""
        done = [one for one in self.earlier if one.session_id in self.results]
        if self.page.action != MEMBERS and not done and not Settings().webhook_begin_empty:
            raise self._refused("Nothing of this cohort was received before, so a change of it cannot be applied.")

    def _refused(self, message: str) -> Refused:
        reason = (f"{message} Mixpanel sends all of the cohort when its last good sync is three days old, or at once "
                  "when the sync is set up anew.")
        _note_connection(self.home, self.page.project_id, access.ATTENTION, reason)
        return Refused(reason, LATER)

    def _store(self) -> None:
        """Put the page on disk, then into the ledger; unfinished sessions before it end."""
        path = self.folder / f"{secrets.token_hex(8)}.page.parquet"
        columns = zip(*self.page.members, strict=True) if self.page.members else [[] for _ in PERSON]
        _write(pa.table(dict(zip(PERSON.names, map(list, columns), strict=True)), PERSON), path)
        with ledger.state(self.home) as con, ledger.transaction(con):
            con.execute(f"""insert into webhook_sessions (project_id, cohort_id, session_id, number, status, started_at)
                select :project_id, :cohort_id, :session_id, 1 + coalesce(max(number), 0), '{webhook.RECEIVING}', :now
                from webhook_sessions where {COHORT} on conflict do nothing""", {**self.key, "now": ledger.now()})
            con.execute(f"""update webhook_sessions set status = '{STALE}' where {COHORT}
                and status = '{webhook.RECEIVING}' and session_id <> :session_id""", self.key)
            con.execute(f"""delete from webhook_pages where {SESSION} and action = :action and total <> :total""",
                        self._page_key)
            con.execute("""insert into webhook_pages values (:project_id, :cohort_id, :session_id, :action, :page,
                :total, :path, :now)""", {**self._page_key, "path": path.name, "now": ledger.now()})

    # loading

    def apply(self) -> None:
        """Load the session if enough of it is there that was not loaded yet."""
        session = self.session
        if session is None or not session.complete:
            return
        pages = self._pages(session)
        if self.loaded[session.session_id] == sum(map(len, pages.values())):
            return
        result = self.folder / f"{secrets.token_hex(8)}.members.parquet"
        with lent() as con:
            for action, paths in pages.items():
                con.execute(f"create temp table {action} as from {_read(paths)}")
            base = self._write_result(con, session, result)
            profiles = self._write_profiles(con, [action for action in pages if action != REMOVED])
        cohort = self._load(result, profiles)
        self._record(session, webhook.standing(session, base), result, sum(map(len, pages.values())))
        self._sweep()
        _note_connection(self.home, self.page.project_id, access.CONNECTED, f"Last received: {cohort}.")

    def _pages(self, session: Session) -> dict[str, list[Path]]:
        """The files of the actions that are complete."""
        found: dict[str, list[Path]] = {action: [] for action in session.complete}
        with ledger.state(self.home) as con:
            for row in con.execute(f"select * from webhook_pages where {SESSION} order by action, page", self.key):
                if row["action"] in found:
                    found[row["action"]].append(self.folder / row["path"])
        return found

    def _write_result(self, con: duckdb.DuckDBPyConnection, session: Session, result: Path) -> Session | None:
        """Write who is in the cohort after the session; answers the session before that it stands on."""
        if MEMBERS in session.complete:
            _copy(con, f"select distinct distinct_id from {MEMBERS}", result)
            return None
        for action in (ADDED, REMOVED):
            con.execute(f"create temp table if not exists {action} (distinct_id varchar)")
        possible: Sequence[Session | None] = webhook.bases(session, self.earlier)
        for base in possible or [None]:
            con.execute(f"create or replace temp table base as from {self._members_after(base)}")
            if not con.execute(f"""select 1 from {ADDED} semi join base using (distinct_id)
                    union all select 1 from {REMOVED} anti join base using (distinct_id) limit 1""").fetchall():
                _copy(con, f"from base anti join {REMOVED} using (distinct_id) "
                           f"union select distinct_id from {ADDED}", result)
                return base
        raise self._refused("The change adds people who are in the cohort, or removes people who are not.")

    def _members_after(self, base: Session | None) -> str:
        return _read([self.results[base.session_id]]) if base else "(select '' as distinct_id where false)"

    def _write_profiles(self, con: duckdb.DuckDBPyConnection, actions: Sequence[str]) -> Path | None:
        """A file of profiles of those whose address came along; None where none did."""
        if not actions:
            return None
        path = self.folder / f"{secrets.token_hex(8)}.profiles.parquet"
        people = " union all ".join(f"from {action}" for action in actions)
        _copy(con, f"""select distinct_id as "$distinct_id", struct_pack("$email" := email, "$first_name" := first_name,
            "$last_name" := last_name) as "$properties" from ({people}) where email is not null""", path)
        return path if pq.read_metadata(path).num_rows else None

    def _load(self, result: Path, profiles: Path | None) -> str:
        """Load what the session left, or nothing where it changed nothing; answers the cohort's name here."""
        cohort = cohorts.known_as(self.home, self.page.project_id, self.page.cohort_id, self.page.name)
        load(self.home, profiles=[profiles] if profiles else [], cohorts={cohort: result},
             project_id=self.page.project_id, pulled=Pulled(new_profiles=True))
        return cohort

    def _record(self, session: Session, status: str, result: Path, pages: int) -> None:
        with ledger.state(self.home) as con, ledger.transaction(con):
            con.execute(f"""update webhook_sessions set status = '{STALE}', result = '' where {COHORT}
                and status = '{webhook.HALF}'""", self.key)
            con.execute(f"""update webhook_sessions set status = :status, result = :result, pages = :pages,
                applied_at = :now, answered_at = null where {SESSION}""",
                        {**self.key, "status": status, "result": result.name, "pages": pages, "now": ledger.now()})

    def _sweep(self) -> None:
        """Let go of what no later change can stand on, and of what a crash left."""
        with ledger.state(self.home) as con, ledger.transaction(con):
            con.execute(f"delete from webhook_pages where {COHORT} and session_id <> :session_id", self.key)
            con.execute(f"""update webhook_sessions set result = '' where {COHORT} and number not in
                (select number from webhook_sessions where {COHORT} and result <> '' order by number desc
                 limit {webhook.REMEMBERED + 1})""", self.key)
            kept = {row[0] for row in con.execute(f"""select path from webhook_pages where {COHORT}
                union select result from webhook_sessions where {COHORT}""", self.key)}
        for path in self.folder.glob("*.parquet"):
            if path.name not in kept:
                path.unlink()


def _note_connection(home: Path, project_id: str, status: str, reason: str) -> None:
    """How the receiver stands, and when Mixpanel last sent something."""
    ledger.record_connection(home, {
        "kind": "webhook", "project_id": project_id, "account_id": "mixpanel", "account_name": "Cohorts from Mixpanel",
        "role": "", "host": "", "base_url": "", "rehearsal": 0, "new_contacts": "", "status": status, "reason": reason})


def _read(paths: Sequence[Path]) -> str:
    return f"read_parquet([{', '.join(map(one_file, paths))}])"


def _write(table: pa.Table, path: Path) -> None:
    """Write a file for good, readable by its owner alone."""
    path.touch(mode=0o600)
    pq.write_table(table, path, compression="zstd")
    for place in (path, path.parent):
        to_disk(place)


def _copy(con: duckdb.DuckDBPyConnection, query: str, path: Path) -> None:
    path.touch(mode=0o600)
    con.execute(f"copy ({query} order by all) to {quoted(path)} (format parquet, compression zstd, use_tmp_file false)")
    for place in (path, path.parent):
        to_disk(place)
