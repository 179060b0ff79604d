"""Cohorts defined in SQL, and what a load keeps for a cohort's history: real loads, real files."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import cohortsync as cs
from cohortsync import cli, commands, drafts, warehouse
from cohortsync.errors import BadInput

# what a load keeps

def profile(distinct_id: str, **properties: Any) -> str:
    return json.dumps({"$distinct_id": distinct_id, "$properties": properties}) + "\n"


@pytest.fixture
def project(tmp_path: Path) -> cs.Workspace:
    workspace = cs.open(tmp_path / "home")
    workspace.init("America/New_York", "simplified")
    return workspace


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def rows(project: cs.Workspace, query: str) -> list[tuple[Any, ...]]:
    with project.connect() as con:
        return con.execute(query).fetchall()


def test_a_profile_that_is_replaced_leaves_what_changed(project: cs.Workspace, tmp_path: Path) -> None:
    before = profile("ann", plan="free", Plan=1, same=[1], **{"$last_seen": "2026-10-01T00:00:00"}) + profile("bo", a=1)
    after = profile("ann", plan="pro", same=[1], new=None, **{"$last_seen": "2026-10-02T00:00:00"}) + profile("bo", a=1)
    project.load(profiles=[written(tmp_path / "1", before)])
    project.load(profiles=[written(tmp_path / "2", after)])
    assert rows(project, "select distinct_id, load_id, property, before::varchar, after::varchar from profile_changes "
                         "order by property") == [
        ("ann", 2, "Plan", "1", None), ("ann", 2, "new", None, "null"), ("ann", 2, "plan", '"free"', '"pro"')]


def test_a_cohorts_loads_are_its_history(project: cs.Workspace, tmp_path: Path) -> None:
    for number, text in enumerate(["ann\nbo\n", "bo\ncy\n", "[]"]):
        project.load(cohorts={"vip": written(tmp_path / f"{number}", text)})
    assert project.cohort_history("vip")[["size", "entered", "left"]].to_numpy().tolist() == [
        [2, 2, 0], [2, 1, 1], [0, 0, 2]]


def test_a_change_of_profile_explains_who_entered(project: cs.Workspace, tmp_path: Path) -> None:
    for number, (plan, members) in enumerate([("free", "ann\n"), ("pro", "ann\nbo\n")]):
        project.load(profiles=[written(tmp_path / f"p{number}", profile("ann", plan="pro") + profile("bo", plan=plan))],
                     cohorts={"vip": written(tmp_path / f"c{number}", members)})
    row = project.cohort_changes("vip").iloc[0]
    assert row[["change", "distinct_id", "reason", "name", "before", "after"]].tolist() == [
        "entered", "bo", "property", "plan", "free", "pro"]


# cohorts defined in SQL

PRO = "select distinct_id from profiles where prop('plan') = 'pro'"


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> cs.Workspace:
    """Ann and Bo are on the plan pro, Cy is not; the cohort vip is Ann's. For tests that change nothing."""
    place = tmp_path_factory.mktemp("loaded")
    workspace = cs.open(place / "home")
    workspace.init("America/New_York", "simplified")
    workspace.load(profiles=[written(place / "people", profile("ann", plan="pro", **{"$email": "ann@lane.example"})
                                     + profile("bo", plan="pro") + profile("cy", plan="free"))],
                   cohorts={"vip": written(place / "vip", "ann\n")})
    return workspace


@pytest.fixture
def people(loaded: cs.Workspace, tmp_path: Path) -> cs.Workspace:
    """The same, one's own."""
    shutil.copytree(loaded.home, tmp_path / "people")
    return cs.open(tmp_path / "people")


def members(project: cs.Workspace, cohort: str) -> list[str]:
    return sorted(project.audience(cohort)["distinct_id"])


def test_a_cohort_can_be_defined_by_one_select(people: cs.Workspace) -> None:
    assert people.define_cohort("pro", PRO) == {"project_id": "local", "cohort": "pro", "size": 2, "failure": None}
    assert members(people, "pro") == ["ann", "bo"]
    assert people.cohorts().set_index("cohort").loc["pro", ["size", "exportable"]].tolist() == [2, 1]
    assert people.cohort_history("pro")["size"].tolist() == [2]
    assert people.cohort_overlap("vip", "pro")["users_in_both"].tolist() == [1]


@pytest.mark.parametrize("query", [
    PRO + ";", PRO + " -- who pays", "with p as (from profiles) select * from p where prop('plan') = 'pro'",
    "from profiles where prop('plan') = 'pro'", PRO + " union all " + PRO,
    "(select distinct_id from profiles where prop('plan') = 'pro')",
])
def test_a_definition_may_be_written_as_sql_allows(people: cs.Workspace, query: str) -> None:
    people.define_cohort("pro", query)
    assert members(people, "pro") == ["ann", "bo"]


