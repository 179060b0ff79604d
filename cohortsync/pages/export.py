"""Export: plan what a sync would change, approve it, apply it, and see it proven."""

from __future__ import annotations

from dataclasses import asdict

import streamlit as st

from cohortsync.pages import decision, frame

TERMS = {
    "--keep-hand-edits": ("Keep what people did to the segment in Mailchimp",
                          "Otherwise the segment equals the cohort after each sync, whatever was done by hand."),
    "--adopt": ("Take over a segment of that name that others made", "Otherwise a plan stops where the name is taken."),
}

workspace = frame.start("Export", "First a plan, which only reads. Then, when you say so, the sync and its proof.")
cohort, audience = frame.cohort_and_audience(workspace)
with st.expander("Terms of the next plan"):
    terms = [option for option, (label, meaning) in TERMS.items() if st.toggle(label, key=option, help=meaning)]
    st.caption("A dynamic sync keeps the terms of its plan. Merge fields (`--map`) and a property that must say yes "
               "(`--consent-property`) are terms of the command line: `cohortsync syncs create --help`.")
decision.show(workspace, decision.Decision(
    (workspace.project_id, cohort, audience), cohort, ["plan", cohort, "--audience", audience, *terms],
    "Plan", lambda plan: workspace.create_sync(cohort, audience, **asdict(plan.terms))))
st.page_link(frame.PAGES / "syncs.py", label="The syncs that stand", icon=":material/sync:")
