"""What every page has around it: the workspace, the banner, errors in words, masked tables, and long work."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

import cohortsync as cs
from cohortsync import emails
from cohortsync.sources import Progress

PAGES = Path(__file__).parent
WORKERS = ThreadPoolExecutor(thread_name_prefix="cohortsync")
FORMULA_STARTS = tuple("=+-@\t\r＝＋－＠")
SHOWN = 500
DARK_INK, LIGHT_INK = "#50545f", "#c9ccd8"
UNITS = {"day": 1440, "hour": 60, "minute": 1}


def start(title: str, explanation: str) -> cs.Workspace:
    """Head a page: its title, what it is for, the project at the side, and where a sync would go."""
    st.title(title)
    st.caption(explanation)
    with told():
        workspace = _project_chosen(cs.open())
        _sidebar(workspace.project, workspace.as_of)
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


def _sidebar(project: dict[str, Any] | None, as_of: datetime | None) -> None:
    if not project:
        st.sidebar.caption("No project yet")
        return
    st.sidebar.markdown(f"**Project** {plain(project['project_id'])}  \n**Time zone** {plain(project['timezone'])}  \n"
                        f"**ID merge** {plain(project['id_merge'])}")
    if as_of:
        st.sidebar.caption(f"Data as of {as_of:%Y-%m-%d %H:%M} UTC")


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


def ask_for(what_is_missing: str, link: str) -> None:
    """The empty state: what is missing, and the way to where it is put right. Ends the page."""
    st.info(what_is_missing, icon=":material/arrow_forward:")
    st.page_link(PAGES / "connect.py", label=link, icon=":material/link:")
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


def cohort_names(workspace: cs.Workspace) -> list[str]:
    """The loaded cohorts; where there are none, says what to do next and ends the page."""
    with told(), workspace.connect() as con:
        names = [name for (name,) in con.execute("select cohort from cohorts where project_id = ? order by cohort",
                                                 [(workspace.project or {}).get("project_id")]).fetchall()]
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


def remember_audiences(connection: dict[str, Any]) -> None:
    st.session_state["audiences_of"] = (connection["host"], connection["account_id"])
    st.session_state["audiences"] = {a["audience_id"]: a["name"] for a in connection["audiences"]}


@dataclass
class Work:
    """Something under way in a thread of its own: the next click ends a page's script, but not this."""

    label: str
    future: Future[Any]
    now: list[tuple[str, float, float]]


def begin(name: str, label: str, do: Callable[[Progress], Any]) -> None:
    """Start ``do(progress)`` under a name; ``finished(name)`` shows it and hands over its answer."""
    now: list[tuple[str, float, float]] = [(label, 0, 1)]

    def note(step: str, done: float, total: float) -> None:
        now[0] = (step, done, total)

    st.session_state[name] = Work(label, WORKERS.submit(do, note), now)


def finished(name: str) -> Any | None:
    """Show the work of this name until it has ended; its answer, or None when there is none or it failed."""
    work: Work | None = st.session_state.get(name)
    if not work:
        return None
    with st.status(plain(work.label), expanded=True) as status:
        bar = st.progress(0.0)
        while wait([work.future], timeout=0.2).not_done:
            step, done, total = work.now[0]
            bar.progress(min(done / total, 1.0) if total else 0.0, plain(step))
        bar.empty()
        del st.session_state[name]
        try:
            answer = work.future.result()
        except cs.CohortsyncError as error:
            st.error(plain(error), icon=":material/error:")
            status.update(label=f"{plain(work.label)}: stopped", state="error")
            return None
        status.update(label=f"{plain(work.label)}: done", state="complete", expanded=False)
    return answer


def figure(drawn: go.Figure, key: str) -> None:
    """A figure with its own colours, its words in the page's font and ink.

    Streamlit puts an empty template in the place of Plotly's, which holds the axes' margins.
    """
    ink = LIGHT_INK if st.context.theme.type == "dark" else DARK_INK
    drawn.update_layout(template="plotly", font={"color": ink, "family": "Source Sans, sans-serif"})
    st.plotly_chart(drawn, key=key, theme=None, config={"displayModeBar": False})


def masked(people: pd.DataFrame) -> pd.DataFrame:
    """A table of people with no address in it, also where an id, a name or a malformed e-mail holds one."""
    def hidden(column: pd.Series) -> pd.Series:
        if not pd.api.types.is_string_dtype(column):
            return column
        return column.map(emails.mask if column.name == "email" else emails.scrub, na_action="ignore")

    return people.apply(hidden)


def show(people: pd.DataFrame, headings: Mapping[str, str]) -> None:
    """The first rows of a table of people: the columns named, under the headings given."""
    first = f"The first {SHOWN:,} of {len(people):,} people" if len(people) > SHOWN else f"{len(people):,} people"
    st.caption(f"{first}; addresses masked.")
    shown = masked(people.head(SHOWN)[list(headings)]).rename(columns=dict(headings))
    st.dataframe(shown, hide_index=True, placeholder="")


def csv(table: pd.DataFrame) -> bytes:
    """A table as a CSV whose cells no spreadsheet takes for formulas."""
    def guarded(cell: Any) -> Any:
        return f"'{cell}" if isinstance(cell, str) and cell.lstrip(" ").startswith(FORMULA_STARTS) else cell

    return table.map(guarded).to_csv(index=False).encode("utf-8-sig")


def ago(instant: str) -> str:
    """How long ago an ISO instant was, in words."""
    minutes = (datetime.now(UTC) - datetime.fromisoformat(instant)).total_seconds() // 60
    for unit, size in UNITS.items():
        if count := int(minutes // size):
            return f"{count} {unit}{'s' * (count > 1)} ago"
    return "just now"
