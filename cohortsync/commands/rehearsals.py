"""The local services, time that passes there, and the demo against them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from cohortsync import console
from cohortsync.commands.cohorts import show_audience
from cohortsync.commands.data import show_load
from cohortsync.commands.options import AsJson, Cohorts, Events, IdMerge, ManyFiles, Profiles, opened, pairs
from cohortsync.commands.pulls import show_report
from cohortsync.commands.syncs import show_plan, show_receipt
from cohortsync.config import bundled
from cohortsync.errors import BadInput
from cohortsync.intake import LoadReport
from cohortsync.plan import Plan
from cohortsync.pull import PullReport
from cohortsync.workspace import Workspace

app = typer.Typer()
sandbox_app = typer.Typer(help="A local Mailchimp and a local Mixpanel, to rehearse with.")
app.add_typer(sandbox_app, name="sandbox")

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
LONGEST = 366 * 86400
Port = Annotated[int | None, typer.Option(help="0: a free one. Default: the one that the workspace knows it at.")]
StateFolder = Annotated[Path | None, typer.Option("--state", help="Their state's folder; default: the workspace.")]


@sandbox_app.callback(invoke_without_command=True, epilog="Example: cohortsync sandbox --mixpanel-port 8019")
def sandbox(ctx: typer.Context, mailchimp_port: Port = None, mixpanel_port: Port = None, state: StateFolder = None,
            seed: Annotated[Path | None, typer.Option(help="Contacts that Mailchimp starts with, NDJSON.")] = None,
            mixpanel_seed: Annotated[Path | None, typer.Option(help="The project that Mixpanel starts with, JSON; see "
                                                                    "data/sample/mixpanel.json.")] = None) -> None:
    """Serve a local Mailchimp and a local Mixpanel on this machine until they are stopped.

    A new folder starts with the sample, unless a seed is named.
    """
    from cohortsync.rehearsal import folder, known_ports
    from cohortsync.sandbox.server import serve

    if ctx.invoked_subcommand:
        return
    workspace = opened(ctx)
    place = state or folder(workspace)
    if not (seed or mixpanel_seed or place.exists()):
        sample = bundled("data") / "sample"
        seed, mixpanel_seed = sample / "mailchimp_members.ndjson", sample / "mixpanel.json"
    known = known_ports(workspace)
    ports = [known.get(kind, 0) if port is None else port
             for kind, port in (("mailchimp", mailchimp_port), ("mixpanel", mixpanel_port))]
    try:
        serve(place, ports[0], seed, False, ports[1], mixpanel_seed)
    except (OSError, ValueError) as error:
        raise BadInput(f"The local services cannot start: {error}") from None


@sandbox_app.command(epilog="Example: cohortsync sandbox advance 2h --json")
def advance(ctx: typer.Context,
            time: Annotated[str, typer.Argument(help="How long: 30m, 2h, 1d, 1d12h.")],
            seed: Annotated[int, typer.Option(help="Other things happen by another seed.")] = 1,
            state: StateFolder = None, as_json: AsJson = False) -> None:
    """Let time pass on both local services, and tell what happened meanwhile; whether they are being served or not."""
    from cohortsync.rehearsal import folder, happenings
    from cohortsync.sandbox import advance as let_pass

    place = state or folder(opened(ctx))
    try:
        passed = let_pass(place, seconds_of(time), seed)
    except FileNotFoundError:
        raise BadInput(f"There are no local services in {place} yet. Start them: cohortsync sandbox, or cohortsync "
                       "demo") from None
    if as_json:
        console.print_json({"seconds": passed.seconds, "now": passed.now.isoformat(timespec="seconds"),
                            "mixpanel": passed.mixpanel, "mailchimp": passed.mailchimp})
    else:
        console.table(happenings(passed))
        console.note(f"It is {passed.now:%Y-%m-%d %H:%M} UTC there now.")


def seconds_of(text: str) -> int:
    """The seconds of a time such as 30m, 2h or 1d12h. Raises BadInput for another, and for more than a year."""
    parts = re.findall(r"(\d{1,9})([smhd])", text)
    seconds = sum(int(number) * UNITS[unit] for number, unit in parts)
    if "".join(map("".join, parts)) != text or not 0 < seconds <= LONGEST:
        raise BadInput(f"{text!r} is not a time that can pass here. Write it as 30m, 2h, 1d or 1d12h; at most 366d.")
    return seconds


@app.command(cls=ManyFiles, epilog="Example: cohortsync demo --events e.ndjson --profiles p.json "
                                   "--cohort vip=vip.csv --timezone Europe/Berlin --id-merge simplified")
def demo(ctx: typer.Context, events: Events = None, profiles: Profiles = None, cohort: Cohorts = None,
         timezone: Annotated[str | None, typer.Option(help="The project's time zone.")] = None,
         id_merge: Annotated[IdMerge | None, typer.Option(help="The project's ID merge.")] = None) -> None:
    """Run the main job against the local services: on the sample, or on your own files."""
    from cohortsync.demo import Exports, demo_on_files, demo_on_sample

    workspace = Workspace.at(ctx.obj[0] or Path("cohortsync-demo"))
    files = bool(events or profiles or cohort)
    if files and not (timezone and id_merge):
        raise BadInput("Your own files need the project's --timezone and --id-merge (Mixpanel: Project Settings).")
    with console.progress() as step:
        if files and timezone and id_merge:
            demo_on_files(workspace, Exports(events or [], profiles or [], pairs(cohort), timezone, id_merge,
                                             ctx.obj[1] or "local"), _say, step)
        else:
            demo_on_sample(workspace, _say, step)
    again = "finds nothing to change" + ("" if files else ", until two more hours have passed")
    console.note(f"\nThe workspace stays in {workspace.home}. Next:\n"
                 f"  cohortsync --home {workspace.home} app      the app, with the local services\n"
                 f"  cohortsync --home {workspace.home} audience NAME      who can be exported, and why not\n"
                 f"  cohortsync demo      again: {again}")


def _say(title: str, value: Any) -> None:
    """One step of the demo: a heading and what came out."""
    console.out.print(f"\n[bold]{console.escape(title)}[/bold]")
    if isinstance(value, LoadReport):
        show_load(value)
    elif isinstance(value, PullReport):
        show_report(value)
    elif isinstance(value, Plan):
        show_plan(value)
    elif isinstance(value, pd.DataFrame):
        console.table(value.drop(columns=["project_id", "loaded_at", "as_of", "host", "region", "rehearsal",
                                          "checked_at"], errors="ignore"))
    elif isinstance(value, dict):
        (show_audience if "reasons" in value else show_receipt)(value)
    elif isinstance(value, list):
        console.out.print("\n".join(console.escape(str(path)) for path in value), soft_wrap=True)
    else:
        console.out.print(console.escape(str(value)), soft_wrap=True)
