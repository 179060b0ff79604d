"""One export of a cohort to a Mailchimp audience: plan from fresh reads, apply in chunks, prove by reading back.

No request here ever changes the subscription status of a contact that is already in the audience.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path
from time import sleep
from typing import Any

import pandas as pd
import portalocker

from cohortsync import access, audience, config, ledger, mailchimp, warehouse
from cohortsync.config import Settings
from cohortsync.errors import (
    ApiFinal,
    ApiTransient,
    BadInput,
    CohortsyncError,
    ConfigurationError,
    UnsafePlan,
)
from cohortsync.mailchimp import CHUNK, Client
from cohortsync.plan import Plan, Target, check_guards, check_unchanged, plan_people, shown
from cohortsync.sources import Progress, silent
from cohortsync.warehouse import required_project

NEW_CONTACTS = ("subscribed", "pending", "transactional")
ROUNDS = 3


# connecting

def connect(home: Path, key: str, new_contacts: str, local: str | None = None, keep_key: bool = True) -> dict[str, Any]:
    """Check a key, its role and its audiences, and remember the account (never the key) in the ledger.

    ``new_contacts``: the status of people who are new to the audience. Answers the connection with
    ``audiences`` (``audience_id, name``). Raises ConfigurationError when the key may not write.
    """
    if new_contacts not in NEW_CONTACTS:
        raise BadInput(f"New contacts cannot be {new_contacts!r}; choose one of {', '.join(NEW_CONTACTS)}.")
    client = mailchimp.open_client(key.strip(), local, _impatient())
    account = mailchimp.fetch_account(client)
    if account["role"] not in mailchimp.WRITING_ROLES:
        raise ConfigurationError(f"The key belongs to a {account['role'] or 'user without a role'} of "
                                 f"{account['account_name']}; a sync needs {', '.join(mailchimp.WRITING_ROLES)}. "
                                 "Ask one of these for a key.")
    audiences = mailchimp.fetch_audiences(client)
    if not audiences:
        raise ConfigurationError(f"{account['account_name']} has no audience yet. Make one in Mailchimp first.")
    if keep_key:
        config.save_key(home, _host(client.url), key.strip())
    ledger.record_connection(home, {
        "kind": "mailchimp", **account, "host": _host(client.url), "base_url": client.url,
        "rehearsal": int(config.is_rehearsal(client.url)), "new_contacts": new_contacts,
        "status": "Connected", "reason": ""})
    return {**required_connection(home), "audiences": audiences}


def required_connection(home: Path) -> dict[str, Any]:
    if connection := ledger.connection(home):
        return connection
    raise ConfigurationError("Mailchimp is not connected. Connect it first: cohortsync connect mailchimp "
                             "--new-contacts subscribed|pending|transactional")


def _impatient() -> Settings:
    """For questions that a person waits for: one more try, not minutes of them."""
    return Settings().model_copy(update={"attempts": 2})


def check_connection(home: Path) -> dict[str, Any]:
    """Ask the connected account whether it still answers; the connection with its ``audiences``.

    A no (revoked key, lost role) is recorded as Needs attention and raised.
    """
    with _connected(home, _impatient()) as (connection, client):
        return {**connection, "audiences": mailchimp.fetch_audiences(client)}


def _host(url: str) -> str:
    return url.split("/")[2]


@contextmanager
def _connected(home: Path, settings: Settings | None = None) -> Iterator[tuple[dict[str, Any], Client]]:
    """The connection and a client for it; what the other side refuses for good is recorded on it."""
    connection = required_connection(home)
    key = config.load_key(home, connection["host"])
    if not key:
        raise ConfigurationError(f"The key for {connection['account_name']} is not kept here. Set "
                                 f"{config.KEY_VARIABLE}, or connect again: cohortsync connect mailchimp")
    local = f"http://{connection['host']}" if connection["rehearsal"] else None
    client = mailchimp.open_client(key, local, settings)
    if _host(client.url) != connection["host"]:
        raise ConfigurationError(f"The key at hand belongs to {_host(client.url)}, the connection to "
                                 f"{connection['host']}. Connect again: cohortsync connect mailchimp")
    try:
        yield connection, client
    except ApiFinal as error:
        if error.status in (401, 403):
            ledger.record_connection_status(home, "Needs attention", str(error))
        raise
    else:
        ledger.record_connection_status(home, "Connected")


# planning

def plan(home: Path, cohort: str, audience_id: str, progress: Progress = silent,
         project_id: str | None = None) -> Plan:
    """What a sync of the cohort to the audience would do now; reads only.

    ``project_id``: whose cohort it is; None: the workspace's only project's.
    Raises BadInput for an unknown cohort, UnsafePlan when the segment's name is taken by one we did not make.
    """
    with _connected(home) as (connection, client):
        return _plan(home, connection, client, required_project(home, project_id), cohort, audience_id, progress)


def _plan(home: Path, connection: dict[str, Any], client: Client, project: dict[str, Any], cohort: str,
          audience_id: str, progress: Progress) -> Plan:
    with warehouse.reading(home) as con:
        people, as_of = audience.people(con, project, cohort), warehouse.as_of(con)
    progress("Reading the audience", 0, 1)
    target = _target(home, connection, client, project, cohort, audience_id)
    members = _mirror(home, client, audience_id)
    on_segment: dict[str, str] = {}
    if target.segment_id is not None:
        on_segment = mailchimp.fetch_segment_members(client, audience_id, target.segment_id)
        on_segment |= _tagged(members, target.segment_id)
    rejects = ledger.rejects(home, connection["account_id"], audience_id)
    excluded = {str(r): int(n) for r, n in people["reason"].value_counts().items() if r != "exportable"}
    warning = audience.id_warning(project, people)
    return Plan(project["project_id"], cohort, len(people), target, connection["new_contacts"],
                plan_people(people, members, on_segment, rejects), excluded, (warning,) if warning else (), as_of)


def _tagged(members: pd.DataFrame, segment_id: int) -> dict[str, str]:
    """People whose own record carries the tag: pending ones do not show on the segment itself."""
    ours = members["tags"].map(lambda tags: segment_id in tags).astype(bool)
    tagged = members[ours & (members["status"] == "pending")]
    return dict(zip(tagged["member_hash"], tagged["address"], strict=True))


def _mirror(home: Path, client: Client, audience_id: str) -> pd.DataFrame:
    """Every member with their status, the archived by a read of their own; kept for looking at afterwards."""
    standing = [mailchimp.fetch_members(client, audience_id), mailchimp.fetch_members(client, audience_id, "archived")]
    members = pd.concat([frame for frame in standing if len(frame)] or standing[:1], ignore_index=True)
    folder = config.private_folder(home / "audiences" / audience_id)
    kept = members.assign(tags=members["tags"].map(json.dumps).astype("str"), audience_id=audience_id)
    config.write_private(folder / "members.parquet", kept.astype("str").to_parquet(index=False))
    return members


def _target(home: Path, connection: dict[str, Any], client: Client, project: dict[str, Any], cohort: str,
            audience_id: str) -> Target:
    name = mailchimp.fetch_audience_name(client, audience_id)
    segments = mailchimp.fetch_segments(client, audience_id)
    key = (connection["account_id"], audience_id, project["project_id"], cohort)
    kept, others = ledger.segment(home, *key), ledger.segments_of_others(home, *key)
    wished = client.settings.segment_prefix + _within_workspace(home, project, cohort)
    segment_id, segment_name = _own_segment(segments, kept, wished, others)
    if segment_id is not None and kept and kept["segment_id"] is None:
        if mailchimp.fetch_segment_members(client, audience_id, segment_id):
            raise _taken(segment_name, segment_id)
        ledger.record_segment(home, {**kept, "segment_id": segment_id})
    return Target(connection["account_id"], connection["account_name"], audience_id, name,
                  bool(connection["rehearsal"]), segment_id, segment_name)


def _within_workspace(home: Path, project: dict[str, Any], cohort: str) -> str:
    """A cohort's name, with the project's before it in all projects but the workspace's first: names may recur."""
    first = min(ledger.projects(home), key=lambda row: (row["created_at"], row["project_id"]))
    return cohort if project["project_id"] == first["project_id"] else f"{project['project_id']}_{cohort}"


