"""How often Mixpanel may be asked: one budget for all processes of this user on this machine.

The hour is counted by the server's clock, in an SQLite file; those at work at once by locks that the kernel frees
with their process. Source: https://developer.mixpanel.com/reference/rate-limits
"""

from __future__ import annotations

import hashlib
import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import portalocker

from cohortsync.config import Settings, state_folder
from cohortsync.errors import ApiTransient

HOUR = 3600.0
PLURAL = {"query": "queries", "export": "exports"}
TOLD_AFTER = 1.0  # seconds of waiting that nobody need be told of
Notice = Callable[[str], None]


@dataclass(frozen=True)
class Budget:
    """The budget of one project. ``clock``: the server's epoch seconds; ``notice`` is told of waiting."""

    scope: str
    settings: Settings
    clock: Callable[[], float] = time.time
    notice: Notice = lambda _text: None

    @property
    def _name(self) -> str:
        return hashlib.sha256(self.scope.encode()).hexdigest()[:20]

    @property
    def _folder(self) -> Path:
        return state_folder("budget")

    def hourly(self, kind: str) -> int:
        return self.settings.mixpanel_queries_per_hour if kind == "query" else self.settings.mixpanel_exports_per_hour

    def left(self, kind: str) -> int:
        """How many requests of a kind (query, export) the hour still holds."""
        with self._open() as con:
            return max(self.hourly(kind) - len(self._hour(con, kind)), 0)

    @contextmanager
    def take(self, kind: str, counts: bool = True) -> Iterator[None]:
        """Spend one request and hold a place among those at work; waits for both.

        Raises ApiTransient when the wait is longer than the settings allow.
        """
        until = time.monotonic() + self.settings.mixpanel_wait_seconds
        with self._place(until):
            if counts:
                self._spend(kind, until)
            yield

    def _spend(self, kind: str, until: float) -> None:
        rule = f"Mixpanel allows {self.hourly(kind)} {PLURAL[kind]} an hour"
        while (wait := self._try_spend(kind)) > 0:
            if time.monotonic() + wait > until:
                raise ApiTransient(f"{rule} and the next is free at {self._at(wait)}. Go on then; what was fetched "
                                   "is kept.")
            if wait > TOLD_AFTER:
                self.notice(f"Waiting until {self._at(wait)}: {rule}")
            time.sleep(min(wait, 30))

    def _try_spend(self, kind: str) -> float:
        """Seconds to wait; 0 when the request was entered."""
        with self._open() as con:
            con.execute("begin immediate")
            now, hour = self.clock(), self._hour(con, kind)
            wait = hour[-self.hourly(kind)] + HOUR - now if len(hour) >= self.hourly(kind) else 0.0
            if kind == "export" and len(hour) >= (most := self.settings.mixpanel_exports_per_second):
                wait = max(wait, hour[-most] + 1 - now)
            if wait <= 0:
                con.execute("delete from requests where at_s <= ?", (now - HOUR,))
                con.execute("insert into requests values (?, ?, ?)", (self._name, kind, now))
            con.execute("commit")
            return wait

    def _hour(self, con: sqlite3.Connection, kind: str) -> list[float]:
        return [at for (at,) in con.execute("select at_s from requests where scope = ? and kind = ? and at_s > ? "
                                            "order by at_s", (self._name, kind, self.clock() - HOUR)).fetchall()]

    def _at(self, wait: float) -> str:
        return f"{datetime.fromtimestamp(self.clock() + wait, UTC):%H:%M:%S} UTC"

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        path = self._folder / "requests.sqlite"
        path.touch(mode=0o600)
        con = sqlite3.connect(path, timeout=30, isolation_level=None)
        try:
            con.execute("create table if not exists requests (scope text, kind text, at_s real)")
            yield con
        finally:
            con.close()

    @contextmanager
    def _place(self, until: float) -> Iterator[None]:
        """One of the places for those at work at once."""
        while True:
            for number in range(self.settings.mixpanel_concurrent):
                with (self._folder / f"{self._name}-{number}.lock").open("a+") as file:
                    os.chmod(file.name, 0o600)
                    try:
                        portalocker.lock(file, portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING)
                    except portalocker.LockException:
                        continue
                    yield
                    return
            if time.monotonic() > until:
                raise ApiTransient(f"Mixpanel answers {self.settings.mixpanel_concurrent} queries at once, and others "
                                   "of this machine keep it busy. Try again later.")
            time.sleep(random.uniform(0.02, 0.1))
