"""The accounts on both sides: how their connections stand, and the forms that make them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from zoneinfo import available_timezones

import streamlit as st

import cohortsync as cs
from cohortsync.access import CONNECTED, NotTold
from cohortsync.errors import BadInput
from cohortsync.pages import frame

ID_MERGES = {"simplified": "Most newer projects.", "original": "Most projects made before 2023."}
REGIONS = {"": "Find out", "us": "United States", "eu": "European Union", "in": "India"}
NEW_CONTACTS = {
    "subscribed": "They get your campaigns at once. Choose this only if they agreed to be mailed.",
    "pending": "Mailchimp asks them by mail first; they get campaigns once they say yes.",
    "transactional": "They are kept in the audience and get no campaigns: nobody said yes.",
}
NOT_TOLD = {
    "timezone": "Mixpanel does not tell this account the project's time zone. Choose it, and enter the secret again.",
    "id_merge": "Mixpanel tells nobody by which ID merge a project works. Choose it, and enter the secret again.",
}


def show_standings(workspace: cs.Workspace) -> None:
    """Both sides as a viewer may know them."""
    sides = [("Mixpanel", workspace.mixpanel_connection), ("Mailchimp", workspace.connection)]
    for side, connection in sides:
        st.header(side, anchor=False)
        if connection:
            _show_standing(connection, f"role: {frame.plain(connection['role'] or 'not told')}")
        else:
            st.badge("Not connected", icon=":material/link_off:", color="gray")


def show_mixpanel(workspace: cs.Workspace) -> None:
    """How the project's connection stands, and who vouches for it; files need none."""
    tell_refusal("Mixpanel")
    for note in st.session_state.pop("notes", []):
        st.info(frame.plain(note), icon=":material/info:")
    if connection := workspace.mixpanel_connection:
        _show_standing(connection, f"service account {frame.plain(connection['account_id'])} · its role: "
                                   f"{frame.plain(connection['role'] or 'not told')}")
        if st.button("Check the role", icon=":material/refresh:"):
            _ask("Mixpanel", workspace.check_mixpanel, lambda _connection: None)
    else:
        st.badge("Not connected", icon=":material/link_off:", color="gray")
        st.caption("The project is fed by files. Connected, it can be pulled from Mixpanel as well.")
    _vouch(workspace)


def _vouch(workspace: cs.Workspace) -> None:
    """Where Mixpanel tells nobody's role, whoever exports to a real account says once that it is theirs to do."""
    writes = workspace.connection and not workspace.connection["rehearsal"]
    if workspace.needs_vouching and (workspace.mixpanel_connection or writes):
        st.warning("An export to Mailchimp needs an admin or owner of the Mixpanel project, and it could not be looked "
                   "up whether you are one.", icon=":material/badge:")
        if st.button("I am an admin or owner of this project", icon=":material/verified_user:"):
            workspace.assume_admin()
            st.rerun()


def mixpanel_form(workspace: cs.Workspace) -> None:
    """The secret's field gets a new name once it was used, so that Streamlit forgets what stood in it."""
    turn, known = st.session_state.get("secrets_used", 0), str((workspace.project or {}).get("project_id", ""))
    with st.form("mixpanel"):
        left, right = st.columns(2)
        project_id = left.text_input("Mixpanel's project id", known if known.isdecimal() else "",
                                     help="In Mixpanel: Project Settings, Overview.")
        region = right.selectbox("Region", list(REGIONS), format_func=REGIONS.__getitem__)
        username = left.text_input("Service account's username", autocomplete="off",
                                   help="In Mixpanel: Project Settings, Service Accounts. An export needs one that is "
                                        "an admin or owner.")
        secret = right.text_input("Service account's secret", type="password", key=f"secret-{turn}", autocomplete="off",
                                  help="It is kept in the system keyring, or in a file only you can read, and never "
                                       "shown again.")
        id_merge = st.radio("ID merge of the project", list(ID_MERGES), captions=list(ID_MERGES.values()), index=None,
                            help="In Mixpanel: Project Settings, Identity Merge. Needed the first time.")
        timezone = st.selectbox("Time zone of the project", sorted(available_timezones()), index=None,
                                placeholder="Choose") if st.session_state.get("timezone_not_told") else None
        local = st.text_input("Address of a local Mixpanel, for a rehearsal", placeholder="http://127.0.0.1:8019",
                              help="Leave it empty for a real project.")
        if st.form_submit_button("Connect the project", type="primary"):
            st.session_state["secrets_used"] = turn + 1
            _ask("Mixpanel", lambda: workspace.connect_mixpanel(
                username, secret, project_id, region=region or None, base_url=local.strip() or None,
                timezone=timezone, id_merge=id_merge), _look_at)


