"""Both sides: connected, and looked at again."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from typing import Annotated, Any, Literal

import pandas as pd
import typer

from cohortsync import config, console
from cohortsync.access import NotTold
from cohortsync.commands.options import AsJson, AssumeAdmin, IdMerge, opened, services
from cohortsync.workspace import Workspace

app = typer.Typer()
connect_app = typer.Typer(no_args_is_help=True, help="Connect the other side.")
app.add_typer(connect_app, name="connect")


@connect_app.command(epilog="Example: cohortsync connect mailchimp --new-contacts subscribed")
def mailchimp(ctx: typer.Context,
              new_contacts: Annotated[Literal["subscribed", "pending", "transactional"], typer.Option(
                  help="The status of people who are new to the audience: subscribed (they agreed elsewhere), pending "
                       "(Mailchimp asks them first) or transactional (no campaigns).")],
              base_url: Annotated[str | None, typer.Option(help="A local rehearsal (loopback only).")] = None,
              keep_key: Annotated[bool, typer.Option(help="Keep the key for later runs.")] = True,
              assume_admin: AssumeAdmin = False, as_json: AsJson = False) -> None:
    """Connect a Mailchimp account; the key is asked for, or read from MAILCHIMP_API_KEY."""
    workspace = opened(ctx, assume_admin)
    key = os.environ.get(config.KEY_VARIABLE) or typer.prompt("Mailchimp API key", hide_input=True, err=True)
    with console.progress() as step:
        step("Asking Mailchimp", 0, 1)
        connection = workspace.connect_mailchimp(key, new_contacts, base_url, keep_key)
    shown = {name: connection[name] for name in ("account_name", "role", "host", "status", "new_contacts", "audiences")}
    if as_json:
        console.print_json(shown | {"rehearsal": bool(connection["rehearsal"])})
        return
    console.note(f"{'LOCAL REHEARSAL · ' if connection['rehearsal'] else ''}{connection['account_name']} "
                 f"({connection['role']}): {connection['status']}")
    console.table(pd.DataFrame(connection["audiences"]))


@connect_app.command(epilog="Example: cohortsync connect mixpanel --project-id 2195193 --id-merge simplified")
def mixpanel(ctx: typer.Context,
             project_id: Annotated[str, typer.Option(help="Mixpanel: Project Settings, Overview.")],
             region: Annotated[Literal["us", "eu", "in"] | None, typer.Option(
                 help="Where the project is kept. Default: found by asking.")] = None,
             timezone: Annotated[str | None, typer.Option(help="Only where Mixpanel does not tell it.")] = None,
             id_merge: Annotated[IdMerge | None, typer.Option(
                 help="Mixpanel: Project Settings, Identity Merge. Needed the first time.")] = None,
             base_url: Annotated[str | None, typer.Option(help="A local rehearsal (loopback only).")] = None,
             keep_key: Annotated[bool, typer.Option(help="Keep the secret for later runs.")] = True,
             assume_admin: AssumeAdmin = False, as_json: AsJson = False) -> None:
    """Connect a Mixpanel project by a service account; asked for, or read from MIXPANEL_USERNAME and _SECRET."""
    username = os.environ.get(config.USERNAME_VARIABLE) or typer.prompt("Service account's username", err=True)
    secret = os.environ.get(config.SECRET_VARIABLE) or typer.prompt("Its secret", hide_input=True, err=True)
    connection = _connect_asking(opened(ctx), username, secret, project_id, {
        "region": region, "base_url": base_url, "timezone": timezone, "id_merge": id_merge, "keep_secret": keep_key,
        "assume_admin": assume_admin})
    if as_json:
        shown = {name: connection[name] for name in ("project_id", "account_name", "role", "region", "host", "timezone",
                                                     "status", "reason", "may_export")}
        console.print_json(shown | {"rehearsal": bool(connection["rehearsal"])})
    else:
        console.note(f"{'LOCAL REHEARSAL · ' if connection['rehearsal'] else ''}{connection['account_name']} "
                     f"({connection['role'] or 'role unknown'}, {connection['timezone']}): {connection['status']}")
    for text in filter(None, [connection["reason"], *connection["notes"]]):
        console.note(text)


def _connect_asking(workspace: Workspace, username: str, secret: str, project_id: str,
                    settings: dict[str, Any]) -> dict[str, Any]:
    """Connect a Mixpanel project; on a terminal, ask for what Mixpanel does not tell."""
    try:
        with console.progress() as step:
            step("Asking Mixpanel", 0, 1)
            return workspace.connect_mixpanel(username, secret, project_id, **settings)
    except NotTold as missing:
        if settings[missing.setting] or not sys.stdin.isatty():
            raise
        given = typer.prompt(missing.question, err=True)
        return _connect_asking(workspace, username, secret, project_id, {**settings, missing.setting: given})


@app.command(epilog="Example: cohortsync connections --check --json")
def connections(ctx: typer.Context,
                check: Annotated[bool, typer.Option("--check", help="Look at each again first.")] = False,
                as_json: AsJson = False) -> None:
    """List what is connected: Connected, Paused or Needs attention, why, and when that was looked at."""
    workspace = opened(ctx)
    with services(workspace) if check else nullcontext():
        frame = workspace.connections(check)
    if as_json:
        console.print_json(console.records(frame))
    else:
        frame["checked_at"] = frame["checked_at"].str[:16].str.replace("T", " ") + " UTC"
        console.table(frame.assign(region=frame["region"].where(frame["region"] != "", frame["host"])).drop(
            columns=["host", "rehearsal"]))
