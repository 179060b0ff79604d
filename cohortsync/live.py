"""Whether a real Mailchimp behaves as a sync takes it to: every such behaviour tried once, on a throwaway audience.

Each is tried on contacts and segments made for it alone, which are archived and deleted in the end. Contacts are
plus-addresses of one mailbox; nobody else is touched. What was never confirmed so: docs/check-live.md.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from time import sleep
from typing import Any

import pandas as pd

from cohortsync import emails, lease, mailchimp
from cohortsync.account import connected
from cohortsync.errors import ApiFinal, BadInput, CohortsyncError
from cohortsync.mailchimp import CHUNK, Client, Request
from cohortsync.sources import Progress, silent

MOST_CONTACTS = 50
A_SECOND = 1.1  # Mailchimp's instants are whole seconds
Json = dict[str, Any]


@dataclass
class Audience:
    """The throwaway audience, and what was made in it."""

    client: Client
    audience_id: str
    mailbox: str
    mark: str = field(default_factory=lambda: secrets.token_hex(3))
    people: list[str] = field(default_factory=list)
    segments: list[int] = field(default_factory=list)

    def address(self) -> str:
        """A plus-address that nobody has used."""
        name, _, domain = self.mailbox.partition("@")
        self.people.append(f"{name}+cohortsync-{self.mark}-{len(self.people)}@{domain}")
        return self.people[-1]

    def person(self, status: str = "subscribed") -> str:
        """Someone new in a status."""
        address = self.address()
        if status == "pending":
            self.batch([address], "pending")
            return address
        self.batch([address])
        if status == "unsubscribed":
            self.member("PATCH", address, {"status": "unsubscribed"})
        if status == "archived":
            self.member("DELETE", address)
        return address

    def segment(self, name: str = "") -> tuple[int, str]:
        """A new segment's id and name."""
        name = name or f"cohortsync-check-{self.mark}-{len(self.segments)}"
        self.segments.append(int(self.client.send(mailchimp.build_segment(self.audience_id, name))["id"]))
        return self.segments[-1], name

    def batch(self, addresses: list[str], status: str = "subscribed", tag: str | None = None,
              fields: Json | None = None) -> Json:
        people = [{"address": address, "merge_fields": fields or {}} for address in addresses]
        return self.client.send(mailchimp.build_batch_subscribe(self.audience_id, people, status, tag))

    def move(self, segment_id: int, add: list[str], remove: list[str]) -> Json:
        return self.client.send(mailchimp.build_segment_update(self.audience_id, segment_id, add, remove))

    def member(self, method: str, address: str, body: Json | None = None) -> Json:
        path = f"{mailchimp.audience_path(self.audience_id)}/members/{emails.member_hash(address)}"
        return self.client.send(Request(method, path, body=body))

    def status(self, address: str) -> str:
        return str(self.member("GET", address)["status"])

    def wears(self, address: str, segment_id: int) -> bool:
        return segment_id in [tag["id"] for tag in self.member("GET", address)["tags"]]

    def lists(self, segment_id: int, address: str) -> bool:
        """Whether a segment's listing has someone."""
        listed = mailchimp.fetch_segment_members(self.client, self.audience_id, segment_id)
        return emails.member_hash(address) in set(listed["member_hash"])

    def changed_since(self, address: str, since: str, status: str | None = None) -> bool:
        found = mailchimp.fetch_members(self.client, self.audience_id, status, since)
        return emails.member_hash(address) in set(found["member_hash"])

    def now(self) -> str:
        """What time it is there, from a second ago on."""
        self.client.send(Request("GET", "/ping"))
        if not self.client.dated:
            raise LookupError("The answer carries no Date.")
        return (self.client.dated - timedelta(seconds=1)).isoformat()

    def clear(self) -> None:
        """Archive who was made, delete the segments that were; what cannot be taken back stays."""
        path = mailchimp.audience_path(self.audience_id)
        for address in self.people:
            self._if_possible(lambda address=address: self.member("DELETE", address))
        for segment_id in self.segments:
            self._if_possible(lambda it=segment_id: self.client.send(Request("DELETE", f"{path}/segments/{it}")))

    def _if_possible(self, act: Callable[..., Any]) -> None:
        try:
            act()
        except CohortsyncError:
            return


def new_people_get_the_status_asked(there: Audience) -> bool:
    return there.batch([there.address()], "pending")["new_members"][0]["status"] == "pending"


def new_people_get_the_tag(there: Audience) -> bool:
    segment_id, name = there.segment()
    address = there.address()
    there.batch([address], tag=name)
    return there.wears(address, segment_id)


