"""A plan sent to Mailchimp in chunks of 500, each noted before it leaves and after it was answered.

No request here ever changes the subscription status of a contact that is already in the audience.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from itertools import zip_longest
from math import inf
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import pandas as pd

from cohortsync import fields, ledger, mailchimp, mirror, segment
from cohortsync.errors import ApiFinal, UnsafePlan
from cohortsync.mailchimp import CHUNK, Client, Subscribed
from cohortsync.plan import Plan, Target
from cohortsync.sources import Progress

LOOK_SECONDS = 10  # how old a look for the archived may be when people are sent
T = TypeVar("T")


@dataclass
class Delivery:
    """What one run sent: the kind of each chunk, how many had no answer, and whom Mailchimp refused (hash → reason).

    ``sent`` begins with what the run had sent before, if it was cut short; ``fields_refused``: hash → Mailchimp's words
    about the merge fields of someone who is there.
    """

    home: Path
    client: Client
    run_id: str
    progress: Progress
    sent: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    unanswered: int = 0
    segment_made: bool = False
    tagging: bool = True
    fields_made: int = 0
    fields_refused: dict[str, str] = field(default_factory=dict)
    archived: set[str] = field(default_factory=set)
    looked_at: float = -inf  # for the archived, by the monotonic clock
    _numbers: threading.Lock = field(default_factory=threading.Lock)
    _looking: threading.Lock = field(default_factory=threading.Lock)

    @property
    def writes(self) -> int:
        """Requests that wrote who is in the audience and on the segment; ``field_writes`` are beside them."""
        return len(self.sent) - self.sent.count("fields") + self.segment_made

    @property
    def field_writes(self) -> int:
        return self.sent.count("fields") + self.fields_made

    def secure_segment(self, plan: Plan) -> Plan:
        """The plan with the cohort's own segment, made first where it is missing."""
        self.segment_made |= plan.target.segment_id is None
        return segment.secure(self.home, self.client, plan)

    def send(self, plan: Plan) -> None:
        """Send what the plan says; ``unanswered`` then says whether to look again."""
        self.unanswered = 0
        people = plan.people
        late = self._subscribe(plan, people[people["word"] == "add_new"])
        existing = people.loc[people["word"] == "add_existing", "address"].tolist()
        leavers = [*people.loc[people["word"] == "remove", "address"], *people["old_address"].dropna()]
        self._move(plan.target, existing + late, leavers)
        if plan.patches:
            self._patch(plan.target, people[people["fields_differ"]])

    def make_fields(self, plan: Plan) -> None:
        """Make the merge fields that the plan needs and the audience lacks."""
        there = self._tags(plan)
        for tag, kind in plan.new_fields.items():
            if tag not in there:
                self._make_field(plan, tag, kind)

    def _make_field(self, plan: Plan, tag: str, kind: str) -> None:
        """Mailchimp says no to a field that a try before has made, though that one was answered with an error."""
        try:
            self.client.send(mailchimp.build_merge_field(plan.target.audience_id, tag, kind))
        except ApiFinal:
            if tag not in self._tags(plan):
                raise
        self.fields_made += 1

    def _tags(self, plan: Plan) -> set[str]:
        return {row["tag"] for row in mailchimp.fetch_merge_fields(self.client, plan.target.audience_id)}

    def _patch(self, target: Target, people: pd.DataFrame) -> None:
        """Write the merge fields of people who are there already, one request each."""
        people = people[~people["member_hash"].isin(list(self.fields_refused))]
        parts = list(zip(people["member_hash"], fields.contacts(people), strict=True))
        self._at_once("Writing merge fields", lambda part: self._patch_one(target, *part), parts)

    def _patch_one(self, target: Target, member_hash: str, contact: dict[str, Any]) -> None:
        try:
            self._send_chunk("fields", 1, mailchimp.build_fields_update(
                target.audience_id, member_hash, contact["merge_fields"]))
        except ApiFinal as error:
            if error.status not in (400, 404):
                raise
            self.fields_refused[member_hash] = error.detail

    def _subscribe(self, plan: Plan, new: pd.DataFrame) -> list[str]:
        """Batch subscribe who is new; answers who came in without our tag.

        The first chunk goes alone: what it does to people is looked at before the others leave.
        """
        if new.empty:
            return []
        self.tagging, self.looked_at = plan.target.unique, -inf
        parts = [new.iloc[start:start + CHUNK] for start in range(0, len(new), CHUNK)]
        late = [self._subscribe_chunk(plan, part) for part in parts[:1]]
        self.tagging &= not any(late)
        if self.unanswered:  # nobody has seen yet what it did to people; the next round goes on
            return late[0]
        late += self._at_once("Adding new people", lambda part: self._subscribe_chunk(plan, part), parts[1:])
        return [address for some in late for address in some]

    def _subscribe_chunk(self, plan: Plan, people: pd.DataFrame) -> list[str]:
        people = self._without_archived(plan.target, people)
        if people.empty:
            return []
        tag = plan.target.segment_name if self.tagging else None
        request = mailchimp.build_batch_subscribe(plan.target.audience_id, fields.contacts(people),
                                                  plan.new_contacts, tag)
        answer = self._send_chunk("subscribe", len(people), request,
                                  lambda: self._require_none_archived(plan.target, people))
        return [] if answer is None else self._accept(mailchimp.parse_batch_subscribe(answer), plan)

    def _without_archived(self, target: Target, people: pd.DataFrame) -> pd.DataFrame:
        """Who may be sent: none who was archived meanwhile, by a look that is no older than some seconds."""
        gone = self._archived(target, monotonic() - LOOK_SECONDS).intersection(people["member_hash"])
        self.refused |= dict.fromkeys(gone, "archived")
        return people[~people["member_hash"].isin(list(gone))]

    def _require_none_archived(self, target: Target, people: pd.DataFrame) -> None:
        """Give a chunk up, to be planned anew, when someone of it was archived between two tries."""
        if not self._archived(target, monotonic()).isdisjoint(people["member_hash"]):
            raise mailchimp.Unanswered("Someone was archived between two tries. Sync again: they are left out.")

    def _archived(self, target: Target, oldest: float) -> set[str]:
        """Hashes of the archived, by a look that began at that moment of the monotonic clock or later."""
        with self._looking:
            if self.looked_at < oldest:
                self.looked_at, self.archived = monotonic(), mirror.archived(self.home, self.client, target.audience_id)
            return self.archived

    def _accept(self, answer: Subscribed, plan: Plan) -> list[str]:
        """Hold an answer against what was asked: who came in without our tag.

        Raises UnsafePlan, and the run stops for good, if anyone's status was touched.
        """
        wrong = [m for m in answer.created if m.get("status") != plan.new_contacts]
        if answer.updated or wrong:
            raise UnsafePlan(f"Mailchimp changed {len(answer.updated)} contacts that were there already and gave "
                             f"{len(wrong)} new ones another status than {plan.new_contacts}. Stopped; nothing "
                             "more was sent. Look at the audience before you sync again.", guard="canary",
                             numbers={"changed": len(answer.updated), "wrong_status": len(wrong)}, run_id=self.run_id)
        self.refused |= {h: reason for h, reason in answer.errors.items() if reason != "exists"}
        return [m["email_address"] for m in answer.created
                if plan.target.segment_id not in [tag["id"] for tag in m.get("tags", [])]]

    def _move(self, target: Target, joiners: list[str], leavers: list[str]) -> None:
        """Put people on the segment and take others off it, 500 of each in one request."""
        nobody: list[str] = []
        parts = list(zip_longest(_chunks(joiners), _chunks(leavers), fillvalue=nobody))
        self._at_once("Updating the segment", lambda part: self._move_chunk(target, *part), parts)

    def _move_chunk(self, target: Target, add: list[str], remove: list[str]) -> None:
        assert target.segment_id is not None
        try:
            self._send_chunk("segment", len(add) + len(remove), mailchimp.build_segment_update(
                target.audience_id, target.segment_id, add, remove))
        except ApiFinal as error:
            if not mailchimp.nobody_on_list(error):
                raise
            if add and remove:
                self._move_chunk(target, [], remove)

    def _at_once(self, doing: str, work: Callable[[Any], T], parts: Sequence[Any]) -> list[T]:
        """The work on each part, as many at a time as there are connections; the first error stops the rest."""
        with ThreadPoolExecutor(self.client.slots) as pool:
            waiting = [pool.submit(work, part) for part in parts]
            try:
                for number, done in enumerate(as_completed(waiting)):
                    done.result()
                    self.progress(doing, number + 1, len(parts))
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        return [each.result() for each in waiting]

    def _send_chunk(self, kind: str, people: int, request: mailchimp.Request,
                    again: Callable[[], None] = lambda: None) -> dict[str, Any] | None:
        """Send one chunk, recorded before and after; None when no answer came.

        ``again``: called before every try but the first; raises Unanswered to give the chunk up.
        """
        with self._numbers:
            self.sent.append(kind)
            number = len(self.sent)

        def note(which_try: int) -> None:
            if which_try > 1:
                again()
            ledger.record_sent(self.home, self.run_id, number, kind, people)

        try:
            answer = self.client.send(request, note)
        except mailchimp.Unanswered:
            with self._numbers:
                self.unanswered += 1
            return None
        except ApiFinal as error:
            ledger.record_answered(self.home, self.run_id, number, f"refused {error.status}")
            raise
        ledger.record_answered(self.home, self.run_id, number, "answered")
        return answer


def _chunks(items: list[str]) -> list[list[str]]:
    return [items[start:start + CHUNK] for start in range(0, len(items), CHUNK)]