def test_ids_that_name_nobody_are_no_members(people: cs.Workspace) -> None:
    people.define_cohort("odd", "select unnest([null, '', 'undefined', 'ann', 'ann', '7']) as distinct_id")
    assert members(people, "odd") == ["7", "ann"]
    people.define_cohort("numbers", "select unnest([7, 8]) as distinct_id")
    assert members(people, "numbers") == ["7", "8"]
    people.define_cohort("nobody", "select distinct_id from profiles where false")
    assert members(people, "nobody") == []


REFUSED = [
    "drop table profiles", "select 1 as distinct_id; select 2 as distinct_id", "not sql", "",
    "select 1 as other", "select distinct_id from missing", "select error('ann@lane.example') as distinct_id",
    "select content as distinct_id from read_text('{home}/state.sqlite')",
    "select content as distinct_id from read_text('{home}/events/../state.sqlite')",
    "select filename as distinct_id from read_blob('/etc/passwd')", "from '{home}/secret.csv'",
    "select secret_string as distinct_id from duckdb_secrets()", "copy profiles to '{home}/x.csv'",
    "attach '{home}/state.sqlite' as other (type sqlite)", "set enable_external_access = true",
    "insert into profiles by name select 'x' as distinct_id returning distinct_id",
    "delete from generation.profiles returning distinct_id", "pragma database_list",
    "select distinct_id from profiles) union (select 'x'", "select getenv('HOME') as distinct_id",
]


@pytest.mark.parametrize("query", REFUSED)
def test_a_definition_that_does_more_than_ask_is_refused_and_nothing_is_kept(loaded: cs.Workspace,
                                                                             query: str) -> None:
    written(loaded.home / "secret.csv", "distinct_id\nx\n")
    before = sorted((loaded.home / "warehouse").glob("*.duckdb"))
    with pytest.raises(BadInput) as refusal:
        loaded.define_cohort("bad", query.replace("{home}", str(loaded.home)))
    assert "ann@lane.example" not in str(refusal.value)
    assert loaded.cohorts()["cohort"].tolist() == ["vip"]
    assert len(loaded.cohort_definitions()) == 0
    assert sorted((loaded.home / "warehouse").glob("*.duckdb")) == before


@pytest.mark.parametrize("name", ["'; drop table cohorts; --", "😀", '"%s {0}"', "$cohort", "../../etc", "a\"b'c"])
def test_a_definition_may_be_called_anything_printable(people: cs.Workspace, name: str) -> None:
    people.define_cohort(name, PRO)
    assert members(people, name) == ["ann", "bo"]
    people.recompute_cohorts()
    people.undefine_cohort(name)
    assert people.cohorts()["cohort"].tolist() == ["vip"]


@pytest.mark.parametrize("name", ["", " ", "x" * 256, "a\nb"])
def test_a_definition_needs_a_name_that_can_be_shown(people: cs.Workspace, name: str) -> None:
    with pytest.raises(BadInput, match="cannot name a cohort"):
        people.define_cohort(name, PRO)


def test_a_file_and_a_definition_do_not_share_a_name(people: cs.Workspace, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="loaded from a file"):
        people.define_cohort("vip", PRO)
    people.define_cohort("pro", PRO)
    with pytest.raises(BadInput, match="defined in SQL"):
        people.load(cohorts={"pro": written(tmp_path / "pro", "cy\n")})
    people.undefine_cohort("pro")
    people.load(cohorts={"pro": tmp_path / "pro"})
    assert members(people, "pro") == ["cy"]


def test_what_is_not_defined_cannot_be_undefined(people: cs.Workspace) -> None:
    with pytest.raises(BadInput, match="no definition"):
        people.undefine_cohort("vip")
    assert members(people, "vip") == ["ann"]


def test_definitions_are_reckoned_anew_with_every_load(people: cs.Workspace, tmp_path: Path) -> None:
    people.define_cohort("pro", PRO)
    people.load(profiles=[written(tmp_path / "2", profile("cy", plan="pro") + profile("bo", plan="free"))])
    assert members(people, "pro") == ["ann", "cy"]
    row = people.cohort_changes("pro").set_index("distinct_id").loc["cy"]
    assert row[["reason", "name", "before", "after"]].tolist() == ["property", "plan", "free", "pro"]


def test_a_definition_whose_answer_stays_gets_no_new_snapshot(people: cs.Workspace) -> None:
    people.define_cohort("pro", PRO)
    first = people.cohort_definitions()["loaded_at"].iloc[0]
    assert people.recompute_cohorts()["size"].tolist() == [2]
    assert len(people.cohort_history("pro")) == 1
    assert people.cohort_definitions()["loaded_at"].iloc[0] > first


