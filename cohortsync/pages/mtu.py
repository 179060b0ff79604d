"""MTU: what the months cost, day by day, and which events the bill hangs on."""

from __future__ import annotations

import streamlit as st

import cohortsync as cs
from cohortsync.mtu import GUARDRAIL_EVENTS
from cohortsync.pages import frame, shown

VIEWS = {"months": "By month", "days": "Month to date, by day", "events": "Which events the bill hangs on"}
HEADINGS = {"month": "Month", "mtu": "MTU", "mtu_without_exemption": "Mailchimp counted",
            "mtu_engagement_counted": "Opens, clicks counted", "exempt_users": "Exempt", "events": "Events",
            "guardrail": "Guardrail", "billable": "Billable", "complete": "Complete"}
EVENTS = {"event": "Event", "counts_as": "Counts as", "users": "Users", "sole_users": "Only event of",
          "billable_effect": "Bill lower by", "events": "Events"}
GUARDRAILS = dict(zip(GUARDRAIL_EVENTS, ("all events", "only events that count for MTU",
                                         "events that count, and opens of mails"), strict=True))
READINGS = """
Mixpanel's own pages disagree on what counts, so three readings stand side by side:

- **MTU** is the bill: people whose only events come from Mailchimp are left out.
- **Mailchimp counted** is the same without that exemption. The difference is the **exempt** users.
- **Opens, clicks counted**: what a person does with a mail counts; that it was sent, bounced or unsubscribed from
  does not.

**Billable** is the larger of MTU and the guardrail (one user for every 1,000 events).
"""


def show_months(workspace: cs.Workspace, marked_only: bool) -> None:
    guardrail = st.selectbox("Events the guardrail counts", GUARDRAIL_EVENTS, format_func=GUARDRAILS.__getitem__,
                             key="guardrail", help="At least one user is billed for every 1,000 of them.")
    with frame.told():
        months = workspace.mtu(marked_only=marked_only, guardrail_events=guardrail)
    if partial := months.loc[~months["complete"], "month"].tolist():
        st.warning(f"**Incomplete: {', '.join(partial)}.** The loaded events do not reach from the first day to the "
                   "last, so these numbers will grow.", icon=":material/warning:")
    shown.table(months, HEADINGS)
    shown.figure(cs.charts.mtu(months), "mtu_figure")
    st.markdown(READINGS)
    shown.figure(cs.charts.exempt(months), "exempt_figure")


def show_days(workspace: cs.Workspace, marked_only: bool) -> None:
    with frame.told():
        found = workspace.month_to_date(marked_only=marked_only)
    if found:
        st.markdown(frame.plain(found.sentence()))
    shown.figure(cs.charts.month_to_date(found), "days_figure")


def show_events(workspace: cs.Workspace, marked_only: bool) -> None:
    months = workspace.mtu()["month"].tolist()[::-1]
    month = frame.choose("Month", months, "month") if months else None
    with frame.told():
        events = workspace.marginal_mtu(month, marked_only=marked_only)
    shown.figure(cs.charts.marginal(events), "marginal_figure")
    st.caption("*Only event of*: users who did nothing else that counts in the month. Without it, they leave MTU.")
    shown.table(events, EVENTS)


workspace = frame.start("MTU", "Monthly tracked users: people with an event that counts, by calendar month.")
with frame.told():
    nothing = not workspace.project or workspace.mtu().empty
if nothing:
    frame.ask_for("Nothing to show yet: no events are loaded.", "Load your Mixpanel export")
view = frame.switch("Show", VIEWS, "view")
marked_only = st.toggle("Exempt only events marked $source = mailchimp", key="marked_only",
                        help="Otherwise every event with one of Mailchimp's ten names is exempt.")
{"months": show_months, "days": show_days, "events": show_events}[view](workspace, marked_only)
