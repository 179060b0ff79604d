"""Cohorts that Mixpanel sends by itself."""

from __future__ import annotations

from typing import Annotated

import typer

from cohortsync import console
from cohortsync.commands.options import opened

app = typer.Typer()


@app.command(epilog="Example: cohortsync receive --port 8710")
def receive(ctx: typer.Context,
            port: Annotated[int, typer.Option(help="The port that your TLS proxy passes on to.")] = 8710,
            new_password: Annotated[bool, typer.Option("--new-password", help=(
                "Make the password that Mixpanel is to send, show it once, and end."))] = False) -> None:
    """Take the cohorts that Mixpanel's custom webhook sends every 30 minutes, until stopped."""
    from cohortsync import receiver

    workspace = opened(ctx)
    if new_password:
        password, place = receiver.new_password(workspace.home)
        console.note(f"For Mixpanel: Integrations, Custom Webhook, Basic Authentication. It is kept in {place}, and is "
                     "not shown again.")
        console.print_json({"username": receiver.USERNAME, "password": password})
        return
    receiver.serve(workspace.home, port, console.note)
