"""Syncs that stand: a cohort, an audience, one-time or dynamic; what is due of them, and what became of it.

A dynamic sync is due every two hours from when it was made. What was missed while the machine was off is made up for
by one run; what waits for a person is never due.
Source: https://docs.mixpanel.com/docs/cohort-sync
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import portalocker

from cohortsync import account, audience, config, ledger, warehouse
from cohortsync.config import Settings
from cohortsync.disk import AT_ONCE
from cohortsync.errors import ApiTransient, BadInput

ONE_TIME, DYNAMIC = "one-time", "dynamic"
ACTIVE, PAUSED, NEEDS_APPROVAL, DONE = "Active", "Paused", "Needs approval", "Done"
AT_WORK = "at work"
SYNC_COLUMNS = ["sync_id", "project_id", "cohort", "audience_id", "audience_name", "kind", "status", "reason",
                "last_run", "last_completed_at", "due_at", "plan_run_id", "created_at", "rehearsal"]
RUN_COLUMNS = ["run_id", "status", "reason", "started_at", "finished_at", "added", "kept", "removed", "refused"]


# made, paused, deleted

def create(home: Path, project_id: str, cohort: str, audience_id: str, kind: str = DYNAMIC,
           terms: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A sync that stands from now on, due at once; asks Mailchimp for the audience's name.

    ``cohort``: by its name here, or its id in Mixpanel; ``terms``: what ``plan.Terms`` takes.
    Raises BadInput for a cohort or audience there is none of, one that has its sync already, and more dynamic ones
    than the setting allows.
    """
    if kind not in (ONE_TIME, DYNAMIC):
        raise BadInput(f"A sync cannot be {kind!r}; choose {ONE_TIME} or {DYNAMIC}.")
    name, cohort_id = _named(home, project_id, cohort)
    connection = account.check_connection(home)
    audiences = {row["audience_id"]: row["name"] for row in connection["audiences"]}
    if audience_id not in audiences:
        raise BadInput(f"The account has no audience {audience_id!r}. It has: "
                       f"{', '.join(f'{key} ({name})' for key, name in audiences.items())}.")
    row = {"sync_id": f"s-{secrets.token_hex(3)}", "project_id": project_id, "cohort": name, "cohort_id": cohort_id,
           "account_id": connection["account_id"], "account_name": connection["account_name"],
           "audience_id": audience_id, "audience_name": audiences[audience_id], "rehearsal": connection["rehearsal"],
           "kind": kind, "status": ACTIVE, "reason": "", "plan_run_id": "", "created_at": ledger.now(),
           "due_at": ledger.now(), "terms": json.dumps(terms or {})}
    _insert(home, row)
    return required(home, row["sync_id"])


def _named(home: Path, project_id: str, cohort: str) -> tuple[str, str]:
    """A cohort's name here and its id in Mixpanel, blank where it has none."""
    with warehouse.attached(home) as con:
        loaded = audience.names(con, project_id)
    with ledger.state(home) as con:
        ids = {row["cohort"]: row["cohort_id"] for row in con.execute(
            "select * from mixpanel_cohorts where project_id = ?", (project_id,))}
    for name in dict.fromkeys([*loaded, *ids]):
        if cohort in (name, ids.get(name)):
            return name, ids.get(name, "")
    raise BadInput(f"There is no cohort {cohort!r} here. Cohorts: {', '.join(loaded) or 'none yet'}.")


def _insert(home: Path, row: Mapping[str, Any]) -> None:
    limit = Settings().dynamic_syncs
    with ledger.state(home) as con, ledger.transaction(con):
        same = con.execute("""select sync_id from syncs where project_id = :project_id and cohort = :cohort
            and account_id = :account_id and audience_id = :audience_id""", dict(row)).fetchone()
        if same:
            raise BadInput(f"{row['cohort']} has its sync to {row['audience_name']} already: {same['sync_id']}. "
                           f"Delete that first: cohortsync syncs delete {same['sync_id']}")
        dynamic = con.execute("select count(*) as n from syncs where project_id = ? and kind = ?",
                              (row["project_id"], DYNAMIC)).fetchone()["n"]
        if row["kind"] == DYNAMIC and dynamic >= limit:
            raise BadInput(f"The project has {dynamic} dynamic syncs, and {limit} is the most (Mixpanel's own "
                           "integration stops at 60). Delete one, or allow more with COHORTSYNC_DYNAMIC_SYNCS.")
        con.execute(f"insert into syncs ({', '.join(row)}) values ({', '.join('?' * len(row))})", tuple(row.values()))


