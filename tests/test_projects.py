"""Several projects in one workspace: chosen by name, wholly apart, and summed for the organisation."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import forked
import pandas as pd
import pytest
from conftest import OWNER_KEY, examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest
from terminal import answer, cohortsync

import cohortsync as cs
from cohortsync import demo, ledger, runs
from cohortsync.errors import BadInput, ConfigurationError, StoreError, UnsafePlan

ROOT = Path(__file__).parent.parent
NOON = 1_793_448_000  # 2026-10-31 12:00 UTC
ANN = {"$distinct_id": "ann", "$properties": {"$email": "ann@lane.example", "plan": "pro"}}
BO = {"$distinct_id": "bo", "$properties": {"$email": "bo@lane.example"}}
Row = dict[str, Any]


def event(number: int, user: str = "ann", at: int = NOON, /, **more: Any) -> Row:
    return {"event": "Opened", "properties": {"time": at, "distinct_id": user, "$user_id": user, "$insert_id":
            f"insert-{number}", "mp_processing_time_ms": at * 1000 + number, **more}}


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return path


def exports(folder: Path, *events: Row, profiles: tuple[Row, ...] = (ANN, BO),
            members: tuple[str, ...] = ("ann", "bo")) -> dict[str, Any]:
    """Files of one project, with a line that is no event among them."""
    folder.mkdir(exist_ok=True)
    return {"events": [write(folder / "events.ndjson", *events, "no event")],
            "profiles": [write(folder / "profiles.ndjson", *profiles)],
            "cohorts": {"vip": write(folder / "vip.txt", *members)}}


def add(home: Path, project_id: str, timezone: str = "UTC", id_merge: str = "simplified") -> cs.Workspace:
    workspace = cs.open(home, project_id)
    workspace.init(timezone, id_merge)
    return workspace


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two projects of one workspace, with users, cohorts and events of the same names; and their files."""
    place = tmp_path_factory.mktemp("two")
    one, other = add(place / "home", "one"), add(place / "home", "two", "America/New_York")
    one.load(**exports(place / "1", event(1), event(2, "bo"), event(3, "$device:d1", **{"$user_id": None})))
    other.load(**exports(place / "2", event(1, "bo"), event(4, "cy"), profiles=(BO,), members=("bo", "cy", "dee")))
    return place


@pytest.fixture
def two(loaded: Path, tmp_path: Path) -> tuple[cs.Workspace, cs.Workspace]:
    """The same, one's own."""
    shutil.copytree(loaded, tmp_path, dirs_exist_ok=True)
    return cs.open(tmp_path / "home", "one"), cs.open(tmp_path / "home", "two")


def numbers(workspace: cs.Workspace) -> dict[str, Any]:
    """All that the project answers, but the instants at which something was published."""
    frames = {"cohorts": workspace.cohorts(), "vip": workspace.audience("vip"), "mtu": workspace.mtu(),
              "quarantine": workspace.quarantine(), "events": workspace.events_seen(), "marginal":
              workspace.marginal_mtu(), "properties": workspace.properties(sample=None), "profiles":
              workspace.properties(profiles=True), "history": workspace.cohort_history("vip"),
              "changes": workspace.mtu_history(), "overlap": workspace.cohort_overlap()}
    return {name: frame.drop(columns="as_of", errors="ignore").to_dict("records") if name != "changes"
            else frame.to_dict("records") for name, frame in frames.items()}


def rows_of(workspace: cs.Workspace) -> dict[str, Any]:
    """Every row of every table that is the project's."""
    with workspace.connect() as con:
        tables = con.execute("select table_name from duckdb_columns() where column_name = 'project_id' "
                             "and schema_name = 'main' and database_name = current_database() order by all").fetchall()
        return {table: sorted(con.execute(f"from {table} where project_id = ?", [workspace.project_id]).fetchall(),
                              key=repr) for (table,) in tables}


# which one

