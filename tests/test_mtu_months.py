"""Months and their versions, held against plain loops over the same activity."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from tracked import MERGED, PROJECT, Deed, deeds, derived, month_of, options, reckoned, tables, tracked

from cohortsync import mtu
from cohortsync.errors import BadInput

CON = tables()
FIRST, SECOND, THIRD = (datetime(2026, 12, day, 6) for day in (1, 2, 3))
OTHER = PROJECT | {"project_id": "q"}


def by_month(con: Any, project_id: str = "p", **chosen: Any) -> dict[str, dict[str, int]]:
    rows = mtu.monthly(con, project_id, **chosen).drop(columns=["project_id", "complete"]).to_dict("records")
    return {row.pop("month"): row for row in rows}


def buys(*days: str, user: str = "ann") -> list[Deed]:
    return [Deed(date.fromisoformat(day), user, "Buy", None, 1) for day in days]


@settings(max_examples=30, deadline=None)
@given(deeds, options)
def test_every_reading_under_every_option_is_what_plain_loops_count(rows: list[Deed], chosen: dict[str, Any]) -> None:
    derived(CON, rows)
    assert by_month(CON, **chosen) == reckoned(rows, **chosen)


@settings(max_examples=12, deadline=None)
@given(deeds, deeds, deeds, options)
def test_earlier_instants_show_the_months_as_they_stood_then(
        one: list[Deed], two: list[Deed], three: list[Deed], chosen: dict[str, Any]) -> None:
    con = tables()
    for rows, at in ((one, FIRST), (two, SECOND), (three, THIRD)):
        derived(con, rows, at=at)
    for rows, at in ((one, FIRST), (two, SECOND), (three, THIRD)):
        assert by_month(con, as_of=at, **chosen) == reckoned(rows, **chosen)
    assert by_month(con, **chosen) == reckoned(three, **chosen)
    assert not by_month(con, as_of=FIRST - timedelta(seconds=1))


@settings(max_examples=12, deadline=None)
@given(deeds)
def test_deriving_again_what_has_not_changed_adds_no_version(rows: list[Deed]) -> None:
    con = tables()
    derived(con, rows, at=FIRST)
    before = mtu.history(con, "p")
    derived(con, rows, at=SECOND)
    assert mtu.history(con, "p").equals(before)


def test_a_late_merge_shows_as_the_month_before_and_after_it() -> None:
    con, rows = tables(), buys("2026-09-05") + buys("2026-09-06", "2026-10-07", user="$device:1")
    derived(con, rows, load_id=1, at=FIRST, merged={})
    derived(con, rows, load_id=2, at=SECOND, merged=MERGED)
    changes = mtu.history(con, "p")
    assert changes[changes["month"] == "2026-09"][["as_of", "load_id", "mtu"]].values.tolist() == [
        [FIRST, 1, 2], [SECOND, 2, 1]]
    assert changes["mtu_before"].tolist()[1] == 2
    anonymous = mtu.anonymous(con, "p")
    assert anonymous["anonymous_users"].tolist() == [0, 0]


def test_a_month_that_did_not_change_keeps_its_one_version() -> None:
    con = tables()
    derived(con, buys("2026-09-01", "2026-10-31"), at=FIRST)
    derived(con, buys("2026-09-01", "2026-10-31") + buys("2026-10-02", user="bob"), at=SECOND)
    assert mtu.history(con, "p")["month"].tolist() == ["2026-09", "2026-10", "2026-10"]


def test_a_month_that_was_not_complete_has_a_version_from_when_it_is() -> None:
    con = tables()
    derived(con, buys("2026-09-01", "2026-09-29"), at=FIRST)
    derived(con, buys("2026-09-01", "2026-09-29", "2026-10-01"), at=SECOND)
    assert mtu.monthly(con, "p", as_of=FIRST)["complete"].tolist() == [False]
    assert mtu.monthly(con, "p")["complete"].tolist() == [True, False]


def test_a_clock_that_went_backwards_does_not_hide_the_latest_load() -> None:
    con = tables()
    derived(con, buys("2026-09-01"), at=SECOND)
    derived(con, buys("2026-09-01") + buys("2026-09-01", user="bob"), at=FIRST)
    assert mtu.monthly(con, "p")["mtu"].tolist() == [2]


@pytest.mark.parametrize("given_as", ["2026-12-01T06:00", "2026-12-01T08:00+02:00", FIRST])
def test_an_instant_is_utc_unless_it_says_otherwise(given_as: str | datetime) -> None:
    assert mtu.instant(given_as) == FIRST


def test_what_is_no_instant_or_month_is_said() -> None:
    with pytest.raises(BadInput, match="'yesterday'.*2026-11-01"):
        mtu.monthly(CON, "p", as_of="yesterday")
    with pytest.raises(BadInput, match="'11/2026'.*2026-11"):
        mtu.days("11/2026")


@settings(max_examples=12, deadline=None)
@given(deeds, deeds)
def test_the_organisation_is_the_sum_over_its_projects(one: list[Deed], two: list[Deed]) -> None:
    con = tables()
    derived(con, one)
    derived(con, two, OTHER)
    total = {row["month"]: row for row in mtu.organisation(con).to_dict("records")}
    first, second = by_month(con), by_month(con, "q")
    assert set(total) == set(first) | set(second)
    for month, row in total.items():
        assert row["projects"] == [name for name, months in (("p", first), ("q", second)) if month in months]
        for count in mtu.COUNTS:
            assert row[count] == sum(months[month][count] for months in (first, second) if month in months)


def test_a_user_of_two_projects_counts_twice_in_the_organisation() -> None:
    con = tables()
    derived(con, buys("2026-09-05"))
    derived(con, buys("2026-09-05"), OTHER)
    assert mtu.organisation(con)["mtu"].tolist() == [2]
    assert mtu.organisation(con, ["q"])["projects"].tolist() == [["q"]]


def test_an_organisation_without_events_has_no_months() -> None:
    assert mtu.organisation(tables()).empty


def test_deriving_one_project_leaves_the_others_months_alone() -> None:
    con = tables()
    derived(con, buys("2026-09-05", "2026-10-05"))
    before = mtu.monthly(con, "p")
    derived(con, buys("2026-11-05"), OTHER)
    assert mtu.monthly(con, "p").equals(before)
    assert con.execute("select count(*) from months where project_id = 'p'").fetchall() == [(2,)]


@settings(max_examples=12, deadline=None)
@given(deeds, options)
def test_anonymous_users_are_tracked_users_known_by_a_device_alone(rows: list[Deed], chosen: dict[str, Any]) -> None:
    derived(CON, rows)
    for row in mtu.anonymous(CON, "p", **chosen).to_dict("records"):
        users = tracked([deed for deed in rows if month_of(deed) == row["month"]], **chosen)
        anonymous = {user for user in users if user.startswith("$device:")}
        assert (row["mtu"], row["anonymous_users"]) == (len(users), len(anonymous))
        assert not users or row["anonymous_share"] == pytest.approx(len(anonymous) / len(users), abs=1e-4)


def test_under_original_id_merge_an_anonymous_id_has_the_form_that_clients_make() -> None:
    con = tables()
    ids = ["ann", "6fa459ea-ee8a-4ca4-894e-db77e160355e",
           "1749C94E1F42A8-0b1d2c3e4f5a6b-1a2b3c4d-1fa400-1749c94e1f5a3b"]
    derived(con, [row for user in ids for row in buys("2026-09-05", user=user)], PROJECT | {"id_merge": "original"})
    assert mtu.anonymous(con, "p")["anonymous_users"].tolist() == [2]


def test_which_family_of_mailchimps_names_occurred_is_said_by_month() -> None:
    con, day = tables(), date(2026, 9, 5)
    derived(con, [Deed(day, "ann", "Mailchimp - Sent To", None, 3), Deed(day, "", "Mailchimp - Bounced", None, 1),
                  Deed(day.replace(month=10), "ann", "Mailchimp Campaign - Open", "mailchimp", 2)])
    assert mtu.families(con, "p")[["month", "page", "events"]].values.tolist() == [
        ["2026-09", "integration page", 4], ["2026-10", "billing page", 2]]


def test_the_times_of_an_old_project_are_days_of_its_own_zone_already() -> None:
    midnight = int(datetime(2026, 9, 1, tzinfo=UTC).timestamp())
    project = PROJECT | {"timezone": "America/New_York"}
    assert mtu.local_day(midnight, project) == date(2026, 8, 31)
    assert mtu.local_day(midnight, project | {"event_times": "local"}) == date(2026, 9, 1)
