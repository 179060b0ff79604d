"""One run of a sync that stands: its cohort refreshed, planned, guarded, applied and proven; never two at once.

A step that cannot go on says in the ledger how the run ended and how the sync stands from now on, and tells people
where only they can help.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cohortsync import access, emails, ledger, notify, orders, receipts, sync
from cohortsync.errors import ApiFinal, BadInput, CohortsyncError, ConfigurationError, UnsafePlan
from cohortsync.orders import ACTIVE, DONE, DYNAMIC, NEEDS_APPROVAL, ONE_TIME, PAUSED
from cohortsync.plan import Plan, Terms, check_guards
from cohortsync.refresh import Refreshed, refresh
from cohortsync.sources import Progress, silent

PAUSING = (400, 401, 403, 404)  # what Mixpanel's own integration pauses a connection for
KEPT = ("added", "kept", "removed", "refused", "accounted", "size")
APPROVABLE = ("empty", "remove", "add", "first")  # the guards that a person can say yes to
CHANGED = "changed"


def verdict(error: CohortsyncError, refreshing: bool) -> tuple[str, str]:
    """How a run that an error stopped ends, and how its sync stands from then on.

    Nothing was sent of a run that is ``skipped``. What may pass by itself leaves the sync active.
    """
    if isinstance(error, UnsafePlan) and error.guard in APPROVABLE:
        return "needs approval", NEEDS_APPROVAL
    refused = isinstance(error, ApiFinal) and error.status in PAUSING
    unfit = isinstance(error, BadInput) or (isinstance(error, UnsafePlan) and error.guard != CHANGED)
    paused = refused or isinstance(error, ConfigurationError) or (unfit and not refreshing)
    return "skipped" if refreshing else "failed", PAUSED if paused else ACTIVE


def start(home: Path, name: str, run_id: str = "", due_at: str = "", progress: Progress = silent,
          approving: bool = False) -> Execution:
    """Begin a run of a sync and hold the sync until the answer is closed, or this process ends.

    ``due_at``: the slot that the run is for; blank: none, somebody asked for it. Raises ApiTransient when the sync is
    at work, BadInput when it is paused or waits for approval, ConfigurationError when its project may not export.
    """
    sync_id = orders.required(home, name)["sync_id"]
    held = ExitStack()
    held.enter_context(orders.hold(home, sync_id))
    row = orders.required(home, sync_id)
    if row["status"] == PAUSED or (row["status"] == NEEDS_APPROVAL) != approving:
        raise BadInput(f"The sync {sync_id} cannot run: {row['status']}. {row['reason']}")
    run_id = run_id or ledger.new_run_id()
    orders.begin(home, row, run_id, due_at)
    run = Execution(home, row, run_id, progress, held)
    with run.step():
        _require_same_account(home, row)
        access.require_exporter(home, row["project_id"], bool(row["rehearsal"]))
    return run


def _require_same_account(home: Path, row: dict[str, Any]) -> None:
    connection = ledger.connection(home)
    if connection and connection["account_id"] != row["account_id"]:
        raise ConfigurationError(f"The sync {row['sync_id']} is to the account {row['account_name']}, and "
                                 f"{connection['account_name']} is connected now. Connect that account again, or "
                                 f"delete the sync: cohortsync syncs delete {row['sync_id']}")


def waiting_plan(home: Path, name: str) -> Plan:
    """The plan with which a sync waits for approval. Raises BadInput when it waits with none."""
    return receipts.load_plan(home, _waiting(home, name)["plan_run_id"])


def _waiting(home: Path, name: str) -> dict[str, Any]:
    row = orders.required(home, name)
    if row["status"] != NEEDS_APPROVAL:
        raise BadInput(f"Nothing of the sync {row['sync_id']} waits for approval: {row['status']}.")
    return row


def approve(home: Path, name: str, progress: Progress = silent) -> dict[str, Any]:
    """Do exactly the plan with which a sync waits for approval; answers the receipt.

    Raises UnsafePlan when more became due since: then the sync is planned anew, and asks again where a guard says so.
    """
    row = _waiting(home, name)
    run = start(home, row["sync_id"], progress=progress, approving=True)
    try:
        orders.record_status(home, row["sync_id"], ACTIVE)
        return run.apply(row["plan_run_id"], force=True)
    except UnsafePlan as error:
        if error.guard == CHANGED:
            orders.due_again(home, row["sync_id"])
        raise
    finally:
        run.close()


@dataclass
class Execution:
    """One run at work: the ``sync`` as it stood, and its steps in their order."""

    home: Path
    sync: dict[str, Any]
    run_id: str
    progress: Progress = field(repr=False)
    held: ExitStack = field(repr=False)

    @property
    def cohort(self) -> str:
        """The cohort's name here; it is held by its id, so that a new name in Mixpanel changes nothing."""
        names = ledger.mixpanel_cohorts(self.home, self.sync["project_id"])
        return names.get(self.sync["cohort_id"], self.sync["cohort"])

    def refresh(self) -> Refreshed:
        """Bring the cohort up to date; where that fails, or is not new enough, the run is skipped."""
        with self.step(refreshing=True):
            return refresh(self.home, self.sync["project_id"], self.cohort, self.progress)

    def plan(self) -> Plan:
        """What is to be done, kept for whoever must approve it."""
        with self.step():
            return sync.plan(self.home, self.cohort, self.sync["audience_id"], self.progress, self.sync["project_id"],
                             Terms(**json.loads(self.sync["terms"])), run_id=self.run_id)

    def check(self, plan: Plan) -> None:
        """Stop at a guard: nothing is changed, and the sync waits with this very plan for approval."""
        with self.step():
            check_guards(plan)

    def apply(self, plan: Plan | str, force: bool = False) -> dict[str, Any]:
        """Do what the plan (or the one of this run's id) says and prove it; answers the receipt."""
        with self.step():
            receipt = sync.apply(self.home, plan, force, self.progress)
        whole = receipt["status"] == "completed"
        orders.end(self.home, self.run_id, receipt["status"], "" if whole else "Not everyone is accounted for.",
                   {"plan_run_id": receipt["run_id"], **{name: receipt[name] for name in KEPT}})
        if whole and self.sync["kind"] == ONE_TIME:
            orders.record_status(self.home, self.sync["sync_id"], DONE)
        return receipt

    def close(self) -> None:
        """Let go of the sync."""
        self.held.close()

    @contextmanager
    def step(self, refreshing: bool = False) -> Iterator[None]:
        """Note how the run ended and how the sync stands when what is done inside cannot go on."""
        try:
            yield
        except CohortsyncError as error:
            status, standing = verdict(error, refreshing)
            reason = emails.scrub(str(error))
            orders.end(self.home, self.run_id, status, reason)
            self._stand(standing, reason, getattr(error, "run_id", ""))
            if standing == ACTIVE and left_half_done(self.home, self.sync):
                orders.due_again(self.home, self.sync["sync_id"])
            self.close()
            raise

    def _stand(self, standing: str, reason: str, plan_run_id: str) -> None:
        """Change how the sync stands, and tell people; where the project may not export, of all its dynamic syncs."""
        if standing == ACTIVE:
            return
        if standing == PAUSED and self._lost_its_role():
            paused = orders.pause_project(self.home, self.sync["project_id"], reason)
            subject = f"{len(paused)} dynamic syncs are paused"
        else:
            orders.record_status(self.home, self.sync["sync_id"], standing, reason, plan_run_id)
            subject = f"{self.sync['cohort']} → {self.sync['audience_name']}: {standing}"
        then = "approve" if standing == NEEDS_APPROVAL else "unpause"
        notify.record(self.home, f"{self.run_id} {standing}", subject,
                      f"{reason}\nTo go on: cohortsync syncs {then} {self.sync['sync_id']}")

    def _lost_its_role(self) -> bool:
        connection = ledger.connection(self.home, "mixpanel", self.sync["project_id"])
        return bool(connection and connection["status"] != access.CONNECTED) and self.sync["kind"] == DYNAMIC


def left_half_done(home: Path, row: dict[str, Any]) -> bool:
    """Whether the last run of a sync's cohort to its audience was stopped after it had begun to send."""
    with ledger.state(home) as con:
        last = con.execute("""select status, (select count(*) from batches b where b.run_id = r.run_id) as sent
            from runs r where project_id = ? and cohort = ? and audience_id = ? and status <> 'planned'
            order by started_at desc limit 1""", (row["project_id"], row["cohort"], row["audience_id"])).fetchone()
    return bool(last and last["sent"] and last["status"] in ("applying", "failed", "interrupted"))
