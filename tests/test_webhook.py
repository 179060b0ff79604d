"""What Mixpanel's webhook sends, and which members a cohort has after any order of it."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from conftest import sampled

import cohortsync as cs
from cohortsync import inbox, ledger, webhook
from cohortsync.webhook import ADDED, APPLIED, HALF, MEMBERS, REMOVED, STALE, Page, Refused, Session

PROJECT, COHORT = "2195193", "4567"


def message(action: str = MEMBERS, members: Any = (), session: Any = "session-1", number: Any = 1, total: Any = 1,
            **parameters: Any) -> bytes:
    people = [{"mixpanel_distinct_id": who, "email": f"{who}@mail.example"} if isinstance(who, str) else who
              for who in members]
    return json.dumps({"action": action, "parameters": {
        "mixpanel_project_id": PROJECT, "mixpanel_cohort_id": COHORT, "mixpanel_cohort_name": "Readers",
        "mixpanel_cohort_description": "", "mixpanel_session_id": session,
        "page_info": {"total_pages": total, "page_count": number}, "members": people, **parameters}}).encode()


def page(*given: Any, **parameters: Any) -> Page:
    return webhook.parse_page(message(*given, **parameters))


def session(name: str, status: str = APPLIED, answered: bool = True, **pages: tuple[int, int]) -> Session:
    numbers = max((came for came, _ in pages.values()), default=0)
    return Session(name, pages, numbers, status, answered)


# messages

def test_a_message_is_read_as_its_page_says() -> None:
    read = page(ADDED, [{"mixpanel_distinct_id": 12, "email": "ann@mail.example", "first_name": "Ann", "phone": "1"}],
                number=2, total=3)
    assert (read.project_id, read.cohort_id, read.name, read.action, read.number, read.total) == (
        PROJECT, COHORT, "Readers", ADDED, 2, 3)
    assert read.members == [("12", "ann@mail.example", "Ann", None)]


def test_members_without_an_id_are_left_out() -> None:
    assert page(members=[{"email": "nobody@mail.example"}, {"mixpanel_distinct_id": None}, "ann"]).members == [
        ("ann", "ann@mail.example", None, None)]


@pytest.mark.parametrize("body", [
    b"", b"null", b"[]", b"{", b"[" * 100_000, b'{"action": "members"}', b"\xff\xfe", b'{"a":' * 50_000,
    message("delete_everything"), message(number=0), message(number=2, total=1), message(total=10**9, number=10**9),
    message(total="1"), message(number=True), message(members=[["ann"]]), message(members=[1]),
    message(session=""), message(session="a\nb"), message(session="x" * 300), message(mixpanel_cohort_id="../../etc"),
    message(mixpanel_project_id="1; drop table runs"), message(mixpanel_cohort_id={"a": 1})])
def test_whatever_else_comes_is_refused_for_good(body: bytes) -> None:
    with pytest.raises(Refused) as refused:
        webhook.parse_page(body)
    assert refused.value.code == 400


def test_texts_that_no_file_can_hold_are_mended() -> None:
    assert page(members=["a\ud800b"]).members[0][0] == "a?b"


def test_an_answer_is_what_mixpanel_expects() -> None:
    assert webhook.build_answer(ADDED) == {"action": ADDED, "status": "success"}
    assert webhook.build_answer(MEMBERS, Refused("no", 503)) == {
        "action": MEMBERS, "status": "failure", "error": {"message": "no", "code": 503}}


# rules

@pytest.mark.parametrize(("pages", "numbers", "complete"), [
    ({MEMBERS: (2, 3)}, 2, set()), ({MEMBERS: (3, 3)}, 3, {MEMBERS}),
    ({ADDED: (1, 1)}, 1, {ADDED}), ({ADDED: (1, 1), REMOVED: (1, 2)}, 1, {ADDED}),
    ({ADDED: (1, 2), REMOVED: (1, 2)}, 2, {ADDED, REMOVED}),  # counted together
    ({ADDED: (1, 2), REMOVED: (1, 2)}, 1, set())])
def test_an_action_is_complete_however_its_pages_are_counted(pages: Any, numbers: int, complete: set[str]) -> None:
    assert Session("s", pages, numbers).complete == complete


def test_a_change_stands_on_the_last_session_that_mixpanel_was_told_of() -> None:
    first, told, lost = session("a"), session("b"), session("c", answered=False)
    new = session("d", webhook.RECEIVING, **{ADDED: (1, 1)})
    assert [one.session_id for one in webhook.bases(new, [first, told, lost])] == ["b", "a", "c"]


def test_a_half_stands_on_the_other_half_alone() -> None:
    whole, half = session("a"), session("b", HALF, **{ADDED: (1, 1)})
    other, same = (session("c", webhook.RECEIVING, **{action: (1, 1)}) for action in (REMOVED, ADDED))
    assert [one.session_id for one in webhook.bases(other, [whole, half])] == ["b", "a"]
    assert [one.session_id for one in webhook.bases(same, [whole, half])] == ["a"]
    assert webhook.standing(other, half) == APPLIED
    assert webhook.standing(same, whole) == HALF


def test_nothing_stands_on_a_session_that_was_dropped() -> None:
    assert webhook.bases(session("b", **{ADDED: (1, 1)}), [session("a", STALE)]) == []


# what is kept and loaded

@pytest.fixture
def home(tmp_path: Path) -> Path:
    workspace = cs.open(tmp_path / "home")
    workspace.init("UTC", "simplified", PROJECT)
    return workspace.home


def receive(home: Path, *given: Any, **parameters: Any) -> None:
    inbox.receive(home, sent := page(*given, **parameters))
    inbox.answered(home, sent)


def members(home: Path) -> set[str]:
    return set(cs.open(home).sql("select distinct_id from cohort_members")["distinct_id"])


def test_a_cohort_is_there_once_its_last_page_is(home: Path) -> None:
    receive(home, MEMBERS, ["cy"], number=2, total=2)
    assert members(home) == set()
    receive(home, MEMBERS, ["ann", "bob"], number=1, total=2)
    assert members(home) == {"ann", "bob", "cy"}
    assert cs.open(home).audience("Readers")["reason"].tolist() == ["exportable"] * 3


def test_an_address_makes_a_profile_only_where_none_is(home: Path, tmp_path: Path) -> None:
    people = tmp_path / "people.ndjson"
    people.write_text('{"$distinct_id": "ann", "$properties": {"$email": "ann@new.example", "plan": "pro"}}\n')
    cs.open(home).load(profiles=[people])
    receive(home, MEMBERS, ["ann", "bob", {"mixpanel_distinct_id": "cy"}])
    found = cs.open(home).sql("select distinct_id, address, prop('plan') as plan from profiles order by all")
    assert found.astype(object).where(found.notna(), None).values.tolist() == [
        ["ann", "ann@new.example", "pro"], ["bob", "bob@mail.example", None]]


def test_a_change_without_its_base_is_refused_and_said(home: Path) -> None:
    with pytest.raises(Refused, match="Nothing of this cohort was received before") as refused:
        receive(home, ADDED, ["ann"])
    assert refused.value.code == 503
    shown = cs.open(home).connections().iloc[0]
    assert (shown["kind"], shown["status"]) == ("webhook", "Needs attention")
    receive(home, MEMBERS, ["ann"], "session-2")
    shown = cs.open(home).connections().iloc[0]
    assert (shown["status"], shown["reason"]) == ("Connected", "Last received: Readers.")


def test_a_cohort_may_begin_with_nobody_where_that_is_set(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COHORTSYNC_WEBHOOK_BEGIN_EMPTY", "true")
    receive(home, ADDED, ["ann"])
    receive(home, REMOVED, [])
    assert members(home) == {"ann"}


def test_a_change_of_other_members_than_there_are_is_refused(home: Path) -> None:
    receive(home, MEMBERS, ["ann"])
    with pytest.raises(Refused, match="adds people who are in the cohort, or removes people who are not"):
        receive(home, REMOVED, ["zoe"], "session-2")
    assert members(home) == {"ann"}


def test_a_page_of_a_session_that_was_overtaken_is_dropped(home: Path) -> None:
    receive(home, MEMBERS, ["ann"], "old", total=2)
    receive(home, MEMBERS, ["bob"], "new")
    with pytest.raises(Refused, match="dropped"):
        receive(home, MEMBERS, ["cy"], "old", number=2, total=2)
    assert members(home) == {"bob"}


def test_a_cohort_sent_and_a_cohort_pulled_are_one(home: Path) -> None:
    assert ledger.name_cohort(home, PROJECT, COHORT, "VIP") == "VIP"
    receive(home, MEMBERS, ["ann"])
    assert cs.open(home).cohorts()["cohort"].tolist() == ["VIP"]


def test_a_cohort_of_another_project_is_refused_for_good(home: Path) -> None:
    with pytest.raises(Refused, match="none of this receiver's") as refused:
        receive(home, mixpanel_project_id="999")
    assert refused.value.code == 404


def test_what_was_sent_does_not_pile_up(home: Path) -> None:
    receive(home, MEMBERS, ["ann"])
    for number in range(2, 9):
        receive(home, ADDED, [f"person-{number}"], f"session-{number}")
        receive(home, REMOVED, [], f"session-{number}")
    kept = [path.name for path in (home / "webhook" / PROJECT / COHORT).glob("*.parquet")]
    assert len([name for name in kept if "members" in name]) == webhook.REMEMBERED + 1
    assert len(kept) == webhook.REMEMBERED + 1 + 2


# the law

@dataclass
class Sender:
    """A Mixpanel that syncs one cohort over a network that loses, repeats and reorders.

    ``style``: whether both halves of a sync share a session, and whether their pages are counted together, which
    Mixpanel's page leaves open.
    """

    home: Path
    chance: random.Random
    style: str
    people: set[str] = field(default_factory=set)
    snapshot: set[str] | None = None
    failures: int = 0
    number: int = 0
    sent: list[Page] = field(default_factory=list)

    def sync(self, reliable: bool) -> bool:
        """One sync as it is scheduled; answers whether Mixpanel takes it to have succeeded."""
        self.number += 1
        batches = [self._paged(MEMBERS, self.people)] if self.snapshot is None else [
            self._paged(ADDED, self.people - self.snapshot), self._paged(REMOVED, self.snapshot - self.people)]
        before = list(self.sent)
        done = all(self._send(one, reliable, before) for one in self._pages(batches))
        if done:
            self.snapshot, self.failures = set(self.people), 0
        else:
            self.failures += 1
            if self.failures > 2:  # three days
                self.snapshot = None
        return done

    def _paged(self, action: str, people: set[str]) -> tuple[str, list[list[str]]]:
        ordered = sorted(people)
        return action, [ordered[at:at + 2] for at in range(0, len(ordered), 2)] or [[]]

    def _pages(self, batches: list[tuple[str, list[list[str]]]]) -> list[Page]:
        total = sum(len(pages) for _, pages in batches)
        found, place = [], 0
        for action, pages in batches:
            name = f"session-{self.number}" + (f"-{action}" if self.style == "apart" else "")
            mine = []
            for number, people in enumerate(pages, 1):
                place += 1
                counted = (place, total) if self.style == "together" else (number, len(pages))
                mine.append(page(action, people, name, *counted))
            self.chance.shuffle(mine)
            found += mine
        if self.style != "apart":
            self.chance.shuffle(found)
        return found

    def _send(self, sent: Page, reliable: bool, before: list[Page]) -> bool:
        self.sent.append(sent)
        for _ in range(3):
            if before and self.chance.random() < 0.2:
                self._deliver(self.chance.choice(before), lost=False)  # a repeat that was under way for long
            fate = 1.0 if reliable else self.chance.random()
            if fate < 0.1:
                continue  # never arrives
            if self._deliver(sent, lost=fate < 0.2):
                return True
        return False

    def _deliver(self, sent: Page, lost: bool) -> bool:
        try:
            inbox.receive(self.home, sent)
        except Refused:
            return False
        if not lost:
            inbox.answered(self.home, sent)
        return not lost


def run_the_law(home: Path, seed: int, syncs: int) -> None:
    chance = random.Random(seed)
    sender = Sender(home, chance, chance.choice(["shared", "apart", "together"]))
    everyone = [f"person-{n}" for n in range(9)]
    for _ in range(syncs):
        for who in chance.sample(everyone, chance.randrange(5)):
            sender.people ^= {who}
        if sender.sync(reliable=chance.random() < 0.3):
            assert members(home) == sender.people, f"seed {seed}"
    for _ in range(5):
        if sender.sync(reliable=True):
            break
    assert members(home) == sender.people == sender.snapshot, f"seed {seed}"


@pytest.mark.parametrize("seed", sampled(range(3), 1))
def test_whatever_is_lost_repeated_or_overtaken_a_sync_that_succeeded_left_the_right_members(home: Path,
                                                                                              seed: int) -> None:
    run_the_law(home, seed, syncs=5)


@pytest.mark.sweep
@pytest.mark.parametrize("seed", range(100, 160))
def test_the_same_over_many_syncs(home: Path, seed: int) -> None:
    run_the_law(home, seed, syncs=12)
