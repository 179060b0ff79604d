"""cohortsync as installed from its wheel: the three commands of the README in an empty folder, as real processes."""

from __future__ import annotations

import base64
import http.client
import os
import re
import signal
import subprocess
import sys
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from installed import MINUTE, ROOT, Installed, held
from served import free_port, wait_until_healthy

BUNDLED = ["app.py", ".streamlit/config.toml", "notebooks/01_explore_cohort.ipynb", "notebooks/04_sync_cohort.ipynb",
           "notebooks/06_campaign_followup.ipynb", "data/sample/profiles.ndjson.gz",
           "data/sample/mailchimp_members.ndjson"]


@pytest.fixture
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    with held(tmp_path_factory) as installed:
        yield installed


@pytest.fixture
def demo(installed: Installed) -> subprocess.CompletedProcess[str]:
    return installed.demo()


@pytest.fixture
def app(installed: Installed, demo: object, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The app on the workspace that the demo left: its process and its port."""
    port = free_port()
    with (tmp_path / "app.log").open("wb") as log:
        process = subprocess.Popen([installed.command, "--home", "cohortsync-demo", "app", "--port", str(port)],
                                   cwd=installed.folder, env=installed.environment, stdin=subprocess.DEVNULL,
                                   stdout=log, stderr=log)
    family = []
    try:
        wait_until_healthy(port, process)
        family = psutil.Process(process.pid).children(recursive=True)
        yield process, port
    finally:
        for child in family:
            if child.is_running():
                child.kill()
        process.kill()
        process.wait(timeout=MINUTE)


def test_the_wheel_carries_all_that_the_checkout_runs_on(installed: Installed) -> None:
    inside = set(zipfile.ZipFile(installed.wheel).namelist())
    code = [path for kind in ("*.py", "*.sql") for path in (ROOT / "cohortsync").rglob(kind)]
    assert not {path.relative_to(ROOT).as_posix() for path in code} - inside
    assert not {f"cohortsync/bundled/{name}" for name in BUNDLED} - inside


def test_the_demo_runs_in_an_empty_folder(installed: Installed, demo: subprocess.CompletedProcess[str]) -> None:
    assert demo.returncode == 0, demo.stderr
    steps = ["Local services", "Connections", "Pull", "MTU by month", "Plan for newsletter-readers", "Proof",
             "Two hours later", "Pull", "Who entered and left newsletter-readers", "What became of MTU",
             "Plan for newsletter-readers", "Proof", "Notebooks"]
    assert [line for line in demo.stdout.splitlines() if line in steps] == steps
    assert len(re.findall("^completed ", demo.stdout, re.MULTILINE)) == 2
    assert os.listdir(installed.folder) == ["cohortsync-demo"]


def test_what_runs_is_what_was_installed(installed: Installed) -> None:
    asked = subprocess.run([sys.executable, "-c", "import cohortsync; print(cohortsync.__file__)"], text=True,
                           cwd=installed.folder, env=installed.environment, capture_output=True, timeout=MINUTE)
    assert Path(asked.stdout.strip()).is_relative_to(installed.site)


def test_the_app_has_the_settings_that_ship_with_it(app: tuple[subprocess.Popen[bytes], int]) -> None:
    assert answer_to_a_browser(app[1], "localhost") == 101
    assert answer_to_a_browser(app[1], "evil.example") == 403


def answer_to_a_browser(port: int, host: str) -> int:
    """The HTTP status of the app's answer to a browser that found it under this name and wants a session."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/_stcore/stream", headers={
        "Host": f"{host}:{port}", "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(b"sixteen bytes...").decode()})
    try:
        return connection.getresponse().status
    finally:
        connection.close()


def test_the_app_starts_and_takes_its_services_along_when_it_is_stopped(
        app: tuple[subprocess.Popen[bytes], int]) -> None:
    process, port = app
    family = psutil.Process(process.pid).children(recursive=True)
    commands = [" ".join(child.cmdline()) for child in family]
    assert any("streamlit" in command for command in commands)
    assert any("cohortsync.sandbox" in command for command in commands)

    process.send_signal(signal.SIGTERM)

    assert process.wait(timeout=MINUTE) == 0
    assert not psutil.wait_procs(family, timeout=MINUTE)[1]
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=5)


def test_the_notebooks_are_copied_and_never_overwritten(installed: Installed, tmp_path: Path) -> None:
    copied = installed.run("notebooks", "--copy", str(tmp_path / "mine"))
    assert copied.returncode == 0
    assert sorted(copied.stdout.split()) == sorted(str(path) for path in (tmp_path / "mine").iterdir())
    assert len(copied.stdout.split()) == len(list((ROOT / "notebooks").glob("*.ipynb")))

    again = installed.run("notebooks", "--copy", str(tmp_path / "mine"))
    assert again.returncode == 2
    assert "would be overwritten" in again.stderr
