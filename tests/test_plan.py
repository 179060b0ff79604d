"""The plan, on values alone: what becomes of each person."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from cohortsync.emails import member_hash
from cohortsync.errors import UnsafePlan
from cohortsync.plan import Plan, Target, check_guards, check_unchanged, outlived, within
from cohortsync.words import plan_people

ANN, BOB, CY = "ann@harbor.example", "bob@harbor.example", "cy@harbor.example"
TARGET = Target("acc", "Account", "a1b2", "Newsletter", True, 7, "mixpanel_vip")


def audience(*addresses: str) -> pd.DataFrame:
    columns = ["distinct_id", "canonical_id", "reason", "address", "first_name", "last_name", "last_seen_at",
               "member_hash"]
    return pd.DataFrame([(a, a, "exportable", a, "Ann", None, pd.NaT, member_hash(a)) for a in addresses],
                        columns=columns)


def members(**statuses: str) -> pd.DataFrame:
    people = {f"{name}@harbor.example": status for name, status in statuses.items()}
    return pd.DataFrame({"member_hash": [member_hash(address) for address in people], "address": list(people),
                         "status": list(people.values())}, dtype="str")


def on_segment(*addresses: str) -> pd.DataFrame:
    return pd.DataFrame({"member_hash": [member_hash(address) for address in addresses], "address": addresses,
                         "status": "subscribed"}, dtype="str")


NOBODY = on_segment()


def words(*args: object) -> dict[str, tuple[str, str]]:
    frame = plan_people(*args)  # type: ignore[arg-type]
    return {row.address: (row.word, row.reason) for row in frame.itertuples()}


def a_plan(people: pd.DataFrame) -> Plan:
    return Plan("p", "vip", len(people), TARGET, "subscribed", people, {})


def test_who_is_not_in_the_audience_is_added_as_new() -> None:
    assert words(audience(ANN), members(), NOBODY, {}) == {ANN: ("add_new", "")}


@pytest.mark.parametrize("status", ["subscribed", "pending", "transactional"])
def test_who_is_there_already_is_put_on_the_segment_alone(status: str) -> None:
    assert words(audience(ANN), members(ann=status), NOBODY, {}) == {ANN: ("add_existing", "")}


@pytest.mark.parametrize("status", ["unsubscribed", "cleaned", "archived"])
def test_who_cannot_be_mailed_is_refused_on_the_segment_or_off_it(status: str) -> None:
    assert words(audience(ANN), members(ann=status), NOBODY, {}) == {ANN: ("refuse", status)}
    assert words(audience(ANN), members(ann=status), on_segment(ANN), {}) == {ANN: ("refuse", status)}


def test_nothing_is_to_do_when_nothing_changed() -> None:
    plan = a_plan(plan_people(audience(ANN), members(ann="subscribed"), on_segment(ANN), {}))
    assert plan.counts["keep"] == 1
    assert (plan.changes, plan.writes) == (0, 0)


def test_who_left_the_cohort_comes_off_the_segment() -> None:
    assert words(audience(ANN), members(ann="subscribed", bob="unsubscribed"), on_segment(ANN, BOB), {}) == {
        ANN: ("keep", ""), BOB: ("remove", "not_in_target")}


def test_a_refusal_that_is_remembered_is_not_tried_again() -> None:
    refused = {member_hash(ANN): "looks_fake"}
    assert words(audience(ANN), members(), NOBODY, refused) == {ANN: ("refuse", "rejected_before")}


def test_only_exportable_users_are_planned() -> None:
    frame = audience(ANN, BOB)
    frame.loc[1, "reason"] = "no_profile"
    assert words(frame, members(), NOBODY, {}) == {ANN: ("add_new", "")}


def test_an_empty_cohort_and_an_empty_audience_make_an_empty_plan() -> None:
    assert plan_people(audience(), members(), NOBODY, {}).empty


@pytest.mark.parametrize(("new", "existing", "removed", "writes"), [
    (0, 0, 0, 0), (1, 0, 0, 1), (500, 0, 0, 1), (501, 500, 0, 3), (0, 501, 1, 2), (1, 1, 1001, 4)])
def test_writes_are_the_full_chunks_of_five_hundred(new: int, existing: int, removed: int, writes: int) -> None:
    word = ["add_new"] * new + ["add_existing"] * existing + ["remove"] * removed
    assert a_plan(pd.DataFrame({"word": pd.Series(word, dtype="str")})).writes == writes


def crowd(removed: int, kept: int) -> Plan:
    word = ["remove"] * removed + ["keep"] * kept
    return a_plan(pd.DataFrame({"word": word, "in_segment": [True] * len(word)}))


def test_a_plan_that_empties_the_segment_is_stopped() -> None:
    with pytest.raises(UnsafePlan, match="all 3 people"):
        check_guards(crowd(removed=3, kept=0))


def test_a_plan_that_removes_many_is_stopped_and_one_that_removes_few_is_not() -> None:
    with pytest.raises(UnsafePlan, match="501 of 1,501"):
        check_guards(crowd(removed=501, kept=1000))
    check_guards(crowd(removed=500, kept=1000))
    check_guards(crowd(removed=900, kept=9000))


def test_a_fresh_plan_may_do_less_than_the_approved_one_but_never_more() -> None:
    one = a_plan(plan_people(audience(ANN), members(ann="subscribed"), NOBODY, {}))
    two = a_plan(plan_people(audience(ANN, CY), members(ann="subscribed"), NOBODY, {}))
    check_unchanged(approved=two, fresh=one)
    with pytest.raises(UnsafePlan, match="1 more changes"):
        check_unchanged(approved=one, fresh=two)


def test_an_approval_is_for_the_same_contacts_account_segment_and_fields() -> None:
    there, gone = (a_plan(plan_people(audience(ANN), standing, NOBODY, {}))
                   for standing in (members(ann="subscribed"), members()))
    with pytest.raises(UnsafePlan, match="1 more changes"):
        check_unchanged(approved=there, fresh=gone)
    gone = replace(gone, new_fields={"CITY": "text"})
    for words, changed in (("what new contacts become", replace(gone, new_contacts="pending")),
                           ("the merge fields to make", replace(gone, new_fields={"CITY": "text", "AGE": "number"})),
                           ("the merge fields to make", replace(gone, new_fields={"CITY": "number"})),
                           ("the account", replace(gone, target=replace(TARGET, account_id="other"))),
                           ("the segment", replace(gone, target=replace(TARGET, segment_id=8)))):
        with pytest.raises(UnsafePlan, match=f"{words} changed"):
            check_unchanged(approved=gone, fresh=changed)
    check_unchanged(approved=replace(gone, target=replace(TARGET, segment_id=None)), fresh=gone)
    check_unchanged(approved=gone, fresh=replace(gone, new_fields={}))


def test_a_plan_is_shown_without_addresses() -> None:
    plan = a_plan(plan_people(audience(ANN), members(), NOBODY, {}).assign(canonical_id="u1"))
    assert ANN not in plan.preview().to_csv()
    assert "a•••@h•••.example" in plan.preview().to_csv()


def exported(*addresses: str, edit: str = "", user: str | None = None) -> pd.DataFrame:
    return pd.DataFrame({"member_hash": [member_hash(a) for a in addresses], "address": addresses,
                         "canonical_id": [user or a for a in addresses], "edit": edit}, dtype="str")


def edits(keep: bool, *args: object) -> dict[str, tuple[str, str]]:
    frame = plan_people(*args, keep_hand_edits=keep)  # type: ignore[arg-type]
    return {row.address: (row.word, row.reason) for row in frame.itertuples()}


def test_hand_edits_are_seen_against_the_last_export_and_overwritten() -> None:
    stood = audience(ANN, CY), members(ann="subscribed", bob="subscribed", cy="subscribed"), on_segment(BOB, CY), {}
    assert edits(False, *stood, exported(ANN, CY)) == {
        ANN: ("add_existing", "removed_by_hand"), BOB: ("remove", "added_by_hand"), CY: ("keep", "")}


def test_hand_edits_can_be_kept_and_stay_kept() -> None:
    stood = audience(ANN, CY), members(ann="subscribed", bob="subscribed", cy="subscribed"), on_segment(BOB, CY), {}
    kept = {ANN: ("refuse", "removed_by_hand"), BOB: ("leave", "added_by_hand"), CY: ("keep", "")}
    assert edits(True, *stood, exported(ANN, CY)) == kept
    remembered = pd.concat([exported(CY), exported(ANN, edit="removed_by_hand"), exported(BOB, edit="added_by_hand")])
    assert edits(True, *stood, remembered) == kept


def test_nobody_is_said_to_have_edited_a_segment_before_the_first_export() -> None:
    assert edits(False, audience(ANN), members(ann="subscribed", bob="subscribed"), on_segment(ANN, BOB), {}) == {
        ANN: ("keep", ""), BOB: ("remove", "not_in_target")}


def test_what_a_run_that_was_cut_short_may_have_done_is_no_hand_edit() -> None:
    unproven = exported(ANN, BOB, edit="unproven")
    assert edits(True, audience(ANN), members(ann="subscribed", bob="subscribed"), on_segment(BOB), {}, unproven) == {
        ANN: ("add_existing", ""), BOB: ("remove", "not_in_target")}


def test_a_changed_address_is_one_line_of_the_old_and_the_new() -> None:
    frame = plan_people(audience(ANN).assign(canonical_id="u1"), members(bob="subscribed"), on_segment(BOB), {},
                        exported(BOB, user="u1"))
    line = frame.iloc[0]
    assert (len(frame), line["address"], line["old_address"]) == (1, ANN, BOB)
    assert (line["word"], line["reason"], line["old_hash"]) == ("add_new", "address_changed", member_hash(BOB))
    plan = a_plan(frame)
    assert (plan.counts["remove"], plan.removals, plan.writes) == (0, 1, 2)
    assert BOB not in plan.preview().to_csv()
    assert "b•••@h•••.example" in plan.preview().to_csv()


@pytest.mark.parametrize(("there", "word"), [(on_segment(), "refuse"), (on_segment(ANN), "remove")])
def test_our_own_rules_bar_people_and_take_them_off_the_segment(there: pd.DataFrame, word: str) -> None:
    known = members(ann="subscribed")
    assert words(audience(ANN).assign(consent=False), known, there, {}) == {ANN: (word, "no_consent")}
    assert words(audience(ANN), known, there, {}, None, {member_hash(ANN)}) == {ANN: (word, "forgotten_here")}


def test_each_refusal_that_mailchimp_will_not_take_back_keeps_its_name() -> None:
    for reason in ("forgotten", "compliance"):
        assert words(audience(ANN), members(), NOBODY, {member_hash(ANN): reason}) == {ANN: ("refuse", reason)}


def added(new: int, kept: int = 0, first: bool = False) -> Plan:
    word = ["add_new"] * new + ["keep"] * kept
    people = pd.DataFrame({"word": word, "in_segment": [each == "keep" for each in word]})
    return replace(a_plan(people), first=first, run_id="20260101T000000Z-abc")


def test_a_plan_that_adds_many_is_stopped_with_its_guard_and_numbers() -> None:
    with pytest.raises(UnsafePlan, match="adds 501 people to the 1,000") as stopped:
        check_guards(added(501, 1000))
    assert (stopped.value.guard, stopped.value.numbers["added"], stopped.value.numbers["on_segment"]) == (
        "add", 501, 1000)
    assert stopped.value.run_id == "20260101T000000Z-abc"
    check_guards(added(500, 1000))
    check_guards(added(1000, 5000))


def test_a_first_sync_is_confirmed_with_its_number() -> None:
    with pytest.raises(UnsafePlan, match="--confirm 600") as stopped:
        check_guards(added(600, first=True), confirm=601)
    assert stopped.value.guard == "first"
    check_guards(added(600, first=True), confirm=600)
    check_guards(added(500, first=True))


def test_exportable_in_segment_and_mailable_are_three_numbers() -> None:
    frame = plan_people(audience(ANN, BOB, CY), members(ann="unsubscribed", bob="pending"), on_segment(ANN), {})
    assert a_plan(frame).numbers == {"exportable": 3, "in_segment": 3, "mailable": 1}


def test_a_plan_made_again_does_nothing_that_its_first_did_not_say() -> None:
    first = a_plan(plan_people(audience(ANN), members(ann="subscribed"), NOBODY, {}))
    again = a_plan(plan_people(audience(ANN, CY), members(ann="subscribed", bob="subscribed", cy="subscribed"),
                               on_segment(BOB), {}, exported(ANN)))
    assert within(first, again).people["address"].tolist() == [ANN]


def test_a_plan_is_outlived_when_our_own_rules_bar_someone_whom_it_leaves_on_the_segment() -> None:
    known = members(ann="subscribed", bob="subscribed")

    def plan(ann_agrees: bool, bob_agrees: bool) -> Plan:
        return a_plan(plan_people(audience(ANN, BOB).assign(consent=[ann_agrees, bob_agrees]), known, on_segment(ANN),
                                  {}))

    assert outlived(plan(True, True), plan(False, True))
    assert not outlived(plan(True, True), plan(True, False))  # who is not there yet is simply not sent
    assert not outlived(plan(False, True), plan(False, True))
