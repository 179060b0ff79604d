"""The workspace as notebooks, the app and the command line use it: a dozen methods, each one room's work."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import duckdb
import pandas as pd

from cohortsync import audience, config, ledger, load, mtu, sync, warehouse
from cohortsync.errors import BadInput, StoreError
from cohortsync.load import LoadReport
from cohortsync.plan import Plan
from cohortsync.sources import Progress, silent

ID_MERGES = ("simplified", "original")
RUN_COLUMNS = ["run_id", "cohort", "target", "audience_name", "status", "added", "kept", "removed", "refused",
               "requests", "accounted", "size", "started_at", "finished_at", "rehearsal"]


@dataclass(frozen=True)
class Workspace:
    """One project's data, plans and runs, in one folder."""

    home: Path

    @classmethod
    def at(cls, home: Path | str | None = None) -> Workspace:
        return cls(config.open_home(home))

    @property
    def project(self) -> dict[str, Any] | None:
        """``project_id, timezone, id_merge``; None before ``init``."""
        return ledger.project(self.home)

    def init(self, timezone: str, id_merge: str, project_id: str = "local") -> None:
        """Say what the project is; saying something else later reckons everything loaded anew.

        ``timezone``: an IANA name such as Europe/Berlin; ``id_merge``: simplified or original (Mixpanel:
        Project Settings, Identity Merge).
        """
        if timezone not in available_timezones():
            raise BadInput(f"{timezone!r} is not a time zone. Use an IANA name such as {ZoneInfo('Europe/Berlin')}.")
        if id_merge not in ID_MERGES:
            raise BadInput(f"The ID merge cannot be {id_merge!r}; choose one of {', '.join(ID_MERGES)}.")
        before = self.project
        if before and before["project_id"] != project_id:
            raise BadInput(f"{self.home} holds project {before['project_id']}. Name another workspace with --home.")
        if not ledger.generation(self.home):
            ledger.record_project(self.home, project_id, timezone, id_merge)
        elif before and (before["timezone"], before["id_merge"]) != (timezone, id_merge):
            load.rebuild(self.home, timezone, id_merge)

    def load(self, events: Iterable[Path | str] = (), profiles: Iterable[Path | str] = (),
             cohorts: Mapping[str, Path | str] | None = None, progress: Progress = silent) -> LoadReport:
        """Load files of events, profiles and cohort members, all or nothing. See ``load.load``."""
        return load.load(self.home, [Path(path) for path in events], [Path(path) for path in profiles],
                         {name: Path(path) for name, path in (cohorts or {}).items()}, progress)

    @contextmanager
    def connect(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A DuckDB connection in which the workspace is tables: ``events, profiles, cohort_members, …``."""
        with warehouse.reading(self.home) as con:
            yield con

    def sql(self, query: str) -> pd.DataFrame:
        """The answer to one SELECT over the workspace's tables; no file but the workspace's can be read."""
        query = warehouse.select_only(query)
        with self.connect() as con:
            warehouse.lock_down(con, self.home)
            try:
                return con.execute(query).df()
            except duckdb.Error as error:
                raise BadInput(f"The question cannot be answered: {error}") from None

    def cohorts(self) -> pd.DataFrame:
        """One row per cohort: ``project_id, cohort, size, exportable, loaded_at``."""
        with self.connect() as con:
            return audience.cohorts(con, warehouse.required_project(self.home))

    def audience(self, cohort: str) -> pd.DataFrame:
        """One row per id of a cohort, with the reason why it is exportable or not; addresses masked."""
        with self.connect() as con:
            return audience.preview(con, warehouse.required_project(self.home), cohort)

    def audience_summary(self, cohort: str) -> dict[str, Any]:
        """``size, exportable, reasons`` of a cohort, and the ID-merge ``warning`` or None."""
        project = warehouse.required_project(self.home)
        with self.connect() as con:
            people = audience.people(con, project, cohort)
        return audience.summarise(project, cohort, people) | {"warning": audience.id_warning(project, people)}

    def mtu(self, **options: Any) -> pd.DataFrame:
        """One row per month: the bill in its readings. Options: see ``mtu.monthly``."""
        with self.connect() as con:
            return mtu.monthly(con, warehouse.required_project(self.home)["project_id"], **options)

    def quarantine(self) -> pd.DataFrame:
        """One row per line that could not be taken: ``load_id, file, line, byte_offset, reason``."""
        with self.connect() as con:
            return con.execute("from quarantine order by load_id, file, line").df()

    @property
    def connection(self) -> dict[str, Any] | None:
        """The connected Mailchimp account, without its key; None before ``connect_mailchimp``."""
        return ledger.connection(self.home)

    def connect_mailchimp(self, key: str, new_contacts: str, base_url: str | None = None,
                          keep_key: bool = True) -> dict[str, Any]:
        """Check and remember a Mailchimp account; answers the connection with its ``audiences``."""
        return sync.connect(self.home, key, new_contacts, base_url, keep_key)

    def check_mailchimp(self) -> dict[str, Any]:
        """Ask the connected account whether it still answers; the connection with its ``audiences``."""
        return sync.check_connection(self.home)

    def plan(self, cohort: str, audience_id: str, progress: Progress = silent) -> Plan:
        """What a sync would do to each person; reads only."""
        return sync.plan(self.home, cohort, audience_id, progress)

    def apply(self, plan: Plan, force: bool = False, progress: Progress = silent) -> dict[str, Any]:
        """Do what an approved plan says and prove it; answers the receipt."""
        return sync.apply(self.home, plan, force, progress)

    def sync(self, cohort: str, audience_id: str, **options: Any) -> dict[str, Any]:
        """Plan, apply and prove in one go; answers the receipt. Options: see ``sync.export``."""
        return sync.export(self.home, cohort, audience_id, **options)

    def runs(self) -> pd.DataFrame:
        """One row per run, the latest first."""
        rows = [{**row["receipt"], **row} for row in ledger.runs(self.home)]
        return pd.DataFrame(rows, columns=RUN_COLUMNS)

    def receipt(self, run_id: str) -> dict[str, Any]:
        """What one run left behind: counts and places, no addresses."""
        for row in ledger.runs(self.home):
            if row["run_id"] == run_id:
                return {**row["receipt"], "started_at": row["started_at"], "finished_at": row["finished_at"]}
        raise StoreError(f"There is no run {run_id!r} here. List them: cohortsync runs")

    def outcome(self, run_id: str) -> pd.DataFrame:
        """What became of each person in a run; addresses masked."""
        return sync.outcome(self.home, run_id)
