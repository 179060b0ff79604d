"""What a monitor is told of the syncs that stand."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from terminal import cohortsync

import cohortsync as cs
from cohortsync import health, ledger, orders

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
EVERY, GRACE = timedelta(hours=2), timedelta(minutes=30)


def sync(status: str = orders.ACTIVE, last: str = "", created: str = "2026-11-25T11:45:00+00:00") -> dict[str, Any]:
    return {"status": status, "last_completed_at": last, "created_at": created}


@pytest.mark.parametrize(("row", "wants"), [
    (sync(orders.PAUSED), health.PAUSED), (sync(orders.NEEDS_APPROVAL), health.APPROVAL),
    (sync(), ""), (sync(created="2026-11-25T11:00:00+00:00"), health.OVERDUE),
    (sync(last="2026-11-25T09:31:00+00:00"), ""), (sync(last="2026-11-25T09:29:00+00:00"), health.OVERDUE),
    (sync(orders.DONE, created="2020-01-01T00:00:00+00:00"), "")])
def test_a_sync_wants_what_it_waits_for(row: dict[str, Any], wants: str) -> None:
    assert health.wanted(row, NOON, EVERY, GRACE) == wants


def test_the_worst_decides_the_status() -> None:
    assert health.worst([]) == health.worst([""]) == 0
    assert health.worst(["", health.OVERDUE]) == 5
    assert health.worst([health.OVERDUE, health.APPROVAL]) == 4
    assert health.worst([health.APPROVAL, health.PAUSED, health.OVERDUE]) == 6


def status_of(workspace: cs.Workspace) -> tuple[int, dict[str, Any]]:
    done = cohortsync("--home", workspace.home, "status", "--json")
    return done.returncode, json.loads(done.stdout)


def test_the_command_says_the_last_success_of_each_and_ends_accordingly(connected: cs.Workspace) -> None:
    assert status_of(connected)[0] == 0
    audience = connected.check_mailchimp()["audiences"][0]["audience_id"]
    row = connected.create_sync("power-users", audience)
    assert status_of(connected)[0] == 0
    with ledger.state(connected.home) as con:
        con.execute("update syncs set created_at = '2026-01-01T00:00:00.000+00:00'")
    code, found = status_of(connected)
    assert (code, found["ok"], found["syncs"][0]["wants"]) == (5, False, health.OVERDUE)
    orders.begin(connected.home, row, "r-1", row["due_at"])
    orders.end(connected.home, "r-1", "completed")
    code, found = status_of(connected)
    assert (code, found["ok"], found["syncs"][0]["wants"]) == (0, True, "")
    assert found["syncs"][0]["last_completed_at"] == orders.last_whole(connected.home, row["sync_id"])
    assert [one["kind"] for one in found["connections"]] == ["mailchimp"]
    connected.pause_sync(row["sync_id"])
    code, found = status_of(connected)
    assert (code, found["syncs"][0]["reason"]) == (6, "Paused by hand.")
