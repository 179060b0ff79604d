"""The word and the reason of each person of a plan, decided from values alone.

Three views meet here: what the last export left on the segment, what the cohort is now, and what Mailchimp has now.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from cohortsync.plan import EXPORT_COLUMNS, NOT_MAILABLE, among, looked_up

TOLD_APART = ("compliance", "forgotten")  # remembered refusals that keep their name; the rest is rejected_before
UNKEPT = ("distinct_id", "first_name", "last_name", "last_seen_at", "edit", "consent")
EXPLAINED = {
    "in_segment_not_mailable": "still on the segment", "awaiting_confirmation": "still to say yes",
    "forgotten": "deleted for good in Mailchimp", "forgotten_here": "forgotten in this workspace",
    "compliance": "barred by Mailchimp's rules", "looks_fake": "Mailchimp takes the address for a fake",
    "address_refused": "Mailchimp does not take the address", "signed_up_too_often": "too many sign-ups lately",
    "merge_fields_refused": "a field refuses a value", "refused_by_mailchimp": "refused by Mailchimp",
    "rejected_before": "refused by Mailchimp lately", "no_consent": "no consent", "address_changed": "new address",
    "added_by_hand": "added by hand in Mailchimp", "removed_by_hand": "removed by hand in Mailchimp",
    "not_in_target": "not in the cohort any more", "undo": "the run is taken back",
    "changed_by_a_later_run": "moved by a later run", "not_there_any_more": "off the segment already",
    "there_again": "on the segment again", "not_in_audience": "not in the audience any more",
}
NO_EXPORT = pd.DataFrame(columns=EXPORT_COLUMNS, dtype="str")


def why(reason: str) -> str:
    """The reasons of a person's word or outcome, as they read."""
    return ", ".join(EXPLAINED.get(part, part) for part in reason.split(", "))


class Rule(NamedTuple):
    """For whom it ``holds``, and their word and reason: one for all of them, or a column."""

    holds: pd.Series
    word: Any
    reason: Any


def decide(rules: Sequence[Rule], word: str, reason: str) -> tuple[np.ndarray, np.ndarray]:
    """Each person's word and reason by the first rule that holds for them; by none, those given last."""
    holds = [rule.holds.to_numpy(dtype=bool) for rule in rules]
    return (np.select(holds, [np.asarray(rule.word, dtype=object) for rule in rules], word),
            np.select(holds, [np.asarray(rule.reason, dtype=object) for rule in rules], reason))


def plan_people(audience: pd.DataFrame, members: pd.DataFrame, on_segment: pd.DataFrame, rejects: Mapping[str, str],
                last: pd.DataFrame | None = None, forgotten: Set[str] = frozenset(),
                keep_hand_edits: bool = False) -> pd.DataFrame:
    """One row per exportable user and per person on the segment who is none.

    ``audience``: rows of ``audience.people``; ``members``: of the mirror, archived included; ``on_segment``:
    ``member_hash, address, status`` of everyone on the segment; ``rejects``: member hash → refusal that is
    remembered; ``last``: what the last export left (``EXPORT_COLUMNS``), None before the first; ``forgotten``:
    hashes of people who are never to be exported again.
    """
    left = NO_EXPORT if last is None else last
    status = members.drop_duplicates("member_hash").set_index("member_hash")["status"]
    wanted = _wanted(audience, status, on_segment, left)
    wanted["word"], wanted["reason"] = _words(wanted, rejects, forgotten, last is not None, keep_hand_edits)
    others = _others(wanted, status, on_segment, left, forgotten, last is not None, keep_hand_edits)
    return _with_old_addresses(wanted, others)


def _wanted(audience: pd.DataFrame, status: pd.Series, on_segment: pd.DataFrame, left: pd.DataFrame) -> pd.DataFrame:
    """The exportable users, and where each stands in the three views."""
    wanted = audience[audience["reason"] == "exportable"].copy()
    wanted["status"] = looked_up(wanted["member_hash"], status)
    wanted["in_segment"] = among(wanted["member_hash"], on_segment["member_hash"])
    wanted["edit"] = looked_up(wanted["member_hash"], left.set_index("member_hash")["edit"])
    wanted["was_exported"] = wanted["edit"].isin(["", "unproven"])
    return wanted.reset_index(drop=True)