def _own_segment(segments: Sequence[dict[str, Any]], kept: dict[str, Any] | None, wished: str,
                 others: Set[int] = frozenset()) -> tuple[int | None, str]:
    """Our segment's id and present name; no id when it is still to be made, or was deleted in Mailchimp.

    A making that was never answered is recognised by its name, which was free when it was sent; the caller
    sees to it that nobody is on it yet. ``others``: segments of other cohorts, which are never ours.
    """
    present = {s["segment_id"]: s["name"] for s in segments}
    if kept and kept["segment_id"] in present:
        return kept["segment_id"], present[kept["segment_id"]]
    same_name = [i for i, name in present.items() if name == wished]
    if kept and kept["segment_id"] is None and len(same_name) == 1 and not others & set(same_name):
        return same_name[0], wished
    if same_name:
        raise _taken(wished, same_name[0])
    return None, wished


def _taken(name: str, segment_id: int) -> UnsafePlan:
    return UnsafePlan(f"The audience already has a segment named {name} (id {segment_id}) that cohortsync did not "
                      "make for this cohort. Rename it in Mailchimp, or choose other names with "
                      "COHORTSYNC_SEGMENT_PREFIX.")


# applying

def apply(home: Path, approved: Plan, force: bool = False, progress: Progress = silent) -> dict[str, Any]:
    """Do what an approved plan says, planned again from fresh reads, and prove it; answers the run's receipt.

    Refuses (UnsafePlan) when more changes became due since the approval.
    """
    return export(home, approved.cohort, approved.target.audience_id, project_id=approved.project_id, force=force,
                  progress=progress, review=lambda fresh: check_unchanged(approved, fresh))


