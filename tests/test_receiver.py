"""The receiver as Mixpanel meets it: a real process, real HTTP, and senders that are not Mixpanel."""

from __future__ import annotations

import os
import random
import re
import secrets
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from forked import Forked, command
from test_webhook import ADDED, MEMBERS, PROJECT, REMOVED, message

import cohortsync as cs
from cohortsync import receiver
from cohortsync.errors import BadInput, ConfigurationError

PASSWORD = "a-password-of-the-tests"


@dataclass
class Running:
    """A receiver of one workspace, started anew when it was killed; what it says goes to ``log``."""

    home: Path
    log: Path
    process: Forked = field(init=False)
    url: str = ""

    def start(self) -> None:
        words = ["--home", str(self.home), "receive", "--port", "0"]
        self.log.write_bytes(b"")
        self.process = Forked(command, words, out=self.log, err=self.log,
                              environment=os.environ | {"MIXPANEL_WEBHOOK_PASSWORD": PASSWORD})
        while not (said := re.search(r"^Receiving at (\S+)\n", self.log.read_text())):
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.02)
        self.url = said[1]

    @property
    def port(self) -> int:
        return int(self.url.split(":")[2].partition("/")[0])

    def send(self, body: Any, auth: Any = (receiver.USERNAME, PASSWORD), timeout: float = 120,
             **options: Any) -> requests.Response:
        return requests.post(self.url, data=body, auth=auth, timeout=timeout, **options)

    def kill(self) -> None:
        self.process.kill()
        self.process.join()


@dataclass
class Cohort:
    """A cohort of one's own at a receiver."""

    running: Running
    name: str = field(default_factory=lambda: secrets.token_hex(4))

    def message(self, *given: Any, **parameters: Any) -> bytes:
        return message(*given, **{"mixpanel_cohort_id": self.name, "mixpanel_cohort_name": self.name, **parameters})

    def send(self, *given: Any, **parameters: Any) -> requests.Response:
        return self.running.send(self.message(*given, **parameters))

    @property
    def members(self) -> set[str]:
        with cs.open(self.running.home).connect() as con:
            return {who for (who,) in con.execute("select distinct_id from cohort_members where cohort = ?",
                                                  [self.name]).fetchall()}

    @property
    def folder(self) -> Path:
        return self.running.home / "webhook" / PROJECT / self.name


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    workspace = cs.open(tmp_path_factory.mktemp("receiver") / "home")
    workspace.init("UTC", "simplified", PROJECT)
    server = Running(workspace.home, workspace.home.parent / "receiver.log")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def cohort(running: Running) -> Cohort:
    return Cohort(running)


def test_a_cohort_in_pages_out_of_order_and_repeated(cohort: Cohort) -> None:
    pages = [cohort.message(MEMBERS, [f"person-{number}", f"other-{number}"], number=number, total=3)
             for number in (1, 2, 3)]
    for body in (pages[2], pages[0], pages[2]):
        assert cohort.running.send(body).json() == {"action": MEMBERS, "status": "success"}
        assert cohort.members == set()
    assert cohort.running.send(pages[1]).status_code == 200
    assert cohort.members == {f"{who}-{number}" for who in ("person", "other") for number in (1, 2, 3)}
    there = cs.open(cohort.running.home).as_of
    assert {cohort.running.send(body).json()["status"] for body in pages} == {"success"}
    assert cs.open(cohort.running.home).as_of == there


def test_a_change_takes_both_halves(cohort: Cohort) -> None:
    cohort.send(MEMBERS, ["ann", "bob"])
    assert cohort.send(ADDED, ["cy"], "session-2").json() == {"action": ADDED, "status": "success"}
    assert cohort.send(REMOVED, ["ann"], "session-2").json() == {"action": REMOVED, "status": "success"}
    assert cohort.members == {"bob", "cy"}


def test_a_failure_is_told_as_mixpanel_expects(cohort: Cohort) -> None:
    answer = cohort.send(ADDED, ["cy"])
    assert answer.status_code == 503
    assert (answer.json()["action"], answer.json()["status"], answer.json()["error"]["code"]) == (ADDED, "failure", 503)


@pytest.mark.parametrize("auth", [
    None, (receiver.USERNAME, ""), (receiver.USERNAME, PASSWORD[:-1]), (receiver.USERNAME, PASSWORD + "x"),
    ("", PASSWORD), ("admin", PASSWORD), ("x" * 3000, "x")])
def test_without_the_right_password_nothing_is_taken(cohort: Cohort, auth: Any) -> None:
    assert cohort.running.send(cohort.message(MEMBERS, ["ann"]), auth).status_code == 401
    assert not cohort.folder.exists()


@pytest.mark.parametrize("header", ["Basic", "Basic !!!", "Bearer " + PASSWORD, "Basic " + "A" * 5000])
def test_a_header_that_is_none_is_no_password(running: Running, header: str) -> None:
    assert running.send(message(), None, headers={"Authorization": header}).status_code == 401


@pytest.mark.parametrize("announced", [True, False])
def test_a_message_of_40_mb_is_refused_and_not_held(cohort: Cohort, announced: bool) -> None:
    process = psutil.Process(cohort.running.process.pid)
    before, piece = process.memory_info().rss, b'{"a": "' + b"x" * (1 << 20)
    body: Any = piece * 40 if announced else (piece for _ in range(40))
    with suppress(requests.ConnectionError):  # it may hang up before all was sent
        answer = cohort.running.send(body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, 413)
    assert process.memory_info().rss - before < 100 << 20
    assert cohort.send(MEMBERS, ["ann"]).status_code == 200


