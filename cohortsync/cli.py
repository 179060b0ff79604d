"""The command line: parse, one call, show. Data goes to stdout, everything else to stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
import typer
from typer.core import TyperCommand, TyperGroup

from cohortsync import __version__, config, console
from cohortsync.access import NotTold
from cohortsync.audience import EXPLAINED
from cohortsync.errors import BadInput, CohortsyncError
from cohortsync.forecast import MonthToDate
from cohortsync.lexicon import SAMPLE
from cohortsync.load import LoadReport
from cohortsync.plan import Plan
from cohortsync.workspace import Workspace

RECEIPT = ("run_id", "status", "added", "kept", "removed", "refused", "requests", "accounted")
MARKED = "A Mailchimp event is exempt only when its $source is mailchimp."
BY_NAME = "A partner's event is exempt by its name alone, without its mark."


class PlaceAnywhere(TyperGroup):
    """Takes ``--home DIR`` and ``--project ID`` before or after the command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        place: list[str] = []
        rest: list[str] = []
        words = iter(args)
        for word in words:
            value = list(islice(words, 1)) if word in ("--home", "--project") else []
            placed = value or word.startswith(("--home=", "--project="))
            (place if placed else rest).extend([word, *value])
        return super().parse_args(ctx, [*place, *rest])


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


cli = typer.Typer(cls=PlaceAnywhere, no_args_is_help=True, add_completion=False, rich_markup_mode=None,
                  pretty_exceptions_enable=False,
                  help="Mixpanel cohorts to Mailchimp audiences: a plan before, a proof after.",
                  epilog="Start with: cohortsync demo")
connect_cli = typer.Typer(no_args_is_help=True, help="Connect the other side.")
cli.add_typer(connect_cli, name="connect")
cohort_cli = typer.Typer(no_args_is_help=True, help="Cohorts over time, against each other, and defined in SQL.")
cli.add_typer(cohort_cli, name="cohort")
classes_cli = typer.Typer(help="What counts towards MTU: list and edit the event classes.")
cli.add_typer(classes_cli, name="classes")
lexicon_cli = typer.Typer(no_args_is_help=True, help="What events and properties there are.")
cli.add_typer(lexicon_cli, name="lexicon")

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


def _print_version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit


@cli.callback()
def _main(ctx: typer.Context,
          home: Annotated[Path | None, typer.Option(envvar="COHORTSYNC_HOME", help="The workspace's folder.")] = None,
          project: Annotated[str | None, typer.Option(envvar="COHORTSYNC_PROJECT", metavar="ID", help=(
              "Which of the workspace's projects; one alone need not be named."))] = None,
          version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True,
                                                help="Print the version.")] = False) -> None:
    ctx.obj = (home, project)


def _workspace(ctx: typer.Context) -> Workspace:
    return Workspace.at(*ctx.obj)


# showing

def _show_load(report: LoadReport) -> None:
    if report.unchanged:
        console.note("Nothing new: every file was loaded before.")
        return
    console.table(pd.DataFrame(report.files)[["kind", "cohort", "file", "rows", "quarantined", "known"]].assign(
        file=[Path(file["file"]).name for file in report.files]))
    console.note(f"{report.events_added:,} events added on {report.days:,} days, "
                 f"{report.duplicates:,} duplicates left out.")
    if report.unkeyed_in_overlap:
        console.note(f"Warning: {report.unkeyed_in_overlap:,} events without $insert_id lie on days that several files "
                     "cover. They cannot be told from repeats and were all counted.")
    for text in report.notes:
        console.note(f"Note: {text}")
    if report.quarantined:
        console.note(f"{report.quarantined:,} lines could not be taken. See them with: cohortsync quarantine")


