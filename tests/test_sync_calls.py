"""How few requests a sync takes, what each run proves, and how it stands with what changes an answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import faulty
import pandas as pd
import pytest
import requests
from mailchimp_side import COHORT, Side
from standing import stands, take
from test_sync import reload

import cohortsync as cs
from cohortsync import mailchimp as mc
from cohortsync.emails import member_hash
from cohortsync.errors import UnsafePlan


def load_people(workspace: cs.Workspace, tmp_path: Path, people: range) -> None:
    """A cohort of so many invented people."""
    profiles = [{"$distinct_id": f"n{n}", "$properties": {"$email": f"n{n}@harbor.example"}} for n in people]
    (tmp_path / "p.ndjson").write_text("\n".join(map(json.dumps, profiles)))
    (tmp_path / "c.txt").write_text("".join(f"n{n}\n" for n in people))
    workspace.load(profiles=[tmp_path / "p.ndjson"], cohorts={"many": tmp_path / "c.txt"})


def asked(proxy: faulty.Proxy, before: int) -> list[str]:
    """What was asked since, each as its method and what its path is about."""
    return [f"{method} {path.split('?')[0].removeprefix('/3.0/lists/').partition('/')[2] or 'audience'}"
            for method, path, _ in proxy.passed[before:]]


def test_writes_are_the_arithmetic_and_at_most_three_and_reads_as_few_as_the_design_says(
        proxied: tuple[cs.Workspace, faulty.Proxy, Side], tmp_path: Path) -> None:
    workspace, proxy, side = proxied
    load_people(workspace, tmp_path, range(1200))
    first = workspace.sync("many", side.audience_id, confirm=1200)
    assert (first["added"], first["writes"], first["writes_minimum"]) == (1200, 4, 3)

    load_people(workspace, tmp_path, range(100, 1750))
    before = len(proxy.passed)
    second = workspace.sync("many", side.audience_id, force=True)
    assert (second["added"], second["removed"], second["writes"], second["writes_minimum"]) == (550, 100, 3, 3)
    reads = [line for line in asked(proxy, before) if line.startswith("GET")]
    segment = f"GET segments/{second['segment_id']}/members"
    assert sorted(reads) == sorted([
        "GET audience", "GET segments", "GET merge-fields",
        *["GET members"] * 5,  # 1,200 people changed within ten minutes, the archived, and two totals
        *[segment] * 2, "GET members", *[segment] * 2])  # the archived before they are sent; 1,200 and 1,650 people
    assert (second["reads"], second["requests"]) == (len(reads), len(reads) + 3)

    before = len(proxy.passed)
    third = workspace.sync("many", side.audience_id)
    assert (third["writes"], third["reads"]) == (0, len(asked(proxy, before)))
    assert third["reads"] <= 11  # no reading back: 2,350 people came within ten minutes, 1,650 are on the segment


def test_a_plan_says_beforehand_what_its_run_takes(proxied: tuple[cs.Workspace, faulty.Proxy, Side]) -> None:
    workspace, _, side = proxied
    workspace.plan(COHORT, side.audience_id)  # the first reads everything
    plan = workspace.plan(COHORT, side.audience_id)
    receipt = workspace.apply(plan)
    assert plan.requests == {"reads": receipt["reads"], "writes": receipt["writes"],
                             "minimum": receipt["writes_minimum"], "field_writes": 0}
    assert plan.new_billed_contacts == plan.counts["add_new"] > 0
    assert {name: receipt[name] for name in plan.numbers} == plan.numbers


def test_a_run_leaves_its_proof_as_a_table_a_receipt_and_a_picture(connected: cs.Workspace, tmp_path: Path) -> None:
    side = Side(f"http://{connected.connection['host']}")
    receipt = connected.sync(COHORT, side.audience_id)
    table = connected.proof(receipt["run_id"])
    assert int(table["people"].sum()) == receipt["size"] == receipt["accounted"]
    assert set(table["outcome"]) == {"added", "refused", "not_exportable"}
    folder = connected.home / "runs" / receipt["run_id"]
    assert json.loads((folder / "receipt.json").read_text()) == receipt
    page = (folder / "proof.html").read_text()
    assert f"{receipt['accounted']:,} of {receipt['size']:,} ids accounted for" in page
    assert "@" not in page.replace("@media", "")
    assert (folder / "../plotly.min.js").resolve().stat().st_size > 1_000_000
    assert "https://cdn" not in page


def set_there(side: Side, **settings: str) -> None:
    """Have the local Mailchimp behave in another way."""
    url = side.client.url.removesuffix("/3.0")
    requests.post(f"{url}/sandbox/settings", json=settings, timeout=20).raise_for_status()


@pytest.mark.parametrize(("behaviour", "value"), [("batch_tags", "missing"), ("pending_on_segment", "listed"),
                                                  ("tag_changes_member", "yes"), ("archived_on_segment", "added")])
def test_whichever_way_mailchimp_behaves_everyone_is_accounted_for(
        connected: cs.Workspace, tmp_path: Path, behaviour: str, value: str) -> None:
    side = Side(f"http://{connected.connection['host']}")
    set_there(side, **{behaviour: value})
    for keep in (slice(0, 400), slice(0, 300)):
        reload(connected, tmp_path, keep)
        receipt = connected.sync(COHORT, side.audience_id)
        assert (receipt["status"], receipt["accounted"]) == ("completed", receipt["size"])
    assert connected.sync(COHORT, side.audience_id)["writes"] == 0


def test_the_first_chunk_goes_alone_and_nothing_follows_when_it_did_something_else_than_was_asked(
        proxied: tuple[cs.Workspace, faulty.Proxy, Side], tmp_path: Path) -> None:
    workspace, proxy, side = proxied
    load_people(workspace, tmp_path, range(1200))
    set_there(side, batch_status="pending")
    with pytest.raises(UnsafePlan, match="500 new ones another status than subscribed") as stopped:
        workspace.sync("many", side.audience_id, confirm=1200)
    assert (stopped.value.guard, dict(stopped.value.numbers)) == ("canary", {"changed": 0, "wrong_status": 500})
    assert [row["kind"] for row in sent(workspace)] == ["subscribe"]
    assert asked(proxy, 0)[-1] == "POST audience"
    assert workspace.runs()["status"].tolist() == ["failed"]


def test_a_first_chunk_that_changes_someone_who_was_there_stops_the_sync_and_its_standing_order(
        proxied: tuple[cs.Workspace, faulty.Proxy, Side], tmp_path: Path) -> None:
    workspace, proxy, side = proxied
    load_people(workspace, tmp_path, range(2))
    workspace.create_sync("many", side.audience_id)
    set_there(side, batch_updates="yes")

    def come_by_a_form(_method: str, path: str) -> None:
        if "skip_duplicate" in path:
            side.client.send(mc.Request("POST", f"{mc.audience_path(side.audience_id)}/members", body={
                "email_address": "n1@harbor.example", "status": "unsubscribed"}))

    proxy.fault = come_by_a_form
    with pytest.raises(UnsafePlan, match="changed 1 contacts that were there already"):
        take(workspace, "many")
    assert stands(workspace, "many") == ("Paused", "failed")
    assert side.statuses()[member_hash("n1@harbor.example")] == "unsubscribed"


def test_nothing_follows_a_first_chunk_that_was_not_answered(
        proxied: tuple[cs.Workspace, faulty.Proxy, Side], tmp_path: Path) -> None:
    workspace, proxy, side = proxied
    load_people(workspace, tmp_path, range(1200))
    proxy.fault = lambda _method, path: "500" if "skip_duplicate" in path else None
    with pytest.raises(cs.CohortsyncError, match="500"):
        workspace.sync("many", side.audience_id, confirm=1200)
    assert sum("skip_duplicate" in path for _, path, _ in proxy.passed) == 0
    assert [row["kind"] for row in sent(workspace)] == ["subscribe"]


def sent(workspace: cs.Workspace) -> list[dict[str, Any]]:
    from cohortsync import ledger

    with ledger.state(workspace.home) as con:
        return [dict(row) for row in con.execute("select * from batches order by run_id, number")]


def test_a_refusal_is_remembered_as_long_as_its_kind_is_worth(connected: cs.Workspace, tmp_path: Path) -> None:
    from cohortsync import ledger

    people = [{"$distinct_id": "x", "$properties": {"$email": "someone@example.com"}}]
    (tmp_path / "p.ndjson").write_text("\n".join(map(json.dumps, people)))
    (tmp_path / "c.txt").write_text("x\n")
    connected.load(profiles=[tmp_path / "p.ndjson"], cohorts={"odd": tmp_path / "c.txt"})
    side = Side(f"http://{connected.connection['host']}")
    connected.sync("odd", side.audience_id)
    with ledger.state(connected.home) as con:
        row = con.execute("select reason, julianday(expires_at) - julianday('now') as days from rejects").fetchone()
    assert (row["reason"], round(row["days"])) == ("looks_fake", 30)


def test_a_standing_sync_keeps_its_terms_and_is_paused_before_a_run_of_it_is_undone(
        connected: cs.Workspace, tmp_path: Path) -> None:
    side = Side(f"http://{connected.connection['host']}")
    row = connected.create_sync(COHORT, side.audience_id, keep_hand_edits=True, consent_property="agreed")
    assert json.loads(row["terms"])["consent_property"] == "agreed"
    receipt = connected.sync(COHORT, side.audience_id)
    undone = connected.apply(connected.undo(receipt["run_id"]), force=True)
    assert (undone["removed"], side.on_segment()) == (receipt["added"], set())
    assert connected.syncs()["status"].tolist() == ["Paused"]
    assert receipt["run_id"] in connected.syncs()["reason"].iloc[0]


def test_a_plan_without_anyone_is_a_plan(connected: cs.Workspace, tmp_path: Path) -> None:
    (tmp_path / "none.json").write_text("[]")
    connected.load(cohorts={"nobody": tmp_path / "none.json"})
    side = Side(f"http://{connected.connection['host']}")
    plan = connected.plan("nobody", side.audience_id)
    assert (plan.requests["writes"], plan.numbers, plan.guards) == (
        1, {"exportable": 0, "in_segment": 0, "mailable": 0}, [])
    assert isinstance(plan.preview(), pd.DataFrame)