def test_the_only_project_need_not_be_named(tmp_path: Path) -> None:
    add(tmp_path, "12345", "Europe/Berlin")
    project = cs.open(tmp_path).project
    assert project is not None
    assert project["project_id"] == "12345"


def test_of_several_one_must_be_named(two: tuple[cs.Workspace, cs.Workspace]) -> None:
    unnamed = cs.open(two[0].home)
    for question in (unnamed.cohorts, unnamed.mtu, unnamed.quarantine, unnamed.runs, lambda: unnamed.audience("vip"),
                     lambda: unnamed.load(events=[unnamed.home]), lambda: unnamed.init("UTC", "simplified")):
        with pytest.raises(ConfigurationError, match=r"holds several projects \(one, two\). Name one with --project"):
            question()


def test_a_project_that_is_not_there_is_an_error_that_says_which_are(two: tuple[cs.Workspace, cs.Workspace]) -> None:
    with pytest.raises(ConfigurationError, match="has no project 'three'. It holds: one, two"):
        cs.open(two[0].home, "three").cohorts()


def test_an_id_of_digits_may_be_a_number(tmp_path: Path) -> None:
    add(tmp_path, "12345")
    assert cs.open(tmp_path, 12345).cohorts().empty  # type: ignore[arg-type]


def test_the_environment_names_the_project(two: tuple[cs.Workspace, cs.Workspace],
                                           monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COHORTSYNC_PROJECT", "two")
    assert cs.open(two[0].home).project_id == "two"
    assert cs.open(two[0].home, "one").project_id == "one"


def test_saying_again_what_the_only_project_is_needs_no_name_and_adds_none(tmp_path: Path) -> None:
    add(tmp_path, "12345")
    cs.open(tmp_path).init("Europe/Berlin", "original")
    assert cs.open(tmp_path).projects()[["project_id", "timezone", "id_merge"]].values.tolist() == [
        ["12345", "Europe/Berlin", "original"]]


def test_the_projects_are_listed(two: tuple[cs.Workspace, cs.Workspace]) -> None:
    listed = two[0].projects()
    assert listed["project_id"].tolist() == ["one", "two"]
    assert listed["times_are"].tolist() == ["utc", "utc"]


@pytest.mark.parametrize("project_id", [" ", "a\nb", "x" * 256])
def test_an_id_that_could_not_be_read_is_refused(tmp_path: Path, project_id: str) -> None:
    with pytest.raises(BadInput, match="cannot be a project's id"):
        cs.open(tmp_path).init("UTC", "simplified", project_id)


# apart

def test_what_is_loaded_for_one_project_changes_no_number_of_another(tmp_path: Path) -> None:
    one = add(tmp_path / "home", "one")
    one.load(**exports(tmp_path / "1", event(1), event(2, "bo"), event(3, "$device:d1", **{"$user_id": None})))
    before = (numbers(one), rows_of(one))
    other = add(tmp_path / "home", "two", "Asia/Tokyo", "original")
    other.load(**exports(tmp_path / "2", event(1, "cy"), event(3, "bo", **{"$device_id": "d1"}), event(9, "ann"),
                         profiles=({**ANN, "$properties": {"$email": "other@lane.example"}},), members=("cy",)))
    assert (numbers(one), rows_of(one)) == before


def test_each_project_answers_as_if_it_were_alone(two: tuple[cs.Workspace, cs.Workspace], tmp_path: Path) -> None:
    for workspace, timezone in zip(two, ("UTC", "America/New_York"), strict=True):
        alone = add(tmp_path / f"alone-{workspace.project_id}", str(workspace.project_id), timezone)
        folder = tmp_path / ("1" if workspace.project_id == "one" else "2")
        alone.load([folder / "events.ndjson"], [folder / "profiles.ndjson"], {"vip": folder / "vip.txt"})
        timed = ("changes", "quarantine", "cohorts", "history")
        assert {name: rows for name, rows in numbers(alone).items() if name not in timed} == {
            name: rows for name, rows in numbers(workspace).items() if name not in timed}
        assert alone.quarantine()["line"].tolist() == workspace.quarantine()["line"].tolist()


def test_the_same_files_can_be_loaded_into_both(tmp_path: Path) -> None:
    one, other = add(tmp_path / "home", "one"), add(tmp_path / "home", "two")
    files = exports(tmp_path / "1", event(1), event(2, "bo"))
    first, second = one.load(**files), other.load(**files)
    assert (first.events_added, second.events_added, second.duplicates) == (2, 2, 0)
    assert one.load(**files).unchanged
    assert one.mtu()["mtu"].tolist() == other.mtu()["mtu"].tolist() == [2]
    assert one.audience_summary("vip")["exportable"] == other.audience_summary("vip")["exportable"] == 2


def test_a_duplicate_is_one_within_a_project_only(two: tuple[cs.Workspace, cs.Workspace], tmp_path: Path) -> None:
    one, other = two
    report = other.load(events=[write(tmp_path / "again.ndjson", event(1, "bo"), event(2, "bo"))])
    assert (report.duplicates, report.events_added) == (1, 1)
    assert one.events_seen()["events"].tolist() == [3]


def test_a_device_is_linked_within_a_project_only(two: tuple[cs.Workspace, cs.Workspace], tmp_path: Path) -> None:
    one, other = two
    before = one.mtu()["mtu"].tolist()
    other.load(events=[write(tmp_path / "link.ndjson", event(8, "ann", **{"$device_id": "d1"}))])
    assert one.mtu()["mtu"].tolist() == before == [3]


def test_saying_anew_what_one_project_is_leaves_the_other_alone(two: tuple[cs.Workspace, cs.Workspace]) -> None:
    one, other = two
    before = (numbers(other), rows_of(other))
    one.init("Pacific/Auckland", "original", event_times="local")
    assert one.mtu()["month"].tolist() == ["2026-10"]
    assert (numbers(other), rows_of(other)) == before


def test_a_cohort_defined_in_one_project_sees_that_project_and_shows_in_no_other(
        two: tuple[cs.Workspace, cs.Workspace]) -> None:
    one, other = two
    made = one.define_cohort("all", "select distinct_id from profiles")
    assert "all" in one.cohorts()["cohort"].tolist()
    assert other.cohorts()["cohort"].tolist() == ["vip"]
    assert made["project_id"] == "one"


OPENED = st.builds(lambda number, user, day: event(number, user, NOON + day * 86400), st.integers(1, 6),
                   st.sampled_from(["ann", "bo", "$device:d1", ""]), st.integers(0, 3))
LINKED = st.builds(lambda number, user: event(number, user, **{"$device_id": "d1"}), st.integers(1, 6),
                   st.sampled_from(["ann", "bo"]))
EVENTS = st.lists(OPENED | LINKED, min_size=1, max_size=6)


@pytest.mark.law
@settings(max_examples=examples(3), deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.sampled_from(["one", "two"]), EVENTS), min_size=2, max_size=4))
def test_projects_loaded_in_turn_equal_projects_loaded_alone(tmp_path_factory: pytest.TempPathFactory,
                                                             loads: list[tuple[str, list[Row]]]) -> None:
    place = tmp_path_factory.mktemp("turns")
    files = [(project_id, write(place / f"{n}.ndjson", *rows)) for n, (project_id, rows) in enumerate(loads)]
    for project_id, timezone in (("one", "UTC"), ("two", "Asia/Tokyo")):
        add(place / "both", project_id, timezone)
        add(place / project_id, project_id, timezone)
    for project_id, file in files:
        cs.open(place / "both", project_id).load(events=[file])
        cs.open(place / project_id, project_id).load(events=[file])
    for project_id in ("one", "two"):
        both, alone = cs.open(place / "both", project_id), cs.open(place / project_id, project_id)
        for question in (cs.Workspace.mtu, cs.Workspace.events_seen, cs.Workspace.marginal_mtu):
            pd.testing.assert_frame_equal(question(both).drop(columns="as_of", errors="ignore"),
                                          question(alone).drop(columns="as_of", errors="ignore"))


