"""A Mailchimp audience as it was last read: counted and listed without asking anybody."""

from __future__ import annotations

from pathlib import Path

import forked
from conftest import OWNER_KEY, SAMPLE

import cohortsync as cs
from cohortsync import charts
from cohortsync.plan import Plan

ADDING = ("add_new", "add_existing", "keep")


def planned(workspace: cs.Workspace, cohort: str = "power-users") -> Plan:
    return workspace.plan(cohort, workspace.chosen_audience())


def test_before_anything_is_read_nobody_stands_anywhere(workspace: cs.Workspace) -> None:
    assert workspace.standing("power-users").empty
    assert workspace.member_counts("abc").empty
    assert workspace.members("abc").empty


def test_a_cohort_stands_in_the_audience_as_its_plan_says(connected: cs.Workspace) -> None:
    plan = planned(connected)
    standing = connected.standing("power-users").set_index("status")["people"]
    people = plan.people[plan.people["word"] != "remove"]
    assert standing.to_dict() == people["status"].fillna("not in it").value_counts().to_dict()
    assert standing.sum() == connected.audience_summary("power-users")["exportable"]
    assert standing["not in it"] == plan.counts["add_new"]


def test_everyone_of_the_audience_is_counted_and_listed_masked(connected: cs.Workspace) -> None:
    audience = planned(connected).target.audience_id
    counts, members = connected.member_counts(audience), connected.members(audience)
    assert counts.set_index("status")["people"].to_dict() == members["status"].value_counts().to_dict()
    assert members["email"].str.contains("•••").all()
    assert connected.members(audience, status="cleaned", limit=3)["status"].tolist() == ["cleaned"] * 3


def test_a_segment_kept_for_a_cohort_holds_who_carries_its_tag_when_last_read(connected: cs.Workspace) -> None:
    plan = planned(connected)
    connected.apply(plan)
    planned(connected)
    segments = connected.segments(plan.target.audience_id)
    assert segments[["cohort", "name"]].values.tolist() == [["power-users", "mixpanel_power-users"]]
    assert segments["people"].item() == sum(plan.counts[word] for word in ADDING)


def test_looking_at_it_asks_nobody(workspace: cs.Workspace, tmp_path: Path) -> None:
    with forked.sandbox(tmp_path / "mailchimp", seed=SAMPLE / "mailchimp_members.ndjson") as running:
        workspace.connect_mailchimp(OWNER_KEY, "subscribed", running.mailchimp_url)
        audience = planned(workspace).target.audience_id
    assert workspace.standing("power-users")["people"].sum() == workspace.audience_summary("power-users")["exportable"]
    assert len(workspace.members(audience)) == workspace.member_counts(audience)["people"].sum() > 0


def test_the_figure_names_each_status_in_words(connected: cs.Workspace) -> None:
    planned(connected)
    figure = charts.standing(connected.standing("power-users"))
    assert sum(figure.data[0].x) == connected.audience_summary("power-users")["exportable"]
    assert "cleaned, their mail bounces: refused" in figure.layout.yaxis.ticktext
