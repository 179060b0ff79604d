"""Syncs that stand in tests: a small cohort in a file of its own, and one run of a sync, taken in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cohortsync as cs

COHORT = "power-users"


def members(workspace: cs.Workspace) -> list[str]:
    frame = workspace.sql(f"select distinct_id from cohort_members where cohort = '{COHORT}' order by distinct_id")
    return list(frame["distinct_id"])


def load_members(workspace: cs.Workspace, place: Path, ids: list[str]) -> Path:
    """Load the cohort from a file that holds these ids."""
    file = write_members(place, ids)
    workspace.load(cohorts={COHORT: file})
    return file


def write_members(place: Path, ids: list[str]) -> Path:
    (place / "members.json").write_text(json.dumps(ids))
    return place / "members.json"


def take(workspace: cs.Workspace, name: str = COHORT) -> dict[str, Any]:
    """One run of a sync, step by step as the notebook takes them."""
    run = workspace.start_sync(name)
    try:
        run.refresh()
        plan = run.plan()
        run.check(plan)
        return run.apply(plan)
    finally:
        run.close()


def stands(workspace: cs.Workspace, name: str = COHORT) -> tuple[str, str]:
    """How a sync stands, and how its last run ended."""
    return workspace.find_sync(name)["status"], workspace.sync_history(name)["status"].iloc[0]