def test_a_definition_may_ask_for_the_members_of_those_before_it(people: cs.Workspace) -> None:
    people.define_cohort("pro", PRO)
    people.define_cohort("pro not vip", """select distinct_id from cohort_members where cohort = 'pro'
                         and distinct_id not in (select distinct_id from cohort_members where cohort = 'vip')""")
    assert members(people, "pro not vip") == ["bo"]
    people.define_cohort("pro", "select distinct_id from profiles")
    assert members(people, "pro not vip") == ["bo", "cy"]


def test_a_definition_that_fails_later_keeps_its_last_members_and_is_said(people: cs.Workspace,
                                                                         tmp_path: Path) -> None:
    people.define_cohort("seated", "select distinct_id from profiles where coalesce(prop('seats')::integer, 1) > 0")
    people.define_cohort("pro", PRO)
    report = people.load(profiles=[written(tmp_path / "2", profile("cy", plan="pro", seats="many"))])
    assert any("'seated'" in note for note in report.notes)
    assert (members(people, "seated"), members(people, "pro")) == (["ann", "bo", "cy"], ["ann", "bo", "cy"])
    assert people.cohort_definitions()["failure"].notna().tolist() == [True, False]
    assert people.recompute_cohorts()["failure"].notna().tolist() == [True, False]
    people.load(profiles=[written(tmp_path / "3", profile("cy", seats=0))])
    assert members(people, "seated") == ["ann", "bo"]
    assert people.cohort_definitions()["failure"].isna().all()


def test_a_definition_sees_its_own_project_alone(people: cs.Workspace) -> None:
    with drafts.drafting(people.home) as draft:
        draft.con.execute("insert into generation.profiles by name "
                          "select 'other' as project_id, 'zoe' as distinct_id, 1 as property_count")
    people.define_cohort("everyone", "select distinct_id from profiles")
    assert members(people, "everyone") == ["ann", "bo", "cy"]


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["a", "b", "7", "it's", '"', "ü😀", " ", "x" * 300, "$device:1", "", "null"])))
def test_the_members_of_a_definition_are_its_answer(people: cs.Workspace, ids: list[str]) -> None:
    people.define_cohort("c", f"select unnest([{', '.join(map(warehouse.quoted, ids))}]::varchar[]) as distinct_id")
    assert members(people, "c") == sorted(set(ids) - {"", "null"})
    assert people.cohort_history("c")["size"].iloc[-1] == len(set(ids) - {"", "null"})


# on the command line

def test_the_command_line_prints_what_the_workspace_answers(people: cs.Workspace) -> None:
    def answer(*words: str) -> Any:
        ended = CliRunner().invoke(cli.cli, ["--home", str(people.home), *words, "--json"])
        assert ended.exit_code == 0, ended.output
        return json.loads(ended.stdout)

    assert answer("cohort", "define", "pro", "--sql", PRO) == {
        "project_id": "local", "cohort": "pro", "size": 2, "failure": None}
    assert answer("cohort", "recompute")[0]["size"] == 2
    assert [row["size"] for row in answer("cohort", "history", "pro")] == [2]
    assert answer("cohort", "overlap", "vip", "pro")[0]["users_in_both"] == 1
    assert answer("cohort", "changes", "pro") == []
    assert answer("cohort", "definitions")[0]["sql"] == PRO
    assert answer("lexicon", "events") == []
    assert {row["property"]: row["types"] for row in answer("lexicon", "properties", "--profiles")} == {
        "plan": {"string": 3}, "$email": {"string": 1}}


def test_the_command_line_shows_tables_without_whole_addresses(workspace: cs.Workspace) -> None:
    for words in (["cohort", "history", "power-users"], ["cohort", "overlap"], ["cohort", "changes", "power-users"],
                  ["lexicon", "events"], ["lexicon", "properties"], ["lexicon", "properties", "--profiles"],
                  ["lexicon", "values", "Invoice created", "--property", "distinct_id", "--limit", "400"]):
        ended = CliRunner().invoke(cli.cli, ["--home", str(workspace.home), *words])
        assert ended.exit_code == 0, ended.output
        assert ".example" not in ended.output.replace("•••.example", ""), words


@pytest.mark.parametrize("group", [commands.cohorts.cohort_app, commands.lexicon.lexicon_app])
def test_every_command_explains_itself_with_an_example(group: Any) -> None:
    for command in group.registered_commands:
        name = command.name or command.callback.__name__
        assert command.callback.__doc__, name
        assert re.match(rf"Example: cohortsync (cohort|lexicon) {name}\b", command.epilog), name


def test_a_cohort_defined_here_is_exported_like_any_other(connected: cs.Workspace) -> None:
    connected.define_cohort("on a plan", "select distinct_id from profiles where prop('plan') = 'team'")
    [audience] = connected.check_mailchimp()["audiences"][:1]
    receipt = connected.sync("on a plan", audience["audience_id"])
    assert (receipt["status"], receipt["accounted"]) == ("completed", connected.cohort_definitions()["size"].iloc[0])
    assert receipt["added"] > 0
