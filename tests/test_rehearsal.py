"""The local services of a workspace: found where they were, followed where they had to move, used where they run."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import requests
from conftest import ADMIN, OWNER_KEY, PROJECT_ID, SAMPLE

import cohortsync as cs
from cohortsync.demo import mtu_change, why_moved
from cohortsync.errors import BadInput
from cohortsync.rehearsal import kept_services, known_ports, local_services


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace that is connected to both of its local services, which are not running."""
    workspace = cs.open(tmp_path_factory.mktemp("rehearsed") / "home", PROJECT_ID)
    with local_services(workspace, SAMPLE / "mailchimp_members.ndjson", SAMPLE / "mixpanel.json") as local:
        workspace.connect_mixpanel(ADMIN.username, ADMIN.secret, PROJECT_ID, base_url=local.mixpanel_url,
                                   id_merge="simplified")
        workspace.connect_mailchimp(OWNER_KEY, "subscribed", local.mailchimp_url)
    return workspace.home


@pytest.fixture
def workspace(rehearsed: Path) -> cs.Workspace:
    return cs.open(rehearsed, PROJECT_ID)


def both_answer(workspace: cs.Workspace) -> bool:
    return workspace.connections(check=True)["status"].tolist() == ["Connected", "Connected"]


def test_services_come_back_where_the_workspace_knows_them(workspace: cs.Workspace) -> None:
    before = known_ports(workspace)
    with kept_services(workspace):
        assert both_answer(workspace)
    assert known_ports(workspace) == before


def test_the_workspace_follows_services_that_had_to_move(workspace: cs.Workspace) -> None:
    before = known_ports(workspace)
    with closing(socket.socket()) as one, closing(socket.socket()) as other:
        for taken, port in zip((one, other), before.values(), strict=True):
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(("127.0.0.1", port))
            taken.listen()
        with kept_services(workspace):
            assert both_answer(workspace)
    after = known_ports(workspace)
    assert all(after[kind] != port for kind, port in before.items())


def test_services_that_run_are_used_and_left_running(workspace: cs.Workspace) -> None:
    with kept_services(workspace) as outer, kept_services(workspace) as inner:
        assert inner == outer
        assert both_answer(workspace)
    with kept_services(workspace) as outer:
        with kept_services(workspace):
            pass
        assert both_answer(workspace)


def test_a_workspace_that_does_not_rehearse_starts_nothing(tmp_path: Path) -> None:
    with kept_services(cs.open(tmp_path / "home")) as local:
        assert local is None
    assert not (tmp_path / "home" / "sandbox").exists()


def test_no_rehearsal_beside_a_real_account(tmp_path: Path) -> None:
    from cohortsync import ledger

    workspace = cs.open(tmp_path / "home")
    workspace.init("Europe/Berlin", "simplified")
    ledger.record_connection(workspace.home, {
        "kind": "mailchimp", "account_id": "a1", "account_name": "Harbor", "role": "owner", "rehearsal": 0,
        "host": "us6.api.mailchimp.com", "base_url": "https://us6.api.mailchimp.com/3.0", "status": "Connected",
        "reason": "", "new_contacts": "pending"})
    with pytest.raises(BadInput, match="connected to the real account Harbor"), local_services(workspace):
        pass


# the command

@pytest.fixture
def served(tmp_path: Path) -> Iterator[dict[str, str]]:
    """`cohortsync sandbox` in a new folder: where its services answer."""
    command = [sys.executable, "-m", "cohortsync", "--home", str(tmp_path / "home"), "sandbox"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ) as process:
        assert process.stderr
        said = [process.stderr.readline() for _ in range(2)]
        found = dict(re.findall(r"^local (\w+) ready at (http://127\.0\.0\.1:\d+)$", "".join(said), re.MULTILINE))
        try:
            yield found | {"home": str(tmp_path / "home")}
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0


def test_the_sandbox_serves_the_sample_on_both_sides_while_time_passes(served: dict[str, str]) -> None:
    def events() -> int:
        answer = requests.get(f"{served['Mixpanel']}/api/2.0/export", {
            "project_id": PROJECT_ID, "from_date": "2026-11-21", "to_date": "2026-11-21"},
            auth=(ADMIN.username, ADMIN.secret), timeout=60)
        return len(answer.content.splitlines())

    lists = requests.get(f"{served['Mailchimp']}/3.0/lists", auth=("any", OWNER_KEY), timeout=60).json()["lists"]
    assert lists[0]["stats"]["member_count"] > 400
    before = events()
    ended = subprocess.run([sys.executable, "-m", "cohortsync", "--home", served["home"], "sandbox", "advance", "2h",
                            "--json"], capture_output=True, text=True, timeout=240)
    assert ended.returncode == 0, ended.stderr
    happened: dict[str, Any] = json.loads(ended.stdout)["mixpanel"]
    assert events() - before == happened["events"] - happened["late"]


# what the demo tells

def test_what_became_of_mtu_shows_the_months_that_changed() -> None:
    before = pd.DataFrame({"month": ["2026-10", "2026-11"], "mtu": [5, 7], "events": [50, 70]})
    after = pd.DataFrame({"month": ["2026-10", "2026-11", "2026-12"], "mtu": [5, 6, 2], "events": [50, 71, 3]})
    assert mtu_change(before, after).values.tolist() == [["2026-11", 7, 6, -1, 70, 71], ["2026-12", 0, 2, 2, 0, 3]]


def test_why_users_moved_is_told_in_words_the_most_frequent_first() -> None:
    moved = pd.DataFrame([["left", "unknown", None], ["left", "property", "plan"], ["left", "property", "plan"],
                          ["entered", "merged", None], ["entered", "event", "Paid"]],
                         columns=["change", "reason", "name"])
    assert why_moved(moved).values.tolist() == [
        ["entered", "event Paid", 1], ["entered", "merged with a user who is there", 1],
        ["left", "property plan", 2], ["left", "nothing that is loaded tells", 1]]
