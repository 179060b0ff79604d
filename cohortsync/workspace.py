"""The workspace as notebooks, the app and the command line use it: each method is one room's work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar
from zoneinfo import ZoneInfo, available_timezones

import duckdb
import pandas as pd

from cohortsync import (
    access,
    account,
    audience,
    classes,
    clock,
    cohorts,
    config,
    execution,
    followup,
    forecast,
    forget,
    health,
    ledger,
    lexicon,
    load,
    marginal,
    members,
    migration,
    mirror,
    mtu,
    orders,
    pull,
    receipts,
    schedule,
    sync,
    warehouse,
)
from cohortsync.agenda import PullPlan, Wanted
from cohortsync.cohorts import Moment
from cohortsync.errors import ApiFinal, BadInput, StoreError
from cohortsync.execution import Execution
from cohortsync.forecast import MonthToDate
from cohortsync.forget import Erased
from cohortsync.load import LoadReport
from cohortsync.mixpanel import Account
from cohortsync.plan import Plan, Terms
from cohortsync.pull import PullReport
from cohortsync.sources import Progress, silent
from cohortsync.tables import Answer
from cohortsync.warehouse import Generation

ID_MERGES = ("simplified", "original")
RUN_COLUMNS = ["run_id", "cohort", "target", "audience_name", "status", "added", "kept", "removed", "refused",
               "requests", "accounted", "size", "started_at", "finished_at", "rehearsal"]
PULL_COLUMNS = ["pull_id", "status", "days", "events", "events_added", "profiles", "query", "page", "export",
                "started_at", "finished_at"]
PROJECT_COLUMNS = ["project_id", "timezone", "id_merge", "event_times", "times_are", "created_at"]


P = ParamSpec("P")
T = TypeVar("T")


def dated(answer: Callable[Concatenate[Workspace, P], T]) -> Callable[Concatenate[Workspace, P], T]:
    """Note in ``attrs["as_of"]`` of the tables answered when what they were read from was published (ISO, UTC)."""
    @wraps(answer)
    def dated_answer(self: Workspace, *args: P.args, **options: P.kwargs) -> T:
        found = answer(self, *args, **options)
        for frame in [found, *getattr(found, "__dict__", {}).values()]:
            if isinstance(frame, pd.DataFrame):
                frame.attrs["as_of"] = self._as_of_text
        return found

    return dated_answer


def publishing(change: Callable[Concatenate[Workspace, P], T]) -> Callable[Concatenate[Workspace, P], T]:
    """Read the newest generation after a change of the workspace's own, and let go of the one before."""
    @wraps(change)
    def change_and_move(self: Workspace, *args: P.args, **options: P.kwargs) -> T:
        done = change(self, *args, **options)
        if self._place:
            self._place.clear()
            warehouse.sweep(self.home)
        return done

    return change_and_move