@pytest.mark.parametrize("body", [b"", b"{}", b"[" * 1_000_000, b"\x00" * 1000,
                                  message(members=[{"a": [{}] * 5}] * 9, mixpanel_cohort_id="..%2f..")])
def test_hostile_messages_are_answered_and_leave_nothing(running: Running, body: bytes) -> None:
    there = set((running.home / "webhook").rglob("*"))
    answer = running.send(body)
    assert (answer.status_code, answer.json()["status"]) == (400, "failure")
    assert set((running.home / "webhook").rglob("*")) == there


def test_hostile_texts_are_taken_as_texts(cohort: Cohort) -> None:
    texts = ["'; drop table runs; --", "=cmd|' /C calc'!A0", "\u202egnp.exe", "../../../etc/passwd", "a\tb", "$" * 300]
    people = [{"mixpanel_distinct_id": text, "email": text, "first_name": text} for text in texts]
    assert cohort.send(MEMBERS, people, "'; delete from runs; --",
                       mixpanel_cohort_name="[red]../'; drop\x1b[31m").status_code == 200
    known_as = f"cohort {cohort.name}"
    assert known_as in set(cs.open(cohort.running.home).cohorts()["cohort"])
    assert Cohort(cohort.running, known_as).members == set(texts)


def test_it_listens_on_this_machine_alone(running: Running) -> None:
    [listening] = [one.laddr for one in psutil.Process(running.process.pid).net_connections()
                   if one.status == psutil.CONN_LISTEN]
    assert listening.ip == "127.0.0.1"


def test_a_sender_that_never_ends_does_not_hold_up_others(cohort: Cohort) -> None:
    held = [socket.create_connection(("127.0.0.1", cohort.running.port)) for _ in range(3)]
    for one in held:
        one.sendall(b"POST /mixpanel HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n")
    assert cohort.send(MEMBERS, ["ann"]).status_code == 200
    for one in held:
        one.close()


def test_several_pages_at_once_are_all_kept(cohort: Cohort) -> None:
    bodies = [cohort.message(MEMBERS, [f"person-{number}"], number=number, total=6) for number in range(1, 7)]
    with ThreadPoolExecutor(6) as senders:
        assert {answer.status_code for answer in senders.map(cohort.running.send, bodies * 2)} == {200}
    assert len(cohort.members) == 6


def test_pages_that_were_answered_outlive_a_kill(cohort: Cohort) -> None:
    assert cohort.send(MEMBERS, ["person-1"], number=1, total=2).status_code == 200
    cohort.running.kill()
    cohort.running.start()
    assert cohort.send(MEMBERS, ["person-2"], number=2, total=2).status_code == 200
    assert cohort.members == {"person-1", "person-2"}


def killed_while_loading(cohort: Cohort, seed: int, syncs: int) -> None:
    """Send changes, kill the receiver somewhere in each half, and send the half again."""
    chance, people = random.Random(seed), {"ann"}
    assert cohort.send(MEMBERS, sorted(people)).status_code == 200
    for number in range(syncs):
        session, new, gone = f"change-{number}", {f"person-{number}", f"other-{number}"}, {min(people)}
        for action, who in ((ADDED, new), (REMOVED, gone)):
            with ThreadPoolExecutor(1) as beside:
                sending = beside.submit(cohort.send, action, sorted(who), session)
                time.sleep(chance.random())
                cohort.running.kill()
                _ = sending.exception()
            cohort.running.start()
            assert cohort.send(action, sorted(who), session).json()["status"] == "success"
        people = (people | new) - gone
        assert cohort.members == people


def test_killed_at_some_moment_and_sent_again_it_ends_with_the_right_members(cohort: Cohort) -> None:
    killed_while_loading(cohort, seed=5, syncs=1)


@pytest.mark.sweep
@pytest.mark.parametrize("seed", range(10))
def test_killed_at_any_moment_and_sent_again_it_ends_with_the_right_members(cohort: Cohort, seed: int) -> None:
    killed_while_loading(cohort, seed, syncs=5)


def test_no_address_and_no_password_stands_in_what_it_says_or_in_its_state(cohort: Cohort) -> None:
    running = cohort.running
    cohort.send(MEMBERS, ["ann", {"mixpanel_distinct_id": "bob@mail.example", "email": "bob@mail.example"}])
    cohort.send(REMOVED, ["zoe"], "session-2")
    running.send(b"bob@mail.example")
    running.send(message(), ("bob@mail.example", PASSWORD))
    running.process.terminate()
    running.process.join(60)
    assert running.process.exitcode in (0, -signal.SIGTERM)
    said = running.log.read_text()
    assert f"Cohort {cohort.name}, members, page 1 of 1: 2 people." in said
    state = b"".join(path.read_bytes() for path in running.home.glob("state.sqlite*"))
    for secret in ("@mail.example", PASSWORD):
        assert secret not in said and secret.encode() not in state
    assert not [path for path in (running.home / "webhook").rglob("*") if path.stat().st_mode & 0o077]
    running.start()


def test_a_password_is_made_once_and_shown_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = cs.open(tmp_path / "home").home
    with pytest.raises(ConfigurationError, match="--new-password"):
        receiver.required_password(home)
    password, place = receiver.new_password(home)
    assert receiver.required_password(home) == password
    assert len(password) > 40 and "keys.json" in place


def test_it_does_not_start_without_a_project_or_on_a_port_that_is_taken(running: Running, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no project yet"):
        receiver.serve(cs.open(tmp_path / "empty").home, 0, print)
    receiver.new_password(running.home)
    with pytest.raises(BadInput, match="cannot be used"):
        receiver.serve(running.home, running.port, print)
