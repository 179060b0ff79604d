"""The app and the notebooks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cohortsync.commands.options import opened

app = typer.Typer()


@app.command(name="app")
def open_app(ctx: typer.Context, port: Annotated[int, typer.Option(help="The app's port.")] = 8501) -> None:
    """Open the app on this machine, with the local Mailchimp when the workspace rehearses."""
    from cohortsync import rehearsal

    rehearsal.app(opened(ctx), port)


@app.command()
def notebooks(copy: Annotated[Path, typer.Option(help="A folder to copy them to.")]) -> None:
    """Copy the notebooks to a folder of yours, to open and change."""
    from cohortsync.runs import copy_notebooks

    for path in copy_notebooks(copy):
        print(path)
