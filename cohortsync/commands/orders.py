"""Syncs that stand, and running what is due of them."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Annotated, Any

import pandas as pd
import typer

from cohortsync import console, notify, schedule
from cohortsync.commands.options import AsJson, AssumeAdmin, CohortName, opened, rehearses, services, with_terms
from cohortsync.commands.syncs import show_plan, show_receipt
from cohortsync.errors import BadInput
from cohortsync.workspace import Workspace

SyncName = Annotated[str, typer.Argument(metavar="SYNC", help="The sync's id, or its cohort's name where that has one "
                                                              "sync alone; cohortsync syncs lists them.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for the audience's name.")]
SHOWN = ["sync_id", "cohort", "audience_name", "kind", "status", "reason", "last_run", "due_at"]

app = typer.Typer()
syncs_app = typer.Typer(help="Syncs that stand, one-time or dynamic; without a word: list them.")
app.add_typer(syncs_app, name="syncs")


@syncs_app.callback(invoke_without_command=True)
def syncs(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the syncs that stand: Active, Paused or Needs approval, and how they ran last."""
    if ctx.invoked_subcommand:
        return
    frame = opened(ctx).syncs()
    if as_json:
        console.print_json(console.records(frame))
    else:
        console.table(_readable(frame[SHOWN]))


def _readable(frame: pd.DataFrame) -> pd.DataFrame:
    """Instants to the minute."""
    return frame.assign(**{name: frame[name].str[:16].str.replace("T", " ")
                           for name in frame.columns if str(name).endswith("_at")})


@syncs_app.command(epilog="Example: cohortsync syncs create power-users --audience 1a2b3c4d5e --dynamic")
@with_terms
def create(ctx: typer.Context, name: CohortName,
           audience_id: Annotated[str, typer.Option("--audience", help="The audience's id.")],
           dynamic: Annotated[bool, typer.Option("--dynamic/--one-time", help=(
               "Every two hours from now on, or once."))] = True,
           yes: Yes = False, assume_admin: AssumeAdmin = False, as_json: AsJson = False, *,
           terms: dict[str, Any]) -> None:
    """Make a sync that stands: it is due at once, and when dynamic every two hours from then on."""
    workspace = opened(ctx, assume_admin)
    with services(workspace):
        audiences = {row["audience_id"]: row["name"] for row in workspace.check_mailchimp()["audiences"]}
        if not (yes or rehearses(workspace)) and audience_id in audiences:
            _confirm(audiences[audience_id], "let the sync write to it")
        row = workspace.create_sync(name, audience_id, "dynamic" if dynamic else "one-time", **terms)
    if as_json:
        console.print_json(row)
    else:
        console.note(f"{row['sync_id']}: {row['cohort']} → {row['audience_name']}, {row['kind']}. It runs with the "
                     f"next cohortsync due; at once: cohortsync syncs run {row['sync_id']}")


def _confirm(audience_name: str, then: str) -> None:
    """Go on only after the audience's name was typed."""
    if not sys.stdin.isatty():
        raise BadInput(f"This would write to the real audience {audience_name!r}. In scripts say --yes.")
    typed = typer.prompt(f"Type the audience's name ({audience_name}) to {then}", err=True)
    if typed.strip() != audience_name:
        raise BadInput(f"{typed!r} is not the audience's name; nothing was changed.")


@syncs_app.command(epilog='Example: cohortsync syncs pause power-users --reason "The campaign is over."')
def pause(ctx: typer.Context, name: SyncName,
          reason: Annotated[str, typer.Option(help="Why; shown in the list.")] = "Paused by hand.") -> None:
    """Stop a sync until it is unpaused."""
    opened(ctx).pause_sync(name, reason)


@syncs_app.command(epilog="Example: cohortsync syncs unpause power-users")
def unpause(ctx: typer.Context, name: SyncName) -> None:
    """Let a sync go on; what was missed is made up for by one run, and a plan that waited is made anew."""
    opened(ctx).unpause_sync(name)


