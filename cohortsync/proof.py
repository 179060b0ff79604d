"""What became of everyone, from what was read back: each id of the cohort has one outcome."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

import pandas as pd

from cohortsync import mailchimp, mirror
from cohortsync.mailchimp import Client
from cohortsync.plan import Plan

OUTCOMES = ("added", "kept", "removed", "refused")


def fetch_back(client: Client, plan: Plan) -> tuple[set[str], set[str]]:
    """Hashes of those on the plan's segment now, and of pending ones who carry its tag."""
    target = plan.target
    assert target.segment_id is not None
    on_segment = set(mailchimp.fetch_segment_members(client, target.audience_id, target.segment_id))
    if plan.new_contacts != "pending" and not (plan.people["status"] == "pending").any():
        return on_segment, set()
    waiting = mailchimp.fetch_members(client, target.audience_id, "pending")
    return on_segment, set(mirror.pending_on(waiting, target.segment_id))


def outcomes(planned: pd.DataFrame, on_segment: Set[str], pending: Set[str],
             refused: Mapping[str, str]) -> pd.DataFrame:
    """``planned`` (a plan's people) with ``outcome`` (added, kept, removed, refused, unproven) and its reason."""
    people = planned.copy()
    there = people["member_hash"].isin(on_segment | pending)
    barred = people["member_hash"].isin(list(refused)) & ~there
    add = people["word"].isin(["add_new", "add_existing"])
    people["outcome"] = pd.Series("unproven", index=people.index).mask(
        add & there, "added").mask((people["word"] == "keep") & there, "kept").mask(
        (people["word"] == "remove") & ~there, "removed").mask((people["word"] == "refuse") | barred, "refused")
    people.loc[barred, "reason"] = people.loc[barred, "member_hash"].map(refused)
    people.loc[people["member_hash"].isin(pending - on_segment), "reason"] = "awaiting_confirmation"
    people.loc[(people["word"] == "refuse") & people["in_segment"], "reason"] += ", in_segment_not_mailable"
    return people


def count(plan: Plan, outcome: pd.DataFrame) -> dict[str, Any]:
    """The receipt's numbers: people by outcome, refusals by reason, and how many of the cohort are accounted for."""
    found = outcome["outcome"].value_counts()
    counts = {word: int(found.get(word, 0)) for word in OUTCOMES}
    proven = counts["added"] + counts["kept"] + counts["refused"] + sum(plan.excluded.values())
    complete = proven == plan.size and not int(found.get("unproven", 0))
    reasons = outcome.loc[outcome["outcome"] == "refused", "reason"].value_counts()
    return {**counts, "status": "completed" if complete else "incomplete", "accounted": proven,
            "refusals": {str(reason): int(people) for reason, people in reasons.items()},
            "awaiting_confirmation": int((outcome["reason"] == "awaiting_confirmation").sum())}