def listed(home: Path, project_id: str | None = None) -> list[dict[str, Any]]:
    """Every sync as it stands, the oldest first; of one project or of all."""
    with ledger.state(home) as con:
        rows = con.execute("select * from syncs where ? in (project_id, '') order by created_at, sync_id",
                           (project_id or "",))
        return [dict(row) for row in rows]


def required(home: Path, name: str, project_id: str | None = None) -> dict[str, Any]:
    """The sync of this id, or of this cohort where that has one sync alone. Raises BadInput."""
    rows = listed(home, project_id)
    found = [row for row in rows if name == row["sync_id"]] or [row for row in rows if name == row["cohort"]]
    if len(found) == 1:
        return found[0]
    of_these = ", ".join(f"{row['sync_id']} ({row['cohort']} → {row['audience_name']})" for row in found or rows)
    what = f"Several syncs are meant by {name!r}" if found else f"There is no sync {name!r}"
    raise BadInput(f"{what}. Name one of: {of_these or 'none yet; make one with: cohortsync syncs create'}.")


def record_status(home: Path, sync_id: str, status: str, reason: str = "", plan_run_id: str = "") -> None:
    """Say how a sync stands from now on: Active, Paused with the reason, or waiting for approval of a plan."""
    with ledger.state(home) as con:
        con.execute("update syncs set status = ?, reason = ?, plan_run_id = ? where sync_id = ?",
                    (status, reason, plan_run_id, sync_id))


def pause(home: Path, sync_id: str, reason: str) -> None:
    """Stop a sync until somebody unpauses it; what it had waiting for approval is dropped."""
    record_status(home, sync_id, PAUSED, reason)


def pause_project(home: Path, project_id: str, reason: str) -> list[dict[str, Any]]:
    """Pause every dynamic sync of a project that is not paused yet; answers those."""
    concerned = [row for row in listed(home, project_id) if row["kind"] == DYNAMIC and row["status"] != PAUSED]
    for row in concerned:
        pause(home, row["sync_id"], reason)
    return concerned


def pause_undone(home: Path, project_id: str, cohort: str, audience_id: str, run_id: str) -> list[dict[str, Any]]:
    """Pause the syncs that would do at once what is being taken back; answers those."""
    concerned = [row for row in listed(home, project_id) if row["status"] not in (PAUSED, DONE)
                 and (row["cohort"], row["audience_id"]) == (cohort, audience_id)]
    for row in concerned:
        pause(home, row["sync_id"], f"Run {run_id} was undone. Unpausing does again what the cohort says.")
    return concerned


def unpause(home: Path, sync_id: str) -> None:
    """Let a sync go on; what was missed meanwhile is made up for by one run."""
    row = required(home, sync_id)
    if row["status"] in (ACTIVE, DONE):
        raise BadInput(f"{row['sync_id']} ({row['cohort']} → {row['audience_name']}) is not paused: {row['status']}.")
    record_status(home, row["sync_id"], ACTIVE)


def delete(home: Path, sync_id: str) -> None:
    """Forget that a sync stands; its segment, its people there and its runs stay."""
    with hold(home, sync_id), ledger.state(home) as con:
        con.execute("delete from syncs where sync_id = ?", (sync_id,))


# what is due