@syncs_app.command(epilog="Example: cohortsync syncs delete power-users")
def delete(ctx: typer.Context, name: SyncName) -> None:
    """Forget that a sync stands; its segment, the people on it and its runs stay."""
    opened(ctx).delete_sync(name)


@syncs_app.command(epilog="Example: cohortsync syncs history power-users --json")
def history(ctx: typer.Context, name: SyncName, as_json: AsJson = False) -> None:
    """List the runs of a sync, the latest first."""
    frame = opened(ctx).sync_history(name)
    if as_json:
        console.print_json(console.records(frame))
    else:
        console.table(_readable(frame))


@syncs_app.command(epilog="Example: cohortsync syncs approve power-users")
def approve(ctx: typer.Context, name: SyncName, yes: Yes = False, as_json: AsJson = False) -> None:
    """Show the plan at which a guard stopped, and do exactly that; more than it says is never done."""
    workspace = opened(ctx)
    plan = workspace.waiting_plan(name)
    if not as_json:
        console.note(workspace.find_sync(name)["reason"])
        show_plan(plan)
    if not (yes or plan.target.rehearsal):
        _confirm(plan.target.audience_name, "do this")
    with services(workspace), console.progress() as step:
        receipt = workspace.approve_sync(name, step)
    if as_json:
        console.print_json(receipt)
    else:
        show_receipt(receipt)


@syncs_app.command(epilog="Example: cohortsync syncs run power-users --json")
def run(ctx: typer.Context, name: SyncName, as_json: AsJson = False) -> None:
    """Run a sync now, due or not, as cohortsync due does; the exit status says how that ended."""
    workspace = opened(ctx)
    with services(workspace), console.progress() as step:
        _tell([workspace.run_sync(name, step)], workspace, as_json)


@app.command(epilog="Examples: cohortsync due; cohortsync due --json")
def due(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Run every sync that is due, each a notebook in a folder of its own: for cron or any other scheduler.

    Call it as often as you like: nothing runs before it is due or twice at once, and what was missed is made up for
    by one run. The exit status is 0 when all went well, else that of what most needs someone.
    """
    workspace = opened(ctx)
    with services(workspace), console.progress() as step:
        _tell(workspace.run_due(step), workspace, as_json)


def _tell(outcomes: list[dict[str, Any]], workspace: Workspace, as_json: bool) -> None:
    """Print how runs ended, tell who is to be told, and end with the status that tells most."""
    for problem in notify.deliver(workspace.home):
        console.note(f"Could not tell: {problem}")
    if as_json:
        console.print_json(outcomes)
    elif outcomes:
        console.table(pd.DataFrame(outcomes, columns=["cohort", "audience_name", "status", "added", "removed", "reason",
                                                      "report"]))
    else:
        console.note("Nothing is due.")
    raise typer.Exit(schedule.exit_status(outcomes))


@app.command(epilog="Example: cohortsync watch --every 60")
def watch(ctx: typer.Context,
          every: Annotated[int, typer.Option(min=1, help="Seconds between looks at what is due.")] = 60) -> None:
    """Do in the foreground what cohortsync due does, with a live table, until Ctrl-C."""
    workspace = opened(ctx)
    with services(workspace), _live(workspace) as step:
        while True:
            workspace.run_due(step)
            problems = notify.deliver(workspace.home)
            step(f"Could not tell: {problems[0]}" if problems else "Waiting for what is due next", 0, 1)
            time.sleep(every)


@contextmanager
def _live(workspace: Workspace) -> Iterator[Any]:
    """A table of the syncs that follows the ledger, what is being done below it."""
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    doing = ["Looking for what is due"]

    def step(label: str, _done: float, _total: float) -> None:
        doing[0] = label

    def drawn() -> Group:
        return Group(console.build_table(_readable(workspace.syncs()[SHOWN])), Text(doing[0], style="dim"))

    with suppress(KeyboardInterrupt), Live(get_renderable=drawn, console=console.out, refresh_per_second=1):
        yield step
