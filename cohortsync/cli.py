"""The command line: its commands put together. Data goes to stdout, everything else to stderr."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from cohortsync import __version__, console
from cohortsync.commands import (
    backups,
    cohorts,
    connections,
    data,
    followup,
    fronts,
    lexicon,
    live,
    mtu,
    notebooks,
    notices,
    orders,
    people,
    pulls,
    receive,
    rehearsals,
    status,
    syncs,
)


class PlaceAnywhere(TyperGroup):
    """Takes ``--home DIR``, ``--project ID`` and ``--log-json`` before or after the command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        place: list[str] = []
        rest: list[str] = []
        words = iter(args)
        for word in words:
            value = list(islice(words, 1)) if word in ("--home", "--project") else []
            placed = value or word == "--log-json" or word.startswith(("--home=", "--project="))
            (place if placed else rest).extend([word, *value])
        return super().parse_args(ctx, [*place, *rest])


cli = typer.Typer(cls=PlaceAnywhere, no_args_is_help=True, add_completion=False, rich_markup_mode=None,
                  pretty_exceptions_enable=False,
                  help="Mixpanel cohorts to Mailchimp audiences: a plan before, a proof after.",
                  epilog="Start with: cohortsync demo")
for commands in (data, cohorts, mtu, followup, lexicon, connections, live, pulls, receive, syncs, orders, notices,
                 people, notebooks, rehearsals, fronts, status, backups):
    cli.add_typer(commands.app)


def _print_version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit


@cli.callback()
def _main(ctx: typer.Context,
          home: Annotated[Path | None, typer.Option(envvar="COHORTSYNC_HOME", help="The workspace's folder.")] = None,
          project: Annotated[str | None, typer.Option(envvar="COHORTSYNC_PROJECT", metavar="ID", help=(
              "Which of the workspace's projects; one alone need not be named."))] = None,
          log_json: Annotated[bool, typer.Option("--log-json", envvar="COHORTSYNC_LOG_JSON", help=(
              "Write stderr for programs: a line of JSON for each step, note and error."))] = False,
          version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True,
                                                help="Print the version.")] = False) -> None:
    console.log.as_json = log_json
    ctx.obj = (home, project)


def main() -> None:
    """Run the command line."""
    with console.logged():
        cli()
