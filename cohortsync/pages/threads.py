"""Work in threads, until the command line plans and applies."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import streamlit as st

import cohortsync as cs
from cohortsync.pages.frame import plain
from cohortsync.sources import Progress

WORKERS = ThreadPoolExecutor(thread_name_prefix="cohortsync")


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