def next_due(due_at: datetime, at: datetime, every: timedelta) -> datetime:
    """The first slot after ``at`` that is a whole number of intervals from ``due_at``; itself when that is to come."""
    return due_at if due_at > at else due_at + every * ((at - due_at) // every + 1)


def due(home: Path, project_id: str | None = None) -> list[dict[str, Any]]:
    """The syncs that are due now, the longest waiting first."""
    now = ledger.now()
    rows = [row for row in listed(home, project_id) if row["status"] == ACTIVE and row["due_at"] <= now]
    return sorted(rows, key=lambda row: (row["due_at"], row["sync_id"]))


@contextmanager
def hold(home: Path, sync_id: str) -> Iterator[None]:
    """Hold a sync for as long as this process works at it; the kernel frees it with the process.

    Raises ApiTransient while another process does.
    """
    path = config.private_folder(home / "syncs") / f"{sync_id}.lock"
    with path.open("a+") as file:
        try:
            portalocker.lock(file, AT_ONCE)
        except portalocker.LockException:
            raise ApiTransient(f"The sync {sync_id} is at work already. Wait until that run has finished.") from None
        yield


# its runs

def begin(home: Path, sync: Mapping[str, Any], run_id: str, due_at: str = "") -> None:
    """Note that a run begins, and when the next is due; call while holding the sync.

    ``due_at``: the slot that the run is for; blank for one that somebody asked for. Raises ApiTransient when another
    run was for that slot.
    """
    now, every = ledger.now(), timedelta(seconds=Settings().interval_seconds)
    following = next_due(datetime.fromisoformat(sync["due_at"]), datetime.now(UTC), every).isoformat(
        timespec="milliseconds")
    with ledger.state(home) as con, ledger.transaction(con):
        con.execute("update sync_runs set status = 'interrupted', finished_at = ? where sync_id = ? and status = ?",
                    (now, sync["sync_id"], AT_WORK))
        taken = con.execute("update syncs set due_at = ? where sync_id = ? and due_at = ?",
                            (following, sync["sync_id"], due_at or sync["due_at"])).rowcount
        if not taken:
            raise ApiTransient(f"What was due of the sync {sync['sync_id']} has been done meanwhile.")
        con.execute("insert into sync_runs values (?, ?, ?, '', ?, null, '{}')",
                    (run_id, sync["sync_id"], AT_WORK, now))


def end(home: Path, run_id: str, status: str, reason: str = "", receipt: Mapping[str, Any] | None = None) -> None:
    """Note how a run ended; one that had ended already stays as it is."""
    with ledger.state(home) as con:
        con.execute("update sync_runs set status = ?, reason = ?, finished_at = ?, receipt = ? where run_id = ? "
                    "and status = ?", (status, reason, ledger.now(), json.dumps(receipt or {}), run_id, AT_WORK))


def due_again(home: Path, sync_id: str) -> None:
    """Make a sync due at once: its last run left something to finish."""
    with ledger.state(home) as con:
        con.execute("update syncs set due_at = ? where sync_id = ?", (ledger.now(), sync_id))


def recover(home: Path) -> None:
    """Close the runs whose process is gone, and make their syncs due at once."""
    with ledger.state(home) as con:
        at_work = {row["sync_id"]: row["run_id"] for row in con.execute(
            "select * from sync_runs join syncs using (sync_id) where sync_runs.status = ?", (AT_WORK,))}
    for sync_id, run_id in at_work.items():
        with suppress(ApiTransient), hold(home, sync_id):
            end(home, run_id, "interrupted", "Its process ended.")
            due_again(home, sync_id)


def run(home: Path, run_id: str) -> dict[str, Any] | None:
    """One run with its receipt as a dict; None when it never began."""
    with ledger.state(home) as con:
        row = con.execute("select * from sync_runs where run_id = ?", (run_id,)).fetchone()
    return {**row, "receipt": json.loads(row["receipt"])} if row else None


def history(home: Path, sync_id: str, most: int = -1) -> list[dict[str, Any]]:
    """The runs of a sync, the latest first, each with its receipt as a dict; all, or so many at most."""
    with ledger.state(home) as con:
        rows = con.execute("select * from sync_runs where sync_id = ? order by started_at desc, run_id desc limit ?",
                           (sync_id, most)).fetchall()
    return [{**row, "receipt": json.loads(row["receipt"])} for row in rows]


def last_whole(home: Path, sync_id: str) -> str:
    """When a sync last ran to its end; blank before it ever did."""
    with ledger.state(home) as con:
        row = con.execute("select max(finished_at) as at from sync_runs where sync_id = ? and status = 'completed'",
                          (sync_id,)).fetchone()
    return row["at"] or ""


def overview(home: Path, project_id: str | None = None) -> list[dict[str, Any]]:
    """Every sync with its last run in one line, as ``SYNC_COLUMNS``."""
    at = datetime.now(UTC)
    rows = [{**row, "last_run": status_line(next(iter(history(home, row["sync_id"], 1)), None), at),
             "last_completed_at": last_whole(home, row["sync_id"]), "rehearsal": bool(row["rehearsal"])}
            for row in listed(home, project_id)]
    return [{name: row[name] for name in SYNC_COLUMNS} for row in rows]


def status_line(last: Mapping[str, Any] | None, at: datetime) -> str:
    """A run in one line, as people know it: ``Completed · 20 minutes ago · 3,014 processed · 0 removed``."""
    if last is None:
        return "Never run"
    parts = [last["status"].capitalize(), ago(datetime.fromisoformat(last["finished_at"] or last["started_at"]), at)]
    if "added" in last["receipt"]:
        receipt = last["receipt"]
        processed = receipt["added"] + receipt["kept"] + receipt["refused"]
        parts += [f"{processed:,} processed", f"{receipt['removed']:,} removed"]
    return " · ".join([*parts, *filter(None, [last["reason"]])])


def ago(then: datetime, at: datetime) -> str:
    """How long ago, in the largest whole unit."""
    seconds = (at - then).total_seconds()
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= size:
            number = int(seconds // size)
            return f"{number} {unit}{'s' * (number != 1)} ago"
    return "just now"
