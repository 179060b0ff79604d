"""The command line: parse, one call, show. Data goes to stdout, everything else to stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
import typer
from rich import markup
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from typer.core import TyperCommand, TyperGroup

from cohortsync import __version__, config
from cohortsync.audience import EXPLAINED
from cohortsync.errors import BadInput, CohortsyncError
from cohortsync.load import LoadReport
from cohortsync.plan import Plan
from cohortsync.workspace import Workspace

out, err = (Console(stderr=stderr, width=None if sys.stdout.isatty() else 160, emoji=False, highlight=False)
            for stderr in (False, True))

RECEIPT = ("run_id", "status", "added", "kept", "removed", "refused", "requests", "accounted")
MARKED = "A Mailchimp event is exempt only when its $source is mailchimp."


class HomeAnywhere(TyperGroup):
    """Takes ``--home DIR`` before or after the command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for place, word in enumerate(args):
            if word == "--home" and place + 1 < len(args):
                return super().parse_args(ctx, [*args[place:place + 2], *args[:place], *args[place + 2:]])
            if word.startswith("--home="):
                return super().parse_args(ctx, [word, *args[:place], *args[place + 1:]])
        return super().parse_args(ctx, args)


class ManyFiles(TyperCommand):
    """Takes ``--events A B C``, as a shell writes ``--events *.gz``, for ``--events A --events B --events C``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        spread: list[str] = []
        option = ""
        for place, word in enumerate(args):
            if word.startswith("-"):
                option = word if word in ("--events", "--profiles", "--cohort") else ""
            elif option and args[place - 1] != option:
                spread.append(option)
            spread.append(word)
        return super().parse_args(ctx, spread)


cli = typer.Typer(cls=HomeAnywhere, no_args_is_help=True, add_completion=False, rich_markup_mode=None,
                  pretty_exceptions_enable=False,
                  help="Mixpanel cohorts to Mailchimp audiences: a plan before, a proof after.",
                  epilog="Start with: cohortsync demo")
connect_cli = typer.Typer(no_args_is_help=True, help="Connect the other side.")
cli.add_typer(connect_cli, name="connect")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a script instead of a table.")]
CohortName = Annotated[str, typer.Argument(help="The cohort's name; cohortsync cohorts lists them.")]
Events = Annotated[list[Path] | None, typer.Option(help="A file of raw events: NDJSON, JSON or CSV, plain or gz. "
                                                        "Name as many as there are.")]
Profiles = Annotated[list[Path] | None, typer.Option(help="A file of profiles: engage pages, NDJSON or CSV.")]
Cohorts = Annotated[list[str] | None, typer.Option("--cohort", metavar="NAME=FILE",
                                                   help="A cohort's members: engage pages, CSV or a list of ids.")]
IdMerge = Literal["simplified", "original"]


def _print_version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit


@cli.callback()
def _main(ctx: typer.Context,
          home: Annotated[Path | None, typer.Option(envvar="COHORTSYNC_HOME", help="The workspace's folder.")] = None,
          version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True,
                                                help="Print the version.")] = False) -> None:
    ctx.obj = home


def _workspace(ctx: typer.Context) -> Workspace:
    return Workspace.at(ctx.obj)


# showing

def escape(text: str) -> str:
    """A text from outside as it is: neither markup nor the terminal's own escapes are acted on."""
    return markup.escape("".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text))


def _print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, default=str))


def _records(frame: pd.DataFrame, columns: list[str] | None = None) -> list[dict[str, Any]]:
    return json.loads(frame[columns or list(frame.columns)].to_json(orient="records", date_format="iso"))


def _table(frame: pd.DataFrame) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name, kind in frame.dtypes.items():
        number = pd.api.types.is_numeric_dtype(kind)
        table.add_column(str(name).replace("_", " "), justify="right" if number else "left", overflow="fold")
    for row in frame.itertuples(index=False):
        table.add_row(*(escape(_cell(value)) for value in row))
    out.print(table)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return "" if value is None or value != value else str(value)


