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
from cohortsync.disk import AT_ONCE
from cohortsync.errors import ApiTransient, StoreError

HOUR = 3600.0
PLURAL = {"query": "queries", "export": "exports"}
TOLD_AFTER = 1.0  # seconds of waiting that nobody need be told of
SET_BACK = 60.0  # an entry so many seconds ahead is of a clock that was set back since, as a rehearsal's may be
Notice = Callable[[str], None]


class OverBudget(ApiTransient):
    """The hour is used up, or the places are taken, for longer than the settings let anybody wait."""


@dataclass(frozen=True)
class Budget:
    """The budget of one project. ``clock``: the server's epoch seconds; ``notice`` is told of waiting, ``pause`` waits
    some seconds."""

    scope: str
    settings: Settings
    clock: Callable[[], float] = time.time
    notice: Notice = lambda _text: None
    pause: Callable[[float], object] = time.sleep

    @property
    def _name(self) -> str:
        return hashlib.sha256(self.scope.encode()).hexdigest()[:20]

    @property
    def _folder(self) -> Path:
        return state_folder("budget")

    def hourly(self, kind: str) -> int:
        """How many requests of a kind (query, export) an hour holds."""
        return self.settings.mixpanel_queries_per_hour if kind == "query" else self.settings.mixpanel_exports_per_hour

    def left(self, kind: str) -> int:
        """How many requests of a kind (query, export) the hour still holds."""
        with self._open() as con:
            return max(self.hourly(kind) - len(self._hour(con, kind)), 0)

    @contextmanager
    def take(self, kind: str, counts: bool = True) -> Iterator[None]:
        """Spend one request and hold a place among those at work; waits for both.

        Raises OverBudget when the wait is longer than the settings allow.
        """
        until = time.monotonic() + self.settings.mixpanel_wait_seconds
        while True:
            with self._place(kind, until):
                wait = self._try_spend(kind) if counts else 0.0
                if wait <= 0:
                    yield
                    return
            self._wait(kind, wait, until)

    def exhaust(self, kind: str, seconds: float) -> None:
        """Nothing more is taken for so many seconds, by any process: others of the project have used the hour up."""
        with self._open() as con:
            con.execute("begin immediate")
            missing = self.hourly(kind) - len(self._hour(con, kind))
            con.executemany("insert into requests values (?, ?, ?)",
                            [(self._name, kind, self.clock() - HOUR + seconds)] * missing)
            con.execute("commit")

    def offset_s(self) -> float:
        """Seconds that the server's clock was ahead when any process last saw it."""
        with self._open() as con:
            found = self._known_offset(con)
        return found or 0.0

    def remember_offset(self, offset_s: float) -> None:
        """What was entered before the server's clock was first seen is moved to it."""
        with self._open() as con:
            con.execute("begin immediate")
            if self._known_offset(con) is None:
                con.execute("update requests set at_s = at_s + ? where scope = ?", (offset_s, self._name))
            con.execute("insert or replace into clocks values (?, ?)", (self._name, offset_s))
            con.execute("commit")

    def _known_offset(self, con: sqlite3.Connection) -> float | None:
        found = con.execute("select offset_s from clocks where scope = ?", (self._name,)).fetchone()
        return float(found[0]) if found else None

    def _wait(self, kind: str, wait: float, until: float) -> None:
        rule = f"Mixpanel allows {self.hourly(kind)} {PLURAL[kind]} an hour"
        if time.monotonic() + wait > until:
            raise OverBudget(f"{rule} and the next is free at {self._at(wait)}. Go on then; what was fetched is kept.")
        if wait > TOLD_AFTER:
            self.notice(f"Waiting until {self._at(wait)}: {rule}")
        self.pause(min(wait, 30))

    def _try_spend(self, kind: str) -> float:
        """Seconds to wait; 0 when the request was entered."""
        with self._open() as con:
            con.execute("begin immediate")
            now, hour = self.clock(), self._hour(con, kind)
            wait = hour[-self.hourly(kind)] + HOUR - now if len(hour) >= self.hourly(kind) else 0.0
            if kind == "export" and len(hour) >= (most := self.settings.mixpanel_exports_per_second):
                wait = max(wait, hour[-most] + 1 - now)
            if wait <= 0:
                con.execute("delete from requests where scope = ? and (at_s <= ? or at_s > ?)",
                            (self._name, now - HOUR, now + SET_BACK))
                con.execute("insert into requests values (?, ?, ?)", (self._name, kind, now))
            con.execute("commit")
            return wait

    def _hour(self, con: sqlite3.Connection, kind: str) -> list[float]:
        now = self.clock()
        return [at for (at,) in con.execute("select at_s from requests where scope = ? and kind = ? and at_s > ? "
                                            "and at_s <= ? order by at_s",
                                            (self._name, kind, now - HOUR, now + SET_BACK)).fetchall()]

    def _at(self, wait: float) -> str:
        return f"{datetime.fromtimestamp(self.clock() + wait, UTC):%H:%M:%S} UTC"

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        path = self._folder / "requests.sqlite"
        path.touch(mode=0o600)
        con = sqlite3.connect(path, timeout=30, isolation_level=None)
        try:
            con.execute("create table if not exists requests (scope text, kind text, at_s real)")
            con.execute("create table if not exists clocks (scope text primary key, offset_s real)")
            yield con
        except sqlite3.DatabaseError as error:
            raise StoreError(f"The count of the requests made to Mixpanel, {path}, could not be opened or written "
                             f"({error}). Look whether its disk is full; else delete it, and it begins anew."
                             ) from error
        finally:
            con.close()

    @contextmanager
    def _place(self, kind: str, until: float) -> Iterator[None]:
        """One of the places for those at work at once."""
        while True:
            for number in range(self.settings.mixpanel_concurrent):
                with (self._folder / f"{self._name}-{kind}-{number}.lock").open("a+") as file:
                    os.chmod(file.name, 0o600)
                    try:
                        portalocker.lock(file, AT_ONCE)
                    except portalocker.LockException:
                        continue
                    yield
                    return
            if time.monotonic() > until:
                raise OverBudget(f"Mixpanel answers {self.settings.mixpanel_concurrent} {PLURAL[kind]} at once, and "
                                 "others of this machine keep it busy. Try again later.")
            self.pause(random.uniform(0.02, 0.1))
