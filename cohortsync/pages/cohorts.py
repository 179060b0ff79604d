"""Cohorts: who of a cohort Mixpanel would export to Mailchimp, and why the rest not."""

from __future__ import annotations

import re

import pandas as pd
import streamlit as st

import cohortsync as cs
from cohortsync.audience import EXPLAINED
from cohortsync.pages import frame, shown

HEADINGS = {"email": "E-mail", "first_name": "First name", "last_name": "Last name", "meaning": "Why",
            "distinct_id": "Id in the cohort", "canonical_id": "User", "last_seen_at": "Last seen (UTC)"}

workspace = frame.start("Cohorts", "Who of a cohort can be exported, and the one reason why each of the rest cannot.")
cohort = frame.choose("Cohort", frame.cohort_names(workspace), "cohort")
with frame.told():
    summary, people = workspace.audience_summary(cohort), workspace.audience(cohort)

size, exportable, share = st.columns(3)
size.metric("In the cohort", f"{summary['size']:,}", border=True)
exportable.metric("Exportable", f"{summary['exportable']:,}", border=True)
share.metric("Share", f"{summary['exportable'] / max(summary['size'], 1):.0%}", border=True)
st.page_link(frame.PAGES / "export.py", label="Export this cohort", icon=":material/send:")
if summary["warning"]:
    st.warning(frame.plain(summary["warning"]), icon=":material/warning:")

shown.figure(cs.charts.reasons(summary), "reasons_figure")
reasons = {reason: count for reason, count in summary["reasons"].items() if count}
st.dataframe(pd.DataFrame([(EXPLAINED[reason], reason, count) for reason, count in reasons.items()],
                          columns=["What it means", "Reason", "Ids"]), hide_index=True)

st.subheader("People")
chosen = st.multiselect("Only these reasons", list(reasons), format_func=EXPLAINED.__getitem__,
                        placeholder="All reasons")
people = people[people["reason"].isin(chosen or reasons)]
shown.people(people.assign(meaning=people["reason"].map(EXPLAINED)), HEADINGS)
st.download_button("Download who and why (CSV, masked)", lambda: shown.csv(shown.masked(people)),
                   f"{re.sub(r'[^A-Za-z0-9-]+', '_', cohort)}-reasons.csv", "text/csv", on_click="ignore",
                   icon=":material/download:")
if st.toggle("Compare all cohorts"):
    with frame.told():
        shown.figure(cs.charts.cohort_sizes(workspace.cohorts()), "sizes_figure")