def _show_audience(summary: dict[str, Any]) -> None:
    reasons = {reason: count for reason, count in summary["reasons"].items() if count or reason == "exportable"}
    console.table(pd.DataFrame({"reason": list(reasons), "users": list(reasons.values()),
                                "which means": [EXPLAINED[reason] for reason in reasons]}))
    console.note(f"{summary['cohort']}: {summary['exportable']:,} of {summary['size']:,} can be exported.")
    console.note_as_of(summary["as_of"])
    if summary["warning"]:
        console.note(f"Warning: {summary['warning']}")


def _show_plan(plan: Plan) -> None:
    console.note(f"To: {plan.target}")
    console.note_as_of(plan.as_of.isoformat() if plan.as_of else None)
    reasons = plan.people.groupby(["word", "reason"], as_index=False).size().rename(columns={"size": "people"})
    console.table(reasons[["word", "people", "reason"]])
    console.note(f"{plan.writes} requests will write. New contacts become: {plan.new_contacts}.")
    for warning in plan.warnings:
        console.note(f"Warning: {warning}")


def _show_receipt(receipt: dict[str, Any]) -> None:
    console.note(f"{receipt['target']}")
    console.table(pd.DataFrame([{name: receipt[name] for name in (*RECEIPT[1:], "size")}]))
    if receipt["status"] == "planned":
        console.note("Nothing was written: this is what a sync would do.")
    else:
        console.note(f"{receipt['accounted']:,} of {receipt['size']:,} ids of the cohort are accounted for. "
                     f"Run {receipt['run_id']}.")


# commands

@cli.command(epilog="Example: cohortsync init --timezone Europe/Berlin --id-merge simplified")
def init(ctx: typer.Context,
         timezone: Annotated[str, typer.Option(help="The project's time zone (Mixpanel: Project Settings).")],
         id_merge: Annotated[IdMerge, typer.Option(help="Mixpanel: Project Settings, Identity Merge.")],
         project_id: Annotated[str | None, typer.Option(help="Mixpanel's project id, or a name of yours; another one "
                                                             "adds a project. Default: the only one or local.")] = None,
         event_times: Annotated[Literal["auto", "utc", "local"] | None, typer.Option(
             help="What the events' times are: UTC, or clocks of the time zone (projects made before 2023). "
                  "Default: as it is; auto at first.")] = None) -> None:
    """Say what the project is; the workspace is made if need be."""
    workspace = _workspace(ctx)
    workspace = Workspace.at(workspace.home, project_id or workspace.project_id)
    workspace.init(timezone, id_merge, event_times=event_times)
    made = workspace.projects().set_index("project_id").loc[(workspace.project or {})["project_id"]]
    console.note(f"Project {made.name}: {timezone}, {id_merge} ID merge, in {workspace.home}.")
    if made["times_are"] == "local":
        console.note(f"The times of its events are read as clocks of {timezone}.")


