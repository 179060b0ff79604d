"""Any sequence of changes on both sides, faults, syncs and undos keeps what a sync promises."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import hypothesis
import pytest
import trials
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from trials import Place, Trial

from cohortsync import ledger
from cohortsync.emails import member_hash
from cohortsync.errors import BadInput
from cohortsync.sandbox.life import remembered
from cohortsync.sandbox.mailchimp.members import act_as_person, archive_member, find_member, insert_member
from cohortsync.sandbox.mailchimp.problems import Problem
from cohortsync.sandbox.mailchimp.segments import delete_segment
from cohortsync.sandbox.mailchimp.tags import add_to_segment, create_static_segment, find_tag

USERS = 12
COHORT = f"cohort-{USERS}"
people = st.integers(0, USERS - 1)
pytestmark = pytest.mark.timeout(900)
unused = itertools.count(10_000)  # numbers of addresses; nobody comes by an address that somebody else has had
RUNS = 50  # seeds of the sweep; each is three sequences, and the one that always runs is one


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with trials.opened(tmp_path_factory.mktemp("place"), (USERS,)) as place:
        yield place


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in trials.FAST.items():
        monkeypatch.setenv(f"COHORTSYNC_{name}", value)


class Life(RuleBasedStateMachine):
    """One cohort and one audience, and whatever happens to them."""

    place: Place

    def __init__(self) -> None:
        super().__init__()
        self.place.set(fault_rate=0, refused_share=0)
        with ledger.state(self.place.workspace.home) as con:
            con.execute("delete from forgotten")
        self.trial = Trial(self.place, 4711, USERS, asks=True)
        self.address = {n: n for n in range(USERS)}
        self.had = {n: {n} for n in range(USERS)}
        self.agreeing, self.forgotten = set(range(USERS)), set[int]()
        self.segment_id: int | None = None
        self.unlearnt = self.killed = False  # whether profiles were forgotten since they were loaded; a sync killed
        self.load(profiles=True, users=set(range(USERS)))

    def load(self, profiles: bool = False, users: set[int] | None = None) -> None:
        """Load what changed, and everyone's profile again where some are no longer known."""
        loads: dict[str, Any] = {}
        if profiles or self.unlearnt:
            loads["profiles"] = [trials.profiles_file(self.place.folder, self.address, self.agreeing)]
        if users is not None:
            loads["cohorts"] = {COHORT: trials.cohort_file(self.place.folder, sorted(users))}
        self.place.workspace.load(**loads)
        self.unlearnt = False
        self.know(self.users if users is None else users)

    def know(self, users: set[int]) -> None:
        """Who is in the cohort from now on, and what follows from that."""
        self.users, self.trial.addresses = users, [trials.at(self.address[n]) for n in sorted(users)]
        self.trial.agreed, self.trial.forgotten = self.hashes(self.agreeing), self.hashes(self.forgotten)

    def hashes(self, users: set[int]) -> set[str]:
        """Of all the addresses that these users have had."""
        return {member_hash(trials.at(n)) for user in users for n in self.had[user]}

    @rule(users=st.sets(people, min_size=1))
    def the_cohort_changes(self, users: set[int]) -> None:
        self.load(users=users)

    @rule(user=people)
    def an_address_changes(self, user: int) -> None:
        self.address[user] = next(unused)
        self.had[user].add(self.address[user])
        self.load(profiles=True)

    @rule(users=st.sets(people, max_size=4))
    def people_give_their_consent_or_take_it_back(self, users: set[int]) -> None:
        self.agreeing ^= users
        self.load(profiles=True)

    @rule(asks=st.booleans())
    def consent_is_asked_for_or_not(self, asks: bool) -> None:
        self.trial.asks = asks

    @rule(user=people, by_address=st.booleans())
    def a_person_is_forgotten(self, user: int, by_address: bool) -> None:
        """Gone from the cohort, too, until they are loaded again."""
        self.place.workspace.forget(trials.at(self.address[user]) if by_address else f"u{user}")
        self.unlearnt = True
        self.forgotten.add(user)
        self.know(self.users - {user})

    @rule(user=people, action=st.sampled_from(["unsubscribe", "confirm", "bounce"]))
    def a_person_does_something(self, user: int, action: str) -> None:
        self.to_member(user, lambda db, key: act_as_person(db, self.trial.audience_id, key, action))

    @rule(user=people)
    def a_person_is_archived_by_hand(self, user: int) -> None:
        self.to_member(user, lambda db, key: archive_member(db, self.trial.audience_id, key))

    @rule(user=people, status=st.sampled_from(["subscribed", "pending", "transactional"]))
    def a_person_comes_by_a_form(self, user: int, status: str) -> None:
        with remembered(self.place.folder / "mailchimp.sqlite") as db:
            address = trials.at(self.address[user])
            if find_member(db, self.trial.audience_id, address) is None:
                insert_member(db, self.trial.audience_id, address, status, {}, {})

    def to_member(self, user: int, act: Any) -> None:
        """Do something to someone who is in the audience, if the audience lets it."""
        with remembered(self.place.folder / "mailchimp.sqlite") as db:
            key = trials.at(self.address[user])
            if find_member(db, self.trial.audience_id, key) is not None:
                try:
                    act(db, key)
                except Problem:
                    return

    @precondition(lambda self: self.segment_id is not None)
    @rule()
    def the_segment_is_edited_by_hand(self) -> None:
        self.trial.edit_by_hand(self.segment_id)

    @rule(seed=st.integers(0, 1000), rate=st.sampled_from([0.1, 0.4]), refused=st.sampled_from([0, 0.2]),
          keep=st.booleans())
    def a_sync_meets_faults(self, seed: int, rate: float, refused: float, keep: bool) -> None:
        with self.faults(rate, seed, refused):
            self.wrote_to(self.trial.sync(keep_hand_edits=keep))

    @precondition(lambda self: not self.killed)
    @rule(seconds=st.floats(0, 2))
    def a_sync_is_killed(self, seconds: float) -> None:
        """Once in a sequence at most: of all the rules it takes longest."""
        self.killed = True
        before = self.trial.placed()
        self.trial.killed_at(seconds)
        self.trial.check_brought(before, self.trial.asks)

    @rule()
    def a_sync_meets_none(self) -> None:
        receipt = self.synced()
        self.trial.assert_converged(receipt)

    @rule()
    def a_second_sync_changes_nothing(self) -> None:
        self.synced()
        again = self.synced()
        assert (again["added"], again["removed"], again["writes"]) == (0, 0, 0)

    @rule()
    def hand_edits_are_kept_where_that_is_asked(self) -> None:
        self.synced()
        self.trial.edit_by_hand(self.segment_id)
        before = self.trial.on_segment(self.segment_id)
        self.synced(keep_hand_edits=True)
        after = self.trial.on_segment(self.segment_id)
        assert set(before) - self.trial.barred == set(after) - self.trial.barred

    @rule(people=st.sets(people))
    def a_segment_that_others_made_is_taken_over_only_where_that_is_asked(self, people: set[int]) -> None:
        with remembered(self.place.folder / "mailchimp.sqlite") as db:
            while ours := find_tag(db, self.trial.audience_id, f"mixpanel_{COHORT}"):  # a sync cut short leaves one too
                delete_segment(db, self.trial.audience_id, str(ours))
            theirs = create_static_segment(db, self.trial.audience_id, f"mixpanel_{COHORT}")
            members = [find_member(db, self.trial.audience_id, trials.at(self.address[n])) for n in people]
            add_to_segment(db, theirs, [member["id"] for member in members if member])
        before = self.trial.on_segment(theirs)
        if before:  # one that nobody is on may be ours, asked for by a request that was never answered
            assert self.trial.sync() is None
            assert self.trial.on_segment(theirs) == before
        self.place.hand_over(theirs)
        receipt = self.synced(adopt=True)
        assert receipt["segment_id"] == theirs
        self.trial.assert_converged(receipt)

    @precondition(lambda self: self.trial.receipts)
    @rule(back=st.integers(0, 3), rate=st.sampled_from([0, 0.1, 0.4]), seed=st.integers(0, 1000))
    def a_run_is_undone(self, back: int, rate: float, seed: int) -> None:
        """Any of the last runs, be it an undo itself; what cannot be undone says so."""
        run = self.trial.receipts[-1 - back % len(self.trial.receipts)]
        if run["segment_id"] and run["segment_id"] == self.segment_id:
            with self.faults(rate, seed):
                self.trial.undo_until_done(run["run_id"])
        else:
            with pytest.raises(BadInput, match="nothing to undo"):
                self.trial.undo(run["run_id"])

    @precondition(lambda self: self.segment_id is not None)
    @rule(rate=st.sampled_from([0.1, 0.4]), seed=st.integers(0, 1000))
    def an_undo_is_tried_once(self, rate: float, seed: int) -> None:
        """So that it may end half done, and something else comes next."""
        if self.trial.receipts[-1]["segment_id"] == self.segment_id:
            with self.faults(rate, seed):
                self.trial.undo(self.trial.receipts[-1]["run_id"])

    @precondition(lambda self: self.segment_id is not None)
    @rule()
    def a_run_undone_at_once_leaves_the_segment_as_it_was(self) -> None:
        before = self.trial.on_segment(self.segment_id)
        receipt = self.trial.sync_until_done()
        if receipt["segment_id"] == self.segment_id:
            self.trial.undo_until_done(receipt["run_id"])
            after = self.trial.on_segment(self.segment_id)
            reachable = {key for key, status in self.trial.members().items() if status not in trials.UNREACHABLE}
            lost = (set(before) - set(after)) & reachable
            assert lost <= self.trial.not_put_back(lost, receipt["run_id"])
            assert not (set(after) - set(before)) & reachable
        self.wrote_to(receipt)

    @contextmanager
    def faults(self, rate: float, seed: int, refused: float = 0) -> Iterator[None]:
        self.place.set(faults="all", fault_rate=rate, fault_seed=seed, refused_share=refused)
        yield
        self.place.set(fault_rate=0)

    def synced(self, **terms: bool) -> dict[str, Any]:
        receipt = self.trial.sync_until_done(**terms)
        self.wrote_to(receipt)
        return receipt

    def wrote_to(self, receipt: dict[str, Any] | None) -> None:
        self.segment_id = receipt["segment_id"] if receipt else self.segment_id

    @invariant()
    def nobodys_consent_was_touched(self) -> None:
        assert self.place.breaches() == []


@pytest.mark.parametrize("number", [pytest.param(n, id=f"seed{n}", marks=pytest.mark.sweep if n else pytest.mark.sample)
                                    for n in range(RUNS + 1)])
def test_any_sequence_keeps_the_promises(place: Place, number: int) -> None:
    machine = hypothesis.seed(number)(type("Life", (Life,), {"place": place}))
    run_state_machine_as_test(machine, settings=settings(
        max_examples=3 if number else 1, stateful_step_count=10, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck), print_blob=True))
    place.check_contract()
