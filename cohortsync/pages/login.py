"""Who is looking: whoever sits at this machine, or, where an OIDC login is configured, viewers and admins."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import streamlit as st

from cohortsync import emails
from cohortsync.config import LOOPBACK, Settings

ADMIN, VIEWER = "admin", "viewer"


def role_of(claims: Mapping[str, Any], admins: str) -> str:
    """The role of whoever the login provider says this is.

    ``admins``: SHA-256 of addresses, and ``claim=value``, separated by commas. An address counts only where the
    provider vouches for it (``email_verified``).
    """
    names = {f"{claim}={value}" for claim, values in claims.items() if claim != "email"
             for value in (values if isinstance(values, list) else [values])}
    if claims.get("email_verified") is True and isinstance(claims.get("email"), str):
        names.add(hashlib.sha256(emails.normalise(claims["email"]).encode()).hexdigest())
    return ADMIN if names & {name.strip() for name in admins.split(",")} else VIEWER


def configured() -> bool:
    """Whether a login is set up: a section ``auth`` in Streamlit's ``secrets.toml``."""
    return bool(st.secrets.load_if_toml_exists()) and "auth" in st.secrets


def require() -> None:
    """Let nobody in who is not at this machine and has not logged in; ends the page where that is so."""
    if configured():
        if not st.user.get("is_logged_in"):
            _ask()
    elif st.get_option("server.address") not in LOOPBACK:
        st.error("**Refused.** The app would be open to the network, and nobody would have to log in. Serve it on "
                 "127.0.0.1, or set up a login first: docs/app.md says how.", icon=":material/lock:")
        st.stop()


def _ask() -> None:
    st.title("cohortsync", anchor=False)
    st.markdown("Mixpanel cohorts to Mailchimp audiences. Log in to go on.")
    st.button("Log in", on_click=st.login, type="primary", icon=":material/login:")
    st.stop()


def is_admin() -> bool:
    """Whether whoever is looking may change things and see whole addresses; at this machine without a login, yes."""
    return not configured() or role_of(st.user.to_dict(), Settings().admins) == ADMIN


def only_admins(what: str) -> bool:
    """Whether this may be offered; viewers are told that it is not for them."""
    if not (allowed := is_admin()):
        st.caption(f":material/visibility: You are looking as a viewer; {what} is for admins.")
    return allowed


def show() -> None:
    """Who is logged in, as what, and the way out."""
    if configured():
        st.caption(f"Logged in as {ADMIN if is_admin() else VIEWER}")
        st.button("Log out", on_click=st.logout, icon=":material/logout:")
