"""Export: plan what a sync would change, approve it, apply it, and see it proven."""

from __future__ import annotations

import streamlit as st

from cohortsync.pages import decision, frame

workspace = frame.start("Export", "First a plan, which only reads. Then, when you say so, the sync and its proof.")
cohort, audience = frame.cohort_and_audience(workspace)
decision.show(workspace, decision.Decision(
    (workspace.project_id, cohort, audience), cohort, ["plan", cohort, "--audience", audience], "Plan",
    lambda: workspace.create_sync(cohort, audience)))
st.page_link(frame.PAGES / "syncs.py", label="The syncs that stand", icon=":material/sync:")
