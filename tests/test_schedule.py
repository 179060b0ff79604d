"""What is due, run as notebooks by real processes: never twice at once, never half, and told by the exit status."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import faulty
import psutil
import pytest
from conftest import interruptible, sampled
from mailchimp_side import Side
from standing import COHORT, load_members, members, stands
from test_notebooks import assert_shows_no_secret

import cohortsync as cs
from cohortsync import ledger, orders, schedule


@pytest.fixture
def proxied(proxied: tuple[cs.Workspace, faulty.Proxy, Side], tmp_path: Path) -> tuple[cs.Workspace, faulty.Proxy]:
    """The same with a small cohort and a dynamic sync that is due."""
    workspace, proxy, side = proxied
    load_members(workspace, tmp_path, members(workspace)[:150])
    workspace.create_sync(COHORT, side.audience_id)
    return workspace, proxy


def due(workspace: cs.Workspace) -> subprocess.Popen[str]:
    """A real ``cohortsync due``, as cron starts one."""
    return subprocess.Popen([sys.executable, "-m", "cohortsync", "--home", str(workspace.home), "due", "--json"],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def answer(process: subprocess.Popen[str]) -> tuple[int, list[dict[str, Any]]]:
    out, err = process.communicate(timeout=200)
    assert out, err
    return process.returncode, json.loads(out)


def test_a_run_leaves_notebook_report_plan_outcome_and_receipt_in_one_folder(
        proxied: tuple[cs.Workspace, faulty.Proxy]) -> None:
    workspace, _ = proxied
    (outcome,) = workspace.run_due()
    assert (outcome["status"], outcome["exit_status"], outcome["accounted"]) == ("completed", 0, 150)
    folder = workspace.home / "runs" / outcome["run_id"]
    assert {path.name for path in folder.iterdir()} >= {"05_dynamic_sync.ipynb", "05_dynamic_sync.html", "plan.parquet",
                                                        "outcome.parquet", "receipt.json", "result.json"}
    assert_shows_no_secret(folder / "05_dynamic_sync.ipynb")
    assert_shows_no_secret(Path(outcome["report"]))
    assert workspace.syncs()["last_run"].tolist() == [orders.status_line(
        orders.history(workspace.home, outcome["sync_id"])[0], orders.datetime.now(orders.UTC))]
    assert workspace.run_due() == []


def test_two_schedulers_at_once_run_what_is_due_once(proxied: tuple[cs.Workspace, faulty.Proxy]) -> None:
    workspace, proxy = proxied
    answers = [answer(process) for process in [due(workspace), due(workspace)]]
    assert {status for status, _ in answers} == {0}
    ended = [outcome["status"] for _, outcomes in answers for outcome in outcomes]
    assert ended.count("completed") == 1
    assert set(ended) <= {"completed", "at work"}
    assert len(workspace.sync_history(COHORT)) == 1
    assert len([path for _, path, _ in proxy.writes() if "skip_duplicate" in path]) == 1


def test_one_failing_sync_stops_no_other_and_the_status_says_who_can_act(
        proxied: tuple[cs.Workspace, faulty.Proxy], tmp_path: Path) -> None:
    workspace, _ = proxied
    audience_id = workspace.find_sync(COHORT)["audience_id"]
    (tmp_path / "few.json").write_text(json.dumps(members(workspace)[:20]))
    workspace.load(cohorts={"few": tmp_path / "few.json"})
    workspace.create_sync("few", audience_id, "one-time")
    (tmp_path / "members.json").unlink()
    status, outcomes = answer(due(workspace))
    assert [(one["cohort"], one["status"]) for one in outcomes] == [(COHORT, "skipped"), ("few", "completed")]
    assert status == 2
    assert "members.json is not a file" in outcomes[0]["reason"]
    assert "members.json is not a file" in Path(outcomes[0]["report"]).read_text()


def kill_at_write(proxy: faulty.Proxy, number: int, victim: Any) -> None:
    """Kill a process when this write passes; the request is done, and nobody hears of it."""
    killed: list[int] = []

    def fault(method: str, _path: str) -> str | None:
        if method == "POST" and len(proxy.writes()) == number and not killed:
            killed.append(1)
            victim()
            return "lost"
        return None

    proxy.fault = fault


def kill_with_its_notebook(process: subprocess.Popen[str]) -> None:
    """A notebook's process is in a session of its own, and ends by itself once its parent is gone."""
    below = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGKILL)
    _, alive = psutil.wait_procs(below, timeout=60)
    assert not alive


@pytest.mark.parametrize("moment", sampled([1, 0], 1))
def test_a_scheduler_that_is_killed_leaves_nothing_half_done_after_the_next(
        proxied: tuple[cs.Workspace, faulty.Proxy], moment: int) -> None:
    workspace, proxy = proxied
    process = due(workspace)
    kill_at_write(proxy, moment, lambda: kill_with_its_notebook(process))
    process.communicate(timeout=200)
    assert process.returncode == -signal.SIGKILL
    assert orders.due(workspace.home) == []
    _wait_until_free(workspace)
    status, outcomes = answer(due(workspace))
    assert (status, [one["status"] for one in outcomes]) == (0, ["completed"])
    assert outcomes[0]["accounted"] == outcomes[0]["size"]
    assert workspace.sync_history(COHORT)["status"].tolist() == ["completed", "interrupted"]


def _wait_until_free(workspace: cs.Workspace) -> None:
    """The kernel frees what a process held a little after its end."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        orders.recover(workspace.home)
        if orders.due(workspace.home):
            return
        time.sleep(0.2)
    raise AssertionError("the sync is still held")


def test_a_notebook_that_dies_while_it_sends_is_made_good_by_the_same_scheduler(
        proxied: tuple[cs.Workspace, faulty.Proxy]) -> None:
    workspace, proxy = proxied

    def kill_kernel() -> None:
        for child in psutil.Process().children(recursive=True):
            if "ipykernel_launcher" in " ".join(child.cmdline()):
                child.kill()

    kill_at_write(proxy, 1, kill_kernel)
    outcomes = workspace.run_due()
    assert [one["status"] for one in outcomes] == ["failed", "completed"]
    assert "process died" in outcomes[0]["reason"]
    assert outcomes[1]["accounted"] == outcomes[1]["size"]
    assert schedule.exit_status(outcomes) == 0


def test_what_needs_most_help_is_the_exit_status() -> None:
    def ended(*statuses: int) -> int:
        return schedule.exit_status({"sync_id": str(n), "exit_status": one} for n, one in enumerate(statuses))

    assert [ended(), ended(0, 0), ended(0, 5), ended(5, 4), ended(6, 4, 2), ended(3, 1)] == [0, 0, 5, 4, 2, 1]


def test_watching_runs_what_is_due_and_ends_on_ctrl_c(proxied: tuple[cs.Workspace, faulty.Proxy]) -> None:
    workspace, _ = proxied
    process = subprocess.Popen([sys.executable, "-m", "cohortsync", "--home", str(workspace.home), "watch", "--every",
                                "1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               preexec_fn=interruptible)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and workspace.sync_history(COHORT)["status"].tolist() != ["completed"]:
        time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert stands(workspace) == ("Active", "completed")
    assert "Completed · just now" in out


def test_a_workspace_without_syncs_has_nothing_due(tmp_path: Path) -> None:
    assert schedule.run_due(cs.open(tmp_path / "home").home) == []
    assert ledger.runs(tmp_path / "home") == []
