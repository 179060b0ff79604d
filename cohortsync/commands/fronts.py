"""The app."""

from __future__ import annotations

from typing import Annotated

import typer

from cohortsync.commands.options import opened

app = typer.Typer()


@app.command(name="app", epilog="Examples: cohortsync app --port 8600; cohortsync app --address 0.0.0.0 --host "
                                "cohorts.yourcompany.example")
def open_app(ctx: typer.Context, port: Annotated[int, typer.Option(help="The app's port.")] = 8501,
             address: Annotated[str, typer.Option(help="Where to listen; beyond this machine only with a login "
                                                       "(docs/app.md).")] = "127.0.0.1",
             host: Annotated[list[str] | None, typer.Option(help="A name that browsers may ask for the app by, beside "
                                                                 "this machine's.")] = None) -> None:
    """Open the app on this machine, with the local services when the workspace rehearses."""
    from cohortsync import rehearsal

    rehearsal.app(opened(ctx), port, address, host or [])
