"""What became of everyone, from what was read back: each id of the cohort has one outcome."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from cohortsync import mailchimp, mirror
from cohortsync.mailchimp import Client
from cohortsync.plan import ADDING, EXPORT_COLUMNS, NOT_MAILABLE, OWN_RULES, Plan, Target, among

OUTCOMES = ("added", "kept", "removed", "refused", "left", "unproven")


def fetch_back(client: Client, plan: Plan, target: Target) -> pd.DataFrame:
    """``member_hash, address, status`` of those on the segment now, and of pending ones who carry its tag."""
    assert target.segment_id is not None
    listed = mailchimp.fetch_segment_members(client, target.audience_id, target.segment_id)
    if not plan.awaits_pending:
        return listed
    waiting = mirror.carrying(mailchimp.fetch_members(client, target.audience_id, "pending"), target.segment_id)
    return pd.concat([listed, waiting[~among(waiting["member_hash"], listed["member_hash"])]], ignore_index=True)


def outcomes(planned: pd.DataFrame, on_segment: pd.DataFrame, refused: Mapping[str, str]) -> pd.DataFrame:
    """``planned`` (a plan's people) with ``outcome`` (one of OUTCOMES), its reason, and ``status_after``.

    ``on_segment``: as read back; ``refused``: member hash → reason, of those who could not be added after all.
    """
    people, word = planned.copy(), planned["word"]
    after = on_segment.drop_duplicates("member_hash").set_index("member_hash")["status"]
    there, old_off = among(people["member_hash"], after.index), ~among(people["old_hash"], after.index)
    barred = among(people["member_hash"], refused) & ~there & old_off
    own_rule = (word == "remove") & people["exportable"].astype(bool) & ~there
    rules = {
        "refused": barred | own_rule | ((word == "refuse") & old_off),
        "added": word.isin(ADDING) & there & old_off,
        "kept": (word == "keep") & there & old_off,
        "removed": (word == "remove") & ~there,
        "left": word == "leave",
    }
    people["outcome"] = np.select([rule.to_numpy(dtype=bool) for rule in rules.values()], list(rules), "unproven")
    people["status_after"] = people["member_hash"].map(after)
    people.loc[barred & (word != "refuse"), "reason"] = people["member_hash"].map(refused)
    people.loc[there & (people["status_after"] == "pending") & (word != "refuse"), "reason"] = "awaiting_confirmation"
    people.loc[(word == "refuse") & there, "reason"] += ", in_segment_not_mailable"
    return people


def is_complete(outcome: pd.DataFrame) -> bool:
    return not (outcome["outcome"] == "unproven").any()


def count(plan: Plan, outcome: pd.DataFrame, on_segment: pd.DataFrame) -> dict[str, Any]:
    """The receipt's numbers: people by outcome, refusals by reason, and how many of the cohort are accounted for.

    Of ``exportable``, ``in_segment`` and ``mailable`` the last two are counted from what was read back.
    """
    found = outcome["outcome"].value_counts()
    counts = {word: int(found.get(word, 0)) for word in OUTCOMES}
    proven = counts["added"] + counts["kept"] + counts["refused"] + sum(plan.excluded.values())
    complete = proven == plan.size and not counts["unproven"]
    reasons = outcome.loc[outcome["outcome"] == "refused", "reason"].value_counts()
    expected = outcome.loc[outcome["word"] != "remove", "member_hash"]
    return {**counts, "status": "completed" if complete else "incomplete", "accounted": proven,
            "refusals": {str(reason): int(people) for reason, people in reasons.items()},
            "awaiting_confirmation": int((outcome["reason"] == "awaiting_confirmation").sum()),
            "exportable": plan.size - sum(plan.excluded.values()), "in_segment": len(on_segment),
            "mailable": int((on_segment["status"] == "subscribed").sum()),
            "others_on_segment": int((~among(on_segment["member_hash"], expected)).sum())}


def table(plan_excluded: Mapping[str, int], outcome: pd.DataFrame) -> pd.DataFrame:
    """One row per outcome and reason: ``outcome, reason, people``; those of the cohort add up to its size."""
    ours = outcome.groupby(["outcome", "reason"], as_index=False).size().rename(columns={"size": "people"})
    rest = pd.DataFrame({"outcome": "not_exportable", "reason": list(plan_excluded), "people": plan_excluded.values()})
    return pd.concat([ours, rest], ignore_index=True)


def left_behind(outcome: pd.DataFrame, on_segment: pd.DataFrame, last: pd.DataFrame | None) -> pd.DataFrame:
    """What the next plan must know of how this run left the segment (``plan.EXPORT_COLUMNS``).

    ``edit``: "" for people put there by a sync, ``added_by_hand`` and ``removed_by_hand`` for edits that were kept.
    ``last``: what was known before; of those whom the run had nothing to do with, who is still there stays known.
    """
    there = among(outcome["member_hash"], on_segment["member_hash"])
    taken_off = (outcome["reason"] == "removed_by_hand") & (outcome["outcome"] == "refused")
    put_on = (outcome["reason"] == "added_by_hand") & (outcome["word"] == "leave")
    edit = np.where(taken_off, "removed_by_hand", np.where(put_on, "added_by_hand", ""))
    known = outcome.assign(edit=edit).loc[there | taken_off, EXPORT_COLUMNS]
    if last is None:
        return known
    others = among(last["member_hash"], on_segment["member_hash"]) & ~among(last["member_hash"], outcome["member_hash"])
    return pd.concat([known, last[others]], ignore_index=True)


def about_to_leave(last: pd.DataFrame | None, plan: Plan) -> pd.DataFrame:
    """``left_behind`` before anything is sent: whom the plan moves may or may not be there until it is proven."""
    people = plan.people
    moving = people[people["word"].isin([*ADDING, "remove"])].assign(edit="unproven")[EXPORT_COLUMNS]
    old = people.loc[people["old_hash"].notna(), ["old_hash", "old_address", "canonical_id"]].assign(edit="unproven")
    before = [] if last is None else [last]
    both = pd.concat([moving, old.set_axis(EXPORT_COLUMNS, axis="columns"), *before], ignore_index=True)
    return both.drop_duplicates("member_hash")


def barred_now(people: pd.DataFrame) -> dict[str, str]:
    """Member hash → reason of those whom a plan made again no longer lets in."""
    barred = people[(people["word"] == "refuse") | people["reason"].isin([*NOT_MAILABLE, *OWN_RULES])]
    return dict(zip(barred["member_hash"], barred["reason"], strict=True))
