"""Runs: what was done, when, and the proof of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import streamlit as st

from cohortsync.pages import decision, frame, proof, shown

SAID = {"planned": "Dry run", "applying": "Under way", "completed": "Completed", "incomplete": "Incomplete",
        "failed": "Failed", "interrupted": "Interrupted", "needs approval": "Needs approval"}
COUNTS = ["added", "kept", "removed", "refused", "accounted", "size"]


def line(run: Mapping[Any, Any]) -> str:
    """A run in one line: how it ended, when, and what it changed."""
    status = SAID.get(run["status"], run["status"])
    return f"{status} · {frame.ago(run['started_at'])} · {run['added']:,} added · {run['removed']:,} removed"


def label(run: Mapping[Any, Any]) -> str:
    """A run as one of a list, told apart from others like it by the second it began."""
    return f"{run['cohort']} · {line(run)} · begun {run['started_at'][:19].replace('T', ' ')} UTC"


workspace = frame.start("Runs", "Every sync, with what Mailchimp held afterwards.")
with frame.told():
    table = workspace.runs()
if table.empty:
    frame.ask_for("No run yet. Connect Mailchimp, then plan and sync a cohort on the Export page.",
                  "See what is still to set up")
table[COUNTS] = table[COUNTS].fillna(0).astype("int64")
runs = {run["run_id"]: run for run in table.to_dict("records")}
overview = table.assign(run=[line(run) for run in runs.values()],
                        where=np.where(table["rehearsal"] == 1, "LOCAL REHEARSAL · ", "") + table["audience_name"],
                        proven=[f"{run['accounted']:,} of {run['size']:,}" for run in runs.values()])
shown.table(overview, {"run": "Run", "cohort": "Cohort", "proven": "Proven", "where": "Where"})
chosen = frame.choose("Look at", list(runs), "run", lambda run: label(runs[run]))
with frame.told():
    receipt = workspace.receipt(chosen)
if "size" in receipt:
    proof.show(workspace, receipt)
    if receipt["status"] in ("completed", "incomplete"):
        st.header("Undo this run", anchor=False)
        st.caption("Who was put on the segment comes off it, and the other way round, where nothing has changed since. "
                   "New contacts stay, and mails that were sent stay sent.")
        decision.show(workspace, decision.Decision(("undo", chosen), receipt["cohort"], ["undo", chosen],
                                                   "Plan the undoing"))
else:
    st.info(f"{SAID[runs[chosen]['status']]}: this run has no proof. The next sync of the cohort starts from what "
            "Mailchimp really holds.", icon=":material/hourglass:")