@cli.command(epilog="Example: cohortsync projects --json")
def projects(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the projects of the workspace; --project ID chooses one."""
    frame = _workspace(ctx).projects()
    if as_json:
        console.print_json(console.records(frame))
    else:
        console.table(frame.drop(columns="created_at"))


@cli.command(cls=ManyFiles, epilog="Example: cohortsync load --events events-*.ndjson.gz --profiles people.json "
                                   "--cohort vip=vip.csv")
def load(ctx: typer.Context, events: Events = None, profiles: Profiles = None, cohort: Cohorts = None,
         id_mappings: Mappings = None, as_json: AsJson = False) -> None:
    """Load files of events, profiles and cohort members, all or nothing."""
    with console.progress() as step:
        report = _workspace(ctx).load(events or [], profiles or [], _pairs(cohort), step, id_mappings or [])
    if as_json:
        console.print_json({"files": report.files, "events_added": report.events_added, "duplicates": report.duplicates,
                            "days": report.days, "unkeyed_in_overlap": report.unkeyed_in_overlap,
                            "quarantined": report.quarantined})
        for text in report.notes:
            console.note(f"Note: {text}")
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
        console.print_json(console.records(frame, ["project_id", "cohort", "size", "exportable"]))
    else:
        console.table(frame[["cohort", "size", "exportable", "loaded_at"]].assign(
            loaded_at=frame["loaded_at"].dt.strftime("%Y-%m-%d %H:%M UTC")))


@cli.command(epilog="Example: cohortsync audience power-users --json")
def audience(ctx: typer.Context, name: CohortName, as_json: AsJson = False) -> None:
    """Show who of a cohort can be exported, and why the rest cannot."""
    summary = _workspace(ctx).audience_summary(name)
    if as_json:
        warning, _ = summary.pop("warning"), summary.pop("as_of")
        console.print_json(summary)
        if warning:
            console.note(f"Warning: {warning}")
    else:
        _show_audience(summary)


@cli.command(epilog="Examples: cohortsync mtu --marked-only --guardrail-events qualifying --json; "
                    "cohortsync mtu --marginal --month 2026-10; cohortsync mtu --to-date")
def mtu(ctx: typer.Context,
        marked_only: Annotated[bool, typer.Option("--marked-only", help=MARKED)] = False,
        partners_by_name: Annotated[bool, typer.Option("--partners-by-name", help=BY_NAME)] = False,
        guardrail_events: Annotated[Literal["all", "qualifying", "qualifying+opens"], typer.Option(
            help="Which events the guardrail counts.")] = "all",
        events_per_user: Annotated[int, typer.Option(min=1, help="The guardrail's ratio.")] = 1000,
        as_of: Annotated[str | None, typer.Option(metavar="TIME", help="As the months stood then (UTC).")] = None,
        history: Annotated[bool, typer.Option("--history", help="Every change of every month.")] = False,
        organisation: Annotated[bool, typer.Option("--organisation", help="The sum over all projects.")] = False,
        marginal: Annotated[bool, typer.Option("--marginal", help="For each event: who leaves the bill "
                                                                  "without it.")] = False,
        unmarked: Annotated[bool, typer.Option("--unmarked", help="The people whom --marked-only adds; with "
                                               "--partners-by-name, those whom that takes off.")] = False,
        month: Annotated[str | None, typer.Option(help="Only this month, with --marginal or --unmarked.")] = None,
        to_date: Annotated[bool, typer.Option("--to-date", help="The newest month so far, and where it may "
                                                                "end.")] = False,
        anonymous: Annotated[bool, typer.Option("--anonymous", help="The share known by a device alone.")] = False,
        spikes: Annotated[Literal["month", "day"] | None, typer.Option(
            help="Unusual months or days, and the events behind them.")] = None,
        as_json: AsJson = False) -> None:
    """Show monthly tracked users: the bill, without the exemption, and with engagement counted."""
    rules: dict[str, Any] = {"marked_only": marked_only, "partners_by_name": partners_by_name}
    counts = rules | {"guardrail_events": guardrail_events, "events_per_user": events_per_user}
    workspace = _workspace(ctx)
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
        return
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


@classes_cli.callback(invoke_without_command=True)
def classes(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the event classes that differ from qualifying, and the partners whose events can be exempt."""
    if ctx.invoked_subcommand:
        return
    workspace = _workspace(ctx)
    listed, partners = workspace.event_classes(), workspace.partners()
    if as_json:
        console.print_json({"classes": console.records(listed), "partners": console.records(partners)})
    else:
        listed.attrs.clear()  # as_of is said once, below
        console.table(listed)
        console.note("\nPartners whose exempt events can be left out:")
        console.table(partners)


@classes_cli.command(name="set", epilog="Example: cohortsync classes set \"Weekly digest sent\" delivery")
def set_class(ctx: typer.Context, event: Annotated[str, typer.Argument(help="The event's name.")],
              to: Annotated[Literal["qualifying", "system", "engagement", "delivery", "partner"], typer.Argument(
                  help="What it counts as.")]) -> None:
    """Say what an event counts as; it applies at once, to every month."""
    _workspace(ctx).set_class(event, to)
    console.note(f"{event} is {to} now.")


@classes_cli.command(epilog="Example: cohortsync classes partner braze --on")
def partner(ctx: typer.Context, name: Annotated[str, typer.Argument(help="cohortsync classes lists them.")],
            on: Annotated[bool, typer.Option("--on/--off", help="Exempt its events, or count them.")]) -> None:
    """Exempt the events that a partner's page lists, or count them again."""
    _workspace(ctx).set_partner(name, on)
    console.note(f"The exempt events of {name} are {'left out' if on else 'counted'} now.")


@classes_cli.command(epilog="Example: cohortsync classes reset")
def reset(ctx: typer.Context) -> None:
    """Take every edit of the event classes back."""
    _workspace(ctx).reset_classes()
    console.note("The event classes are as they ship.")


@cohort_cli.command(epilog="Example: cohortsync cohort history power-users --json")
def history(ctx: typer.Context, name: CohortName, as_json: AsJson = False) -> None:
    """Show a cohort's size at each load, and how many entered and left."""
    console.show(_workspace(ctx).cohort_history(name), as_json, hidden=["cohort", "load_id"])


@cohort_cli.command(epilog="Example: cohortsync cohort overlap power-users trial-ending --json")
def overlap(ctx: typer.Context,
            names: Annotated[list[str] | None, typer.Argument(help="Two cohorts or more; none: all.")] = None,
            as_json: AsJson = False) -> None:
    """Show how many users cohorts have in common, pair by pair."""
    console.show(_workspace(ctx).cohort_overlap(*(names or [])), as_json, shares=["share", "other_share"])


@cohort_cli.command(epilog="Example: cohortsync cohort changes power-users --since 2026-10-01 --until 2026-10-31")
def changes(ctx: typer.Context, name: CohortName,
            since: Annotated[str | None, typer.Option(help="A day (its end) or an instant; default: the snapshot "
                                                           "before.")] = None,
            until: Annotated[str | None, typer.Option(help="The same; default: now.")] = None,
            as_json: AsJson = False) -> None:
    """List who entered and left a cohort between two moments, and why."""
    frame = _workspace(ctx).cohort_changes(name, since, until)
    console.show(frame, as_json, hidden=["cohort", "canonical_id"], shares=["share_moved", "share_others"])
    if not as_json:
        console.note(f"{(frame['change'] == 'entered').sum():,} entered, {(frame['change'] == 'left').sum():,} left.")


@cohort_cli.command(epilog="Example: cohortsync cohort define pro --sql "
                           "\"select distinct_id from profiles where prop('plan') = 'pro'\"")
def define(ctx: typer.Context, name: Annotated[str, typer.Argument(help="The cohort's name.")],
           query: Annotated[str, typer.Option("--sql", help="One SELECT with a column distinct_id.")],
           as_json: AsJson = False) -> None:
    """Define a cohort in SQL; it is reckoned with every load and exported like any other."""
    row = _workspace(ctx).define_cohort(name, query)
    if as_json:
        console.print_json(row)
    else:
        console.note(f"{name}: {row['size']:,} users.")


@cohort_cli.command(epilog="Example: cohortsync cohort undefine pro")
def undefine(ctx: typer.Context, name: CohortName) -> None:
    """Forget a cohort that was defined here; its snapshots stay."""
    _workspace(ctx).undefine_cohort(name)


@cohort_cli.command(epilog="Example: cohortsync cohort recompute --json")
def recompute(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Reckon the cohorts defined here anew."""
    console.show(_workspace(ctx).recompute_cohorts(), as_json)


@cohort_cli.command(epilog="Example: cohortsync cohort definitions --json")
def definitions(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the cohorts defined here, and which could not be reckoned last time."""
    console.show(_workspace(ctx).cohort_definitions(), as_json)


@lexicon_cli.command(epilog="Example: cohortsync lexicon events --json")
def events(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the events there are: how many, of how many users, when, and their class for MTU."""
    console.show(_workspace(ctx).events_seen(), as_json)


@lexicon_cli.command(epilog="Example: cohortsync lexicon properties Purchase --sample 100000 --json")
def properties(ctx: typer.Context,
               event: Annotated[str | None, typer.Argument(help="An event's name; none: all events.")] = None,
               profiles: Annotated[bool, typer.Option("--profiles", help="Those of the profiles.")] = False,
               sample: Annotated[int, typer.Option(min=0, help="Of how many rows, drawn at random; 0: all.")] = SAMPLE,
               as_json: AsJson = False) -> None:
    """List properties: types, how often they are set, and examples, masked."""
    frame = _workspace(ctx).properties(event, profiles=profiles, sample=sample or None)
    if not as_json:
        console.note(f"Of {frame['sampled'].max() if len(frame) else 0:,} {'profiles' if profiles else 'events'}:")
        frame["types"] = [", ".join(f"{kind} {count:,}" for kind, count in types.items()) for types in frame["types"]]
        frame["examples"] = frame["examples"].map(" | ".join)
    console.show(frame, as_json, hidden=["sampled"], shares=["fill_rate"])


@lexicon_cli.command(epilog="Example: cohortsync lexicon values Purchase --property plan --property '$city' --days 7")
def values(ctx: typer.Context, event: Annotated[str, typer.Argument(help="An event's name.")],
           names: Annotated[list[str] | None, typer.Option("--property", help="A property's Mixpanel name.")] = None,
           days: Annotated[int | None, typer.Option(min=1, max=36500, help="Only the event's last days.")] = None,
           limit: Annotated[int, typer.Option(min=1, help="At most so many events.")] = 20,
           as_json: AsJson = False) -> None:
    """List an event's latest occurrences with these properties as columns; addresses masked."""
    console.show(_workspace(ctx).events(event, names or [], days=days, limit=limit), as_json)


@cli.command()
def quarantine(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the lines that could not be taken: file, line, reason."""
    frame = _workspace(ctx).quarantine()
    if as_json:
        console.print_json(console.records(frame))
    else:
        console.table(frame[["file", "line", "reason"]])


@connect_cli.command(epilog="Example: cohortsync connect mailchimp --new-contacts subscribed")
def mailchimp(ctx: typer.Context,
              new_contacts: Annotated[Literal["subscribed", "pending", "transactional"], typer.Option(
                  help="The status of people who are new to the audience: subscribed (they agreed elsewhere), pending "
                       "(Mailchimp asks them first) or transactional (no campaigns).")],
              base_url: Annotated[str | None, typer.Option(help="A local rehearsal (loopback only).")] = None,
              keep_key: Annotated[bool, typer.Option(help="Keep the key for later runs.")] = True,
              assume_admin: AssumeAdmin = False, as_json: AsJson = False) -> None:
    """Connect a Mailchimp account; the key is asked for, or read from MAILCHIMP_API_KEY."""
    workspace = _workspace(ctx)
    if assume_admin:
        workspace.assume_admin()
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


@connect_cli.command(epilog="Example: cohortsync connect mixpanel --project-id 2195193 --id-merge simplified")
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
    connection = _connect_asking(_workspace(ctx), username, secret, project_id, {
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


@cli.command(epilog="Example: cohortsync connections --check --json")
def connections(ctx: typer.Context,
                check: Annotated[bool, typer.Option("--check", help="Look at each again first.")] = False,
                as_json: AsJson = False) -> None:
    """List what is connected: Connected, Paused or Needs attention, why, and when that was looked at."""
    workspace = _workspace(ctx)
    with _services(workspace) if check else nullcontext():
        frame = workspace.connections(check)
    if as_json:
        console.print_json(console.records(frame))
    else:
        frame["checked_at"] = frame["checked_at"].str[:16].str.replace("T", " ") + " UTC"
        console.table(frame.assign(region=frame["region"].where(frame["region"] != "", frame["host"])).drop(
            columns=["host", "rehearsal"]))


@cli.command(epilog="Example: cohortsync sync power-users --audience 1a2b3c4d5e --dry-run")
def sync(ctx: typer.Context, name: CohortName,
         audience_id: Annotated[str | None, typer.Option("--audience", help="The audience's id.")] = None,
         dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan; write nothing.")] = False,
         yes: Annotated[bool, typer.Option("--yes", help="Do not ask before writing to a real account.")] = False,
         force: Annotated[bool, typer.Option("--force", help="Do what a guard would stop.")] = False,
         assume_admin: AssumeAdmin = False, as_json: AsJson = False) -> None:
    """Export a cohort once: plan, apply, prove. The segment then equals the cohort."""
    workspace = _workspace(ctx)
    if assume_admin:
        workspace.assume_admin()
    show = (lambda _plan: None) if as_json else _show_plan
    with _services(workspace), console.progress() as step:
        audience_id = audience_id or _only_audience(workspace)
        if dry_run or yes or _rehearses(workspace):
            receipt = workspace.sync(name, audience_id, dry_run=dry_run, force=force, progress=step, review=show)
        else:
            receipt = _sync_when_confirmed(workspace, workspace.plan(name, audience_id, step), force)
    if as_json:
        console.note(receipt["target"])
        console.print_json({name: receipt[name] for name in RECEIPT})
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
    if workspace.needs_vouching and typer.confirm("Are you an admin or owner of the Mixpanel project?", err=True):
        workspace.assume_admin()
    typed = typer.prompt(f"Type the audience's name ({plan.target.audience_name}) to write to it", err=True)
    if typed.strip() != plan.target.audience_name:
        raise BadInput(f"{typed!r} is not the audience's name; nothing was written.")
    with console.progress() as step:
        return workspace.apply(plan, force, step)


@cli.command()
def runs(ctx: typer.Context,
         run_id: Annotated[str | None, typer.Argument(help="Show one run's people, masked.")] = None,
         as_json: AsJson = False) -> None:
    """List the runs, or what became of each person in one of them."""
    workspace = _workspace(ctx)
    frame = workspace.outcome(run_id) if run_id else workspace.runs()
    if as_json:
        console.print_json(console.records(frame))
    else:
        console.table(frame if run_id else frame[["run_id", "target", *RECEIPT[1:], "size"]])


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
        exports = rehearsal.Exports(events or [], profiles or [], _pairs(cohort), timezone, id_merge,
                                    ctx.obj[1] or "local")
    workspace = Workspace.at(ctx.obj[0] or Path("cohortsync-demo"))
    with console.progress() as step:
        rehearsal.demo(workspace, exports, _say, step)
    console.note(f"\nThe workspace stays in {workspace.home}. Next:\n"
                 f"  cohortsync --home {workspace.home} app      the app, with the local Mailchimp\n"
                 f"  cohortsync --home {workspace.home} audience NAME      who can be exported, and why not\n"
                 "  cohortsync demo      again: finds nothing to change")


def _say(title: str, value: Any) -> None:
    """One step of the demo: a heading and what came out."""
    console.out.print(f"\n[bold]{console.escape(title)}[/bold]")
    if isinstance(value, LoadReport):
        _show_load(value)
    elif isinstance(value, Plan):
        _show_plan(value)
    elif isinstance(value, pd.DataFrame):
        console.table(value.drop(columns=["project_id", "loaded_at", "as_of"], errors="ignore"))
    elif isinstance(value, dict):
        (_show_audience if "reasons" in value else _show_receipt)(value)
    elif isinstance(value, list):
        console.out.print("\n".join(console.escape(str(path)) for path in value), soft_wrap=True)
    else:
        console.out.print(console.escape(str(value)), soft_wrap=True)


def main() -> None:
    """Run the command line; what is meant for a person is shown as one message, with its exit status."""
    try:
        cli()
    except CohortsyncError as error:
        console.note(f"Error: {error}")
        sys.exit(error.exit_status)
