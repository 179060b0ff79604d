"""MTU: what the months cost, with and without the Mailchimp-exempt events."""

from __future__ import annotations

import streamlit as st

import cohortsync as cs
from cohortsync.mtu import GUARDRAIL_EVENTS
from cohortsync.pages import frame, shown

HEADINGS = {"month": "Month", "mtu": "MTU", "mtu_without_exemption": "Mailchimp counted",
            "mtu_engagement_counted": "Opens, clicks counted", "exempt_users": "Exempt", "events": "Events",
            "guardrail": "Guardrail", "billable": "Billable", "complete": "Complete"}
GUARDRAILS = dict(zip(GUARDRAIL_EVENTS, ("all events", "only events that count for MTU",
                                         "events that count, and opens of mails"), strict=True))

workspace = frame.start("MTU", "Monthly tracked users: people with an event that counts, by calendar month.")
frame.cohort_names(workspace)
left, right = st.columns(2, vertical_alignment="bottom")
marked_only = left.toggle("Exempt only events marked $source = mailchimp", key="marked_only",
                          help="Otherwise every event with one of Mailchimp's ten names is exempt.")
guardrail = right.selectbox("Events the guardrail counts", GUARDRAIL_EVENTS, format_func=GUARDRAILS.__getitem__,
                            key="guardrail", help="At least one user is billed for every 1,000 of them.")
with frame.told():
    months = workspace.mtu(marked_only=marked_only, guardrail_events=guardrail)

if partial := months.loc[~months["complete"], "month"].tolist():
    st.warning(f"**Incomplete: {', '.join(partial)}.** The loaded events do not reach from the first day to the last, "
               "so these numbers will grow.", icon=":material/warning:")
numbers = {heading: st.column_config.NumberColumn(format="localized") for heading in list(HEADINGS.values())[1:-1]}
st.dataframe(months[list(HEADINGS)].rename(columns=HEADINGS), hide_index=True, column_config=numbers)
shown.figure(cs.charts.mtu(months), "mtu_figure")
st.markdown("""
Mixpanel's own pages disagree on what counts, so three readings stand side by side:

- **MTU** is the bill: people whose only events come from Mailchimp are left out.
- **Mailchimp counted** is the same without that exemption. The difference is the **exempt** users.
- **Opens, clicks counted**: what a person does with a mail counts; that it was sent, bounced or unsubscribed from
  does not.

**Billable** is the larger of MTU and the guardrail (one user for every 1,000 events).
""")
shown.figure(cs.charts.exempt(months), "exempt_figure")
