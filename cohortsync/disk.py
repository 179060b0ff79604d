"""What files are asked of the system: locks that the kernel frees, and writes that outlive a power cut."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import portalocker

from cohortsync.errors import StoreError

SHARED, EXCLUSIVE = portalocker.LockFlags.SHARED, portalocker.LockFlags.EXCLUSIVE
AT_ONCE = EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING  # or not at all
DISK_THREADS = 8


def lock(path: Path, flags: portalocker.LockFlags) -> BinaryIO | None:
    """An OS lock on a file, held until that is closed or the process ends; None when someone else holds it."""
    file: BinaryIO = open(path, "r+b", opener=_make_private)  # noqa: SIM115 - whoever holds the lock closes it
    try:
        portalocker.lock(file, flags)
    except portalocker.AlreadyLocked:
        file.close()
        return None
    except portalocker.LockException as error:
        file.close()
        raise StoreError(f"{path} cannot be locked ({error}). Keep the workspace on a disk of this machine.") from None
    return file


def _make_private(path: str, flags: int) -> int:
    """Open or make a file in one step: between two, a sweeper could delete it."""
    return os.open(path, flags | os.O_CREAT, 0o600)


@contextmanager
def locking(path: Path, flags: portalocker.LockFlags = EXCLUSIVE) -> Iterator[bool]:
    """Hold an OS lock on a file; False when someone else holds it. The kernel frees it with the process.

    A process that is forked off meanwhile neither keeps the lock for longer nor ends it.
    """
    owner, file = os.getpid(), lock(path, flags)
    try:
        yield file is not None
    finally:
        if file:
            if os.getpid() == owner:
                portalocker.unlock(file)
            file.close()


def to_disk(*paths: Path) -> None:
    """See that files and folders outlive a power cut; the disk sees to several at once."""
    with ThreadPoolExecutor(DISK_THREADS) as pool:
        list(pool.map(_to_disk, paths))


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