def _note(text: str) -> None:
    err.print(escape(text), soft_wrap=True)


@contextmanager
def _progress() -> Iterator[Any]:
    """A bar on stderr while work goes on; nothing where stderr is not a terminal."""
    bar = Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=err, transient=True,
                   disable=not err.is_terminal)
    with bar:
        task = bar.add_task("")

        def step(label: str, done: float, total: float) -> None:
            if escape(label) != bar.tasks[0].description:
                bar.reset(task, description=escape(label))
            bar.update(task, completed=done, total=total if done else None)

        yield step


def _show_load(report: LoadReport) -> None:
    if report.unchanged:
        _note("Nothing new: every file was loaded before.")
        return
    _table(pd.DataFrame(report.files)[["kind", "cohort", "file", "rows", "quarantined", "known"]].assign(
        file=[Path(file["file"]).name for file in report.files]))
    _note(f"{report.events_added:,} events added on {report.days:,} days, {report.duplicates:,} duplicates left out.")
    if report.unkeyed_in_overlap:
        _note(f"Warning: {report.unkeyed_in_overlap:,} events without $insert_id lie on days that several files "
              "cover. They cannot be told from repeats and were all counted.")
    if report.quarantined:
        _note(f"{report.quarantined:,} lines could not be taken. See them with: cohortsync quarantine")


def _show_audience(summary: dict[str, Any]) -> None:
    reasons = {reason: count for reason, count in summary["reasons"].items() if count or reason == "exportable"}
    _table(pd.DataFrame({"reason": list(reasons), "users": list(reasons.values()),
                         "which means": [EXPLAINED[reason] for reason in reasons]}))
    _note(f"{summary['cohort']}: {summary['exportable']:,} of {summary['size']:,} can be exported.")
    if summary["warning"]:
        _note(f"Warning: {summary['warning']}")


def _show_plan(plan: Plan) -> None:
    _note(f"To: {plan.target}")
    reasons = plan.people.groupby(["word", "reason"], as_index=False).size().rename(columns={"size": "people"})
    _table(reasons[["word", "people", "reason"]])
    _note(f"{plan.writes} requests will write. New contacts become: {plan.new_contacts}.")
    for warning in plan.warnings:
        _note(f"Warning: {warning}")


def _show_receipt(receipt: dict[str, Any]) -> None:
    _note(f"{receipt['target']}")
    _table(pd.DataFrame([{name: receipt[name] for name in (*RECEIPT[1:], "size")}]))
    if receipt["status"] == "planned":
        _note("Nothing was written: this is what a sync would do.")
    else:
        _note(f"{receipt['accounted']:,} of {receipt['size']:,} ids of the cohort are accounted for. "
              f"Run {receipt['run_id']}.")


# commands

@cli.command(epilog="Example: cohortsync init --timezone Europe/Berlin --id-merge simplified")
def init(ctx: typer.Context,
         timezone: Annotated[str, typer.Option(help="The project's time zone (Mixpanel: Project Settings).")],
         id_merge: Annotated[IdMerge, typer.Option(help="Mixpanel: Project Settings, Identity Merge.")],
         project_id: Annotated[str, typer.Option(help="Mixpanel's project id, or a name of yours.")] = "local") -> None:
    """Say what the project is; the workspace is made if need be."""
    workspace = _workspace(ctx)
    workspace.init(timezone, id_merge, project_id)
    _note(f"Project {project_id}: {timezone}, {id_merge} ID merge, in {workspace.home}.")


@cli.command(cls=ManyFiles, epilog="Example: cohortsync load --events events-*.ndjson.gz --profiles people.json "
                                   "--cohort vip=vip.csv")
