"""What became of the mails."""

from __future__ import annotations

from typing import Annotated

import typer

from cohortsync import console
from cohortsync.commands.options import AsJson, opened

app = typer.Typer()


@app.command(epilog="Example: cohortsync followup --month 2026-10 --json")
def followup(ctx: typer.Context, month: Annotated[str | None, typer.Option(help="Only this month.")] = None,
             as_json: AsJson = False) -> None:
    """Show who of each cohort was sent a mail, opened, clicked, bounced or unsubscribed."""
    frame = opened(ctx).followup(month)
    if not as_json:
        frame["cohort"] = frame["cohort"].fillna("everyone")
    console.show(frame, as_json, shares=["share_of_sent", "marked_share"])