def _words(wanted: pd.DataFrame, rejects: Mapping[str, str], forgotten: Set[str], exported_before: bool,
           keep_hand_edits: bool) -> tuple[np.ndarray, np.ndarray]:
    """Each person's word and reason."""
    key, there, new = wanted["member_hash"], wanted["in_segment"], wanted["status"].isna()
    off = there.map({True: "remove", False: "refuse"})
    consent = wanted["consent"].fillna(False).astype(bool) if "consent" in wanted else pd.Series(True, index=key.index)
    refusal = key.map(rejects) if rejects else pd.Series(None, index=key.index, dtype="object")
    named = refusal.where(refusal.isin(TOLD_APART), "rejected_before")
    put_on = there & ~wanted["was_exported"] & exported_before
    taken_off = ~there & ~new & wanted["edit"].isin(["", "removed_by_hand"])
    return decide([
        Rule(among(key, forgotten), off, "forgotten_here"),
        Rule(~consent, off, "no_consent"),
        Rule(wanted["status"].isin(NOT_MAILABLE), "refuse", wanted["status"]),
        Rule(new & ~there & refusal.notna(), "refuse", named),
        Rule(put_on, "keep", "added_by_hand"),
        Rule(there, "keep", ""),
        Rule(taken_off & keep_hand_edits, "refuse", "removed_by_hand"),
        Rule(taken_off, "add_existing", "removed_by_hand"),
        Rule(new, "add_new", ""),
    ], "add_existing", "")


def _others(wanted: pd.DataFrame, status: pd.Series, on_segment: pd.DataFrame, left: pd.DataFrame,
            forgotten: Set[str], exported_before: bool, keep_hand_edits: bool) -> pd.DataFrame:
    """Who is on the segment and is no exportable user of the cohort."""
    gone = on_segment.loc[~among(on_segment["member_hash"], wanted["member_hash"]), ["member_hash", "address"]]
    gone = gone.merge(left[["member_hash", "canonical_id", "edit"]], on="member_hash", how="left")
    barred = among(gone["member_hash"], forgotten)
    by_hand = ~gone["edit"].isin(["", "unproven"]) & exported_before & ~barred
    return gone.assign(
        status=looked_up(gone["member_hash"], status), in_segment=True,
        was_exported=gone["edit"].isin(["", "unproven"]),
        word=np.where(by_hand & keep_hand_edits, "leave", "remove"),
        reason=np.select([barred, by_hand], ["forgotten_here", "added_by_hand"], "not_in_target"))


def _with_old_addresses(wanted: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    """One line for someone whose address changed: the old one, on the segment, beside the new one."""
    old = others[(others["word"] == "remove") & among(others["canonical_id"], wanted["canonical_id"])]
    old = old.drop_duplicates("canonical_id").set_index("canonical_id")
    wanted["old_hash"] = looked_up(wanted["canonical_id"], old["member_hash"])
    wanted["old_address"] = looked_up(wanted["canonical_id"], old["address"])
    changed = wanted["old_hash"].notna() & (wanted["reason"] == "")
    wanted.loc[changed, "reason"] = "address_changed"
    rest = others[~among(others["member_hash"], old["member_hash"])]
    rest, wanted["exportable"] = rest.assign(old_hash=None, old_address=None, exportable=False), True
    frame = pd.concat([wanted, rest], ignore_index=True)
    kept = [name for name in wanted.columns if name not in UNKEPT]
    return frame[_ordered(kept)].astype(dict.fromkeys(["word", "reason", "canonical_id"], "str"))


def _ordered(names: list[str]) -> list[str]:
    first = ["member_hash", "address", "canonical_id", "word", "reason", "status", "in_segment", "was_exported",
             "old_hash", "old_address"]
    return first + [name for name in names if name not in first]
