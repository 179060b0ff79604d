"""The workspace kept elsewhere: a copy of one instant, made while others read and load."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from cohortsync.config import private_folder
from cohortsync.warehouse import generation_path

KEYS = "keys.json"
PASSING = {"stage", "backups"}  # folders that hold no part of the workspace
SQLITE = b"SQLite format 3\0"


def snapshot(home: Path, folder: Path, keys: bool = False) -> int:
    """Put the workspace's files as they are below another folder of the same disk; answers the generation in force.

    Files are linked, not copied: what is published is never written to again. The caller sees to it that the
    generation in force is not swept meanwhile. API keys are left out unless ``keys``.
    """
    private_folder(folder)
    _copy_database(home / "state.sqlite", folder / "state.sqlite")
    generation = _generation(folder)
    for path in _files(home, generation):
        if keys or path.name != KEYS:
            _put(path, folder / path.relative_to(home))
    return generation


def _generation(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "state.sqlite")) as con:
        return int(con.execute("select generation from workspace").fetchone()[0])


def _files(home: Path, generation: int) -> Iterator[Path]:
    """What belongs to the workspace beside its state: neither locks nor drafts, nor other generations' files."""
    for folder, folders, names in os.walk(home):
        inside = Path(folder).relative_to(home)
        folders[:] = [name for name in folders if not name.startswith(".") and name not in PASSING
                      and ".spill" not in name]
        if inside == Path("warehouse"):
            names = [name for name in names if name == generation_path(home, generation).name]
        yield from (Path(folder) / name for name in names if _is_kept(name) and (inside.parts or name == KEYS))


def _is_kept(name: str) -> bool:
    return not name.startswith(".") and not name.endswith((".lock", ".draft", "-wal", "-shm", "-journal"))


def _put(path: Path, copy: Path) -> None:
    """Link a file to another place; a database, which is written to where it is, is copied as of one instant."""
    private_folder(copy.parent)
    with path.open("rb") as file:
        database = file.read(len(SQLITE)) == SQLITE
    if database:
        _copy_database(path, copy)
        return
    try:
        os.link(path, copy)
    except OSError:  # a disk that knows no links
        shutil.copyfile(path, copy)
        copy.chmod(0o600)


def _copy_database(path: Path, copy: Path) -> None:
    copy.touch(mode=0o600)
    with closing(sqlite3.connect(path, timeout=30)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
