"""What a sync takes against the local Mailchimp at 50 ms an answer; ``make bench`` runs ``python -m bench.syncing``.

Requests and wall time stand beside the arithmetic minimum: so many full chunks of 500, so many pages of 1,000, and
the time that these take at 50 ms over the connections that a sync opens.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Annotated, Any

import pandas as pd
import psutil
import requests
import typer
from bench import report
from bench.fresh import in_turns, machine
from pydantic_core import to_json
from rich.console import Console
from rich.table import Table

import cohortsync as cs
from cohortsync import emails, fields, mailchimp, sandbox, words
from cohortsync.config import Settings

KEY = "0" * 32 + "-us6"
DELAY_S = 0.05
CHUNK, PAGE = 500, 1000
TARGET = 250_000
HEADING = ("what", "writes", "least", "reads", "least", "seconds", "least", "of it the local Mailchimp's own work")
out = Console(width=150)


@dataclass(frozen=True)
class Sync:
    """One measured sync: its receipt, how long it took, and how much of that the server worked itself."""

    what: str
    receipt: dict[str, Any]
    seconds: float
    served_s: float
    writes: int
    reads: int

    @property
    def least_s(self) -> float:
        """What the fewest requests take when every connection is busy all the time."""
        return (self.writes + self.reads) * DELAY_S / Settings().connections

    @property
    def row(self) -> report.Row:
        return (self.what, str(self.receipt["writes"]), str(self.writes), str(self.receipt["reads"]), str(self.reads),
                report.duration(self.seconds), report.duration(self.least_s), report.duration(self.served_s))


def export_files(folder: Path, people: int, joining: range) -> dict[str, Any]:
    """Profiles of everyone, and the cohort of those from ``joining`` on."""
    profiles, cohort = folder / "profiles.csv", folder / "cohort.json"
    numbers = range(people + len(joining))
    pd.DataFrame({"distinct_id": [f"u{n}" for n in numbers], "$email": [f"person{n}@shop.example" for n in numbers],
                  "$first_name": "Pat", "$last_name": "Doe"}).to_csv(profiles, index=False)
    cohort.write_text(json.dumps([f"u{n}" for n in range(joining.start, people + joining.start)]))
    return {"profiles": [profiles], "cohorts": {"everyone": cohort}}


def measured(workspace: cs.Workspace, running: sandbox.Sandbox, audience: str, what: str, **least: int) -> Sync:
    server = psutil.Process(running.pid)
    before, begun = server.cpu_times(), perf_counter()
    receipt = workspace.sync("everyone", audience, force=True)
    seconds, after = perf_counter() - begun, server.cpu_times()
    assert receipt["accounted"] == receipt["size"], receipt
    return Sync(what, receipt, seconds, after.user + after.system - before.user - before.system, **least)


def pages(rows: int) -> int:
    return max(-(-rows // PAGE), 1)


def syncs(folder: Path, people: int, changes: int) -> list[Sync]:
    """Everyone new, then half the changes leave and half are new, then nothing."""
    workspace = cs.open(folder / "home")
    workspace.init("UTC", "simplified")
    workspace.load(**export_files(folder, people, range(0, 0)))
    half = changes // 2
    with sandbox.start(folder / "mailchimp") as running:
        audience = workspace.connect_mailchimp(KEY, "subscribed", running.mailchimp_url)["audiences"][0]["audience_id"]
        requests.post(f"{running.mailchimp_url}/sandbox/settings", json={"delay_ms": DELAY_S * 1000}, timeout=60)
        found = [measured(workspace, running, audience, f"{people:,} new people",
                          writes=-(-people // CHUNK) + 1, reads=pages(people))]
        workspace.load(**export_files(folder, people, range(half, changes)))
        chunks = -(-half // CHUNK)
        found.append(measured(workspace, running, audience, f"{changes:,} changes of {people:,}",
                              writes=2 * chunks, reads=2 * pages(people)))
        found.append(measured(workspace, running, audience, "nothing changed", writes=0, reads=pages(people)))
    return found


def planned(people: int) -> float:
    """People a second, from a cohort and an audience as tables to every request's body as the client sends it."""
    audience = pd.DataFrame({
        "canonical_id": [f"u{n}" for n in range(people)], "address": [f"person{n}@shop.example" for n in range(people)],
        "reason": "exportable", fields.COLUMN + "FNAME": "Pat", fields.COLUMN + "LNAME": "Doe", "last_seen_at": None})
    audience["distinct_id"] = audience["canonical_id"]
    audience["member_hash"] = audience["address"].map(emails.member_hash).astype("str")
    half = audience.iloc[: people // 2]
    members = pd.DataFrame({"member_hash": half["member_hash"], "address": half["address"], "status": "subscribed",
                            "last_changed": "", "tags": [[]] * len(half)})

    def once() -> None:
        found = words.plan_people(audience, members, mailchimp.parse_segment_members([]), {})
        new = found[found["word"] == "add_new"]
        there = found.loc[found["word"] == "add_existing", "address"].tolist()
        for start in range(0, len(new), CHUNK):
            request = mailchimp.build_batch_subscribe(
                "1a2b3c4d5e", fields.contacts(new.iloc[start:start + CHUNK]), "subscribed", "everyone")
            to_json(request.body)
        for start in range(0, len(there), CHUNK):
            to_json(mailchimp.build_segment_update("1a2b3c4d5e", 1, there[start:start + CHUNK], []).body)

    return people / min(in_turns({"plan": once}, 3)["plan"])


def main(people: Annotated[int, typer.Option(help="How many the cohort holds.")] = 100_000,
         changes: Annotated[int, typer.Option(help="How many of them change.")] = 1_000,
         as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False) -> None:
    """Measure and print."""
    with TemporaryDirectory(prefix="cohortsync-bench-") as work:
        os.environ |= {"XDG_STATE_HOME": f"{work}/state", "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring"}
        found, speed = syncs(Path(work), people, changes), planned(people)
    if as_json:
        print(json.dumps({"machine": machine(), "people_a_second": speed, "syncs": [
            dict(zip(("what", "writes", "least_writes", "reads", "least_reads", "seconds", "least_seconds"), (
                each.what, each.receipt["writes"], each.writes, each.receipt["reads"], each.reads, each.seconds,
                each.least_s), strict=True)) for each in found]}, indent=2))
        return
    table = Table(*HEADING, box=None, header_style="bold", title=machine())
    for each in found:
        table.add_row(*each.row)
    out.print(table)
    out.print(f"Planning and building the requests: {speed:,.0f} people a second"
              f"{'' if speed >= TARGET else f' (missed: at least {TARGET:,})'}.")


if __name__ == "__main__":
    typer.run(main)
