"""Pulls from Mixpanel."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from cohortsync import console
from cohortsync.agenda import PullPlan
from cohortsync.budget import PLURAL
from cohortsync.commands.options import AsJson, opened, services
from cohortsync.pull import PullReport

EXAMPLES = """\b
Examples:
  cohortsync pull --plan-only            what it would ask for; nothing is fetched
  cohortsync pull --since 2026-01-01     everything, events from that day on
  cohortsync pull --cohort power-users --no-events
                                         one cohort's members and their profiles
"""

app = typer.Typer()


@app.command(epilog=EXAMPLES)
def pull(ctx: typer.Context,
         since: Annotated[datetime | None, typer.Option(metavar="DAY", formats=["%Y-%m-%d"], help=(
             "The first day of events. Default: the first one pulled so far; at first, of a year ago."))] = None,
         until: Annotated[datetime | None, typer.Option(metavar="DAY", formats=["%Y-%m-%d"], help=(
             "The last day. Default: today."))] = None,
         cohort: Annotated[list[str] | None, typer.Option(metavar="NAME", help=(
             "Only this cohort, by name or id, and the profiles of its members. Name as many as you like."))] = None,
         events: Annotated[bool, typer.Option("--events/--no-events", help="Whether to fetch events.")] = True,
         profiles: Annotated[bool, typer.Option("--profiles/--no-profiles", help="Whether to fetch profiles.")] = True,
         late_days: Annotated[int | None, typer.Option(min=0, help=(
             "Ask for so many days before the last pull again, for late events. Default: 5."))] = None,
         plan_only: Annotated[bool, typer.Option("--plan-only", "--dry-run", help="Show the plan; fetch nothing.")
                              ] = False,
         as_json: AsJson = False) -> None:
    """Fetch cohorts, profiles and events from Mixpanel, and load them, all or nothing.

    What it will ask for, and what the project's hour still holds, is shown first. Only days that are new or may have
    changed are asked for. When it ends early, run it again: it goes on from there.
    """
    workspace = opened(ctx)
    wanted = {"cohorts": cohort or None, "since": since and since.date(), "until": until and until.date(),
              "events": events, "profiles": profiles, "late_days": late_days}
    with services(workspace), console.progress() as step:
        done = workspace.plan_pull(**wanted) if plan_only else workspace.pull(step, show_plan, **wanted)
    if as_json:
        console.print_json(done.as_dict())
    elif isinstance(done, PullPlan):
        show_plan(done)
    else:
        show_report(done)


@app.command(epilog="Example: cohortsync pulls --json")
def pulls(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the pulls that ended, the latest first, and how often each asked."""
    frame = opened(ctx).pulls()
    if as_json:
        console.print_json(console.records(frame))
    else:
        console.table(frame.assign(finished_at=frame["finished_at"].str[:16].str.replace("T", " ") + " UTC").drop(
            columns="started_at"))


def show_plan(plan: PullPlan) -> None:
    """What a pull will ask for, beside what the hour still holds; on stderr."""
    console.note(f"The pull of project {plan.project_id} will ask for:")
    for line in _asked(plan):
        console.note(f"  {line}")
    for text in plan.left_out:
        console.note(f"Left out: {text}")
    if not plan.fits:
        console.note("That may be more than the hour still holds; the pull then waits until Mixpanel allows more.")


def _asked(plan: PullPlan) -> list[str]:
    lines = []
    if plan.period:
        between = f" from {plan.spans[0][0]} to {plan.spans[-1][1]}" if plan.spans else ""
        lines.append(f"events of {_counted(plan.days, 'day')}{between}: {_counted(plan.exports, 'export')}; "
                     f"the hour still holds {plan.left['export']:,}")
    whose = "" if not plan.profiles else ", their profiles" if plan.people is None else f", {plan.people:,} profiles"
    pages = plan.queries_with_pages
    lines.append(f"members of {_counted(len(plan.cohorts), 'cohort')}{whose}: {_counted(plan.queries, 'query')}"
                 f"{f', or {pages:,} if Mixpanel counts every page' if pages > plan.queries else ''}; "
                 f"the hour still holds {plan.left['query']:,}")
    return lines


def _counted(number: int, thing: str) -> str:
    return f"{number:,} {thing if number == 1 else PLURAL.get(thing, f'{thing}s')}"


def show_report(report: PullReport) -> None:
    """What came, and why a cohort is larger than the number of its profiles."""
    if len(report.cohorts):
        console.table(report.cohorts.drop(columns="cohort_id"))
        console.note("Members without a profile are counted in a cohort's size, and cannot be exported.")
    loaded = report.loaded
    console.note(f"{report.events:,} events of {_counted(report.days, 'day')} and {report.profiles:,} profiles "
                 f"fetched; {loaded.events_added:,} events added, {loaded.duplicates:,} duplicates left out.")
    if loaded.rekeyed:
        console.note(f"{loaded.rekeyed:,} events came under another id than they were sent with: merged users.")
    for text in [*report.notes, *loaded.notes]:
        console.note(f"Note: {text}")
    if loaded.quarantined:
        console.note(f"{loaded.quarantined:,} lines could not be taken. See them with: cohortsync quarantine")
