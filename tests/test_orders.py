"""Syncs that stand: made, paused, due, and in one line."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cohortsync as cs
from cohortsync import ledger, orders
from cohortsync.errors import ApiTransient, BadInput

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
TWO_HOURS = timedelta(hours=2)
instants = st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1)).map(lambda at: at.replace(tzinfo=UTC))


@pytest.fixture
def audience_id(connected: cs.Workspace) -> str:
    return str(connected.check_mailchimp()["audiences"][0]["audience_id"])


@pytest.fixture
def standing(connected: cs.Workspace, audience_id: str) -> dict[str, Any]:
    return orders.create(connected.home, "local", "power-users", audience_id)


def set_due(workspace: cs.Workspace, sync_id: str, at: datetime) -> None:
    with ledger.state(workspace.home) as con:
        con.execute("update syncs set due_at = ? where sync_id = ?", (at.isoformat(timespec="milliseconds"), sync_id))


# what is due

@given(instants, instants, st.timedeltas(timedelta(minutes=1), timedelta(days=2)))
def test_the_next_slot_is_the_first_to_come_of_the_same_grid(due_at: datetime, at: datetime, every: timedelta) -> None:
    slot = orders.next_due(due_at, at, every)
    assert slot > at or slot == due_at > at
    assert (slot - due_at) % every == timedelta(0)
    assert slot - every <= max(at, due_at)


def test_twenty_hours_of_downtime_are_caught_up_once() -> None:
    assert orders.next_due(NOON, NOON + timedelta(hours=20, minutes=5), TWO_HOURS) == NOON + timedelta(hours=22)


def test_a_cron_job_that_is_now_early_now_late_runs_each_slot_once() -> None:
    due_at, ran = NOON, 0
    for hour in range(0, 20, 2):
        at = NOON + timedelta(hours=hour, seconds=[3, 8, 5, 9, 1][hour // 2 % 5])
        if due_at <= at:
            due_at, ran = orders.next_due(due_at, at, TWO_HOURS), ran + 1
    assert ran == 10


def test_a_new_sync_is_due_at_once_and_then_every_two_hours(
        connected: cs.Workspace, standing: dict[str, Any]) -> None:
    assert [row["sync_id"] for row in orders.due(connected.home)] == [standing["sync_id"]]
    orders.begin(connected.home, standing, "r-1", standing["due_at"])
    later = orders.required(connected.home, standing["sync_id"])
    assert datetime.fromisoformat(later["due_at"]) - datetime.fromisoformat(standing["due_at"]) == TWO_HOURS
    assert orders.due(connected.home) == []


def test_a_slot_is_for_one_run_alone(connected: cs.Workspace, standing: dict[str, Any]) -> None:
    orders.begin(connected.home, standing, "r-1", standing["due_at"])
    with pytest.raises(ApiTransient, match="done meanwhile"):
        orders.begin(connected.home, standing, "r-2", standing["due_at"])


def test_a_one_time_sync_is_due_once(connected: cs.Workspace, audience_id: str) -> None:
    row = orders.create(connected.home, "local", "power-users", audience_id, orders.ONE_TIME)
    orders.begin(connected.home, row, "r-1", row["due_at"])
    orders.record_status(connected.home, row["sync_id"], orders.DONE)
    set_due(connected, row["sync_id"], datetime.now(UTC) - TWO_HOURS)
    assert orders.due(connected.home) == []


def test_what_is_paused_is_not_due_and_what_was_missed_is_made_up_for_by_one_run(
        connected: cs.Workspace, standing: dict[str, Any]) -> None:
    orders.pause(connected.home, standing["sync_id"], "a person's reason")
    set_due(connected, standing["sync_id"], datetime.now(UTC) - timedelta(hours=9))
    assert orders.due(connected.home) == []
    orders.unpause(connected.home, standing["sync_id"])
    (row,) = orders.due(connected.home)
    orders.begin(connected.home, row, "r-1", row["due_at"])
    assert orders.due(connected.home) == []
    with pytest.raises(BadInput, match="is not paused: Active"):
        orders.unpause(connected.home, standing["sync_id"])


def test_a_sync_that_another_process_holds_is_not_taken_until_that_ends(
        connected: cs.Workspace, standing: dict[str, Any]) -> None:
    holding = f"""from pathlib import Path
from cohortsync import orders
with orders.hold(Path({str(connected.home)!r}), {standing["sync_id"]!r}):
    print("held", flush=True)
    input()"""
    with subprocess.Popen([sys.executable, "-c", holding], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(ApiTransient, match="at work"), orders.hold(connected.home, standing["sync_id"]):
            pass
        other.kill()
    with orders.hold(connected.home, standing["sync_id"]):
        pass


# made and deleted

def test_a_cohort_has_one_sync_to_an_audience(
        connected: cs.Workspace, standing: dict[str, Any], audience_id: str) -> None:
    with pytest.raises(BadInput, match=standing["sync_id"]):
        orders.create(connected.home, "local", "power-users", audience_id)
    orders.delete(connected.home, standing["sync_id"])
    orders.create(connected.home, "local", "power-users", audience_id)


def test_there_are_no_more_dynamic_syncs_than_the_setting_allows(
        connected: cs.Workspace, standing: dict[str, Any], audience_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COHORTSYNC_DYNAMIC_SYNCS", "1")
    with pytest.raises(BadInput, match="has 1 dynamic syncs, and 1 is the most"):
        orders.create(connected.home, "local", "trial-ending", audience_id)
    orders.create(connected.home, "local", "trial-ending", audience_id, orders.ONE_TIME)


@pytest.mark.parametrize(("cohort", "audience", "kind", "said"), [
    ("nobody", None, "dynamic", "no cohort 'nobody'"), ("power-users", "0000000000", "dynamic", "no audience"),
    ("power-users", None, "hourly", "cannot be 'hourly'")])
def test_a_sync_of_nothing_is_refused(connected: cs.Workspace, audience_id: str, cohort: str, audience: str | None,
                                      kind: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        orders.create(connected.home, "local", cohort, audience or audience_id, kind)


def test_a_sync_is_found_by_its_id_or_its_cohort(connected: cs.Workspace, standing: dict[str, Any]) -> None:
    for name in (standing["sync_id"], "power-users"):
        assert orders.required(connected.home, name) == standing
    with pytest.raises(BadInput, match=r"no sync 'x'. Name one of: s-\w+ \(power-users → "):
        orders.required(connected.home, "x")


# in one line

def test_a_run_is_told_as_people_know_it() -> None:
    run = {"status": "completed", "reason": "", "started_at": "2026-11-25T11:39:10+00:00",
           "finished_at": "2026-11-25T11:40:00+00:00",
           "receipt": {"added": 14, "kept": 2957, "refused": 43, "removed": 0}}
    assert orders.status_line(run, NOON) == "Completed · 20 minutes ago · 3,014 processed · 0 removed"
    skipped = {**run, "status": "skipped", "reason": "Mixpanel did not answer.", "receipt": {}}
    assert orders.status_line(skipped, NOON) == "Skipped · 20 minutes ago · Mixpanel did not answer."
    assert orders.status_line(None, NOON) == "Never run"


@pytest.mark.parametrize(("seconds", "said"), [(0, "just now"), (59, "just now"), (60, "1 minute ago"),
                                               (7200, "2 hours ago"), (90000, "1 day ago")])
def test_how_long_ago_is_said_in_the_largest_unit(seconds: int, said: str) -> None:
    assert orders.ago(NOON - timedelta(seconds=seconds), NOON) == said
