"""Long work in a process of its own, which outlives the page, the tab and the app that started it.

The process is this very command line. Its answer is the JSON it prints, its error what it says, and whether it is at
work is told by a lock that it holds and the kernel frees, however it ends.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import sleep
from typing import IO, Any

import portalocker

from cohortsync import config
from cohortsync.config import PROGRESS_VARIABLE
from cohortsync.disk import AT_ONCE


@dataclass(frozen=True)
class Work:
    """One piece of work, at it or ended, under a name of its own in the workspace."""

    folder: Path
    label: str
    started_at: str

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        with (self.folder / "lock").open("a+") as lock:
            return not _taken(lock, tries=1)

    def progress(self) -> tuple[str, float]:
        """What is being done now, and the share of it that is done."""
        try:
            now = json.loads((self.folder / "progress.json").read_text())
        except FileNotFoundError:
            return self.label, 0.0
        return now["step"], min(now["done"] / now["total"], 1.0) if now["total"] else 0.0

    def answer(self) -> Any:
        """What it printed, once it has ended; None when it failed."""
        try:
            return json.loads((self.folder / "out").read_text())
        except (FileNotFoundError, ValueError):
            return None

    def error(self) -> str:
        """Why it failed, once it has ended without an answer."""
        said = (self.folder / "err").read_text(errors="replace") if (self.folder / "err").exists() else ""
        _, found, message = ("\n" + said).rpartition("\nError: ")
        message = re.sub(re.escape(f"{self.folder}/files/") + "[^/]+/", "", message)
        return message.strip() if found else f"{self.label} was cut off. Start it again. It said: {self.folder}/err"

    def clear(self) -> None:
        """Forget what has ended, and the files that were handed to it."""
        if not self.running:
            shutil.rmtree(self.folder, ignore_errors=True)


def place(home: Path, name: str) -> Path:
    """The folder of the work of this name; a file handed to it is put in a folder of its own in ``files`` there."""
    return config.private_folder(home / "work" / name)


def start(home: Path, name: str, label: str, words: Sequence[object]) -> Work:
    """Begin ``cohortsync <words> --json`` on a workspace; where that name is at work already, it is left at it."""
    folder = place(home, name)
    with (folder / "lock").open("a+") as lock:
        if not _taken(lock):
            return find(home, name) or Work(folder, label, "")
        for left in ("out", "err", "progress.json"):
            (folder / left).unlink(missing_ok=True)
        about = {"label": label, "started_at": datetime.now(UTC).isoformat(timespec="seconds")}
        config.write_private(folder / "work.json", json.dumps(about))
        command = [sys.executable, "-m", "cohortsync", "--home", str(home), *map(str, words), "--json"]
        with _private(folder / "out") as out, _private(folder / "err") as err:
            subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True,
                             pass_fds=[lock.fileno()],
                             env={**os.environ, PROGRESS_VARIABLE: str(folder / "progress.json")})
    return Work(folder, **about)


def _taken(lock: IO[Any], tries: int = 20) -> bool:
    """Take a lock; whoever only looks whether it is free holds it for a moment, so a start tries for a second."""
    for left in range(tries - 1, -1, -1):
        try:
            portalocker.lock(lock, AT_ONCE)
            return True
        except portalocker.LockException:
            sleep(0.05 if left else 0)
    return False


def _private(path: Path) -> Any:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")


def find(home: Path, name: str) -> Work | None:
    """The work of this name, at it or ended and not yet cleared."""
    try:
        about = json.loads((home / "work" / name / "work.json").read_text())
    except FileNotFoundError:
        return None
    return Work(home / "work" / name, about["label"], about["started_at"])


def under_way(home: Path) -> list[Work]:
    """All that is at work now, the latest first."""
    return sorted((work for work in _all(home) if work.running), key=lambda work: work.started_at, reverse=True)


def failed(home: Path) -> list[Work]:
    """All that ended without an answer, or never began, and was not cleared yet."""
    return [work for work in _all(home) if not work.running and work.answer() is None]


def _all(home: Path) -> list[Work]:
    folders = sorted(path for path in (home / "work").glob("*") if path.is_dir())
    return [find(home, folder.name) or Work(folder, "", "") for folder in folders]
