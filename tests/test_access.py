"""Connecting a project of Mixpanel's, and who may export it."""

from __future__ import annotations

import json
import os
import pty
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import forked
import pytest
from conftest import ADMIN, OWNER_KEY, PROJECT_ID, SAMPLE, sample_files
from terminal import cohortsync

import cohortsync as cs
from cohortsync import access
from cohortsync.errors import ApiFinal, BadInput, ConfigurationError

SECRET = ADMIN.secret


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Any]:
    """A local Mailchimp and a local Mixpanel of one's own."""
    with forked.sandbox(tmp_path / "sandbox", seed=SAMPLE / "mailchimp_members.ndjson",
                        mixpanel_seed=SAMPLE / "mixpanel.json") as running:
        yield running


def service_account(who: str) -> str:
    return f"{who}.0a1b2c.mp-service-account"


def connect(home: Path, running: Any, who: str = "admin", **options: Any) -> dict[str, Any]:
    return cs.open(home, PROJECT_ID).connect_mixpanel(service_account(who), SECRET, PROJECT_ID, **{
        "base_url": running.mixpanel_url, "id_merge": "simplified", **options})


def give_role(tmp_path: Path, role: str) -> None:
    with sqlite3.connect(tmp_path / "sandbox" / "mixpanel.sqlite") as db:
        db.execute("update accounts set role = ?", (role,))
    db.close()


def ready_to_export(home: Path, running: Any, who: str = "admin", **options: Any) -> tuple[cs.Workspace, str]:
    """A workspace connected on both sides with the sample loaded, and the audience's id."""
    connect(home, running, who, **options)
    workspace = cs.open(home, PROJECT_ID)
    workspace.load(profiles=sample_files()["profiles"], cohorts=sample_files()["cohorts"])
    audiences = workspace.connect_mailchimp(OWNER_KEY, "subscribed", running.mailchimp_url)["audiences"]
    return workspace, audiences[0]["audience_id"]


def test_a_project_is_set_up_by_what_mixpanel_tells(mixpanel: Any, tmp_path: Path) -> None:
    found = connect(tmp_path / "home", mixpanel)
    assert {name: found[name] for name in ("account_name", "role", "status", "reason", "timezone")} == {
        "account_name": "Tally", "role": "admin", "status": "Connected", "reason": "", "timezone": "America/New_York"}
    project = cs.open(tmp_path / "home").project
    assert project and (project["project_id"], project["id_merge"]) == (PROJECT_ID, "simplified")


@pytest.mark.parametrize("who", ["owner", "admin"])
def test_owners_and_admins_may_export(both: Any, tmp_path: Path, who: str) -> None:
    workspace, audience_id = ready_to_export(tmp_path / "home", both, who)
    assert workspace.sync("power-users", audience_id)["status"] == "completed"


@pytest.mark.parametrize("who", ["analyst", "consumer", "custom role"])
def test_others_may_look_and_plan_and_not_export(both: Any, tmp_path: Path, who: str) -> None:
    give_role(tmp_path, who)
    workspace, audience_id = ready_to_export(tmp_path / "home", both)
    assert workspace.plan("power-users", audience_id).changes
    assert workspace.sync("power-users", audience_id, dry_run=True)["status"] == "planned"
    with pytest.raises(ConfigurationError, match=rf"Tally cannot be exported: Paused.*found to be {who} on 20"):
        workspace.sync("power-users", audience_id)
    assert workspace.connections().set_index("kind").loc["mixpanel", "status"] == "Paused"


def test_where_me_is_closed_the_list_of_accounts_tells_the_role_and_the_zone_is_asked_for(
        mixpanel: Any, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="does not tell this account the project's time zone.*--timezone"):
        connect(tmp_path / "home", mixpanel, "unseen")
    found = connect(tmp_path / "home", mixpanel, "unseen", timezone="America/New_York")
    assert (found["role"], found["status"]) == ("admin", "Connected")


def test_the_id_merge_is_asked_for_once(mixpanel: Any, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="--id-merge simplified or --id-merge original"):
        connect(tmp_path / "home", mixpanel, id_merge=None)
    connect(tmp_path / "home", mixpanel)
    assert connect(tmp_path / "home", mixpanel, id_merge=None)["status"] == "Connected"


def test_a_time_zone_that_is_not_mixpanels_is_refused_with_both(mixpanel: Any, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="America/New_York, not Europe/Berlin"):
        connect(tmp_path / "home", mixpanel, timezone="Europe/Berlin")


