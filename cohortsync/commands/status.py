"""Whether all is well."""

from __future__ import annotations

import pandas as pd
import typer

from cohortsync import console, health
from cohortsync.commands.options import AsJson, opened

app = typer.Typer()


@app.command(epilog="Example: cohortsync status --json")
def status(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Say whether all syncs are well; ends with 6 when one is paused, 4 when one awaits approval, 5 when late."""
    found = opened(ctx).status()
    if as_json:
        console.print_json(found)
    elif found["syncs"]:
        frame = pd.DataFrame(found["syncs"], columns=health.COLUMNS)
        for name in ("last_completed_at", "due_at"):
            frame[name] = frame[name].str[:16].str.replace("T", " ")
        console.table(frame)
    else:
        console.note("No sync stands yet. Make one: cohortsync syncs create")
    raise typer.Exit(found["exit_status"])
