"""Whether a real account behaves as a sync takes it to."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from cohortsync import console, live
from cohortsync.commands.options import AsJson, opened, services
from cohortsync.errors import BadInput
from cohortsync.workspace import Workspace

app = typer.Typer()


@app.command(epilog="Example: cohortsync check-live --audience 1a2b3c4d5e --mailbox me@my-company.example")
def check_live(ctx: typer.Context,
               audience_id: Annotated[str, typer.Option("--audience", help="An audience made for this: contacts are "
                                                        "added to it, unsubscribed and archived.")],
               mailbox: Annotated[str, typer.Option(help="An address of yours; the contacts get its plus-addresses, "
                                                    "and some a mail that asks to confirm.")],
               confirm: Annotated[str, typer.Option(metavar="NAME", help="The audience's name, for scripts; else it "
                                                    "is asked for.")] = "",
               as_json: AsJson = False) -> None:
    """Try on a throwaway audience every behaviour of Mailchimp that a sync relies on: agrees, differs or unknown."""
    workspace = opened(ctx)
    with services(workspace):
        _check_named(workspace, audience_id, confirm)
        with console.progress() as step:
            found = live.check(workspace.home, audience_id, mailbox, step)
    console.show(found, as_json, hidden=["behaviour", "otherwise", "seen"])
    for row in console.records(found[found["verdict"] != "agrees"]):
        console.note(f"{row['verdict']}: {row['assumed']}. {row['seen'] or 'What that means: ' + row['otherwise']}.")


def _check_named(workspace: Workspace, audience_id: str, confirm: str) -> None:
    """Raise BadInput unless someone says the audience's name."""
    names = {row["audience_id"]: row["name"] for row in workspace.check_mailchimp()["audiences"]}
    if audience_id not in names:
        raise BadInput(f"The account has no audience {audience_id!r}. cohortsync connect mailchimp lists them.")
    if not confirm and sys.stdin.isatty():
        confirm = typer.prompt(f"Contacts will be added to {names[audience_id]}, unsubscribed and archived. "
                               "Type its name to go on", err=True)
    if confirm.strip() != names[audience_id]:
        raise BadInput(f"{confirm!r} is not the name of audience {audience_id}; nothing was done. "
                       "In scripts say --confirm NAME.")
