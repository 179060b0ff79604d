"""A plan: what a sync will do to each person, what that takes, and what stops it. Nothing is read or sent here.

Words: ``add_new`` (not in the audience), ``add_existing`` (in it, not on the segment), ``keep`` (on the
segment already), ``refuse`` (must not be added; the reason says why), ``remove`` (on the segment, should not be),
``leave`` (put on the segment by hand, where hand edits are kept).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from cohortsync import emails, tables
from cohortsync.errors import UnsafePlan
from cohortsync.mailchimp import CHUNK
from cohortsync.mtu import Effect

WORDS = ("add_new", "add_existing", "keep", "refuse", "remove")
ADDING = ("add_new", "add_existing")
NOT_MAILABLE = ("unsubscribed", "cleaned", "archived")
OWN_RULES = ("no_consent", "forgotten_here")  # reasons to take someone off the segment, whatever Mailchimp thinks
EXPORT_COLUMNS = ["member_hash", "address", "canonical_id", "edit"]


@dataclass(frozen=True)
class Target:
    """Where a plan would write: the account, the audience, the cohort's own segment (None: not made yet).

    ``unique``: whether a tag of the segment's name can mean no other; ``adopted``: whether it was made by others
    and becomes the cohort's with this plan.
    """

    account_id: str
    account_name: str
    audience_id: str
    audience_name: str
    rehearsal: bool
    segment_id: int | None
    segment_name: str
    unique: bool = True
    adopted: bool = False

    def __str__(self) -> str:
        place = f"{self.account_name} › {self.audience_name} › segment {self.segment_name}"
        return f"LOCAL REHEARSAL · {place}" if self.rehearsal else place


@dataclass(frozen=True)
class Terms:
    """What a sync was asked for beyond who and where.

    ``keep_hand_edits``: leave what people did to the segment in Mailchimp; ``adopt``: take over a segment of the
    wished name that others made; ``consent_property``: only who has it as true, 1 or yes is exported; ``fields``:
    property → merge tag, beside the usual names; ``create_fields``: make those that the audience lacks;
    ``update_fields``: write them for people who are there already, too.
    """

    keep_hand_edits: bool = False
    adopt: bool = False
    consent_property: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    create_fields: bool = False
    update_fields: bool = False

    def __str__(self) -> str:
        """In words; blank for a sync that was asked for nothing more."""
        said = {"hand edits are kept": self.keep_hand_edits, "a segment of others is taken over": self.adopt,
                f"only people whose {self.consent_property} says yes": self.consent_property,
                ", ".join(f"{name} → {tag}" for name, tag in self.fields.items()): self.fields,
                "missing merge fields are made": self.create_fields,
                "merge fields of people who are there are written, too": self.update_fields}
        return " · ".join(words for words, holds in said.items() if holds)


@dataclass(frozen=True)
class Guard:
    """One thing that apply will refuse to do unless told: its ``name``, the ``numbers`` it looked at, its words."""

    name: str
    numbers: Mapping[str, float]
    message: str


@dataclass(frozen=True)
class Plan:
    """One cohort's plan.

    ``people``: one row a person with ``member_hash, address, canonical_id, word, reason, status`` (in the
    audience now), ``in_segment``, ``exportable`` (a user of the cohort),
    ``was_exported`` (on it as the last export left it), ``old_hash, old_address`` (of
    someone whose address changed: comes off the segment with the same line).
    ``excluded``: reason → ids that are not exportable. ``first``: no export was made to the segment yet.
    ``reads``: requests it took to make. ``as_of``: when the Mixpanel data it was made from was published.
    ``people`` also has ``field.<TAG>`` of each merge field sent, and ``fields_differ`` where people who are there get
    them, too. ``new_fields``: tag → type of the merge fields to make first.
    ``undoes``: the run that this plan takes back. ``mtu``: what a campaign to the segment does to the bill; None for
    one that takes a run back.
    ``limits``: the share of the segment and the number of people from which the guards stop a plan.
    """

    project_id: str
    cohort: str
    size: int
    target: Target
    new_contacts: str
    people: pd.DataFrame
    excluded: Mapping[str, int]
    warnings: tuple[str, ...] = ()
    as_of: datetime | None = None
    run_id: str = ""
    terms: Terms = field(default_factory=Terms)
    first: bool = False
    reads: int = 0
    limits: tuple[float, int] = (0.2, 500)
    new_fields: Mapping[str, str] = field(default_factory=dict)
    undoes: str = ""
    mtu: Effect | None = None

    @property
    def counts(self) -> dict[str, int]:
        """People by word."""
        found = self.people["word"].value_counts()
        return {word: int(found.get(word, 0)) for word in WORDS}

    @property
    def address_changed(self) -> int:
        """People whose address changed: their old one comes off the segment."""
        return int(self.people["old_hash"].notna().sum()) if "old_hash" in self.people else 0

    @property
    def additions(self) -> int:
        counts = self.counts
        return counts["add_new"] + counts["add_existing"]

    @property
    def removals(self) -> int:
        return self.counts["remove"] + self.address_changed

    @property
    def changes(self) -> int:
        return self.additions + self.removals

    @property
    def patches(self) -> int:
        """People who are there already and whose merge fields are written, one request each."""
        return int(self.people["fields_differ"].sum()) if "fields_differ" in self.people else 0

    @property
    def new_billed_contacts(self) -> int:
        """Contacts that the audience will hold, and Mailchimp bill, who are not in it now."""
        return self.counts["add_new"]

    @property
    def writes(self) -> int:
        """Requests that will write: full chunks of 500, and one to make the segment."""
        counts = self.counts
        joining = counts["add_existing"] + (0 if self.target.unique else counts["add_new"])
        calls = chunks(counts["add_new"]) + max(chunks(joining), chunks(self.removals))
        return calls + (self.target.segment_id is None)

    @property
    def awaits_pending(self) -> bool:
        """Whether some may have to confirm first: whom the segment does not list, their own record proves."""
        return self.new_contacts == "pending" or bool((self.people.get("status", pd.Series()) == "pending").any())

    @property
    def requests(self) -> dict[str, int]:
        """What applying takes: ``reads``, ``writes``, and beside them the least that 500 a call allows, ``minimum``.

        A call that puts people on the segment takes as many off it. The reads are those of planning once more, and of
        reading back and the archived where something is written.
        """
        counts = self.counts
        minimum = chunks(counts["add_new"]) + max(chunks(counts["add_existing"]), chunks(self.removals))
        after = self.numbers["in_segment"]
        back = max(pages(after), 1) + bool(counts["add_new"]) + self.awaits_pending if self.changes else 0
        return {"reads": self.reads + back, "writes": self.writes, "minimum": minimum,
                "field_writes": self.patches + len(self.new_fields)}

    @property
    def numbers(self) -> dict[str, int]:
        """The three that are never one: ``exportable``, ``in_segment`` and ``mailable`` (subscribed) after the plan."""
        return {"exportable": self.size - sum(self.excluded.values()), "in_segment": int(self._there.sum()),
                "mailable": len(self.mailable)}

    @property
    def _there(self) -> pd.Series:
        """Who is on the segment after the plan."""
        word = self.people["word"]
        return word.isin([*ADDING, "keep", "leave"]) | ((word == "refuse") & self.people.get("in_segment", False))

    @property
    def mailable(self) -> pd.DataFrame:
        """The people whom a campaign to the segment reaches after the plan."""
        people = self.people
        status = people["status"] if "status" in people else pd.Series(None, index=people.index)
        status = status.where(people["word"] != "add_new", self.new_contacts)
        return people[self._there & (status == "subscribed")]

    @property
    def guards(self) -> list[Guard]:
        """What apply will refuse to do unless it is told to."""
        return list(_guards(self))

    @property
    def lines(self) -> list[str]:
        """What a person should read before they approve the plan, beside the counts."""
        numbers, requests = self.numbers, self.requests
        found = [f"Exportable {numbers['exportable']:,} · in the segment afterwards {numbers['in_segment']:,} · "
                 f"mailable {numbers['mailable']:,}.",
                 f"{requests['writes']} requests will write (500 people each: {requests['minimum']} at least), about "
                 f"{requests['reads']} will read. New contacts become: {self.new_contacts}."]
        if said := str(self.terms):
            found.append(f"Terms: {said}.")
        if self.new_billed_contacts:
            found.append(f"{self.new_billed_contacts:,} new contacts, which Mailchimp bills.")
        if self.mtu:
            found.append(str(self.mtu))
        if self.additions:
            found.append("Automations in Mailchimp that start with this tag will start for those added.")
        if requests["field_writes"]:
            found.append(f"{requests['field_writes']:,} more write merge fields: {self.patches:,} of people who are "
                         f"there, {len(self.new_fields)} new fields ({', '.join(self.new_fields) or 'none'}).")
        found += [f"Warning: {warning}" for warning in self.warnings]
        return found + [f"Apply will refuse: {guard.message}" for guard in self.guards]

    def cohort_people(self) -> pd.DataFrame:
        """The exportable users as ``plan_people`` takes them."""
        people = self.people[self.people["exportable"].astype(bool)]
        placed = [name for name in ("word", "status", "in_segment", "was_exported", "old_hash", "old_address",
                                    "exportable", "fields_differ") if name in people]
        return people.assign(consent=people["reason"] != "no_consent", reason="exportable").drop(columns=placed)

    def preview(self) -> pd.DataFrame:
        """``people`` fit to be shown: addresses masked, also where they are ids, names left out."""
        return shown(self.people)[["canonical_id", "email", "old_email", "word", "reason", "status", "was_exported",
                                   "in_segment"]]

    def _repr_html_(self) -> str:
        return tables.table({**self.counts, **self.numbers}, f"{self.cohort} → {self.target}", self.lines)


def shown(people: pd.DataFrame) -> pd.DataFrame:
    """Rows of a plan or an outcome with ``email`` and ``old_email`` masked, names and hashes left out."""
    hidden = [name for name in map(str, people) if name in ("member_hash", "old_hash", "exportable", "fields_differ")
              or name.startswith("field.")]
    frame = emails.masked(people.drop(columns=hidden)).rename(columns={"old_address": "old_email"})
    frame["old_email"] = frame["old_email"].map(emails.mask, na_action="ignore")
    return frame


def chunks(people: int) -> int:
    return -(-people // CHUNK)


def pages(rows: int) -> int:
    return -(-rows // 1000)


def among(keys: pd.Series, others: Iterable[str]) -> pd.Series:
    """Which of these texts are among the others; pandas' own ``isin`` takes ten times as long for text."""
    found = pc.is_in(pa.array(keys, pa.string()), pa.array(others, pa.string()), skip_nulls=True)
    return pd.Series(found.to_numpy(zero_copy_only=False), index=keys.index)


