"""What the bill hangs on: each answer held against taking things away and counting again."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tracked import BRAZE, Deed, deeds, derived, guardrail, month_of, options, tables, tracked, user_of

from cohortsync import marginal, mtu
from cohortsync.errors import BadInput

CON = tables()
MONDAY = date(2026, 8, 3)


def daily(users: list[int], event: str = "Look", first: date = MONDAY) -> list[Deed]:
    """So many users on each day from the first on, each doing only this."""
    return [Deed(first + timedelta(days=n), f"user {k}", event, None, 1)
            for n, of in enumerate(users) for k in range(of)]


@settings(max_examples=30, deadline=None)
@given(deeds, options)
def test_without_an_event_exactly_its_sole_users_leave_the_bill(rows: list[Deed], chosen: dict[str, Any]) -> None:
    derived(CON, rows)
    for row in marginal.marginal(CON, "p", **chosen).to_dict("records"):
        month = [deed for deed in rows if month_of(deed) == row["month"]]
        without = [deed for deed in month if deed.event != row["event"]]
        here, there = (len(tracked(these, **chosen)) for these in (month, without))
        assert row["mtu"] == here
        assert row["sole_users"] == here - there
        assert row["billable"] == max(here, guardrail(month, **chosen))
        assert row["billable_effect"] == row["billable"] - max(there, guardrail(without, **chosen))


@settings(max_examples=20, deadline=None)
@given(deeds)
def test_every_event_of_every_month_is_there_with_its_users(rows: list[Deed]) -> None:
    derived(CON, rows)
    answered = marginal.marginal(CON, "p").set_index(["month", "event"])
    assert set(answered.index) == {(month_of(row), row.event) for row in rows}
    for (month, event), row in answered.iterrows():
        of_it = [deed for deed in rows if (month_of(deed), deed.event) == (month, event)]
        assert row["events"] == sum(deed.events for deed in of_it)
        assert row["users"] == len({user_of(deed) for deed in of_it if deed.distinct_id})


def test_one_month_is_answered_as_in_all_of_them() -> None:
    derived(CON, daily([3]) + daily([4], "Buy") + daily([2], "Buy", date(2026, 9, 1)))
    every = marginal.marginal(CON, "p")
    one = marginal.marginal(CON, "p", "2026-08")
    assert one.equals(every[every["month"] == "2026-08"].reset_index(drop=True))
    assert one[["event", "users", "sole_users", "billable_effect"]].values.tolist() == [
        ["Buy", 4, 1, 1], ["Look", 3, 0, 0]]


def test_what_counts_as_what_is_said_beside_each_event() -> None:
    derived(CON, [Deed(MONDAY, "ann", event, "other", 1)
                  for event in ("Buy", "$opt_in", "Mailchimp - Sent To", "Email Send")])
    answered = marginal.marginal(CON, "p")
    assert dict(zip(answered["event"], answered["counts_as"], strict=True)) == {
        "Buy": "qualifying", "$opt_in": "system", "Mailchimp - Sent To": "exempt", "Email Send": "exempt"}


@settings(max_examples=20, deadline=None)
@given(deeds, st.booleans())
def test_the_people_who_differ_are_those_whom_the_mark_puts_on_the_bill(rows: list[Deed], partners: bool) -> None:
    derived(CON, rows)
    strict, loose = ({"partners_by_name": True}, {}) if partners else ({}, {"marked_only": True})
    expected = {(month, user) for month in {month_of(row) for row in rows}
                for user in tracked([row for row in rows if month_of(row) == month], **loose)
                - tracked([row for row in rows if month_of(row) == month], **strict)}
    answered = marginal.unmarked(CON, "p", partners=partners)
    assert set(zip(answered["month"], answered["canonical_id"], strict=True)) == expected


def test_the_unmarked_events_that_make_the_difference_are_named_and_addresses_masked() -> None:
    derived(CON, [Deed(MONDAY, "mia@tally.example", "Mailchimp - Sent To", None, 2),
                  Deed(MONDAY, "mia@tally.example", "Mailchimp - Opened Campaign", "mailchimp", 1),
                  Deed(MONDAY, "bob", "Buy", None, 1), Deed(MONDAY, "bob", "Mailchimp - Sent To", None, 1)])
    (row,) = marginal.unmarked(CON, "p").to_dict("records")
    assert (row["canonical_id"], row["events"]) == ("m•••@t•••.example", ["Mailchimp - Sent To"])


def test_an_unusual_day_is_found_with_the_event_behind_it() -> None:
    usual = daily([10] * 43)
    burst = [Deed(MONDAY + timedelta(days=37), f"new {k}", "Imported", None, 1) for k in range(30)]
    derived(CON, usual + burst)
    answered = marginal.spikes(CON, "p", by="day")
    assert answered[["period", "users", "usual", "event", "sole_users"]].values.tolist() == [
        ["2026-09-09", 40, 10, "Imported", 30]]


def test_a_day_when_nobody_came_is_unusual_too() -> None:
    derived(CON, daily([10] * 30 + [0] + [10] * 12))
    answered = marginal.spikes(CON, "p", by="day")
    assert answered[["period", "users", "event", "usual_sole_users"]].values.tolist() == [["2026-09-02", 0, "Look", 10]]


def test_the_first_and_last_loaded_days_are_never_called_unusual() -> None:
    derived(CON, daily([1] + [10] * 41 + [1]))
    assert marginal.spikes(CON, "p", by="day").empty


def test_an_unusual_month_is_found_and_an_incomplete_one_is_not() -> None:
    months = [date(2026, month, 1) for month in range(1, 8)]
    rows = [deed for first, users in zip(months, [10, 11, 10, 10, 40, 10, 1], strict=True)
            for deed in daily([users], first=first)]
    derived(CON, rows)
    answered = marginal.spikes(CON, "p")
    assert answered[["period", "users", "usual", "event"]].values.tolist() == [["2026-05", 40, 10, "Look"]]


@pytest.mark.parametrize(("before", "count", "is_unusual"), [
    ([10, 10, 10], 13, False), ([10, 10, 10], 14, True), ([100] * 4, 115, False), ([100] * 4, 116, True),
    ([80, 100, 120], 188, False), ([80, 100, 120], 189, True), ([10, 10], 99, False)])
def test_unusual_is_three_deviations_from_the_median_of_enough_periods(
        before: list[int], count: int, is_unusual: bool) -> None:
    found = marginal.unusual(pd.Series([*before, count]), most=12, least=3, apart=1)
    assert ([place for place, _ in found] == [len(before)]) is is_unusual


def test_a_period_that_there_is_not_is_said() -> None:
    with pytest.raises(BadInput, match="'week'"):
        marginal.spikes(CON, "p", by="week")


def test_before_anything_is_loaded_there_is_nothing_to_say() -> None:
    con = tables()
    for frame in (marginal.marginal(con, "p"), marginal.unmarked(con, "p"), marginal.spikes(con, "p"),
                  marginal.spikes(con, "p", by="day"), mtu.families(con, "p"), mtu.anonymous(con, "p")):
        assert frame.empty
    assert set(BRAZE) <= set(con.execute("select event from event_classes").df()["event"])
