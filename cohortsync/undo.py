"""Taking a run back, decided from values alone: who comes off the segment again, who goes on again, and who stays.

Only membership of the segment is restored, and only of people who still are as the run left them.
"""

from __future__ import annotations

from collections.abc import Set

import numpy as np
import pandas as pd

from cohortsync.plan import ADDING, NOT_MAILABLE, OWN_RULES
from cohortsync.words import Rule, decide, why

TOUCHED = ["member_hash", "address", "canonical_id", "reason"]


def moved(outcome: pd.DataFrame) -> pd.DataFrame:
    """Whom a run put on the segment and took off it: TOUCHED, ``move`` (add or remove) and ``new`` to the audience.

    A changed address is two rows, its new one added and its old one removed.
    """
    done = outcome[outcome["outcome"].isin(["added", "removed"]) | (
        (outcome["outcome"] == "refused") & (outcome["word"] == "remove"))]
    added, removed = done[done["word"].isin(ADDING)], done[done["word"] == "remove"]
    changed = outcome[outcome["old_hash"].notna() & (outcome["outcome"] != "unproven")]
    old = changed[["old_hash", "old_address", "canonical_id", "reason"]].set_axis(TOUCHED, axis="columns")
    parts = [added[TOUCHED].assign(move="add", new=(added["word"] == "add_new").to_numpy()),
             removed[TOUCHED].assign(move="remove", new=False), old.assign(move="remove", new=False)]
    return pd.concat(parts, ignore_index=True)


def undo_people(done: pd.DataFrame, members: pd.DataFrame, on_segment: pd.DataFrame, changed_since: Set[str],
                consent: pd.Series, forgotten: Set[str] = frozenset()) -> pd.DataFrame:
    """A plan's people that take back what a run did: one row per person whom it moved.

    ``done``: rows of ``moved``; ``changed_since``: hashes of those whom a later run moved; ``consent``: whether each
    row's person agrees, as things stand. Nobody who may not be mailed is put back.
    """
    key = done["member_hash"]
    status = key.map(members.drop_duplicates("member_hash").set_index("member_hash")["status"])
    there, was_added = key.isin(on_segment["member_hash"]), done["move"] == "add"
    off = there.map({True: "remove", False: "refuse"})
    word, reason = decide([
        Rule(key.isin(changed_since), "leave", "changed_by_a_later_run"),
        Rule(was_added & ~there, "leave", "not_there_any_more"),
        Rule(was_added, "remove", "undo"),
        Rule(key.isin(forgotten), off, "forgotten_here"),
        Rule(~consent, off, "no_consent"),
        Rule(there, "leave", "there_again"),
        Rule(done["reason"].isin(OWN_RULES), "refuse", done["reason"]),
        Rule(status.isna(), "leave", "not_in_audience"),
        Rule(status.isin(NOT_MAILABLE), "refuse", status),
    ], "add_existing", "undo")
    return done[["member_hash", "address", "canonical_id"]].assign(
        word=word, exportable=np.isin(word, ["add_existing", "refuse"]), reason=reason, status=status,
        in_segment=there, was_exported=was_added, old_hash=None, old_address=None).astype(
        dict.fromkeys(["word", "reason", "canonical_id"], "str"))


def lasting(done: pd.DataFrame, people: pd.DataFrame) -> list[str]:
    """What an undo cannot take back, in words."""
    new = int(done["new"].sum())
    found = [f"Contacts whom the run brought into the audience stay there: {new:,}."] if new else []
    if len(done):
        found.append("Mails that went out meanwhile, and automations that the tag has started, cannot be taken back.")
    left = people.loc[people["word"].isin(["leave", "refuse"]), "reason"].value_counts()
    return found + [f"People who stay as they are, {why(str(reason))}: {number:,}." for reason, number in left.items()]
