"""Pulling from Mixpanel: what comes, what is asked for, and what happens when something goes wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import forked
import pytest
from conftest import PROJECT_ID, sampled
from mixpanel_side import change, connect, contents, differences, load_as_files, seed_small, settle
from terminal import answer, cohortsync

import cohortsync as cs
from cohortsync.agenda import PullPlan
from cohortsync.errors import ApiFinal, ApiTransient, BadInput

FIRST, LAST = "2026-11-14", "2026-11-21"
SINCE = date(2026, 11, 14)
HOLD = """
import sys, time
from pathlib import Path
from cohortsync import pull
with pull._only_one_of_events(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A small local Mixpanel whose settings and data a test may change; several pages, several exports."""
    monkeypatch.setenv("COHORTSYNC_PULL_SPAN_DAYS", "3")
    monkeypatch.setenv("COHORTSYNC_MIXPANEL_EXPORTS_PER_SECOND", "1000")
    with forked.sandbox(tmp_path / "mixpanel", mixpanel_seed=seed_small(tmp_path)) as running:
        settle(running, page_size=40, export_per_second=1000)
        yield running


@pytest.fixture
def workspace(own: Any, tmp_path: Path) -> cs.Workspace:
    """An empty workspace, connected to it."""
    return connect(own, tmp_path / "home")


def as_files(own: Any, place: Path, last: str = LAST) -> cs.Workspace:
    return load_as_files(own, place / "as-files", place, FIRST, last)


def asked(workspace: cs.Workspace, **wanted: Any) -> list[list[str]]:
    """The spans that a pull would ask for, the days of November."""
    return [[day[-2:] for day in span] for span in workspace.plan_pull(**wanted).as_dict()["spans"]]


def event_line(number: int, time_s: int) -> str:
    return json.dumps({"event": "Late", "properties": {"time": time_s, "distinct_id": "user-001",
                                                       "$user_id": "user-001", "$insert_id": f"late-{number}"}})


def came_in(place: Path, day: str, time_s: int, number: int = 1) -> None:
    """An event of a day comes in at Mixpanel."""
    change(place / "mixpanel", "insert into events (day, time_s, event, distinct_id, insert_id, line) values "
           f"('{day}', {time_s}, 'Late', 'user-001', 'late-{number}', '{event_line(number, time_s)}')")


# what comes

def test_a_pull_loads_what_the_same_data_from_files_loads(own: Any, workspace: cs.Workspace, tmp_path: Path) -> None:
    report = workspace.pull(since=SINCE)
    assert differences(workspace, as_files(own, tmp_path)) == {}
    assert (report.events, report.profiles, report.days) == (700, 130, 8)
    assert report.requests == {"query": 7, "page": 3 + 2 * 0 + 2, "export": 3, "app": 0}


def test_the_sample_pulled_is_the_sample_loaded(mixpanel: Any, tmp_path: Path) -> None:
    workspace = connect(mixpanel, tmp_path / "home")
    workspace.pull(since=date(2026, 9, 1))
    files = load_as_files(mixpanel, tmp_path / "files", tmp_path, "2026-09-01", LAST)
    assert differences(workspace, files) == {}


def test_the_gap_between_a_cohort_and_who_has_a_profile_is_explained(workspace: cs.Workspace) -> None:
    rows = workspace.pull(events=False, profiles=False).cohorts.set_index("cohort")
    assert rows.loc["big", ["announced", "members", "with_profile", "without_profile"]].tolist() == [110, 110, 90, 20]
    assert rows.loc["few", ["announced", "members", "with_profile", "without_profile"]].tolist() == [12, 12, 12, 0]


def test_events_come_under_the_id_they_were_given_since_and_that_is_said(own: Any, workspace: cs.Workspace,
                                                                        tmp_path: Path) -> None:
    workspace.pull(since=SINCE)
    change(tmp_path / "mixpanel", """update events set line = json_set(line, '$.properties.distinct_id', 'user-001',
        '$.properties."$distinct_id_before_identity"', distinct_id) where distinct_id like '$device:%'""")
    report = workspace.pull(late_days=30)
    assert report.loaded.rekeyed == len(workspace.sql("from events where user_id is null")) > 100
    assert contents(workspace)["activity"] == contents(as_files(own, tmp_path))["activity"]


# what is asked for

def test_only_days_that_are_new_or_may_have_changed_are_asked_for(own: Any, workspace: cs.Workspace, tmp_path: Path
                                                                 ) -> None:
    assert asked(workspace, since=SINCE) == [["14", "16"], ["17", "19"], ["20", "21"]]
    workspace.pull(since=SINCE)
    change(tmp_path / "mixpanel", "update clock set offset_s = offset_s + 2 * 86400")
    assert asked(workspace, late_days=0) == [["20", "22"], ["23", "23"]]
    assert asked(workspace, late_days=2) == [["18", "20"], ["21", "23"]]
    came_in(tmp_path, "2026-11-19", 1795100000)
    came_in(tmp_path, "2026-11-22", 1795360000, 2)
    workspace.pull(late_days=2)
    there, files = contents(workspace), contents(as_files(own, tmp_path, "2026-11-23"))
    assert all(there[name] == files[name] for name in ("events", "activity", "user_months", "months", "identities"))
    assert len(workspace.sql("from events where event = 'Late'")) == 2


def test_the_plan_is_shown_before_anything_is_fetched_and_can_stop_it(workspace: cs.Workspace) -> None:
    def stop(plan: PullPlan) -> None:
        assert (plan.exports, plan.queries, plan.queries_with_pages) == (3, 5, 5)
        raise BadInput("no")

    with pytest.raises(BadInput, match="no"):
        workspace.pull(since=SINCE, review=stop)
    assert workspace.as_of is None
    assert workspace.plan_pull(since=SINCE).left == {"query": 60 - 2 - 2, "export": 60}


def test_pulls_of_other_processes_have_their_part_in_the_hour(workspace: cs.Workspace) -> None:
    answer("--home", workspace.home, "pull", "--no-events", "--cohort", "few")
    assert workspace.plan_pull().left["query"] == 60 - 3 - 2


def test_a_pull_that_is_over_the_hour_keeps_what_it_fetched_and_goes_on_from_there(
        own: Any, workspace: cs.Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COHORTSYNC_MIXPANEL_EXPORTS_PER_HOUR", "2")
    monkeypatch.setenv("COHORTSYNC_MIXPANEL_WAIT_SECONDS", "0.1")
    with pytest.raises(ApiTransient, match="allows 2 exports an hour.*what was fetched is kept"):
        workspace.pull(since=SINCE)
    assert workspace.as_of is None
    monkeypatch.setenv("COHORTSYNC_MIXPANEL_EXPORTS_PER_HOUR", "3")
    assert asked(workspace, late_days=0, since=SINCE) == [["20", "21"]]
    workspace.pull(late_days=0, since=SINCE)
    assert differences(workspace, as_files(own, tmp_path)) == {}


# one cohort

def test_one_cohort_is_refreshed_alone_with_the_profiles_of_its_members(workspace: cs.Workspace, tmp_path: Path
                                                                        ) -> None:
    workspace.pull(since=SINCE)
    before = dict(workspace.sql("select distinct_id, first_name from profiles").itertuples(index=False, name=None))
    change(tmp_path / "mixpanel",
           "insert into cohort_members values (1, 'someone-new'), (2, 'someone-else')",
           "delete from profiles where distinct_id = 'user-050'",
           """update profiles set properties = json_set(properties, '$."$first_name"', 'Renamed')
              where distinct_id in ('user-051', 'user-001')""")
    report = workspace.pull(cohorts=["big"], events=False)
    assert report.requests == {"query": 3, "page": 2 + 2, "export": 0, "app": 0}
    assert workspace.cohorts().set_index("cohort")["size"].to_dict() == {"big": 111, "few": 12}
    del before["user-050"]  # gone in Mixpanel, and of this cohort
    after = dict(workspace.sql("select distinct_id, first_name from profiles").itertuples(index=False, name=None))
    assert after == before | {"user-051": "Renamed"}


def test_a_member_who_comes_without_a_profile_loses_the_one_there_was(workspace: cs.Workspace, tmp_path: Path) -> None:
    workspace.pull(since=SINCE)
    workspace.pull(cohorts=["few"], events=False)
    change(tmp_path / "mixpanel", "delete from profiles where distinct_id = 'user-050'",
           "insert into cohort_members values (2, 'user-050')")
    workspace.pull(cohorts=["few"], events=False)
    assert workspace.sql("from profiles where distinct_id = 'user-050'").empty


def test_a_cohort_that_did_not_change_makes_no_new_generation(workspace: cs.Workspace) -> None:
    workspace.pull(cohorts=["big"], events=False)
    as_of = workspace.as_of
    assert workspace.pull(cohorts=["big"], events=False).loaded.unchanged
    assert workspace.as_of == as_of


def test_refreshing_one_cohort_after_another_leaves_what_everything_at_once_brought(workspace: cs.Workspace) -> None:
    workspace.pull(since=SINCE)
    before = contents(workspace)
    for cohort in ("big", "few"):
        workspace.pull(cohorts=[cohort], events=False)
    assert {name: contents(workspace)[name] for name in ("profiles", "cohort_members")} == {
        name: before[name] for name in ("profiles", "cohort_members")}


def test_a_cohort_is_found_by_its_name_here_also_once_it_is_renamed(workspace: cs.Workspace, tmp_path: Path) -> None:
    workspace.pull(cohorts=["few"], events=False)
    change(tmp_path / "mixpanel", "update cohorts set name = 'Stars' where id = 2")
    for name in ("few", "2", "Stars"):
        report = workspace.pull(cohorts=[name], events=False)
        assert report.cohorts["cohort"].tolist() == ["few"]
        assert report.notes == ["The cohort 'few' is now called 'Stars' in Mixpanel; here it keeps its name."]


def test_a_cohort_whose_name_another_has_is_told_apart_by_its_id(workspace: cs.Workspace, tmp_path: Path) -> None:
    workspace.pull(since=SINCE)
    workspace.define_cohort("mine", "select distinct_id from profiles")
    change(tmp_path / "mixpanel", "insert into cohorts values (3, 'mine', '', '', 1, null, 0)",
           "insert into cohorts values (4, 'few', '', '', 1, null, 0)", "insert into cohort_members values (3, 'ann')")
    report = workspace.pull(events=False)
    assert report.cohorts["cohort"].tolist() == ["big", "few", "mine (3)", "few (4)"]
    assert workspace.cohorts().set_index("cohort")["size"].to_dict() == {
        "big": 110, "few": 12, "mine": 130, "mine (3)": 1, "few (4)": 0}


def test_a_cohort_that_is_not_there_is_one_clear_error(workspace: cs.Workspace) -> None:
    with pytest.raises(BadInput, match="has no cohort 'nobody'. It has: big, few"):
        workspace.pull(cohorts=["nobody"], events=False)


# when something goes wrong

@pytest.mark.parametrize("fault", sampled(["429", "cut", "split_record", "duplicate_rows", "429_retry_after", "500",
                                           "502", "terminated_early", "expired_session"], 4))
def test_a_pull_through_a_fault_ends_whole(own: Any, workspace: cs.Workspace, tmp_path: Path, fault: str,
                                           monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COHORTSYNC_ATTEMPTS", "20")
    settle(own, faults=fault, fault_rate=0.4, fault_seed=62)
    report = workspace.pull(since=SINCE)
    assert any("broke off in the middle" in text for text in report.notes) == (fault in ("cut", "terminated_early"))
    settle(own, fault_rate=0)
    twice = {"superseded", "lags", "rows by kind"} if fault == "duplicate_rows" else set()
    assert differences(workspace, as_files(own, tmp_path)).keys() <= twice


@pytest.mark.parametrize("fault", sampled(["terminated_early", "500", "cut"], 1))
def test_a_pull_that_does_not_complete_is_never_in_force_and_the_next_goes_on(
        own: Any, workspace: cs.Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    monkeypatch.setenv("COHORTSYNC_ATTEMPTS", "2")
    workspace.pull(since=date(2026, 11, 20))
    as_of = workspace.as_of
    settle(own, faults=fault, fault_rate=1)
    with pytest.raises(ApiTransient, match="Try again later"):
        workspace.pull(since=SINCE)
    workspace.refresh()
    assert workspace.as_of == as_of
    assert not list((tmp_path / "home/raw" / PROJECT_ID / "events").glob("*.draft"))
    settle(own, fault_rate=0)
    workspace.pull(since=SINCE)
    assert contents(workspace)["events"] == contents(as_files(own, tmp_path))["events"]


def test_no_order_within_an_export_is_relied_on(own: Any, workspace: cs.Workspace, tmp_path: Path) -> None:
    settle(own, export_order="any", faults="cut,terminated_early", fault_rate=0.4, fault_seed=3)
    assert any("broke off in the middle" in text for text in workspace.pull(since=SINCE).notes)
    settle(own, fault_rate=0)
    assert contents(workspace)["events"] == contents(as_files(own, tmp_path))["events"]


def test_days_that_never_come_whole_are_named(own: Any, workspace: cs.Workspace, monkeypatch: pytest.MonkeyPatch
                                             ) -> None:
    monkeypatch.setenv("COHORTSYNC_ATTEMPTS", "2")
    settle(own, faults="terminated_early", fault_rate=1)
    with pytest.raises(ApiTransient, match="events of 2026-11-14 did not come whole in 2 tries; what came of other"):
        workspace.pull(since=SINCE)


def test_days_after_today_are_left_out_and_said(workspace: cs.Workspace) -> None:
    plan = workspace.plan_pull(since=SINCE, until=date(2030, 1, 1))
    assert (plan.spans[-1][1], plan.left_out) == (
        date(2026, 11, 21), ["events of days after 2026-11-21, which is today in the project"])


def pull_until_the_hour_is_used_up(own: Any, workspace: cs.Workspace) -> None:
    """A pull that ends before all of it is there; the next may ask as much as it likes."""
    settle(own, query_per_hour=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COHORTSYNC_MIXPANEL_WAIT_SECONDS", "0")
        with pytest.raises(ApiTransient):
            workspace.pull(since=SINCE)
    settle(own, query_per_hour=60)


def test_days_of_a_pull_that_did_not_complete_come_with_no_other(own: Any, workspace: cs.Workspace) -> None:
    pull_until_the_hour_is_used_up(own, workspace)
    workspace.pull(cohorts=["few"], events=False)
    assert workspace.sql("from events").empty
    workspace.pull(since=date(2026, 11, 18), late_days=0)
    assert str(workspace.sql("select min(day) as day from events")["day"].iloc[0])[:10] == "2026-11-18"
    report = workspace.pull(since=SINCE, late_days=0)
    assert (report.requests["export"], len(workspace.sql("from events"))) == (1, 700)
    assert workspace.pulls()[["status", "export"]].values.tolist() == [
        ["completed", 1], ["completed", 1], ["completed", 0], ["failed", 3]]


def test_days_whose_files_got_lost_before_they_were_loaded_are_asked_for_again(own: Any, workspace: cs.Workspace
                                                                              ) -> None:
    pull_until_the_hour_is_used_up(own, workspace)
    next((workspace.home / "raw" / PROJECT_ID / "events").glob("2026-11-15.*")).unlink()
    assert asked(workspace, since=SINCE, late_days=0) == [["15", "15"], ["20", "21"]]
    workspace.pull(since=SINCE)
    assert len(workspace.sql("from events")) == 700


def test_a_plan_without_the_api_is_one_clear_error(own: Any, workspace: cs.Workspace) -> None:
    settle(own, **{"402": 1})
    with pytest.raises(ApiFinal, match="402 Payment required. The project's plan has no access to the API.*load files"):
        workspace.pull()
    assert workspace.as_of is None


@pytest.mark.parametrize("past", [3, 100])
def test_events_begin_where_the_plans_history_begins(own: Any, workspace: cs.Workspace, past: int) -> None:
    settle(own, history_days=past)
    report = workspace.pull(late_days=0)
    first = "2026-11-18" if past == 3 else "2026-08-13"
    assert report.notes == [f"The plan exports the last {past} days only: events begin on {first}."]
    assert asked(workspace, late_days=0) == [["20", "21"]]


def test_a_day_that_has_not_begun_in_the_projects_own_time_is_left_out_and_said(
        own: Any, workspace: cs.Workspace, tmp_path: Path) -> None:
    change(tmp_path / "mixpanel", "update project set created_on = '2020-01-01'",
           "update clock set offset_s = offset_s - 2 * 3600")
    report = workspace.pull(since=SINCE)
    assert report.notes == ["2026-11-21 has not begun in the project's own time; events end a day earlier."]
    assert report.days == 7


def test_two_pulls_of_events_at_once_are_one_too_many_but_a_cohort_can_be_refreshed_meanwhile(
        workspace: cs.Workspace) -> None:
    workspace.pull(cohorts=["few"], events=False)
    folder = workspace.home / "raw" / PROJECT_ID
    with subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout and other.stdout.readline() == "held\n"
        with pytest.raises(ApiTransient, match="Another pull of this project's events is at work"):
            workspace.pull(since=SINCE)
        assert workspace.pull(cohorts=["big"], events=False).profiles == 90
        other.kill()
    workspace.pull(since=SINCE)


def test_raw_files_are_for_their_owner_alone_and_only_the_latest_stay(workspace: cs.Workspace) -> None:
    workspace.pull(since=SINCE)
    workspace.pull()
    raw = workspace.home / "raw" / PROJECT_ID
    files = [path for path in raw.rglob("*") if path.is_file() and not path.name.startswith(".")]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert len([path for path in files if path.parent.name == "events"]) == 6
    assert len([path for path in files if path.parent.name in ("profiles", "cohorts")]) == 3


# the command

def test_the_command_shows_the_plan_first_and_the_gap_after(workspace: cs.Workspace) -> None:
    done = cohortsync("--home", workspace.home, "pull", "--since", FIRST)
    assert done.returncode == 0, done.stderr
    plan = ("events of 8 days from 2026-11-14 to 2026-11-21: 3 exports; the hour still holds 60",
            "members of 2 cohorts, 130 profiles: 5 queries; the hour still holds 58")
    assert [line.strip() for line in done.stderr.splitlines()[1:3]] == list(plan)
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["cohort", "announced", "members", "with", "profile", "without", "profile"],
        ["big", "110", "110", "90", "20"], ["few", "12", "12", "12", "0"]]
    assert "700 events of 8 days and 130 profiles fetched; 700 events added, 0 duplicates left out." in done.stderr


def test_the_command_plans_without_fetching(workspace: cs.Workspace) -> None:
    plan = answer("--home", workspace.home, "pull", "--plan-only", "--since", FIRST)
    assert (plan["exports"], plan["queries"], plan["left"]) == (3, 5, {"query": 58, "export": 60})
    assert cohortsync("--home", workspace.home, "pull", "--dry-run").stdout == ""
    assert workspace.as_of is None


def test_a_script_reads_what_a_pull_brought(workspace: cs.Workspace) -> None:
    report = answer("--home", workspace.home, "pull", "--no-events", "--no-profiles", "--cohort", "big")
    assert report["cohorts"] == [{"cohort": "big", "cohort_id": "1", "announced": 110, "members": 110,
                                  "with_profile": 90, "without_profile": 20}]
    [row] = answer("--home", workspace.home, "pulls")
    assert (row["pull_id"], row["status"], row["query"]) == (report["pull_id"], "completed", 3)


def test_an_interrupted_pull_says_so_in_one_line(own: Any, workspace: cs.Workspace) -> None:
    settle(own, faults="500", fault_rate=1)
    done = cohortsync("--home", workspace.home, "pull", COHORTSYNC_ATTEMPTS="1")
    assert (done.returncode, done.stdout) == (5, "")
    assert "Mixpanel answered 500" in done.stderr and "Traceback" not in done.stderr
