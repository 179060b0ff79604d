"""Long work in processes of its own: real ones, also killed and started twice at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

import cohortsync as cs
from cohortsync import work

PEOPLE = '{"$distinct_id": "%d", "$properties": {"$email": "a%d@harbor.example"}}\n'


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def ended(found: work.Work) -> work.Work:
    wait_for(lambda: not found.running)
    return found


def processes_of(folder: Path) -> list[psutil.Process]:
    return [process for process in psutil.process_iter(["environ"])
            if str(folder) in ((process.info["environ"] or {}).get(work.PROGRESS_VARIABLE) or "")]


def test_work_answers_with_what_the_command_line_prints(workspace: cs.Workspace) -> None:
    found = ended(work.start(workspace.home, "list", "Listing cohorts", ["cohorts"]))
    assert [row["cohort"] for row in found.answer()] == workspace.cohorts()["cohort"].tolist()


def test_what_fails_says_why_in_the_command_lines_words(workspace: cs.Workspace) -> None:
    found = ended(work.start(workspace.home, "who", "Asking", ["audience", "nobody"]))
    assert found.answer() is None
    assert found.error().startswith("There is no cohort 'nobody' here.")


def test_work_outlives_the_process_that_started_it(workspace: cs.Workspace) -> None:
    script = ("from pathlib import Path; from cohortsync import work; "
              f"work.start(Path({str(workspace.home)!r}), 'mtu', 'Counting', ['mtu'])")
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    found = work.find(workspace.home, "mtu")
    assert found and len(ended(found).answer()) == 3


def test_work_that_is_killed_is_told_as_cut_off(workspace: cs.Workspace) -> None:
    found = work.start(workspace.home, "sandbox", "Serving", ["sandbox", "--mailchimp-port", "0"])
    wait_for(lambda: processes_of(found.folder))
    assert found.running and work.under_way(workspace.home) == [found]
    for process in processes_of(found.folder):
        os.kill(process.pid, signal.SIGKILL)
    assert "was cut off" in ended(found).error()
    assert work.under_way(workspace.home) == []


def test_two_who_start_the_same_at_once_start_it_once(workspace: cs.Workspace) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: work.start(workspace.home, "mtu", "Counting", ["mtu"]), range(8)))
    assert len(processes_of(found[0].folder)) <= 1
    assert ended(found[0]).answer()


def test_progress_is_what_the_command_line_shows_on_a_terminal(workspace: cs.Workspace, tmp_path: Path) -> None:
    people = tmp_path / "people.ndjson"
    people.write_text("".join(PEOPLE % (n, n) for n in range(1, 1001)))
    found = ended(work.start(workspace.home, "load", "Loading", ["load", "--profiles", people]))
    step, share = found.progress()
    assert step and 0 <= share <= 1
    assert found.answer()["files"][0]["rows"] == 1000


def test_its_files_are_for_the_owner_alone_and_go_when_it_is_cleared(workspace: cs.Workspace) -> None:
    found = ended(work.start(workspace.home, "mtu", "Counting", ["mtu"]))
    assert {path.stat().st_mode & 0o077 for path in found.folder.iterdir() if path.name != "lock"} == {0}
    found.clear()
    assert work.find(workspace.home, "mtu") is None
