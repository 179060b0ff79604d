"""Connect: the Mixpanel project, its files, and the Mailchimp account a sync would write to."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zoneinfo import available_timezones

import streamlit as st

import cohortsync as cs
from cohortsync.errors import BadInput
from cohortsync.load import LoadReport
from cohortsync.pages import accounts, frame
from cohortsync.sources import Progress

EVENT_TIMES = {"auto": "find out", "utc": "UTC", "local": "clocks of the time zone (projects made before 2023)"}
NEW_PROJECT = {"project_id": "local", "timezone": "UTC", "id_merge": "simplified", "event_times": "auto"}
KINDS = {"events": "Events (raw export)", "profiles": "Profiles (engage pages, NDJSON or CSV)",
         "cohorts": "Cohorts, one file each (engage pages, CSV or a list of ids)"}


def show_project(workspace: cs.Workspace) -> None:
    st.subheader("1 · Mixpanel project")
    if not (project := workspace.project):
        _start(workspace)
        return
    accounts.show_mixpanel(workspace)
    with st.expander("Connect another project or account" if workspace.mixpanel_connection else "Connect to Mixpanel"):
        accounts.mixpanel_form(workspace)
    with st.expander("Change the time zone, the ID merge or what times are"):
        _project_form(workspace, project)
    with st.expander("Add another project, from files"):
        _project_form(workspace, None)


def _start(workspace: cs.Workspace) -> None:
    """The two ways to begin: with an account that looks the project up, or without one."""
    st.info("Start here: connect the project, or copy two settings from Mixpanel's Project Settings and load files.",
            icon=":material/arrow_forward:")
    accounts.tell_refusal("Mixpanel")
    by_account, by_files = st.tabs(["Connect to Mixpanel", "Load files"])
    with by_account:
        accounts.mixpanel_form(workspace)
    with by_files:
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


def show_data(workspace: cs.Workspace) -> None:
    st.subheader("2 · Mixpanel data")
    if not workspace.project:
        st.caption("Connect or save the project first.")
        return
    this = workspace.project["project_id"]
    if report := frame.finished(f"load {this}"):
        st.session_state[f"loaded {this}"] = report
        st.rerun()
    with frame.told():
        held = _held(workspace, this)
    for column, (name, count) in zip(st.columns(3), held.items(), strict=True):
        column.metric(str(name).capitalize(), f"{count:,}", border=True)
    if report := st.session_state.get(f"loaded {this}"):
        _show_report(workspace, report)
    with st.expander("Load files", expanded=not held["cohorts"]):
        _load_form(workspace, this)
    if held["cohorts"]:
        st.page_link(frame.PAGES / "cohorts.py", label="See who can be exported", icon=":material/groups:")


def _held(workspace: cs.Workspace, project_id: str) -> dict[str, int]:
    """How many events, profiles and cohorts the project has."""
    with workspace.connect() as con:
        return {table: con.execute(f"select count(*) from {table} where project_id = ?", [project_id]).fetchall()[0][0]
                for table in ("events", "profiles", "cohorts")}


def _show_report(workspace: cs.Workspace, report: LoadReport) -> None:
    if report.unchanged:
        st.info("These files were loaded before; nothing changed.", icon=":material/done_all:")
        return
    st.success(f"Loaded {len(report.files)} files: {report.events_added:,} new events, {report.duplicates:,} "
               "duplicates left out.", icon=":material/check_circle:")
    if report.unkeyed_in_overlap:
        st.warning(f"{report.unkeyed_in_overlap:,} events without \\$insert_id lie on days that several files cover. "
                   "They cannot be told from repeats and were all counted.", icon=":material/warning:")
    for text in report.notes:
        st.info(frame.plain(text), icon=":material/info:")
    if report.quarantined:
        st.warning(f"{report.quarantined:,} lines could not be read and were set aside.", icon=":material/warning:")
        lines = workspace.quarantine().tail(report.quarantined).head(frame.SHOWN)
        st.dataframe(lines.assign(file=[Path(path).name for path in lines["file"]])[["file", "line", "reason"]],
                     hide_index=True)


def _load_form(workspace: cs.Workspace, project_id: str) -> None:
    """The fields get new names after a load, so that they are empty again."""
    st.caption("Files as Mixpanel gives them, plain or gzipped. The same file twice adds nothing.")
    turn = st.session_state.get("loads", 0)
    given = {kind: st.file_uploader(label, accept_multiple_files=True, key=f"{kind}-{turn}")
             for kind, label in KINDS.items()}
    names = [st.text_input(f"Name of the cohort in {frame.plain(file.name)}", key=f"name-{file.file_id}",
                           value=file.name.split(".")[0].removeprefix("cohort-")) for file in given["cohorts"]]
    named = len(set(names)) == len(names) and all(name.strip() for name in names)
    if not named:
        st.warning("Give each cohort a name of its own.", icon=":material/warning:")
    if st.button("Load", type="primary", disabled=not (named and any(given.values()))):
        contents = {kind: [(Path(file.name).name, file.getvalue()) for file in files] for kind, files in given.items()}
        st.session_state["loads"] = turn + 1
        frame.begin(f"load {project_id}", "Loading", lambda progress: _load(workspace, contents, names, progress))
        st.rerun()


def _load(workspace: cs.Workspace, contents: Mapping[str, list[tuple[str, bytes]]], names: list[str],
          progress: Progress) -> LoadReport:
    """Load uploaded files from a folder of their own, gone again afterwards and named in no message."""
    with tempfile.TemporaryDirectory() as folder:
        paths = {kind: [_written(Path(folder) / f"{kind}-{number}", *file) for number, file in enumerate(files)]
                 for kind, files in contents.items()}
        try:
            return workspace.load(paths["events"], paths["profiles"],
                                  dict(zip(names, paths["cohorts"], strict=True)), progress)
        except BadInput as error:
            places = (f"{path.parent}/" for kind in paths.values() for path in kind)
            raise BadInput(_without(str(error), *places)) from None


def _written(folder: Path, name: str, content: bytes) -> Path:
    folder.mkdir()
    (folder / name).write_bytes(content)
    return folder.resolve() / name


def _without(text: str, *parts: str) -> str:
    for part in parts:
        text = text.replace(part, "")
    return text


workspace = frame.start("Connect", "Three steps: the Mixpanel project, its data, and Mailchimp.")
show_project(workspace)
show_data(workspace)
accounts.show_mailchimp(workspace)