def export(home: Path, cohort: str, audience_id: str, *, project_id: str | None = None, dry_run: bool = False,
           force: bool = False, review: Callable[[Plan], None] = lambda _plan: None,
           progress: Progress = silent) -> dict[str, Any]:
    """Plan, have it reviewed, apply, prove. Answers the receipt.

    ``{"run_id", "status", "added", "kept", "removed", "refused", "requests", "accounted", …}``; added + kept +
    refused = exportable; accounted = ids of the cohort with a proven outcome. ``review`` is shown the plan
    before anything is written, and raises to stop.
    """
    with _connected(home) as (connection, client), _lease(connection):
        ledger.close_interrupted_runs(home, connection["account_id"])
        project = required_project(home, project_id)
        if not dry_run:
            access.require_exporter(home, project["project_id"], bool(connection["rehearsal"]))
        fresh = _plan(home, connection, client, project, cohort, audience_id, progress)
        run = _Run(home, client, fresh, progress)
        review(fresh)
        if dry_run:
            return run.finish("planned")
        if not force:
            check_guards(fresh)
        return run.apply(lambda: _plan(home, connection, client, project, cohort, audience_id, silent))


@contextmanager
def _lease(connection: dict[str, Any]) -> Iterator[None]:
    """One sync at a time per account and user of this machine; the kernel frees it with the process."""
    folder = config.state_folder("leases")
    name = hashlib.sha256(f"{connection['host']}|{connection['account_id']}".encode()).hexdigest()[:20]
    with (folder / f"{name}.lock").open("a+") as file:
        try:
            portalocker.lock(file, portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING)
        except portalocker.LockException:
            raise ApiTransient(f"Another sync with {connection['account_name']} is at work on this machine. "
                               "Wait until it has finished.") from None
        yield