# the organisation

def test_the_organisation_is_the_sum_of_its_projects_each_in_its_own_zone(tmp_path: Path) -> None:
    one, other = add(tmp_path / "home", "one", "UTC"), add(tmp_path / "home", "two", "Asia/Tokyo")
    late = NOON + 4 * 3600  # already November in Tokyo
    for workspace in (one, other):
        workspace.load(events=[write(tmp_path / "events.ndjson", event(1, "ann"), event(2, "bo", late))])
    assert one.mtu()[["month", "mtu"]].values.tolist() == [["2026-10", 2]]
    assert other.mtu()[["month", "mtu"]].values.tolist() == [["2026-10", 1], ["2026-11", 1]]
    total = cs.open(tmp_path / "home").organisation_mtu()
    assert total[["month", "mtu", "events", "billable"]].values.tolist() == [["2026-10", 3, 3, 3], ["2026-11", 1, 1, 1]]
    assert total["projects"].tolist() == [["one", "two"], ["two"]]


# syncing

@pytest.fixture
def rehearsing(two: tuple[cs.Workspace, cs.Workspace], tmp_path: Path) -> Iterator[tuple[cs.Workspace, cs.Workspace]]:
    """The two projects, connected to a local Mailchimp of their own with nobody in it."""
    with forked.sandbox(tmp_path / "mailchimp") as running:
        two[0].connect_mailchimp(OWNER_KEY, "subscribed", running.mailchimp_url)
        yield two


