"""Audience: the Mailchimp audience as it was last read, and who of it the cohorts' segments hold."""

from __future__ import annotations

import streamlit as st

import cohortsync as cs
from cohortsync.pages import frame, shown

HEADINGS = {"email": "E-mail", "status": "Status", "last_changed": "Last changed (UTC)"}

workspace = frame.start("Audience", "A Mailchimp audience as it stood when it was last read: before a plan, and after "
                                    "a sync.")
audiences = frame.audiences(workspace)
audience = frame.choose("Mailchimp audience", list(audiences), "audience", lambda one: f"{audiences[one]} ({one})")
with frame.told():
    standing = workspace.member_counts(audience)
if standing.empty:
    st.info("This audience was not read yet. A plan reads it.", icon=":material/arrow_forward:")
    st.page_link(frame.PAGES / "export.py", label="Plan an export", icon=":material/send:")
    st.stop()
frame.metrics({"Contacts": (int(standing["people"].sum()), "everyone in the audience, archived contacts included"),
               "Mailable": (int(standing.loc[standing["status"] == "subscribed", "people"].sum()),
                            "subscribed: they get campaigns")})
if read_at := workspace.audience_read_at(audience):
    st.caption(f"Last read {read_at:%Y-%m-%d %H:%M} UTC, by Mailchimp's clock.")
shown.figure(cs.charts.standing(standing), "standing_figure")
st.header("Segments kept for cohorts", anchor=False)
shown.table(workspace.segments(audience), {"cohort": "Cohort", "name": "Segment", "people": "People on it"})
st.header("Contacts", anchor=False)
status = st.selectbox("Status", ["", *standing["status"]], format_func=lambda one: one or "All")
contacts = workspace.members(audience, status=status, limit=shown.SHOWN)
shown.people(contacts.assign(last_changed=shown.minute(contacts["last_changed"])), HEADINGS,
             int(standing.loc[standing["status"].isin([status] if status else standing["status"]), "people"].sum()))
