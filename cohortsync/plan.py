"""What a sync will do to each person, decided from values alone: nothing is read or sent here.

Words: ``add_new`` (not in the audience), ``add_existing`` (in it, not on the segment), ``keep`` (on the
segment already), ``refuse`` (must not be added; the reason says why), ``remove`` (on the segment, should not be).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import pandas as pd

from cohortsync import emails
from cohortsync.errors import UnsafePlan
from cohortsync.mailchimp import CHUNK

WORDS = ("add_new", "add_existing", "keep", "refuse", "remove")
NOT_MAILABLE = ("unsubscribed", "cleaned", "archived")


@dataclass(frozen=True)
class Target:
    """Where a plan would write: the account, the audience, the cohort's own segment (None: not made yet)."""

    account_id: str
    account_name: str
    audience_id: str
    audience_name: str
    rehearsal: bool
    segment_id: int | None
    segment_name: str

    def __str__(self) -> str:
        place = f"{self.account_name} › {self.audience_name} › segment {self.segment_name}"
        return f"LOCAL REHEARSAL · {place}" if self.rehearsal else place


@dataclass(frozen=True)
class Plan:
    """One cohort's plan.

    ``people``: one row a person with ``member_hash, address, canonical_id, word, reason, status`` (in the
    audience now), ``in_segment, first_name, last_name``. ``excluded``: reason → ids that are not exportable.
    ``as_of``: when the Mixpanel data it was made from was published.
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

    @property
    def counts(self) -> dict[str, int]:
        """People by word."""
        found = self.people["word"].value_counts()
        return {word: int(found.get(word, 0)) for word in WORDS}

    @property
    def writes(self) -> int:
        """Requests that will write: full chunks of 500, and one to make the segment."""
        counts = self.counts
        calls = _chunks(counts["add_new"]) + max(_chunks(counts["add_existing"]), _chunks(counts["remove"]))
        return calls + (self.target.segment_id is None)

    @property
    def changes(self) -> int:
        counts = self.counts
        return counts["add_new"] + counts["add_existing"] + counts["remove"]

    def preview(self) -> pd.DataFrame:
        """``people`` fit to be shown: addresses masked, also where they are ids, names left out."""
        return shown(self.people)[["canonical_id", "email", "word", "reason", "status", "in_segment"]]

    def _repr_html_(self) -> str:
        return pd.Series(self.counts, name=str(self.target)).to_frame().to_html()


def shown(people: pd.DataFrame) -> pd.DataFrame:
    """Rows of a plan or an outcome with ``email`` masked in place of ``address``, names and hashes left out."""
    return emails.masked(people.drop(columns=["member_hash", "first_name", "last_name"]))


def _chunks(people: int) -> int:
    return -(-people // CHUNK)


def plan_people(audience: pd.DataFrame, members: pd.DataFrame, on_segment: Mapping[str, str],
                rejects: Mapping[str, str]) -> pd.DataFrame:
    """One row per exportable user and per person who must leave the segment.

    ``audience``: rows of ``audience.people``; ``members``: of ``mailchimp.fetch_members``, archived included;
    ``on_segment``: member hash → address of everyone on the segment; ``rejects``: member hash → refusal that
    is remembered.
    """
    wanted = audience[audience["reason"] == "exportable"].drop(columns=["reason", "last_seen_at"])
    wanted = wanted.assign(member_hash=wanted["address"].map(emails.member_hash).astype("str"))
    status = members.drop_duplicates("member_hash").set_index("member_hash")["status"]
    wanted["status"] = wanted["member_hash"].map(status)
    wanted["in_segment"] = wanted["member_hash"].isin(list(on_segment))
    wanted["word"], wanted["reason"] = _words(wanted, rejects)
    leavers = [(h, a) for h, a in on_segment.items() if h not in set(wanted["member_hash"])]
    gone = pd.DataFrame(leavers, columns=["member_hash", "address"], dtype="str")
    gone = gone.assign(status=gone["member_hash"].map(status), in_segment=True, word="remove",
                       reason="not_in_target")
    frame = pd.concat([wanted, gone], ignore_index=True)
    return frame[["member_hash", "address", "canonical_id", "word", "reason", "status", "in_segment",
                  "first_name", "last_name"]]


def _words(wanted: pd.DataFrame, rejects: Mapping[str, str]) -> tuple[pd.Series, pd.Series]:
    new = wanted["status"].isna()
    barred = wanted["status"].isin(NOT_MAILABLE)
    rejected = new & wanted["member_hash"].isin(list(rejects))
    word = pd.Series("add_existing", index=wanted.index, dtype="str")
    word = word.mask(new, "add_new").mask(wanted["in_segment"], "keep").mask(barred | rejected, "refuse")
    reason = pd.Series("", index=wanted.index, dtype="str")
    reason = reason.mask(rejected, "rejected_before").mask(barred, wanted["status"])
    return word, reason


def check_guards(plan: Plan, share: float = 0.2, people: int = 500) -> None:
    """Refuse a plan that empties a segment or takes more than a share (and a number) of people off it."""
    counts = plan.counts
    now = int(plan.people["in_segment"].sum())
    if now and counts["remove"] == now and not counts["add_new"] + counts["add_existing"]:
        raise UnsafePlan(f"The plan takes all {now:,} people off {plan.target}. If the cohort is meant to be empty, "
                         "say so with --force.")
    if counts["remove"] > max(share * now, people):
        raise UnsafePlan(f"The plan takes {counts['remove']:,} of {now:,} people off {plan.target}, more than "
                         f"{share:.0%} and more than {people}. Look at it with --dry-run; then --force if it is right.")


def check_unchanged(approved: Plan, fresh: Plan) -> None:
    """Refuse a fresh plan that adds or removes anyone whom the approved one did not.

    What has become needless is simply no longer in the fresh plan.
    """
    def moves(plan: Plan) -> set[tuple[str, str]]:
        acting = plan.people[plan.people["word"].isin(["add_new", "add_existing", "remove"])]
        return set(zip(acting["member_hash"], acting["word"].str.replace("add_.*", "add", regex=True), strict=True))

    more = moves(fresh) - moves(approved)
    if more or approved.target.audience_id != fresh.target.audience_id:
        raise UnsafePlan(f"Since the plan was approved, {len(more):,} more changes became due. Nothing was sent; "
                         "look at the new plan and approve that.")
