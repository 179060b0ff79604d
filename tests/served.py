"""The app as a process of its own, and the browser that looks at it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]


def chromium() -> str | None:
    """The browser to use: ``COHORTSYNC_CHROMIUM``, else one where browsers usually are."""
    named = [os.environ.get("COHORTSYNC_CHROMIUM")]
    on_path = [shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")]
    usual = ["/usr/bin/chromium", "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
             "/Applications/Chromium.app/Contents/MacOS/Chromium"]
    return next((path for path in [*named, *on_path, *usual] if path and Path(path).exists()), None)


CHROMIUM = chromium()


@contextmanager
def serving(log_file: Path, *command: object, port: int = 0, folder: Path = ROOT, **environment: str) -> Iterator[str]:
    """The address of a process of its own that serves the app; the port comes at the end of its command."""
    port = port or free_port()
    with log_file.open("wb") as log:
        process = subprocess.Popen([sys.executable, *map(str, command), str(port)], cwd=folder,
                                   env=os.environ | environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        wait_until_healthy(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=60)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait_until_healthy(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=5).close()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the app did not start")
