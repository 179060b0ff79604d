"""What a pull asks for: which days, in which spans, which cohorts, and what that takes of the hour."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cohortsync import agenda
from cohortsync.agenda import PullPlan, Wanted
from cohortsync.errors import BadInput
from cohortsync.mixpanel import CohortSeen

TODAY = date(2026, 11, 21)
BIG, FEW = CohortSeen("1", "big", 2500, True, True), CohortSeen("2", "few", 12, True, True)
HIDDEN, GROUP = CohortSeen("3", "old", 5, False, True), CohortSeen("4", "firms", 5, True, False)
days = st.sets(st.integers(0, 400).map(lambda n: TODAY - timedelta(n)))


def midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def plan(cohorts: list[CohortSeen], people: int | None = None, profiles: bool = True) -> PullPlan:
    return PullPlan("1", cohorts, [], profiles, people, None, [], TODAY, {"query": 60, "export": 60})


# days

@given(days, st.integers(1, 40))
def test_spans_hold_the_days_and_no_other_and_none_is_longer_than_asked(wanted: set[date], longest: int) -> None:
    found = agenda.spans(sorted(wanted), longest)
    held = [first + timedelta(n) for first, last in found for n in range((last - first).days + 1)]
    assert held == sorted(wanted)
    assert all((last - first).days < longest for first, last in found)


@given(st.integers(1, 400))
def test_halves_are_the_whole(length: int) -> None:
    first, last = TODAY - timedelta(length), TODAY
    (later, end), (start, earlier) = agenda.halves(first, last)
    assert (start, end, later - earlier) == (first, last, timedelta(1))
    assert start <= earlier and later <= end


def test_the_first_pull_begins_a_year_ago_with_a_month() -> None:
    assert agenda.wanted_period({}, Wanted(), TODAY) == (date(2025, 11, 1), TODAY)


def test_later_pulls_begin_where_the_first_began() -> None:
    assert agenda.wanted_period({date(2026, 11, 3): midnight(TODAY)}, Wanted(), TODAY)[0] == date(2026, 11, 3)


def test_no_day_after_today_is_asked_for() -> None:
    assert agenda.wanted_period({}, Wanted(since=TODAY, until=TODAY + timedelta(9)), TODAY) == (TODAY, TODAY)
    with pytest.raises(BadInput, match="no day from 2026-11-22 to 2026-11-21: it is 2026-11-21"):
        agenda.wanted_period({}, Wanted(since=TODAY + timedelta(1)), TODAY)


def test_a_day_is_asked_for_again_until_it_was_pulled_so_many_days_after_it_was_over() -> None:
    day = date(2026, 11, 10)
    for pulled, late, asked in [(midnight(day) + timedelta(days=1), 0, True),
                                (midnight(day) + timedelta(days=1, hours=12), 0, False),  # over in every zone
                                (midnight(day) + timedelta(days=6), 5, True),
                                (midnight(day) + timedelta(days=7), 5, False)]:
        assert agenda.wanted_days({day: pulled}, (day, day), late) == ([day] if asked else [])


@given(days, st.integers(0, 10))
def test_a_day_never_pulled_is_always_asked_for(pulled: set[date], late: int) -> None:
    asked = agenda.wanted_days(dict.fromkeys(pulled, midnight(TODAY) + timedelta(99)), (date(2026, 1, 1), TODAY), late)
    assert asked == [day for n in range(325) if (day := date(2026, 1, 1) + timedelta(n)) not in pulled]


# cohorts

def test_all_cohorts_that_are_shown_come_and_the_others_are_said_to_be_left_out() -> None:
    assert agenda.chosen_cohorts([BIG, HIDDEN, FEW, GROUP], None, {"1": "big", "9": "gone"}) == (
        [BIG, FEW], ["firms (of a group, not of users)", "old (hidden in Mixpanel)", "gone (no longer in Mixpanel)"])


def test_a_cohort_is_named_by_its_id_by_its_name_here_or_by_its_name_in_mixpanel() -> None:
    known = {"1": "large"}
    for name in ("1", "large", "big"):
        assert agenda.chosen_cohorts([BIG, FEW], [name], known) == ([BIG], [])
    assert agenda.chosen_cohorts([BIG, HIDDEN], ["old", "3"], known) == ([HIDDEN], [])


def test_a_name_here_wins_over_the_same_name_in_mixpanel() -> None:
    assert agenda.chosen_cohorts([BIG, FEW], ["few"], {"1": "few", "2": "few (2)"}) == ([BIG], [])


@pytest.mark.parametrize("name", ["none", "firms", "4"])
def test_a_cohort_that_cannot_be_pulled_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match=f"has no cohort '{name}'. It has: big, few"):
        agenda.chosen_cohorts([BIG, FEW, GROUP], [name], {})


# the hour

def test_both_totals_are_told() -> None:
    everything = plan([BIG, FEW], people=12_001)
    assert everything.queries == 2 * 2 + 1
    assert everything.queries_with_pages == (3 + 1) + 2 + 13  # members, counts, profiles
    refresh = plan([BIG])
    assert (refresh.queries, refresh.queries_with_pages) == (2, 3 + 3)
    sizes_alone = plan([BIG], profiles=False)
    assert (sizes_alone.queries, sizes_alone.queries_with_pages) == (2, 3 + 1)


def test_whether_it_fits_the_hour_is_told_of_the_larger_total() -> None:
    assert plan([BIG] * 10).fits
    assert not plan([BIG] * 11).fits
