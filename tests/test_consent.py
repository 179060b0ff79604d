"""Who changes their mind while a run is under way: nobody is sent, or brought back, on a consent of yesterday."""

from __future__ import annotations

import json
from pathlib import Path

import faulty
import forked
import pytest
from conftest import OWNER_KEY, sampled
from mailchimp_side import Side
from test_sync import cut_short, whole_people

import cohortsync as cs
from cohortsync import ledger
from cohortsync import mailchimp as mc
from cohortsync.emails import member_hash
from cohortsync.errors import UnsafePlan
from cohortsync.plan import Plan
from cohortsync.sandbox.life import remembered
from cohortsync.sandbox.mailchimp.members import act_as_person

ANN, BOB, CAT = "ann@harbor.example", "bob@harbor.example", "cat@harbor.example"
Proxied = tuple[cs.Workspace, faulty.Proxy, Side]


def load_two(workspace: cs.Workspace, tmp_path: Path, bob_agrees: bool) -> None:
    """A cohort of two, who both are new to the audience."""
    load_all(workspace, tmp_path, {ANN: True, BOB: bob_agrees})


def load_all(workspace: cs.Workspace, tmp_path: Path, agrees: dict[str, bool]) -> None:
    people = [{"$distinct_id": address[0], "$properties": {"$email": address, "agreed": yes}}
              for address, yes in agrees.items()]
    (tmp_path / "p.ndjson").write_text("\n".join(map(json.dumps, people)))
    (tmp_path / "c.txt").write_text("\n".join(address[0] for address in agrees))
    workspace.load(profiles=[tmp_path / "p.ndjson"], cohorts={"two": tmp_path / "c.txt"})


def planned(workspace: cs.Workspace, side: Side, tmp_path: Path, bob_agrees: bool = True) -> Plan:
    load_two(workspace, tmp_path, bob_agrees)
    return workspace.plan("two", side.audience_id, consent_property="agreed")


def outcomes(workspace: cs.Workspace, run_id: str) -> dict[str, tuple[str, str]]:
    people = whole_people(workspace, {"run_id": run_id})
    return {row.address: (row.outcome, row.reason) for row in people.itertuples()}


def sent(proxy: faulty.Proxy) -> str:
    return " ".join(body.decode() for _, _, body in proxy.writes())


def test_who_took_their_consent_back_before_a_plan_is_applied_is_left_out(proxied: Proxied, tmp_path: Path) -> None:
    workspace, proxy, side = proxied
    plan = planned(workspace, side, tmp_path)
    load_two(workspace, tmp_path, bob_agrees=False)
    receipt = workspace.apply(plan)
    assert (receipt["added"], receipt["refusals"], receipt["needless"]) == (1, {"no_consent": 1}, 1)
    assert BOB not in sent(proxy)


def test_who_took_their_consent_back_before_a_run_is_taken_up_again_is_left_out(
        proxied: Proxied, tmp_path: Path) -> None:
    workspace, proxy, side = proxied
    cut = cut_short(workspace, planned(workspace, side, tmp_path))
    load_two(workspace, tmp_path, bob_agrees=False)
    workspace.sync("two", side.audience_id, consent_property="agreed")
    assert outcomes(workspace, cut) == {ANN: ("added", ""), BOB: ("refused", "no_consent")}
    finished = workspace.receipt(cut)
    assert (finished["status"], finished["accounted"], finished["refusals"]) == ("completed", 2, {"no_consent": 1})
    assert BOB not in sent(proxy)


def cut_short_with_cat(workspace: cs.Workspace, side: Side, tmp_path: Path) -> Plan:
    """A run that is to add Cat to the two whom an export before it left on the segment, and that sent nothing yet."""
    load_two(workspace, tmp_path, bob_agrees=True)
    workspace.sync("two", side.audience_id, consent_property="agreed")
    load_all(workspace, tmp_path, {ANN: True, BOB: True, CAT: True})
    plan = workspace.plan("two", side.audience_id, consent_property="agreed")
    cut_short(workspace, plan)
    return plan


def test_a_run_that_keeps_someone_who_took_their_consent_back_is_planned_anew_and_takes_them_off(
        proxied: Proxied, tmp_path: Path) -> None:
    workspace, proxy, side = proxied
    cut = cut_short_with_cat(workspace, side, tmp_path)
    load_all(workspace, tmp_path, {ANN: True, BOB: False, CAT: True})
    before = len(proxy.writes())
    with pytest.raises(UnsafePlan, match="1 more changes became due"):
        workspace.apply(cut)  # what was approved keeps Bob
    assert len(proxy.writes()) == before
    receipt = workspace.sync("two", side.audience_id, consent_property="agreed")
    assert ledger.run(workspace.home, cut.run_id)["status"] == "interrupted"  # type: ignore[index]
    assert (receipt["added"], receipt["writes"], receipt["refusals"]) == (1, 2, {"no_consent": 1})
    assert outcomes(workspace, receipt["run_id"])[BOB] == ("refused", "no_consent")
    assert side.on_segment("mixpanel_two") == {member_hash(ANN), member_hash(CAT)}


def test_a_run_taken_up_again_when_nobody_consents_any_more_stops_at_the_guard(
        proxied: Proxied, tmp_path: Path) -> None:
    workspace, _, side = proxied
    cut_short_with_cat(workspace, side, tmp_path)
    load_all(workspace, tmp_path, {ANN: False, BOB: False, CAT: False})
    with pytest.raises(UnsafePlan, match="takes all 2 people off"):
        workspace.sync("two", side.audience_id, consent_property="agreed")
    assert side.on_segment("mixpanel_two") == {member_hash(ANN), member_hash(BOB)}


