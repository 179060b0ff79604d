"""Cohorts: who can be exported, over time, against each other, and defined in SQL."""

from __future__ import annotations

from typing import Annotated, Any

import pandas as pd
import typer

from cohortsync import console
from cohortsync.audience import EXPLAINED
from cohortsync.commands.options import AsJson, CohortName, opened

app = typer.Typer()
cohort_app = typer.Typer(no_args_is_help=True, help="Cohorts over time, against each other, and defined in SQL.")
app.add_typer(cohort_app, name="cohort")


@app.command()
def cohorts(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the cohorts with their size and how many of them can be exported."""
    frame = opened(ctx).cohorts()
    if as_json:
        console.print_json(console.records(frame, ["project_id", "cohort", "size", "exportable"]))
    else:
        console.table(frame[["cohort", "size", "exportable", "loaded_at"]].assign(
            loaded_at=frame["loaded_at"].dt.strftime("%Y-%m-%d %H:%M UTC")))


@app.command(epilog="Example: cohortsync audience power-users --json")
def audience(ctx: typer.Context, name: CohortName, as_json: AsJson = False) -> None:
    """Show who of a cohort can be exported, and why the rest cannot."""
    summary = opened(ctx).audience_summary(name)
    if as_json:
        warning, _ = summary.pop("warning"), summary.pop("as_of")
        console.print_json(summary)
        if warning:
            console.note(f"Warning: {warning}")
    else:
        show_audience(summary)


def show_audience(summary: dict[str, Any]) -> None:
    """How many of a cohort can be exported, and why the rest cannot."""
    reasons = {reason: count for reason, count in summary["reasons"].items() if count or reason == "exportable"}
    console.table(pd.DataFrame({"reason": list(reasons), "users": list(reasons.values()),
                                "which means": [EXPLAINED[reason] for reason in reasons]}))
    console.note(f"{summary['cohort']}: {summary['exportable']:,} of {summary['size']:,} can be exported.")
    console.note_as_of(summary["as_of"])
    if summary["warning"]:
        console.note(f"Warning: {summary['warning']}")


@cohort_app.command(epilog="Example: cohortsync cohort history power-users --json")
def history(ctx: typer.Context, name: CohortName, as_json: AsJson = False) -> None:
    """Show a cohort's size at each load, and how many entered and left."""
    console.show(opened(ctx).cohort_history(name), as_json, hidden=["cohort", "load_id"])


@cohort_app.command(epilog="Example: cohortsync cohort overlap power-users trial-ending --json")
def overlap(ctx: typer.Context,
            names: Annotated[list[str] | None, typer.Argument(help="Two cohorts or more; none: all.")] = None,
            as_json: AsJson = False) -> None:
    """Show how many users cohorts have in common, pair by pair."""
    console.show(opened(ctx).cohort_overlap(*(names or [])), as_json, shares=["share", "other_share"])


@cohort_app.command(epilog="Example: cohortsync cohort changes power-users --since 2026-10-01 --until 2026-10-31")
def changes(ctx: typer.Context, name: CohortName,
            since: Annotated[str | None, typer.Option(help="A day (its end) or an instant; default: the snapshot "
                                                           "before.")] = None,
            until: Annotated[str | None, typer.Option(help="The same; default: now.")] = None,
            as_json: AsJson = False) -> None:
    """List who entered and left a cohort between two moments, and why."""
    frame = opened(ctx).cohort_changes(name, since, until)
    console.show(frame, as_json, hidden=["cohort", "canonical_id"], shares=["share_moved", "share_others"])
    if not as_json:
        console.note(f"{(frame['change'] == 'entered').sum():,} entered, {(frame['change'] == 'left').sum():,} left.")


@cohort_app.command(epilog="Example: cohortsync cohort define pro --sql "
                           "\"select distinct_id from profiles where prop('plan') = 'pro'\"")
def define(ctx: typer.Context, name: Annotated[str, typer.Argument(help="The cohort's name.")],
           query: Annotated[str, typer.Option("--sql", help="One SELECT with a column distinct_id.")],
           as_json: AsJson = False) -> None:
    """Define a cohort in SQL; it is reckoned with every load and exported like any other."""
    row = opened(ctx).define_cohort(name, query)
    if as_json:
        console.print_json(row)
    else:
        console.note(f"{name}: {row['size']:,} users.")


@cohort_app.command(epilog="Example: cohortsync cohort undefine pro")
def undefine(ctx: typer.Context, name: CohortName) -> None:
    """Forget a cohort that was defined here; its snapshots stay."""
    opened(ctx).undefine_cohort(name)


@cohort_app.command(epilog="Example: cohortsync cohort recompute --json")
def recompute(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Reckon the cohorts defined here anew."""
    console.show(opened(ctx).recompute_cohorts(), as_json)


@cohort_app.command(epilog="Example: cohortsync cohort definitions --json")
def definitions(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the cohorts defined here, and which could not be reckoned last time."""
    console.show(opened(ctx).cohort_definitions(), as_json)
