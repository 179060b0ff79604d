"""The main job on this machine: the sample from both local services, two hours of their life; or files of one's own."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from cohortsync import runs, sandbox
from cohortsync.config import bundled, private_folder
from cohortsync.errors import BadInput
from cohortsync.rehearsal import Local, folder, happenings, local_services
from cohortsync.sandbox.mixpanel.accounts import SECRET, name_of
from cohortsync.sources import Progress
from cohortsync.workspace import Workspace

FIRST_DAY = date(2026, 9, 1)  # of the sample's events
HOURS = 2
Say = Callable[[str, Any], None]


@dataclass(frozen=True)
class Exports:
    """The files of one project, with what only its owner knows about it."""

    events: list[Path]
    profiles: list[Path]
    cohorts: Mapping[str, Path]
    timezone: str
    id_merge: str
    project_id: str = "local"


def demo_on_sample(workspace: Workspace, say: Say, progress: Progress) -> None:
    """Connect, pull, reckon, sync and prove; let two hours pass, do it again and show what changed; the notebooks.

    ``say`` shows a title and a value.
    """
    sample = bundled("data") / "sample"
    project_id = str(json.loads((sample / "mixpanel.json").read_text(encoding="utf-8"))["project_id"])
    workspace = _of_project(workspace, project_id)
    with local_services(workspace, sample / "mailchimp_members.ndjson", sample / "mixpanel.json") as local:
        say("Local services", f"Mixpanel {local.mixpanel_url}, Mailchimp {local.mailchimp_url} (real HTTP, invented "
                              "people; nothing is mailed)")
        audience_id = _connect(workspace, local)
        say("Connections", workspace.connections())
        say("Pull", workspace.pull(progress, since=FIRST_DAY))
        _reckon(workspace, say)
        cohort = workspace.largest_cohort()
        _sync(workspace, cohort, audience_id, say, progress)
        _two_hours_later(workspace, cohort, audience_id, say, progress)
        say("Notebooks", _run_notebooks(workspace, cohort, progress))


def demo_on_files(workspace: Workspace, exports: Exports, say: Say, progress: Progress) -> None:
    """The same job on files of one's own, to the local Mailchimp alone."""
    workspace = _of_project(workspace, exports.project_id)
    workspace.init(exports.timezone, exports.id_merge)
    with local_services(workspace) as local:
        say("Local Mailchimp", f"{local.mailchimp_url} (real HTTP; nothing is mailed)")
        say("Load", workspace.load(exports.events, exports.profiles, exports.cohorts, progress))
        _reckon(workspace, say)
        cohort = workspace.largest_cohort() if exports.cohorts else None
        if cohort:
            _sync(workspace, cohort, _connect_mailchimp(workspace, local), say, progress)
        say("Notebooks", _run_notebooks(workspace, cohort, progress))


def _of_project(workspace: Workspace, project_id: str) -> Workspace:
    others = [project for project in workspace.projects()["project_id"] if project != project_id]
    if others:
        raise BadInput(f"{workspace.home} already holds project {', '.join(others)}; the demo would mix it with "
                       f"{project_id}. Name an empty folder with --home DIR.")
    return Workspace(workspace.home, project_id)


def _connect(workspace: Workspace, local: Local) -> str:
    """Connect both sides; the id of Mailchimp's only audience."""
    workspace.connect_mixpanel(name_of("admin"), SECRET, str(workspace.project_id), base_url=local.mixpanel_url,
                               id_merge="simplified")
    return _connect_mailchimp(workspace, local)


def _connect_mailchimp(workspace: Workspace, local: Local) -> str:
    key = f"{secrets.token_hex(16)}-us6"
    connected = workspace.connect_mailchimp(key, "subscribed", local.mailchimp_url)
    return str(connected["audiences"][0]["audience_id"])


def _reckon(workspace: Workspace, say: Say) -> None:
    cohorts = workspace.cohorts()
    say("Cohorts", cohorts)
    for cohort in cohorts["cohort"]:
        say(f"Who of {cohort} can be exported", workspace.audience_summary(cohort))
    say("MTU by month", workspace.mtu())


def _sync(workspace: Workspace, cohort: str, audience_id: str, say: Say, progress: Progress) -> None:
    plan = workspace.plan(cohort, audience_id, progress)
    say(f"Plan for {cohort}", plan)
    if not plan.changes:
        say("Nothing to change", f"{plan.counts['keep']:,} people are on the segment already, as the cohort has them.")
    say("Proof", workspace.apply(plan, progress=progress, confirm=plan.additions))


def _two_hours_later(workspace: Workspace, cohort: str, audience_id: str, say: Say, progress: Progress) -> None:
    """Time passes on both sides; what that changed, and the sync that follows it."""
    before = workspace.mtu()
    say("Two hours later", happenings(sandbox.advance(folder(workspace), HOURS * 3600)))
    say("Pull", workspace.pull(progress, since=FIRST_DAY))
    moved = workspace.cohort_changes(cohort)
    say(f"Who entered and left {cohort}", why_moved(moved))
    say("What became of MTU", mtu_change(before, workspace.mtu()))
    _sync(workspace, cohort, audience_id, say, progress)


def why_moved(changes: pd.DataFrame) -> pd.DataFrame:
    """One row per reason of ``Workspace.cohort_changes``: ``change, because_of, users``, the most frequent first."""
    because_of = (changes["reason"] + " " + changes["name"].fillna("")).str.strip().replace(
        {"unknown": "nothing that is loaded tells", "merged": "merged with a user who is there"})
    return changes.assign(because_of=because_of).groupby(["change", "because_of"], as_index=False).size().rename(
        columns={"size": "users"}).sort_values(["change", "users"], ascending=[True, False], ignore_index=True)


def mtu_change(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """One row per month that changed: ``month, mtu_before, mtu, change, events_before, events``."""
    both = before.merge(after, on="month", how="right", suffixes=("_before", ""))
    both = both.fillna({"mtu_before": 0, "events_before": 0}).astype({"mtu_before": "int64", "events_before": "int64"})
    both = both[(both["mtu"] != both["mtu_before"]) | (both["events"] != both["events_before"])]
    return both.assign(change=both["mtu"] - both["mtu_before"])[
        ["month", "mtu_before", "mtu", "change", "events_before", "events"]]


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
