"""The workspace kept elsewhere, and put back."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cohortsync import backup as backups
from cohortsync import config, console
from cohortsync.commands.options import AsJson, opened
from cohortsync.workspace import Workspace

app = typer.Typer()


@app.command(epilog="Example: cohortsync backup /mnt/backups/cohortsync-2026-11-25.tar.gz")
def backup(ctx: typer.Context, file: Annotated[Path, typer.Argument(help="A file that is not there yet: a tar, packed "
                                                                         "when its name ends in .gz.")],
           with_keys: Annotated[bool, typer.Option("--with-keys", help="Also keep the API keys of keys.json.")] = False,
           as_json: AsJson = False) -> None:
    """Keep all of the workspace in one file, while others read and load; it is read back before it counts."""
    with console.progress() as step:
        kept = backups.write(opened(ctx).home, file.expanduser(), with_keys, step)
    if as_json:
        console.print_json(asdict(kept))
    console.note(f"{kept.files:,} files, {kept.bytes / 1e6:,.1f} MB, in {file}. It holds addresses: keep it as you "
                 "keep the workspace.")
    console.note("The API keys of the workspace are in it." if with_keys else
                 "API keys are not in it; after a restore, connect again. --with-keys keeps those of keys.json too.")


@app.command(epilog="Example: cohortsync --home restored restore /mnt/backups/cohortsync-2026-11-25.tar.gz")
def restore(ctx: typer.Context, file: Annotated[Path, typer.Argument(help="A file that cohortsync backup wrote.")],
            as_json: AsJson = False) -> None:
    """Put a backup where no workspace is yet, checked file by file."""
    home = config.open_home(ctx.obj[0])
    with console.progress() as step:
        kept = backups.restore(file.expanduser(), home, step)
        Workspace.at(home, progress=step)
    if as_json:
        console.print_json(asdict(kept))
    console.note(f"The workspace of {kept.made_at[:16].replace('T', ' ')} UTC is in {home}, all {kept.files:,} files "
                 "as they were written.")
    if not kept.keys:
        console.note("API keys were not in the backup: connect again, or set their variables.")
