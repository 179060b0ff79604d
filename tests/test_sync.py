"""A cohort to a Mailchimp segment over real HTTP: what is written, what never is, and what is proven."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import faulty
import forked
import pandas as pd
import pytest
from conftest import OWNER_KEY, REVOKED_KEY, SAMPLE, VIEWER_KEY, sampled
from mailchimp_side import COHORT, Side

import cohortsync as cs
from cohortsync import ledger, receipts
from cohortsync import mailchimp as mc
from cohortsync.emails import member_hash
from cohortsync.errors import ApiFinal, ApiTransient, BadInput, ConfigurationError, UnsafePlan
from cohortsync.plan import Plan
from cohortsync.sandbox.life import remembered
from cohortsync.sandbox.mailchimp import consent


@pytest.fixture
def side(connected: cs.Workspace) -> Side:
    return Side(f"http://{connected.connection['host']}")


def reload(workspace: cs.Workspace, tmp_path: Path, keep: slice, cohort: str = COHORT) -> None:
    """Load the cohort again with a part of its members."""
    ids = workspace.sql(f"select distinct_id from cohort_members where cohort = '{cohort}' "
                        "order by distinct_id")["distinct_id"].tolist()[keep]
    (tmp_path / "again.json").write_text(json.dumps(ids))
    workspace.load(cohorts={cohort: tmp_path / "again.json"})


def whole_people(workspace: cs.Workspace, receipt: dict[str, Any]) -> pd.DataFrame:
    return pd.read_parquet(workspace.home / "runs" / receipt["run_id"] / "outcome.parquet")


def test_a_sync_puts_exactly_the_target_on_the_segment_and_proves_it(connected: cs.Workspace, side: Side) -> None:
    receipt = connected.sync(COHORT, side.audience_id)
    summary = connected.audience_summary(COHORT)
    assert receipt["status"] == "completed"
    assert receipt["added"] + receipt["kept"] + receipt["refused"] == summary["exportable"]
    assert receipt["accounted"] == summary["size"]
    people = whole_people(connected, receipt)
    added = set(people.loc[people["outcome"] == "added", "member_hash"])
    pending = {h for h, status in side.statuses().items() if status == "pending"}
    assert side.on_segment() == added - pending
    segment_id, tags = side.segments()[f"mixpanel_{COHORT}"], side.tags()
    assert all(segment_id in tags[h] for h in added)


def test_no_status_and_no_tag_of_anyone_already_there_changes(connected: cs.Workspace, side: Side) -> None:
    statuses, tags = side.statuses(), side.tags()
    connected.sync(COHORT, side.audience_id)
    statuses_now, tags_now, own = side.statuses(), side.tags(), side.segments()[f"mixpanel_{COHORT}"]
    assert {h: statuses_now[h] for h in statuses} == statuses
    assert {h: [t for t in tags_now[h] if t != own] for h in tags} == tags


def test_archived_contacts_are_never_sent(proxied: tuple[cs.Workspace, faulty.Proxy, Side]) -> None:
    workspace, proxy, side = proxied
    archived = set(mc.fetch_members(side.client, side.audience_id, "archived")["address"].str.lower())
    receipt = workspace.sync(COHORT, side.audience_id)
    sent = " ".join(body.decode() for _, _, body in proxy.writes()).lower()
    assert receipt["refusals"]["archived"] > 0
    assert not [address for address in archived if address in sent]


def test_a_second_sync_finds_nothing_to_change_and_writes_nothing(
        proxied: tuple[cs.Workspace, faulty.Proxy, Side]) -> None:
    workspace, proxy, side = proxied
    first = workspace.sync(COHORT, side.audience_id)
    written = len(proxy.writes())
    second = workspace.sync(COHORT, side.audience_id)
    assert (second["added"], second["removed"], second["kept"]) == (0, 0, first["added"])
    assert second["accounted"] == second["size"]
    assert len(proxy.writes()) == written


def test_a_dry_run_writes_nothing(proxied: tuple[cs.Workspace, faulty.Proxy, Side]) -> None:
    workspace, proxy, side = proxied
    receipt = workspace.sync(COHORT, side.audience_id, dry_run=True)
    assert receipt["status"] == "planned"
    assert receipt["added"] > 0
    assert proxy.writes() == []


def test_a_segment_whose_making_was_not_answered_is_found_by_a_plan_and_kept_by_a_sync(
        proxied: tuple[cs.Workspace, faulty.Proxy, Side]) -> None:
    workspace, proxy, side = proxied
    fault_on(proxy, "POST", "/segments", "lost")
    with pytest.raises(cs.CohortsyncError):
        workspace.sync(COHORT, side.audience_id)
    before = ledger.segments(workspace.home, side.audience_id)
    plan = workspace.plan(COHORT, side.audience_id)
    assert (before[0]["segment_id"], ledger.segments(workspace.home, side.audience_id)) == (None, before)
    workspace.apply(plan)
    kept = ledger.segments(workspace.home, side.audience_id)
    assert [row["segment_id"] for row in kept] == [plan.target.segment_id] == [side.segments()[f"mixpanel_{COHORT}"]]


def test_a_segment_of_others_is_taken_over_also_when_nothing_is_to_be_changed(
        connected: cs.Workspace, side: Side, tmp_path: Path) -> None:
    (tmp_path / "none.json").write_text("[]")
    connected.load(cohorts={"nobody": tmp_path / "none.json"})
    side.client.send(mc.build_segment(side.audience_id, "mixpanel_nobody"))
    connected.sync("nobody", side.audience_id, adopt=True)
    assert connected.sync("nobody", side.audience_id)["status"] == "completed"


def test_a_dry_run_leaves_a_run_that_was_cut_short_as_it_is(
        proxied: tuple[cs.Workspace, faulty.Proxy, Side]) -> None:
    workspace, proxy, side = proxied
    cut = cut_short(workspace, workspace.plan(COHORT, side.audience_id))
    workspace.sync(COHORT, side.audience_id, dry_run=True)
    assert proxy.writes() == []
    assert workspace.receipt(cut)["status"] == "applying"


def test_a_run_that_was_cut_short_and_whose_plan_has_expired_is_closed(
        proxied: tuple[cs.Workspace, faulty.Proxy, Side]) -> None:
    workspace, _, side = proxied
    cut = cut_short(workspace, workspace.plan(COHORT, side.audience_id))
    (workspace.home / "runs" / cut / "plan.parquet").unlink()
    with pytest.raises(BadInput, match="no plan"):
        workspace.apply(cut)
    with sqlite3.connect(workspace.home / "state.sqlite") as con:
        con.execute("update runs set started_at = '2026-01-01T00:00:00.000+00:00' where run_id = ?", (cut,))
    con.close()
    assert workspace.sync(COHORT, side.audience_id)["status"] == "completed"
    assert sorted(workspace.runs()["status"]) == ["completed", "interrupted"]


def cut_short(workspace: cs.Workspace, plan: Plan) -> str:
    """A run as it stands when it ended before it sent anything."""
    receipts.keep_plan(workspace.home, plan)
    receipts.record(workspace.home, plan, receipts.receipt(plan, status="applying"))
    return plan.run_id


def test_a_sync_makes_no_more_writes_than_its_plan_says(proxied: tuple[cs.Workspace, faulty.Proxy, Side]) -> None:
    workspace, proxy, side = proxied
    plan = workspace.plan(COHORT, side.audience_id)
    receipt = workspace.apply(plan)
    assert len(proxy.writes()) == plan.writes == receipt["writes"]


def test_who_leaves_the_cohort_leaves_the_segment_and_stays_in_the_audience(
        connected: cs.Workspace, side: Side, tmp_path: Path) -> None:
    connected.sync(COHORT, side.audience_id)
    before, was = side.statuses(), side.on_segment()
    reload(connected, tmp_path, slice(0, 400))
    receipt = connected.sync(COHORT, side.audience_id)
    assert receipt["removed"] > 0
    assert receipt["accounted"] == receipt["size"] == 400
    assert side.on_segment() < was
    assert side.statuses() == before


def test_hand_edits_on_the_segment_are_overwritten(connected: cs.Workspace, side: Side) -> None:
    connected.sync(COHORT, side.audience_id)
    ours = side.on_segment()
    strangers = mc.fetch_members(side.client, side.audience_id, "subscribed")
    stranger = strangers.loc[~strangers["member_hash"].isin(ours), "address"].iloc[0]
    taken_off = strangers.loc[strangers["member_hash"].isin(ours), "address"].iloc[0]
    side.move(f"mixpanel_{COHORT}", [stranger], [taken_off])
    receipt = connected.sync(COHORT, side.audience_id)
    assert (receipt["added"], receipt["removed"]) == (1, 1)
    assert side.on_segment() == ours


def test_a_renamed_segment_is_found_by_its_id(connected: cs.Workspace, side: Side) -> None:
    connected.sync(COHORT, side.audience_id)
    segment_id = side.segments()[f"mixpanel_{COHORT}"]
    path = f"{mc.audience_path(side.audience_id)}/segments/{segment_id}"
    side.client.send(mc.Request("PATCH", path, body={"name": "VIPs"}))
    assert connected.sync(COHORT, side.audience_id)["kept"] > 0
    assert f"mixpanel_{COHORT}" not in side.segments()


def test_a_name_that_is_already_there_is_refused(connected: cs.Workspace, side: Side) -> None:
    side.client.send(mc.build_segment(side.audience_id, f"mixpanel_{COHORT}"))
    with pytest.raises(UnsafePlan, match="did not make"):
        connected.sync(COHORT, side.audience_id)
    assert side.on_segment() == set()


def test_a_segment_that_mailchimp_refused_to_make_is_not_taken_from_whoever_makes_it_later(
        proxied: tuple[cs.Workspace, faulty.Proxy, Side]) -> None:
    workspace, proxy, side = proxied
    fault_on(proxy, "POST", "/segments", "400")
    with pytest.raises(ApiFinal, match="400"):
        workspace.sync(COHORT, side.audience_id)
    side.client.send(mc.build_segment(side.audience_id, f"mixpanel_{COHORT}"))
    with pytest.raises(UnsafePlan, match="did not make"):
        workspace.sync(COHORT, side.audience_id)


def test_a_segment_whose_making_was_not_answered_is_ours_only_while_nobody_is_on_it(
        proxied: tuple[cs.Workspace, faulty.Proxy, Side]) -> None:
    workspace, proxy, side = proxied
    fault_on(proxy, "POST", "/segments", "lost")
    with pytest.raises(cs.CohortsyncError):
        workspace.sync(COHORT, side.audience_id)
    someone = mc.fetch_members(side.client, side.audience_id, "subscribed")["address"].iloc[0]
    side.move(f"mixpanel_{COHORT}", [someone], [])
    with pytest.raises(UnsafePlan, match="did not make"):
        workspace.sync(COHORT, side.audience_id)


def test_where_the_segments_name_is_not_unique_people_are_added_by_segment_call(
        connected: cs.Workspace, side: Side, tmp_path: Path) -> None:
    reload(connected, tmp_path, slice(0, 100))
    connected.sync(COHORT, side.audience_id)
    own = side.segments()[f"mixpanel_{COHORT}"]
    twin = side.client.send(mc.build_segment(side.audience_id, f"mixpanel_{COHORT}"))["id"]
    (tmp_path / "all.json").write_bytes((SAMPLE / "cohort-power-users.json").read_bytes())
    connected.load(cohorts={COHORT: tmp_path / "all.json"})
    receipt = connected.sync(COHORT, side.audience_id)
    assert receipt["accounted"] == receipt["size"] == 600
    assert mc.fetch_segment_members(side.client, side.audience_id, twin).empty
    assert len(mc.fetch_segment_members(side.client, side.audience_id, own)) > 300


def test_pending_contacts_are_proven_from_their_own_record_and_not_sent_again(
        workspace: cs.Workspace, tmp_path: Path) -> None:
    with forked.sandbox(tmp_path / "mailchimp", seed=SAMPLE / "mailchimp_members.ndjson") as running:
        workspace.connect_mailchimp(OWNER_KEY, "pending", running.mailchimp_url)
        audience_id = Side(running.mailchimp_url).audience_id
        first = workspace.sync(COHORT, audience_id)
        second = workspace.sync(COHORT, audience_id)
    assert first["awaiting_confirmation"] > 200
    assert first["accounted"] == second["accounted"] == 600
    assert (second["added"], second["writes"]) == (0, 0)


@pytest.mark.parametrize("new_contacts", ["subscribed", "pending"])
def test_an_audience_without_anyone_takes_a_cohort_of_nobody_and_then_one(
        workspace: cs.Workspace, tmp_path: Path, new_contacts: str) -> None:
    (tmp_path / "none.json").write_text("[]")
    (tmp_path / "p.ndjson").write_text(json.dumps({"$distinct_id": "x", "$properties": {"$email": "x@harbor.example"}}))
    (tmp_path / "one.json").write_text('["x"]')
    workspace.load(profiles=[tmp_path / "p.ndjson"], cohorts={"few": tmp_path / "none.json"})
    with forked.sandbox(tmp_path / "mailchimp") as running:
        workspace.connect_mailchimp(OWNER_KEY, new_contacts, running.mailchimp_url)
        audience_id = Side(running.mailchimp_url).audience_id
        nobody = [workspace.sync("few", audience_id) for _ in range(2)]
        workspace.load(cohorts={"few": tmp_path / "one.json"})
        one = [workspace.sync("few", audience_id) for _ in range(2)]
    assert [(run["added"], run["kept"], run["accounted"]) for run in (*nobody, *one)] == [
        (0, 0, 0), (0, 0, 0), (1, 0, 1), (0, 1, 1)]


def test_a_person_mailchimp_refuses_is_told_and_not_tried_again(
        connected: cs.Workspace, side: Side, tmp_path: Path) -> None:
    profiles = [{"$distinct_id": f"x{n}", "$properties": {"$email": address}}
                for n, address in enumerate(["test@test.example", "someone@example.com", "fine.one@harbor.example"])]
    (tmp_path / "p.ndjson").write_text("\n".join(map(json.dumps, profiles)))
    (tmp_path / "c.txt").write_text("x0\nx1\nx2\n")
    connected.load(profiles=[tmp_path / "p.ndjson"], cohorts={"odd": tmp_path / "c.txt"})
    receipt = connected.sync("odd", side.audience_id)
    assert (receipt["added"], receipt["refused"], receipt["accounted"]) == (1, 2, 3)
    assert receipt["refusals"] == {"looks_fake": 2}
    again = connected.sync("odd", side.audience_id)
    assert (again["writes"], again["refusals"]) == (0, {"rejected_before": 2})


def test_an_approved_plan_is_refused_when_more_became_due(
        connected: cs.Workspace, side: Side, tmp_path: Path) -> None:
    reload(connected, tmp_path, slice(0, 100))
    plan = connected.plan(COHORT, side.audience_id)
    (tmp_path / "all.json").write_bytes((SAMPLE / "cohort-power-users.json").read_bytes())
    connected.load(cohorts={COHORT: tmp_path / "all.json"})
    with pytest.raises(UnsafePlan, match="more changes"):
        connected.apply(plan)
    assert f"mixpanel_{COHORT}" not in side.segments()


def test_a_cohort_that_became_empty_does_not_empty_the_segment_unless_forced(
        connected: cs.Workspace, side: Side, tmp_path: Path) -> None:
    connected.sync(COHORT, side.audience_id)
    (tmp_path / "none.json").write_text('{"results": [], "page": 0, "total": 0, "status": "ok"}')
    connected.load(cohorts={COHORT: tmp_path / "none.json"})
    with pytest.raises(UnsafePlan, match="--force"):
        connected.sync(COHORT, side.audience_id)
    assert connected.sync(COHORT, side.audience_id, force=True)["removed"] > 400
    assert side.on_segment() == set()


def fault_on(proxy: faulty.Proxy, method: str, part: str, kind: str, times: int = 1) -> None:
    """Let the next requests of a kind go wrong."""
    left = [times]

    def fault(asked: str, path: str) -> str | None:
        if asked == method and part in path and left[0]:
            left[0] -= 1
            return kind
        return None

    proxy.fault = fault


@pytest.mark.parametrize("kind", ["429", "500", "403", "lost", "done_500"])
@pytest.mark.parametrize(("method", "part"), [("POST", "skip_duplicate"), ("POST", "/segments/"), ("GET", "/members")])
def test_what_passes_by_itself_does_not_fail_a_sync(
        proxied: tuple[cs.Workspace, faulty.Proxy, Side], kind: str, method: str, part: str) -> None:
    workspace, proxy, side = proxied
    planned = workspace.plan(COHORT, side.audience_id).changes
    fault_on(proxy, method, part, kind)
    receipt = workspace.sync(COHORT, side.audience_id)
    assert (receipt["status"], receipt["accounted"]) == ("completed", receipt["size"])
    assert receipt["added"] == planned


@pytest.mark.parametrize("kind", ["lost", "done_500"])
def test_an_answer_lost_while_the_segment_was_made_makes_no_second_one(
        proxied: tuple[cs.Workspace, faulty.Proxy, Side], kind: str) -> None:
    workspace, proxy, side = proxied
    fault_on(proxy, "POST", "/segments", kind)
    with pytest.raises(cs.CohortsyncError):
        workspace.sync(COHORT, side.audience_id)
    assert workspace.sync(COHORT, side.audience_id)["status"] == "completed"
    assert [s["name"] for s in mc.fetch_segments(side.client, side.audience_id)].count(f"mixpanel_{COHORT}") == 1


def test_a_mailchimp_that_stays_away_ends_the_run_with_a_message(
        proxied: tuple[cs.Workspace, faulty.Proxy, Side]) -> None:
    workspace, proxy, side = proxied
    proxy.fault = lambda method, _path: "500" if method == "POST" else None
    with pytest.raises(ApiTransient, match="500"):
        workspace.sync(COHORT, side.audience_id)
    assert workspace.runs()["status"].tolist() == ["failed"]


@pytest.mark.parametrize("moment", sampled(range(3), 1))
def test_a_sync_that_is_killed_is_finished_under_its_own_id_by_the_next(
        proxied: tuple[cs.Workspace, faulty.Proxy, Side], moment: int) -> None:
    workspace, proxy, side = proxied
    planned = workspace.plan(COHORT, side.audience_id).changes

    def fault(method: str, _path: str) -> str | None:
        if method == "POST" and len(proxy.writes()) == moment:
            os.kill(child.pid, signal.SIGKILL)
            return "lost"
        return None

    proxy.fault = fault
    command = [sys.executable, "-m", "cohortsync", "--home", str(workspace.home), "sync", COHORT,
               "--audience", side.audience_id, "--json"]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert child.wait(timeout=60) == -signal.SIGKILL
    proxy.fault = lambda _method, _path: None
    killed = ledger.runs(workspace.home)[0]
    assert killed["status"] == "applying"
    again = workspace.sync(COHORT, side.audience_id)
    assert (again["status"], again["added"], again["kept"]) == ("completed", 0, planned)
    finished = workspace.receipt(killed["run_id"])
    assert (finished["status"], finished["added"], finished["accounted"]) == ("completed", planned, finished["size"])
    assert workspace.runs()["status"].tolist() == ["completed", "completed"]


def test_a_run_that_was_cut_short_long_ago_is_read_back_closed_and_planned_anew(
        proxied: tuple[cs.Workspace, faulty.Proxy, Side], monkeypatch: pytest.MonkeyPatch) -> None:
    workspace, proxy, side = proxied
    planned = workspace.plan(COHORT, side.audience_id).changes

    def fault(method: str, path: str) -> str | None:
        if method == "POST" and "skip_duplicate" in path:
            os.kill(child.pid, signal.SIGKILL)
        return None

    proxy.fault = fault
    child = subprocess.Popen([sys.executable, "-m", "cohortsync", "--home", str(workspace.home), "sync", COHORT,
                              "--audience", side.audience_id], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert child.wait(timeout=60) == -signal.SIGKILL
    proxy.fault = lambda _method, _path: None
    killed = ledger.runs(workspace.home)[0]["run_id"]
    monkeypatch.setenv("COHORTSYNC_INTERVAL_SECONDS", "0")
    again = workspace.sync(COHORT, side.audience_id)
    closed = workspace.receipt(killed)
    assert (closed["status"], again["status"]) == ("interrupted", "completed")
    assert 0 < closed["added"] < planned
    assert (again["kept"], again["added"]) == (closed["added"], planned - closed["added"])


def test_a_plan_kept_is_applied_by_its_id_and_the_run_goes_by_it(connected: cs.Workspace, side: Side) -> None:
    plan = connected.plan(COHORT, side.audience_id)
    receipt = connected.apply(plan.run_id)
    assert (receipt["run_id"], receipt["added"], receipt["status"]) == (plan.run_id, plan.additions, "completed")
    with pytest.raises(BadInput, match="no plan"):
        connected.apply("20260101T000000Z-abcdef")


def test_an_approved_change_that_became_needless_is_dropped_and_told(connected: cs.Workspace, side: Side) -> None:
    connected.sync(COHORT, side.audience_id)
    someone = mc.fetch_segment_members(side.client, side.audience_id, side.segments()[f"mixpanel_{COHORT}"])
    side.move(f"mixpanel_{COHORT}", [], [someone["address"].iloc[0]])
    plan = connected.plan(COHORT, side.audience_id)
    side.move(f"mixpanel_{COHORT}", [someone["address"].iloc[0]], [])
    receipt = connected.apply(plan)
    assert (plan.changes, receipt["added"], receipt["needless"], receipt["writes"]) == (1, 0, 1, 0)


def test_hand_edits_are_kept_where_that_was_asked_for_also_the_next_time(connected: cs.Workspace, side: Side) -> None:
    connected.sync(COHORT, side.audience_id)
    ours = mc.fetch_segment_members(side.client, side.audience_id, side.segments()[f"mixpanel_{COHORT}"])
    people = mc.fetch_members(side.client, side.audience_id, "subscribed")
    stranger = people.loc[~people["member_hash"].isin(ours["member_hash"])].iloc[0]
    off = ours[ours["status"] == "subscribed"].iloc[0]
    side.move(f"mixpanel_{COHORT}", [stranger["address"]], [off["address"]])
    for _ in range(2):
        receipt = connected.sync(COHORT, side.audience_id, keep_hand_edits=True)
        assert (receipt["left"], receipt["refusals"]["removed_by_hand"], receipt["writes"]) == (1, 1, 0)
        assert receipt["accounted"] == receipt["size"]
        assert side.on_segment() == set(ours["member_hash"]) - {off["member_hash"]} | {stranger["member_hash"]}
    overwritten = connected.sync(COHORT, side.audience_id)
    assert (overwritten["added"], overwritten["removed"]) == (1, 1)
    assert side.on_segment() == set(ours["member_hash"])


def test_a_changed_address_takes_the_old_one_off_with_the_new_one_put_on(
        connected: cs.Workspace, side: Side, tmp_path: Path) -> None:
    def profile(address: str) -> None:
        (tmp_path / "p.ndjson").write_text(json.dumps({"$distinct_id": "x", "$properties": {"$email": address}}))
        connected.load(profiles=[tmp_path / "p.ndjson"], cohorts={"one": tmp_path / "c.txt"})

    (tmp_path / "c.txt").write_text("x\n")
    profile("old@harbor.example")
    connected.sync("one", side.audience_id)
    profile("new@harbor.example")
    receipt = connected.sync("one", side.audience_id)
    assert (receipt["added"], receipt["removed"], receipt["address_changed"], receipt["accounted"]) == (1, 0, 1, 1)
    assert side.on_segment("mixpanel_one") == {member_hash("new@harbor.example")}
    shown = connected.outcome(receipt["run_id"]).iloc[0]
    assert (shown["reason"], shown["old_email"], shown["email"]) == (
        "address_changed", "o•••@h•••.example", "n•••@h•••.example")


def test_a_segment_of_others_is_taken_over_when_that_is_said_with_whom_they_had_on_it(
        connected: cs.Workspace, side: Side, tmp_path: Path) -> None:
    people = connected.plan(COHORT, side.audience_id).people
    someone = people.loc[(people["word"] == "add_existing") & (people["status"] == "subscribed"), "address"].iloc[0]
    others = mc.fetch_members(side.client, side.audience_id, "subscribed")
    stranger = others.loc[~others["member_hash"].isin(people["member_hash"]), "address"].iloc[0]
    theirs = side.client.send(mc.build_segment(side.audience_id, f"mixpanel_{COHORT}"))["id"]
    side.move(f"mixpanel_{COHORT}", [someone, stranger], [])
    with pytest.raises(UnsafePlan, match="--adopt") as stopped:
        connected.plan(COHORT, side.audience_id)
    assert (stopped.value.guard, stopped.value.numbers["segment_id"]) == ("adopt", theirs)
    plan = connected.plan(COHORT, side.audience_id, adopt=True)
    assert (plan.target.adopted, plan.removals) == (True, 1)
    with remembered(tmp_path / "mailchimp" / "mailchimp.sqlite") as db:
        consent.hand_over(db, theirs)
    receipt = connected.sync(COHORT, side.audience_id, adopt=True)
    assert (receipt["segment_id"], receipt["status"], receipt["removed"]) == (theirs, "completed", 1)
    assert member_hash(stranger) not in side.on_segment()
    assert connected.sync(COHORT, side.audience_id)["writes"] == 0


def test_a_plan_that_a_guard_stops_waits_for_approval_and_is_then_applied_by_its_id(
        connected: cs.Workspace, side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COHORTSYNC_GUARD_PEOPLE", "100")
    with pytest.raises(UnsafePlan) as stopped:
        connected.sync(COHORT, side.audience_id)
    assert (stopped.value.guard, connected.runs()["status"].tolist()) == ("first", ["needs approval"])
    assert f"mixpanel_{COHORT}" not in side.segments()
    number = int(stopped.value.numbers["added"])
    receipt = connected.apply(stopped.value.run_id, confirm=number)
    assert (receipt["added"], connected.runs()["status"].tolist()) == (number, ["completed"])


def test_who_changes_state_while_a_run_is_at_work_is_accounted_for(
        proxied: tuple[cs.Workspace, faulty.Proxy, Side]) -> None:
    workspace, proxy, side = proxied
    plan = workspace.plan(COHORT, side.audience_id)
    new = plan.people.loc[plan.people["word"] == "add_new", "address"].tolist()[:4]
    there = plan.people[(plan.people["word"] == "add_existing") & (plan.people["status"] == "subscribed")]
    leaving, left = there["address"].tolist()[0], [False]

    def change(_method: str, path: str) -> None:
        if left[0] or "skip_duplicate" not in path:
            return
        left[0] = True
        for address, status in zip(new, ("subscribed", "unsubscribed", "subscribed", "subscribed"), strict=True):
            side.client.send(mc.Request("POST", f"{mc.audience_path(side.audience_id)}/members",
                                        body={"email_address": address, "status": status}))
        side.client.send(mc.Request("DELETE", f"{mc.audience_path(side.audience_id)}/members/{member_hash(leaving)}"))

    proxy.fault = change
    receipt = workspace.apply(plan)
    assert (receipt["status"], receipt["accounted"]) == ("completed", receipt["size"])
    people = whole_people(workspace, receipt).set_index("address")["outcome"]
    assert people[new].tolist() == ["added", "refused", "added", "added"]
    assert people[leaving] == "refused"


def test_two_syncs_of_one_account_do_not_run_at_once(proxied: tuple[cs.Workspace, faulty.Proxy, Side]) -> None:
    workspace, _, side = proxied
    with pytest.raises(ApiTransient, match="Another sync"):
        workspace.sync(COHORT, side.audience_id, review=lambda _plan: workspace.sync(COHORT, side.audience_id))


def test_a_connection_is_checked_before_it_is_kept(workspace: cs.Workspace, mailchimp: Any) -> None:
    for key, words in ((VIEWER_KEY, "viewer"), (REVOKED_KEY, "401"), ("nonsense", "data centre")):
        with pytest.raises((ConfigurationError, ApiFinal), match=words):
            workspace.connect_mailchimp(key, "subscribed", mailchimp.mailchimp_url)
    with pytest.raises(BadInput, match="'everyone'"):
        workspace.connect_mailchimp(OWNER_KEY, "everyone", mailchimp.mailchimp_url)
    assert workspace.connection is None
    assert not (workspace.home / "keys.json").exists()


def test_a_key_that_was_revoked_marks_the_connection(connected: cs.Workspace, side: Side) -> None:
    (connected.home / "keys.json").write_text(json.dumps({connected.connection["host"]: REVOKED_KEY}))
    with pytest.raises(ApiFinal, match="401"):
        connected.plan(COHORT, side.audience_id)
    assert connected.connection["status"] == "Needs attention"
    assert "401" in connected.connection["reason"]


def test_an_audience_that_does_not_exist_is_said(connected: cs.Workspace) -> None:
    with pytest.raises(ApiFinal, match="404"):
        connected.plan(COHORT, "0000000000")


def test_no_address_and_no_key_is_left_outside_the_files_that_need_them(
        connected: cs.Workspace, side: Side) -> None:
    receipt = connected.sync(COHORT, side.audience_id)
    people = whole_people(connected, receipt)
    secrets = [*people["address"], OWNER_KEY]
    receipt_file = connected.home / "runs" / receipt["run_id"] / "receipt.json"
    seen = [path.read_bytes().decode("utf-8", "ignore") for path in
            [receipt_file, *connected.home.glob("state.sqlite*")]]
    seen += [connected.outcome(receipt["run_id"]).to_csv(), connected.audience(COHORT).to_csv(),
             connected.plan(COHORT, side.audience_id).preview().to_csv(), connected.runs().to_csv()]
    assert not [secret for secret in secrets for text in seen if secret in text]


def test_everything_a_sync_leaves_is_its_owners_alone(connected: cs.Workspace, side: Side) -> None:
    connected.sync(COHORT, side.audience_id)
    for path in connected.home.rglob("*"):
        if "sandbox" not in path.parts:
            assert path.stat().st_mode & 0o077 == 0, path
