"""The month to date and its projection, on months whose shape is known."""

from __future__ import annotations

from datetime import date, timedelta

import pandas as pd
import pytest
from hypothesis import given, settings
from tracked import Deed, deeds, derived, month_of, tables, tracked

from cohortsync import forecast, mtu

CON = tables()


def month(first: date, on_first: int, on_11th: int, last: int | None = None) -> list[Deed]:
    """A month in which so many users first come on its first day and so many more on its eleventh."""
    end = (first + timedelta(days=31)).replace(day=1) - timedelta(days=1) if last is None else first.replace(day=last)
    rows = [Deed(first, f"early {k}", "Look", None, 1) for k in range(on_first)]
    rows += [Deed(first.replace(day=11), f"late {k}", "Look", None, 1) for k in range(on_11th)]
    return [row for row in rows if row.day <= end] + [Deed(end, "", "Ping", None, 1)]


AUGUST, SEPTEMBER, OCTOBER, NOVEMBER = (date(2026, month, 1) for month in range(8, 12))


def to_date(*rows: list[Deed]) -> forecast.MonthToDate:
    derived(CON, [row for these in rows for row in these])
    found = forecast.month_to_date(CON, "p")
    assert found
    return found


@settings(max_examples=20, deadline=None)
@given(deeds)
def test_the_days_count_the_users_so_far_in_their_month(rows: list[Deed]) -> None:
    found = to_date(rows)
    last = max(row.day for row in rows)
    assert (found.month, found.through) == (f"{last:%Y-%m}", f"{last}")
    for row in found.days.to_dict("records"):
        so_far = [deed for deed in rows if month_of(deed) == row["month"] and deed.day.day <= row["day"]]
        assert row["users"] == len(tracked(so_far))
    months = mtu.monthly(CON, "p").set_index("month")["mtu"]
    assert found.mtu == months[found.month]
    ends = found.months.set_index("month")["mtu"]
    assert ends[months.index].tolist() == months.tolist()


def test_past_months_stand_beside_it_as_they_were_on_the_same_day() -> None:
    found = to_date(month(SEPTEMBER, 5, 5), month(OCTOBER, 8, 2), month(NOVEMBER, 6, 9, last=10))
    assert found.months[["month", "same_day", "mtu"]].values.tolist() == [
        ["2026-09", 5, 10], ["2026-10", 8, 10], ["2026-11", 6, 6]]


def test_the_projection_divides_by_the_median_share_of_the_complete_months_before() -> None:
    found = to_date(month(AUGUST, 5, 5), month(SEPTEMBER, 5, 5), month(OCTOBER, 8, 2), month(NOVEMBER, 6, 0, last=10))
    assert found.months["share"].tolist()[:3] == [0.5, 0.5, 0.8]
    assert (found.mtu, found.projection) == (6, 12)


def test_each_past_month_is_projected_from_the_months_before_it_alone_and_its_error_said() -> None:
    found = to_date(month(AUGUST, 5, 5), month(SEPTEMBER, 5, 5), month(OCTOBER, 8, 2), month(NOVEMBER, 6, 0, last=10))
    assert found.months["projection"].tolist()[1:3] == [10, 16]
    assert found.months["error"].tolist()[1:3] == [0.0, 0.6]
    assert (found.error, found.worst, found.tests) == (0.3, 0.6, 2)


def test_without_a_complete_month_before_there_is_no_projection() -> None:
    began_late = [row for row in month(OCTOBER, 5, 5) if row.day > OCTOBER]
    found = to_date(began_late, month(NOVEMBER, 6, 0, last=10))
    assert (found.projection, found.error, found.tests) == (None, None, 0)


def test_one_complete_month_gives_a_projection_whose_error_nobody_knows() -> None:
    found = to_date(month(OCTOBER, 5, 5), month(NOVEMBER, 6, 0, last=10))
    assert (found.projection, found.error, found.tests) == (12, None, 0)


def test_a_month_that_was_over_by_that_day_measures_nothing() -> None:
    found = to_date(month(SEPTEMBER, 5, 5), month(OCTOBER, 8, 2, last=30))
    assert found.months["share"].isna().all()
    assert found.projection is None


def test_a_month_that_is_complete_is_its_own_projection() -> None:
    found = to_date(month(AUGUST, 5, 5), month(SEPTEMBER, 8, 2))
    assert (found.mtu, found.projection) == (10, 10)


def test_nothing_is_said_before_events_are_loaded() -> None:
    assert forecast.month_to_date(tables(), "p") is None


@pytest.mark.parametrize("day", [1, 15, 28, 30])
def test_months_that_all_run_alike_are_projected_without_error(day: int) -> None:
    new = pd.DataFrame({"day": pd.date_range("2026-01-01", "2026-03-31"), "new_users": 10})
    new = new[new["day"].dt.day <= 28]
    days = forecast.cumulative(new, date(2026, 1, 1), date(2026, 3, day))
    months = forecast.compared(days, pd.Series({"2026-01": True, "2026-02": True, "2026-03": False}), day)
    assert months["projection"].iloc[-1] == 280
    assert not months["error"].dropna().any()
