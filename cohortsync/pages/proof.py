"""The proof of one run, as Export shows it right after a sync and Runs at any time later."""

from __future__ import annotations

import json
from typing import Any

import streamlit as st

import cohortsync as cs
from cohortsync.pages import frame, shown
from cohortsync.words import why

MEANINGS = {
    "added": "put on the cohort's segment in Mailchimp",
    "kept": "on the segment already",
    "removed": "taken off the segment; they stay in the audience",
    "refused": "may not be mailed, so never added",
    "accounted": "ids of the cohort whose outcome was read back from Mailchimp, or who were never exportable",
}
OUTCOME = {"email": "E-mail", "canonical_id": "User", "outcome": "Outcome", "reason": "Why",
           "status": "In the audience before"}


def show(workspace: cs.Workspace, receipt: dict[str, Any]) -> None:
    """Counts, what they add up to, the figure, the receipt to keep, and everyone's outcome, masked."""
    st.header("The proof", anchor=False)
    st.markdown(f"**{frame.plain(receipt['cohort'])}** → **{frame.plain(receipt['target'])}**")
    _verdict(receipt)
    for column, (word, meaning) in zip(st.columns(len(MEANINGS)), MEANINGS.items(), strict=True):
        column.metric(word.capitalize(), f"{receipt[word]:,}", help=meaning, border=True)
    if refusals := receipt.get("refusals"):
        st.caption("Refused: " + "; ".join(f"{count:,} {frame.plain(why(reason))}"
                                           for reason, count in refusals.items()))
    shown.figure(cs.charts.proof(receipt), f"proof-{receipt['run_id']}")
    st.download_button("Download the receipt", json.dumps(receipt, indent=2), f"receipt-{receipt['run_id']}.json",
                       "application/json", help="Counts and names of places; no addresses.", on_click="ignore",
                       icon=":material/download:")
    with frame.told():
        outcome = workspace.outcome(receipt["run_id"], limit=shown.SHOWN)
    outcome = outcome.assign(status=outcome["status"].fillna("not in it"), reason=outcome["reason"].map(why))
    shown.people(outcome, {name: heading for name, heading in OUTCOME.items() if name in outcome},
                 outcome.attrs["people"])


def _verdict(receipt: dict[str, Any]) -> None:
    accounted = f"{receipt['accounted']:,} of {receipt['size']:,} ids of the cohort accounted for"
    waiting = receipt.get("awaiting_confirmation")
    if receipt["status"] == "completed":
        st.success(f"**Proven by reading back:** {accounted}, in {receipt['requests']} requests"
                   + (f"; still to say yes: {waiting:,}." if waiting else "."), icon=":material/verified:")
    elif receipt["status"] == "planned":
        st.info("**A dry run:** nothing was sent. The counts say what would have happened.",
                icon=":material/edit_note:")
    else:
        st.error(f"**{receipt['status'].capitalize()}:** {accounted}. {frame.plain(receipt.get('error', ''))}",
                 icon=":material/error:")
