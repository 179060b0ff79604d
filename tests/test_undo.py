"""A run taken back: membership of the segment, of those who still are as it left them, and nothing more."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from conftest import SAMPLE
from mailchimp_side import COHORT, Side
from test_sync import cut_short, reload

import cohortsync as cs
from cohortsync import mailchimp as mc
from cohortsync.emails import member_hash
from cohortsync.errors import BadInput
from cohortsync.undo import lasting, moved, undo_people

ANN, BOB, CY = (f"{name}@harbor.example" for name in ("ann", "bob", "cy"))


@pytest.fixture
def side(connected: cs.Workspace) -> Side:
    return Side(f"http://{connected.connection['host']}")


def outcome(*rows: tuple[str, str, str, str | None]) -> pd.DataFrame:
    """Rows of (address, word, outcome, old address) as a run leaves them."""
    return pd.DataFrame([{"member_hash": member_hash(address), "address": address, "canonical_id": address,
                          "word": word, "reason": "", "outcome": end, "old_address": old,
                          "old_hash": old and member_hash(old)} for address, word, end, old in rows])


def undone(done: pd.DataFrame, statuses: dict[str, str], there: list[str], *, since: tuple[str, ...] = (),
           consent: bool = True) -> dict[str, tuple[str, str]]:
    members = pd.DataFrame({"member_hash": list(map(member_hash, statuses)), "status": list(statuses.values())})
    on_segment = pd.DataFrame({"member_hash": list(map(member_hash, there))}, dtype="str")
    frame = undo_people(done, members, on_segment, set(map(member_hash, since)), pd.Series(consent, index=done.index))
    return {row.address: (row.word, row.reason) for row in frame.itertuples()}


def test_who_was_put_on_comes_off_and_who_was_taken_off_goes_on_again() -> None:
    done = moved(outcome((ANN, "add_new", "added", None), (BOB, "remove", "removed", None), (CY, "keep", "kept", None)))
    assert undone(done, {ANN: "subscribed", BOB: "subscribed"}, [ANN]) == {
        ANN: ("remove", "undo"), BOB: ("add_existing", "undo")}
    assert lasting(done, pd.DataFrame({"word": [], "reason": []}))[0].endswith("stay there: 1.")


def test_a_changed_address_is_changed_back() -> None:
    done = moved(outcome((ANN, "add_new", "added", BOB)))
    assert undone(done, {ANN: "subscribed", BOB: "subscribed"}, [ANN]) == {
        ANN: ("remove", "undo"), BOB: ("add_existing", "undo")}


def test_who_is_no_longer_as_the_run_left_them_stays_as_they_are() -> None:
    done = moved(outcome((ANN, "add_existing", "added", None), (BOB, "remove", "removed", None)))
    assert undone(done, {ANN: "subscribed", BOB: "subscribed"}, [BOB]) == {
        ANN: ("leave", "not_there_any_more"), BOB: ("leave", "there_again")}
    assert undone(done, {ANN: "subscribed", BOB: "subscribed"}, [ANN], since=(ANN, BOB)) == {
        ANN: ("leave", "changed_by_a_later_run"), BOB: ("leave", "changed_by_a_later_run")}


@pytest.mark.parametrize("status", ["unsubscribed", "cleaned", "archived"])
def test_nobody_is_put_back_who_may_not_be_mailed(status: str) -> None:
    done = moved(outcome((BOB, "remove", "removed", None)))
    assert undone(done, {BOB: status}, []) == {BOB: ("refuse", status)}
    assert undone(done, {}, []) == {BOB: ("leave", "not_in_audience")}
    assert undone(done, {BOB: "subscribed"}, [], consent=False) == {BOB: ("refuse", "no_consent")}
    assert undone(done, {BOB: "subscribed"}, [BOB], consent=False) == {BOB: ("remove", "no_consent")}
    by_rule = moved(outcome((BOB, "remove", "refused", None)).assign(reason="forgotten_here"))
    assert undone(by_rule, {BOB: "subscribed"}, []) == {BOB: ("refuse", "forgotten_here")}


def test_a_run_is_undone_and_done_again(connected: cs.Workspace, side: Side, tmp_path: Path) -> None:
    reload(connected, tmp_path, slice(0, 400))
    connected.sync(COHORT, side.audience_id)
    before, statuses = side.on_segment(), side.statuses()
    (tmp_path / "all.json").write_bytes((SAMPLE / "cohort-power-users.json").read_bytes())
    connected.load(cohorts={COHORT: tmp_path / "all.json"})
    reload(connected, tmp_path, slice(100, None))
    run = connected.sync(COHORT, side.audience_id)
    assert run["added"] > 0
    assert run["removed"] > 0
    plan = connected.undo(run["run_id"])
    assert (plan.additions, plan.removals) == (run["removed"], run["added"])
    assert any("stay there" in warning for warning in plan.warnings)
    receipt = connected.apply(plan)
    assert (receipt["status"], receipt["added"], receipt["removed"]) == ("completed", run["removed"], run["added"])
    assert (receipt["undoes"], receipt["accounted"], side.on_segment()) == (run["run_id"], receipt["size"], before)
    assert {key: now for key, now in side.statuses().items() if key in statuses} == statuses
    assert connected.undo(run["run_id"]).changes == 0
    again = connected.sync(COHORT, side.audience_id)
    assert (again["added"], again["removed"], again["status"]) == (run["added"], run["removed"], "completed")


def test_an_undo_that_was_cut_short_is_finished_by_the_next(connected: cs.Workspace, side: Side) -> None:
    run = connected.sync(COHORT, side.audience_id)
    cut_short(connected, connected.undo(run["run_id"]))
    receipt = connected.apply(connected.undo(run["run_id"]), force=True)
    assert receipt["status"] == "completed"
    assert side.on_segment() == set()
    assert sorted(connected.runs()["status"]) == ["completed"] * 3


def test_who_unsubscribed_meanwhile_is_not_put_back(connected: cs.Workspace, side: Side, tmp_path: Path) -> None:
    connected.sync(COHORT, side.audience_id)
    reload(connected, tmp_path, slice(0, 400))
    run = connected.sync(COHORT, side.audience_id)
    off = connected.undo(run["run_id"]).people
    someone = off.loc[off["status"] == "subscribed", "member_hash"].iloc[0]
    side.client.send(mc.Request("PATCH", f"{mc.audience_path(side.audience_id)}/members/{someone}",
                                body={"status": "unsubscribed"}))
    receipt = connected.apply(connected.undo(run["run_id"]))
    assert (receipt["added"], receipt["refusals"]["unsubscribed"]) == (run["removed"] - receipt["refused"],
                                                                       receipt["refused"])
    assert someone not in side.on_segment()


def test_a_run_that_proved_nothing_cannot_be_undone(connected: cs.Workspace, side: Side) -> None:
    planned = connected.sync(COHORT, side.audience_id, dry_run=True)
    with pytest.raises(BadInput, match="no proof"):
        connected.undo(planned["run_id"])
    with pytest.raises(BadInput, match="no plan"):
        connected.undo("20260101T000000Z-abcdef")
