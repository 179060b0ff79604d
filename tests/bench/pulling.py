"""Pulling measured: raw events from a local Mixpanel into a workspace, and by other clients to less."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import requests
from bench import report
from bench.data import DAYS, FIRST_S, TIMEZONE, Export
from bench.fresh import Measured, measured

if TYPE_CHECKING:
    from bench.measurements import Run

MOST = 1_000_000  # mixpanel-utils holds six times the export in memory
PROJECT_ID = "1"
USERNAME, SECRET = "admin.0a1b2c.mp-service-account", "rehearsal-secret"
FIRST = datetime.fromtimestamp(FIRST_S, UTC).date()
LAST = FIRST + timedelta(DAYS - 1)


@contextmanager
def served(export: Export, place: Path) -> Iterator[str]:
    """The address of a local Mixpanel that holds the export's events, in a process of its own, with no hourly limit."""
    from cohortsync import sandbox

    seed = place / "seed.json"
    seed.write_text(json.dumps({
        "project_id": int(PROJECT_ID), "name": "Bench", "timezone": TIMEZONE, "id_merge": "simplified",
        "created_on": "2025-01-01", "now": f"{LAST}T23:00:00+00:00", "events": [str(path) for path in export.files]}))
    with sandbox.start(place / "mixpanel", mixpanel_seed=seed) as running:
        requests.post(f"{running.mixpanel_url}/sandbox/settings", timeout=20, json={
            "export_per_hour": 10**6, "export_per_second": 10**6, "query_per_hour": 10**6}).raise_for_status()
        yield str(running.mixpanel_url)


def pulls(run: Run) -> None:
    """Everyone's pull of the same events from the same server, in turns; ours of three times as many as well."""
    events, found = min(run.events, MOST), dict[str, list[Measured]]()
    with served(run.exported(events), run.folder("served")) as url:
        ways = {"cohortsync": (cohortsync, "home"), "mixpanel-headless": (headless, "nothing"),
                "mixpanel-utils": (utils, "events.json"), "mixpanel-utils, raw": (raw_copy, "events.ndjson")}
        for turn in range(run.repeats):
            for name, (way, left) in list(ways.items())[:: -1 if turn % 2 else 1]:
                run.say(f"Pulling {report.count(events)} events: {name}")
                found.setdefault(name, []).append(measured(way, run.folder("pulled") / left, url))
    run.say(f"Pulling {report.count(3 * events)} events: cohortsync")
    with served(run.exported(3 * events), run.folder("served")) as url:
        more = measured(cohortsync, run.folder("pulled") / "home", url)
    run.pulls = [_row(name, events, sorted(some, key=lambda one: one.answer["seconds"])[len(some) // 2])
                 for name, some in found.items()] + [_row("cohortsync", 3 * events, more)]


def _row(name: str, events: int, found: Measured) -> report.Row:
    return (name, report.count(events), f"{events / found.answer['seconds']:,.0f}", report.memory(found.peak_bytes),
            found.answer["left"])


def cohortsync(home: Path, url: str) -> dict[str, Any]:
    """A pull of all events into a new workspace: stored by day, duplicates dropped, identities linked, counted."""
    from cohortsync.workspace import Workspace

    os.environ |= {"COHORTSYNC_MIXPANEL_EXPORTS_PER_HOUR": "1000000", "COHORTSYNC_MIXPANEL_EXPORTS_PER_SECOND": "1000",
                   "XDG_STATE_HOME": str(home.parent / "state")}
    workspace = Workspace.at(home)
    workspace.connect_mixpanel(USERNAME, SECRET, PROJECT_ID, base_url=url, id_merge="simplified")
    start, loading = perf_counter(), [0.0]

    def step(label: str, _done: float, _total: float) -> None:
        if not loading[0] and label == "Writing events by day":
            loading[0] = perf_counter()

    report = workspace.pull(step, cohorts=[], since=FIRST, until=LAST)
    done = perf_counter()
    return {"seconds": done - start, "fetched": loading[0] - start, "loaded": done - loading[0],
            "events": report.events, "left": "tables: by day, without duplicates, identities linked, counted"}


def headless(_nothing: Path, url: str) -> dict[str, Any]:
    """mixpanel-headless: every event as a dict, kept nowhere."""
    os.environ |= {"MP_API_BASE_URL": url, "MP_USERNAME": USERNAME, "MP_SECRET": SECRET, "MP_PROJECT_ID": PROJECT_ID,
                   "MP_REGION": "us"}
    from mixpanel_headless import Workspace

    start = perf_counter()
    events = sum(1 for _ in Workspace().stream_events(from_date=str(FIRST), to_date=str(LAST)))
    return {"seconds": perf_counter() - start, "events": events, "left": "nothing: dicts, one after the other"}


def utils(file: Path, url: str) -> dict[str, Any]:
    """mixpanel-utils: every event as a dict, all in memory, then one JSON file."""
    start = perf_counter()
    _utils(url).export_events(str(file), {"from_date": str(FIRST), "to_date": str(LAST)}, add_gzip_header=True)
    return {"seconds": perf_counter() - start, "left": "a JSON file"}


def raw_copy(file: Path, url: str) -> dict[str, Any]:
    """mixpanel-utils, raw: the zipped answer copied to a file as it is, as curl would; nothing is looked at."""
    start = perf_counter()
    _utils(url).export_events(str(file), {"from_date": str(FIRST), "to_date": str(LAST)}, add_gzip_header=True,
                              raw_stream=True, buffer_size=1 << 20)
    return {"seconds": perf_counter() - start, "left": "the zipped answer, as curl would"}


def _utils(url: str) -> Any:
    from mixpanel_utils import MixpanelUtils

    client = MixpanelUtils(SECRET, service_account_username=USERNAME, project_id=PROJECT_ID)
    client.raw_api = client.formatted_api = f"{url}/api"
    return client