def audience_of(workspace: cs.Workspace) -> str:
    return str(workspace.check_mailchimp()["audiences"][0]["audience_id"])


def test_cohorts_of_one_name_get_a_segment_each(rehearsing: tuple[cs.Workspace, cs.Workspace]) -> None:
    one, other = rehearsing
    receipts = [each.sync("vip", audience_of(each)) for each in (one, other)]
    assert [receipt["added"] for receipt in receipts] == [2, 1]
    assert [receipt["status"] for receipt in receipts] == ["completed"] * 2
    assert [receipt["target"].rpartition("segment ")[2] for receipt in receipts] == ["mixpanel_vip", "mixpanel_two_vip"]
    again = [each.plan("vip", audience_of(each)) for each in (one, other)]
    assert [(plan.counts["keep"], plan.changes) for plan in again] == [(2, 0), (1, 0)]


def test_the_first_project_keeps_its_segments_name_whichever_syncs_first(
        rehearsing: tuple[cs.Workspace, cs.Workspace]) -> None:
    one, other = rehearsing
    receipts = [each.sync("vip", audience_of(each)) for each in (other, one)]
    assert [receipt["target"].rpartition("segment ")[2] for receipt in receipts] == ["mixpanel_two_vip", "mixpanel_vip"]


def test_a_name_that_meets_another_projects_is_an_error_and_no_shared_segment(
        rehearsing: tuple[cs.Workspace, cs.Workspace], tmp_path: Path) -> None:
    one, other = rehearsing
    one.load(cohorts={"two_vip": write(tmp_path / "members.txt", "ann")})
    one.sync("two_vip", audience_of(one))
    with pytest.raises(UnsafePlan, match="already has a segment named mixpanel_two_vip"):
        other.plan("vip", audience_of(other))


