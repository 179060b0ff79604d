"""The command line as scripts use it: real processes, JSON on stdout, the rest on stderr, exit statuses."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from conftest import OWNER_KEY, REVOKED_KEY, SAMPLE, VIEWER_KEY
from terminal import answer, cohortsync
from typer.testing import CliRunner

import cohortsync as cs
from cohortsync import cli
from cohortsync.commands import syncs
from cohortsync.errors import BadInput
from cohortsync.sandbox.server import Services

COHORT = ["project_id", "cohort", "size", "exportable"]
MTU = ["project_id", "month", "mtu", "mtu_without_exemption", "mtu_engagement_counted", "exempt_users", "events",
       "guardrail", "billable", "complete"]
RECEIPT = ["run_id", "status", "added", "kept", "removed", "refused", "requests", "accounted"]


def commands_of(group: Any, before: str = "") -> Iterator[str]:
    for name, command in group.commands.items():
        yield before + name
        if hasattr(command, "commands"):
            yield from commands_of(command, f"{before}{name} ")


COMMANDS = list(commands_of(typer.main.get_command(cli.cli)))


def connect(home: Path, url: str, key: str = OWNER_KEY) -> subprocess.CompletedProcess[str]:
    return cohortsync("--home", home, "connect", "mailchimp", "--new-contacts", "subscribed", "--base-url", url,
                      MAILCHIMP_API_KEY=key)


def only_line(ended: subprocess.CompletedProcess[str]) -> str:
    """What a failed command said: one line on stderr, and nothing on stdout."""
    assert ended.stdout == ""
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    return ended.stderr


# what it prints

def test_home_is_taken_before_and_after_the_command(workspace: cs.Workspace) -> None:
    expected = workspace.cohorts()["cohort"].tolist()
    for words in (["--home", workspace.home, "cohorts"], ["cohorts", "--home", workspace.home],
                  ["cohorts", f"--home={workspace.home}"]):
        assert [row["cohort"] for row in answer(*words)] == expected


def test_home_is_taken_from_the_environment(workspace: cs.Workspace) -> None:
    assert len(answer("cohorts", COHORTSYNC_HOME=str(workspace.home))) == 3


def test_cohorts_as_json(workspace: cs.Workspace) -> None:
    rows = answer("cohorts", "--home", workspace.home)
    assert [list(row) for row in rows] == [COHORT] * 3
    assert all(row["exportable"] <= row["size"] for row in rows)


def test_audience_as_json_with_its_warning_on_stderr(workspace: cs.Workspace) -> None:
    ended = cohortsync("audience", "power-users", "--json", "--home", workspace.home)
    summary = json.loads(ended.stdout)
    assert list(summary) == [*COHORT, "reasons"]
    assert sum(summary["reasons"].values()) == summary["size"]
    assert summary["reasons"]["exportable"] == summary["exportable"]
    assert ended.stderr.startswith("Warning: ")
    assert "$user_id" in ended.stderr


def test_mtu_as_json(workspace: cs.Workspace) -> None:
    months = answer("mtu", "--home", workspace.home)
    assert [list(month) for month in months] == [MTU] * 3
    assert [month["complete"] for month in months] == [True, True, False]
    assert all(m["exempt_users"] == m["mtu_without_exemption"] - m["mtu"] for m in months)


def test_a_hostile_cohort_name_is_shown_as_it_is(workspace: cs.Workspace, tmp_path: Path) -> None:
    name, ids = "[red]win[/red] :bomb: [bold]", tmp_path / "ids.txt"
    ids.write_text("a\nb\n")
    assert cohortsync("load", "--cohort", f"{name}={ids}", "--home", workspace.home).returncode == 0
    for words in (["cohorts"], ["audience", name]):
        ended = cohortsync(*words, "--home", workspace.home)
        assert name in ended.stdout + ended.stderr
        assert "\x1b" not in ended.stdout + ended.stderr


def test_a_message_never_sends_escapes_to_the_terminal(workspace: cs.Workspace) -> None:
    assert r"\x1b[2J" in only_line(cohortsync("audience", "\x1b[2Jgone", "--home", workspace.home))


def test_an_option_takes_all_the_files_that_a_shell_names(tmp_path: Path) -> None:
    for number in (1, 2):
        event = {"event": "Opened", "properties": {"time": 1767225600, "distinct_id": "a", "$insert_id": f"i{number}"}}
        (tmp_path / f"events-{number}.ndjson").write_text(json.dumps(event) + "\n")
    home = tmp_path / "home"
    cs.open(home).init("Europe/Berlin", "simplified")
    report = answer("load", "--events", *sorted(tmp_path.glob("events-*")), "--home", home)
    assert [file["rows"] for file in report["files"]] == [1, 1]
    assert report["events_added"] == 2


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    shown = CliRunner().invoke(cli.cli, [*command.split(), "--help"])
    assert shown.exit_code == 0
    assert "Usage:" in shown.output


# connecting and syncing

def test_the_key_is_kept_in_one_private_file_and_said_nowhere(workspace: cs.Workspace, mailchimp: Any) -> None:
    key = "5ec2e7" * 5 + "00-us6"
    ended = connect(workspace.home, mailchimp.mailchimp_url, key)
    assert ended.returncode == 0, ended.stderr
    assert "LOCAL REHEARSAL" in ended.stderr
    assert "Connected" in ended.stderr

    holders = [path for path in workspace.home.rglob("*") if path.is_file() and key.encode() in path.read_bytes()]
    assert [path.name for path in holders] == ["keys.json"]
    assert holders[0].stat().st_mode & 0o777 == 0o600
    assert key not in ended.stdout + ended.stderr


def test_a_script_plans_syncs_and_finds_nothing_left_to_do(connected: cs.Workspace) -> None:
    audience_id = connected.check_mailchimp()["audiences"][0]["audience_id"]
    words = ["sync", "trial-ending", "--audience", audience_id, "--home", connected.home]
    exportable = connected.audience_summary("trial-ending")["exportable"]

    planned = answer(*words, "--dry-run")
    assert list(planned) == RECEIPT
    assert planned["status"] == "planned"
    assert planned["added"] + planned["kept"] + planned["refused"] == exportable

    done = answer(*words)
    assert list(done) == RECEIPT
    assert done["status"] == "completed"
    assert {word: done[word] for word in ("added", "kept", "refused")} == {
        word: planned[word] for word in ("added", "kept", "refused")}
    assert done["accounted"] == connected.audience_summary("trial-ending")["size"]

    again = answer(*words)
    assert (again["added"], again["removed"], again["kept"]) == (0, 0, done["added"])
    assert len(answer("runs", "--home", connected.home)) == 3


def test_a_script_makes_a_plan_and_applies_it_by_its_id(connected: cs.Workspace) -> None:
    made = answer("plan", "trial-ending", "--home", connected.home)
    assert made["add_new"] + made["add_existing"] == made["changes"] == made["in_segment"]
    assert (made["guards"], made["requests"]["writes"]) == ([], made["requests"]["minimum"] + 1)
    done = answer("apply", made["run_id"], "--home", connected.home)
    assert (done["run_id"], done["added"], done["status"]) == (made["run_id"], made["changes"], "completed")


def test_a_plan_that_a_guard_stops_says_so_and_waits(connected: cs.Workspace) -> None:
    limits = {"COHORTSYNC_GUARD_PEOPLE": "10"}
    made = answer("plan", "trial-ending", "--home", connected.home, **limits)
    assert [(guard["guard"], guard["added"]) for guard in made["guards"]] == [("first", made["changes"])]
    stopped = cohortsync("apply", made["run_id"], "--home", connected.home, **limits)
    assert (stopped.returncode, f"--confirm {made['changes']}" in stopped.stderr) == (4, True)
    assert [run["status"] for run in answer("runs", "--home", connected.home)] == ["needs approval"]
    done = answer("apply", made["run_id"], "--confirm", made["changes"], "--home", connected.home, **limits)
    assert done["added"] == made["changes"]


def test_the_people_of_a_run_are_masked_even_where_the_id_is_the_address(connected: cs.Workspace) -> None:
    receipt = connected.sync("trial-ending", connected.check_mailchimp()["audiences"][0]["audience_id"])
    with connected.connect() as con:
        whole = {address for (address,) in con.execute("select address from addresses").fetchall()}
    people = answer("runs", receipt["run_id"], "--home", connected.home)
    assert len(people) == connected.audience_summary("trial-ending")["exportable"]
    assert not {str(value).lower() for person in people for value in person.values()} & whole


def test_a_sync_says_where_it_writes(connected: cs.Workspace) -> None:
    ended = cohortsync("sync", "trial-ending", "--dry-run", "--home", connected.home)
    assert ended.returncode == 0
    assert "LOCAL REHEARSAL · Rehearsal account › Newsletter › segment mixpanel_trial-ending" in ended.stderr


def test_a_script_does_not_write_to_a_real_audience_unless_it_says_yes(connected: cs.Workspace) -> None:
    audience_id = connected.check_mailchimp()["audiences"][0]["audience_id"]
    plan = connected.plan("trial-ending", audience_id)
    real = replace(plan, target=replace(plan.target, rehearsal=False))
    with pytest.raises(BadInput, match="say --yes"):
        syncs._sync_when_confirmed(connected, real, force=False)
    assert connected.plan("trial-ending", audience_id).target.segment_id is None


def test_the_demo_runs_on_files_of_ones_own(tmp_path: Path) -> None:
    events = [{"event": "Opened", "time": f"2026-03-{day}T12:00:00", "distinct_id": person, "$user_id": person,
               "$insert_id": f"{person}-{day}"} for day in ("01", "15", "31") for person in "ab"]
    (tmp_path / "events.ndjson").write_text("".join(json.dumps(event) + "\n" for event in events))
    (tmp_path / "people.ndjson").write_text("".join(
        json.dumps({"$distinct_id": person, "$properties": {"$email": f"{person}@post.example"}}) + "\n"
        for person in "ab"))
    (tmp_path / "ids.txt").write_text("a\nb\nc\n")
    ended = cohortsync("demo", "--home", tmp_path / "home", "--events", tmp_path / "events.ndjson",
                       "--profiles", tmp_path / "people.ndjson", "--cohort", f"mine={tmp_path / 'ids.txt'}",
                       "--timezone", "Europe/Berlin", "--id-merge", "simplified")
    assert ended.returncode == 0, ended.stderr
    assert "mine: 2 of 3 can be exported." in ended.stderr
    assert "3 of 3 ids of the cohort are accounted for." in ended.stderr
    assert cs.open(tmp_path / "home").mtu()["mtu"].tolist() == [2]


def test_time_passes_in_the_sandbox_by_one_command(tmp_path: Path) -> None:
    home = tmp_path / "home"
    Services.at(home / "sandbox", SAMPLE / "mailchimp_members.ndjson", SAMPLE / "mixpanel.json").close()
    told = answer("sandbox", "advance", "1d12h", "--home", home)
    assert told["seconds"] == 36 * 3600
    assert told["now"][:13] == "2026-11-22T17"
    assert all(told["mailchimp"].values()) and all(told["mixpanel"].values())
    ended = cohortsync("sandbox", "advance", "30m", "--home", home)
    assert "new events" in ended.stdout and "It is 2026-11-22 17:30 UTC there now." in ended.stderr


@pytest.mark.parametrize("time", ["2", "h", "2 h", "0s", "2h!", "400d", "-1h"])
def test_a_time_that_cannot_pass_is_refused(tmp_path: Path, time: str) -> None:
    ended = cohortsync("sandbox", "advance", "--home", tmp_path / "home", "--", time)
    assert ended.returncode == 2
    assert "is not a time that can pass here" in only_line(ended)


# saying no

@pytest.mark.parametrize(("words", "status", "says"), [
    (["audience", "nobody"], 2, "There is no cohort 'nobody' here."),
    (["sync", "power-users"], 2, "Mailchimp is not connected."),
    (["sync", "power-users", "--audience", "0a1b2c3d4e"], 2, "Mailchimp is not connected."),
    (["load", "--cohort", "vip"], 2, "--cohort takes NAME=FILE"),
    (["load", "--events", "missing.ndjson"], 2, "missing.ndjson"),
    (["sandbox", "advance", "2h"], 2, "There are no local services in"),
    (["runs", "../../etc"], 2, "not a run's id"),
    (["init", "--timezone", "Berlin", "--id-merge", "simplified"], 2, "'Berlin' is not a time zone"),
])
def test_what_cannot_be_done_is_said_in_one_line(workspace: cs.Workspace, words: list[str], status: int,
                                                  says: str) -> None:
    ended = cohortsync(*words, "--home", workspace.home)
    assert ended.returncode == status
    assert says in only_line(ended)


def test_a_workspace_without_a_project_says_how_to_begin(tmp_path: Path) -> None:
    ended = cohortsync("cohorts", "--home", tmp_path / "new")
    assert ended.returncode != 0
    assert "cohortsync init" in only_line(ended)


@pytest.mark.parametrize(("key", "status", "says"), [
    (VIEWER_KEY, 2, "belongs to a viewer"), (REVOKED_KEY, 6, "Mailchimp said no: 401"),
    ("not a key", 2, "no data centre"), (OWNER_KEY + ".evil.example/", 2, "no data centre")])
def test_a_key_that_will_not_do_is_refused_unrepeated(workspace: cs.Workspace, mailchimp: Any, key: str, status: int,
                                                       says: str) -> None:
    ended = connect(workspace.home, mailchimp.mailchimp_url, key)
    assert ended.returncode == status
    assert says in only_line(ended)
    assert key not in ended.stderr
    assert not (workspace.home / "keys.json").exists()


@pytest.mark.parametrize("url", ["http://mail.example", "https://us6.api.mailchimp.com", "http://127.0.0.1@mail.example"])
def test_a_rehearsal_is_on_this_machine_only(workspace: cs.Workspace, url: str) -> None:
    ended = connect(workspace.home, url)
    assert ended.returncode == 2
    assert "--base-url takes a local rehearsal" in only_line(ended)


def test_an_audience_that_is_not_there_is_an_error_of_the_other_side(connected: cs.Workspace) -> None:
    ended = cohortsync("sync", "power-users", "--audience", "0a1b2c3d4e", "--home", connected.home)
    assert ended.returncode == 2
    assert "no audience '0a1b2c3d4e'" in only_line(ended)


def test_an_unknown_command_is_an_error_without_a_traceback() -> None:
    ended = cohortsync("synchronise")
    assert ended.returncode == 2
    assert "Error: No such command 'synchronise'." in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_sync_that_stands_keeps_the_terms_it_was_made_with(connected: cs.Workspace) -> None:
    row = answer("syncs", "create", "power-users", "--audience", connected.chosen_audience(), "--map", "$city=CITY",
                 "--update-fields", "--one-time", "--home", connected.home)
    terms = json.loads(row["terms"])
    assert (row["kind"], terms["fields"], terms["update_fields"], terms["adopt"]) == (
        "one-time", {"$city": "CITY"}, True, False)
    assert [one["sync_id"] for one in answer("syncs", "--home", connected.home)] == [row["sync_id"]]
