"""How fast, against what: ``make bench``. Every ratio is of two ways measured in one run on the same files."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from bench import report
from bench.fresh import machine
from bench.measurements import ALL, MEMORY_LIMIT, Run
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[2]
out, err = Console(width=150), Console(stderr=True)
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    events: Annotated[int, typer.Option(help="Raw events to load.")] = 10_000_000,
    verbs: Annotated[int, typer.Option(help="Identity verbs to merge by.")] = 5_000_000,
    repeats: Annotated[int, typer.Option(help="How often each way takes its turn.")] = 3,
    scale: Annotated[bool, typer.Option("--scale", help="Load a tenth and five times as many as well.")] = False,
    only: Annotated[str, typer.Option(help="Some of: " + ", ".join(ALL) + ".")] = "",
    data: Annotated[Path | None, typer.Option(help="A folder that keeps the events for the next time.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
    write: Annotated[bool, typer.Option("--write", help="Put the tables into the README and docs.")] = False,
) -> None:
    """Measure, print, and write where asked."""
    wanted = [name.strip() for name in only.split(",")] if only else [n for n in ALL if n != "scale" or scale]
    if unknown := set(wanted) - set(ALL):
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: choose from {', '.join(ALL)}.")
    if data:
        data.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="cohortsync-bench-", dir=data) as work:
        run = Run(events, verbs, repeats, data or Path(work), Path(work), lambda text: err.print(text, style="dim"))
        for name in wanted:
            ALL[name](run)
    if as_json:
        print(json.dumps(figures(run), indent=2))
    else:
        show(run)
    if write:
        write_down(run)


def caption(run: Run) -> str:
    return (f"One run over {report.count(run.events)} raw events (8 gz files, about 480 bytes an event) and "
            f"{report.count(run.verbs)} identity verbs: {machine()}.")


def ratio_rows(run: Run) -> list[report.Row]:
    rows = [comparison.row for comparison in run.comparisons]
    if run.loads:
        most = max(run.loads)
        peak = run.loads[most].peak_bytes
        rows.append((report.MEMORY, report.memory(peak), report.count(most) + " events", "" if peak <= MEMORY_LIMIT
                     else "(missed)", f"≤ {report.memory(MEMORY_LIMIT)}"))
    return rows


def scale_rows(run: Run) -> list[report.Row]:
    return [(report.count(events), report.duration(found.answer["seconds"]),
             f"{events / found.answer['seconds']:,.0f}", report.duration(found.answer["seconds"] / events),
             report.memory(found.peak_bytes)) for events, found in sorted(run.loads.items())]


def step_rows(run: Run) -> list[report.Row]:
    """What each step of a load takes, of a full one and of the newest day."""
    if not run.refreshed:
        return []
    full, newest = run.loads[run.events].answer["steps"], run.refreshed["steps"]
    return [(step, report.duration(full.get(step, 0)), report.duration(newest.get(step, 0)),
             f"{newest.get(step, 0) / full[step]:.1%}" if full.get(step) else "") for step in full | newest]


def show(run: Run) -> None:
    out.print(caption(run))
    for heading, rows in ((report.RATIOS, ratio_rows(run)), (report.SCALE, scale_rows(run)),
                          (report.STEPS, step_rows(run)), (report.PULLS, run.pulls)):
        table = Table(*heading, box=None, header_style="bold")
        for row in rows:
            table.add_row(*row)
        if rows:
            out.print(table)


def figures(run: Run) -> dict[str, Any]:
    return {
        "machine": machine(), "events": run.events, "verbs": run.verbs, "repeats": run.repeats,
        "comparisons": [{"what": c.what, "seconds": c.ours, "against": c.other, "their_seconds": c.theirs,
                         "ratio": c.ratio, "target": c.target, "reached": c.reached} for c in run.comparisons],
        "loads": [{"events": events, "peak_bytes": found.peak_bytes, **found.answer}
                  for events, found in sorted(run.loads.items())],
        "refresh": run.refreshed, "pulls": run.pulls,
    }


def write_down(run: Run) -> None:
    """Put what was measured where it belongs; the README's tables are of one whole run with three sizes, or stay."""
    if {comparison.what for comparison in run.comparisons} == report.WHOLE and len(run.loads) >= report.SIZES:
        tables = [report.markdown(report.RATIOS, ratio_rows(run)), report.markdown(report.SCALE, scale_rows(run))]
        report.put(ROOT / "README.md", "ratios", "\n\n".join([caption(run), *tables]))
    elif run.comparisons:
        err.print("The README keeps its tables: they take every part of one run, with --scale.")
    for name, heading, rows in (("steps", report.STEPS, step_rows(run)), ("pulls", report.PULLS, run.pulls)):
        if rows:
            report.put(ROOT / "docs" / "benchmarks.md", name, report.markdown(heading, rows))


if __name__ == "__main__":
    app()
