"""The workspace as notebooks, the app and the command line use it: a table of contents, each entry a room's work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from cohortsync import (
    access,
    account,
    audience,
    classes,
    cohorts,
    config,
    connections,
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
    projects,
    pull,
    receipts,
    schedule,
    staging,
    sync,
)
from cohortsync.agenda import PullPlan, Wanted
from cohortsync.cohorts import Moment
from cohortsync.execution import Execution
from cohortsync.forecast import MonthToDate
from cohortsync.forget import Erased
from cohortsync.intake import LoadReport
from cohortsync.plan import Plan, Terms
from cohortsync.pull import PullReport
from cohortsync.reader import Reader
from cohortsync.sources import Progress, silent
from cohortsync.tables import Answer


class Workspace(Reader):
    """One project's data, plans and runs, in one folder.

    Its answers agree with each other: from the first on, all are read from the same generation, whatever others
    load meanwhile, until ``refresh``. What it loads or defines itself shows at once. A plan is always made from the
    newest generation, as are all answers of a new Workspace.
    """

    @classmethod
    def at(cls, home: Path | str | None = None, project_id: str | None = None,
           progress: Progress = silent) -> Workspace:
        """The workspace in a folder, made if need be; one of an older release is brought up to date first."""
        place = config.open_home(home)
        migration.bring_up_to_date(place, progress)
        return cls(place, str(project_id or config.Settings().project) or None)

    def __repr__(self) -> str:
        names = [self.project_id] if self.project_id else [p["project_id"] for p in self._generation.projects]
        parts = [f"Workspace {self.home}", f"project {', '.join(names) or 'none yet'}",
                 f"as of {self.as_of:%Y-%m-%d %H:%M UTC}" if self.as_of else "nothing loaded yet"]
        return " · ".join(parts + ["newer data waits: refresh()"] * self.outdated)

    # projects, and what is loaded

    def init(self, timezone: str, id_merge: str, project_id: str | None = None,
             event_times: str | None = None) -> None:
        """Say what a project is; saying something else later reckons everything loaded anew.

        ``timezone``: an IANA name such as Europe/Berlin; ``id_merge``: simplified or original (Mixpanel:
        Project Settings, Identity Merge); ``project_id``: the one this workspace was opened for, else its only
        one, else ``local``; another id adds a project. ``event_times``: utc, local (projects made before 2023
        export the seconds of their own clocks) or auto, found by when events were processed; left out, it stays
        as it is, and is auto at first.
        """
        self._change(projects.set_up, self.home, timezone, id_merge, project_id or self.project_id, event_times)

    def projects(self) -> pd.DataFrame:
        """One row per project of the workspace.

        ``project_id, timezone, id_merge, event_times`` (as asked for), ``times_are`` (utc or local, as reckoned;
        None before anything is loaded), ``created_at``.
        """
        return self._ask_tables(projects.listed, self._generation.projects)

    def counts(self) -> dict[str, int]:
        """How many ``events, profiles, cohorts`` the project has; events are counted by their files, not read."""
        return self._ask_tables(projects.counts, self._id)

    def load(self, events: Iterable[Path | str] = (), profiles: Iterable[Path | str] = (),
             cohorts: Mapping[str, Path | str] | None = None, progress: Progress = silent,
             mappings: Iterable[Path | str] = ()) -> LoadReport:
        """Load files of events, profiles, cohort members and identity mappings, all or nothing. See ``load.load``."""
        return self._change(load.load, self.home, [Path(path) for path in events], [Path(path) for path in profiles],
                            {name: Path(path) for name, path in (cohorts or {}).items()}, progress, self.project_id,
                            [Path(path) for path in mappings])

    def quarantine(self) -> pd.DataFrame:
        """One row per line that could not be taken: ``load_id, file, line, byte_offset, reason``."""
        return self._ask_tables(staging.quarantine, self._id)

    def forget(self, person: str, progress: Progress = silent) -> Erased:
        """Erase a person, named by an address or a distinct_id, everywhere; they are never exported again."""
        self._place.clear()  # what is held could not be swept
        return self._change(forget.forget, self.home, person, self.project_id, progress)

    # cohorts, and who of them can be exported

    def cohorts(self) -> pd.DataFrame:
        """One row per cohort: ``project_id, cohort, size, exportable, loaded_at, as_of``."""
        return self._with_as_of(self._ask_tables(audience.cohorts, self._project))

    def cohort_names(self) -> list[str]:
        """The cohorts by name."""
        return self._ask_tables(audience.names, self._id)

    def largest_cohort(self) -> str:
        """The cohort with the most exportable users; raises BadInput where none is loaded."""
        return self._ask_tables(audience.largest, self._project)

    def audience(self, cohort: str, **options: Any) -> pd.DataFrame:
        """One row per id of a cohort, with the reason why it is exportable or not; addresses masked.

        Options: ``reasons, limit, whole``; see ``audience.preview``.
        """
        return self._ask_tables(audience.preview, self._project, cohort, **options)

    def audience_summary(self, cohort: str) -> dict[str, Any]:
        """``size, exportable, reasons`` of a cohort, and the ID-merge ``warning`` or None."""
        return Answer(self._ask_tables(audience.summary, self._project, cohort), as_of=self._as_of_text)

    def standing(self, cohort: str) -> pd.DataFrame:
        """How a cohort's exportable users stand in each Mailchimp audience as last read. See ``audience.standing``."""
        return self._ask(audience.standing, self._project, cohort)

    def audience_at_once(self, cohort: str, **options: Any) -> tuple[dict[str, Any], pd.DataFrame, pd.DataFrame]:
        """``audience_summary``, ``standing`` and ``audience`` (with these options), for one reckoning of the people."""
        return self._ask(audience.at_once, self._project, cohort, **options)

    def cohort_history(self, cohort: str) -> pd.DataFrame:
        """One row per snapshot of a cohort: ``loaded_at, size, entered, left``."""
        return self._ask_tables(cohorts.history, self._id, cohort)

    def cohort_overlap(self, *names: str) -> pd.DataFrame:
        """One row per pair of cohorts (of all, when none is named): who is in both, and the shares."""
        return self._ask_tables(cohorts.overlap, self._id, names)

    def cohort_changes(self, cohort: str, since: Moment | None = None,
                       until: Moment | None = None) -> pd.DataFrame:
        """One row per id that entered or left a cohort between two moments, and why. See ``cohorts.changes``."""
        return self._ask_tables(cohorts.changes, self._project, cohort, since, until)

    def define_cohort(self, cohort: str, query: str) -> dict[str, Any]:
        """Define a cohort by one SELECT of ``distinct_id``; answers its ``size``. It is reckoned with every load."""
        return self._change(cohorts.define, self.home, self._id, cohort, query)

    def undefine_cohort(self, cohort: str) -> None:
        """Forget a cohort that was defined here; its snapshots stay."""
        self._change(cohorts.undefine, self.home, self._id, cohort)

    def recompute_cohorts(self) -> pd.DataFrame:
        """Reckon the cohorts defined here anew: ``cohort, size, failure`` of each."""
        return self._dated(self._change(cohorts.recompute, self.home, self._id))

    def cohort_definitions(self) -> pd.DataFrame:
        """One row per cohort defined here: ``cohort, sql, defined_at, failure, size, loaded_at``."""
        return self._ask_tables(cohorts.definitions, self._id)

    # events, and the bill

    def events_seen(self) -> pd.DataFrame:
        """One row per event name: ``events, users, first_on, last_on, class``."""
        return self._ask_tables(lexicon.events_seen, self._id)

    def properties(self, event: str | None = None, profiles: bool = False,
                   sample: int | None = lexicon.SAMPLE) -> pd.DataFrame:
        """One row per property of an event, of all events or of the profiles: types, fill rate, masked examples.

        ``sample``: of how many rows, drawn at random; None for all.
        """
        if profiles:
            return self._ask_tables(lexicon.profile_properties, self._id, sample)
        return self._ask(lexicon.event_properties, self._id, event, sample)

    def events(self, event: str, properties: Iterable[str] = (), **options: Any) -> pd.DataFrame:
        """One row per event of a name with these properties as columns. Options: see ``lexicon.events``."""
        return self._ask(lexicon.events, self._project, event, properties, **options)

    def mtu(self, **options: Any) -> pd.DataFrame:
        """One row per month: the bill in its readings, and ``as_of``. Options: see ``mtu.monthly``."""
        return self._with_as_of(self._ask_tables(mtu.monthly, self._id, **options), options.get("as_of"))

    def mtu_history(self, **options: Any) -> pd.DataFrame:
        """One row per month and change of its numbers, late merges among them. See ``mtu.history``."""
        return self._ask_tables(mtu.history, self._id, **options)

    def organisation_mtu(self, projects: Iterable[str] | None = None, **options: Any) -> pd.DataFrame:
        """One row per month: the sum over projects (default: all). See ``mtu.organisation``."""
        return self._ask_tables(mtu.organisation, projects, **options)

    def marginal_mtu(self, month: str | None = None, **options: Any) -> pd.DataFrame:
        """One row per month and event: how many users would leave the bill without it. See ``marginal.marginal``."""
        return self._ask_tables(marginal.marginal, self._id, month, **options)

    def unmarked_users(self, month: str | None = None, partners: bool = False) -> pd.DataFrame:
        """One row per month and user tracked only for want of a mark; addresses masked. See ``marginal.unmarked``."""
        return self._ask_tables(marginal.unmarked, self._id, month, partners)

    def mtu_spikes(self, by: str = "month", **options: Any) -> pd.DataFrame:
        """One row per unusual month or day and event behind it. See ``marginal.spikes``."""
        return self._ask_tables(marginal.spikes, self._id, by, **options)

    def anonymous_share(self, **options: Any) -> pd.DataFrame:
        """One row per month: how many of its users are known by a device alone. See ``mtu.anonymous``."""
        return self._ask_tables(mtu.anonymous, self._id, **options)

    def month_to_date(self, **options: Any) -> MonthToDate | None:
        """The newest month so far, where it may end, and how far off such projections were."""
        return self._ask_tables(forecast.month_to_date, self._id, **options)

    def event_classes(self) -> pd.DataFrame:
        """One row per event that is not simply qualifying, or was set by hand: ``event, class, source``."""
        return self._ask_tables(classes.listed)

    def set_class(self, event: str, to: str) -> None:
        """Say what an event counts as, one of ``classes.CLASSES``; applies at once to every month."""
        self._change(classes.set_class, self.home, event, to)

    def partners(self) -> pd.DataFrame:
        """One row per partner whose events Mixpanel exempts, and whether they are left out here."""
        return self._ask_tables(classes.partners)

    def set_partner(self, partner: str, on: bool) -> None:
        """Leave out the events that a partner's page lists as exempt, or count them again."""
        self._change(classes.set_partner, self.home, partner, on)

    def reset_classes(self) -> None:
        """Take every edit of the event classes back."""
        self._change(classes.reset, self.home)

    def followup(self, month: str | None = None) -> pd.DataFrame:
        """One row per cohort and what Mailchimp's mails led to: sent, opened, clicked, … See ``followup.followup``."""
        return self._ask_tables(followup.followup, self._id, month)

    def mailchimp_names(self) -> pd.DataFrame:
        """One row per month and page whose names for Mailchimp's events occurred: ``month, page, events``."""
        return self._ask_tables(mtu.families, self._id)

    # Mixpanel

    def connect_mixpanel(self, username: str, secret: str, project_id: str, *, region: str | None = None,
                         base_url: str | None = None, timezone: str | None = None, id_merge: str | None = None,
                         keep_secret: bool = True, assume_admin: bool = False) -> dict[str, Any]:
        """Check a service account, set its project up here, and remember the connection. See ``access.connect``."""
        return self._change(access.connect, self.home, username, secret, project_id, region=region, base_url=base_url,
                            timezone=timezone, id_merge=id_merge, keep_secret=keep_secret, assume_admin=assume_admin)

    @property
    def mixpanel_connection(self) -> dict[str, Any] | None:
        """The project's connection to Mixpanel, without its secret; None before ``connect_mixpanel``."""
        return ledger.connection(self.home, "mixpanel", self._id) if self.project else None

    def check_mixpanel(self) -> dict[str, Any]:
        """Look up again whether the service account answers, and its role; the connection as it then stands."""
        return access.check(self.home, self._id)

    @property
    def needs_vouching(self) -> bool:
        """Whether ``assume_admin`` must be said before anything is exported to a real account."""
        return access.needs_vouching(self.home, self._id)

    def assume_admin(self) -> None:
        """Vouch once for being an admin or owner of the Mixpanel project, where that cannot be looked up."""
        access.vouch(self.home, self._id)

    def plan_pull(self, **wanted: Any) -> PullPlan:
        """What a pull would ask Mixpanel for. Options: see ``agenda.Wanted``."""
        return pull.plan_pull(self.home, self._id, Wanted(**wanted))

    def pull(self, progress: Progress = silent, review: Callable[[PullPlan], None] = lambda _plan: None,
             **wanted: Any) -> PullReport:
        """Fetch cohorts, profiles and events from Mixpanel and load them; options: see ``agenda.Wanted``.

        ``review`` is shown the plan first. ``pull(cohorts=["vip"], events=False)`` refreshes one cohort alone: its
        members and their profiles.
        """
        return self._change(pull.pull, self.home, self._id, Wanted(**wanted), progress, review)

    def pulls(self) -> pd.DataFrame:
        """One row per pull of the project that ended, the latest first: ``status`` completed or failed."""
        return pull.ended(self.home, self._id)

    # Mailchimp

    def connections(self, check: bool = False) -> pd.DataFrame:
        """One row per connection: ``kind, project_id, name, role, region, status, reason, checked_at, …``.

        ``check``: look at each again first.
        """
        if check:
            connections.check(self.home)
        return pd.DataFrame(connections.listed(self.home), columns=connections.COLUMNS)

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

    def audience_read_at(self, audience_id: str) -> datetime | None:
        """When a Mailchimp audience was last read, by Mailchimp's clock (UTC); None before that."""
        return mirror.read_at(self.home, audience_id)

    def members(self, audience_id: str, **options: Any) -> pd.DataFrame:
        """One row per member of a Mailchimp audience as last read; addresses masked. See ``members.members``."""
        with self._reading() as con:
            return members.members(con, audience_id, **options)

    def member_counts(self, audience_id: str) -> pd.DataFrame:
        """One row per status in a Mailchimp audience as last read: ``status, people``."""
        with self._reading() as con:
            return members.counts(con, audience_id)

    def segments(self, audience_id: str) -> pd.DataFrame:
        """One row per segment kept for a cohort in an audience: ``cohort, name, segment_id, people`` as last read."""
        with self._reading() as con:
            return members.segments(self.home, con, audience_id)

    # plans and runs

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

    def runs(self) -> pd.DataFrame:
        """One row per run of the project, the latest first."""
        return receipts.listed(self.home, self._id if self.project else None)

    def receipt(self, run_id: str) -> dict[str, Any]:
        """What one run left behind: counts and places, no addresses."""
        return Answer(receipts.kept(self.home, run_id))

    def proof(self, run_id: str) -> pd.DataFrame:
        """Everyone of a run in a few rows: ``outcome, reason, people``; those of the cohort add up to its size."""
        return receipts.proof_table(self.home, run_id)

    def outcome(self, run_id: str, limit: int | None = None) -> pd.DataFrame:
        """What became of each person in a run, or of the first so many; addresses masked."""
        return receipts.shown_outcome(self.home, run_id, limit)

    # syncs that stand

    def status(self) -> dict[str, Any]:
        """How every sync stands and what it waits for; ``exit_status`` is 0 when all are well. See ``health.look``."""
        return health.look(self.home, self.project_id)

    def syncs(self) -> pd.DataFrame:
        """One row per sync that stands: how it stands, its last run in one line, when it is due."""
        return pd.DataFrame(orders.overview(self.home, self.project_id), columns=orders.SYNC_COLUMNS)

    def create_sync(self, cohort: str, audience_id: str, kind: str = orders.DYNAMIC, **terms: Any) -> dict[str, Any]:
        """Make a sync that stands, ``dynamic`` or ``one-time``; it is due at once. Terms: ``plan.Terms``."""
        return orders.create(self.home, self._id, cohort, audience_id, kind, asdict(Terms(**terms)))

    def find_sync(self, name: str) -> dict[str, Any]:
        """A sync by its id, or by its cohort where that has one sync alone."""
        return orders.required(self.home, name, self.project_id)

    def pause_sync(self, name: str, reason: str = "Paused by hand.") -> None:
        """Stop a sync until it is unpaused; what it had waiting for approval is dropped."""
        orders.pause(self.home, self._sync_id(name), reason)

    def unpause_sync(self, name: str) -> None:
        """Let a sync go on; what was missed meanwhile is made up for by one run."""
        orders.unpause(self.home, self._sync_id(name))

    def delete_sync(self, name: str) -> None:
        """Forget that a sync stands; its segment, the people on it and its runs stay."""
        orders.delete(self.home, self._sync_id(name))

    def sync_history(self, name: str) -> pd.DataFrame:
        """One row per run of a sync, the latest first: how it ended, why, and the counts."""
        rows = [{**row["receipt"], **row} for row in orders.history(self.home, self._sync_id(name))]
        return pd.DataFrame(rows, columns=orders.RUN_COLUMNS)

    def waiting_plan(self, name: str) -> Plan:
        """The plan with which a sync waits for approval."""
        return execution.waiting_plan(self.home, self._sync_id(name))

    def approve_sync(self, name: str, progress: Progress = silent) -> dict[str, Any]:
        """Do exactly the plan with which a sync waits; answers the receipt."""
        return execution.approve(self.home, self._sync_id(name), progress)

    def start_sync(self, name: str, run_id: str = "", due_at: str = "", progress: Progress = silent) -> Execution:
        """Begin a run of a sync, to be taken step by step. See ``execution.start``."""
        return execution.start(self.home, self._sync_id(name), run_id, due_at, progress)

    def run_sync(self, name: str, progress: Progress = silent) -> dict[str, Any]:
        """Run a sync now, as a notebook; answers how that ended. See ``schedule.run_sync``."""
        return schedule.run_sync(self.home, self._sync_id(name), progress=progress)

    def run_due(self, progress: Progress = silent) -> list[dict[str, Any]]:
        """Run every sync that is due; answers one row a run. See ``schedule.run_due``."""
        return schedule.run_due(self.home, self.project_id, progress)

    def _sync_id(self, name: str) -> str:
        return str(self.find_sync(name)["sync_id"])
