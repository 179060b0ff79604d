"""What every page has around it: the workspace, the project, where a sync would go, and errors in words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import streamlit as st

import cohortsync as cs
from cohortsync import work
from cohortsync.pages import login

PAGES = Path(__file__).parent
UNITS = {"day": 1440, "hour": 60, "minute": 1}


def start(title: str, explanation: str) -> cs.Workspace:
    """Head a page: its title, what it is for, the project at the side, and where a sync would go."""
    st.title(title, anchor=False)
    st.caption(explanation)
    with told():
        workspace = _project_chosen(cs.open())
        _sidebar(workspace)
        _banner(workspace.connection, workspace.mixpanel_connection)
    return workspace


def _project_chosen(workspace: cs.Workspace) -> cs.Workspace:
    """The workspace opened for the project chosen at the side, where it holds several."""
    projects = workspace.projects()["project_id"].tolist()
    if len(projects) < 2:
        return workspace
    if workspace.project_id:
        st.session_state.setdefault("chosen_project", workspace.project_id)
    with st.sidebar:
        return cs.open(workspace.home, choose("Project", projects, "project", plain))


def look_at_project(project_id: str) -> None:
    """Choose a project at the side, from the next run of the page on."""
    st.session_state.pop("project", None)
    st.session_state["chosen_project"] = project_id


def plain(text: object) -> str:
    """Text from outside as it reads, wherever Streamlit would take it for Markdown.

    Escapes do not stop it from making links of addresses; a word joiner, which nobody sees, does.
    """
    unlinked = re.sub(r"(?i)(www(?=\.)|https?(?=://\D)|(?=@))", "\\1\u2060", " ".join(str(text).split()))
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", unlinked)


def _sidebar(workspace: cs.Workspace) -> None:
    """The project, as of when its data is, what is at work, and who is looking."""
    with st.sidebar:
        if project := workspace.project:
            st.markdown(f"**Project** {plain(project['project_id'])}  \n**Time zone** {plain(project['timezone'])}  \n"
                        f"**ID merge** {plain(project['id_merge'])}")
        else:
            st.caption("No project yet")
        if workspace.as_of:
            st.caption(f"Data as of {workspace.as_of:%Y-%m-%d %H:%M} UTC")
        for found in work.under_way(workspace.home):
            st.caption(f":material/progress_activity: {plain(found.label)}")
        login.show()


def _banner(connection: dict[str, Any] | None, source: dict[str, Any] | None) -> None:
    """Where a sync would go, and whether anything on the way there stands in need of a person."""
    if not connection:
        st.info("**Not connected** to Mailchimp yet. Cohorts and MTU work without it.", icon=":material/link_off:")
        return
    ailing = [side["status"] for side in (connection, source) if side and side["status"] != "Connected"]
    ails = f" · **{plain(ailing[0])}**, see Connect" if ailing else ""
    name = plain(connection["account_name"])
    if connection["rehearsal"]:
        st.warning(f"**LOCAL REHEARSAL** · {name} · a Mailchimp on this machine with nobody real in it: no mail is "
                   f"sent{ails}", icon=":material/science:")
    else:
        st.error(f"**REAL ACCOUNT · {name}** · a sync changes which real people get your campaigns{ails}",
                 icon=":material/campaign:")


@contextmanager
def told() -> Iterator[None]:
    """Show an error meant for people as its message, and end the page there."""
    try:
        yield
    except cs.CohortsyncError as error:
        st.error(plain(error), icon=":material/error:")
        st.stop()


def once(name: str, of: object, ask: Callable[[], Any]) -> Any:
    """What was asked once in a session, for as long as it is ``of`` the same."""
    if st.session_state.get(f"{name}_of") != of:
        with told():
            st.session_state[name] = ask()
        st.session_state[f"{name}_of"] = of
    return st.session_state[name]


def ask_for(what_is_missing: str, link: str, page: str = "connect") -> None:
    """The empty state: what is missing, and the way to where it is put right. Ends the page."""
    st.info(what_is_missing, icon=":material/arrow_forward:")
    st.page_link(PAGES / f"{page}.py", label=link, icon=":material/arrow_forward:")
    st.stop()


def choose(label: str, options: list[str], name: str, format_func: Callable[[str], str] = str) -> str:
    """A choice that outlives a change of page; a link can make it too (``?name=``)."""
    state = st.session_state
    wanted = state.get(name, state.get(f"chosen_{name}", st.query_params.get(name)))
    if wanted in options:
        state[name] = wanted
    chosen = st.selectbox(label, options, key=name, format_func=format_func)
    state[f"chosen_{name}"] = st.query_params[name] = chosen
    return chosen


def switch(label: str, views: Mapping[str, str], name: str) -> str:
    """One of several views of a page, which a link can choose too."""
    if name not in st.session_state and st.query_params.get(name) in views:
        st.session_state[name] = st.query_params[name]
    st.query_params[name] = chosen = str(st.radio(label, list(views), key=name, format_func=views.__getitem__,
                                                  horizontal=True))
    return chosen


def cohort_names(workspace: cs.Workspace) -> list[str]:
    """The loaded cohorts; where there are none, says what to do next and ends the page."""
    with told():
        names = workspace.cohort_names() if workspace.project else []
    if not names:
        ask_for("Nothing to show yet: no cohort is loaded.", "Load your Mixpanel export")
    return names


def audiences(workspace: cs.Workspace) -> dict[str, str]:
    """The connected account's audiences, ``audience_id`` → name; asked for once in a session."""
    connection = workspace.connection
    if not connection:
        ask_for("To export, connect a Mailchimp account or the local rehearsal first.", "Connect Mailchimp")
        return {}
    if st.session_state.get("audiences_of") != (connection["host"], connection["account_id"]):
        with told(), st.spinner("Asking Mailchimp for its audiences. If it does not answer, this takes a minute."):
            remember_audiences(workspace.check_mailchimp())
    return st.session_state["audiences"]


def audience_names(workspace: cs.Workspace) -> dict[str, str]:
    """Audiences by id, as far as they are known without asking: from runs, and from this session."""
    runs = workspace.runs()
    return dict(zip(runs["audience_id"], runs["audience_name"], strict=True)) | st.session_state.get("audiences", {})


def cohort_and_audience(workspace: cs.Workspace) -> tuple[str, str]:
    """The two choices of an export, side by side; a link can make both."""
    names, found = cohort_names(workspace), audiences(workspace)
    left, right = st.columns(2)
    with left:
        cohort = choose("Cohort", names, "cohort")
    with right:
        audience = choose("Mailchimp audience", list(found), "audience", lambda one: f"{found[one]} ({one})")
    return cohort, audience


def metrics(named: Mapping[str, tuple[int, str]]) -> None:
    """Numbers in a row, each with what it means."""
    for column, (name, (number, meaning)) in zip(st.columns(len(named)), named.items(), strict=True):
        column.metric(name, f"{number:,}", help=meaning, border=True)


def remember_audiences(connection: dict[str, Any]) -> None:
    st.session_state["audiences_of"] = (connection["host"], connection["account_id"])
    st.session_state["audiences"] = {a["audience_id"]: a["name"] for a in connection["audiences"]}


def ago(instant: str) -> str:
    """How long ago an ISO instant was, in words."""
    minutes = (datetime.now(UTC) - datetime.fromisoformat(instant)).total_seconds() // 60
    for unit, size in UNITS.items():
        if count := int(minutes // size):
            return f"{count} {unit}{'s' * (count > 1)} ago"
    return "just now"