def looked_up(keys: pd.Series, texts: pd.Series) -> pd.Series:
    """The text that stands under each of these keys, missing where none does; ``map`` takes four times as long."""
    places = pc.index_in(pa.array(keys, pa.string()), pa.array(texts.index, pa.string()), skip_nulls=True)
    found = pc.take(pa.array(texts, pa.string()), places)
    return pd.Series(found, index=keys.index, dtype="str")


def _guards(plan: Plan) -> Iterator[Guard]:
    share, people = plan.limits
    now = int(plan.people["in_segment"].sum())
    limit, added, removed = max(share * now, people), plan.additions, plan.removals
    numbers = {"on_segment": now, "added": added, "removed": removed, "limit": limit}
    if now and removed == now and not added:
        yield Guard("empty", numbers, f"The plan takes all {now:,} people off {plan.target}. If the cohort is meant to "
                    "be empty, say so with --force.")
    elif removed > limit:
        yield Guard("remove", numbers, f"The plan takes {removed:,} of {now:,} people off {plan.target}, more than "
                    f"{share:.0%} and more than {people:,}. Look at it with cohortsync plan; then --force if it is "
                    "right.")
    if added > limit and plan.first:
        yield Guard("first", numbers, f"The first sync to {plan.target} adds {added:,} people. If that is right, "
                    f"confirm the number: --confirm {added}.")
    elif added > limit:
        yield Guard("add", numbers, f"The plan adds {added:,} people to the {now:,} on {plan.target}, more than "
                    f"{share:.0%} and more than {people:,}. Look at it with cohortsync plan; then --force if it is "
                    "right.")


