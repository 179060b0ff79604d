"""Cohorts: who of a cohort Mailchimp would get, why not the rest, and how they stand in its audiences."""

from __future__ import annotations

import re

import pandas as pd
import streamlit as st

import cohortsync as cs
from cohortsync.audience import EXPLAINED
from cohortsync.pages import frame, login, shown

HEADINGS = {"email": "E-mail", "first_name": "First name", "last_name": "Last name", "meaning": "Why",
            "distinct_id": "Id in the cohort", "canonical_id": "User", "last_seen_at": "Last seen (UTC)"}


def show_standing(workspace: cs.Workspace, standing: pd.DataFrame) -> None:
    """New, there or refused, in each audience as it was last read; without a connection there is none."""
    names = frame.audience_names(workspace)
    for audience, rows in standing.groupby("audience_id"):
        st.header(f"In the audience {frame.plain(names.get(str(audience), audience))}, as last read", anchor=False)
        shown.figure(cs.charts.standing(rows), f"standing-{audience}")


workspace = frame.start("Cohorts", "Who of a cohort can be exported, and the one reason why each of the rest cannot.")
cohort = frame.choose("Cohort", frame.cohort_names(workspace), "cohort")
chosen = [reason for reason in st.session_state.get("reasons", []) if reason in EXPLAINED]
whole = login.is_admin() and st.session_state.get("whole", False)
with frame.told():
    summary, standing, people = workspace.audience_at_once(cohort, reasons=chosen, limit=shown.SHOWN, whole=whole)

frame.metrics({"In the cohort": (summary["size"], "ids, some of them of the same user"),
               "Exportable": (summary["exportable"], "users who can be sent to Mailchimp")})
st.page_link(frame.PAGES / "export.py", label="Export this cohort", icon=":material/send:")
if summary["warning"]:
    st.warning(frame.plain(summary["warning"]), icon=":material/warning:")
shown.figure(cs.charts.reasons(summary), "reasons_figure")
show_standing(workspace, standing)

st.header("People", anchor=False)
reasons = {reason: count for reason, count in summary["reasons"].items() if count}
st.multiselect("Only these reasons", list(EXPLAINED), key="reasons", format_func=EXPLAINED.__getitem__,
               placeholder="All reasons")
if login.is_admin():
    st.toggle("Show whole addresses", key="whole", help="For admins. They are never written anywhere.")
shown.people(people.assign(meaning=people["reason"].map(EXPLAINED)), HEADINGS,
             sum(reasons.get(reason, 0) for reason in chosen or reasons), whole)
st.download_button("Download who and why (CSV, masked)", lambda: shown.csv(shown.masked(workspace.audience(cohort))),
                   f"{re.sub(r'[^A-Za-z0-9-]+', '_', cohort)}-reasons.csv", "text/csv", on_click="ignore",
                   icon=":material/download:")
with st.expander("The reasons in words"):
    st.dataframe(pd.DataFrame([(EXPLAINED[reason], reason, count) for reason, count in reasons.items()],
                              columns=["What it means", "Reason", "Ids"]), hide_index=True)
