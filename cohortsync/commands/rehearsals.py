"""The local services, and the demo against them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from cohortsync import console
from cohortsync.commands.cohorts import show_audience
from cohortsync.commands.data import show_load
from cohortsync.commands.options import Cohorts, Events, IdMerge, ManyFiles, Profiles, opened, pairs
from cohortsync.commands.syncs import show_plan, show_receipt
from cohortsync.errors import BadInput
from cohortsync.load import LoadReport
from cohortsync.plan import Plan
from cohortsync.workspace import Workspace

app = typer.Typer()


@app.command()
def sandbox(ctx: typer.Context,
            mailchimp_port: Annotated[int | None, typer.Option(
                help="The local Mailchimp's port; 0: a free one. Default: the one the workspace knows it at.")] = None,
            state: Annotated[Path | None, typer.Option(help="Its state's folder; default: the workspace.")] = None,
            seed: Annotated[Path | None, typer.Option(help="Contacts to start with, NDJSON.")] = None) -> None:
    """Serve a local Mailchimp on this machine until it is stopped."""
    from cohortsync.sandbox.server import serve

    workspace = opened(ctx)
    port = _rehearsal_port(workspace) if mailchimp_port is None else mailchimp_port
    try:
        serve(state or workspace.home / "sandbox", port, seed)
    except (OSError, ValueError) as error:
        raise BadInput(f"The local Mailchimp cannot start: {error}") from None


def _rehearsal_port(workspace: Workspace) -> int:
    connection = workspace.connection
    return int(connection["host"].rpartition(":")[2]) if connection and connection["rehearsal"] else 0


@app.command(cls=ManyFiles, epilog="Example: cohortsync demo --events e.ndjson --profiles p.json "
                                   "--cohort vip=vip.csv --timezone Europe/Berlin --id-merge simplified")
def demo(ctx: typer.Context, events: Events = None, profiles: Profiles = None, cohort: Cohorts = None,
         timezone: Annotated[str | None, typer.Option(help="The project's time zone.")] = None,
         id_merge: Annotated[IdMerge | None, typer.Option(help="The project's ID merge.")] = None) -> None:
    """Run the main job against a local Mailchimp: on the sample, or on your own files."""
    from cohortsync import rehearsal

    exports = rehearsal.sample()
    if events or profiles or cohort:
        if not (timezone and id_merge):
            raise BadInput("Your own files need the project's --timezone and --id-merge "
                           "(Mixpanel: Project Settings).")
        exports = rehearsal.Exports(events or [], profiles or [], pairs(cohort), timezone, id_merge,
                                    ctx.obj[1] or "local")
    workspace = Workspace.at(ctx.obj[0] or Path("cohortsync-demo"))
    with console.progress() as step:
        rehearsal.demo(workspace, exports, _say, step)
    console.note(f"\nThe workspace stays in {workspace.home}. Next:\n"
                 f"  cohortsync --home {workspace.home} app      the app, with the local Mailchimp\n"
                 f"  cohortsync --home {workspace.home} audience NAME      who can be exported, and why not\n"
                 "  cohortsync demo      again: finds nothing to change")


def _say(title: str, value: Any) -> None:
    """One step of the demo: a heading and what came out."""
    console.out.print(f"\n[bold]{console.escape(title)}[/bold]")
    if isinstance(value, LoadReport):
        show_load(value)
    elif isinstance(value, Plan):
        show_plan(value)
    elif isinstance(value, pd.DataFrame):
        console.table(value.drop(columns=["project_id", "loaded_at", "as_of"], errors="ignore"))
    elif isinstance(value, dict):
        (show_audience if "reasons" in value else show_receipt)(value)
    elif isinstance(value, list):
        console.out.print("\n".join(console.escape(str(path)) for path in value), soft_wrap=True)
    else:
        console.out.print(console.escape(str(value)), soft_wrap=True)
