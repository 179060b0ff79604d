"""How soon each page of the app shows something, and that none of them reads an event.

    PYTHONPATH=tests python -m bench.pages --events 10000000 --cohort 200000

A real server, a real browser, a workspace with so many events and a cohort of so many people. Before anything is
measured, everything in the event files but their footers is overwritten with zeros: a page that read an event would
fail.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from bench import data
from bench.fresh import machine
from playwright.sync_api import Page, expect, sync_playwright
from rich.console import Console
from rich.table import Table
from served import CHROMIUM, FLAGS, serving
from test_app import blank_events

import cohortsync as cs
from cohortsync import sandbox

PAGES = ["", "cohorts?cohort=everyone", "export?cohort=everyone", "syncs", "audience", "mtu", "mtu?view=days",
         "mtu?view=events", "runs"]
KEY = "0" * 32 + "-us6"
LIMIT_S = 1.0
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def workspace_with(home: Path, folder: Path, events: int, cohort: int) -> cs.Workspace:
    """So many events, and a cohort of so many of their users, each with a profile."""
    workspace = cs.open(home)
    workspace.init(data.TIMEZONE, "simplified")
    people, ids = folder / "people.ndjson", folder / "everyone.txt"
    with people.open("w") as profiles:
        for number in range(cohort):
            properties = {"$email": f"person{number}@harbor.example", "$first_name": "Ann", "plan": "team"}
            profiles.write(json.dumps({"$distinct_id": f"person-{number}", "$properties": properties}) + "\n")
    ids.write_text("\n".join(f"person-{number}" for number in range(cohort)))
    workspace.load(data.export(folder, events).files, [people], {"everyone": ids})
    return workspace


def seconds_until_shown(page: Page, url: str) -> tuple[float, float]:
    """Until the page has a heading, and until all of it stands there."""
    began = time.perf_counter()
    page.goto(url, wait_until="commit")
    page.get_by_role("heading", level=1).first.wait_for()
    first = time.perf_counter() - began
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning", timeout=120_000)
    assert page.get_by_test_id("stException").count() == 0, page.inner_text("body")
    return first, time.perf_counter() - began


@app.command()
def main(events: Annotated[int, typer.Option(help="Raw events.")] = 10_000_000,
         cohort: Annotated[int, typer.Option(help="People in the cohort.")] = 200_000,
         repeats: Annotated[int, typer.Option(help="How often each page is opened.")] = 5,
         folder: Annotated[Path | None, typer.Option("--data", help="A folder that keeps the events.")] = None) -> None:
    """Measure every page and print the medians."""
    shown = Table("page", "first content", "whole page", "", title=f"{events:,} events, {cohort:,} people: {machine()}")
    with TemporaryDirectory() as temporary, sandbox.start(Path(temporary) / "sandbox") as services:
        place = folder or Path(temporary)
        workspace = workspace_with(Path(temporary) / "home", place, events, cohort)
        workspace.connect_mailchimp(KEY, "subscribed", services.mailchimp_url)
        workspace.sync("everyone", workspace.chosen_audience(), confirm=cohort, dry_run=True)
        files = blank_events(workspace.home)
        command = ("-m", "cohortsync", "--home", workspace.home, "app", "--port")
        with serving(Path(temporary) / "app.log", *command) as url, sync_playwright() as p:
            browser = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            page = browser.new_page()
            page.set_default_timeout(120_000)
            seconds_until_shown(page, url)
            for name in PAGES:
                times = [seconds_until_shown(page, f"{url}/{name}") for _ in range(repeats)]
                first, whole = (median(column) for column in zip(*times, strict=True))
                verdict = "" if first <= LIMIT_S else "(missed)"
                shown.add_row(name or "connect", f"{first:.2f} s", f"{whole:.2f} s", verdict)
            browser.close()
    Console(width=120).print(shown)
    print(f"Every page answered while the events in all {files} files were zeros: none reads them.")


if __name__ == "__main__":
    app()
