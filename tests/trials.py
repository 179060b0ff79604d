"""Syncs on trial: many audiences of mixed pasts in one local Mailchimp, and one workspace whose cohorts are synced.

What stands in the local Mailchimp is read from its own state, never by the code that is on trial.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import contract
import forked
import pandas as pd
import requests
from conftest import OWNER_KEY
from told import sync_when_told

import cohortsync as cs
from cohortsync import emails, ledger, sandbox
from cohortsync.errors import ApiTransient, UnsafePlan
from cohortsync.mailchimp import Unanswered
from cohortsync.receipts import load_plan
from cohortsync.sandbox.life import remembered
from cohortsync.sandbox.mailchimp import consent
from cohortsync.sandbox.mailchimp.audiences import create_audience
from cohortsync.sandbox.mailchimp.members import insert_member
from cohortsync.sandbox.mailchimp.state import now

SIZES = (1, 2, 7, 40, 160, 499, 501, 1100)
STATUSES = ("subscribed",) * 6 + ("unsubscribed", "cleaned", "archived", "pending", "transactional")
MOVING = ("add_new", "add_existing", "remove")
UNREACHABLE = ("unsubscribed", "cleaned", "archived")
FAST = {"ATTEMPTS": "8", "BACKOFF_SECONDS": "0.005", "BACKOFF_MAX_SECONDS": "0.03", "TIMEOUT_SECONDS": "0.8",
        "SETTLE_SECONDS": "1.2"}
SLOW_SECONDS = 0.9
CONSENT = "agreed"
EXPORTS = itertools.count()
TRIES = 12
PATIENCE = 120


def at(number: int) -> str:
    return f"person{number}@shop.example"


def profiles_file(folder: Path, addresses: Mapping[int, int], agreeing: Collection[int] = ()) -> Path:
    """Users by number, each with the number of an address, as a file of profiles; who is ``agreeing`` says so.

    It is like none before it, and so never taken for one that was loaded already.
    """
    file = folder / "profiles.csv"
    pd.DataFrame({"distinct_id": [f"u{n}" for n in addresses], "$email": list(map(at, addresses.values())),
                  "$first_name": "Pat", CONSENT: [n in agreeing for n in addresses], "export": next(EXPORTS)}).to_csv(
                      file, index=False)
    return file


def cohort_file(folder: Path, users: Collection[int]) -> Path:
    """The same of a cohort."""
    file = folder / f"cohort-of-{len(users)}.json"
    file.write_text(json.dumps([f"u{n}" for n in users]) + " " * next(EXPORTS))
    return file


@dataclass
class Place:
    """A workspace, and the local Mailchimp that it is connected to."""

    workspace: cs.Workspace
    running: sandbox.Sandbox
    folder: Path

    def set(self, **settings: Any) -> None:
        requests.post(f"{self.running.mailchimp_url}/sandbox/settings", json=settings, timeout=60).raise_for_status()

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with remembered(self.folder / "mailchimp.sqlite") as db:
            return [tuple(row) for row in db.execute(query, values)]

    def breaches(self) -> list[str]:
        return consent.breaches(self.folder / "mailchimp.sqlite")

    def hand_over(self, segment_id: int) -> None:
        """The makers of a segment leave it to cohortsync, so that what it does there is no breach."""
        with remembered(self.folder / "mailchimp.sqlite") as db:
            db.execute("insert or replace into segment_makers values (?, 'cohortsync')", (segment_id,))

    def check_contract(self) -> None:
        """Hold all that passed since the last time to Mailchimp's contract, where that is at hand."""
        kept = self.folder / "exchanges.ndjson"
        lines = kept.read_text(encoding="utf-8").splitlines()
        assert lines
        if os.environ.get("COHORTSYNC_CONTRACTS"):
            for line in lines:
                contract.check_recorded(json.loads(line))
        kept.unlink()


@contextmanager
def opened(folder: Path, sizes: Sequence[int] = SIZES) -> Iterator[Place]:
    """A place of mixed cohorts, one of each size, named by it; ``cohort-7`` is person 0 to 6."""
    workspace = cs.open(folder / "home")
    workspace.init("UTC", "simplified")
    workspace.load(profiles=[profiles_file(folder, {n: n for n in range(max(sizes))})],
                   cohorts={f"cohort-{size}": cohort_file(folder, range(size)) for size in sizes})
    with forked.sandbox(folder / "mailchimp") as running:
        workspace.connect_mailchimp(OWNER_KEY, "subscribed", running.mailchimp_url)
        place = Place(workspace, running, folder / "mailchimp")
        place.set(record="yes", slow_seconds=SLOW_SECONDS)
        yield place


