"""cohortsync as installed from its wheel, in an empty folder: made once for all the processes of a test run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import portalocker
import pytest
from conftest import breaches

ROOT = Path(__file__).parent.parent
MINUTE = 60


@dataclass(frozen=True)
class Installed:
    """The wheel, what was installed from it, and the empty folder that its commands are run in."""

    place: Path

    @property
    def wheel(self) -> Path:
        return next((self.place / "dist").glob("*.whl"))

    @property
    def site(self) -> Path:
        return self.place / "site"

    @property
    def command(self) -> Path:
        return self.site / "bin" / "cohortsync"

    @property
    def folder(self) -> Path:
        return self.place / "here"

    @property
    def environment(self) -> dict[str, str]:
        ours = {"PYTHONPATH": str(self.site), "XDG_STATE_HOME": str(self.place / "state"),
                "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring"}
        mine = ("COHORTSYNC_", "MAILCHIMP_")
        return {name: value for name, value in os.environ.items() if not name.startswith(mine)} | ours

    def make(self) -> None:
        """Build the wheel from the checkout with what is installed, and install it alone, without the network."""
        for words in (["build", "--wheel", "--no-isolation", "--outdir", self.place / "dist", ROOT],
                      ["pip", "install", "--quiet", "--no-index", "--no-deps", "--target", self.site, "--find-links",
                       self.place / "dist", "cohortsync"]):
            subprocess.run([sys.executable, "-m", *words], check=True, capture_output=True, timeout=5 * MINUTE)
        self.folder.mkdir(exist_ok=True)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([self.command, *arguments], cwd=self.folder, env=self.environment, text=True,
                              capture_output=True, stdin=subprocess.DEVNULL, timeout=10 * MINUTE)

    def demo(self) -> subprocess.CompletedProcess[str]:
        """The demo, run once in the empty folder; the workspace that it leaves is there for all."""
        kept = self.place / "demo.json"
        if not kept.exists():
            done = self.run("demo")
            kept.write_text(json.dumps([done.returncode, done.stdout, done.stderr]))
        return subprocess.CompletedProcess(["demo"], *json.loads(kept.read_text()))


@contextmanager
def held(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """It, for one test at a time: an app on the demo's workspace would else use the services of another's."""
    base = tmp_path_factory.getbasetemp()
    place = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "installed"
    place.mkdir(exist_ok=True)
    with (place / "lock").open("w") as lock:
        portalocker.lock(lock, portalocker.LockFlags.EXCLUSIVE)
        installed = Installed(place)
        if not installed.folder.exists():
            installed.make()
        yield installed
        assert not breaches([place])
