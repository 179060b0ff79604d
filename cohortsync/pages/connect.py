"""Connect: the project, its files, and the Mailchimp account a sync would write to."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from zoneinfo import available_timezones

import streamlit as st

import cohortsync as cs
from cohortsync.errors import BadInput
from cohortsync.load import LoadReport
from cohortsync.pages import frame
from cohortsync.sources import Progress

ID_MERGES = {"simplified": "Most newer projects.", "original": "Most projects made before 2023."}
NEW_CONTACTS = {
    "subscribed": "They get your campaigns at once. Choose this only if they agreed to be mailed.",
    "pending": "Mailchimp asks them by mail first; they get campaigns once they say yes.",
    "transactional": "They are kept in the audience and get no campaigns: nobody said yes.",
}
EVENT_TIMES = {"auto": "find out", "utc": "UTC", "local": "clocks of the time zone (projects made before 2023)"}
NEW_PROJECT = {"project_id": "local", "timezone": "UTC", "id_merge": "simplified", "event_times": "auto"}
KINDS = {"events": "Events (raw export)", "profiles": "Profiles (engage pages, NDJSON or CSV)",
         "cohorts": "Cohorts, one file each (engage pages, CSV or a list of ids)"}


def show_project(workspace: cs.Workspace) -> None:
    st.subheader("1 · Project")
    project = workspace.project
    if project:
        with st.expander("Change the time zone, the ID merge or what times are"):
            _project_form(workspace, project)
        with st.expander("Add another project"):
            _project_form(workspace, None)
    else:
        st.info("Start here: copy two settings from Mixpanel's Project Settings.", icon=":material/arrow_forward:")
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
        id_merge = st.radio("ID merge", list(ID_MERGES), captions=list(ID_MERGES.values()),
                            index=list(ID_MERGES).index(now["id_merge"]))
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
        st.caption("Save the project first.")
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


def show_mailchimp(workspace: cs.Workspace) -> None:
    st.subheader("3 · Mailchimp")
    connection = workspace.connection
    if refusal := st.session_state.pop("refusal", None):
        st.error(frame.plain(refusal), icon=":material/error:")
    if connection:
        _show_connection(connection)
        if st.button("Check again", icon=":material/refresh:"):
            _ask(workspace.check_mailchimp)
    with st.expander("Connect another account" if connection else "Connect an account", expanded=not connection):
        _connect_form(workspace)


def _show_connection(connection: dict[str, Any]) -> None:
    well = connection["status"] == "Connected"
    st.badge(connection["status"], icon=":material/check:" if well else ":material/warning:",
             color="green" if well else "orange")
    if connection["reason"]:
        st.warning(frame.plain(connection["reason"]), icon=":material/warning:")
    st.markdown(f"**{frame.plain(connection['account_name'])}** at {frame.plain(connection['host'])} · your role: "
                f"{frame.plain(connection['role'])} · new contacts become **{connection['new_contacts']}** · "
                f"last check {frame.ago(connection['checked_at'])}")
    if st.session_state.get("audiences_of") == (connection["host"], connection["account_id"]):
        listed = st.session_state["audiences"]
        st.dataframe({"Audience": list(listed.values()), "Id": list(listed)}, hide_index=True)


def _connect_form(workspace: cs.Workspace) -> None:
    """The key's field gets a new name once it was used, so that Streamlit forgets what stood in it."""
    turn = st.session_state.get("keys_used", 0)
    with st.form("mailchimp", clear_on_submit=True):
        key = st.text_input("API key", type="password", key=f"api_key-{turn}", autocomplete="off",
                            help="In Mailchimp: Profile, Extras, API keys. It is kept in the system keyring, or in a "
                                 "file only you can read, and never shown again.")
        status = st.radio("People who are new to the audience become", list(NEW_CONTACTS), index=None,
                          captions=list(NEW_CONTACTS.values()))
        local = st.text_input("Local address, for a rehearsal", placeholder="http://127.0.0.1:8018",
                              help="Where a local Mailchimp listens. Leave it empty for a real account.")
        if st.form_submit_button("Connect", type="primary"):
            st.session_state["keys_used"] = turn + 1
            _ask(lambda: workspace.connect_mailchimp(key, _chosen(status), local.strip() or None))


def _chosen(status: str | None) -> str:
    if status is None:
        raise BadInput("Choose what people who are new to the audience become, and enter the key again.")
    return status


def _ask(question: Callable[[], dict[str, Any]]) -> None:
    """Ask Mailchimp; keep its audiences, or why it said no, for the page as it looks afterwards."""
    try:
        with st.spinner("Asking Mailchimp. If it does not answer, this takes a minute."):
            frame.remember_audiences(question())
    except cs.CohortsyncError as error:
        st.session_state["refusal"] = str(error)
    st.rerun()


workspace = frame.start("Connect", "Three steps: say what the project is, load its files, connect Mailchimp.")
show_project(workspace)
show_data(workspace)
show_mailchimp(workspace)