def test_an_unanswered_making_never_claims_another_projects_segment(
        rehearsing: tuple[cs.Workspace, cs.Workspace], tmp_path: Path) -> None:
    one, other = rehearsing
    audience_id = audience_of(one)
    one.load(cohorts={"two_vip": write(tmp_path / "members.txt", "ann")})
    one.sync("two_vip", audience_id)
    one.load(cohorts={"two_vip": write(tmp_path / "members.txt", "nobody")})
    one.sync("two_vip", audience_id, force=True)
    account_id = one.connection["account_id"]  # type: ignore[index]
    ledger.record_segment(other.home, {"account_id": account_id, "audience_id": audience_id, "project_id": "two",
                                       "cohort": "vip", "segment_id": None, "name": "mixpanel_two_vip"})
    with pytest.raises(UnsafePlan, match="already has a segment named mixpanel_two_vip"):
        other.plan("vip", audience_id)


def test_an_approved_plan_is_applied_to_its_own_project(rehearsing: tuple[cs.Workspace, cs.Workspace]) -> None:
    one, other = rehearsing
    plan = other.plan("vip", audience_of(other))
    receipt = one.apply(plan)
    assert (receipt["project_id"], receipt["added"]) == ("two", 1)


def test_runs_are_those_of_the_project(rehearsing: tuple[cs.Workspace, cs.Workspace]) -> None:
    one, other = rehearsing
    receipt = other.sync("vip", audience_of(other), dry_run=True)
    assert one.runs().empty
    assert other.runs()["run_id"].tolist() == [receipt["run_id"]]


# front ends

def test_the_command_line_takes_the_project_anywhere(two: tuple[cs.Workspace, cs.Workspace]) -> None:
    home = two[0].home
    for words in (["--project", "two", "--home", home, "audience", "vip"],
                  ["audience", "vip", "--home", home, "--project=two"],
                  ["audience", "--project", "two", "vip", f"--home={home}"]):
        assert answer(*words)["project_id"] == "two"
    assert answer("audience", "vip", COHORTSYNC_HOME=str(home), COHORTSYNC_PROJECT="one")["project_id"] == "one"


def test_the_command_line_says_when_several_are_there_and_none_is_named(two: tuple[cs.Workspace, cs.Workspace]) -> None:
    ended = cohortsync("cohorts", "--home", two[0].home)
    assert (ended.returncode, ended.stdout) == (ConfigurationError.exit_status, "")
    assert ended.stderr.startswith("Error: ")
    assert "several projects (one, two). Name one with --project ID." in " ".join(ended.stderr.split())


def test_the_command_line_adds_and_lists_projects(tmp_path: Path) -> None:
    for words in (["--project-id", "12345"], ["--project-id", "67890", "--event-times", "local"],
                  ["--project", "12345", "--event-times", "utc"]):
        ended = cohortsync("init", "--timezone", "Europe/Berlin", "--id-merge", "simplified",
                           "--home", tmp_path, *words)
        assert ended.returncode == 0, ended.stderr
    listed = answer("projects", "--home", tmp_path)
    assert [(row["project_id"], row["event_times"]) for row in listed] == [("12345", "utc"), ("67890", "local")]
    shown = cohortsync("projects", "--home", tmp_path)
    assert "Europe/Berlin" in shown.stdout


def test_quarantine_lists_the_lines_of_the_project_by_the_keys_it_always_had(
        two: tuple[cs.Workspace, cs.Workspace]) -> None:
    rows = answer("quarantine", "--home", two[0].home, "--project", "two")
    assert [list(row) for row in rows] == [["load_id", "file", "line", "byte_offset", "reason"]]
    assert Path(rows[0]["file"]).parent.name == "2"


def test_a_load_says_what_it_found_out_about_times(tmp_path: Path) -> None:
    add(tmp_path / "home", "12345", "America/New_York")
    old = write(tmp_path / "old.ndjson", *(event(n, f"u{n}", NOON, mp_processing_time_ms=(NOON + 4 * 3600) * 1000)
                                           for n in range(3)))
    ended = cohortsync("load", "--events", old, "--home", tmp_path / "home", "--json")
    told = json.loads(ended.stdout)
    assert told["events_added"] == 3
    assert "clocks of America/New_York" in " ".join(told["notes"])


