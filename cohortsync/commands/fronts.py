"""The app."""

from __future__ import annotations

from typing import Annotated

import typer

from cohortsync.commands.options import opened

app = typer.Typer()


@app.command(name="app")
def open_app(ctx: typer.Context, port: Annotated[int, typer.Option(help="The app's port.")] = 8501) -> None:
    """Open the app on this machine, with the local Mailchimp when the workspace rehearses."""
    from cohortsync import rehearsal

    rehearsal.app(opened(ctx), port)
