"""Long work as a page shows it: how far it is while it is at it, and what came of it, also to who comes back later."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import streamlit as st

import cohortsync as cs
from cohortsync.pages import frame
from cohortsync.work import Work, find, start

EVERY_SECONDS = 1.0


def name_of(what: str, *of: object) -> str:
    """A name for the work done about something, whatever that is called; it is a folder's."""
    return f"{what}-{hashlib.sha256(repr(of).encode()).hexdigest()[:12]}"


def at_work(workspace: cs.Workspace, *names: str) -> bool:
    return any(found.running for found in (find(workspace.home, name) for name in names) if found)


def clear(workspace: cs.Workspace, name: str) -> None:
    """Forget what came of the work of this name."""
    if found := find(workspace.home, name):
        found.clear()


def begin(workspace: cs.Workspace, name: str, label: str, words: Sequence[object]) -> None:
    """Start ``cohortsync <words>`` for the workspace's project, and show the page as it then stands."""
    project = ["--project", workspace.project_id] if workspace.project_id else []
    start(workspace.home, name, label, [*project, *words])
    st.rerun()


def follow(workspace: cs.Workspace, name: str) -> Work | None:
    """Show the work of this name until it has ended; then answer it, or say why it failed and that it is forgotten."""
    found = find(workspace.home, name)
    if not found:
        return None
    if found.running:
        _show_progress(found)
        return None
    if found.answer() is not None:
        return found
    st.error(f"**{frame.plain(found.label)}:** {frame.plain(found.error())}", icon=":material/error:")
    if st.button("Dismiss", key=f"dismiss-{name}", icon=":material/close:"):
        found.clear()
        st.rerun()
    return None


@st.fragment(run_every=EVERY_SECONDS)
def _show_progress(found: Work) -> None:
    """A bar that looks every second how far the work is, and has the page shown anew when it has ended."""
    if not found.running:
        st.rerun()
    step, share = found.progress()
    with st.container(border=True):
        st.progress(share, f"**{frame.plain(found.label)}** · {frame.plain(step)}")
        st.caption(f"Begun {frame.ago(found.started_at)}. It goes on when you look elsewhere or close this page.")
