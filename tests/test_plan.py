"""The plan, on values alone: what becomes of each person."""

from __future__ import annotations

import pandas as pd
import pytest

from cohortsync.emails import member_hash
from cohortsync.errors import UnsafePlan
from cohortsync.plan import Plan, Target, check_guards, check_unchanged, plan_people

ANN, BOB, CY = "ann@harbor.example", "bob@harbor.example", "cy@harbor.example"
TARGET = Target("acc", "Account", "a1b2", "Newsletter", True, 7, "mixpanel_vip")


def audience(*addresses: str) -> pd.DataFrame:
    return pd.DataFrame([(a, a, "exportable", a, "Ann", None, pd.NaT) for a in addresses], columns=[
        "distinct_id", "canonical_id", "reason", "address", "first_name", "last_name", "last_seen_at"])


def members(**statuses: str) -> pd.DataFrame:
    people = {f"{name}@harbor.example": status for name, status in statuses.items()}
    return pd.DataFrame({"member_hash": [member_hash(address) for address in people], "address": list(people),
                         "status": list(people.values())}, dtype="str")


def on_segment(*addresses: str) -> dict[str, str]:
    return {member_hash(address): address for address in addresses}


def words(*args: object) -> dict[str, tuple[str, str]]:
    frame = plan_people(*args)  # type: ignore[arg-type]
    return {row.address: (row.word, row.reason) for row in frame.itertuples()}


def a_plan(people: pd.DataFrame) -> Plan:
    return Plan("p", "vip", len(people), TARGET, "subscribed", people, {})


def test_who_is_not_in_the_audience_is_added_as_new() -> None:
    assert words(audience(ANN), members(), {}, {}) == {ANN: ("add_new", "")}


@pytest.mark.parametrize("status", ["subscribed", "pending", "transactional"])
def test_who_is_there_already_is_put_on_the_segment_alone(status: str) -> None:
    assert words(audience(ANN), members(ann=status), {}, {}) == {ANN: ("add_existing", "")}


@pytest.mark.parametrize("status", ["unsubscribed", "cleaned", "archived"])
def test_who_cannot_be_mailed_is_refused_on_the_segment_or_off_it(status: str) -> None:
    assert words(audience(ANN), members(ann=status), {}, {}) == {ANN: ("refuse", status)}
    assert words(audience(ANN), members(ann=status), on_segment(ANN), {}) == {ANN: ("refuse", status)}


def test_nothing_is_to_do_when_nothing_changed() -> None:
    plan = a_plan(plan_people(audience(ANN), members(ann="subscribed"), on_segment(ANN), {}))
    assert plan.counts["keep"] == 1
    assert (plan.changes, plan.writes) == (0, 0)


def test_who_left_the_cohort_comes_off_the_segment() -> None:
    assert words(audience(ANN), members(ann="subscribed", bob="unsubscribed"), on_segment(ANN, BOB), {}) == {
        ANN: ("keep", ""), BOB: ("remove", "not_in_target")}


def test_a_refusal_that_is_remembered_is_not_tried_again() -> None:
    assert words(audience(ANN), members(), {}, {member_hash(ANN): "looks_fake"}) == {ANN: ("refuse", "rejected_before")}


def test_only_exportable_users_are_planned() -> None:
    frame = audience(ANN, BOB)
    frame.loc[1, "reason"] = "no_profile"
    assert words(frame, members(), {}, {}) == {ANN: ("add_new", "")}


def test_an_empty_cohort_and_an_empty_audience_make_an_empty_plan() -> None:
    assert plan_people(audience(), members(), {}, {}).empty


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
    one = a_plan(plan_people(audience(ANN), members(), {}, {}))
    two = a_plan(plan_people(audience(ANN, CY), members(ann="subscribed"), {}, {}))
    check_unchanged(approved=two, fresh=one)
    with pytest.raises(UnsafePlan, match="1 more changes"):
        check_unchanged(approved=one, fresh=two)


def test_a_plan_is_shown_without_addresses() -> None:
    plan = a_plan(plan_people(audience(ANN), members(), {}, {}).assign(canonical_id="u1"))
    assert ANN not in plan.preview().to_csv()
    assert "a•••@h•••.example" in plan.preview().to_csv()