def load(ctx: typer.Context, events: Events = None, profiles: Profiles = None, cohort: Cohorts = None,
         as_json: AsJson = False) -> None:
    """Load files of events, profiles and cohort members, all or nothing."""
    with _progress() as step:
        report = _workspace(ctx).load(events or [], profiles or [], _pairs(cohort), step)
    if as_json:
        _print_json({"files": report.files, "events_added": report.events_added, "duplicates": report.duplicates,
                     "days": report.days, "unkeyed_in_overlap": report.unkeyed_in_overlap,
                     "quarantined": report.quarantined})
    else:
        _show_load(report)


def _pairs(cohorts: list[str] | None) -> dict[str, Path]:
    pairs: dict[str, Path] = {}
    for pair in cohorts or []:
        name, equals, file = pair.partition("=")
        if not (equals and name and file):
            raise BadInput(f"--cohort takes NAME=FILE, not {pair!r}.")
        if name in pairs:
            raise BadInput(f"--cohort names {name!r} twice; one file holds all members of a cohort.")
        pairs[name] = Path(file)
    return pairs


@cli.command()
def cohorts(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the cohorts with their size and how many of them can be exported."""
    frame = _workspace(ctx).cohorts()
    if as_json:
        _print_json(_records(frame, ["project_id", "cohort", "size", "exportable"]))
    else:
        _table(frame[["cohort", "size", "exportable", "loaded_at"]].assign(
            loaded_at=frame["loaded_at"].dt.strftime("%Y-%m-%d %H:%M UTC")))


@cli.command(epilog="Example: cohortsync audience power-users --json")
def audience(ctx: typer.Context, name: CohortName, as_json: AsJson = False) -> None:
    """Show who of a cohort can be exported, and why the rest cannot."""
    summary = _workspace(ctx).audience_summary(name)
    if as_json:
        warning = summary.pop("warning")
        _print_json(summary)
        if warning:
            _note(f"Warning: {warning}")
    else:
        _show_audience(summary)


@cli.command(epilog="Example: cohortsync mtu --marked-only --guardrail-events qualifying --json")
def mtu(ctx: typer.Context,
        marked_only: Annotated[bool, typer.Option("--marked-only", help=MARKED)] = False,
        guardrail_events: Annotated[Literal["all", "qualifying", "qualifying+opens"], typer.Option(
            help="Which events the guardrail counts.")] = "all",
        events_per_user: Annotated[int, typer.Option(min=1, help="The guardrail's ratio.")] = 1000,
        as_json: AsJson = False) -> None:
    """Show monthly tracked users: the bill, without the exemption, and with engagement counted."""
    frame = _workspace(ctx).mtu(marked_only=marked_only, guardrail_events=guardrail_events,
                                events_per_user=events_per_user)
    if as_json:
        _print_json(_records(frame))
    else:
        _table(frame.drop(columns="project_id"))


@cli.command()
def quarantine(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the lines that could not be taken: file, line, reason."""
    frame = _workspace(ctx).quarantine()
    if as_json:
        _print_json(_records(frame))
    else:
        _table(frame[["file", "line", "reason"]])


@connect_cli.command(epilog="Example: cohortsync connect mailchimp --new-contacts subscribed")
def mailchimp(ctx: typer.Context,
              new_contacts: Annotated[Literal["subscribed", "pending", "transactional"], typer.Option(
                  help="The status of people who are new to the audience: subscribed (they agreed elsewhere), pending "
                       "(Mailchimp asks them first) or transactional (no campaigns).")],
              base_url: Annotated[str | None, typer.Option(help="A local rehearsal (loopback only).")] = None,
              keep_key: Annotated[bool, typer.Option(help="Keep the key for later runs.")] = True,
              as_json: AsJson = False) -> None:
    """Connect a Mailchimp account; the key is asked for, or read from MAILCHIMP_API_KEY."""
    key = os.environ.get(config.KEY_VARIABLE) or typer.prompt("Mailchimp API key", hide_input=True, err=True)
    with _progress() as step:
        step("Asking Mailchimp", 0, 1)
        connection = _workspace(ctx).connect_mailchimp(key, new_contacts, base_url, keep_key)
    shown = {name: connection[name] for name in ("account_name", "role", "host", "status", "new_contacts", "audiences")}
    if as_json:
        _print_json(shown | {"rehearsal": bool(connection["rehearsal"])})
        return
    _note(f"{'LOCAL REHEARSAL · ' if connection['rehearsal'] else ''}{connection['account_name']} "
          f"({connection['role']}): {connection['status']}")
    _table(pd.DataFrame(connection["audiences"]))


@cli.command(epilog="Example: cohortsync sync power-users --audience 1a2b3c4d5e --dry-run")
def sync(ctx: typer.Context, name: CohortName,
         audience_id: Annotated[str | None, typer.Option("--audience", help="The audience's id.")] = None,
         dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan; write nothing.")] = False,
         yes: Annotated[bool, typer.Option("--yes", help="Do not ask before writing to a real account.")] = False,
         force: Annotated[bool, typer.Option("--force", help="Do what a guard would stop.")] = False,
         as_json: AsJson = False) -> None:
    """Export a cohort once: plan, apply, prove. The segment then equals the cohort."""
    workspace = _workspace(ctx)
    show = (lambda _plan: None) if as_json else _show_plan
    with _services(workspace), _progress() as step:
        audience_id = audience_id or _only_audience(workspace)
        if dry_run or yes or _rehearses(workspace):
            receipt = workspace.sync(name, audience_id, dry_run=dry_run, force=force, progress=step, review=show)
        else:
            receipt = _sync_when_confirmed(workspace, workspace.plan(name, audience_id, step), force)
    if as_json:
        _note(receipt["target"])
        _print_json({name: receipt[name] for name in RECEIPT})
    else:
        _show_receipt(receipt)
    if receipt["status"] not in ("planned", "completed"):
        raise CohortsyncError("Not everyone of the cohort could be accounted for. Run the sync again; "
                              f"cohortsync runs {receipt['run_id']} shows who is unproven.")


def _rehearses(workspace: Workspace) -> bool:
    return bool(workspace.connection and workspace.connection["rehearsal"])


def _services(workspace: Workspace) -> AbstractContextManager[Any]:
    """The local Mailchimp that the workspace keeps, for as long as a command needs it."""
    from cohortsync import rehearsal

    kept = _rehearses(workspace) and (workspace.home / "sandbox").exists()
    return rehearsal.local_mailchimp(workspace) if kept else nullcontext()


def _only_audience(workspace: Workspace) -> str:
    audiences = workspace.check_mailchimp()["audiences"]
    if len(audiences) == 1:
        return str(audiences[0]["audience_id"])
    names = ", ".join(f"{a['audience_id']} ({a['name']})" for a in audiences)
    raise BadInput(f"The account has several audiences: {names}. Name one with --audience ID.")


def _sync_when_confirmed(workspace: Workspace, plan: Plan, force: bool) -> dict[str, Any]:
    """Write to a real account only after its audience's name was typed."""
    _show_plan(plan)
    if not sys.stdin.isatty():
        raise BadInput(f"This would write to the real audience {plan.target.audience_name!r}. In scripts say --yes.")
    typed = typer.prompt(f"Type the audience's name ({plan.target.audience_name}) to write to it", err=True)
    if typed.strip() != plan.target.audience_name:
        raise BadInput(f"{typed!r} is not the audience's name; nothing was written.")
    with _progress() as step:
        return workspace.apply(plan, force, step)


@cli.command()
def runs(ctx: typer.Context,
         run_id: Annotated[str | None, typer.Argument(help="Show one run's people, masked.")] = None,
         as_json: AsJson = False) -> None:
    """List the runs, or what became of each person in one of them."""
    workspace = _workspace(ctx)
    frame = workspace.outcome(run_id) if run_id else workspace.runs()
    if as_json:
        _print_json(_records(frame))
    else:
        _table(frame if run_id else frame[["run_id", "target", *RECEIPT[1:], "size"]])


@cli.command()
def sandbox(ctx: typer.Context,
            mailchimp_port: Annotated[int | None, typer.Option(
                help="The local Mailchimp's port; 0: a free one. Default: the one the workspace knows it at.")] = None,
            state: Annotated[Path | None, typer.Option(help="Its state's folder; default: the workspace.")] = None,
            seed: Annotated[Path | None, typer.Option(help="Contacts to start with, NDJSON.")] = None) -> None:
    """Serve a local Mailchimp on this machine until it is stopped."""
    from cohortsync.sandbox.server import serve

    workspace = _workspace(ctx)
    port = _rehearsal_port(workspace) if mailchimp_port is None else mailchimp_port
    try:
        serve(state or workspace.home / "sandbox", port, seed)
    except (OSError, ValueError) as error:
        raise BadInput(f"The local Mailchimp cannot start: {error}") from None


def _rehearsal_port(workspace: Workspace) -> int:
    connection = workspace.connection
    return int(connection["host"].rpartition(":")[2]) if connection and connection["rehearsal"] else 0


@cli.command()
def app(ctx: typer.Context, port: Annotated[int, typer.Option(help="The app's port.")] = 8501) -> None:
    """Open the app on this machine, with the local Mailchimp when the workspace rehearses."""
    from cohortsync import rehearsal

    rehearsal.app(_workspace(ctx), port)


@cli.command()
def notebooks(copy: Annotated[Path, typer.Option(help="A folder to copy them to.")]) -> None:
    """Copy the notebooks to a folder of yours, to open and change."""
    from cohortsync.runs import copy_notebooks

    for path in copy_notebooks(copy):
        print(path)


@cli.command(cls=ManyFiles, epilog="Example: cohortsync demo --events e.ndjson --profiles p.json "
                                   "--cohort vip=vip.csv --timezone Europe/Berlin --id-merge simplified")
def demo(ctx: typer.Context, events: Events = None, profiles: Profiles = None, cohort: Cohorts = None,
         timezone: Annotated[str | None, typer.Option(help="The project's time zone.")] = None,
         id_merge: Annotated[IdMerge | None, typer.Option(help="The project's ID merge.")] = None) -> None:
    """Run the main job against a local Mailchimp: on the sample, or on your own files."""
    from cohortsync import rehearsal

    exports = rehearsal.sample()
    if events or profiles or cohort:
        if not (timezone and id_merge):
            raise BadInput("Your own files need the project's --timezone and --id-merge "
                           "(Mixpanel: Project Settings).")
        exports = rehearsal.Exports(events or [], profiles or [], _pairs(cohort), timezone, id_merge)
    workspace = Workspace.at(ctx.obj or Path("cohortsync-demo"))
    with _progress() as step:
        rehearsal.demo(workspace, exports, _say, step)
    _note(f"\nThe workspace stays in {workspace.home}. Next:\n"
          f"  cohortsync --home {workspace.home} app      the app, with the local Mailchimp\n"
          f"  cohortsync --home {workspace.home} audience NAME      who can be exported, and why not\n"
          "  cohortsync demo      again: finds nothing to change")


def _say(title: str, value: Any) -> None:
    """One step of the demo: a heading and what came out."""
    out.print(f"\n[bold]{escape(title)}[/bold]")
    if isinstance(value, LoadReport):
        _show_load(value)
    elif isinstance(value, Plan):
        _show_plan(value)
    elif isinstance(value, pd.DataFrame):
        _table(value.drop(columns=["project_id", "loaded_at"], errors="ignore"))
    elif isinstance(value, dict):
        (_show_audience if "reasons" in value else _show_receipt)(value)
    elif isinstance(value, list):
        out.print("\n".join(escape(str(path)) for path in value), soft_wrap=True)
    else:
        out.print(escape(str(value)), soft_wrap=True)


def main() -> None:
    """Run the command line; what is meant for a person is shown as one message, with its exit status."""
    try:
        cli()
    except CohortsyncError as error:
        _note(f"Error: {error}")
        sys.exit(error.exit_status)
