"""What events and properties there are."""

from __future__ import annotations

from typing import Annotated

import typer

from cohortsync import console
from cohortsync.commands.options import AsJson, opened
from cohortsync.lexicon import SAMPLE

app = typer.Typer()
lexicon_app = typer.Typer(no_args_is_help=True, help="What events and properties there are.")
app.add_typer(lexicon_app, name="lexicon")


@lexicon_app.command(epilog="Example: cohortsync lexicon events --json")
def events(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the events there are: how many, of how many users, when, and their class for MTU."""
    console.show(opened(ctx).events_seen(), as_json)


@lexicon_app.command(epilog="Example: cohortsync lexicon properties Purchase --sample 100000 --json")
def properties(ctx: typer.Context,
               event: Annotated[str | None, typer.Argument(help="An event's name; none: all events.")] = None,
               profiles: Annotated[bool, typer.Option("--profiles", help="Those of the profiles.")] = False,
               sample: Annotated[int, typer.Option(min=0, help="Of how many rows, drawn at random; 0: all.")] = SAMPLE,
               as_json: AsJson = False) -> None:
    """List properties: types, how often they are set, and examples, masked."""
    frame = opened(ctx).properties(event, profiles=profiles, sample=sample or None)
    if not as_json:
        console.note(f"Of {frame['sampled'].max() if len(frame) else 0:,} {'profiles' if profiles else 'events'}:")
        frame["types"] = [", ".join(f"{kind} {count:,}" for kind, count in types.items()) for types in frame["types"]]
        frame["examples"] = frame["examples"].map(" | ".join)
    console.show(frame, as_json, hidden=["sampled"], shares=["fill_rate"])


@lexicon_app.command(epilog="Example: cohortsync lexicon values Purchase --property plan --property '$city' --days 7")
def values(ctx: typer.Context, event: Annotated[str, typer.Argument(help="An event's name.")],
           names: Annotated[list[str] | None, typer.Option("--property", help="A property's Mixpanel name.")] = None,
           days: Annotated[int | None, typer.Option(min=1, max=36500, help="Only the event's last days.")] = None,
           limit: Annotated[int, typer.Option(min=1, help="At most so many events.")] = 20,
           as_json: AsJson = False) -> None:
    """List an event's latest occurrences with these properties as columns; addresses masked."""
    console.show(opened(ctx).events(event, names or [], days=days, limit=limit), as_json)
