"""What counts towards the bill, on months small enough to count by hand."""

from __future__ import annotations

import json
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest

import cohortsync as cs
from cohortsync.mtu import effect, local_day, month_bounds


def counted(tmp_path: Path, rows: list[dict[str, Any]], timezone: str = "UTC", **options: Any) -> dict[str, Any]:
    """The first month's numbers for these events (name, user, more properties)."""
    lines = [json.dumps({"event": row["event"], "properties": {"time": 1790000000, **row}}) for row in rows]
    (tmp_path / "events.ndjson").write_text("\n".join(lines))
    workspace = cs.open(tmp_path / "home")
    workspace.init(timezone, "simplified")
    workspace.load([tmp_path / "events.ndjson"])
    return workspace.mtu(**options).to_dict("records")[0]


def instant(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


def test_a_user_with_one_qualifying_event_is_billed_once(tmp_path: Path) -> None:
    month = counted(tmp_path, [{"event": "Open app", "$user_id": "ann"}] * 3 + [{"event": "Buy", "$user_id": "ann"}])
    assert (month["mtu"], month["events"], month["billable"]) == (1, 4, 1)


@pytest.mark.parametrize("family", [
    ["Mailchimp - Sent To", "Mailchimp - Opened Campaign"],
    ["Mailchimp Campaign - Sent", "Mailchimp Campaign - Open"]])
def test_mailchimps_events_are_exempt_under_both_published_names(tmp_path: Path, family: list[str]) -> None:
    month = counted(tmp_path, [{"event": family[0], "$user_id": "ann"}, {"event": family[1], "$user_id": "bob"},
                               {"event": "Buy", "$user_id": "cy"}])
    assert (month["mtu"], month["mtu_engagement_counted"], month["mtu_without_exemption"]) == (1, 2, 3)
    assert month["exempt_users"] == 2


def test_asked_for_the_mark_an_unmarked_mailchimp_event_qualifies(tmp_path: Path) -> None:
    rows = [{"event": "Mailchimp - Sent To", "$user_id": "ann", "$source": "mailchimp"},
            {"event": "Mailchimp - Sent To", "$user_id": "bob"}]
    assert counted(tmp_path, rows, marked_only=True)["mtu"] == 1


def test_system_events_make_nobody_a_tracked_user_in_any_reading(tmp_path: Path) -> None:
    month = counted(tmp_path, [{"event": "$opt_in", "$user_id": "ann"},
                               {"event": "$campaign_delivery", "$user_id": "bob"}])
    assert (month["mtu"], month["mtu_without_exemption"], month["mtu_engagement_counted"]) == (0, 0, 0)
    assert month["events"] == 2


def test_events_without_a_user_count_as_events_alone(tmp_path: Path) -> None:
    month = counted(tmp_path, [{"event": "Ping", "distinct_id": ""}, {"event": "Ping", "distinct_id": "undefined"}])
    assert (month["mtu"], month["events"]) == (0, 2)


def test_the_guardrail_bills_a_thousandth_of_the_events_rounded_up(tmp_path: Path) -> None:
    month = counted(tmp_path, [{"event": "Ping", "$user_id": "ann", "n": n} for n in range(2001)])
    assert (month["guardrail"], month["billable"]) == (3, 3)


@pytest.mark.parametrize(("which", "guardrail"), [("all", 4), ("qualifying", 1), ("qualifying+opens", 2)])
def test_which_events_the_guardrail_counts_is_a_setting(tmp_path: Path, which: str, guardrail: int) -> None:
    rows = [{"event": name, "$user_id": "ann"} for name in (
        "Buy", "Mailchimp - Opened Campaign", "Mailchimp - Sent To", "$opt_in")]
    assert counted(tmp_path, rows, guardrail_events=which, events_per_user=1)["guardrail"] == guardrail


def test_a_setting_that_does_not_exist_is_named(workspace: cs.Workspace) -> None:
    with pytest.raises(cs.CohortsyncError, match="'some'.*qualifying"):
        workspace.mtu(guardrail_events="some")


def test_the_month_is_the_project_time_zones_own(tmp_path: Path) -> None:
    last_of_october = instant("2026-11-01T03:59:59Z")
    rows = [{"event": "Buy", "$user_id": "ann", "time": last_of_october},
            {"event": "Buy", "$user_id": "ann", "time": last_of_october + 1}]
    assert counted(tmp_path, rows, "America/New_York")["month"] == "2026-10"


def test_a_months_edges_follow_daylight_saving() -> None:
    project = {"timezone": "America/New_York", "event_times": "utc"}
    days = [local_day(instant(text), project) for text in (
        "2026-10-01T04:00Z", "2026-11-01T03:59Z", "2026-11-01T04:00Z", "2026-12-01T04:59Z", "2026-12-01T05:00Z")]
    assert [f"{day:%m-%d}" for day in days] == ["10-01", "10-31", "11-01", "11-30", "12-01"]


def test_a_month_is_complete_only_when_its_first_and_last_day_are_there() -> None:
    months = month_bounds(date(2026, 9, 2), date(2026, 12, 30))
    assert [(month, complete) for month, _, _, complete in months] == [
        ("2026-09", False), ("2026-10", True), ("2026-11", True), ("2026-12", False)]
    assert months[0][1:3] == (date(2026, 9, 1), date(2026, 10, 1))


def test_a_campaign_adds_nobody_while_mailchimps_events_are_exempt_and_else_at_most_those_not_tracked_yet(
        tmp_path: Path) -> None:
    counted(tmp_path, [{"event": "Buy", "$user_id": "ann"}, {"event": "Mailchimp - Sent To", "$user_id": "bob"},
                       {"event": "Buy", "$user_id": "cy", "time": instant("2026-08-01T00:00:00Z")}])
    workspace, reached = cs.open(tmp_path / "home"), ["ann", "bob", "cy", "dan", ""]
    with workspace.connect() as con:
        found = effect(con, "local", reached)
    assert (found.month, found.reached, found.untracked, found.counted) == ("2026-09", 5, 4, ())
    assert found.adds_at_most == 0
    assert "Were they counted, it would add at most 4 users" in str(found)
    workspace.set_class("Mailchimp - Sent To", "qualifying")
    with workspace.connect() as con:
        found = effect(con, "local", reached)
    assert (found.counted, found.untracked, found.adds_at_most) == (("Mailchimp - Sent To",), 3, 3)
    assert "A campaign adds at most 3 users (an upper bound)" in str(found)


def test_the_bound_of_a_campaign_holds_whoever_of_those_reached_is_mailed(tmp_path: Path) -> None:
    counted(tmp_path, [{"event": "Buy", "$user_id": "ann"}])
    workspace = cs.open(tmp_path / "home")
    with workspace.connect() as con:
        bound = effect(con, "local", ["ann", "bob", "cy"]).untracked
    before = workspace.mtu()["mtu_without_exemption"].iloc[-1]
    sent = [{"event": "Mailchimp - Sent To", "$user_id": user} for user in ("ann", "bob", "cy")]
    after = counted(tmp_path, sent)["mtu_without_exemption"]
    assert after - before == bound == 2


def test_without_events_what_a_campaign_does_cannot_be_reckoned(tmp_path: Path) -> None:
    workspace = cs.open(tmp_path / "home")
    workspace.init("UTC", "simplified")
    with workspace.connect() as con:
        assert "cannot be reckoned" in str(effect(con, "local", ["ann"]))


def test_under_the_guardrail_an_event_that_qualifies_for_want_of_a_mark_counts_as_qualifying(tmp_path: Path) -> None:
    rows = [{"event": "Mailchimp - Sent To", "$user_id": "ann", "$source": source} for source in ("mailchimp", "else")]
    month = counted(tmp_path, rows, marked_only=True, guardrail_events="qualifying", events_per_user=1)
    assert (month["mtu"], month["guardrail"]) == (1, 1)
