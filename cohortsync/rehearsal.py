"""The local Mailchimp and Mixpanel that a workspace rehearses with, and the app beside them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd
import requests

from cohortsync import sandbox
from cohortsync.config import LOOPBACK, SECRET_VARIABLE, bundled, load_key
from cohortsync.errors import BadInput, CohortsyncError
from cohortsync.sandbox.life import WORDS
from cohortsync.workspace import Workspace


@dataclass(frozen=True)
class Local:
    """Where the local services answer; there is no Mixpanel where none was ever seeded."""

    mailchimp_url: str
    mixpanel_url: str | None


def folder(workspace: Workspace) -> Path:
    """Where the workspace's local services remember."""
    return workspace.home / "sandbox"


def rehearsed(workspace: Workspace) -> dict[str, dict[str, Any]]:
    """The workspace's connections to local services, by kind (mailchimp, mixpanel)."""
    both = {"mailchimp": workspace.connection, "mixpanel": workspace.mixpanel_connection}
    return {kind: connection for kind, connection in both.items() if connection and connection["rehearsal"]}


def known_ports(workspace: Workspace) -> dict[str, int]:
    """The ports at which the workspace knows its local services, by kind."""
    return {kind: int(found["host"].rpartition(":")[2]) for kind, found in rehearsed(workspace).items()}


def kept_services(workspace: Workspace) -> AbstractContextManager[Local | None]:
    """The services that a workspace rehearses with and keeps, for as long as they are needed; else nothing."""
    kept = rehearsed(workspace) and folder(workspace).exists()
    return local_services(workspace) if kept else nullcontext()


@contextmanager
def local_services(workspace: Workspace, seed: Path | None = None, mixpanel_seed: Path | None = None
                   ) -> Iterator[Local]:
    """The local services of a workspace, at the addresses it is connected to; those that run already are used."""
    connection = workspace.connection
    if connection and not connection["rehearsal"]:
        raise BadInput(f"{workspace.home} is connected to the real account {connection['account_name']}. "
                       "Rehearse in another workspace: --home DIR.")
    known = rehearsed(workspace)
    urls = {kind: f"http://{connection['host']}" for kind, connection in known.items()}
    if urls and all(_answers(kind, url) for kind, url in urls.items()):
        yield Local(urls.get("mailchimp", ""), urls.get("mixpanel"))
        return
    ports = {kind: port if _is_free(port) else 0 for kind, port in known_ports(workspace).items()}
    with sandbox.start(folder(workspace), ports.get("mailchimp", 0), seed, ports.get("mixpanel", 0), mixpanel_seed
                       ) as running:
        _follow(workspace, known, running)
        yield Local(running.mailchimp_url, running.mixpanel_url)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _answers(kind: str, url: str) -> bool:
    """Whether it is a local service that answers there, and not something else that took its port."""
    try:
        return f"<title>LOCAL REHEARSAL · {kind.capitalize()}</title>" in requests.get(url, timeout=5).text
    except requests.RequestException:
        return False


def _follow(workspace: Workspace, known: dict[str, dict[str, Any]], running: sandbox.Sandbox) -> None:
    """Connect again where a local service had to move because something else took its port."""
    if (mailchimp := known.get("mailchimp")) and running.mailchimp_url != f"http://{mailchimp['host']}":
        key = load_key(workspace.home, mailchimp["host"])
        if key:
            workspace.connect_mailchimp(key, mailchimp["new_contacts"], running.mailchimp_url)
    if (mixpanel := known.get("mixpanel")) and running.mixpanel_url != f"http://{mixpanel['host']}":
        username = mixpanel["account_id"]
        secret = load_key(workspace.home, f"{username}@{mixpanel['host']}", SECRET_VARIABLE)
        if secret and running.mixpanel_url:
            workspace.connect_mixpanel(username, secret, mixpanel["project_id"], base_url=running.mixpanel_url)


def happenings(passed: sandbox.Passed) -> pd.DataFrame:
    """One row per kind of thing that happened while time passed: ``where, what, times``."""
    rows = [(where, WORDS[where.lower()][name], times) for where, happened in
            (("Mixpanel", passed.mixpanel), ("Mailchimp", passed.mailchimp)) for name, times in happened.items()]
    return pd.DataFrame(rows, columns=["where", "what", "times"])


def app(workspace: Workspace, port: int, address: str = "127.0.0.1", hosts: Sequence[str] = ()) -> None:
    """Serve the app until it is stopped, with the local services if the workspace rehearses.

    ``hosts``: the names that browsers may ask for it by, besides this machine's. Raises BadInput for an address beyond
    this machine where no login is set up.
    """
    if address not in LOOPBACK and not _login_is_set_up():
        raise BadInput(f"At {address} the app would be open to the network, and nobody would have to log in. Set up a "
                       "login first (docs/app.md), or leave --address out.")
    signal.signal(signal.SIGTERM, _stop)
    with kept_services(workspace):
        _streamlit(workspace, port, address, hosts)


def _login_is_set_up() -> bool:
    """Whether Streamlit's secrets, where it looks for them, describe a login."""
    files = [folder / ".streamlit" / "secrets.toml" for folder in (Path.home(), Path.cwd())]
    return any("auth" in tomllib.loads(file.read_text()) for file in files if file.exists())


def _stop(_signal: int, _frame: Any) -> NoReturn:
    raise KeyboardInterrupt


def _streamlit(workspace: Workspace, port: int, address: str, hosts: Sequence[str]) -> None:
    """Run Streamlit as a child and take it along when this process is told to stop."""
    options = {"port": port, "address": address, "headless": "true", "allowedHosts": [*LOOPBACK[:2], *hosts]}
    command = [sys.executable, "-m", "streamlit", "run", str(bundled("app.py")), "--browser.gatherUsageStats", "false"]
    for name, value in options.items():
        for one in value if isinstance(value, list) else [value]:
            command += [f"--server.{name}", str(one)]
    place = {"COHORTSYNC_HOME": str(workspace.home), "COHORTSYNC_PROJECT": workspace.project_id or ""}
    child = subprocess.Popen(command, env=os.environ | place, stdin=subprocess.DEVNULL)
    try:
        if child.wait():
            raise CohortsyncError(f"The app stopped with status {child.returncode}; its words stand above.")
    except KeyboardInterrupt:
        child.terminate()
        child.wait(timeout=20)