def test_who_takes_their_consent_back_while_an_answer_is_lost_comes_off_the_segment_again(
        proxied: Proxied, tmp_path: Path) -> None:
    workspace, proxy, side = proxied
    plan = planned(workspace, side, tmp_path)

    def lose_the_first(_method: str, path: str) -> str | None:
        if "skip_duplicate" not in path or sent(proxy).count(BOB):
            return None
        load_two(workspace, tmp_path, bob_agrees=False)
        return "lost"

    proxy.fault = lose_the_first
    receipt = workspace.apply(plan)
    assert outcomes(workspace, plan.run_id) == {ANN: ("added", ""), BOB: ("refused", "no_consent")}
    assert (receipt["status"], receipt["accounted"]) == ("completed", 2)
    assert side.on_segment("mixpanel_two") == {member_hash(ANN)}
    assert side.statuses()[member_hash(BOB)] == "subscribed"  # the lost request had brought him in


def test_who_is_forgotten_before_they_confirm_loses_the_tag_though_no_list_shows_them(tmp_path: Path) -> None:
    workspace = cs.open(tmp_path / "home")
    workspace.init("UTC", "simplified")
    load_two(workspace, tmp_path, bob_agrees=True)
    with forked.sandbox(tmp_path / "mailchimp") as running:
        workspace.connect_mailchimp(OWNER_KEY, "pending", running.mailchimp_url)
        side = Side(running.mailchimp_url)
        tag = workspace.sync("two", side.audience_id)["segment_id"]
        with remembered(tmp_path / "mailchimp" / "mailchimp.sqlite") as db:
            act_as_person(db, side.audience_id, ANN, "confirm")
        workspace.forget(BOB)
        receipt = workspace.sync("two", side.audience_id, force=True)
        tagged = {key for key, tags in side.tags().items() if tag in tags}
    assert tagged == {member_hash(ANN)}
    assert receipt["accounted"] == receipt["size"]


def test_an_undo_asks_for_consent_as_the_run_did_and_so_does_its_own_undo(proxied: Proxied, tmp_path: Path) -> None:
    workspace, proxy, side = proxied
    run = workspace.apply(planned(workspace, side, tmp_path))
    undone = workspace.apply(workspace.undo(run["run_id"]), force=True)
    load_two(workspace, tmp_path, bob_agrees=False)
    before = sent(proxy).count(BOB)
    receipt = workspace.apply(workspace.undo(undone["run_id"]))
    assert (receipt["added"], receipt["refusals"]) == (1, {"no_consent": 1})
    assert (side.on_segment("mixpanel_two"), sent(proxy).count(BOB)) == ({member_hash(ANN)}, before)


def test_who_agrees_only_after_the_plan_waits_for_the_next(proxied: Proxied, tmp_path: Path) -> None:
    workspace, _, side = proxied
    cut = cut_short(workspace, planned(workspace, side, tmp_path, bob_agrees=False))
    load_two(workspace, tmp_path, bob_agrees=True)
    receipt = workspace.sync("two", side.audience_id, consent_property="agreed")
    assert outcomes(workspace, cut)[BOB] == ("refused", "no_consent")
    assert (receipt["added"], receipt["kept"]) == (1, 1)


def test_a_run_that_was_cut_short_on_other_terms_is_closed_and_not_gone_on_with(
        proxied: Proxied, tmp_path: Path) -> None:
    workspace, proxy, side = proxied
    load_two(workspace, tmp_path, bob_agrees=False)
    cut = cut_short(workspace, workspace.plan("two", side.audience_id))
    receipt = workspace.sync("two", side.audience_id, consent_property="agreed")
    assert (receipt["added"], receipt["refusals"]) == (1, {"no_consent": 1})
    assert ledger.run(workspace.home, cut)["status"] == "interrupted"  # type: ignore[index]
    assert BOB not in sent(proxy)


# who goes between two tries

def come_and_go(side: Side, gone: str) -> None:
    """Ann signs up by a form and then leaves, or is archived by the account's owner."""
    members = f"{mc.audience_path(side.audience_id)}/members"
    if member_hash(ANN) not in side.statuses():
        side.client.send(mc.Request("POST", members, body={"email_address": ANN, "status": "subscribed"}))
    if gone == "archived":
        side.client.send(mc.Request("DELETE", f"{members}/{member_hash(ANN)}"))
    else:
        side.client.send(mc.Request("PATCH", f"{members}/{member_hash(ANN)}", body={"status": gone}))


@pytest.mark.parametrize("gone", ["archived", "unsubscribed"])
@pytest.mark.parametrize("kind", sampled(["lost", "500", "done_500"], 1))
def test_who_goes_between_a_try_and_the_next_is_not_brought_back(
        proxied: Proxied, tmp_path: Path, kind: str, gone: str) -> None:
    workspace, proxy, side = proxied
    plan = planned(workspace, side, tmp_path)
    tried: list[str] = []

    def fault(method: str, path: str) -> str | None:
        if method == "POST" and "skip_duplicate" in path:
            tried.append(path)
            if len(tried) == 1:
                return kind
        if len(tried) == 1:  # the request after the first try, be it a look or the next try
            tried.append("")
            come_and_go(side, gone)
        return None

    proxy.fault = fault
    receipt = workspace.apply(plan)
    assert (receipt["status"], receipt["accounted"]) == ("completed", 2)
    tagged = gone == "unsubscribed" and kind != "500"  # the first try's doing: on the segment, and never mailed
    assert outcomes(workspace, plan.run_id) == {ANN: ("added", "") if tagged else ("refused", gone), BOB: ("added", "")}
    assert side.statuses()[member_hash(ANN)] == gone
