"""One sync at a time per Mailchimp account and user of this machine, whatever the workspace, and its connections.

The lease is an operating-system lock: the kernel frees it with the process that sends, however that ends. What such a
process had asked may be open in Mailchimp for a while longer, so its connections cool down before they are given away.
Source: https://mailchimp.com/developer/marketing/docs/fundamentals/ (ten connections, of all apps together)
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import portalocker

from cohortsync import config
from cohortsync.config import Settings
from cohortsync.disk import AT_ONCE
from cohortsync.errors import ApiTransient

CEILING = 10


@contextmanager
def hold(connection: dict[str, Any], settings: Settings) -> Iterator[int]:
    """Hold the lease of a connected account; answers how many requests may be open at once.

    Waits while others' requests may still fill the account; raises ApiTransient while another process holds it.
    """
    with _file(connection).open("r+") as file:
        try:
            portalocker.lock(file, AT_ONCE)
        except portalocker.LockException:
            raise ApiTransient(f"Another sync with {connection['account_name']} is at work on this machine. "
                               "Wait until it has finished.") from None
        cooling, slots = _granted(_read(file), settings)
        _write(file, [*cooling, {"slots": slots, "until": None}])
        try:
            yield slots
        except BaseException:
            _write(file, [*cooling, {"slots": slots, "until": time.time() + settings.settle_seconds}])
            raise
        _write(file, cooling)


def _file(connection: dict[str, Any]) -> Path:
    name = hashlib.sha256(f"{connection['host']}|{connection['account_id']}".encode()).hexdigest()[:20]
    path = config.state_folder("leases") / f"{name}.lock"
    path.touch(mode=0o600)
    return path


def _granted(entries: list[dict[str, Any]], settings: Settings) -> tuple[list[dict[str, Any]], int]:
    """The holders whose requests may be open still, and the connections that are left beside theirs.

    A holder without an end died just now, for all that is known.
    """
    dead = time.time() + settings.settle_seconds
    cooling = [{**entry, "until": entry["until"] or dead} for entry in entries]
    while True:
        cooling = [entry for entry in cooling if entry["until"] > time.time()]
        if (free := CEILING - sum(entry["slots"] for entry in cooling)) > 0:
            return cooling, min(settings.connections, free)
        time.sleep(max(min(entry["until"] for entry in cooling) - time.time(), 0.01))


def _read(file: TextIO) -> list[dict[str, Any]]:
    try:
        return list(json.loads(file.read() or "[]"))
    except ValueError:  # its holder was killed while it wrote
        return [{"slots": Settings().connections, "until": None}]


def _write(file: TextIO, entries: list[dict[str, Any]]) -> None:
    file.seek(0)
    file.truncate()
    file.write(json.dumps(entries))
    file.flush()
    os.fsync(file.fileno())
