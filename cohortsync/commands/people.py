"""People who are to be forgotten."""

from __future__ import annotations

import sys
from typing import Annotated

import pandas as pd
import typer

from cohortsync import console
from cohortsync.commands.options import AsJson, opened
from cohortsync.errors import BadInput

app = typer.Typer()


@app.command(epilog="Examples: cohortsync forget maria@harbor.example; cohortsync forget u-1027 --yes --json")
def forget(ctx: typer.Context,
           person: Annotated[str, typer.Argument(metavar="ADDRESS|DISTINCT_ID", help="Whom to forget.")],
           yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False, as_json: AsJson = False) -> None:
    """Erase a person everywhere in the workspace, for good; they are never exported again.

    What is kept of them is a salted hash of each of their ids and addresses. Mixpanel, Mailchimp, backups and files of
    your own stay as they are; the answer names them.
    """
    workspace = opened(ctx)
    if not yes and not sys.stdin.isatty():
        raise BadInput("This erases a person for good. In scripts say --yes.")
    if not yes and not typer.confirm("Erase this person from the workspace for good?", err=True):
        raise typer.Exit(0)
    with console.progress() as step:
        erased = workspace.forget(person, step)
    if as_json:
        console.print_json(erased.as_dict())
        return
    console.table(pd.DataFrame(erased.found.items(), columns=["erased from", "times"]))
    console.note(f"{erased.ids} ids and {erased.addresses} addresses will never be exported again.")
    for text in erased.notes:
        console.note(text)
