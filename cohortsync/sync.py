"""One export of a cohort to a Mailchimp audience: plan from fresh reads, apply in chunks, prove by reading back.

No request here ever changes the subscription status of a contact that is already in the audience.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import sleep
from typing import Any

import pandas as pd

from cohortsync import access, audience, config, lease, ledger, mailchimp, mirror, proof, segment, warehouse
from cohortsync.account import connected
from cohortsync.delivery import Delivery
from cohortsync.errors import BadInput, CohortsyncError
from cohortsync.mailchimp import Client
from cohortsync.plan import Plan, check_guards, check_unchanged, plan_people, shown
from cohortsync.sources import Progress, silent
from cohortsync.warehouse import required_project

ROUNDS = 3


def plan(home: Path, cohort: str, audience_id: str, progress: Progress = silent,
         project_id: str | None = None) -> Plan:
    """What a sync of the cohort to the audience would do now; reads only.

    ``project_id``: whose cohort it is; None: the workspace's only project's.
    Raises BadInput for an unknown cohort, UnsafePlan when the segment's name is taken by one we did not make.
    """
    with connected(home) as (connection, client):
        return _plan(home, connection, client, required_project(home, project_id), cohort, audience_id, progress)


def _plan(home: Path, connection: dict[str, Any], client: Client, project: dict[str, Any], cohort: str,
          audience_id: str, progress: Progress) -> Plan:
    with warehouse.reading(home) as con:
        people, as_of = audience.people(con, project, cohort), warehouse.as_of(con)
    progress("Reading the audience", 0, 1)
    target = segment.find(home, connection, client, project, cohort, audience_id)
    members = mirror.refresh(home, client, audience_id)
    on_segment: dict[str, str] = {}
    if target.segment_id is not None:
        on_segment = mailchimp.fetch_segment_members(client, audience_id, target.segment_id)
        on_segment |= mirror.pending_on(members, target.segment_id)
    rejects = ledger.rejects(home, connection["account_id"], audience_id)
    excluded = {str(r): int(n) for r, n in people["reason"].value_counts().items() if r != "exportable"}
    warning = audience.id_warning(project, people)
    return Plan(project["project_id"], cohort, len(people), target, connection["new_contacts"],
                plan_people(people, members, on_segment, rejects), excluded, (warning,) if warning else (), as_of)


def apply(home: Path, approved: Plan, force: bool = False, progress: Progress = silent) -> dict[str, Any]:
    """Do what an approved plan says, planned again from fresh reads, and prove it; answers the run's receipt.

    Refuses (UnsafePlan) when more changes became due since the approval.
    """
    return export(home, approved.cohort, approved.target.audience_id, project_id=approved.project_id, force=force,
                  progress=progress, review=lambda fresh: check_unchanged(approved, fresh))


def export(home: Path, cohort: str, audience_id: str, *, project_id: str | None = None, dry_run: bool = False,
           force: bool = False, review: Callable[[Plan], None] = lambda _plan: None,
           progress: Progress = silent) -> dict[str, Any]:
    """Plan, have it reviewed, apply, prove. Answers the receipt.

    ``{"run_id", "status", "added", "kept", "removed", "refused", "requests", "accounted", …}``; added + kept +
    refused = exportable; accounted = ids of the cohort with a proven outcome. ``review`` is shown the plan
    before anything is written, and raises to stop.
    """
    with connected(home) as (connection, client), lease.hold(connection):
        ledger.close_interrupted_runs(home, connection["account_id"])
        project = required_project(home, project_id)
        if not dry_run:
            access.require_exporter(home, project["project_id"], bool(connection["rehearsal"]))
        fresh = _plan(home, connection, client, project, cohort, audience_id, progress)
        run = _Run(home, client, fresh, progress)
        review(fresh)
        if dry_run:
            return run.preview()
        if not force:
            check_guards(fresh)
        return run.apply(lambda: _plan(home, connection, client, project, cohort, audience_id, silent))


@dataclass
class _Run:
    """One recorded execution of a plan."""

    home: Path
    client: Client
    plan: Plan
    progress: Progress
    run_id: str = field(default_factory=lambda: f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}")
    started_at: str = field(default_factory=ledger.now)

    def __post_init__(self) -> None:
        self.delivery = Delivery(self.home, self.client, self.run_id, self.progress)

    def preview(self) -> dict[str, Any]:
        """Leave the plan to be looked at; nothing is sent."""
        self._write("plan.parquet", self.plan.people)
        planned = self.plan.counts
        return self._finish(status="planned", added=planned["add_new"] + planned["add_existing"],
                            kept=planned["keep"], removed=planned["remove"], refused=planned["refuse"])

    def apply(self, plan_again: Callable[[], Plan]) -> dict[str, Any]:
        """Send until everything was answered, at most three rounds, then prove."""
        first = self.plan
        self._write("plan.parquet", first.people)
        self._record(self._receipt(status="applying"))
        try:
            for _ in range(ROUNDS):
                self.plan = self.delivery.send(self.plan)
                if not self.delivery.unanswered:
                    break
                self._settle()
                self.plan = plan_again()
                check_unchanged(first, self.plan)
            return self._prove(first)
        except CohortsyncError as error:
            self._record(self._receipt(status="failed", error=str(error)))
            raise

    def _settle(self) -> None:
        """Wait until the server must have finished what it never answered."""
        self.progress("Waiting for unanswered requests to end", 0, 1)
        sleep(self.client.settings.settle_seconds)

    def _prove(self, first: Plan) -> dict[str, Any]:
        """Read the segment back and give every id of the cohort its outcome."""
        self.progress("Reading back", 0, 1)
        on_segment, pending = set(first.people.loc[first.people["in_segment"], "member_hash"]), set[str]()
        if self.delivery.sent:
            on_segment, pending = proof.fetch_back(self.client, self.plan)
        outcome = proof.outcomes(first.people, on_segment, pending, self.delivery.refused)
        self._write("outcome.parquet", outcome)
        lasting = {h: r for h, r in self.delivery.refused.items() if r != "merge_fields_refused"}
        ledger.record_rejects(self.home, first.target.account_id, first.target.audience_id, lasting,
                              self.client.settings.reject_days)
        return self._finish(**proof.count(first, outcome))

    def _finish(self, **found: Any) -> dict[str, Any]:
        receipt = self._receipt(**found)
        self._record(receipt)
        config.write_private(self._folder() / "receipt.json", json.dumps(receipt, indent=2))
        return receipt

    def _receipt(self, **found: Any) -> dict[str, Any]:
        """What a run leaves behind: counts and names of places, never an address."""
        target = self.plan.target
        base = {"run_id": self.run_id, "status": "", "added": 0, "kept": 0, "removed": 0, "refused": 0,
                "requests": self.client.made, "accounted": 0}
        place = {"project_id": self.plan.project_id, "cohort": self.plan.cohort, "size": self.plan.size,
                 "excluded": dict(self.plan.excluded), "audience_id": target.audience_id,
                 "target": str(target), "segment_id": target.segment_id, "writes": self.delivery.writes}
        return {**base, **place, **found}

    def _record(self, receipt: dict[str, Any]) -> None:
        target, status = self.plan.target, receipt["status"]
        ledger.record_run(self.home, {
            "run_id": self.run_id, "project_id": self.plan.project_id, "cohort": self.plan.cohort,
            "account_id": target.account_id, "audience_id": target.audience_id,
            "audience_name": target.audience_name, "rehearsal": int(target.rehearsal), "status": status,
            "started_at": self.started_at, "finished_at": None if status == "applying" else ledger.now(),
            "receipt": receipt})

    def _folder(self) -> Path:
        return config.private_folder(self.home / "runs" / self.run_id)

    def _write(self, name: str, frame: pd.DataFrame) -> None:
        config.write_private(self._folder() / name, frame.to_parquet(index=False))


def outcome(home: Path, run_id: str) -> pd.DataFrame:
    """What became of each person in a run: addresses masked, one row a person."""
    if not re.fullmatch(r"[0-9TZ]+-[0-9a-f]+", run_id):
        raise BadInput(f"{run_id!r} is not a run's id. List them: cohortsync runs")
    folder = home / "runs" / run_id
    file = next((folder / name for name in ("outcome.parquet", "plan.parquet") if os.path.exists(folder / name)), None)
    if file is None:
        raise BadInput(f"Run {run_id} left no table of people (it never got that far, or was cleared).")
    return shown(pd.read_parquet(file))
