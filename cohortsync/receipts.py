"""What a run leaves behind in ``runs/<run_id>/``: its plan, what became of each person, and its receipt.

The plan and the outcome hold addresses; the receipt holds counts and names of places.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from cohortsync import config, ledger, proof
from cohortsync.errors import BadInput, StoreError
from cohortsync.mtu import Effect
from cohortsync.plan import Plan, Target, Terms, shown

SINCE_0_1_0 = {"was_exported": False, "old_hash": None, "old_address": None}  # columns that its runs do not have
WROTE = ("applying", "completed", "incomplete", "interrupted", "failed")  # runs that may have changed the segment
RUN_COLUMNS = ["run_id", "cohort", "target", "audience_id", "audience_name", "status", "added", "kept", "removed",
               "refused", "requests", "accounted", "size", "started_at", "finished_at", "rehearsal"]


def folder(home: Path, run_id: str) -> Path:
    """A run's folder. Raises BadInput for what cannot be a run's id."""
    if not re.fullmatch(r"[0-9TZ]+-[0-9a-f]+", run_id):
        raise BadInput(f"{run_id!r} is not a run's id. List them: cohortsync runs")
    return home / "runs" / run_id


def keep_plan(home: Path, plan: Plan) -> None:
    """Write a plan to its run's folder, for ``load_plan`` to find."""
    place = config.private_folder(folder(home, plan.run_id))
    config.write_private(place / "plan.parquet", plan.people.to_parquet(index=False))
    words = asdict(replace(plan, people=plan.people.iloc[:0])) | {"people": None}
    words["as_of"] = plan.as_of.isoformat() if plan.as_of else None
    config.write_private(place / "plan.json", json.dumps(words, indent=2))


def has_plan(home: Path, run_id: str) -> bool:
    """Whether a run's plan is kept: whole, and not expired."""
    return all((folder(home, run_id) / name).exists() for name in ("plan.json", "plan.parquet"))


def load_plan(home: Path, run_id: str) -> Plan:
    """A plan as it was kept. Raises BadInput when there is none of that id (any more)."""
    place = folder(home, run_id)
    if not has_plan(home, run_id):
        raise BadInput(f"There is no plan {run_id} here (any more). Make one: cohortsync plan COHORT --audience ID")
    words = json.loads((place / "plan.json").read_text())
    as_of = datetime.fromisoformat(words["as_of"]) if words["as_of"] else None
    return Plan(**words | {
        "people": pd.read_parquet(place / "plan.parquet"), "target": Target(**words["target"]), "as_of": as_of,
        "mtu": _effect(words.get("mtu")),
        "terms": Terms(**words["terms"]), "warnings": tuple(words["warnings"]), "limits": tuple(words["limits"])})


def _effect(kept: dict[str, Any] | None) -> Effect | None:
    return Effect(**kept | {"counted": tuple(kept["counted"])}) if kept else None


def keep_outcome(home: Path, run_id: str, outcome: pd.DataFrame) -> None:
    """Write what became of each person to the run's folder."""
    place = config.private_folder(folder(home, run_id))
    config.write_private(place / "outcome.parquet", outcome.to_parquet(index=False))


def outcome(home: Path, run_id: str) -> pd.DataFrame:
    """What became of each person in a run, whole addresses included; of one that never got so far, its plan."""
    place = folder(home, run_id)
    for name in ("outcome.parquet", "plan.parquet"):
        if (place / name).exists():
            people = pd.read_parquet(place / name)
            lacking = {column: value for column, value in SINCE_0_1_0.items() if column not in people}
            return people.assign(**lacking)
    raise BadInput(f"Run {run_id} left no table of people (it never got that far, or was cleared).")


def proven_outcome(home: Path, run_id: str) -> pd.DataFrame:
    """What was read back of each person of a run. Raises BadInput for a run that never got so far."""
    found = outcome(home, run_id)
    if "outcome" not in found:
        raise BadInput(f"Run {run_id} has no proof of what it did: it was only planned, or ended early.")
    return found


