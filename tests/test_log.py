"""Logs for programs, and the exit statuses that are documented."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import forked
import pytest
from conftest import OWNER_KEY, REVOKED_KEY, sample_files
from terminal import cohortsync
from test_command_line import connect

import cohortsync as cs
from cohortsync.errors import UnsafePlan


def log(ended: Any) -> list[dict[str, Any]]:
    """What stderr says: nothing but lines of JSON, each with its instant and level."""
    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    assert all({"at", "level"} <= line.keys() for line in lines)
    return lines


@pytest.mark.parametrize("place", ["before", "after", "environment"])
def test_a_line_a_step_and_one_for_the_end(tmp_path: Path, place: str) -> None:
    cs.open(tmp_path / "home").init("UTC", "simplified")
    words = ["--home", tmp_path / "home", "load", "--profiles", sample_files()["profiles"][0]]
    ended = cohortsync(*{"before": ["--log-json", *words], "after": [*words, "--log-json"]}.get(place, words),
                       COHORTSYNC_LOG_JSON="1" if place == "environment" else "")
    lines = log(ended)
    steps = [line["step"] for line in lines if "step" in line]
    assert "Checking addresses" in steps and len(steps) == len(dict.fromkeys(steps))
    assert (lines[-1]["message"], lines[-1]["status"]) == ("End", 0)
    assert lines[-1]["seconds"] > 0
    assert "profiles" in ended.stdout


def test_an_error_is_a_line_without_an_address(tmp_path: Path) -> None:
    cs.open(tmp_path / "home").init("UTC", "simplified")
    ended = cohortsync("--log-json", "--home", tmp_path / "home", "load", "--events", "ann@mail.example.ndjson")
    lines = log(ended)
    assert [line["level"] for line in lines] == ["error", "info"]
    assert lines[-1]["status"] == ended.returncode == 2
    assert "ann@mail.example" not in ended.stderr and "a•••@m•••" in lines[0]["message"]


def test_a_bug_is_a_line_too(workspace: cs.Workspace) -> None:
    [warehouse] = (workspace.home / "warehouse").glob("*.duckdb")
    warehouse.write_bytes(b"ann@mail.example is no database" * 1000)
    ended = cohortsync("--log-json", "cohorts", "--home", workspace.home)
    lines = log(ended)
    assert (lines[0]["level"], lines[-1]["status"]) == ("error", ended.returncode)
    assert "ann@mail.example" not in ended.stderr


def test_a_terminals_own_escapes_do_not_break_a_line(tmp_path: Path) -> None:
    ended = cohortsync("--log-json", "--home", tmp_path / "home", "load", "--events", 'a"\n\x1b[31m{"level": 1}')
    assert [line["level"] for line in log(ended)] == ["error", "info"]


# exit statuses

def test_status_2_for_what_was_given_wrong(tmp_path: Path) -> None:
    assert cohortsync("load", "--events", "missing.ndjson", "--home", tmp_path / "home").returncode == 2


def test_status_3_for_a_workspace_that_cannot_be_read(workspace: cs.Workspace) -> None:
    with closing(sqlite3.connect(workspace.home / "state.sqlite")) as con, con:
        con.execute("update workspace set version = 99")
    assert cohortsync("cohorts", "--home", workspace.home).returncode == 3


def test_status_4_where_a_guard_stops(connected: cs.Workspace) -> None:
    audience = connected.check_mailchimp()["audiences"][0]["audience_id"]
    connected.sync("power-users", audience)
    empty = connected.home / "empty.json"
    empty.write_text("[]")
    connected.load(cohorts={"power-users": empty})
    ended = cohortsync("sync", "power-users", "--audience", audience, "--yes", "--home", connected.home)
    assert ended.returncode == UnsafePlan.exit_status == 4, ended.stderr


def test_status_5_when_nobody_answers_and_6_when_the_other_side_says_no(workspace: cs.Workspace,
                                                                        tmp_path: Path) -> None:
    with forked.sandbox(tmp_path / "mailchimp") as running:
        assert connect(workspace.home, running.mailchimp_url, OWNER_KEY).returncode == 0
        assert connect(workspace.home, running.mailchimp_url, REVOKED_KEY).returncode == 6
    ended = cohortsync("sync", "power-users", "--audience", "0a1b2c3d4e", "--home", workspace.home,
                       COHORTSYNC_ATTEMPTS="2")
    assert ended.returncode == 5, ended.stderr