def batch_shows_tags(there: Audience) -> bool:
    segment_id, name = there.segment()
    answer = there.batch([there.address()], tag=name)
    return segment_id in [tag["id"] for tag in answer["new_members"][0]["tags"]]


def batch_leaves_existing_alone(there: Audience) -> bool:
    segment_id, name = there.segment()
    address = there.person("unsubscribed")
    answer = mailchimp.parse_batch_subscribe(there.batch([address], "subscribed", name))
    untouched = there.status(address) == "unsubscribed" and not there.wears(address, segment_id)
    return answer.errors == {emails.member_hash(address): "exists"} and untouched


def batch_brings_archived_back(there: Audience) -> bool:
    address = there.person("archived")
    there.batch([address])
    return there.status(address) == "subscribed"


def batch_refuses_one_by_one(there: Audience) -> bool:
    fake = f"cohortsync-{there.mark}@example.com"
    answer = mailchimp.parse_batch_subscribe(there.batch([fake, there.address()]))
    return answer.errors == {emails.member_hash(fake): "looks_fake"} and len(answer.created) == 1


def unknown_fields_are_ignored(there: Audience) -> bool:
    return len(there.batch([there.address()], fields={"NOFIELD": "x"})["new_members"]) == 1


def fields_leave_the_status(there: Audience) -> bool:
    address = there.person("unsubscribed")
    there.member("PATCH", address, {"merge_fields": {"FNAME": "Checked"}})
    return there.status(address) == "unsubscribed"


def segment_takes_unsubscribed(there: Audience) -> bool:
    segment_id, _ = there.segment()
    address = there.person("unsubscribed")
    there.move(segment_id, [address], [])
    return there.lists(segment_id, address) and there.status(address) == "unsubscribed"


def segment_passes_over_archived(there: Audience) -> bool:
    segment_id, _ = there.segment()
    address = there.person("archived")
    answer = there.move(segment_id, [address, there.person()], [])
    return answer["total_added"] == 1 and there.status(address) == "archived"


def removed_from_segment_stays(there: Audience) -> bool:
    segment_id, _ = there.segment()
    address = there.person()
    there.move(segment_id, [address], [])
    there.move(segment_id, [], [address])
    return not there.lists(segment_id, address) and there.status(address) == "subscribed"


def segment_hides_pending(there: Audience) -> bool:
    segment_id, _ = there.segment()
    address = there.person("pending")
    there.move(segment_id, [address], [])
    return not there.lists(segment_id, address)


def pending_wears_its_tag(there: Audience) -> bool:
    segment_id, _ = there.segment()
    address = there.person("pending")
    there.move(segment_id, [address], [])
    return there.wears(address, segment_id)


def nobody_known_refuses_the_whole(there: Audience) -> bool:
    segment_id, _ = there.segment()
    address = there.person()
    there.move(segment_id, [address], [])
    try:
        there.move(segment_id, [there.address()], [address])
    except ApiFinal as error:
        return mailchimp.nobody_on_list(error) and there.lists(segment_id, address)
    return False


def more_than_500_are_refused(there: Audience) -> bool:
    segment_id, _ = there.segment()
    name, _, domain = there.mailbox.partition("@")
    try:
        there.move(segment_id, [f"{name}+{n}@{domain}" for n in range(CHUNK + 1)], [])
    except ApiFinal as error:
        return error.status == 400 and "at most 500" in error.detail
    return False


def unknown_segment_is_404(there: Audience) -> bool:
    try:
        there.move(1, [there.person()], [])
    except ApiFinal as error:
        return error.status == 404
    return False


def segment_names_may_repeat(there: Audience) -> bool:
    first, name = there.segment()
    try:
        return there.segment(name)[0] != first
    except ApiFinal:
        return False


def tag_goes_to_the_oldest(there: Audience) -> bool:
    first, name = there.segment()
    there.segment(name)
    address = there.address()
    there.batch([address], tag=name)
    return there.wears(address, first)


def changes_since_are_listed(there: Audience) -> bool:
    since = there.now()
    return there.changed_since(there.person(), since)


def archived_since_are_listed(there: Audience) -> bool:
    since = there.now()
    return there.changed_since(there.person("archived"), since, "archived")


def tag_is_no_change(there: Audience) -> bool:
    segment_id, _ = there.segment()
    address = there.person()
    before = there.member("GET", address)["last_changed"]
    sleep(A_SECOND)
    there.move(segment_id, [address], [])
    return bool(there.member("GET", address)["last_changed"] == before)


