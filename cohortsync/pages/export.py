"""Export: plan what a sync would change, approve it, apply it, and see it proven."""

from __future__ import annotations

import streamlit as st

import cohortsync as cs
from cohortsync.pages import frame, proof, shown, threads
from cohortsync.plan import Plan

WORDS = {word: meaning for word, (meaning, _colour) in cs.charts.WORDS.items()}
HEADINGS = {"email": "E-mail", "canonical_id": "User", "meaning": "What happens", "reason": "Why",
            "status": "In the audience now", "in_segment": "On the segment now"}


def choose(workspace: cs.Workspace) -> tuple[str, str]:
    """The cohort and the audience; another choice drops the plan and the proof of the last."""
    names, audiences = frame.cohort_names(workspace), frame.audiences(workspace)
    left, right = st.columns(2)
    with left:
        cohort = frame.choose("Cohort", names, "cohort")
    with right:
        audience = frame.choose("Mailchimp audience", list(audiences), "audience",
                                lambda audience: f"{audiences[audience]} ({audience})")
    choice = (workspace.project_id, cohort, audience, st.session_state["audiences_of"])
    if st.session_state.get("planned_for") != choice:
        st.session_state["planned_for"] = choice
        st.session_state.pop("approved", None)
        st.session_state.pop("receipt", None)
    return cohort, audience


def show_plan(plan: Plan) -> None:
    st.subheader("The plan")
    st.markdown(f"**{frame.plain(plan.cohort)}** → **{frame.plain(plan.target)}**")
    for column, (word, meaning) in zip(st.columns(len(WORDS)), WORDS.items(), strict=True):
        column.metric(word.replace("_", " ").capitalize(), f"{plan.counts[word]:,}", help=meaning, border=True)
    st.caption(f"{plan.writes} requests will write. New contacts become {plan.new_contacts}. "
               f"{sum(plan.excluded.values()):,} of the cohort's {plan.size:,} ids are not exportable.")
    for warning in plan.warnings:
        st.warning(frame.plain(warning), icon=":material/warning:")
    if plan.counts["add_new"] or plan.counts["add_existing"]:
        st.info("Automations in Mailchimp that start with this tag will start for the people added.",
                icon=":material/bolt:")
    shown.figure(cs.charts.plan(plan.counts), "plan_figure")


def approve(workspace: cs.Workspace, plan: Plan) -> None:
    """A rehearsal takes a click; a real account takes its audience's name as well."""
    agreed = plan.target.rehearsal
    if not agreed:
        typed = st.text_input("This changes a real audience. Type the audience's name to go on", key="typed_name")
        agreed = typed == plan.target.audience_name
    for guard in plan.guards:
        st.warning(frame.plain(guard.message), icon=":material/front_hand:")
    if plan.guards:
        typed = st.text_input("A guard stops this plan. Type how many people it changes to go on", key="typed_number")
        agreed &= typed.replace(",", "") == str(plan.changes)
    if st.button("Sync now", type="primary", disabled=not agreed, icon=":material/send:"):
        del st.session_state["approved"]
        threads.begin("sync", f"Syncing {plan.cohort}",
                    lambda progress: workspace.apply(plan, force=bool(plan.guards), progress=progress))
        st.rerun()


def show_people(plan: Plan) -> None:
    present = [word for word in WORDS if plan.counts[word]]
    chosen = st.multiselect("Only these people", present, format_func=WORDS.__getitem__, placeholder="Everyone")
    people = plan.preview()
    people = people[people["word"].isin(chosen or present)]
    people = people.assign(meaning=people["word"].map(WORDS), status=people["status"].fillna("not in it"))
    shown.people(people, HEADINGS)


workspace = frame.start("Export", "First a plan, which only reads. Then, when you say so, the sync and its proof.")
cohort, audience = choose(workspace)
if receipt := threads.finished("sync"):
    st.session_state["receipt"] = receipt
if st.button("Plan", type="secondary" if "approved" in st.session_state else "primary", icon=":material/preview:",
             key="make_plan"):
    st.session_state.pop("receipt", None)
    with frame.told(), st.spinner("Reading the audience. Nothing is changed."):
        st.session_state["approved"] = workspace.plan(cohort, audience)
    st.rerun()
if plan := st.session_state.get("approved"):
    show_plan(plan)
    approve(workspace, plan)
    show_people(plan)
elif receipt := st.session_state.get("receipt"):
    proof.show(workspace, receipt)
else:
    st.caption("Plan says what a sync would do to each person. It changes nothing.")
