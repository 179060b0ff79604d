"""Exports of a cohort, and what became of them."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import pandas as pd
import typer

from cohortsync import console
from cohortsync.commands.options import AsJson, AssumeAdmin, CohortName, opened, rehearses, services
from cohortsync.errors import BadInput, CohortsyncError
from cohortsync.plan import Plan
from cohortsync.workspace import Workspace

RECEIPT = ("run_id", "status", "added", "kept", "removed", "refused", "requests", "accounted")

app = typer.Typer()


@app.command(epilog="Example: cohortsync sync power-users --audience 1a2b3c4d5e --dry-run")
def sync(ctx: typer.Context, name: CohortName,
         audience_id: Annotated[str | None, typer.Option("--audience", help="The audience's id.")] = None,
         dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan; write nothing.")] = False,
         yes: Annotated[bool, typer.Option("--yes", help="Do not ask before writing to a real account.")] = False,
         force: Annotated[bool, typer.Option("--force", help="Do what a guard would stop.")] = False,
         assume_admin: AssumeAdmin = False, as_json: AsJson = False) -> None:
    """Export a cohort once: plan, apply, prove. The segment then equals the cohort."""
    workspace = opened(ctx)
    if assume_admin:
        workspace.assume_admin()
    show = (lambda _plan: None) if as_json else show_plan
    with services(workspace), console.progress() as step:
        audience_id = workspace.chosen_audience(audience_id or "")
        if dry_run or yes or rehearses(workspace):
            receipt = workspace.sync(name, audience_id, dry_run=dry_run, force=force, progress=step, review=show)
        else:
            receipt = _sync_when_confirmed(workspace, workspace.plan(name, audience_id, step), force)
    if as_json:
        console.note(receipt["target"])
        console.print_json({name: receipt[name] for name in RECEIPT})
    else:
        show_receipt(receipt)
    if receipt["status"] not in ("planned", "completed"):
        raise CohortsyncError("Not everyone of the cohort could be accounted for. Run the sync again; "
                              f"cohortsync runs {receipt['run_id']} shows who is unproven.")


def _sync_when_confirmed(workspace: Workspace, plan: Plan, force: bool) -> dict[str, Any]:
    """Write to a real account only after its audience's name was typed."""
    show_plan(plan)
    if not sys.stdin.isatty():
        raise BadInput(f"This would write to the real audience {plan.target.audience_name!r}. In scripts say --yes.")
    if workspace.needs_vouching and typer.confirm("Are you an admin or owner of the Mixpanel project?", err=True):
        workspace.assume_admin()
    typed = typer.prompt(f"Type the audience's name ({plan.target.audience_name}) to write to it", err=True)
    if typed.strip() != plan.target.audience_name:
        raise BadInput(f"{typed!r} is not the audience's name; nothing was written.")
    with console.progress() as step:
        return workspace.apply(plan, force, step)


def show_plan(plan: Plan) -> None:
    console.note(f"To: {plan.target}")
    console.note_as_of(plan.as_of.isoformat() if plan.as_of else None)
    reasons = plan.people.groupby(["word", "reason"], as_index=False).size().rename(columns={"size": "people"})
    console.table(reasons[["word", "people", "reason"]])
    console.note(f"{plan.writes} requests will write. New contacts become: {plan.new_contacts}.")
    for warning in plan.warnings:
        console.note(f"Warning: {warning}")


def show_receipt(receipt: dict[str, Any]) -> None:
    console.note(f"{receipt['target']}")
    console.table(pd.DataFrame([{name: receipt[name] for name in (*RECEIPT[1:], "size")}]))
    if receipt["status"] == "planned":
        console.note("Nothing was written: this is what a sync would do.")
    else:
        console.note(f"{receipt['accounted']:,} of {receipt['size']:,} ids of the cohort are accounted for. "
                     f"Run {receipt['run_id']}.")


@app.command()
def runs(ctx: typer.Context,
         run_id: Annotated[str | None, typer.Argument(help="Show one run's people, masked.")] = None,
         as_json: AsJson = False) -> None:
    """List the runs, or what became of each person in one of them."""
    workspace = opened(ctx)
    frame = workspace.outcome(run_id) if run_id else workspace.runs()
    if as_json:
        console.print_json(console.records(frame))
    else:
        console.table(frame if run_id else frame[["run_id", "target", *RECEIPT[1:], "size"]])