@dataclass(frozen=True)
class Workspace:
    """One project's data, plans and runs, in one folder.

    Its answers agree with each other: from the first on, all are read from the same generation, whatever others
    load meanwhile, until ``refresh``. What it loads or defines itself shows at once. A plan is always made from the
    newest generation, as are all answers of a new Workspace.
    """

    home: Path
    project_id: str | None = None
    _place: dict[str, Generation] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __repr__(self) -> str:
        projects = [self.project_id] if self.project_id else [p["project_id"] for p in self._generation.projects]
        parts = [f"Workspace {self.home}", f"project {', '.join(projects) or 'none yet'}",
                 f"as of {self.as_of:%Y-%m-%d %H:%M UTC}" if self.as_of else "nothing loaded yet"]
        return " · ".join(parts + ["newer data waits: refresh()"] * self.outdated)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy in another process reads the newest generation: what is held cannot be handed over."""
        return type(self), (self.home, self.project_id)

    @property
    def _generation(self) -> Generation:
        """The generation this workspace stays on, once there is one; several threads get the same."""
        held = self._place.get("generation") or warehouse.hold(self.home)
        return self._place.setdefault("generation", held) if held.number else held

    @property
    def as_of(self) -> datetime | None:
        """When the generation that is read was published (UTC); None before anything is loaded."""
        return self._generation.as_of

    @property
    def _as_of_text(self) -> str | None:
        return self.as_of.isoformat() if self.as_of else None

    @property
    def outdated(self) -> bool:
        """Whether newer data waits for ``refresh``."""
        return not self._generation.is_newest

    def refresh(self) -> datetime | None:
        """Move to the newest generation; answers its ``as_of``."""
        self._place.clear()
        return self.as_of

    @classmethod
    def at(cls, home: Path | str | None = None, project_id: str | None = None,
           progress: Progress = silent) -> Workspace:
        """The workspace in a folder, made if need be; one of an older release is brought up to date first."""
        place = config.open_home(home)
        migration.bring_up_to_date(place, progress)
        return cls(place, str(project_id or config.Settings().project) or None)

    @property
    def project(self) -> dict[str, Any] | None:
        """``project_id, timezone, id_merge, event_times``; None before ``init``."""
        return self._project if self._generation.projects else None

    @property
    def _project(self) -> dict[str, Any]:
        return warehouse.required_project(self.home, self.project_id, self._generation.projects)

    @dated
    def projects(self) -> pd.DataFrame:
        """One row per project of the workspace.

        ``project_id, timezone, id_merge, event_times`` (as asked for), ``times_are`` (utc or local, as reckoned;
        None before anything is loaded), ``created_at``.
        """
        with self._tables() as con:
            found = dict(con.execute("select project_id, event_times from clocks").fetchall())
        rows = [{**row, "times_are": found.get(row["project_id"])} for row in self._generation.projects]
        return pd.DataFrame(rows, columns=PROJECT_COLUMNS)

    @publishing
    def init(self, timezone: str, id_merge: str, project_id: str | None = None,
             event_times: str | None = None) -> None:
        """Say what a project is; saying something else later reckons everything loaded anew.

        ``timezone``: an IANA name such as Europe/Berlin; ``id_merge``: simplified or original (Mixpanel:
        Project Settings, Identity Merge); ``project_id``: the one this workspace was opened for, else its only
        one, else ``local``; another id adds a project. ``event_times``: utc, local (projects made before 2023
        export the seconds of their own clocks) or auto, found by when events were processed; left out, it stays
        as it is, and is auto at first.
        """
        if timezone not in available_timezones():
            raise BadInput(f"{timezone!r} is not a time zone. Use an IANA name such as {ZoneInfo('Europe/Berlin')}.")
        if id_merge not in ID_MERGES:
            raise BadInput(f"The ID merge cannot be {id_merge!r}; choose one of {', '.join(ID_MERGES)}.")
        if event_times not in (None, *clock.EVENT_TIMES):
            raise BadInput(f"Event times cannot be {event_times!r}; choose one of {', '.join(clock.EVENT_TIMES)}.")
        if not (project_id := project_id or self.project_id):
            project_id = self._project["project_id"] if ledger.projects(self.home) else "local"
        if not project_id.strip() or len(project_id) > 255 or not project_id.isprintable():
            raise BadInput(f"{project_id!r} cannot be a project's id: use 1 to 255 printable characters.")
        before = {row["project_id"]: row for row in ledger.projects(self.home)}.get(project_id)
        settings = {"timezone": timezone, "id_merge": id_merge,
                    "event_times": event_times or (before["event_times"] if before else "auto")}
        if before is None or not ledger.generation(self.home):
            ledger.record_project(self.home, {"project_id": project_id, **settings})
        elif settings != {name: before[name] for name in settings}:
            load.rebuild(self.home, project_id, **settings)

    @publishing
    def load(self, events: Iterable[Path | str] = (), profiles: Iterable[Path | str] = (),
             cohorts: Mapping[str, Path | str] | None = None, progress: Progress = silent,
             mappings: Iterable[Path | str] = ()) -> LoadReport:
        """Load files of events, profiles, cohort members and identity mappings, all or nothing. See ``load.load``."""
        return load.load(self.home, [Path(path) for path in events], [Path(path) for path in profiles],
                         {name: Path(path) for name, path in (cohorts or {}).items()}, progress, self.project_id,
                         [Path(path) for path in mappings])

    @contextmanager
    def connect(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A DuckDB connection in which the workspace is tables: ``events, profiles, cohort_members, …``.

        It stays on the generation that it was opened on, also when the workspace moves.
        """
        with warehouse.reading(self.home, self._generation) as con:
            yield con

    def _tables(self) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """As ``connect``, without the events: what answers at once is answered from here."""
        return warehouse.attached(self.home, self._generation)

    def _with_as_of(self, frame: pd.DataFrame, asked: datetime | str | None = None) -> pd.DataFrame:
        """The table with its last column ``as_of``: naive and UTC, as all instants in tables."""
        known = [instant for instant in (self.as_of, asked and mtu.instant(asked).replace(tzinfo=UTC)) if instant]
        stamp = min(known).replace(tzinfo=None) if known else pd.NaT
        return frame.assign(as_of=pd.Series(stamp, index=frame.index, dtype="datetime64[us]"))

    @dated
    def sql(self, query: str) -> pd.DataFrame:
        """The answer to one SELECT over the workspace's tables; no file but the workspace's can be read."""
        query = warehouse.select_only(query)
        with self.connect() as con:
            warehouse.lock_down(con, self.home)
            try:
                return con.execute(query).df()
            except duckdb.Error as error:
                raise BadInput(f"The question cannot be answered: {error}") from None

    @dated
    def cohorts(self) -> pd.DataFrame:
        """One row per cohort: ``project_id, cohort, size, exportable, loaded_at, as_of``."""
        with self._tables() as con:
            return self._with_as_of(audience.cohorts(con, self._project))

    def largest_cohort(self) -> str:
        """The cohort with the most exportable users; raises BadInput where none is loaded."""
        frame = self.cohorts().sort_values(["exportable", "cohort"], ascending=[False, True])
        if frame.empty:
            raise BadInput("No cohort is loaded yet. Load one with: cohortsync load --cohort NAME=FILE")
        return str(frame["cohort"].iloc[0])

    @dated
    def audience(self, cohort: str, **options: Any) -> pd.DataFrame:
        """One row per id of a cohort, with the reason why it is exportable or not; addresses masked.

        Options: ``reasons, limit, whole``; see ``audience.preview``.
        """
        with self.connect() as con:
            return audience.preview(con, self._project, cohort, **options)

    def audience_summary(self, cohort: str) -> dict[str, Any]:
        """``size, exportable, reasons`` of a cohort, and the ID-merge ``warning`` or None."""
        with self.connect() as con:
            return Answer(audience.summary(con, self._project, cohort) | {"as_of": self._as_of_text})

    @dated
    def standing(self, cohort: str) -> pd.DataFrame:
        """How a cohort's exportable users stand in each Mailchimp audience as last read. See ``audience.standing``."""
        with self.connect() as con:
            return audience.standing(con, self._project, cohort)

    def audience_at_once(self, cohort: str, **options: Any) -> tuple[dict[str, Any], pd.DataFrame, pd.DataFrame]:
        """``audience_summary``, ``standing`` and ``audience`` (with these options), for one reckoning of the people."""
        with self.connect() as con:
            return audience.at_once(con, self._project, cohort, **options)

    def members(self, audience_id: str, **options: Any) -> pd.DataFrame:
        """One row per contact of a Mailchimp audience as last read; addresses masked. See ``members.members``."""
        with self.connect() as con:
            return members.members(con, audience_id, **options)

    def member_counts(self, audience_id: str) -> pd.DataFrame:
        """One row per status in a Mailchimp audience as last read: ``status, people``."""
        with self.connect() as con:
            return members.counts(con, audience_id)

    def audience_read_at(self, audience_id: str) -> datetime | None:
        """When a Mailchimp audience was last read, by Mailchimp's clock (UTC); None before that."""
        return mirror.read_at(self.home, audience_id)

    def segments(self, audience_id: str) -> pd.DataFrame:
        """One row per segment kept for a cohort in an audience: ``cohort, name, segment_id, people`` as last read."""
        with self.connect() as con:
            return members.segments(self.home, con, audience_id)

    @dated
    def cohort_history(self, cohort: str) -> pd.DataFrame:
        """One row per snapshot of a cohort: ``loaded_at, size, entered, left``."""
        with self.connect() as con:
            return cohorts.history(con, self._project["project_id"], cohort)

    @dated
    def cohort_overlap(self, *names: str) -> pd.DataFrame:
        """One row per pair of cohorts (of all, when none is named): who is in both, and the shares."""
        with self.connect() as con:
            return cohorts.overlap(con, self._project["project_id"], names)

    @dated
    def cohort_changes(self, cohort: str, since: Moment | None = None,
                       until: Moment | None = None) -> pd.DataFrame:
        """One row per id that entered or left a cohort between two moments, and why. See ``cohorts.changes``."""
        with self.connect() as con:
            return cohorts.changes(con, self._project, cohort, since, until)

    @publishing
    def define_cohort(self, cohort: str, query: str) -> dict[str, Any]:
        """Define a cohort by one SELECT of ``distinct_id``; answers its ``size``. It is reckoned with every load."""
        return cohorts.define(self.home, self._project["project_id"], cohort, query)

    @publishing
    def undefine_cohort(self, cohort: str) -> None:
        """Forget a cohort that was defined here; its snapshots stay."""
        cohorts.undefine(self.home, self._project["project_id"], cohort)

    @dated
    @publishing
    def recompute_cohorts(self) -> pd.DataFrame:
        """Reckon the cohorts defined here anew: ``cohort, size, failure`` of each."""
        return cohorts.recompute(self.home, self._project["project_id"])

    @dated
    def cohort_definitions(self) -> pd.DataFrame:
        """One row per cohort defined here: ``cohort, sql, defined_at, failure, size, loaded_at``."""
        with self.connect() as con:
            return cohorts.definitions(con, self._project["project_id"])

    @dated
    def events_seen(self) -> pd.DataFrame:
        """One row per event name: ``events, users, first_on, last_on, class``."""
        with self.connect() as con:
            return lexicon.events_seen(con, self._project["project_id"])

    @dated
    def properties(self, event: str | None = None, profiles: bool = False,
                   sample: int | None = lexicon.SAMPLE) -> pd.DataFrame:
        """One row per property of an event, of all events or of the profiles: types, fill rate, masked examples.

        ``sample``: of how many rows, drawn at random; None for all.
        """
        project_id = self._project["project_id"]
        with self.connect() as con:
            if profiles:
                return lexicon.profile_properties(con, project_id, sample)
            return lexicon.event_properties(con, project_id, event, sample)

    @dated
    def events(self, event: str, properties: Iterable[str] = (), **options: Any) -> pd.DataFrame:
        """One row per event of a name with these properties as columns. Options: see ``lexicon.events``."""
        with self.connect() as con:
            return lexicon.events(con, self._project, event, properties, **options)

    @dated
    def mtu(self, **options: Any) -> pd.DataFrame:
        """One row per month: the bill in its readings, and ``as_of``. Options: see ``mtu.monthly``."""
        with self._tables() as con:
            months = mtu.monthly(con, self._project["project_id"], **options)
        return self._with_as_of(months, options.get("as_of"))

    @dated
    def mtu_history(self, **options: Any) -> pd.DataFrame:
        """One row per month and change of its numbers, late merges among them. See ``mtu.history``."""
        with self._tables() as con:
            return mtu.history(con, self._project["project_id"], **options)

    @dated
    def organisation_mtu(self, projects: Iterable[str] | None = None, **options: Any) -> pd.DataFrame:
        """One row per month: the sum over projects (default: all). See ``mtu.organisation``."""
        with self._tables() as con:
            return mtu.organisation(con, projects, **options)

    @dated
    def marginal_mtu(self, month: str | None = None, **options: Any) -> pd.DataFrame:
        """One row per month and event: how many users would leave the bill without it. See ``marginal.marginal``."""
        with self._tables() as con:
            return marginal.marginal(con, self._project["project_id"], month, **options)

    @dated
    def unmarked_users(self, month: str | None = None, partners: bool = False) -> pd.DataFrame:
        """One row per month and user tracked only for want of a mark; addresses masked. See ``marginal.unmarked``."""
        with self.connect() as con:
            return marginal.unmarked(con, self._project["project_id"], month, partners)

    @dated
    def mtu_spikes(self, by: str = "month", **options: Any) -> pd.DataFrame:
        """One row per unusual month or day and event behind it. See ``marginal.spikes``."""
        with self._tables() as con:
            return marginal.spikes(con, self._project["project_id"], by, **options)

    @dated
    def anonymous_share(self, **options: Any) -> pd.DataFrame:
        """One row per month: how many of its users are known by a device alone. See ``mtu.anonymous``."""
        with self._tables() as con:
            return mtu.anonymous(con, self._project["project_id"], **options)

    @dated
    def month_to_date(self, **options: Any) -> MonthToDate | None:
        """The newest month so far, where it may end, and how far off such projections were."""
        with self._tables() as con:
            return forecast.month_to_date(con, self._project["project_id"], **options)

    @dated
    def followup(self, month: str | None = None) -> pd.DataFrame:
        """One row per cohort and what Mailchimp's mails led to: sent, opened, clicked, … See ``followup.followup``."""
        with self.connect() as con:
            return followup.followup(con, self._project["project_id"], month)

    @dated
    def mailchimp_names(self) -> pd.DataFrame:
        """One row per month and page whose names for Mailchimp's events occurred: ``month, page, events``."""
        with self._tables() as con:
            return mtu.families(con, self._project["project_id"])

    @dated
    def event_classes(self) -> pd.DataFrame:
        """One row per event that is not simply qualifying, or was set by hand: ``event, class, source``."""
        with self._tables() as con:
            return classes.listed(con)

    @dated
    def partners(self) -> pd.DataFrame:
        """One row per partner whose events Mixpanel exempts, and whether they are left out here."""
        with self._tables() as con:
            return classes.partners(con)

    @publishing
    def set_class(self, event: str, to: str) -> None:
        """Say what an event counts as, one of ``classes.CLASSES``; applies at once to every month."""
        classes.set_class(self.home, event, to)

    @publishing
    def set_partner(self, partner: str, on: bool) -> None:
        """Leave out the events that a partner's page lists as exempt, or count them again."""
        classes.set_partner(self.home, partner, on)

    @publishing
    def reset_classes(self) -> None:
        """Take every edit of the event classes back."""
        classes.reset(self.home)

    @dated
    def quarantine(self) -> pd.DataFrame:
        """One row per line that could not be taken: ``load_id, file, line, byte_offset, reason``."""
        with self._tables() as con:
            return con.execute("""select q.* from quarantine q
                where load_id in (select load_id from files where project_id = ?) order by load_id, file, line""",
                               [self._project["project_id"]]).df()

    def connect_mixpanel(self, username: str, secret: str, project_id: str, *, region: str | None = None,
                         base_url: str | None = None, timezone: str | None = None, id_merge: str | None = None,
                         keep_secret: bool = True, assume_admin: bool = False) -> dict[str, Any]:
        """Check a service account, set its project up here, and remember the connection; answers it.

        Answers ``account_name, role, host, region, status, reason, may_export, timezone, notes, …``. ``region`` (us,
        eu, in) and ``timezone`` are looked up, ``id_merge`` must be given the first time. Raises
        ``access.NotTold`` (BadInput) for what can neither be looked up nor was given, ApiFinal when Mixpanel
        refuses the account.
        """
        account = Account(username.strip(), secret.strip())
        found = access.look_up(account, project_id.strip(), region, base_url)
        before = {row["project_id"]: row for row in ledger.projects(self.home)}
        known = before.get(found.project_id, {})
        timezone = access.settled_timezone(found, timezone, known.get("timezone"))
        self.init(timezone, access.settled_id_merge(id_merge, known.get("id_merge")), found.project_id)
        if assume_admin:
            access.assume_admin(self.home, found.project_id)
        return access.record(self.home, account, found, base_url, keep_secret) | {
            "timezone": timezone, "notes": access.notes(found.project_id, timezone, before)}

    def plan_pull(self, **wanted: Any) -> PullPlan:
        """What a pull would ask Mixpanel for. Options: see ``agenda.Wanted``."""
        return pull.plan_pull(self.home, self._project["project_id"], Wanted(**wanted))

    @publishing
    def pull(self, progress: Progress = silent, review: Callable[[PullPlan], None] = lambda _plan: None,
             **wanted: Any) -> PullReport:
        """Fetch cohorts, profiles and events from Mixpanel and load them; options: see ``agenda.Wanted``.

        ``review`` is shown the plan first. ``pull(cohorts=["vip"], events=False)`` refreshes one cohort alone: its
        members and their profiles.
        """
        return pull.pull(self.home, self._project["project_id"], Wanted(**wanted), progress, review)

    def pulls(self) -> pd.DataFrame:
        """One row per pull of the project that ended, the latest first: ``status`` completed or failed."""
        rows = [{**row["receipt"], **row["receipt"]["requests"], **row}
                for row in ledger.pulls(self.home, self._project["project_id"])]
        return pd.DataFrame(rows, columns=PULL_COLUMNS)

    def connections(self, check: bool = False) -> pd.DataFrame:
        """One row per connection: ``kind, project_id, name, role, region, status, reason, checked_at, …``.

        ``check``: look at each again first.
        """
        if check:
            self._check_connections()
        return pd.DataFrame(access.connections(self.home), columns=access.CONNECTION_COLUMNS)

    def _check_connections(self) -> None:
        for row in ledger.connections(self.home):
            if row["kind"] == "mixpanel":
                access.check(self.home, row["project_id"])
            elif row["kind"] == "mailchimp":
                with suppress(ApiFinal):  # noted on the connection
                    self.check_mailchimp()

    @property
    def needs_vouching(self) -> bool:
        """Whether ``assume_admin`` must be said before anything is exported to a real account."""
        return access.needs_vouching(self.home, self._project["project_id"])

    @property
    def mixpanel_connection(self) -> dict[str, Any] | None:
        """The project's connection to Mixpanel, without its secret; None before ``connect_mixpanel``."""
        return ledger.connection(self.home, "mixpanel", self._project["project_id"]) if self.project else None

    def check_mixpanel(self) -> dict[str, Any]:
        """Look up again whether the service account answers, and its role; the connection as it then stands."""
        return access.check(self.home, self._project["project_id"])

    def assume_admin(self) -> None:
        """Vouch once for being an admin or owner of the Mixpanel project, where that cannot be looked up."""
        access.assume_admin(self.home, self._project["project_id"])

    @property
    def connection(self) -> dict[str, Any] | None:
        """The connected Mailchimp account, without its key; None before ``connect_mailchimp``."""
        return ledger.connection(self.home)

    def connect_mailchimp(self, key: str, new_contacts: str, base_url: str | None = None,
                          keep_key: bool = True) -> dict[str, Any]:
        """Check and remember a Mailchimp account; answers the connection with its ``audiences``."""
        return account.connect(self.home, key, new_contacts, base_url, keep_key)

    def check_mailchimp(self) -> dict[str, Any]:
        """Ask the connected account whether it still answers; the connection with its ``audiences``."""
        return account.check_connection(self.home)

    def chosen_audience(self, audience_id: str = "") -> str:
        """The id of the audience asked for, else of the account's only one; raises BadInput with the choices."""
        return account.chosen_audience(self.home, audience_id)

    def merge_fields(self, audience_id: str) -> dict[str, str]:
        """The merge fields of an audience as it has them now: tag → type."""
        return account.merge_fields(self.home, audience_id)

    def plan(self, cohort: str, audience_id: str, progress: Progress = silent, **terms: Any) -> Plan:
        """What a sync would do to each person; reads only. It is kept under its ``run_id``. Terms: ``plan.Terms``."""
        return sync.plan(self.home, cohort, audience_id, progress, self.project_id, Terms(**terms))

    def undo(self, run_id: str, progress: Progress = silent) -> Plan:
        """A plan that takes a run back, with what cannot be taken back in its warnings; ``apply`` does it."""
        return sync.undo(self.home, run_id, progress)

    def kept_plan(self, run_id: str) -> Plan:
        """A plan as it was made, by its id."""
        return receipts.load_plan(self.home, run_id)

    def apply(self, plan: Plan | str, force: bool = False, progress: Progress = silent,
              confirm: int | None = None) -> dict[str, Any]:
        """Do what an approved plan says (or the one kept under a run's id) and prove it; answers the receipt.

        One that takes a run back pauses the cohort's standing sync first.
        """
        made = self.kept_plan(plan) if isinstance(plan, str) else plan
        if made.undoes:
            orders.pause_undone(self.home, made.project_id, made.cohort, made.target.audience_id, made.undoes)
        return Answer(sync.apply(self.home, made, force, progress, confirm))

    def sync(self, cohort: str, audience_id: str, *, dry_run: bool = False, force: bool = False,
             confirm: int | None = None, review: Callable[[Plan], None] = lambda _plan: None,
             progress: Progress = silent, **terms: Any) -> dict[str, Any]:
        """Plan, apply and prove in one go; answers the receipt. See ``sync.export``; terms: ``plan.Terms``."""
        return Answer(sync.export(self.home, cohort, audience_id, project_id=self.project_id, terms=Terms(**terms),
                                  dry_run=dry_run, force=force, confirm=confirm, review=review, progress=progress))

    def status(self) -> dict[str, Any]:
        """How every sync stands and what it waits for; ``exit_status`` is 0 when all are well. See ``health.look``."""
        return health.look(self.home, self.project_id)

    def syncs(self) -> pd.DataFrame:
        """One row per sync that stands: how it stands, its last run in one line, when it is due."""
        return pd.DataFrame(orders.overview(self.home, self.project_id), columns=orders.SYNC_COLUMNS)

    def create_sync(self, cohort: str, audience_id: str, kind: str = orders.DYNAMIC, **terms: Any) -> dict[str, Any]:
        """Make a sync that stands, ``dynamic`` or ``one-time``; it is due at once. Terms: ``plan.Terms``."""
        return orders.create(self.home, self._project["project_id"], cohort, audience_id, kind, asdict(Terms(**terms)))

    def find_sync(self, name: str) -> dict[str, Any]:
        """A sync by its id, or by its cohort where that has one sync alone."""
        return orders.required(self.home, name, self.project_id)

    def pause_sync(self, name: str, reason: str = "Paused by hand.") -> None:
        """Stop a sync until it is unpaused; what it had waiting for approval is dropped."""
        orders.pause(self.home, self.find_sync(name)["sync_id"], reason)

    def unpause_sync(self, name: str) -> None:
        """Let a sync go on; what was missed meanwhile is made up for by one run."""
        orders.unpause(self.home, self.find_sync(name)["sync_id"])

    def delete_sync(self, name: str) -> None:
        """Forget that a sync stands; its segment, the people on it and its runs stay."""
        orders.delete(self.home, self.find_sync(name)["sync_id"])

    def sync_history(self, name: str) -> pd.DataFrame:
        """One row per run of a sync, the latest first: how it ended, why, and the counts."""
        rows = [{**row["receipt"], **row} for row in orders.history(self.home, self.find_sync(name)["sync_id"])]
        return pd.DataFrame(rows, columns=orders.RUN_COLUMNS)

    def waiting_plan(self, name: str) -> Plan:
        """The plan with which a sync waits for approval."""
        return execution.waiting_plan(self.home, self.find_sync(name)["sync_id"])

    def approve_sync(self, name: str, progress: Progress = silent) -> dict[str, Any]:
        """Do exactly the plan with which a sync waits; answers the receipt."""
        return execution.approve(self.home, self.find_sync(name)["sync_id"], progress)

    def start_sync(self, name: str, run_id: str = "", due_at: str = "", progress: Progress = silent) -> Execution:
        """Begin a run of a sync, to be taken step by step. See ``execution.start``."""
        return execution.start(self.home, self.find_sync(name)["sync_id"], run_id, due_at, progress)

    def run_sync(self, name: str, progress: Progress = silent) -> dict[str, Any]:
        """Run a sync now, as a notebook; answers how that ended. See ``schedule.run_sync``."""
        return schedule.run_sync(self.home, self.find_sync(name)["sync_id"], progress=progress)

    def run_due(self, progress: Progress = silent) -> list[dict[str, Any]]:
        """Run every sync that is due; answers one row a run. See ``schedule.run_due``."""
        return schedule.run_due(self.home, self.project_id, progress)

    @publishing
    def forget(self, person: str, progress: Progress = silent) -> Erased:
        """Erase a person, named by an address or a distinct_id, everywhere; they are never exported again."""
        self._place.clear()  # what is held could not be swept
        return forget.forget(self.home, person, self.project_id, progress)

    def runs(self) -> pd.DataFrame:
        """One row per run of the project, the latest first."""
        project_id = self.project["project_id"] if self.project else None
        rows = [{**row["receipt"], **row} for row in ledger.runs(self.home) if row["project_id"] == project_id]
        return pd.DataFrame(rows, columns=RUN_COLUMNS)

    def receipt(self, run_id: str) -> dict[str, Any]:
        """What one run left behind: counts and places, no addresses."""
        for row in ledger.runs(self.home):
            if row["run_id"] == run_id:
                return Answer(row["receipt"], started_at=row["started_at"], finished_at=row["finished_at"])
        raise StoreError(f"There is no run {run_id!r} here. List them: cohortsync runs")

    def proof(self, run_id: str) -> pd.DataFrame:
        """Everyone of a run in a few rows: ``outcome, reason, people``; those of the cohort add up to its size."""
        return receipts.proof_table(self.home, run_id)

    def outcome(self, run_id: str) -> pd.DataFrame:
        """What became of each person in a run; addresses masked."""
        return receipts.shown_outcome(self.home, run_id)
