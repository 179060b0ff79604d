"""Whom to tell when a sync needs someone."""

from __future__ import annotations

import os
from typing import Annotated, Literal

import typer

from cohortsync import config, console, notify
from cohortsync.commands.options import opened

app = typer.Typer()
notify_app = typer.Typer(no_args_is_help=True, help="Whom to tell when a sync is paused, fails or needs approval.")
app.add_typer(notify_app, name="notify")


@notify_app.command(epilog="Example: cohortsync notify webhook")
def webhook(ctx: typer.Context) -> None:
    """Post to an incoming webhook of Slack's kind; its address is asked for, or read from COHORTSYNC_NOTIFY_WEBHOOK."""
    console.note(f"Kept in {notify.set_webhook(opened(ctx).home, _secret(notify.WEBHOOK, 'Address of the webhook'))}. "
                 "Try it: cohortsync notify test")


@notify_app.command(epilog="Example: cohortsync notify email")
def email(ctx: typer.Context) -> None:
    """Write e-mails; whom to, the server and its password are asked for, or read from COHORTSYNC_NOTIFY_…"""
    where = notify.set_email(
        opened(ctx).home, _secret(notify.EMAIL, "Address to write to"),
        _secret(notify.SERVER, "Mail server, such as smtps://user@mail.example:465"),
        _secret(notify.PASSWORD, "Its password (Enter: none)"))
    console.note(f"Kept in {where}. Try it: cohortsync notify test")


def _secret(name: str, asked: str) -> str:
    """What the environment says, else what is typed without echo."""
    given = os.environ.get(config.NOTIFY_VARIABLES[name])
    return given or str(typer.prompt(asked, hide_input=True, err=True, default="", show_default=False)).strip()


@notify_app.command(epilog="Example: cohortsync notify test")
def test(ctx: typer.Context) -> None:
    """Tell something on every channel, to see that it arrives."""
    home = opened(ctx).home
    for channel in notify.channels(home) or notify.CHANNELS:
        notify.send(home, channel, "This is a test", "You are told here when a sync needs someone.")
        console.note(f"Told by {channel}.")


@notify_app.command(epilog="Example: cohortsync notify off webhook")
def off(ctx: typer.Context, channel: Annotated[Literal["webhook", "email"], typer.Argument(
        help="Where nothing is told any more.")]) -> None:
    """Tell nothing there any more."""
    notify.turn_off(opened(ctx).home, channel)
