"""One export of a cohort to a Mailchimp audience: plan from fresh reads, apply in chunks, prove by reading back.

No request here ever changes the subscription status of a contact that is already in the audience.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from time import sleep
from typing import Any

import pandas as pd

from cohortsync import access, lease, ledger, mirror, proof, receipts, retention, segment
from cohortsync.account import connected
from cohortsync.delivery import Delivery
from cohortsync.errors import CohortsyncError, UnsafePlan
from cohortsync.mailchimp import Client
from cohortsync.plan import NOT_MAILABLE, Plan, Target, Terms, check_guards, check_unchanged, outlived, within
from cohortsync.sources import Progress, silent
from cohortsync.survey import Survey
from cohortsync.warehouse import required_project

ROUNDS = 4
FLEETING = ("merge_fields_refused", "signed_up_too_often")  # refusals that may be over tomorrow
FLEETING_DAYS = 1
Review = Callable[[Plan], None]


def plan(home: Path, cohort: str, audience_id: str, progress: Progress = silent, project_id: str | None = None,
         terms: Terms = Terms(), run_id: str = "") -> Plan:  # noqa: B008 (frozen)
    """What a sync of the cohort to the audience would do now; reads only. It is kept under its ``run_id``.

    ``project_id``: whose cohort it is; None: the workspace's only project's. ``run_id``: blank for a new one.
    Raises BadInput for an unknown cohort, UnsafePlan when the segment's name is taken by one we did not make.
    """
    with connected(home) as (connection, client):
        survey = Survey(home, connection, client, progress)
        made = survey.cohort(required_project(home, project_id), cohort, audience_id, terms)
    made = replace(made, run_id=run_id or made.run_id)
    receipts.keep_plan(home, made)
    return made


def _keep(home: Path, made: Plan, status: str = "planned", **more: Any) -> dict[str, Any]:
    receipts.keep_plan(home, made)
    return receipts.record(home, made, receipts.planned(made, status, **more))


def undo(home: Path, run_id: str, progress: Progress = silent) -> Plan:
    """A plan that takes a run back; reads only. Apply does it. Raises BadInput for a run that cannot be undone."""
    with connected(home) as (connection, client):
        made = Survey(home, connection, client, progress).undo(run_id)
    receipts.keep_plan(home, made)
    return made


def apply(home: Path, approved: Plan | str, force: bool = False, progress: Progress = silent,
          confirm: int | None = None) -> dict[str, Any]:
    """Do what an approved plan (or the one kept under its run's id) says, planned again from fresh reads, and prove it.

    Answers the run's receipt. Refuses (UnsafePlan) when more changes became due since the approval. ``force``,
    ``confirm``: see ``export``.
    """
    made = receipts.load_plan(home, approved) if isinstance(approved, str) else approved
    return export(home, made.cohort, made.target.audience_id, project_id=made.project_id, terms=made.terms,
                  force=force, confirm=confirm, approved=made, progress=progress)


def export(home: Path, cohort: str, audience_id: str, *, project_id: str | None = None, terms: Terms = Terms(),  # noqa: B008
           dry_run: bool = False, force: bool = False, confirm: int | None = None, approved: Plan | None = None,
           review: Review = lambda _plan: None, progress: Progress = silent) -> dict[str, Any]:
    """Plan, have it reviewed, apply, prove. Answers the receipt.

    ``{"run_id", "status", "added", "kept", "removed", "refused", "requests", "accounted", …}``; added + kept +
    refused = exportable; accounted = ids of the cohort with a proven outcome. ``review`` is shown the plan
    before anything is written, and raises to stop. A run of this cohort that was cut short is finished first.

    Raises UnsafePlan when a guard stops the plan, which then waits under its run's id as ``needs approval``;
    ``confirm``: how many people a first sync is known to add; ``force``: do what a guard would stop.
    """
    with connected(home) as (connection, client), lease.hold(connection, client.settings) as slots:
        client.limit(slots)
        survey = Survey(home, connection, client, progress)
        project = required_project(home, project_id)
        retention.sweep(home)
        if not dry_run:
            access.require_exporter(home, project["project_id"], bool(connection["rehearsal"]))
            _end_what_was_cut_short(survey, project["project_id"], cohort, audience_id, terms)
        fresh = _fresh(survey, project, cohort, audience_id, terms, approved)
        review(fresh)
        if dry_run:
            return _keep(home, fresh)
        if not force:
            _guard(home, fresh, confirm)
        needless = max(approved.changes - fresh.changes, 0) if approved else 0
        return _Run(survey, fresh, needless=needless).apply()


def _fresh(survey: Survey, project: dict[str, Any], cohort: str, audience_id: str, terms: Terms,
           approved: Plan | None) -> Plan:
    """The plan as of now. One that was approved keeps its id, unless it was applied before.

    Raises UnsafePlan when more became due since the approval.
    """
    if approved is None:
        return survey.cohort(project, cohort, audience_id, terms)
    fresh = survey.undo(approved.undoes) if approved.undoes else survey.cohort(project, cohort, audience_id, terms)
    receipts.keep_plan(survey.home, fresh)
    check_unchanged(approved, fresh)
    row = ledger.run(survey.home, approved.run_id)
    waiting = row is None or row["status"] in ("planned", "needs approval")
    return replace(fresh, run_id=approved.run_id) if waiting else fresh


def _guard(home: Path, fresh: Plan, confirm: int | None) -> None:
    """Stop a plan that needs approval, and keep it for that."""
    try:
        check_guards(fresh, confirm)
    except UnsafePlan as error:
        _keep(home, fresh, "needs approval", guard=error.guard, error=str(error))
        raise


def _end_what_was_cut_short(survey: Survey, project_id: str, cohort: str, audience_id: str, terms: Terms) -> None:
    """Go on with this cohort's run that was cut short; one older than an interval, or on other terms, is only closed.

    Other cohorts' runs wait for their own next sync, and are closed when they are too old for that, as is one whose
    plan has expired.
    """
    for row in ledger.runs_cut_short(survey.home, survey.connection["account_id"]):
        age = datetime.now(UTC) - datetime.fromisoformat(row["started_at"])
        old = age.total_seconds() > survey.client.settings.interval_seconds
        ours = (row["project_id"], row["cohort"], row["audience_id"]) == (project_id, cohort, audience_id)
        if ours and receipts.has_plan(survey.home, row["run_id"]):
            run = _Run(survey, receipts.load_plan(survey.home, row["run_id"]), row["started_at"])
            run.go_on(closing=old or run.plan.terms != terms)
        elif old:
            ledger.record_run(survey.home, {**row, "status": "interrupted", "finished_at": ledger.now()})


@dataclass
class _Run:
    """One recorded execution of a plan.

    ``needless``: approved changes that are none any more; ``target``: with the segment's id once there is one;
    ``overruled``: hash → reason of those whom a plan made again no longer let in.
    """

    survey: Survey
    plan: Plan
    started_at: str = field(default_factory=ledger.now)
    needless: int = 0
    target: Target = field(init=False)
    delivery: Delivery = field(init=False)
    overruled: dict[str, str] = field(default_factory=dict)
    outlived: bool = False

    def __post_init__(self) -> None:
        self.target = self.plan.target
        self.delivery = Delivery(self.home, self.client, self.plan.run_id, self.survey.progress,
                                 ledger.chunks_sent(self.home, self.plan.run_id))

    @property
    def home(self) -> Path:
        return self.survey.home

    @property
    def client(self) -> Client:
        return self.survey.client

    def apply(self) -> dict[str, Any]:
        """Send until everyone is proven, in a few rounds at most."""
        receipts.keep_plan(self.home, self.plan)
        segment.keep(self.home, self.plan)
        self._record(status="applying")
        return self._rounds(self.plan)

    def go_on(self, closing: bool) -> dict[str, Any]:
        """Finish a run that was cut short, or read back what it did and close it.

        It is closed, too, where someone whom it leaves on the segment may not be there any more: that takes a new plan.
        """
        left = self._again()
        if closing or self.outlived:
            return self._prove(self._read_back(), status="interrupted")
        return self._rounds(left)

    def _rounds(self, plan: Plan) -> dict[str, Any]:
        try:
            for left in reversed(range(ROUNDS)):
                sent = bool(plan.changes or plan.patches)
                if sent:
                    self._send(plan)
                if not self.delivery.unanswered or not left:
                    self._settle()
                    on_segment = self._read_back()
                    useless = plan is not self.plan and not sent
                    if useless or not left or proof.is_complete(self._outcome(on_segment)):
                        break
                plan = self._again()
            return self._prove(on_segment)
        except CohortsyncError as error:
            self._record(status="failed", error=str(error))
            raise

    def _send(self, plan: Plan) -> None:
        plan = self.delivery.secure_segment(plan)
        self.target = plan.target
        assert self.target.segment_id is not None
        place = self.home, self.target.audience_id, self.target.segment_id
        mirror.keep_export(*place, proof.about_to_leave(mirror.last_export(*place), plan))
        if plan.new_fields:
            self.delivery.make_fields(plan)
        self.delivery.send(plan)

    def _settle(self) -> None:
        """Wait until the server must have finished what it never answered."""
        if sent_at := ledger.last_unanswered(self.home, self.plan.run_id):
            self.survey.progress("Waiting for unanswered requests to end", 0, 1)
            until = datetime.fromisoformat(sent_at).timestamp() + self.client.settings.settle_seconds
            sleep(max(until - datetime.now(UTC).timestamp(), 0))
            ledger.record_read_back(self.home, self.plan.run_id)
        self.delivery.unanswered = 0

    def _again(self) -> Plan:
        """What is left of the plan, once all that was sent has come to an end."""
        self._settle()
        fresh = self.survey.again(self.plan)
        again, self.outlived = within(self.plan, fresh), outlived(self.plan, fresh)
        self.target = again.target
        self.overruled |= proof.barred_now(again.people)
        return again

    def _read_back(self) -> pd.DataFrame:
        """Who is on the segment: read once more where something was written, else as the plan found it."""
        if self.target.segment_id is None or not self.delivery.writes:
            people = self.plan.people
            return people.loc[people["in_segment"], ["member_hash", "address", "status"]]
        self.survey.progress("Reading back", 0, 1)
        return proof.fetch_back(self.client, self.plan, self.target)

    def _outcome(self, on_segment: pd.DataFrame) -> pd.DataFrame:
        return proof.outcomes(self.plan.people, on_segment, self.overruled | self.delivery.refused)

    def _prove(self, on_segment: pd.DataFrame, status: str | None = None) -> dict[str, Any]:
        """Give every id of the cohort its outcome, from what was read back; answers the receipt."""
        outcome = self._outcome(on_segment)
        receipts.keep_outcome(self.home, self.plan.run_id, outcome)
        self._record_rejects()
        if self.target.segment_id is not None:
            place = self.home, self.target.audience_id, self.target.segment_id
            mirror.keep_export(*place, proof.left_behind(outcome, on_segment, mirror.last_export(*place)))
        found = proof.count(self.plan, outcome, on_segment)
        return self._record(**found | {"status": status or found["status"]})

    def _record_rejects(self) -> None:
        days = self.client.settings.reject_days
        for fleeting in (True, False):
            reasons = {key: reason for key, reason in self.delivery.refused.items()
                       if (reason in FLEETING) is fleeting and reason not in NOT_MAILABLE}
            ledger.record_rejects(self.home, self.target.account_id, self.target.audience_id, reasons,
                                  min(FLEETING_DAYS, days) if fleeting else days)

    def _record(self, **found: Any) -> dict[str, Any]:
        plan = replace(self.plan, target=self.target)
        return receipts.record(self.home, plan, receipts.receipt(
            plan, started_at=self.started_at, requests=self.client.made, reads=self.client.made - self.client.wrote,
            writes=self.delivery.writes, field_writes=self.delivery.field_writes,
            fields_refused=len(self.delivery.fields_refused), needless=self.needless, **found))
