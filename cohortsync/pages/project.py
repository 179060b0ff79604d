"""The Mixpanel project: how it is connected, and the settings that only its owner knows."""

from __future__ import annotations

from typing import Any
from zoneinfo import available_timezones

import streamlit as st

import cohortsync as cs
from cohortsync.errors import BadInput
from cohortsync.pages import accounts, frame

WAYS = {"account": "Connect to Mixpanel", "files": "Load files"}
EVENT_TIMES = {"auto": "find out", "utc": "UTC", "local": "clocks of the time zone (projects made before 2023)"}
NEW_PROJECT = {"project_id": "local", "timezone": "UTC", "id_merge": "simplified", "event_times": "auto"}


def show(workspace: cs.Workspace) -> None:
    st.header("1 · Mixpanel project", anchor=False)
    if not (now := workspace.project):
        _start(workspace)
        return
    accounts.show_mixpanel(workspace)
    with st.expander("Connect another project or account" if workspace.mixpanel_connection else "Connect to Mixpanel"):
        accounts.mixpanel_form(workspace)
    with st.expander("Change the time zone, the ID merge or what times are"):
        _project_form(workspace, now)
    with st.expander("Add another project, from files"):
        _project_form(workspace, None)


def _start(workspace: cs.Workspace) -> None:
    """The two ways to begin: with an account that looks the project up, or without one."""
    st.info("Start here: connect the project, or copy two settings from Mixpanel's Project Settings and load files.",
            icon=":material/arrow_forward:")
    accounts.tell_refusal("Mixpanel")
    if frame.switch("How to begin", WAYS, "begin") == "account":
        accounts.mixpanel_form(workspace)
    else:
        _project_form(workspace, NEW_PROJECT)


def _project_form(workspace: cs.Workspace, project: dict[str, Any] | None) -> None:
    """Settings of a project; of none: of one to add, which is then the one looked at."""
    zones = sorted(available_timezones())
    now = project or NEW_PROJECT
    with st.form(f"settings of {now['project_id']}" if project else "another project"):
        project_id = now["project_id"] if project else st.text_input(
            "Project id", help="Mixpanel's project id, or a name of yours.").strip()
        timezone = st.selectbox("Time zone", zones, index=zones.index(now["timezone"]),
                                help="Months and days are counted in this zone.")
        merges = accounts.ID_MERGES
        id_merge = st.radio("ID merge", list(merges), captions=list(merges.values()),
                            index=list(merges).index(now["id_merge"]))
        event_times = st.selectbox("Times of events", list(EVENT_TIMES), format_func=EVENT_TIMES.__getitem__,
                                   index=list(EVENT_TIMES).index(now["event_times"]))
        if st.form_submit_button("Save the project" if project else "Add the project", type="primary"):
            with frame.told(), st.spinner("Reckoning everything anew"):
                _save(workspace, project_id, project is None, timezone, id_merge, event_times)
            st.rerun()


def _save(workspace: cs.Workspace, project_id: str, new: bool, *settings: str) -> None:
    timezone, id_merge, event_times = settings
    if new and (not project_id or project_id in workspace.projects()["project_id"].tolist()):
        raise BadInput(f"Give the project an id of its own, not {project_id!r}.")
    workspace.init(timezone, id_merge, project_id, event_times)
    if new:
        frame.look_at_project(project_id)
