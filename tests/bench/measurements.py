"""What is measured, one function each; all of one run on the same files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

from bench import counting, data, linking, loading, report
from bench.fresh import Measured, measured
from bench.pulling import pulls
from bench.report import Comparison

MEMORY_LIMIT = 4 * 2**30
PANDAS_ROWS, INSERTED_ROWS = 200_000, 5_000


@dataclass
class Run:
    """One run: what it measures, the folders it works in, what it found."""

    events: int
    verbs: int
    repeats: int
    exports: Path
    work: Path
    say: Callable[[str], None]
    comparisons: list[Comparison] = field(default_factory=list)
    loads: dict[int, Measured] = field(default_factory=dict)
    refreshed: dict[str, Any] | None = None
    pulls: list[report.Row] = field(default_factory=list)

    @cached_property
    def export(self) -> data.Export:
        return self.exported(self.events)

    def exported(self, events: int) -> data.Export:
        self.say(f"Making {report.count(events)} events")
        made = data.export(self.exports, events)
        for path in made.files:  # into the page cache, so that no way is the first to read them
            with path.open("rb") as file:
                while file.read(1 << 24):
                    pass
        return made

    @cached_property
    def home(self) -> Path:
        """A workspace with the events loaded; the load that made it counts when there was no other."""
        home, _ = self.load(self.export, self.work / "home")
        return home

    def load(self, export: data.Export, home: Path) -> tuple[Path, Measured]:
        self.say(f"Loading {report.count(export.events)} events into a workspace")
        shutil.rmtree(home, ignore_errors=True)
        found = measured(loading.cohortsync, home, list(export.files))
        self.loads.setdefault(export.events, found)
        return home, found

    def folder(self, name: str) -> Path:
        """An empty folder for one measurement."""
        place = self.work / name
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        return place

    def compare(self, what: str, ours: float, other: str, theirs: float, target: float, at_most: bool = False) -> None:
        self.comparisons.append(Comparison(what, ours, other, theirs, target, at_most))
        self.say("  " + " | ".join(self.comparisons[-1].row))


def load(run: Run) -> None:
    files, ours, bare = list(run.export.files), [], []
    for turn in range(run.repeats):
        for way in ("cohortsync", "bare")[:: -1 if turn % 2 else 1]:
            if way == "cohortsync":
                run.home, found = run.load(run.export, run.work / "home")
                ours.append(found)
            else:
                run.say("Loading six columns with DuckDB alone")
                place = run.folder("bare")
                bare.append(measured(loading.six_columns, place / "bare.duckdb", files).answer)
    middle = sorted(ours, key=lambda found: found.answer["seconds"])[len(ours) // 2]
    run.loads[run.events] = middle
    seconds = middle.answer["seconds"]
    run.compare(report.LOAD, seconds, "DuckDB, six columns alone", median(bare), 2.5, at_most=True)
    run.say("Loading with pandas, and row by row")
    place = run.folder("slow")
    rows = min(PANDAS_ROWS, run.events // data.FILES)
    by_pandas = measured(loading.pandas, place / "events", files[0], rows).answer["seconds"] * run.events
    run.compare(report.LOAD, seconds, f"pandas (from {report.count(rows)})", by_pandas, 10)
    rows = min(INSERTED_ROWS, run.events // data.FILES)
    by_row = measured(loading.inserts, place / "events.duckdb", files[0], rows).answer * run.events
    run.compare(report.LOAD, seconds, f"executemany (from {report.count(rows)})", by_row, 20)


def mtu(run: Run) -> None:
    home = run.home
    run.say("Counting users")
    taken = measured(counting.compare, home, run.folder("mtu"), run.repeats + 2).answer
    for name, other in (("duckdb", "DuckDB, count(distinct)"), ("polars", "polars, n_unique")):
        run.compare(report.MTU, median(taken["cohortsync"]), other, median(taken[name]), 50)


def links(run: Run) -> None:
    home = run.home
    run.say("Linking devices")
    taken = measured(linking.links, home, run.folder("links"), run.repeats + 2).answer
    run.compare(report.LINKS, median(taken["cohortsync"]), "DuckDB, count(*) group by device",
                median(taken["group by"]), 3, at_most=True)


def original(run: Run) -> None:
    run.say(f"Merging ids by {report.count(run.verbs)} verbs")
    taken = measured(linking.original, run.folder("original"), run.verbs).answer
    run.compare(report.ORIGINAL, taken["cohortsync"], "Python, verb by verb", taken["python"], 2)


def refresh(run: Run) -> None:
    home, found = run.home, []
    for _ in range(run.repeats):
        run.say("Loading the newest day")
        copy = run.folder("refreshed") / "home"
        shutil.copytree(home, copy)
        found.append(measured(loading.cohortsync, copy, [run.export.newest]).answer)
    run.refreshed = sorted(found, key=lambda answer: answer["seconds"])[len(found) // 2]
    run.compare(report.REFRESH, run.refreshed["seconds"], "the full load",
                run.loads[run.events].answer["seconds"], 0.1, at_most=True)


def scale(run: Run) -> None:
    """Loads a tenth of the size and five times the size."""
    for events in (run.events // 10, run.events, run.events * 5):
        if events not in run.loads:
            home, _ = run.load(run.exported(events), run.work / "scaled")
            shutil.rmtree(home)


ALL: dict[str, Callable[[Run], None]] = {
    "load": load, "mtu": mtu, "links": links, "original": original, "refresh": refresh, "pulls": pulls,
    "scale": scale}