def check_guards(plan: Plan, confirm: int | None = None) -> None:
    """Refuse (UnsafePlan, with ``guard`` and ``numbers``) a plan that empties a segment or changes much of it.

    ``confirm``: how many people a first sync is known to add.
    """
    for guard in plan.guards:
        if not (guard.name == "first" and confirm == plan.additions):
            raise UnsafePlan(guard.message, guard=guard.name, numbers=guard.numbers, run_id=plan.run_id)


def check_unchanged(approved: Plan, fresh: Plan) -> None:
    """Refuse a fresh plan that adds or removes anyone whom the approved one did not, or on other terms.

    What has become needless is simply no longer in the fresh plan. Who was in the audience and is not any more would
    be a new contact, which nobody approved.
    """
    if other := [what for what, (before, now) in _terms(approved, fresh).items() if before != now]:
        raise UnsafePlan(f"Since the plan was approved, {' and '.join(other)} changed. Nothing was sent; look at the "
                         f"new plan, {fresh.run_id}, and approve that.", guard="changed", run_id=fresh.run_id)
    more = {key for key, _ in (moves(fresh) | _newcomers(fresh)) - (moves(approved) | _newcomers(approved))}
    if more:
        raise UnsafePlan(f"Since the plan was approved, {len(more):,} more changes became due. Nothing was sent; "
                         f"look at the new plan, {fresh.run_id}, and approve that.", guard="changed",
                         numbers={"more": len(more)}, run_id=fresh.run_id)


