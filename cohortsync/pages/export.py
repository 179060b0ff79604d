"""Export: plan what a sync would change, approve it, apply it, and see it proven."""

from __future__ import annotations

import streamlit as st

from cohortsync.orders import DYNAMIC
from cohortsync.pages import approval, frame, login, progress, proof

workspace = frame.start("Export", "First a plan, which only reads. Then, when you say so, the sync and its proof.")
cohort, audience = frame.cohort_and_audience(workspace)
plan_name, apply_name = (progress.name_of(what, workspace.project_id, cohort, audience) for what in ("plan", "apply"))
planned = progress.follow(workspace, plan_name)
applied = progress.follow(workspace, apply_name)

if applied:
    with frame.told():
        proof.show(workspace, workspace.receipt(applied.answer()["run_id"]))
    st.page_link(frame.PAGES / "syncs.py", label="See the syncs that stand", icon=":material/sync:")
    if login.only_admins("planning a sync") and st.button("Plan again", icon=":material/preview:"):
        applied.clear()
        progress.begin(workspace, plan_name, f"Planning {cohort}", ["plan", cohort, "--audience", audience])
elif progress.at_work(workspace, plan_name, apply_name):
    st.caption("A plan only reads. A sync notes each request before it leaves, so that it can be finished if it is cut "
               "off.")
elif planned:
    with frame.told():
        plan = workspace.kept_plan(planned.answer()["run_id"])
    approval.show(workspace, plan)
    if login.only_admins("approving a plan"):
        kind = approval.how_often()
        if words := approval.words(plan):
            if kind == DYNAMIC:
                with frame.told():
                    workspace.create_sync(cohort, audience)
            planned.clear()
            progress.begin(workspace, apply_name, f"Syncing {cohort}", words)
        if st.button("Drop this plan", type="tertiary", icon=":material/close:"):
            planned.clear()
            st.rerun()
    approval.show_people(plan)
else:
    st.caption("Plan says what a sync would do to each person. It changes nothing.")
    if login.only_admins("planning a sync") and st.button("Plan", type="primary", icon=":material/preview:"):
        progress.begin(workspace, plan_name, f"Planning {cohort}", ["plan", cohort, "--audience", audience])
