"""Exports of a cohort, and what became of them."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated, Any

import pandas as pd
import typer

from cohortsync import console
from cohortsync.commands.options import AsJson, AssumeAdmin, CohortName, opened, rehearses, services, with_terms
from cohortsync.errors import BadInput, CohortsyncError
from cohortsync.plan import Plan
from cohortsync.words import why
from cohortsync.workspace import Workspace

RECEIPT = ("run_id", "status", "added", "kept", "removed", "refused", "requests", "accounted")

app = typer.Typer()


AudienceId = Annotated[str | None, typer.Option("--audience", help="The audience's id.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask before writing to a real account.")]
Force = Annotated[bool, typer.Option("--force", help="Do what a guard would stop.")]
Confirm = Annotated[int | None, typer.Option("--confirm", metavar="NUMBER", help=(
    "How many people a first sync is known to add, where that is many."))]


@app.command(epilog="Example: cohortsync plan power-users --audience 1a2b3c4d5e")
@with_terms
def plan(ctx: typer.Context, name: CohortName, audience_id: AudienceId = None, as_json: AsJson = False, *,
         terms: dict[str, Any]) -> None:
    """Show what a sync would do to each person; writes nothing. cohortsync apply does what the plan says."""
    workspace = opened(ctx)
    with services(workspace), console.progress() as step:
        made = workspace.plan(name, workspace.chosen_audience(audience_id or ""), step, **terms)
    if as_json:
        console.print_json(summary(made))
    else:
        show_plan(made)
        console.note(f"Everyone, masked: cohortsync runs {made.run_id}")
        console.note(f"To do this: cohortsync apply {made.run_id}")


@app.command(epilog="Example: cohortsync apply 20261101T080000Z-1a2b3c")
def apply(ctx: typer.Context,
          plan_id: Annotated[str, typer.Argument(metavar="PLAN", help="The plan's id, as cohortsync plan says it.")],
          yes: Yes = False, force: Force = False, confirm: Confirm = None, assume_admin: AssumeAdmin = False,
          as_json: AsJson = False) -> None:
    """Do what a plan says, and nothing more; stops if more became due meanwhile."""
    workspace = opened(ctx, assume_admin)
    made = workspace.kept_plan(plan_id)
    with services(workspace):
        if yes or rehearses(workspace):
            with console.progress() as step:
                receipt = workspace.apply(made, force, step, confirm)
        else:
            receipt = _sync_when_confirmed(workspace, made, force, confirm)
    end(receipt, as_json)


@app.command(epilog="Example: cohortsync sync power-users --audience 1a2b3c4d5e --dry-run")
@with_terms
def sync(ctx: typer.Context, name: CohortName, audience_id: AudienceId = None,
         dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan; write nothing.")] = False,
         yes: Yes = False, force: Force = False, confirm: Confirm = None, assume_admin: AssumeAdmin = False,
         as_json: AsJson = False, *, terms: dict[str, Any]) -> None:
    """Export a cohort once: plan, apply, prove. The segment then equals the cohort."""
    workspace = opened(ctx, assume_admin)
    show = (lambda _plan: None) if as_json else show_plan
    with services(workspace), console.progress() as step:
        audience_id = workspace.chosen_audience(audience_id or "")
        if dry_run or yes or rehearses(workspace):
            receipt = workspace.sync(name, audience_id, dry_run=dry_run, force=force, confirm=confirm, progress=step,
                                     review=show, **terms)
        else:
            made = workspace.plan(name, audience_id, step, **terms)
            receipt = _sync_when_confirmed(workspace, made, force, confirm)
    end(receipt, as_json)


@app.command(epilog="Example: cohortsync undo 20261101T080000Z-1a2b3c")
def undo(ctx: typer.Context, run_id: Annotated[str, typer.Argument(help="The run; cohortsync runs lists them.")],
         as_json: AsJson = False) -> None:
    """Plan to take a run back: who was put on the segment comes off, and the other way round. Writes nothing."""
    workspace = opened(ctx)
    with services(workspace), console.progress() as step:
        made = workspace.undo(run_id, step)
    if as_json:
        console.print_json(summary(made) | {"undoes": made.undoes, "lasting": made.warnings})
    else:
        show_plan(made)
        console.note(f"To do this: cohortsync apply {made.run_id}")


def end(receipt: dict[str, Any], as_json: bool) -> None:
    """Say how a run ended; raises when not everyone is accounted for."""
    if as_json:
        console.note(receipt["target"])
        console.print_json({name: receipt[name] for name in RECEIPT})
    else:
        show_receipt(receipt)
    if receipt["status"] not in ("planned", "completed"):
        raise CohortsyncError("Not everyone of the cohort could be accounted for. Run the sync again; "
                              f"cohortsync runs {receipt['run_id']} shows who is unproven.")


def _sync_when_confirmed(workspace: Workspace, plan: Plan, force: bool, confirm: int | None = None) -> dict[str, Any]:
    """Write to a real account only after its audience's name was typed."""
    show_plan(plan)
    if not sys.stdin.isatty():
        raise BadInput(f"This would write to the real audience {plan.target.audience_name!r}. In scripts say --yes.")
    if workspace.needs_vouching and typer.confirm("Are you an admin or owner of the Mixpanel project?", err=True):
        workspace.assume_admin()
    typed = typer.prompt(f"Type the audience's name ({plan.target.audience_name}) to write to it", err=True)
    if typed.strip() != plan.target.audience_name:
        raise BadInput(f"{typed!r} is not the audience's name; nothing was written.")
    if confirm is None and any(guard.name == "first" for guard in plan.guards):
        confirm = typer.prompt("Type how many people this first sync adds", type=int, err=True)
    with console.progress() as step:
        return workspace.apply(plan, force, step, confirm)


def summary(plan: Plan) -> dict[str, Any]:
    """A plan for a script: counts and requests, and the guards that stop it; no person."""
    return {"run_id": plan.run_id, "cohort": plan.cohort, "target": str(plan.target), **plan.counts,
            "address_changed": plan.address_changed, "changes": plan.changes, **plan.numbers,
            "new_billed_contacts": plan.new_billed_contacts, "requests": plan.requests,
            "mtu": asdict(plan.mtu) | {"adds_at_most": plan.mtu.adds_at_most} if plan.mtu else None,
            "guards": [{"guard": guard.name, **guard.numbers} for guard in plan.guards]}


def show_plan(plan: Plan) -> None:
    """Where a plan goes, how many people each reason concerns, and its numbers."""
    console.note(f"To: {plan.target}")
    console.note_as_of(plan.as_of.isoformat() if plan.as_of else None)
    reasons = plan.people.groupby(["word", "reason"], as_index=False).size().rename(columns={"size": "people"})
    console.table(_readable(reasons[["word", "people", "reason"]]))
    for line in plan.lines:
        console.note(line)


def _readable(frame: pd.DataFrame) -> pd.DataFrame:
    """Reasons in the words that the app has for them, too."""
    return frame.assign(reason=frame["reason"].map(why))


def show_receipt(receipt: dict[str, Any]) -> None:
    """How a run ended, and whether everyone is accounted for."""
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
        console.table(_readable(frame) if run_id else frame[["run_id", "target", *RECEIPT[1:], "size"]])