def proof_table(home: Path, run_id: str) -> pd.DataFrame:
    """One row per outcome and reason of a run, ``outcome, reason, people``; those of the cohort add up to its size."""
    excluded = load_plan(home, run_id).excluded
    return proof.table(excluded, proven_outcome(home, run_id))


def shown_outcome(home: Path, run_id: str, limit: int | None = None) -> pd.DataFrame:
    """As ``outcome``, addresses masked; of the first ``limit`` people, of how many in ``attrs["people"]``."""
    people = outcome(home, run_id)
    first = shown(people if limit is None else people.head(limit))
    first.attrs["people"] = len(people)
    return first


def listed(home: Path, project_id: str | None) -> pd.DataFrame:
    """One row per run of a project, the latest first, as ``RUN_COLUMNS``."""
    rows = [{**row["receipt"], **row} for row in ledger.runs(home) if row["project_id"] == project_id]
    return pd.DataFrame(rows, columns=RUN_COLUMNS)


def kept(home: Path, run_id: str) -> dict[str, Any]:
    """A run's receipt, and when it started and finished (ISO, UTC). Raises StoreError for a run there is none of."""
    if row := ledger.run(home, run_id):
        return row["receipt"] | {"started_at": row["started_at"], "finished_at": row["finished_at"]}
    raise StoreError(f"There is no run {run_id!r} here. List them: cohortsync runs")


def record(home: Path, plan: Plan, receipt: dict[str, Any]) -> dict[str, Any]:
    """Write a run's receipt to the ledger and, unless it is still at work, beside its plan; answers it."""
    target, status = plan.target, receipt["status"]
    ledger.record_run(home, {
        "run_id": plan.run_id, "project_id": plan.project_id, "cohort": plan.cohort,
        "account_id": target.account_id, "audience_id": target.audience_id, "audience_name": target.audience_name,
        "rehearsal": int(target.rehearsal), "status": status, "started_at": receipt["started_at"],
        "finished_at": None if status == "applying" else ledger.now(), "receipt": receipt})
    if status != "applying":
        place = config.private_folder(folder(home, plan.run_id))
        config.write_private(place / "receipt.json", json.dumps(receipt, indent=2))
        config.write_private(place / "proof.html", _picture(home, receipt))
    return receipt


def _picture(home: Path, receipt: dict[str, Any]) -> str:
    """What became of everyone, as a page that needs no network; all runs share one copy of what draws it."""
    from plotly.offline import get_plotlyjs  # slow to import, and not needed to look at anything

    from cohortsync import charts

    drawing = home / "runs" / "plotly.min.js"
    if not drawing.exists():
        config.write_private(drawing, get_plotlyjs())
    return str(charts.proof(receipt).to_html(include_plotlyjs="../plotly.min.js", full_html=True))


def planned(plan: Plan, status: str = "planned", **more: Any) -> dict[str, Any]:
    """The receipt of a plan: the counts are what would be."""
    counts = plan.counts
    return receipt(plan, status=status, added=plan.additions, kept=counts["keep"], removed=counts["remove"],
                   refused=counts["refuse"], requests=plan.reads, reads=plan.reads, **plan.numbers, **more)


def receipt(plan: Plan, **found: Any) -> dict[str, Any]:
    """What any run leaves: counts and names of places, never an address."""
    base = {"run_id": plan.run_id, "status": "", "started_at": ledger.now(), "added": 0, "kept": 0, "removed": 0,
            "refused": 0, "address_changed": plan.address_changed, "requests": 0, "reads": 0, "writes": 0,
            "writes_minimum": plan.requests["minimum"], "accounted": 0}
    target = plan.target
    place = {"project_id": plan.project_id, "cohort": plan.cohort, "size": plan.size, "excluded": dict(plan.excluded),
             "audience_id": target.audience_id, "target": str(target), "segment_id": target.segment_id,
             "undoes": plan.undoes}
    return {**base, **place, **found}
