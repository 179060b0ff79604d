"""Export: plan what a sync would change, approve it, apply it, and see it proven."""

from __future__ import annotations

from dataclasses import asdict

import streamlit as st

from cohortsync.pages import decision, frame, login, terms

workspace = frame.start("Export", "First a plan, which only reads. Then, when you say so, the sync and its proof.")
cohort, audience = frame.cohort_and_audience(workspace)
asked = terms.ask(workspace, audience) if login.is_admin() else []
decision.show(workspace, decision.Decision(
    (workspace.project_id, cohort, audience), cohort, ["plan", cohort, "--audience", audience, *(asked or [])],
    "Plan", lambda plan: workspace.create_sync(cohort, audience, **asdict(plan.terms)), ready=asked is not None))
st.page_link(frame.PAGES / "syncs.py", label="The syncs that stand", icon=":material/sync:")