def test_a_role_nobody_tells_must_be_vouched_for_once(both: Any, tmp_path: Path) -> None:
    give_role(tmp_path, "")
    workspace, audience_id = ready_to_export(tmp_path / "home", both, "unseen", timezone="America/New_York")
    with pytest.raises(ConfigurationError, match="Needs attention.*--assume-admin"):
        workspace.sync("power-users", audience_id)
    workspace.assume_admin()
    assert workspace.sync("power-users", audience_id)["status"] == "completed"


def test_a_role_that_was_lost_pauses_exports_until_it_is_back(both: Any, tmp_path: Path,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    workspace, audience_id = ready_to_export(tmp_path / "home", both)
    workspace.sync("power-users", audience_id)
    monkeypatch.setenv("COHORTSYNC_ROLE_CHECK_SECONDS", "0")
    give_role(tmp_path, "analyst")
    with pytest.raises(ConfigurationError, match="Paused.*analyst"):
        workspace.sync("power-users", audience_id)
    since = workspace.connections().set_index("kind").loc["mixpanel", "reason"]
    assert workspace.connections(check=True).set_index("kind").loc["mixpanel", "reason"] == since
    give_role(tmp_path, "owner")
    monkeypatch.setenv("COHORTSYNC_ROLE_CHECK_SECONDS", "3600")  # looked up all the same while it does not stand well
    assert workspace.sync("power-users", audience_id)["status"] == "completed"
    assert workspace.connections().set_index("kind").loc["mixpanel", "status"] == "Connected"


def test_an_account_that_is_refused_needs_attention(both: Any, tmp_path: Path) -> None:
    connect(tmp_path / "home", both)
    with sqlite3.connect(tmp_path / "sandbox" / "mixpanel.sqlite") as db:
        db.execute("delete from accounts")
    db.close()
    stands = access.check(tmp_path / "home", PROJECT_ID)
    assert stands["status"] == "Needs attention"
    assert "Check the service account" in stands["reason"]


def test_mixpanel_out_of_reach_changes_nothing(tmp_path: Path) -> None:
    with forked.sandbox(tmp_path / "sandbox", mixpanel_seed=SAMPLE / "mixpanel.json") as running:
        connect(tmp_path / "home", running)
    with pytest.raises(cs.CohortsyncError, match="could not be reached"):
        access.check(tmp_path / "home", PROJECT_ID)
    assert access.required_connection(tmp_path / "home", PROJECT_ID)["status"] == "Connected"


def test_a_project_of_files_is_vouched_for_once_before_a_real_account(workspace: cs.Workspace) -> None:
    project_id = str((workspace.project or {})["project_id"])
    access.require_exporter(workspace.home, project_id, rehearsal=True)
    with pytest.raises(ConfigurationError, match="files do not tell who you are.*--assume-admin"):
        access.require_exporter(workspace.home, project_id, rehearsal=False)
    workspace.assume_admin()
    first = access.assumed_at(workspace.home, project_id)
    workspace.assume_admin()
    access.require_exporter(workspace.home, project_id, rehearsal=False)
    assert first and access.assumed_at(workspace.home, project_id) == first


def test_a_project_the_account_does_not_see_is_not_connected(mixpanel: Any, tmp_path: Path) -> None:
    with pytest.raises(ApiFinal, match="project 999. Check the project.s id"):
        cs.open(tmp_path / "home").connect_mixpanel(ADMIN.username, SECRET, "999", base_url=mixpanel.mixpanel_url,
                                                    timezone="UTC", id_merge="simplified")
    assert cs.open(tmp_path / "home").project is None


@pytest.mark.parametrize("project_id", ["", "Tally", "2195193/../7", "٣"])
def test_what_is_no_projects_id_goes_nowhere(tmp_path: Path, project_id: str) -> None:
    with pytest.raises(BadInput, match="is not the id of a Mixpanel project"):
        cs.open(tmp_path / "home").connect_mixpanel("someone", SECRET, project_id)


def test_an_account_left_blank_goes_nowhere(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="A service account is needed"):
        cs.open(tmp_path / "home").connect_mixpanel("someone", " ", PROJECT_ID)


def test_a_secret_goes_to_mixpanel_or_this_machine_only(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="takes a local rehearsal"):
        cs.open(tmp_path / "home").connect_mixpanel("someone", SECRET, PROJECT_ID, base_url="http://elsewhere.example")


def test_a_project_of_files_stays_beside_the_one_that_is_connected(mixpanel: Any, workspace: cs.Workspace) -> None:
    found = connect(workspace.home, mixpanel)
    assert found["notes"] == ["The workspace also holds project local, which stays as it is. Say which one you mean "
                              "with --project ID; in the app, choose it at the side."]
    assert cs.open(workspace.home).projects()["project_id"].tolist() == [PROJECT_ID, "local"]


def test_a_time_zone_that_was_wrong_is_put_right_and_said(mixpanel: Any, tmp_path: Path) -> None:
    cs.open(tmp_path / "home").init("Europe/Berlin", "simplified", PROJECT_ID)
    found = connect(tmp_path / "home", mixpanel, id_merge=None)
    assert found["notes"] == [f"The time zone of project {PROJECT_ID} was Europe/Berlin here; everything was reckoned "
                              "anew in America/New_York."]


def test_a_wrong_secret_connects_nothing(mixpanel: Any, tmp_path: Path) -> None:
    with pytest.raises(ApiFinal, match="Check the service account"):
        cs.open(tmp_path / "home").connect_mixpanel(ADMIN.username, "wrong", PROJECT_ID, base_url=mixpanel.mixpanel_url,
                                                    id_merge="simplified")
    assert cs.open(tmp_path / "home").connections().empty


def connecting(home: Path, running: Any) -> list[object]:
    return ["--home", home, "connect", "mixpanel", "--project-id", PROJECT_ID, "--base-url", running.mixpanel_url]


def keys(who: str) -> dict[str, str]:
    return {"MIXPANEL_USERNAME": service_account(who), "MIXPANEL_SECRET": SECRET}


def connect_by_command(home: Path, running: Any, who: str, *words: str) -> subprocess.CompletedProcess[str]:
    return cohortsync(*connecting(home, running), *words, **keys(who))


def test_a_script_is_told_which_option_is_missing(mixpanel: Any, tmp_path: Path) -> None:
    done = connect_by_command(tmp_path / "home", mixpanel, "admin")
    assert (done.returncode, done.stdout) == (2, "")
    assert "Give it with --id-merge simplified or --id-merge original" in done.stderr


def test_a_person_at_a_terminal_is_asked_for_what_mixpanel_does_not_tell(mixpanel: Any, tmp_path: Path) -> None:
    keyboard, terminal = pty.openpty()
    try:
        os.write(keyboard, b"America/New_York\noriginal\n")
        done = subprocess.run([sys.executable, "-m", "cohortsync", *map(str, connecting(tmp_path / "home", mixpanel))],
                              stdin=terminal, capture_output=True, text=True, timeout=60,
                              env=os.environ | keys("unseen"))
    finally:
        os.close(terminal)
        os.close(keyboard)
    assert done.returncode == 0, done.stderr
    assert "Time zone, such as" in done.stderr
    project = cs.open(tmp_path / "home").project
    assert project and (project["timezone"], project["id_merge"]) == ("America/New_York", "original")


def test_vouching_can_go_with_connecting_mailchimp(mailchimp: Any, workspace: cs.Workspace) -> None:
    assert workspace.needs_vouching
    done = cohortsync("--home", workspace.home, "connect", "mailchimp", "--new-contacts", "pending", "--base-url",
                      mailchimp.mailchimp_url, "--assume-admin", MAILCHIMP_API_KEY=OWNER_KEY)
    assert done.returncode == 0, done.stderr
    assert not workspace.needs_vouching


def test_the_command_connects_and_lists_and_keeps_the_secret_to_the_key_store(mixpanel: Any, tmp_path: Path) -> None:
    home = tmp_path / "home"
    done = connect_by_command(home, mixpanel, "admin", "--id-merge", "simplified", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["status"], told["may_export"], told["timezone"]) == ("Connected", True, "America/New_York")
    listed = cohortsync("--home", home, "connections", "--check", "--json")
    assert [row["status"] for row in json.loads(listed.stdout)] == ["Connected"]
    refused = connect_by_command(home, mixpanel, "admin", "--project-id", "999", "--timezone", "UTC")
    assert refused.returncode != 0
    assert SECRET not in "".join(text for ran in (done, listed, refused) for text in (ran.stdout, ran.stderr))
    holding = [path.name for path in (tmp_path / "home").rglob("*") if path.is_file()
               and SECRET.encode() in path.read_bytes()]
    assert holding == ["keys.json"]
    assert (tmp_path / "home" / "keys.json").stat().st_mode & 0o777 == 0o600
