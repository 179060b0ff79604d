"""The workspace kept elsewhere: a copy of one instant, made while others read and load."""

from __future__ import annotations

import io
import json
import os
import secrets
import shutil
import sqlite3
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

from cohortsync import __version__, ledger, warehouse
from cohortsync.config import private_folder
from cohortsync.disk import locking, to_disk
from cohortsync.errors import BadInput, StoreError
from cohortsync.warehouse import generation_path, hold

KEYS = "keys.json"
PASSING = {"stage", "backups"}  # folders that hold no part of the workspace
SQLITE = b"SQLite format 3\0"
MANIFEST, INSIDE = "manifest.json", "workspace/"
Progress = Callable[[str, float, float], None]


@dataclass(frozen=True)
class Backup:
    """What a backup holds: ``made_at`` (ISO, UTC), by which ``release``, of which format (``version``)."""

    made_at: str
    release: str
    version: int
    generation: int
    keys: bool
    files: int
    bytes: int


def write(home: Path, target: Path, keys: bool = False, progress: Progress = lambda *_: None) -> Backup:
    """Write all of a workspace to one file, as of one instant, and read it back; others go on reading and loading.

    ``target``: a tar, packed by gzip when its name ends in .gz. API keys are left out unless ``keys``. Raises BadInput
    when the file exists or its folder does not, StoreError when what was written is not what was read.
    """
    if target.exists():
        raise BadInput(f"{target} exists, and a backup overwrites nothing. Name another file.")
    if not target.parent.is_dir():
        raise BadInput(f"{target.parent} is no folder.")
    draft = target.with_name(f".{target.name}-{secrets.token_hex(4)}")
    try:
        with _snapshot_of_now(home, keys) as (folder, generation):
            _pack(folder, draft, target.suffix == ".gz", keys, generation, progress)
        kept = _checked(draft, None, progress)
        to_disk(draft)
        ledger.record_backup(home, target, kept.made_at)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    return kept


def restore(archive: Path, home: Path, progress: Progress = lambda *_: None) -> Backup:
    """Put a backup where no workspace is, all of it or nothing.

    Raises BadInput when something is there, StoreError for a file that is no backup, is damaged, or was made by a
    newer release.
    """
    if home.exists() and any(home.iterdir()):
        raise BadInput(f"{home} is not empty, and a restore overwrites nothing. Name another folder with --home DIR.")
    if not archive.is_file():
        raise BadInput(f"{archive} is not a file. Check the name and the folder.")
    private_folder(home.parent)
    draft = home.with_name(f".{home.name}-{secrets.token_hex(4)}")
    try:
        kept = _checked(archive, private_folder(draft), progress)
        _require_events(draft, kept.generation)
        draft.replace(home)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return kept


@contextmanager
def at_rest(home: Path) -> Iterator[None]:
    """No other backup is made inside, and of one that was killed nothing is left in the workspace."""
    with locking(home / "backup.lock"):
        for left in home.glob(".backup-*"):
            shutil.rmtree(left)
        yield


@contextmanager
def _snapshot_of_now(home: Path, keys: bool) -> Iterator[tuple[Path, int]]:
    """The workspace's files as of one instant in a folder of their own, and the generation in force then."""
    with at_rest(home):
        while True:
            folder, held = home / f".backup-{secrets.token_hex(4)}", hold(home)
            try:
                if snapshot(home, folder, keys) == held.number:
                    yield folder, held.number
                    return
            finally:
                held.release()
                shutil.rmtree(folder)


def _pack(folder: Path, target: Path, packed: bool, keys: bool, generation: int, progress: Progress) -> None:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    total, done = sum(path.stat().st_size for path in paths), 0
    digests: dict[str, str] = {}
    target.touch(mode=0o600)
    with tarfile.open(target, "w:gz", compresslevel=1) if packed else tarfile.open(target, "w") as tar:
        for path in paths:
            progress("Writing the backup", done, total)
            name = path.relative_to(folder).as_posix()
            member = tarfile.TarInfo(INSIDE + name)
            member.size, member.mode = path.stat().st_size, 0o600
            with path.open("rb") as file:
                tar.addfile(member, reader := _Digesting(file))
            digests[name] = reader.digest
            done += member.size
        manifest = {"made_at": ledger.now(), "release": __version__, "version": ledger.VERSION,
                    "generation": generation, "keys": keys, "sha256": digests}
        text = json.dumps(manifest).encode()
        member = tarfile.TarInfo(MANIFEST)
        member.size, member.mode = len(text), 0o600
        tar.addfile(member, io.BytesIO(text))


class _Digesting(io.RawIOBase):
    """A file that is hashed as it is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.sha256 = file, sha256()

    def read(self, size: int = -1) -> bytes:
        """The next bytes, which are added to the digest."""
        piece = self.file.read(size)
        self.sha256.update(piece)
        return piece

    @property
    def digest(self) -> str:
        """The SHA-256 of what was read so far."""
        return self.sha256.hexdigest()


def _checked(archive: Path, into: Path | None, progress: Progress) -> Backup:
    """Read a backup to its end, into a folder or nowhere; raises StoreError unless it is as it was written."""
    found: dict[str, str] = {}
    manifest: dict[str, Any] = {}
    size = 0
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                progress("Checking the backup" if into is None else "Restoring", tar.offset, archive.stat().st_size)
                file = tar.extractfile(tarfile.data_filter(member, str(into or archive.parent)))
                if file is None or not member.isreg():
                    raise StoreError(f"{archive} holds what no backup does ({member.name!r}).")
                if member.name == MANIFEST:
                    manifest = json.loads(file.read())
                else:
                    name = member.name.removeprefix(INSIDE)
                    found[name] = _copy(file, into / name if into else Path(os.devnull))
                    size += member.size
        kept = Backup(manifest["made_at"], manifest["release"], manifest["version"], manifest["generation"],
                      manifest["keys"], len(found), size)
        if found != manifest["sha256"]:
            raise StoreError(f"{archive} is damaged: its files are not those that were written.")
    except (tarfile.TarError, OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{archive} is no backup of cohortsync, or damaged ({error}).") from None
    if kept.version > ledger.VERSION:
        raise StoreError(f"{archive} was made by cohortsync {kept.release}, which is newer. Update cohortsync.")
    return kept


def _copy(file: IO[bytes], to: Path) -> str:
    """Write a file, readable by its owner alone; answers its SHA-256."""
    reader = _Digesting(file)
    if str(to) != os.devnull:
        private_folder(to.parent)
        to.touch(mode=0o600)
    with to.open("wb") as copy:
        shutil.copyfileobj(reader, copy, 1 << 20)
    return reader.digest


def _require_events(home: Path, generation: int) -> None:
    missing = [path for path in warehouse.listed_files(home, generation) if not (home / path).is_file()] \
        if generation else []
    if missing:
        raise StoreError(f"The backup lacks {len(missing):,} files of events, such as {missing[0]}.")


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
