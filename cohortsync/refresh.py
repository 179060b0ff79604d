"""A cohort brought up to date from where it comes: Mixpanel, the files it was loaded from, or Mixpanel's webhook."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cohortsync import cohorts, ledger, pull, warehouse
from cohortsync.agenda import Wanted
from cohortsync.config import Settings
from cohortsync.errors import ApiTransient, BadInput
from cohortsync.load import load
from cohortsync.sources import Progress, inspect, silent

PATIENCE_SECONDS = 600  # a sync does not wait for the hour's budget while others are due


@dataclass(frozen=True)
class Refreshed:
    """Where a cohort comes from (``source``: mixpanel, webhook, files, sql), and as of when it is what it is."""

    source: str
    as_of: datetime


def refresh(home: Path, project_id: str, cohort: str, progress: Progress = silent) -> Refreshed:
    """Bring a cohort's members and their profiles up to date.

    Raises ApiTransient when that makes it no newer than the limit, and whatever a pull or a load raises.
    """
    refreshed = _refreshed(home, project_id, cohort, progress)
    hours = Settings().refresh_limit_hours
    if datetime.now(UTC) - refreshed.as_of > timedelta(hours=hours):
        raise ApiTransient(f"The cohort {cohort!r} stands as of {refreshed.as_of:%Y-%m-%d %H:%M} UTC, and more than "
                           f"{hours:g} hours is too old to send. Bring newer {_wanted_of(refreshed.source)}, or allow "
                           "more with COHORTSYNC_REFRESH_LIMIT_HOURS.")
    return refreshed


def _wanted_of(source: str) -> str:
    return {"files": "files", "webhook": "members by Mixpanel's webhook"}.get(source, "data")


def _refreshed(home: Path, project_id: str, cohort: str, progress: Progress) -> Refreshed:
    cohort_id = {name: key for key, name in ledger.mixpanel_cohorts(home, project_id).items()}.get(cohort)
    sent_at = _sent_at(home, project_id, cohort_id) if cohort_id else None
    if sent_at and datetime.now(UTC) - sent_at < timedelta(hours=Settings().refresh_limit_hours):
        return Refreshed("webhook", sent_at)
    if cohort_id and ledger.connection(home, "mixpanel", project_id):
        _pull(home, project_id, [cohort_id], progress)
        return Refreshed("mixpanel", datetime.now(UTC))
    if sent_at:
        return Refreshed("webhook", sent_at)
    if _is_defined(home, project_id, cohort):
        return _reckoned(home, project_id, cohort, progress)
    return _read_again(home, project_id, cohort, progress)


def _pull(home: Path, project_id: str, only: list[str] | None, progress: Progress) -> None:
    patience = Settings().model_copy(update={"mixpanel_wait_seconds": PATIENCE_SECONDS})
    pull.pull(home, project_id, Wanted(cohorts=only, events=False), progress, settings=patience)


def _sent_at(home: Path, project_id: str, cohort_id: str) -> datetime | None:
    """When Mixpanel's webhook last sent the cohort whole or its changes, also when there were none."""
    with ledger.state(home) as con:
        row = con.execute("select max(applied_at) as at from webhook_sessions where project_id = ? and cohort_id = ?",
                          (project_id, cohort_id)).fetchone()
    return datetime.fromisoformat(row["at"]) if row["at"] else None


def _is_defined(home: Path, project_id: str, cohort: str) -> bool:
    with warehouse.attached(home) as con:
        return cohort in set(cohorts.definitions(con, project_id)["cohort"])


def _reckoned(home: Path, project_id: str, cohort: str, progress: Progress) -> Refreshed:
    """A cohort defined in SQL, as of what it is reckoned from."""
    if ledger.connection(home, "mixpanel", project_id):
        _pull(home, project_id, None, progress)
        as_of = datetime.now(UTC)
    else:
        cohorts.recompute(home, project_id)
        as_of = _loaded_at(home, project_id)
    with warehouse.attached(home) as con:
        failures = cohorts.definitions(con, project_id).set_index("cohort")["failure"].dropna()
    if cohort in failures:
        raise BadInput(f"The cohort {cohort!r} cannot be reckoned: {failures[cohort]}")
    return Refreshed("sql", as_of)


def _loaded_at(home: Path, project_id: str) -> datetime:
    with warehouse.attached(home) as con:
        (loaded_at,) = con.execute("""select max(loaded_at) from loads
            semi join (from files where project_id = ?) using (load_id)""", [project_id]).fetchall()[0]
    return loaded_at.replace(tzinfo=UTC)


def _read_again(home: Path, project_id: str, cohort: str, progress: Progress) -> Refreshed:
    """A cohort loaded from a file: that file and those of the latest profiles are loaded again where they changed."""
    with warehouse.attached(home) as con:
        rows = con.execute("""select kind, file, digest from files
            where project_id = $project_id and (kind = 'profiles' or kind = 'cohort' and cohort = $cohort)
            qualify load_id = max(load_id) over (partition by kind) order by file_no""",
                           {"project_id": project_id, "cohort": cohort}).fetchall()
    files = [(kind, Path(file), digest) for kind, file, digest in rows
             if kind == "cohort" or not Path(file).is_relative_to(home)]
    members = [path for kind, path, _ in files if kind == "cohort"]
    if not members:
        raise BadInput(f"There is no cohort {cohort!r} here, and no file to load it from.")
    progress("Looking whether files changed", 0, 1)
    if not all(inspect(kind, path, cohort).is_among([digest]) for kind, path, digest in files):
        profiles = [path for kind, path, _ in files if kind == "profiles"]
        load(home, profiles=profiles, cohorts={cohort: members[0]}, progress=progress, project_id=project_id)
    return Refreshed("files", datetime.fromtimestamp(members[0].stat().st_mtime, UTC))
