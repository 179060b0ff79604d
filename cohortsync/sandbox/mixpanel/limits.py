"""How often one may ask: by the hour, by the second, and at once.

Source: https://developer.mixpanel.com/reference/rate-limits
"""

from __future__ import annotations

import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from .refusals import Refusal, refused
from .state import now_s, setting

DEFAULTS = {
    "query_per_hour": 60,
    "query_at_once": 5,
    "export_per_hour": 60,
    "export_per_second": 3,
    "export_at_once": 100,
}
NAMES = {"query": "Query", "export": "Export"}


class Inside:
    """How many requests of a kind are being answered."""

    def __init__(self) -> None:
        self.running: Counter[str] = Counter()
        self.lock = threading.Lock()

    @contextmanager
    def visit(self, kind: str) -> Iterator[int]:
        with self.lock:
            self.running[kind] += 1
            running = self.running[kind]
        try:
            yield running
        finally:
            with self.lock:
                self.running[kind] -= 1


def limit(db: sqlite3.Connection, name: str) -> int:
    return int(setting(db, name, str(DEFAULTS[name])))


def count_request(db: sqlite3.Connection, kind: str, path: str, running: int, counts: bool) -> Refusal | None:
    """Count a request; the Refusal 429 when it is one too many.

    One that does not count (a later page of engage) is still not let in beside too many others. A refused one does
    not count against the hour.
    """
    now = now_s(db)
    db.execute("delete from requests where at_s <= ? or at_s > ?", (now - 3600, now + 60))
    used = db.execute("select count(*) from requests where kind = ?", (kind,)).fetchone()[0]
    at_once, hourly = limit(db, f"{kind}_at_once"), limit(db, f"{kind}_per_hour")
    if running > at_once or (counts and used >= hourly):
        return too_many(db, kind, path, running, at_once, used + counts, hourly)
    if kind == "export" and recent(db, now) >= limit(db, "export_per_second"):
        return too_many(db, kind, path, running, at_once, used + 1, hourly)
    if counts:
        db.execute("insert into requests values (?, ?)", (kind, now))
    return None


def recent(db: sqlite3.Connection, now: float) -> int:
    row = db.execute("select count(*) from requests where kind = 'export' and at_s > ?", (now - 1,)).fetchone()
    return int(row[0])


def too_many(
    db: sqlite3.Connection, kind: str, path: str, running: int, at_once: int, used: int, hourly: int
) -> Refusal:
    project_id = db.execute("select project_id from project").fetchone()["project_id"]
    error = (
        f"{NAMES[kind]} rate limit exceeded for project_id: {project_id}. {min(running, at_once)}/{at_once} queries "
        f"running concurrently and {used}/{hourly} queries running in the last hour. For more information, please "
        "consult our documentation at https://help.mixpanel.com/"
    )
    return refused(429, path, error)
