"""What a project is: its time zone, its ID merge, and whose clocks its events carry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import duckdb
import pandas as pd

from cohortsync import clock, ledger, load, warehouse
from cohortsync.errors import BadInput

ID_MERGES = ("simplified", "original")
COLUMNS = ["project_id", "timezone", "id_merge", "event_times", "times_are", "created_at"]


def set_up(home: Path, timezone: str, id_merge: str, project_id: str | None = None,
           event_times: str | None = None) -> None:
    """Say what a project is; one that was something else is reckoned anew.

    ``project_id``: else the workspace's only one, else ``local``; ``event_times``: else as it is, at first ``auto``.
    Raises BadInput for what none of them can be, ConfigurationError where it is open which project is meant.
    """
    if timezone not in available_timezones():
        raise BadInput(f"{timezone!r} is not a time zone. Use an IANA name such as {ZoneInfo('Europe/Berlin')}.")
    if id_merge not in ID_MERGES:
        raise BadInput(f"The ID merge cannot be {id_merge!r}; choose one of {', '.join(ID_MERGES)}.")
    if event_times not in (None, *clock.EVENT_TIMES):
        raise BadInput(f"Event times cannot be {event_times!r}; choose one of {', '.join(clock.EVENT_TIMES)}.")
    known = {row["project_id"]: row for row in ledger.projects(home)}
    project_id = project_id or (warehouse.required_project(home)["project_id"] if known else "local")
    if not project_id.strip() or len(project_id) > 255 or not project_id.isprintable():
        raise BadInput(f"{project_id!r} cannot be a project's id: use 1 to 255 printable characters.")
    before = known.get(project_id)
    settings = {"timezone": timezone, "id_merge": id_merge,
                "event_times": event_times or (before["event_times"] if before else "auto")}
    if before is None or not ledger.generation(home):
        ledger.record_project(home, {"project_id": project_id, **settings})
    elif settings != {name: before[name] for name in settings}:
        load.rebuild(home, project_id, **settings)


def listed(con: duckdb.DuckDBPyConnection, projects: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """One row per project, as ``COLUMNS``; ``times_are``: utc or local, None before anything is loaded."""
    found = dict(con.execute("select project_id, event_times from clocks").fetchall())
    return pd.DataFrame([{**row, "times_are": found.get(row["project_id"])} for row in projects], columns=COLUMNS)


def counts(con: duckdb.DuckDBPyConnection, project_id: str) -> dict[str, int]:
    """How many ``events, profiles, cohorts`` there are; events are counted by their files, not read."""
    row = con.execute("""select
        (select coalesce(sum(rows), 0)::bigint from event_files where project_id = $1)
            - (select count(*) from superseded where project_id = $1),
        (select count(*) from profiles where project_id = $1),
        (select count(*) from cohorts where project_id = $1)""", [project_id]).fetchall()[0]
    return dict(zip(("events", "profiles", "cohorts"), row, strict=True))
