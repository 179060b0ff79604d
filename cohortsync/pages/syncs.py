"""Syncs: those that stand, how each ran, and what waits for a person."""

from __future__ import annotations

import json
from typing import Any

import streamlit as st

import cohortsync as cs
from cohortsync.orders import ACTIVE, NEEDS_APPROVAL, PAUSED
from cohortsync.pages import approval, frame, login, progress, shown
from cohortsync.plan import Terms

HEADINGS = {"cohort": "Cohort", "audience_name": "Audience", "kind": "How often", "status": "Status",
            "due": "Due next (UTC)", "last_run": "Last run"}
HISTORY = {"status": "How it ended", "started": "Begun (UTC)", "added": "Added", "kept": "Kept", "removed": "Removed",
           "refused": "Refused", "reason": "Why"}
COLOURS = {ACTIVE: "green", PAUSED: "gray", NEEDS_APPROVAL: "orange"}


def show_one(workspace: cs.Workspace, row: dict[str, Any], last_run: str) -> None:
    """How a sync stands, what can be done with it, and its history."""
    name = progress.name_of("standing", row["sync_id"])
    st.badge(row["status"], color=COLOURS.get(row["status"], "blue"))  # type: ignore[arg-type]
    if row["status"] != NEEDS_APPROVAL:  # what waits is told with its plan
        st.markdown(frame.plain(last_run))
        approval.show_terms(Terms(**json.loads(row["terms"])))
        if row["reason"]:
            st.warning(frame.plain(row["reason"]), icon=":material/front_hand:")
    progress.follow(workspace, name)
    if not progress.at_work(workspace, name) and login.only_admins("running, pausing and approving syncs"):
        if row["status"] == NEEDS_APPROVAL:
            approve(workspace, row, name)
        act(workspace, row, name)
    st.header("Its runs", anchor=False)
    history = workspace.sync_history(row["sync_id"])
    shown.table(history.assign(started=shown.minute(history["started_at"]), status=history["status"].str.capitalize()),
                HISTORY)


def approve(workspace: cs.Workspace, row: dict[str, Any], name: str) -> None:
    """The plan at which a guard stopped the sync, to be done exactly, or not."""
    with frame.told():
        plan = workspace.waiting_plan(row["sync_id"])
    approval.show(plan)
    approval.show_guards(plan)
    if approval.agreed(plan) and st.button("Approve this plan", type="primary", icon=":material/thumb_up:"):
        progress.begin(workspace, name, f"Syncing {row['cohort']}", ["syncs", "approve", row["sync_id"], "--yes"])


def act(workspace: cs.Workspace, row: dict[str, Any], name: str) -> None:
    """Run it now, pause it or let it go on, forget it."""
    run, pause, delete, _ = st.columns([1, 1, 1, 3])
    if run.button("Run now", icon=":material/play_arrow:", disabled=row["status"] != ACTIVE):
        progress.begin(workspace, name, f"Running {row['cohort']}", ["syncs", "run", row["sync_id"]])
    with frame.told():
        if row["status"] == ACTIVE and pause.button("Pause", icon=":material/pause:"):
            workspace.pause_sync(row["sync_id"], "Paused in the app.")
            st.rerun()
        if row["status"] in (PAUSED, NEEDS_APPROVAL) and pause.button("Let it go on", icon=":material/resume:"):
            workspace.unpause_sync(row["sync_id"])
            st.rerun()
        if delete.button("Delete", icon=":material/delete:", help="Its segment, the people on it and its runs stay."):
            workspace.delete_sync(row["sync_id"])
            st.rerun()


workspace = frame.start("Syncs", "A dynamic sync refreshes its cohort and sends what changed, every two hours, when "
                                 "a scheduler runs what is due.")
with frame.told():
    table = workspace.syncs()
if table.empty:
    frame.ask_for("No sync stands yet. Plan an export, and choose how often it is to run.", "Plan an export", "export")
shown.table(table.assign(due=shown.minute(table["due_at"])), HEADINGS, wide=["last_run"])
names = dict(zip(table["sync_id"], table["cohort"] + " → " + table["audience_name"], strict=True))
chosen = frame.choose("Look at", list(names), "sync", names.__getitem__)
show_one(workspace, workspace.find_sync(chosen), table.set_index("sync_id")["last_run"][chosen])
