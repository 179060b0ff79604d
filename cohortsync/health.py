"""How all that stands is doing, for a monitor: which sync waits for somebody, and which is late."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cohortsync import connections, orders
from cohortsync.config import Settings
from cohortsync.errors import ApiFinal, ApiTransient, UnsafePlan

COLUMNS = ["sync_id", "cohort", "audience_name", "kind", "status", "last_completed_at", "due_at", "wants", "reason"]
PAUSED, APPROVAL, OVERDUE = "unpausing", "approval", "a look, it is overdue"
EXIT_STATUS = {PAUSED: ApiFinal.exit_status, APPROVAL: UnsafePlan.exit_status, OVERDUE: ApiTransient.exit_status, "": 0}


def look(home: Path, project_id: str | None = None) -> dict[str, Any]:
    """``ok``, ``exit_status``, and every sync and connection as it stands.

    ``wants`` of a sync: what it waits for, blank when it is well; the status is that of the worst, 0 when all are.
    """
    settings, at = Settings(), datetime.now(UTC)
    every, grace = timedelta(seconds=settings.interval_seconds), timedelta(seconds=settings.overdue_seconds)
    syncs = [{**row, "wants": wanted(row, at, every, grace)} for row in orders.overview(home, project_id)]
    status = worst(row["wants"] for row in syncs)
    return {"ok": status == 0, "exit_status": status, "at": at.isoformat(timespec="seconds"),
            "syncs": [{name: row[name] for name in COLUMNS} for row in syncs],
            "connections": connections.listed(home)}


def wanted(sync: Mapping[str, Any], at: datetime, every: timedelta, grace: timedelta) -> str:
    """What a sync waits for: to be unpaused, to be approved, or to succeed at last; blank when it is well."""
    if sync["status"] == orders.PAUSED:
        return PAUSED
    if sync["status"] == orders.NEEDS_APPROVAL:
        return APPROVAL
    return OVERDUE if sync["status"] == orders.ACTIVE and at > _by_when(sync, every) + grace else ""


def _by_when(sync: Mapping[str, Any], every: timedelta) -> datetime:
    """When a sync should have succeeded again: at once when it never did."""
    last = sync["last_completed_at"]
    return datetime.fromisoformat(last) + every if last else datetime.fromisoformat(sync["created_at"])


def worst(wants: Iterable[str]) -> int:
    """The exit status of what most needs somebody."""
    return EXIT_STATUS[min(wants, key=list(EXIT_STATUS).index, default="")]
