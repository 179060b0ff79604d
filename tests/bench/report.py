"""What was measured, as a table for people and for the README."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

Row = Sequence[str]
RATIOS = ("what", "cohortsync", "measured against", "ratio", "to reach")
SCALE = ("events", "load", "events a second", "time an event", "peak memory")
LOAD = "load raw events"
MTU = "MTU of every month, three readings"
LINKS = "links of devices, simplified ID merge"
ORIGINAL = "original ID merge"
REFRESH = "refresh with the newest day"
WHOLE = {LOAD, MTU, LINKS, ORIGINAL, REFRESH}
SIZES = 3
MEMORY = "peak memory of the largest load"
PULLS = ("pulled by", "events", "events a second", "peak memory", "what is left")
STEPS = ("step", "full load", "refresh", "share")


@dataclass(frozen=True)
class Comparison:
    """Two ways of doing one thing, in seconds. ``at_most``: ours over the other's; else the other's over ours."""

    what: str
    ours: float
    other: str
    theirs: float
    target: float
    at_most: bool = False

    @property
    def ratio(self) -> float:
        return self.ours / self.theirs if self.at_most else self.theirs / self.ours

    @property
    def reached(self) -> bool:
        return self.ratio <= self.target if self.at_most else self.ratio >= self.target

    @property
    def row(self) -> Row:
        number = f"{self.ratio:.0f}" if self.ratio >= 10 else f"{self.ratio:.2g}"
        ratio = number + ("× its time" if self.at_most else "× as fast") + ("" if self.reached else " (missed)")
        return (self.what, duration(self.ours), f"{self.other}: {duration(self.theirs)}", ratio,
                f"{'≤' if self.at_most else '≥'} {self.target:g}×")


def duration(seconds: float) -> str:
    if seconds >= 100:
        return f"{seconds:,.0f} s"
    if seconds >= 1:
        return f"{seconds:.1f} s"
    return f"{seconds * 1000:.3g} ms" if seconds >= 0.001 else f"{seconds * 1e6:.3g} µs"


def count(number: int) -> str:
    """A round number of events as people say it: 10 M, 200 k."""
    return f"{number / 1e6:g} M" if number >= 1e6 else f"{number / 1e3:g} k"


def memory(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"


def markdown(heading: Row, rows: Iterable[Row]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def put(document: Path, name: str, text: str) -> None:
    """Replace what stands in a document between the markers of this name."""
    before, begin, rest = document.read_text(encoding="utf-8").partition(f"<!-- bench: {name} -->\n")
    _, end, after = rest.partition(f"<!-- end of bench: {name} -->")
    if not begin or not end:
        raise LookupError(f"{document.name} has no markers for {name}.")
    document.write_text(f"{before}{begin}{text}\n{end}{after}", encoding="utf-8")
