"""Monthly tracked users, and which events count."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import pandas as pd
import typer

from cohortsync import console
from cohortsync.commands.options import AsJson, opened
from cohortsync.errors import BadInput
from cohortsync.forecast import MonthToDate
from cohortsync.workspace import Workspace

MARKED = "A Mailchimp event is exempt only when its $source is mailchimp."
BY_NAME = "A partner's event is exempt by its name alone, without its mark."
MARGINAL = "For each event: who leaves the bill without it."
UNMARKED = "The people whom --marked-only adds; with --partners-by-name, those whom that takes off."
TO_DATE = "The newest month so far, and where it may end."
SPIKES = "Unusual months or days, and the events behind them."
Guarded = Literal["all", "qualifying", "qualifying+opens"]

app = typer.Typer()
classes_app = typer.Typer(help="What counts towards MTU: list and edit the event classes.")
app.add_typer(classes_app, name="classes")


@app.command(epilog="Examples: cohortsync mtu --marked-only --guardrail-events qualifying --json; "
                    "cohortsync mtu --marginal --month 2026-10; cohortsync mtu --to-date")
def mtu(ctx: typer.Context,
        marked_only: Annotated[bool, typer.Option("--marked-only", help=MARKED)] = False,
        partners_by_name: Annotated[bool, typer.Option("--partners-by-name", help=BY_NAME)] = False,
        guardrail_events: Annotated[Guarded, typer.Option(help="Which events the guardrail counts.")] = "all",
        events_per_user: Annotated[int, typer.Option(min=1, help="The guardrail's ratio.")] = 1000,
        as_of: Annotated[str | None, typer.Option(metavar="TIME", help="As the months stood then (UTC).")] = None,
        history: Annotated[bool, typer.Option("--history", help="Every change of every month.")] = False,
        organisation: Annotated[bool, typer.Option("--organisation", help="The sum over all projects.")] = False,
        marginal: Annotated[bool, typer.Option("--marginal", help=MARGINAL)] = False,
        unmarked: Annotated[bool, typer.Option("--unmarked", help=UNMARKED)] = False,
        month: Annotated[str | None, typer.Option(help="Only this month, with --marginal or --unmarked.")] = None,
        to_date: Annotated[bool, typer.Option("--to-date", help=TO_DATE)] = False,
        anonymous: Annotated[bool, typer.Option("--anonymous", help="The share known by a device alone.")] = False,
        spikes: Annotated[Literal["month", "day"] | None, typer.Option(help=SPIKES)] = None,
        as_json: AsJson = False) -> None:
    """Show monthly tracked users: the bill, without the exemption, and with engagement counted."""
    workspace, rules = opened(ctx), {"marked_only": marked_only, "partners_by_name": partners_by_name}
    counts: dict[str, Any] = {**rules, "guardrail_events": guardrail_events, "events_per_user": events_per_user}
    views: dict[str, tuple[Any, Callable[[], None]]] = {
        "--history": (history, lambda: _show_months(workspace.mtu_history(**counts), as_json)),
        "--organisation": (organisation, lambda: _show_months(workspace.organisation_mtu(**counts), as_json)),
        "--marginal": (marginal, lambda: console.show(workspace.marginal_mtu(month, **counts), as_json)),
        "--unmarked": (unmarked, lambda: _show_lists(workspace.unmarked_users(month, partners_by_name), as_json)),
        "--to-date": (to_date, lambda: _show_to_date(workspace.month_to_date(**rules), as_json)),
        "--anonymous": (anonymous, lambda: console.show(workspace.anonymous_share(**rules), as_json,
                                                        shares=["anonymous_share"])),
        "--spikes": (spikes, lambda: console.show(workspace.mtu_spikes(spikes or "month", **rules), as_json)),
    }
    asked = [flag for flag, (on, _) in views.items() if on]
    if len(asked) > 1:
        raise BadInput(f"{' and '.join(asked)} are different questions; ask one at a time.")
    if asked:
        views[asked[0]][1]()
    else:
        _show_bill(workspace, as_of, counts, as_json)


def _show_bill(workspace: Workspace, as_of: str | None, counts: dict[str, Any], as_json: bool) -> None:
    console.show(workspace.mtu(as_of=as_of, **counts).drop(columns="as_of"), as_json)
    if not as_json:
        console.note(_names_that_occurred(workspace.mailchimp_names()))


def _show_months(frame: pd.DataFrame, as_json: bool) -> None:
    if "as_of" in frame and as_json:
        frame["as_of"] = frame["as_of"].map(pd.Timestamp.isoformat) + "Z"
    _show_lists(frame, as_json)


def _show_lists(frame: pd.DataFrame, as_json: bool) -> None:
    for column in [name for name in ("projects", "events") if name in frame and frame[name].dtype == object]:
        frame[column] = frame[column] if as_json else frame[column].map(", ".join)
    console.show(frame, as_json)


def _show_to_date(found: MonthToDate | None, as_json: bool) -> None:
    if as_json:
        console.print_json(found and found.summary() | {"months": console.records(found.months),
                                                        "days": console.records(found.days)})
    elif found is None:
        console.note("No events are loaded yet.")
    else:
        console.show(found.months, False, shares=["share", "error"])
        console.note(found.sentence())


def _names_that_occurred(names: pd.DataFrame) -> str:
    if names.empty:
        return "No event with one of Mailchimp's exempt names occurred."
    return "\n".join(f"Mailchimp's events came under the names of the {page} in {', '.join(rows['month'])}: "
                     f"{rows['events'].sum():,} events." for page, rows in names.groupby("page"))


@classes_app.callback(invoke_without_command=True)
def classes(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the event classes that differ from qualifying, and the partners whose events can be exempt."""
    if ctx.invoked_subcommand:
        return
    workspace = opened(ctx)
    listed, partners = workspace.event_classes(), workspace.partners()
    if as_json:
        console.print_json({"classes": console.records(listed), "partners": console.records(partners)})
    else:
        listed.attrs.clear()  # as_of is said once, below
        console.table(listed)
        console.note("\nPartners whose exempt events can be left out:")
        console.table(partners)


@classes_app.command(name="set", epilog="Example: cohortsync classes set \"Weekly digest sent\" delivery")
def set_class(ctx: typer.Context, event: Annotated[str, typer.Argument(help="The event's name.")],
              to: Annotated[Literal["qualifying", "system", "engagement", "delivery", "partner"], typer.Argument(
                  help="What it counts as.")]) -> None:
    """Say what an event counts as; it applies at once, to every month."""
    opened(ctx).set_class(event, to)
    console.note(f"{event} is {to} now.")


@classes_app.command(epilog="Example: cohortsync classes partner braze --on")
def partner(ctx: typer.Context, name: Annotated[str, typer.Argument(help="cohortsync classes lists them.")],
            on: Annotated[bool, typer.Option("--on/--off", help="Exempt its events, or count them.")]) -> None:
    """Exempt the events that a partner's page lists, or count them again."""
    opened(ctx).set_partner(name, on)
    console.note(f"The exempt events of {name} are {'left out' if on else 'counted'} now.")


@classes_app.command(epilog="Example: cohortsync classes reset")
def reset(ctx: typer.Context) -> None:
    """Take every edit of the event classes back."""
    opened(ctx).reset_classes()
    console.note("The event classes are as they ship.")