@dataclass
class _Run:
    """One recorded execution: what is sent, what Mailchimp said of whom, and what was proven."""

    home: Path
    client: Client
    plan: Plan
    progress: Progress
    run_id: str = field(default_factory=lambda: f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}")
    started_at: str = field(default_factory=ledger.now)
    refused: dict[str, str] = field(default_factory=dict)
    sent: int = 0
    unanswered: int = 0
    segment_made: bool = False

    @property
    def settings(self) -> Settings:
        return self.client.settings

    @property
    def audience_id(self) -> str:
        return self.plan.target.audience_id

    def apply(self, plan_again: Callable[[], Plan]) -> dict[str, Any]:
        """Send until everything was answered, at most three rounds, then prove."""
        self._write("plan.parquet", self.plan.people)
        self._record("applying", self._receipt("applying"))
        first = self.plan
        try:
            for _ in range(ROUNDS):
                self._send_round()
                if not self.unanswered:
                    break
                self._settle()
                self.plan = plan_again()
                check_unchanged(first, self.plan)
            return self._prove(first)
        except CohortsyncError as error:
            self._record("failed", self._receipt("failed", error=str(error)))
            raise

    def _settle(self) -> None:
        """Wait until the server must have finished what it never answered."""
        self.progress("Waiting for unanswered requests to end", 0, 1)
        sleep(self.settings.settle_seconds)

    def _send_round(self) -> None:
        self.unanswered = 0
        target = self._segment()
        people = self.plan.people
        late = self._subscribe(target, people[people["word"] == "add_new"])
        existing = people.loc[people["word"] == "add_existing", "address"].tolist()
        leavers = people.loc[people["word"] == "remove", "address"].tolist()
        self._move(target, existing + late, leavers)

    def _segment(self) -> Target:
        """The cohort's own segment, made first where it is missing, its id stored at once."""
        target = self.plan.target
        if target.segment_id is not None:
            return target
        row = {"account_id": target.account_id, "audience_id": target.audience_id, "segment_id": None,
               "project_id": self.plan.project_id, "cohort": self.plan.cohort, "name": target.segment_name}
        ledger.record_segment(self.home, row)
        try:
            made = self.client.send(mailchimp.build_segment(target.audience_id, target.segment_name))
        except ApiFinal:
            ledger.forget_segment(self.home, target.account_id, target.audience_id, self.plan.project_id,
                                  self.plan.cohort)
            raise
        ledger.record_segment(self.home, {**row, "segment_id": int(made["id"])})
        self.plan = replace(self.plan, target=replace(target, segment_id=int(made["id"])))
        self.segment_made = True
        return self.plan.target

    def _subscribe(self, target: Target, new: pd.DataFrame) -> list[str]:
        """Batch subscribe who is new; answers the addresses that came in without our tag."""
        tags = mailchimp.fetch_merge_tags(self.client, self.audience_id) if len(new) else set()
        unique = len(new) == 0 or self._name_is_unique(target)
        late: list[str] = []
        for start in range(0, len(new), CHUNK):
            chunk = new.iloc[start:start + CHUNK]
            self.progress("Adding new people", start, len(new))
            request = mailchimp.build_batch_subscribe(
                self.audience_id, [_contact(person, tags) for _, person in chunk.iterrows()],
                self.plan.new_contacts, target.segment_name if unique else None)
            if (answer := self._send("subscribe", len(chunk), request)) is not None:
                late += self._accept(mailchimp.parse_batch_subscribe(answer), target)
        return late

    def _accept(self, answer: mailchimp.Subscribed, target: Target) -> list[str]:
        """Hold an answer against what was asked; stop for good if anyone's status was touched."""
        wrong = [m for m in answer.created if m.get("status") != self.plan.new_contacts]
        if answer.updated or wrong:
            raise UnsafePlan(f"Mailchimp changed {len(answer.updated)} contacts that were there already and gave "
                             f"{len(wrong)} new ones another status than {self.plan.new_contacts}. Stopped; nothing "
                             "more was sent. Look at the audience before you sync again.")
        self.refused |= {h: reason for h, reason in answer.errors.items() if reason != "exists"}
        return [m["email_address"] for m in answer.created
                if target.segment_id not in [tag["id"] for tag in m.get("tags", [])]]

    def _name_is_unique(self, target: Target) -> bool:
        if self.segment_made:
            return True
        segments = mailchimp.fetch_segments(self.client, self.audience_id)
        return [s["name"] for s in segments].count(target.segment_name) == 1

    def _move(self, target: Target, joiners: list[str], leavers: list[str]) -> None:
        """Put people on the segment and take others off it, 500 of each in one request."""
        nobody: list[str] = []
        chunks = list(zip_longest(_chunks(joiners), _chunks(leavers), fillvalue=nobody))
        for number, (add, remove) in enumerate(chunks):
            self.progress("Updating the segment", number, len(chunks))
            self._move_chunk(target, add, remove)

    def _move_chunk(self, target: Target, add: list[str], remove: list[str]) -> None:
        assert target.segment_id is not None
        try:
            self._send("segment", len(add) + len(remove), mailchimp.build_segment_update(
                self.audience_id, target.segment_id, add, remove))
        except ApiFinal as error:
            if not mailchimp.nobody_on_list(error):
                raise
            if add and remove:
                self._move_chunk(target, [], remove)

    def _send(self, kind: str, people: int, request: mailchimp.Request) -> dict[str, Any] | None:
        """Send one chunk, recorded before and after; None when no answer came."""
        self.sent += 1
        number = self.sent
        ledger.record_sent(self.home, self.run_id, number, kind, people)
        try:
            answer = self.client.send(request)
        except mailchimp.Unanswered:
            self.unanswered += 1
            return None
        except ApiFinal as error:
            ledger.record_answered(self.home, self.run_id, number, f"refused {error.status}")
            raise
        ledger.record_answered(self.home, self.run_id, number, "answered")
        return answer

    def _prove(self, first: Plan) -> dict[str, Any]:
        """Read the segment back and give every id of the cohort its outcome."""
        self.progress("Reading back", 0, 1)
        outcome = self._outcomes(first)
        self._write("outcome.parquet", outcome)
        lasting = {h: r for h, r in self.refused.items() if r != "merge_fields_refused"}
        ledger.record_rejects(self.home, first.target.account_id, self.audience_id, lasting,
                              self.settings.reject_days)
        found = outcome["outcome"].value_counts()
        counts = {word: int(found.get(word, 0)) for word in ("added", "kept", "removed", "refused")}
        proven = counts["added"] + counts["kept"] + counts["refused"] + sum(first.excluded.values())
        complete = proven == first.size and not int(found.get("unproven", 0))
        reasons = outcome.loc[outcome["outcome"] == "refused", "reason"].value_counts()
        return self.finish("completed" if complete else "incomplete", counts, accounted=proven,
                           refusals={str(k): int(v) for k, v in reasons.items()},
                           awaiting_confirmation=int((outcome["reason"] == "awaiting_confirmation").sum()))

    def _outcomes(self, first: Plan) -> pd.DataFrame:
        """``first.people`` with ``outcome`` (added, kept, removed, refused, unproven) and its reason."""
        target = self.plan.target
        people = first.people.copy()
        on_segment, pending = set(people.loc[people["in_segment"], "member_hash"]), set()
        if self.sent:
            assert target.segment_id is not None
            on_segment = set(mailchimp.fetch_segment_members(self.client, self.audience_id, target.segment_id))
            if first.new_contacts == "pending" or (people["status"] == "pending").any():
                waiting = mailchimp.fetch_members(self.client, self.audience_id, "pending")
                pending = set(_tagged(waiting, target.segment_id))
        there = people["member_hash"].isin(on_segment | pending)
        refused = people["member_hash"].isin(list(self.refused)) & ~there
        add = people["word"].isin(["add_new", "add_existing"])
        people["outcome"] = pd.Series("unproven", index=people.index).mask(
            add & there, "added").mask((people["word"] == "keep") & there, "kept").mask(
            (people["word"] == "remove") & ~there, "removed").mask((people["word"] == "refuse") | refused, "refused")
        people.loc[refused, "reason"] = people.loc[refused, "member_hash"].map(self.refused)
        people.loc[people["member_hash"].isin(pending - on_segment), "reason"] = "awaiting_confirmation"
        people.loc[(people["word"] == "refuse") & people["in_segment"], "reason"] += ", in_segment_not_mailable"
        return people

    def finish(self, status: str, counts: dict[str, int] | None = None, accounted: int = 0,
               **more: Any) -> dict[str, Any]:
        planned = self.plan.counts
        counts = counts or {"added": planned["add_new"] + planned["add_existing"], "kept": planned["keep"],
                            "removed": planned["remove"], "refused": planned["refuse"]}
        if status == "planned":
            self._write("plan.parquet", self.plan.people)
        receipt = self._receipt(status, **counts, accounted=accounted, **more)
        self._record(status, receipt)
        self._write_text("receipt.json", json.dumps(receipt, indent=2))
        return receipt

    def _receipt(self, status: str, **more: Any) -> dict[str, Any]:
        """What a run leaves behind: counts and names of places, never an address."""
        target = self.plan.target
        base = {"run_id": self.run_id, "status": status, "added": 0, "kept": 0, "removed": 0, "refused": 0,
                "requests": self.client.made, "accounted": 0}
        place = {"project_id": self.plan.project_id, "cohort": self.plan.cohort, "size": self.plan.size,
                 "excluded": dict(self.plan.excluded), "audience_id": target.audience_id,
                 "target": str(target), "segment_id": target.segment_id, "writes": self.sent + self.segment_made}
        return {**base, **place, **more}

    def _record(self, status: str, receipt: dict[str, Any]) -> None:
        target = self.plan.target
        ledger.record_run(self.home, {
            "run_id": self.run_id, "project_id": self.plan.project_id, "cohort": self.plan.cohort,
            "account_id": target.account_id, "audience_id": target.audience_id,
            "audience_name": target.audience_name, "rehearsal": int(target.rehearsal), "status": status,
            "started_at": self.started_at, "finished_at": None if status == "applying" else ledger.now(),
            "receipt": receipt})

    def _folder(self) -> Path:
        return config.private_folder(self.home / "runs" / self.run_id)

    def _write(self, name: str, frame: pd.DataFrame) -> None:
        config.write_private(self._folder() / name, frame.to_parquet(index=False))

    def _write_text(self, name: str, text: str) -> None:
        config.write_private(self._folder() / name, text)


def _chunks(items: list[str]) -> list[list[str]]:
    return [items[start:start + CHUNK] for start in range(0, len(items), CHUNK)]


def _contact(person: pd.Series, tags: set[str]) -> dict[str, Any]:
    """A new person as Mailchimp takes it: the address and the names the audience has fields for."""
    names = {"FNAME": person["first_name"], "LNAME": person["last_name"]}
    return {"address": person["address"],
            "merge_fields": {tag: name for tag, name in names.items() if tag in tags and isinstance(name, str)}}


def outcome(home: Path, run_id: str) -> pd.DataFrame:
    """What became of each person in a run: addresses masked, one row a person."""
    if not re.fullmatch(r"[0-9TZ]+-[0-9a-f]+", run_id):
        raise BadInput(f"{run_id!r} is not a run's id. List them: cohortsync runs")
    folder = home / "runs" / run_id
    file = next((folder / name for name in ("outcome.parquet", "plan.parquet") if os.path.exists(folder / name)), None)
    if file is None:
        raise BadInput(f"Run {run_id} left no table of people (it never got that far, or was cleared).")
    return shown(pd.read_parquet(file))
