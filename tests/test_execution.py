"""One run of a sync that stands, step by step: what it refreshes, and what stops it."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import faulty
import forked
import pytest
from conftest import OWNER_KEY, REVOKED_KEY, SAMPLE
from mailchimp_side import Side
from mixpanel_side import change, connect
from standing import COHORT, load_members, members, stands, take, write_members

import cohortsync as cs
from cohortsync import ledger, orders
from cohortsync.errors import (
    ApiFinal,
    ApiTransient,
    BadInput,
    CohortsyncError,
    ConfigurationError,
    StoreError,
    UnsafePlan,
)
from cohortsync.execution import verdict


@pytest.fixture
def proxied(proxied: tuple[cs.Workspace, faulty.Proxy, Side], tmp_path: Path) -> tuple[cs.Workspace, faulty.Proxy, str]:
    """The same with its cohort from a fresh file; the audience's id."""
    workspace, proxy, side = proxied
    load_members(workspace, tmp_path, members(workspace))
    return workspace, proxy, side.audience_id


@pytest.fixture
def standing(proxied: tuple[cs.Workspace, faulty.Proxy, str]) -> cs.Workspace:
    """The same with a dynamic sync of the cohort."""
    workspace, _, audience_id = proxied
    workspace.create_sync(COHORT, audience_id)
    return workspace