def _look_at(connection: dict[str, Any]) -> None:
    """Look at the project that was connected, with what there is to say of it."""
    st.session_state.pop("timezone_not_told", None)
    st.session_state["notes"] = connection["notes"]
    frame.look_at_project(connection["project_id"])


def show_mailchimp(workspace: cs.Workspace) -> None:
    """The Mailchimp account: connected, or how to connect it."""
    st.header("3 · Mailchimp", anchor=False)
    connection = workspace.connection
    tell_refusal("Mailchimp")
    if connection:
        _show_standing(connection, f"your role: {frame.plain(connection['role'])} · new contacts become "
                                   f"**{connection['new_contacts']}**")
        if st.session_state.get("audiences_of") == (connection["host"], connection["account_id"]):
            listed = st.session_state["audiences"]
            st.dataframe({"Audience": list(listed.values()), "Id": list(listed)}, hide_index=True)
        if st.button("Check again", icon=":material/refresh:"):
            _ask("Mailchimp", workspace.check_mailchimp, frame.remember_audiences)
    with st.expander("Connect another account" if connection else "Connect an account", expanded=not connection):
        _mailchimp_form(workspace)


def _mailchimp_form(workspace: cs.Workspace) -> None:
    """The key's field gets a new name once it was used, as the secret's does."""
    turn = st.session_state.get("keys_used", 0)
    with st.form("mailchimp", clear_on_submit=True):
        key = st.text_input("API key", type="password", key=f"api_key-{turn}", autocomplete="off",
                            help="In Mailchimp: Profile, Extras, API keys. It is kept in the system keyring, or in a "
                                 "file only you can read, and never shown again.")
        status = st.radio("People who are new to the audience become", list(NEW_CONTACTS), index=None,
                          captions=list(NEW_CONTACTS.values()))
        local = st.text_input("Local address, for a rehearsal", placeholder="http://127.0.0.1:8018",
                              help="Where a local Mailchimp listens. Leave it empty for a real account.")
        if st.form_submit_button("Connect", type="primary"):
            st.session_state["keys_used"] = turn + 1
            _ask("Mailchimp", lambda: workspace.connect_mailchimp(key, _chosen(status), local.strip() or None),
                 frame.remember_audiences)


def _chosen(status: str | None) -> str:
    if status is None:
        raise BadInput("Choose what people who are new to the audience become, and enter the key again.")
    return status


def _show_standing(connection: dict[str, Any], details: str) -> None:
    well = connection["status"] == CONNECTED
    st.badge(connection["status"], icon=":material/check:" if well else ":material/warning:",
             color="green" if well else "orange")
    if connection["reason"]:
        st.warning(frame.plain(connection["reason"]), icon=":material/warning:")
    st.markdown(f"**{frame.plain(connection['account_name'])}** at {frame.plain(connection['host'])} · {details} · "
                f"last check {frame.ago(connection['checked_at'])}")


def _ask(side: str, question: Callable[[], dict[str, Any]], remember: Callable[[dict[str, Any]], None]) -> None:
    """Ask one side; keep what it answered, or why it said no, for the page as it looks afterwards."""
    try:
        with st.spinner(f"Asking {side}. If it does not answer, this takes a minute."):
            remember(question())
    except NotTold as missing:
        st.session_state["timezone_not_told"] = missing.setting == "timezone"
        st.session_state[f"{side} refused"] = NOT_TOLD[missing.setting]
    except cs.CohortsyncError as error:
        st.session_state[f"{side} refused"] = str(error)
    st.rerun()


def tell_refusal(side: str) -> None:
    """What a side said when it was last asked, once."""
    if refusal := st.session_state.pop(f"{side} refused", None):
        st.error(frame.plain(refusal), icon=":material/error:")
