"""The command line as scripts and schedulers run it: a process without a terminal."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from forked import Forked, command

TIMEOUT = 240


def cohortsync(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; its output is text."""
    typed = [str(word) for word in words]
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = Forked(command, typed, out=out, err=err, environment=os.environ | environment)
        process.join(TIMEOUT)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(typed, TIMEOUT, err.read_bytes())
        return subprocess.CompletedProcess(typed, process.exitcode, out.read_text(), err.read_text())


def answer(*words: object, **environment: str) -> Any:
    """The JSON that a command printed: the whole of its stdout."""
    ended = cohortsync(*words, "--json", **environment)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)