def told(workspace: cs.Workspace) -> list[str]:
    with ledger.state(workspace.home) as con:
        return [row["subject"] for row in con.execute("select subject from notices order by created_at")]


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody is to be told; nothing is delivered, the notices are looked at in the ledger."""
    monkeypatch.setenv("COHORTSYNC_NOTIFY_WEBHOOK", "http://127.0.0.1:1/never-posted-to")


# what it refreshes

def test_a_file_is_read_again_when_it_changed(standing: cs.Workspace, tmp_path: Path) -> None:
    first = take(standing)
    loads = len(standing.sql("from loads"))
    assert take(standing)["kept"] == first["added"]
    standing.refresh()
    assert len(standing.sql("from loads")) == loads
    write_members(tmp_path, members(standing)[:500])
    receipt = take(standing)
    assert (receipt["size"], receipt["status"]) == (500, "completed")
    assert receipt["removed"] > 50


def test_profiles_are_read_again_with_their_cohort(standing: cs.Workspace, tmp_path: Path) -> None:
    profile = {"$distinct_id": "new-one", "$properties": {"$email": "new.one@harbor.example"}}
    (tmp_path / "p.ndjson").write_text(json.dumps(profile))
    standing.load(profiles=[tmp_path / "p.ndjson"])
    load_members(standing, tmp_path, ["new-one"])
    take(standing)
    profile["$properties"]["$email"] = "renamed.one@harbor.example"
    (tmp_path / "p.ndjson").write_text(json.dumps(profile))
    assert take(standing)["address_changed"] == 1


@pytest.mark.parametrize("fault", ["gone", "broken", "old"])
def test_where_the_refresh_fails_or_is_too_old_nothing_is_sent_and_the_run_is_skipped(
        standing: cs.Workspace, proxied: tuple[cs.Workspace, faulty.Proxy, str], tmp_path: Path, fault: str) -> None:
    file = tmp_path / "members.json"
    if fault == "gone":
        file.unlink()
    elif fault == "broken":
        file.write_text("<html>")
    else:
        old = (datetime.now(UTC) - timedelta(hours=25)).timestamp()
        os.utime(file, (old, old))
    with pytest.raises(CohortsyncError) as stopped:
        take(standing)
    assert stands(standing) == ("Active", "skipped")
    assert standing.sync_history(COHORT)["reason"].iloc[0] == str(stopped.value)
    assert proxied[1].writes() == []


def test_a_cohort_of_mixpanels_is_pulled_alone_and_held_by_its_id(tmp_path: Path) -> None:
    with forked.sandbox(tmp_path / "sandbox", seed=SAMPLE / "mailchimp_members.ndjson",
                        mixpanel_seed=SAMPLE / "mixpanel.json") as running:
        workspace = connect(running, tmp_path / "home")
        workspace.pull(events=False)
        audiences = workspace.connect_mailchimp(OWNER_KEY, "subscribed", running.mailchimp_url)["audiences"]
        row = workspace.create_sync(COHORT, audiences[0]["audience_id"])
        assert row["cohort_id"]
        first = take(workspace)
        change(tmp_path / "sandbox", f"update cohorts set name = 'VIPs' where name = '{COHORT}'")
        again = take(workspace)
        assert (again["kept"], again["segment_id"]) == (first["added"], first["segment_id"])
        with ledger.state(workspace.home) as con:
            pulls = [json.loads(row["receipt"]) for row in con.execute("select receipt from pulls order by started_at")]
        assert [[one["cohort"] for one in pull["cohorts"]] for pull in pulls[1:]] == [[COHORT], [COHORT]]


def test_a_cohort_that_the_webhook_sends_is_as_fresh_as_what_it_sent_last(
        standing: cs.Workspace, tmp_path: Path) -> None:
    (tmp_path / "members.json").unlink()
    with ledger.state(standing.home) as con:
        con.execute("insert into mixpanel_cohorts values ('local', '77', ?, ?, null, null, null, ?)",
                    (COHORT, COHORT, ledger.now()))
        con.execute("insert into webhook_sessions (project_id, cohort_id, session_id, number, status, started_at, "
                    "applied_at) values ('local', '77', 'a', 1, 'applied', ?, ?)", (ledger.now(), ledger.now()))
    run = standing.start_sync(COHORT)
    assert run.refresh().source == "webhook"
    run.close()
    with ledger.state(standing.home) as con:
        con.execute("update webhook_sessions set applied_at = '2026-01-01T00:00:00+00:00'")
    with pytest.raises(ApiTransient, match="too old to send"):
        take(standing)


def test_a_cohort_defined_in_sql_is_reckoned_anew(proxied: tuple[cs.Workspace, faulty.Proxy, str]) -> None:
    workspace, _, audience_id = proxied
    workspace.define_cohort("some", "select distinct_id from profiles order by 1 limit 40")
    workspace.create_sync("some", audience_id, "one-time")
    assert take(workspace, "some")["accounted"] == 40
    assert workspace.find_sync("some")["status"] == "Done"


# guards and approval

@pytest.fixture
def shrunk(standing: cs.Workspace, tmp_path: Path, watched: None, monkeypatch: pytest.MonkeyPatch) -> cs.Workspace:
    """A sync that a guard has just stopped: a third of its people would come off the segment."""
    monkeypatch.setenv("COHORTSYNC_GUARD_PEOPLE", "100")
    standing.sync(COHORT, standing.find_sync(COHORT)["audience_id"], force=True)
    write_members(tmp_path, members(standing)[:300])
    with pytest.raises(UnsafePlan):
        take(standing)
    return standing


def test_a_run_that_a_guard_stops_changes_nothing_tells_once_and_waits(
        shrunk: cs.Workspace, proxied: tuple[cs.Workspace, faulty.Proxy, str]) -> None:
    before = len(proxied[1].writes())
    assert stands(shrunk) == ("Needs approval", "needs approval")
    for _ in range(2):
        with pytest.raises(BadInput, match="Needs approval"):
            take(shrunk)
    orders.due_again(shrunk.home, shrunk.find_sync(COHORT)["sync_id"])
    assert orders.due(shrunk.home) == []
    assert told(shrunk) == [f"{COHORT} → Newsletter: Needs approval"]
    assert len(proxied[1].writes()) == before


def test_approving_does_exactly_the_plan_that_waits(shrunk: cs.Workspace) -> None:
    plan = shrunk.waiting_plan(COHORT)
    receipt = shrunk.approve_sync(COHORT)
    assert (receipt["removed"], receipt["run_id"]) == (plan.counts["remove"], plan.run_id)
    assert receipt["accounted"] == receipt["size"] == 300
    assert stands(shrunk) == ("Active", "completed")
    with pytest.raises(BadInput, match="Nothing of the sync"):
        shrunk.approve_sync(COHORT)


def test_what_became_due_after_the_plan_was_made_is_not_approved_with_it(
        shrunk: cs.Workspace, proxied: tuple[cs.Workspace, faulty.Proxy, str], tmp_path: Path) -> None:
    before = len(proxied[1].writes())
    load_members(shrunk, tmp_path, members(shrunk)[:200])
    with pytest.raises(UnsafePlan, match="more changes"):
        shrunk.approve_sync(COHORT)
    assert len(proxied[1].writes()) == before
    assert [row["cohort"] for row in orders.due(shrunk.home)] == [COHORT]
    with pytest.raises(UnsafePlan):
        take(shrunk)
    assert shrunk.waiting_plan(COHORT).counts["remove"] > 200
    assert len(told(shrunk)) == 2


# who can act

def test_a_key_that_was_revoked_pauses_the_sync_with_the_reason_and_tells(
        standing: cs.Workspace, watched: None) -> None:
    keys = standing.home / "keys.json"
    was = keys.read_text()
    keys.write_text(json.dumps({standing.connection["host"]: REVOKED_KEY}))
    with pytest.raises(ApiFinal):
        take(standing)
    assert stands(standing) == ("Paused", "failed")
    assert "401" in standing.find_sync(COHORT)["reason"]
    assert told(standing) == [f"{COHORT} → Newsletter: Paused"]
    keys.write_text(was)
    standing.unpause_sync(COHORT)
    assert take(standing)["status"] == "completed"


def test_what_passes_by_itself_leaves_the_sync_active(
        standing: cs.Workspace, proxied: tuple[cs.Workspace, faulty.Proxy, str], watched: None) -> None:
    proxied[1].fault = lambda _method, _path: "500"
    with pytest.raises(ApiTransient):
        take(standing)
    assert stands(standing) == ("Active", "failed")
    assert told(standing) == []
    assert orders.due(standing.home) == []


def test_a_run_that_stops_after_it_began_to_send_is_due_again_at_once(
        standing: cs.Workspace, proxied: tuple[cs.Workspace, faulty.Proxy, str]) -> None:
    proxy = proxied[1]
    proxy.fault = lambda method, path: "500" if method == "POST" and "/segments/" in path else None
    with pytest.raises(ApiTransient):
        take(standing)
    assert [row["cohort"] for row in orders.due(standing.home)] == [COHORT]
    proxy.fault = lambda _method, _path: None
    receipt = take(standing)
    assert (receipt["status"], receipt["accounted"]) == ("completed", receipt["size"])


def test_a_sync_to_another_account_than_the_connected_one_is_paused(standing: cs.Workspace) -> None:
    with ledger.state(standing.home) as con:
        con.execute("update syncs set account_id = 'another', account_name = 'Another shop'")
    with pytest.raises(ConfigurationError, match="Another shop"):
        take(standing)
    assert stands(standing) == ("Paused", "failed")


def test_a_role_that_is_lost_pauses_the_dynamic_syncs_of_the_project(
        tmp_path: Path, watched: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COHORTSYNC_ROLE_CHECK_SECONDS", "0")
    with forked.sandbox(tmp_path / "sandbox", seed=SAMPLE / "mailchimp_members.ndjson",
                        mixpanel_seed=SAMPLE / "mixpanel.json") as running:
        workspace = connect(running, tmp_path / "home")
        workspace.pull(events=False)
        audiences = workspace.connect_mailchimp(OWNER_KEY, "subscribed", running.mailchimp_url)["audiences"]
        audience_id = audiences[0]["audience_id"]
        for cohort, kind in ((COHORT, "dynamic"), ("trial-ending", "dynamic"), ("newsletter-readers", "one-time")):
            workspace.create_sync(cohort, audience_id, kind)
        change(tmp_path / "sandbox", "update accounts set role = 'analyst'")
        with pytest.raises(ConfigurationError, match="analyst"):
            take(workspace)
        assert workspace.syncs().set_index("cohort")["status"].to_dict() == {
            COHORT: "Paused", "trial-ending": "Paused", "newsletter-readers": "Active"}
        assert told(workspace) == ["2 dynamic syncs are paused"]


@pytest.mark.parametrize(("error", "refreshing", "found"), [
    (ApiTransient("x"), True, ("skipped", "Active")), (ApiTransient("x"), False, ("failed", "Active")),
    *((ApiFinal("x", status=status), False, ("failed", "Paused")) for status in (400, 401, 403, 404)),
    (ApiFinal("x", status=401), True, ("skipped", "Paused")), (ApiFinal("x", status=418), False, ("failed", "Active")),
    (BadInput("x"), True, ("skipped", "Active")), (BadInput("x"), False, ("failed", "Paused")),
    (ConfigurationError("x"), True, ("skipped", "Paused")), (StoreError("x"), False, ("failed", "Active")),
    (UnsafePlan("x", guard="remove"), False, ("needs approval", "Needs approval")),
    *((UnsafePlan("x", guard=guard), False, ("failed", "Paused")) for guard in ("canary", "adopt")),
    (UnsafePlan("x", guard="changed"), False, ("failed", "Active")), (UnsafePlan("x"), False, ("failed", "Paused"))])
def test_an_error_is_told_by_who_can_act(error: CohortsyncError, refreshing: bool, found: tuple[str, str]) -> None:
    assert verdict(error, refreshing) == found
