"""The main job on a user's own machine: the local Mailchimp a workspace rehearses with, the demo, the app."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import requests

from cohortsync import runs, sandbox
from cohortsync.config import LOOPBACK, bundled, load_key, private_folder
from cohortsync.errors import BadInput, CohortsyncError
from cohortsync.sources import Progress
from cohortsync.workspace import Workspace


@dataclass(frozen=True)
class Exports:
    """The files of one project, with what only its owner knows about it."""

    events: list[Path]
    profiles: list[Path]
    cohorts: Mapping[str, Path]
    timezone: str
    id_merge: str
    project_id: str = "local"
    members: Path | None = field(default=None, metadata={"help": "contacts the local Mailchimp starts with"})


def sample() -> Exports:
    """The invented product that ships with cohortsync; see data/README.md."""
    folder = bundled("data") / "sample"
    cohorts = {path.name.split(".")[0].removeprefix("cohort-"): path for path in sorted(folder.glob("cohort-*"))}
    return Exports(sorted(folder.glob("events-*")), sorted(folder.glob("profiles*")), cohorts,
                   "America/New_York", "simplified", "sample", folder / "mailchimp_members.ndjson")


@contextmanager
def local_mailchimp(workspace: Workspace, seed: Path | None = None) -> Iterator[str]:
    """The local Mailchimp of a workspace, at the address it is connected to; one that runs already is used."""
    connection = workspace.connection
    if connection and not connection["rehearsal"]:
        raise BadInput(f"{workspace.home} is connected to the real account {connection['account_name']}. "
                       "Rehearse in another workspace: --home DIR.")
    if connection and _answers(f"http://{connection['host']}"):
        yield f"http://{connection['host']}"
        return
    port = int(connection["host"].rpartition(":")[2]) if connection else 0
    port = port if _is_free(port) else 0
    with sandbox.start(workspace.home / "sandbox", mailchimp_port=port, seed=seed) as running:
        if connection and running.port != port:
            _follow(workspace, connection, running.mailchimp_url)
        yield running.mailchimp_url


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _follow(workspace: Workspace, connection: dict[str, Any], url: str) -> None:
    """Connect again where the local Mailchimp had to move because something else took its port."""
    key = load_key(workspace.home, connection["host"])
    if key:
        workspace.connect_mailchimp(key, connection["new_contacts"], url)


def _answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/3.0/ping", timeout=2, auth=("ping", "0" * 32 + "-us6")).ok
    except requests.RequestException:
        return False


def demo(workspace: Workspace, exports: Exports, say: Any, progress: Progress) -> None:
    """Load, reckon, sync to the local Mailchimp, prove, run the notebooks. ``say`` shows a title and a value."""
    others = [project for project in workspace.projects()["project_id"] if project != exports.project_id]
    if others:
        raise BadInput(f"{workspace.home} already holds project {', '.join(others)}; the demo would mix it with "
                       f"{exports.project_id}. Name an empty folder with --home DIR.")
    workspace = Workspace(workspace.home, exports.project_id)
    workspace.init(exports.timezone, exports.id_merge)
    with local_mailchimp(workspace, exports.members) as url:
        say("Local Mailchimp", f"{url} (real HTTP, invented people; nothing is mailed)")
        say("Load", workspace.load(exports.events, exports.profiles, exports.cohorts, progress))
        say("Cohorts", workspace.cohorts())
        for cohort in exports.cohorts:
            say(f"Who of {cohort} can be exported", workspace.audience_summary(cohort))
        say("MTU by month", workspace.mtu())
        synced = workspace.largest_cohort() if exports.cohorts else None
        if synced:
            _sync_one(workspace, url, synced, say, progress)
        say("Notebooks", _run_notebooks(workspace, synced, progress))


def _sync_one(workspace: Workspace, url: str, cohort: str, say: Any, progress: Progress) -> None:
    key = f"{secrets.token_hex(16)}-us6"
    connected = workspace.connect_mailchimp(key, "subscribed", url)
    plan = workspace.plan(cohort, connected["audiences"][0]["audience_id"], progress)
    say(f"Plan for {cohort}", plan)
    if not plan.changes:
        say("Nothing to change", f"{plan.counts['keep']:,} people are on the segment already, as the cohort has them.")
    say("Proof", workspace.apply(plan, progress=progress, confirm=plan.additions))


def _run_notebooks(workspace: Workspace, cohort: str | None, progress: Progress) -> list[Path]:
    """The executed notebooks; without a cohort there is only MTU to report."""
    folder = private_folder(workspace.home / "runs" / f"notebooks-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
    chosen: dict[str, dict[str, Any]] = {"03_mtu_report": {}}
    if cohort:
        named = {"cohort": cohort}
        chosen = {"01_explore_cohort": named, "02_audience_preview": named, **chosen, "04_sync_cohort": named,
                  "06_campaign_followup": {}}
    for name, given in chosen.items():
        parameters = {**given, "project": workspace.project_id}
        runs.execute_notebook(name, folder / f"{name}.ipynb", parameters, workspace.home, progress)
    return [folder / f"{name}.ipynb" for name in chosen]


def app(workspace: Workspace, port: int, address: str = "127.0.0.1", hosts: Sequence[str] = ()) -> None:
    """Serve the app until it is stopped, with the local Mailchimp if the workspace rehearses.

    ``hosts``: the names that browsers may ask for it by, besides this machine's. Raises BadInput for an address beyond
    this machine where no login is set up.
    """
    if address not in LOOPBACK and not _login_is_set_up():
        raise BadInput(f"At {address} the app would be open to the network, and nobody would have to log in. Set up a "
                       "login first (docs/app.md), or leave --address out.")
    signal.signal(signal.SIGTERM, _stop)
    connection = workspace.connection
    serve = local_mailchimp(workspace) if connection and connection["rehearsal"] else nullcontext("")
    with serve:
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