@dataclass(frozen=True)
class Behaviour:
    """Something that Mailchimp may do or not, what a sync takes it to do, and what it means where it does not."""

    name: str
    assumed: str
    otherwise: str
    holds: Callable[[Audience], bool]


NEEDED = "do not sync: report it"
CAREFUL = "nothing: the sync is only more careful than it need be"
BEHAVIOURS = tuple(Behaviour(holds.__name__, assumed, otherwise, holds) for holds, assumed, otherwise in (
    (new_people_get_the_status_asked, "status_if_new holds in a batch subscribe", NEEDED),
    (new_people_get_the_tag, "a batch's tag puts new people on the segment of its name", "they are put on by call"),
    (batch_shows_tags, "a batch's answer shows the tags just given, with their ids",
     "more requests: new people are put on the segment by call"),
    (batch_leaves_existing_alone, "update_existing: false touches nobody who is there", NEEDED),
    (batch_brings_archived_back, "a batch brings archived people back (they are never sent)", CAREFUL),
    (batch_refuses_one_by_one, "a batch refuses one person and takes the others", "the run fails; report it"),
    (unknown_fields_are_ignored, "a merge field that is none is ignored", "report it"),
    (fields_leave_the_status, "merge fields alone leave the status as it is", "keep updates of fields off"),
    (segment_takes_unsubscribed, "a segment takes and lists unsubscribed people, who stay so", NEEDED),
    (segment_passes_over_archived, "a segment call passes over archived people", NEEDED),
    (removed_from_segment_stays, "who comes off a segment stays in the audience", NEEDED),
    (segment_hides_pending, "a segment's listing hides pending people", CAREFUL),
    (pending_wears_its_tag, "a pending person's record shows the tag", "pending people cannot be proven"),
    (nobody_known_refuses_the_whole, "a segment call that adds only unknown people does nothing at all", CAREFUL),
    (more_than_500_are_refused, "a segment call takes 500 addresses and no more", CAREFUL),
    (unknown_segment_is_404, "a segment that is gone is answered 404", "report it"),
    (segment_names_may_repeat, "two segments may have one name", CAREFUL),
    (tag_goes_to_the_oldest, "of two segments of a name, a batch's tag reaches the older", CAREFUL),
    (changes_since_are_listed, "since_last_changed lists who came since", "the mirror is read in full, daily"),
    (archived_since_are_listed, "status=archived with since_last_changed lists who was archived since",
     "archived people are seen by the read before a batch"),
    (tag_is_no_change, "putting a tag on someone does not move last_changed", CAREFUL),
))


def check(home: Path, audience_id: str, mailbox: str, progress: Progress = silent) -> pd.DataFrame:
    """Try every behaviour: one row each with ``behaviour, verdict, assumed, otherwise, seen``.

    ``verdict``: agrees, differs or unknown (``seen`` says why). ``mailbox``: an address of yours, whose plus-addresses
    the contacts get. Raises BadInput for an audience that is too large to be a throwaway one.
    """
    if not emails.is_valid(mailbox):
        raise BadInput(f"{emails.mask(mailbox)} is no address; name a mailbox of yours with --mailbox.")
    # What a sync never does to people is done here, so it goes by a name of its own.
    with connected(home, app="cohortsync-check") as (connection, client), lease.hold(connection, client.settings):
        if (held := mailchimp.count_members(client, audience_id)) > MOST_CONTACTS:
            raise BadInput(f"The audience holds {held:,} contacts. Use one made for this, with no more than "
                           f"{MOST_CONTACTS}: contacts are added to it, unsubscribed and archived.")
        there = Audience(client, audience_id, mailbox)
        try:
            return pd.DataFrame([_tried(behaviour, there, number, progress)
                                 for number, behaviour in enumerate(BEHAVIOURS)])
        finally:
            progress("Archiving the contacts made", len(BEHAVIOURS), len(BEHAVIOURS))
            there.clear()


def _tried(behaviour: Behaviour, there: Audience, number: int, progress: Progress) -> dict[str, str]:
    progress(f"Trying: {behaviour.assumed}", number, len(BEHAVIOURS))
    seen = ""
    try:
        verdict = "agrees" if behaviour.holds(there) else "differs"
    except (CohortsyncError, LookupError) as error:
        verdict, seen = "unknown", emails.scrub(str(error))
    return {"behaviour": behaviour.name, "verdict": verdict, "assumed": behaviour.assumed,
            "otherwise": behaviour.otherwise, "seen": seen}
