"""What is due, run: each sync a notebook in a folder of its own; one that fails stops no other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from cohortsync import emails, execution, ledger, notify, orders, runs
from cohortsync.errors import ApiTransient, CohortsyncError
from cohortsync.sources import Progress, silent

NOTEBOOK = "05_dynamic_sync"
TRIES = 2  # the second finishes what the first began to send
WORST_FIRST = (1, 3, 2, 6, 4, 5, 0)


def run_due(home: Path, project_id: str | None = None, progress: Progress = silent) -> list[dict[str, Any]]:
    """Run every sync that is due, one after another; answers one row a run, as ``run_sync``.

    What was missed while nothing ran is made up for by one run; a run whose process was killed is finished first.
    """
    orders.recover(home)
    return [outcome for row in orders.due(home, project_id) for outcome in _until_whole(home, row, progress)]


def _until_whole(home: Path, row: dict[str, Any], progress: Progress) -> Iterator[dict[str, Any]]:
    """The runs of one sync: a second one where the first was stopped after it had begun to send."""
    for _ in range(TRIES):
        yield run_sync(home, row["sync_id"], row["due_at"], progress)
        again = [one for one in orders.due(home) if one["sync_id"] == row["sync_id"]]
        if not again or not execution.left_half_done(home, row):
            return
        row = again[0]


def run_sync(home: Path, name: str, due_at: str = "", progress: Progress = silent) -> dict[str, Any]:
    """Run one sync now, whether it is due or not.

    Answers ``sync_id, cohort, audience_name, run_id, status, reason, exit_status, report`` and the receipt's counts;
    ``status``: completed, incomplete, skipped, needs approval, failed, or at work when another process has it.
    """
    row, run_id = orders.required(home, name), ledger.new_run_id()
    told = {"sync_id": row["sync_id"], "cohort": row["cohort"], "audience_name": row["audience_name"]}
    exit_status, words = 0, ""

    def step(label: str, done: float, total: float) -> None:
        progress(f"{row['cohort']} → {row['audience_name']}: {label.partition(': ')[2]}", done, total)

    try:
        runs.run_notebook(NOTEBOOK, {"sync": row["sync_id"], "run_id": run_id, "due_at": due_at}, home, step, run_id)
    except CohortsyncError as error:
        exit_status, words = error.exit_status, emails.scrub(str(error))
    finally:
        found = _closed(home, row, run_id, words)
    if found is None:
        at_work = exit_status == ApiTransient.exit_status
        return {**told, "run_id": run_id, "status": orders.AT_WORK if at_work else "failed", "reason": words,
                "exit_status": 0 if at_work else exit_status, "report": ""}
    report = home / "runs" / run_id / f"{NOTEBOOK}.html"
    return {**told, **found["receipt"], "run_id": run_id, "status": found["status"], "reason": found["reason"],
            "exit_status": exit_status or int(found["status"] == "incomplete"), "report": str(report)}


def _closed(home: Path, row: dict[str, Any], run_id: str, words: str) -> dict[str, Any] | None:
    """The run as it ended; one whose notebook stopped without a word of its own failed, and people are told."""
    found = orders.run(home, run_id)
    if found and found["status"] == orders.AT_WORK:
        orders.end(home, run_id, "failed", words or "the notebook was stopped")
        if execution.left_half_done(home, row):
            orders.due_again(home, row["sync_id"])
        notify.record(home, f"{row['sync_id']} failed since {orders.last_whole(home, row['sync_id'])}",
                      f"{row['cohort']} → {row['audience_name']}: failed", words)
        found = orders.run(home, run_id)
    return found


def exit_status(outcomes: Iterable[dict[str, Any]]) -> int:
    """The status that tells most of several: the first of ours, then what someone must mend, then what may pass."""
    last = {outcome["sync_id"]: outcome["exit_status"] for outcome in outcomes}
    return min(last.values(), key=WORST_FIRST.index, default=0)
