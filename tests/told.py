"""What processes do once tests tell them to, and may be killed at; here, where it takes no time to import."""

from __future__ import annotations

import os
import resource
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cohortsync as cs


def sync_when_told(environment: dict[str, str], home: Path, cohort: str, audience_id: str, undoing: str,
                   terms: dict[str, Any], tell: Connection) -> None:
    """A sync, or the undo of a run, in this environment."""
    os.environ.update(environment)
    workspace = cs.open(home)
    tell.send("ready")
    tell.recv()
    if undoing:
        workspace.apply(workspace.undo(undoing), force=True)
    else:
        workspace.sync(cohort, audience_id, force=True, **terms)


def load_when_told(home: Path, load: dict[str, Any], tell: Connection, largest_file: int | None = None) -> None:
    """A load, and what came of it. ``largest_file``: no file grows beyond, in bytes."""
    workspace = cs.open(home)
    tell.send("ready")
    tell.recv()
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    try:
        workspace.load(**load)
    except cs.CohortsyncError as error:
        tell.send(str(error))
    else:
        tell.send("done")
