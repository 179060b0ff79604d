"""The terms of the next plan: hand edits, whose segment, which properties go along, and who agreed."""

from __future__ import annotations

import streamlit as st

import cohortsync as cs
from cohortsync.fields import USUAL, suggested_tag
from cohortsync.pages import frame

SWITCHES = {
    "--keep-hand-edits": ("Keep what people did to the segment in Mailchimp",
                          "Otherwise the segment equals the cohort after each sync, whatever was done by hand."),
    "--adopt": ("Take over a segment of that name that others made", "Otherwise a plan stops where the name is taken."),
}
UNSENT = {"$email", *USUAL}  # these go along anyway


def ask(workspace: cs.Workspace, audience: str) -> list[str] | None:
    """Ask for the terms; as words of the command line, None while one of them still lacks its half."""
    with st.expander("Terms of the next plan", icon=":material/tune:"):
        words = [word for word, (label, meaning) in SWITCHES.items() if st.toggle(label, key=word, help=meaning)]
        if st.toggle("Send properties into merge fields", key="sends",
                     help="First and last names go into FNAME and LNAME anyway."):
            words += _fields(workspace, audience)
        agreed = _agreed(workspace)
        st.caption("A dynamic sync keeps the terms of its plan.")
    return None if agreed is None else words + agreed


def _agreed(workspace: cs.Workspace) -> list[str] | None:
    """Which property must say yes; None while none is chosen."""
    if not st.toggle("Only people who agreed", key="agreed",
                     help="Their profile has a property of your choice as true, 1 or yes."):
        return []
    consent = st.selectbox("Property that must say yes", _properties(workspace), index=None, key="consent",
                           accept_new_options=True, placeholder="Choose, or type a property's name")
    return [f"--consent-property={consent}"] if consent else None


def _fields(workspace: cs.Workspace, audience: str) -> list[str]:
    """Which properties go along, into which of the audience's fields as the last run left them, and what that takes."""
    there = frame.once("merge_fields", (workspace.home, audience, len(workspace.runs())),
                       lambda: workspace.merge_fields(audience))
    chosen = st.multiselect("Properties to send", [name for name in _properties(workspace) if name not in UNSENT],
                            accept_new_options=True, key="sent", placeholder="Choose, or type a property's name")
    mapped = {name: _tag(name, there) for name in chosen}
    words = [f"--map={name}={tag}" for name, tag in mapped.items()]
    if missing := [tag for tag in mapped.values() if tag not in there]:
        words += ["--create-fields"] * st.toggle(
            f"Make {frame.plain(', '.join(missing))} in the audience", key="creates",
            help="The audience has no such merge field. Without this, the plan stops.")
    if chosen:
        words += ["--update-fields"] * st.toggle(
            "Write them for people who are in the audience already, too", key="updates",
            help="One request for each person whose fields differ; the plan says how many.")
    return words


def _tag(name: str, there: dict[str, str]) -> str:
    """The merge field that a property goes into: one of the audience's, or one by its own name."""
    suggested = suggested_tag(name)
    tags = list(there) if suggested in there else [suggested, *there]
    tag = st.selectbox(f"{frame.plain(name)} goes into", tags, index=tags.index(suggested), key=f"tag-{name}",
                       accept_new_options=True, required=True,
                       format_func=lambda tag: f"{tag} ({there[tag]})" if tag in there else f"{tag} (new)")
    return str(tag).upper()


def _properties(workspace: cs.Workspace) -> list[str]:
    """The properties seen in the profiles, those filled most first."""
    return frame.once("properties", (workspace.home, workspace.project_id, workspace.as_of),
                      lambda: workspace.properties(profiles=True)["property"].tolist())
