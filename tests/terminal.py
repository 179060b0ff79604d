"""The command line as scripts and schedulers run it: a process without a terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any


def cohortsync(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; its output is text."""
    return subprocess.run([sys.executable, "-m", "cohortsync", *map(str, words)], env=os.environ | environment,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240, start_new_session=True)


def answer(*words: object, **environment: str) -> Any:
    """The JSON that a command printed: the whole of its stdout."""
    ended = cohortsync(*words, "--json", **environment)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)
