"""The app: `streamlit run app.py`, or `cohortsync app`. The workspace is the one COHORTSYNC_HOME names."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

import cohortsync
from cohortsync.pages import login

PAGES = Path(cohortsync.__file__).parent / "pages"

st.set_page_config("cohortsync", page_icon="🔁", layout="wide")
login.require()
st.navigation([
    st.Page(PAGES / "connect.py", title="Connect", icon=":material/link:", default=True),
    st.Page(PAGES / "cohorts.py", title="Cohorts", icon=":material/groups:"),
    st.Page(PAGES / "export.py", title="Export", icon=":material/send:"),
    st.Page(PAGES / "syncs.py", title="Syncs", icon=":material/sync:"),
    st.Page(PAGES / "audience.py", title="Audience", icon=":material/contacts:"),
    st.Page(PAGES / "mtu.py", title="MTU", icon=":material/bar_chart:"),
    st.Page(PAGES / "runs.py", title="Runs", icon=":material/history:"),
]).run()
