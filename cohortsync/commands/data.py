"""Projects, and what is loaded into them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
import typer

from cohortsync import console
from cohortsync.commands.options import AsJson, Cohorts, Events, IdMerge, ManyFiles, Mappings, Profiles, opened, pairs
from cohortsync.intake import LoadReport
from cohortsync.workspace import Workspace

app = typer.Typer()


@app.command(epilog="Example: cohortsync init --timezone Europe/Berlin --id-merge simplified")
def init(ctx: typer.Context,
         timezone: Annotated[str, typer.Option(help="The project's time zone (Mixpanel: Project Settings).")],
         id_merge: Annotated[IdMerge, typer.Option(help="Mixpanel: Project Settings, Identity Merge.")],
         project_id: Annotated[str | None, typer.Option(help="Mixpanel's project id, or a name of yours; another one "
                                                             "adds a project. Default: the only one or local.")] = None,
         event_times: Annotated[Literal["auto", "utc", "local"] | None, typer.Option(
             help="What the events' times are: UTC, or clocks of the time zone (projects made before 2023). "
                  "Default: as it is; auto at first.")] = None) -> None:
    """Say what the project is; the workspace is made if need be."""
    workspace = opened(ctx)
    workspace = Workspace.at(workspace.home, project_id or workspace.project_id)
    workspace.init(timezone, id_merge, event_times=event_times)
    made = workspace.projects().set_index("project_id").loc[(workspace.project or {})["project_id"]]
    console.note(f"Project {made.name}: {timezone}, {id_merge} ID merge, in {workspace.home}.")
    if made["times_are"] == "local":
        console.note(f"The times of its events are read as clocks of {timezone}.")


@app.command(epilog="Example: cohortsync projects --json")
def projects(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the projects of the workspace; --project ID chooses one."""
    frame = opened(ctx).projects()
    if as_json:
        console.print_json(console.records(frame))
    else:
        console.table(frame.drop(columns="created_at"))


@app.command(cls=ManyFiles, epilog="Example: cohortsync load --events events-*.ndjson.gz --profiles people.json "
                                   "--cohort vip=vip.csv")
def load(ctx: typer.Context, events: Events = None, profiles: Profiles = None, cohort: Cohorts = None,
         id_mappings: Mappings = None, as_json: AsJson = False) -> None:
    """Load files of events, profiles and cohort members, all or nothing."""
    with console.progress() as step:
        report = opened(ctx).load(events or [], profiles or [], pairs(cohort), step, id_mappings or [])
    if as_json:
        console.print_json({"files": report.files, "events_added": report.events_added, "duplicates": report.duplicates,
                            "days": report.days, "unkeyed_in_overlap": report.unkeyed_in_overlap,
                            "quarantined": report.quarantined, "notes": report.notes})
    else:
        show_load(report)


def show_load(report: LoadReport) -> None:
    """What a load brought, a row a file, and what one should know of it."""
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


@app.command()
def quarantine(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the lines that could not be taken: file, line, reason."""
    frame = opened(ctx).quarantine()
    if as_json:
        console.print_json(console.records(frame))
    else:
        console.table(frame[["file", "line", "reason"]])
