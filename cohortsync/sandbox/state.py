"""Where a local service remembers: one SQLite file."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class State:
    """The SQLite file at `path`, shared by the server's threads one transaction at a time.

    `reader` is for a quick look that need not wait for its turn.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
        self._db.row_factory = sqlite3.Row
        self._db.execute("pragma journal_mode = wal")
        # An answered request must outlive a killed process, not a power cut: no fsync each commit.
        self._db.execute("pragma synchronous = normal")
        self.reader = self.snapshot()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Everything done inside is kept, or after an exception nothing of it."""
        with self._lock:
            self._db.execute("begin immediate")
            try:
                yield self._db
            except BaseException:
                self._db.execute("rollback")
                raise
            self._db.execute("commit")

    def snapshot(self) -> sqlite3.Connection:
        """A connection of its own that only reads, for an answer too long to hold the others up; close it."""
        return sqlite3.connect(f"{self.path.as_uri()}?mode=ro", uri=True, check_same_thread=False, timeout=30)

    def close(self) -> None:
        with self._lock:
            self.reader.close()
            self._db.close()