def _terms(approved: Plan, fresh: Plan) -> dict[str, tuple[Any, Any]]:
    """What an approval is for beside the people, as it was and as it is.

    A segment that was still to be made may be there by now, and so may merge fields.
    """
    before, now = approved.target, fresh.target
    return {"the account": (before.account_id, now.account_id), "the audience": (before.audience_id, now.audience_id),
            "the segment": (before.segment_id, now.segment_id if before.segment_id is not None else None),
            "what new contacts become": (approved.new_contacts, fresh.new_contacts),
            "the merge fields to make": (approved.new_fields, {**approved.new_fields, **fresh.new_fields})}


def _newcomers(plan: Plan) -> set[tuple[str, str]]:
    return {(key, "new") for key in plan.people.loc[plan.people["word"] == "add_new", "member_hash"]}


def moves(plan: Plan) -> set[tuple[str, str]]:
    """Who is put on the segment and who taken off it: (member hash, add or remove)."""
    people = plan.people
    adding = people.loc[people["word"].isin(ADDING), "member_hash"]
    removing = pd.concat([people.loc[people["word"] == "remove", "member_hash"], people["old_hash"].dropna()])
    return {*((key, "add") for key in adding), *((key, "remove") for key in removing)}


def within(first: Plan, again: Plan) -> Plan:
    """A plan made again while its first is applied, without what the first did not say.

    Whom the first adds and our own rules now bar comes off again.
    """
    people, before = again.people, first.people
    new = before.loc[before["word"] == "add_new", "member_hash"]
    added = before.loc[before["word"].isin(ADDING), "member_hash"]
    staying = before.loc[before["word"].isin([*ADDING, "keep"]), "member_hash"]
    off = [key for key, move in moves(first) if move == "remove"]
    key, word = people["member_hash"], people["word"]
    barred = among(key, added) & people["reason"].isin(OWN_RULES)
    wrong = ((word == "add_new") & ~among(key, new)) | ((word == "add_existing") & ~among(key, staying)) | (
        (word == "remove") & ~among(key, off) & ~barred)
    return replace(again, people=people[~wrong], run_id=first.run_id)


def outlived(first: Plan, again: Plan) -> bool:
    """Whether a plan made again says by our own rules that someone comes off whom its first leaves on the segment.

    Who took their consent back is taken off by a new plan, which the guards look at.
    """
    moved = [key for key, _ in moves(first)]
    people = again.people
    off = (people["word"] == "remove") & people["reason"].isin(OWN_RULES)
    return bool((off & ~among(people["member_hash"], moved)).any())
