"""What commands share: options, and the workspace that they are for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand

from cohortsync import console
from cohortsync.errors import BadInput
from cohortsync.fields import parse_map
from cohortsync.workspace import Workspace

AssumeAdmin = Annotated[bool, typer.Option("--assume-admin", help=(
    "Vouch that you are an admin or owner of the Mixpanel project; said once, where it cannot be looked up."))]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a script instead of a table.")]
CohortName = Annotated[str, typer.Argument(help="The cohort's name; cohortsync cohorts lists them.")]
Events = Annotated[list[Path] | None, typer.Option(help="A file of raw events: NDJSON, JSON, CSV or Parquet. "
                                                        "Name as many as there are.")]
Profiles = Annotated[list[Path] | None, typer.Option(help="A file of profiles: engage pages, NDJSON, CSV or Parquet.")]
Mappings = Annotated[list[Path] | None, typer.Option("--id-mappings", help="The warehouse's mp_identity_mappings_data: "
                                                     "NDJSON, CSV or Parquet. Replaces what was there.")]
Cohorts = Annotated[list[str] | None, typer.Option("--cohort", metavar="NAME=FILE",
                                                   help="A cohort's members: engage pages, CSV or a list of ids.")]
IdMerge = Literal["simplified", "original"]


class ManyFiles(TyperCommand):
    """Takes ``--events A B C``, as a shell writes ``--events *.gz``, for ``--events A --events B --events C``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        spread: list[str] = []
        option = ""
        for place, word in enumerate(args):
            if word.startswith("-"):
                option = word if word in ("--events", "--profiles", "--id-mappings", "--cohort") else ""
            elif option and args[place - 1] != option:
                spread.append(option)
            spread.append(word)
        return super().parse_args(ctx, spread)


def opened(ctx: typer.Context, assume_admin: bool = False) -> Workspace:
    """The workspace that a command is for; one of an older release is brought up to date, which may take a while.

    ``assume_admin``: whoever types vouches for being an admin or owner of the project.
    """
    home, project_id = ctx.obj
    with console.progress() as step:
        workspace = Workspace.at(home, project_id, step)
    if assume_admin:
        workspace.assume_admin()
    return workspace


def services(workspace: Workspace) -> AbstractContextManager[Any]:
    """The local services that the workspace keeps, for as long as a command needs them."""
    from cohortsync.rehearsal import kept_services

    return kept_services(workspace)


def rehearses(workspace: Workspace) -> bool:
    """Whether the Mailchimp account is the local one."""
    return bool(workspace.connection and workspace.connection["rehearsal"])


def pairs(cohorts: list[str] | None) -> dict[str, Path]:
    """``NAME=FILE`` as given, by name. Raises BadInput for what is none, or a name twice."""
    pairs: dict[str, Path] = {}
    for pair in cohorts or []:
        name, equals, file = pair.partition("=")
        if not (equals and name and file):
            raise BadInput(f"--cohort takes NAME=FILE, not {pair!r}.")
        if name in pairs:
            raise BadInput(f"--cohort names {name!r} twice; one file holds all members of a cohort.")
        pairs[name] = Path(file)
    return pairs


def _terms(
        keep_hand_edits: Annotated[bool, typer.Option("--keep-hand-edits", help=(
            "Leave what people did to the segment in Mailchimp, instead of overwriting it."))] = False,
        adopt: Annotated[bool, typer.Option("--adopt", help=(
            "Take over a segment of that name that others made."))] = False,
        consent_property: Annotated[str, typer.Option("--consent-property", metavar="PROPERTY", help=(
            "Export only people whose profile has this property as true, 1 or yes."))] = "",
        mapped: Annotated[list[str] | None, typer.Option("--map", metavar="PROPERTY=TAG", help=(
            "Send a property into a merge field, as '$city=CITY'. First and last names go to FNAME and LNAME "
            "anyway."))] = None,
        create_fields: Annotated[bool, typer.Option("--create-fields", help=(
            "Make merge fields that the audience lacks."))] = False,
        update_fields: Annotated[bool, typer.Option("--update-fields", help=(
            "Write merge fields of people who are in the audience already, too: one request a changed "
            "person."))] = False) -> dict[str, Any]:
    return {"keep_hand_edits": keep_hand_edits, "adopt": adopt, "consent_property": consent_property,
            "fields": parse_map(mapped or []), "create_fields": create_fields, "update_fields": update_fields}


def with_terms(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a sync's terms; its argument ``terms`` is what ``plan.Terms`` takes."""
    own, terms = signature(command, eval_str=True).parameters, signature(_terms, eval_str=True).parameters

    @wraps(command)
    def told(**given: Any) -> None:
        command(terms=_terms(**{name: given.pop(name) for name in terms}), **given)

    told.__signature__ = Signature([  # type: ignore[attr-defined]
        parameter.replace(kind=Parameter.KEYWORD_ONLY) for parameter in (own | terms).values()
        if parameter.name != "terms"])
    return told