@dataclass
class Trial:
    """One cohort on its way to one audience with a past, all drawn by a seed.

    ``asks``: whether syncs ask for consent; ``agreed``: hashes of those who are known to give it, in the cohort or not;
    ``forgotten``: of those who were forgotten.
    """

    place: Place
    seed: int
    size: int = 0
    strangers: int = 0
    receipts: list[dict[str, Any]] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    asks: bool = False
    agreed: set[str] = field(default_factory=set)
    forgotten: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.size = self.size or self.chance.choices(SIZES, [8, 8, 8, 8, 6, 3, 3, 1])[0]
        self.cohort, self.addresses = f"cohort-{self.size}", [at(n) for n in range(self.size)]
        self.audience_id = self.make_audience()

    def make_audience(self) -> str:
        """An audience that knows some of the cohort, in every status, and some who are not of it."""
        known, strangers = self.chance.choice([0, 0.3, 0.9, 1]), self.strangers or self.size % 50
        people = [n for n in range(self.size) if self.chance.random() < known] + [*range(5000, 5000 + strangers)]
        with remembered(self.place.folder / "mailchimp.sqlite") as db:
            audience_id = create_audience(db, f"Trial {self.seed}", {})
            for n in people:
                status = self.chance.choice(STATUSES)
                insert_member(db, audience_id, at(n), status, {}, {}, self.chance.choice(["person", "api"]))
        return audience_id

    @property
    def terms(self) -> dict[str, Any]:
        return {"consent_property": CONSENT} if self.asks else {}

    @property
    def wanted(self) -> set[str]:
        """Hashes of the cohort's people."""
        return set(map(emails.member_hash, self.addresses))

    @property
    def barred(self) -> set[str]:
        """Hashes of those who are to come off the segment, whatever Mailchimp thinks."""
        return self.forgotten | (self.wanted - self.agreed if self.asks else set())

    def not_exported(self, people: set[str], asks: bool) -> set[str]:
        """Who of these is never to be put anywhere: forgotten, or not known to agree where that is asked for."""
        return people & self.forgotten | (people - self.agreed if asks else set())

    def not_put_back(self, people: set[str], run_id: str) -> set[str]:
        """Who of these an undo of the run leaves off: also those of whom the run did not know which user they are."""
        done, asks = self.kept(run_id, "outcome"), self.asked(run_id)
        unknown = set(done.loc[done["canonical_id"].isna(), "member_hash"]) if asks else set()
        return self.not_exported(people, asks) | people & unknown

    def asked(self, run_id: str) -> bool:
        """Whether a run asked for consent."""
        return bool(load_plan(self.place.workspace.home, run_id).terms.consent_property)

    def sync(self, **terms: Any) -> dict[str, Any] | None:
        """One try: its receipt, or None when it gave up for now."""
        workspace, terms = self.place.workspace, {**self.terms, **terms}
        receipt = self.tried(lambda: workspace.sync(self.cohort, self.audience_id, force=True, **terms), self.asks)
        if receipt:
            self.check_barred(receipt)
        return receipt

    def undo(self, run_id: str) -> dict[str, Any] | None:
        """One try to take a run back: its receipt, or None when it gave up for now."""
        workspace = self.place.workspace
        return self.tried(lambda: workspace.apply(workspace.undo(run_id), force=True), self.asked(run_id))

    def tried(self, work: Callable[[], dict[str, Any]], asks: bool) -> dict[str, Any] | None:
        """What was done; whatever came of it, nobody was put anywhere who is never to be."""
        before = self.placed()
        try:
            receipt = work()
        except (ApiTransient, Unanswered, UnsafePlan) as error:
            self.refusals.append(str(error))
            return None
        finally:
            self.check_brought(before, asks)
        self.receipts.append(receipt)
        self.check(receipt)
        return receipt

    def check_brought(self, before: set[tuple[str, int]], asks: bool) -> None:
        wrong = self.not_exported({key for key, _ in self.placed() - before}, asks)
        assert not wrong, f"seed {self.seed}: {len(wrong)} were exported who are never to be"

    def placed(self) -> set[tuple[str, int]]:
        """Who is in the audience (0), and on which segments."""
        return set(self.place.rows(
            "select hash, 0 from members where audience_id = :id union select hash, segment_id from segment_members "
            "join members on member_id = members.id where audience_id = :id", self.audience_id))

    def killed_at(self, seconds: float | None, undoing: str = "") -> float:
        """Sync, or undo a run, in a process of its own, killed so many seconds after its start; how long it lived."""
        talk, other = forked.PROCESSES.Pipe()
        told = (dict(os.environ), self.place.workspace.home, self.cohort, self.audience_id, undoing, self.terms, other)
        process = forked.PROCESSES.Process(target=sync_when_told, args=told, daemon=True)
        process.start()
        assert talk.poll(PATIENCE)
        begun = time.monotonic()
        talk.send(talk.recv())
        process.join(PATIENCE if seconds is None else seconds)
        process.kill()
        process.join(PATIENCE)
        return time.monotonic() - begun

    def sync_until_done(self, **terms: Any) -> dict[str, Any]:
        return self.until_done(lambda: self.sync(**terms))

    def undo_until_done(self, run_id: str) -> dict[str, Any]:
        """Take a run back; what an undo promises is looked at in the audience itself."""
        before, later = self.on_segment(self.segment_of(run_id)), self.moved_after(run_id)
        receipt = self.until_done(lambda: self.undo(run_id))
        self.assert_undone(run_id, before, later)
        assert receipt["undoes"] == run_id and receipt["accounted"] == receipt["size"], f"seed {self.seed}"
        return receipt

    def until_done(self, work: Callable[[], dict[str, Any] | None]) -> dict[str, Any]:
        """Try again until everyone is accounted for; the last tries meet no fault."""
        for number in range(TRIES):
            if number == TRIES - 3:
                self.place.set(fault_rate=0)
            receipt = work()
            if receipt and receipt["status"] == "completed":
                return receipt
        raise AssertionError(f"seed {self.seed}: no end in {TRIES} tries; {self.receipts[-1:]} {self.refusals[-3:]}")

    def check(self, receipt: dict[str, Any]) -> None:
        """Whom a receipt calls added or kept is on the segment, whom it calls removed is not, whoever looks."""
        people = self.kept(receipt["run_id"], "outcome")
        status = self.on_segment(receipt["segment_id"])
        there, shown = set(status), {key for key in status if status[key] != "archived"}  # who keep their tags unseen
        claimed = set(people.loc[people["outcome"].isin(["added", "kept"]), "member_hash"])
        gone = set(people.loc[people["outcome"] == "removed", "member_hash"])
        assert claimed <= there, f"seed {self.seed}: {len(claimed - there)} are claimed and not there"
        assert not gone & shown, f"seed {self.seed}: {len(gone & shown)} were to be gone and are there"
        assert people["member_hash"].is_unique, f"seed {self.seed}: somebody twice"
        assert self.place.breaches() == []

    def check_barred(self, receipt: dict[str, Any]) -> None:
        """Who is barred has the reason, and is not on the segment once everyone is proven."""
        people = self.kept(receipt["run_id"], "outcome")
        theirs = people[people["member_hash"].isin(self.barred) & people["exportable"]]
        there = {key for key, status in self.on_segment(receipt["segment_id"]).items() if status != "archived"}
        assert set(theirs["outcome"]) <= {"refused", "unproven"}, f"seed {self.seed}: {theirs['outcome'].tolist()}"
        assert set(theirs["reason"]) <= {"no_consent", "forgotten_here"}, f"seed {self.seed}: {set(theirs['reason'])}"
        if receipt["status"] == "completed":
            assert not there & self.barred, f"seed {self.seed}: {len(there & self.barred)} are there who may not be"

    def kept(self, run_id: str, what: str) -> pd.DataFrame:
        """The people of a run's plan, or what became of them."""
        return pd.read_parquet(self.place.workspace.home / "runs" / run_id / f"{what}.parquet")

    def segment_of(self, run_id: str) -> int | None:
        return next(receipt["segment_id"] for receipt in self.receipts if receipt["run_id"] == run_id)

    def moved_after(self, run_id: str) -> set[str]:
        """Hashes of those whom a later run put on the segment or took off it, or may have.

        A try to take this very run back that was cut short is none of them.
        """
        runs = [row for row in ledger.runs(self.place.workspace.home)
                if row["audience_id"] == self.audience_id and row["status"] not in ("planned", "needs approval")]
        later = itertools.takewhile(lambda row: row["run_id"] != run_id, runs)
        plans = [self.kept(row["run_id"], "plan") for row in later
                 if row["status"] == "completed" or row["receipt"].get("undoes") != run_id]
        return {key for plan in plans for key in [
            *plan.loc[plan["word"].isin(MOVING), "member_hash"], *plan["old_hash"].dropna()]}

    def assert_undone(self, run_id: str, before: Mapping[str, str], later: set[str]) -> None:
        """Whom the run put on is off again, whom it took off is on again where they can be mailed; nobody else moved.

        ``before``: who was on the segment before it was undone; ``later``: whom later runs moved.
        """
        done, members, there = self.kept(run_id, "outcome"), self.members(), self.on_segment(self.segment_of(run_id))
        added = set(done.loc[done["outcome"] == "added", "member_hash"]) - later
        removed = {*done.loc[done["outcome"] == "removed", "member_hash"],
                   *done.loc[done["outcome"] != "unproven", "old_hash"].dropna()} - later
        stayed = {key for key in added & set(there) if members[key] != "archived"}
        gone = removed - set(there)
        lost = {key for key in gone - self.not_put_back(gone, run_id)
                if members.get(key, "archived") not in UNREACHABLE}
        by_rule = set(done.loc[(done["word"] == "remove") & (done["outcome"] == "refused"), "member_hash"])
        others = (set(before) ^ set(there)) - added - removed - by_rule
        assert not stayed, f"seed {self.seed}: {len(stayed)} are on the segment still"
        assert not lost, f"seed {self.seed}: {len(lost)} were not put back"
        assert not others, f"seed {self.seed}: {len(others)} moved whom the run had not"

    def members(self) -> dict[str, str]:
        """Hash → status of everyone in the audience."""
        return dict(self.place.rows("select hash, status from members where audience_id = ?", self.audience_id))

    def on_segment(self, segment_id: int | None) -> dict[str, str]:
        """Hash → status of everyone who wears the tag."""
        return dict(self.place.rows("select hash, status from segment_members join members on member_id = members.id"
                                    " where segment_id = ?", segment_id))

    def edit_by_hand(self, segment_id: int | None) -> None:
        """Someone in the account takes people off the segment and puts others on."""
        with remembered(self.place.folder / "mailchimp.sqlite") as db:
            on = [row[0] for row in db.execute("select member_id from segment_members where segment_id = ?",
                                               (segment_id,))]
            for member in self.chance.sample(on, len(on) // 4):
                db.execute("delete from segment_members where segment_id = ? and member_id = ?", (segment_id, member))
            for row in db.execute("select id from members where audience_id = ? and email like 'person5%'",
                                  (self.audience_id,)).fetchall():
                if self.chance.random() < 0.4:
                    db.execute("insert or ignore into segment_members values (?, ?, ?)", (segment_id, row[0], now(db)))

    def assert_converged(self, receipt: dict[str, Any]) -> None:
        """Nobody is lost and nobody is there who should not be; the proof adds up to the cohort's size."""
        members, there = self.members(), self.on_segment(receipt["segment_id"])
        wanted, size = self.wanted, len(self.addresses)
        reachable = {h for h in wanted - self.barred if members.get(h, "unsubscribed") not in UNREACHABLE}
        strangers = {h for h, status in there.items() if h not in wanted and status not in ("archived", "pending")}
        assert reachable <= set(there), f"seed {self.seed}: {len(reachable - set(there))} are lost"
        assert not strangers, f"seed {self.seed}: {len(strangers)} are on the segment and not of the cohort"
        assert receipt["accounted"] == receipt["size"] == size, f"seed {self.seed}"
        assert receipt["added"] + receipt["kept"] + receipt["refused"] == size, f"seed {self.seed}"
        missing = len(wanted - set(members))
        assert missing <= receipt["refused"], f"seed {self.seed}: {missing} are not in the audience"
