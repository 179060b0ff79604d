"""A plan as a person approves it: what happens to people, what it costs on both sides, and what stands in its way."""

from __future__ import annotations

import streamlit as st

import cohortsync as cs
from cohortsync.orders import DYNAMIC, ONE_TIME
from cohortsync.pages import frame, shown
from cohortsync.plan import Plan, Terms
from cohortsync.plan import shown as fit_to_show
from cohortsync.words import why

WORDS = {word: meaning for word, (meaning, _colour) in cs.charts.WORDS.items()}
HEADINGS = {"email": "E-mail", "canonical_id": "User", "meaning": "What happens", "reason": "Why",
            "status": "In the audience now", "in_segment": "On the segment now"}
KINDS = {ONE_TIME: "Now, and not again by itself.",
         DYNAMIC: "Now, and every two hours: the segment follows the cohort."}
NUMBERS = {"exportable": "people of the cohort who can be sent",
           "in_segment": "people on the cohort's segment after the sync",
           "mailable": "of these, subscribed: they get campaigns"}


def show(plan: Plan) -> None:
    """Who goes where, the three numbers, the bill of both sides, and the figure."""
    st.header("The plan", anchor=False)
    st.markdown(f"**{frame.plain(plan.cohort)}** → **{frame.plain(plan.target)}**")
    frame.metrics({word.replace("_", " ").capitalize(): (plan.counts[word], meaning) for word, meaning in WORDS.items()
                   if word in plan.counts})
    frame.metrics({name.replace("_", " ").capitalize(): (plan.numbers[name], meaning)
                   for name, meaning in NUMBERS.items()})
    show_terms(plan.terms)
    _show_bill(plan)
    for warning in plan.warnings:
        st.warning(frame.plain(warning), icon=":material/warning:")
    if plan.additions:
        st.info("Automations in Mailchimp that start with this tag will start for the people added.",
                icon=":material/bolt:")
    shown.figure(cs.charts.plan(plan.counts), "plan_figure")


def show_terms(terms: Terms) -> None:
    if said := str(terms):
        st.caption(f"**Terms:** {frame.plain(said)}")


def show_guards(plan: Plan) -> None:
    """What stops the plan until a person says yes."""
    for guard in plan.guards:
        st.warning(f"**A guard stops this plan.** {frame.plain(guard.message.partition('. ')[0])}.",
                   icon=":material/front_hand:")


def _show_bill(plan: Plan) -> None:
    """What Mailchimp will bill, what Mixpanel will, and how many requests it takes."""
    mailchimp, mixpanel = st.columns(2, border=True)
    requests = plan.requests
    more = f", and {requests['field_writes']:,} more for merge fields" if requests["field_writes"] else ""
    mailchimp.metric("Mailchimp: new billed contacts", f"{plan.new_billed_contacts:,}",
                     help="Contacts that the audience holds after the sync and not before.")
    mailchimp.caption(f"New contacts become {plan.new_contacts}. {requests['writes']} requests will write{more}.")
    if plan.mtu and plan.mtu.month:
        bound = "at most " * bool(plan.mtu.adds_at_most)
        mixpanel.metric("Mixpanel: users added to MTU", f"{bound}{plan.mtu.adds_at_most:,}",
                        help="By a campaign to the segment, as the event classes stand.")
    mixpanel.caption(frame.plain(plan.mtu or "What is taken back adds nobody to MTU."))


def agreed(plan: Plan) -> bool:
    """Whether a person has confirmed where it goes: a real audience by its name, a rehearsal needs no more."""
    if plan.target.rehearsal:
        return True
    typed = st.text_input("This changes a real audience. Type the audience's name to go on", key="typed_name",
                          placeholder=plan.target.audience_name)
    return typed.strip() == plan.target.audience_name


def words(plan: Plan) -> list[str] | None:
    """The words of the command line that apply the plan, once it is approved."""
    confirmed, options = agreed(plan), ["--yes"]
    show_guards(plan)
    if plan.guards:
        typed = st.text_input("Type how many people the plan changes to go on all the same", key="typed_number",
                              placeholder=str(plan.changes))
        confirmed &= typed.replace(",", "").strip() == str(plan.changes)
        first = plan.guards[0].name == "first"
        options += ["--confirm", str(plan.additions)] if first else ["--force"]
    pressed = st.button("Sync now", type="primary", disabled=not confirmed or not plan.run_id, icon=":material/send:")
    return ["apply", plan.run_id, *options] if pressed else None


def how_often() -> str:
    """One-time or dynamic, in words."""
    return str(st.radio("How often", list(KINDS), captions=list(KINDS.values()), horizontal=True, key="how_often",
                        format_func=str.capitalize))


def show_people(plan: Plan) -> None:
    """Everyone of the plan, or those of some words, masked."""
    present = [word for word in WORDS if plan.counts.get(word)]
    chosen = st.multiselect("Only these people", present, format_func=WORDS.__getitem__, placeholder="Everyone")
    people = plan.people[plan.people["word"].isin(chosen or present)]
    rows = fit_to_show(people.head(shown.SHOWN))
    rows = rows.assign(meaning=rows["word"].map(WORDS), reason=rows["reason"].map(why),
                       status=rows["status"].fillna("not in it"))
    shown.people(rows, HEADINGS, len(people))
