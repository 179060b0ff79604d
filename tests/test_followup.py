"""What the mails led to, held against plain loops over the same rows."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tracked import MERGED, Deed, derived, month_of, tables, user_of

from cohortsync import charts, followup
from cohortsync.errors import BadInput

CON = tables()
NAMES = {"Mailchimp Campaign - Sent": "sent", "Mailchimp - Sent To": "sent", "Mailchimp Campaign - Open": "opened",
         "Mailchimp - Opened Campaign": "opened", "Mailchimp Campaign - Click": "clicked",
         "Mailchimp - Clicked Campaign Url": "clicked", "Mailchimp Campaign - Bounce": "bounced",
         "Mailchimp - Bounced": "bounced", "Mailchimp Campaign - Unsubscribed": "unsubscribed",
         "Mailchimp - Unsubscribed": "unsubscribed"}
IDS = ["ann", "bob", "cy", "$device:1", "$device:3", ""]
rows_of_mail = st.lists(st.builds(
    Deed, st.dates(date(2026, 9, 28), date(2026, 10, 3)), st.sampled_from(IDS), st.sampled_from([*NAMES, "Buy"]),
    st.sampled_from([None, "mailchimp", "other"]), st.integers(1, 30)), min_size=1, max_size=40)
memberships = st.dictionaries(st.sampled_from(["vip", "new"]), st.sets(st.sampled_from(IDS[:-1]), min_size=1))


def answered(rows: list[Deed], cohorts: dict[str, set[str]], month: str | None = None) -> list[dict[str, Any]]:
    derived(CON, rows)
    CON.execute("delete from generation.cohort_members")
    CON.executemany("insert into generation.cohort_members values ('p', ?, ?)",
                    [("", "nobody"), *((name, one) for name, ids in cohorts.items() for one in ids)])
    return followup.followup(CON, "p", month).to_dict("records")


@settings(max_examples=30, deadline=None)
@given(rows_of_mail, memberships, st.sampled_from([None, "2026-09", "2026-10"]))
def test_each_cohorts_users_and_events_are_counted_once(
        rows: list[Deed], cohorts: dict[str, set[str]], month: str | None) -> None:
    people = {name: {MERGED.get(one, one) for one in ids} for name, ids in cohorts.items()}
    for row in answered(rows, cohorts, month):
        named = isinstance(row["cohort"], str)
        theirs = [deed for deed in rows if deed.distinct_id and NAMES.get(deed.event) == row["action"]
                  and month in (None, month_of(deed)) and (not named or user_of(deed) in people.get(row["cohort"], ()))]
        assert row["users"] == len({user_of(deed) for deed in theirs})
        assert row["events"] == sum(deed.events for deed in theirs)
        if theirs:
            marked = sum(deed.events for deed in theirs if deed.marker == "mailchimp")
            assert row["marked_share"] == pytest.approx(marked / row["events"])


def test_every_cohort_has_its_five_actions_in_order_also_when_nobody_was_mailed() -> None:
    rows = answered([Deed(date(2026, 9, 28), "ann", "Buy", None, 1)], {"vip": {"ann"}, "new": {"bob"}})
    assert [row["action"] for row in rows] == [*followup.ACTIONS] * 4
    assert {row["users"] for row in rows} == {0}
    assert all(row["share_of_sent"] != row["share_of_sent"] for row in rows)


def test_shares_are_of_those_who_were_sent_a_mail() -> None:
    day = date(2026, 9, 28)
    rows = [Deed(day, one, "Mailchimp - Sent To", "mailchimp", 1) for one in ("ann", "bob", "cy", "dee")]
    found = answered([*rows, Deed(day, "ann", "Mailchimp - Opened Campaign", None, 3)], {"vip": {"ann", "bob"}})
    opened = {row["cohort"]: row["share_of_sent"] for row in found if row["action"] == "opened"}
    assert opened["vip"] == 0.5
    assert [share for cohort, share in opened.items() if cohort not in ("vip", "")] == [0.25]


def test_the_chart_shows_the_chosen_cohort_beside_everyone() -> None:
    day = date(2026, 9, 28)
    rows = [Deed(day, one, name, None, 1) for one in ("ann", "bob")
            for name in ("Mailchimp - Sent To", "Mailchimp - Bounced")]
    answered(rows, {"vip": {"ann"}, "new": {"bob"}})
    figure = charts.followup(followup.followup(CON, "p"), ["vip"])
    assert [trace.name for trace in figure.data] == ["vip", "everyone"]
    assert [list(trace.text) for trace in figure.data] == [["0.0%", "0.0%", "100.0%", "0.0%"]] * 2


def test_a_month_that_is_none_is_refused() -> None:
    with pytest.raises(BadInput, match="2026-13"):
        followup.followup(CON, "p", "2026-13")
