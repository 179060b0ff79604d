"""The project's data: what it holds, and loading more of it from files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import streamlit as st

import cohortsync as cs
from cohortsync import config, work
from cohortsync.pages import frame, progress, shown
from cohortsync.work import Work

KINDS = {"events": "Events (raw export)", "profiles": "Profiles (engage pages, NDJSON or CSV)",
         "cohorts": "Cohorts, one file each (engage pages, CSV or a list of ids)"}


def show(workspace: cs.Workspace) -> None:
    st.header("2 · Mixpanel data", anchor=False)
    if not workspace.project:
        st.caption("Connect or save the project first.")
        return
    name = progress.name_of("load", workspace.project["project_id"])
    loaded = progress.follow(workspace, name)
    with frame.told():
        held = workspace.counts()
    for column, (table, count) in zip(st.columns(3), held.items(), strict=True):
        column.metric(table.capitalize(), f"{count:,}", border=True)
    if loaded:
        _show_report(workspace, loaded)
    _pull(workspace)
    with st.expander("Load files", expanded=not held["cohorts"] and not workspace.mixpanel_connection):
        _load_form(workspace, name)
    if held["cohorts"]:
        st.page_link(frame.PAGES / "cohorts.py", label="See who can be exported", icon=":material/groups:")


def _pull(workspace: cs.Workspace) -> None:
    """Fetch what is new from Mixpanel, where the project is connected."""
    if not workspace.mixpanel_connection:
        return
    name = progress.name_of("pull", workspace.project["project_id"])  # type: ignore[index]
    if pulled := progress.follow(workspace, name):
        st.success(f"Pulled from Mixpanel {frame.ago(pulled.started_at)}.", icon=":material/cloud_done:")
    if not progress.at_work(workspace, name) and st.button(
            "Pull from Mixpanel", type="primary", icon=":material/cloud_download:",
            help="Cohorts, profiles, and the events of days that are new or may have changed."):
        progress.begin(workspace, name, "Pulling from Mixpanel", ["pull"])


def _show_report(workspace: cs.Workspace, loaded: Work) -> None:
    report = loaded.answer()
    if not report["events_added"] and all(file["known"] for file in report["files"]):
        st.info("These files were loaded before; nothing changed.", icon=":material/done_all:")
    else:
        st.success(f"Loaded {len(report['files'])} files {frame.ago(loaded.started_at)}: {report['events_added']:,} "
                   f"new events, {report['duplicates']:,} duplicates left out.", icon=":material/check_circle:")
    if report["unkeyed_in_overlap"]:
        st.warning(f"{report['unkeyed_in_overlap']:,} events without \\$insert_id lie on days that several files "
                   "cover. They cannot be told from repeats and were all counted.", icon=":material/warning:")
    for text in report["notes"]:
        st.info(frame.plain(text), icon=":material/info:")
    if report["quarantined"]:
        st.warning(f"{report['quarantined']:,} lines could not be read and were set aside.", icon=":material/warning:")
        lines = workspace.quarantine().tail(report["quarantined"]).head(shown.SHOWN)
        st.dataframe(lines.assign(file=[Path(path).name for path in lines["file"]])[["file", "line", "reason"]],
                     hide_index=True)
    if st.button("Dismiss", icon=":material/close:"):
        loaded.clear()
        st.rerun()


def _load_form(workspace: cs.Workspace, work_name: str) -> None:
    """The fields get new names after a load, so that they are empty again."""
    st.caption("Files as Mixpanel gives them, plain or gzipped. The same file twice adds nothing.")
    turn = st.session_state.get("loads", 0)
    given = {kind: st.file_uploader(label, accept_multiple_files=True, key=f"{kind}-{turn}")
             for kind, label in KINDS.items()}
    names = [st.text_input(f"Name of the cohort in {frame.plain(file.name)}", key=f"name-{file.file_id}",
                           value=file.name.split(".")[0].removeprefix("cohort-")) for file in given["cohorts"]]
    named = len(set(names)) == len(names) and all(name.strip() and "=" not in name for name in names)
    if not named:
        st.warning("Give each cohort a name of its own, without an equals sign.", icon=":material/warning:")
    if st.button("Load", type="primary", disabled=not (named and any(given.values()))):
        st.session_state["loads"] = turn + 1
        progress.begin(workspace, work_name, "Loading files", _words(workspace, work_name, given, names))


def _words(workspace: cs.Workspace, work_name: str, given: Mapping[str, list[Any]], names: list[str]) -> list[str]:
    """The uploaded files put beside the work, and the words that load them; they go when the report is dismissed."""
    folder = config.private_folder(work.place(workspace.home, work_name) / "files")
    words = ["load"]
    for kind, files in given.items():
        for number, file in enumerate(files):
            path = config.private_folder(folder / f"{kind}-{number}") / (Path(file.name).name.lstrip(".") or "file")
            config.write_private(path, file.getvalue())
            words.append(f"--cohort={names[number]}={path}" if kind == "cohorts" else f"--{kind}={path}")
    return words
