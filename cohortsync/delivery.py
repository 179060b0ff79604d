"""A plan sent to Mailchimp in chunks of 500, each noted before it leaves and after it was answered.

No request here ever changes the subscription status of a contact that is already in the audience.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pandas as pd

from cohortsync import ledger, mailchimp, segment
from cohortsync.errors import ApiFinal, UnsafePlan
from cohortsync.mailchimp import CHUNK, Client
from cohortsync.plan import Plan
from cohortsync.sources import Progress


@dataclass
class Delivery:
    """What one run sent: how many chunks, how many without an answer, and whom Mailchimp refused (hash → reason)."""

    home: Path
    client: Client
    run_id: str
    progress: Progress
    refused: dict[str, str] = field(default_factory=dict)
    sent: int = 0
    unanswered: int = 0
    segment_made: bool = False

    @property
    def writes(self) -> int:
        return self.sent + self.segment_made

    def send(self, plan: Plan) -> Plan:
        """Send what the plan says; answers it with its segment. ``unanswered`` says whether it must be made again."""
        self.unanswered = 0
        if plan.target.segment_id is None:
            plan = segment.make(self.home, self.client, plan)
            self.segment_made = True
        people = plan.people
        late = self._subscribe(plan, people[people["word"] == "add_new"])
        existing = people.loc[people["word"] == "add_existing", "address"].tolist()
        leavers = people.loc[people["word"] == "remove", "address"].tolist()
        self._move(plan, existing + late, leavers)
        return plan

    def _subscribe(self, plan: Plan, new: pd.DataFrame) -> list[str]:
        """Batch subscribe who is new; answers the addresses that came in without our tag."""
        if new.empty:
            return []
        audience_id = plan.target.audience_id
        fields = mailchimp.fetch_merge_tags(self.client, audience_id)
        unique = self.segment_made or segment.name_is_unique(self.client, plan.target)
        late: list[str] = []
        for start in range(0, len(new), CHUNK):
            chunk = new.iloc[start:start + CHUNK]
            self.progress("Adding new people", start, len(new))
            request = mailchimp.build_batch_subscribe(
                audience_id, [_contact(person, fields) for _, person in chunk.iterrows()],
                plan.new_contacts, plan.target.segment_name if unique else None)
            if (answer := self._send_chunk("subscribe", len(chunk), request)) is not None:
                late += self._accept(mailchimp.parse_batch_subscribe(answer), plan)
        return late

    def _accept(self, answer: mailchimp.Subscribed, plan: Plan) -> list[str]:
        """Hold an answer against what was asked; stop for good if anyone's status was touched."""
        wrong = [m for m in answer.created if m.get("status") != plan.new_contacts]
        if answer.updated or wrong:
            raise UnsafePlan(f"Mailchimp changed {len(answer.updated)} contacts that were there already and gave "
                             f"{len(wrong)} new ones another status than {plan.new_contacts}. Stopped; nothing "
                             "more was sent. Look at the audience before you sync again.")
        self.refused |= {h: reason for h, reason in answer.errors.items() if reason != "exists"}
        return [m["email_address"] for m in answer.created
                if plan.target.segment_id not in [tag["id"] for tag in m.get("tags", [])]]

    def _move(self, plan: Plan, joiners: list[str], leavers: list[str]) -> None:
        """Put people on the segment and take others off it, 500 of each in one request."""
        nobody: list[str] = []
        chunks = list(zip_longest(_chunks(joiners), _chunks(leavers), fillvalue=nobody))
        for number, (add, remove) in enumerate(chunks):
            self.progress("Updating the segment", number, len(chunks))
            self._move_chunk(plan, add, remove)

    def _move_chunk(self, plan: Plan, add: list[str], remove: list[str]) -> None:
        assert plan.target.segment_id is not None
        try:
            self._send_chunk("segment", len(add) + len(remove), mailchimp.build_segment_update(
                plan.target.audience_id, plan.target.segment_id, add, remove))
        except ApiFinal as error:
            if not mailchimp.nobody_on_list(error):
                raise
            if add and remove:
                self._move_chunk(plan, [], remove)

    def _send_chunk(self, kind: str, people: int, request: mailchimp.Request) -> dict[str, Any] | None:
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


def _chunks(items: list[str]) -> Iterator[list[str]]:
    return (items[start:start + CHUNK] for start in range(0, len(items), CHUNK))


def _contact(person: pd.Series, fields: set[str]) -> dict[str, Any]:
    """A new person as Mailchimp takes it: the address and the names the audience has fields for."""
    names = {"FNAME": person["first_name"], "LNAME": person["last_name"]}
    return {"address": person["address"],
            "merge_fields": {tag: name for tag, name in names.items() if tag in fields and isinstance(name, str)}}
