"""From a plan to its proof: planned, approved, applied, proven, each step as it stands for whoever looks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import streamlit as st

import cohortsync as cs
from cohortsync.orders import DYNAMIC
from cohortsync.pages import approval, frame, login, progress, proof
from cohortsync.plan import Plan


@dataclass(frozen=True)
class Decision:
    """What is planned: its name in the workspace, in words, the words of the command line that plan it, the button's.

    ``stand``: makes it a sync that stands, on the plan's terms, where that can be chosen. ``ready``: whether
    everything it is planned by has been chosen.
    """

    of: tuple[object, ...]
    label: str
    words: Sequence[str]
    press: str
    stand: Callable[[Plan], object] | None = None
    ready: bool = True

    @property
    def names(self) -> tuple[str, str]:
        return progress.name_of("plan", *self.of), progress.name_of("apply", *self.of)


def show(workspace: cs.Workspace, decision: Decision) -> None:
    """The step that it stands at, and what can be done there."""
    plan_name, apply_name = decision.names
    planned, applied = progress.follow(workspace, plan_name), progress.follow(workspace, apply_name)
    if applied:
        with frame.told():
            proof.show(workspace, workspace.receipt(applied.answer()["run_id"]))
    if progress.at_work(workspace, plan_name, apply_name):
        st.caption("A plan only reads. A sync notes each request before it leaves, so that it can be finished if it is "
                   "cut off.")
    elif planned:
        with frame.told():
            plan = workspace.kept_plan(planned.answer()["run_id"])
        approval.show(plan)
        if login.only_admins("approving a plan"):
            _approve(workspace, decision, plan)
        approval.show_people(plan)
    elif login.only_admins("planning") and st.button(f"{decision.press}{' again' if applied else ''}",
                                                     type="secondary" if applied else "primary",
                                                     icon=":material/preview:", disabled=not decision.ready):
        if applied:
            applied.clear()
        progress.begin(workspace, plan_name, f"Planning {decision.label}", decision.words)


def _approve(workspace: cs.Workspace, decision: Decision, plan: Plan) -> None:
    """How often it is to be done, what must be typed, and the two ways on."""
    plan_name, apply_name = decision.names
    kind = approval.how_often() if decision.stand else ""
    if words := approval.words(plan):
        if decision.stand and kind == DYNAMIC:
            with frame.told():
                decision.stand(plan)
        progress.clear(workspace, plan_name)
        progress.begin(workspace, apply_name, f"Syncing {decision.label}", words)
    if st.button("Drop this plan", type="tertiary", icon=":material/close:"):
        progress.clear(workspace, plan_name)
        st.rerun()