def test_the_demo_keeps_apart_from_other_projects(tmp_path: Path) -> None:
    workspace = add(tmp_path, "12345")
    with pytest.raises(BadInput, match="already holds project 12345"):
        demo.demo_on_sample(workspace, print, print)


def test_a_notebook_reads_the_project_it_is_given(two: tuple[cs.Workspace, cs.Workspace], tmp_path: Path) -> None:
    executed = runs.execute_notebook("explore_cohort", tmp_path / "out.ipynb", {"project": "two", "cohort": "vip"},
                                     two[0].home)
    found = runs.result(executed)
    assert found is not None
    assert found["size"] == 3


Visit = Callable[[str], AppTest]


@pytest.fixture
def visit(two: tuple[cs.Workspace, cs.Workspace], monkeypatch: pytest.MonkeyPatch) -> Visit:
    """Open the app on the two projects, at one of its pages."""
    def open_at(page: str) -> AppTest:
        monkeypatch.setenv("COHORTSYNC_HOME", str(two[0].home))
        app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60).run()
        return app if page == "connect" else app.switch_page(f"cohortsync/pages/{page}.py").run()
    return open_at


def chooser(app: AppTest) -> Any:
    assert not app.exception, app.exception
    return next(box for box in app.sidebar.selectbox if box.label == "Project")


def sizes(app: AppTest) -> list[str]:
    return [metric.value for metric in app.metric if metric.label == "In the cohort"]


def test_the_app_shows_the_project_chosen_at_the_side(visit: Visit) -> None:
    app = visit("cohorts")
    assert (chooser(app).value, sizes(app)) == ("one", ["2"])
    chooser(app).set_value("two").run()
    assert sizes(app) == ["3"]
    app.switch_page("cohortsync/pages/mtu.py").run()
    assert chooser(app).value == "two"


def test_the_app_adds_a_project_and_shows_it(visit: Visit, two: tuple[cs.Workspace, cs.Workspace]) -> None:
    app = visit("connect")
    next(field for field in app.text_input if field.label == "Project id").set_value("three")
    next(button for button in app.button if button.label == "Add the project").click().run()
    assert chooser(app).value == "three"
    assert two[0].projects()["project_id"].tolist() == ["one", "three", "two"]
    assert {metric.label: metric.value for metric in app.metric} == {"Events": "0", "Profiles": "0", "Cohorts": "0"}


def test_the_app_adds_no_project_twice(visit: Visit, two: tuple[cs.Workspace, cs.Workspace]) -> None:
    app = visit("connect")
    next(field for field in app.text_input if field.label == "Project id").set_value("two")
    next(button for button in app.button if button.label == "Add the project").click().run()
    assert "an id of its own" in app.error[0].value.replace("\\", "")
    assert two[0].projects()["timezone"].tolist() == ["UTC", "America/New_York"]


def test_one_project_needs_no_chooser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(tmp_path, "12345")
    monkeypatch.setenv("COHORTSYNC_HOME", str(tmp_path))
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60).run()
    assert not [box for box in app.sidebar.selectbox if box.label == "Project"]


# the state's version

def test_a_workspace_of_another_version_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    add(tmp_path, "12345")
    with sqlite3.connect(tmp_path / "state.sqlite") as con:
        con.execute("update workspace set version = ?", (ledger.VERSION + 1,))
    con.close()
    with pytest.raises(StoreError, match=f"its format is {ledger.VERSION + 1}, this one reads up to {ledger.VERSION}"):
        cs.open(tmp_path).projects()
    ended = cohortsync("cohorts", "--home", tmp_path)
    assert (ended.returncode, ended.stdout) == (StoreError.exit_status, "")
    with sqlite3.connect(tmp_path / "state.sqlite") as con:
        assert con.execute("select version from workspace").fetchall() == [(ledger.VERSION + 1,)]
    con.close()
