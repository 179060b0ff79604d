"""Cohorts over time and against each other, and cohorts that are defined here, in SQL.

Source: https://docs.mixpanel.com/docs/users/cohorts (a cohort is who fits as of now; it keeps no history).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pandas as pd
import pyarrow as pa

from cohortsync import emails, ledger, lexicon
from cohortsync.drafts import Draft, drafting, proofreading
from cohortsync.errors import BadInput
from cohortsync.warehouse import attached, lock_down, quoted, select_only, sql

Moment = str | date | datetime


def checked_name(name: str) -> str:
    """The name itself when it can name a cohort; raises BadInput."""
    if not name.strip() or len(name) > 255 or not name.isprintable():
        raise BadInput(f"{name!r} cannot name a cohort: use 1 to 255 printable characters.")
    return name


def known_as(home: Path, project_id: str, cohort_id: str, name: str) -> str:
    """The name that a cohort of Mixpanel's goes by here, whichever way it comes: its first one, see ``ledger``.

    Its id is added where a cohort defined here has that name, and stands in for a name that can name none.
    """
    try:
        name = checked_name(name)
    except BadInput:
        name = f"cohort {cohort_id}"
    with attached(home) as con:
        defined = con.execute("select 1 from cohort_definitions where (project_id, cohort) = (?, ?)",
                              [project_id, name]).fetchall()
    return ledger.name_cohort(home, project_id, cohort_id, f"{name} ({cohort_id})" if defined else name)


# arithmetic

def history(con: duckdb.DuckDBPyConnection, project_id: str, cohort: str) -> pd.DataFrame:
    """One row per snapshot: ``project_id, cohort, load_id, loaded_at, size, entered, left``, the oldest first.

    ``entered`` and ``left`` are ids, against the snapshot before. Raises BadInput for an unknown cohort.
    """
    _known(con, project_id, [cohort])
    return con.execute(sql("cohort_history"), {"project_id": project_id, "cohort": cohort}).df()


def overlap(con: duckdb.DuckDBPyConnection, project_id: str, cohorts: Sequence[str] = ()) -> pd.DataFrame:
    """One row per pair of cohorts, in the order given; of all cohorts when none is named.

    Columns: ``project_id, cohort, other, users, other_users, ids_in_both, users_in_both, share, other_share``:
    users are canonical, and the shares are of each cohort's users. Raises BadInput for an unknown cohort.
    """
    have = _known(con, project_id, cohorts)
    names = list(dict.fromkeys(cohorts)) or have
    if len(names) < 2 and cohorts:
        raise BadInput("An overlap is of two cohorts or more. Name another one.")
    return con.execute(sql("cohort_overlap"), {"project_id": project_id, "cohorts": names}).df()


def changes(con: duckdb.DuckDBPyConnection, project: dict[str, Any], cohort: str, since: Moment | None = None,
            until: Moment | None = None) -> pd.DataFrame:
    """One row per id that entered or left a cohort between two moments, and why.

    The cohort is compared as it was last loaded at either moment: ``until`` is now and ``since`` the snapshot
    before it, unless said. A day means its end in the project's zone; an instant without a zone is UTC.

    Columns: ``project_id, cohort, change`` (entered or left), ``distinct_id, canonical_id, reason, name,
    before, after, share_moved, share_others``. The reason is ``merged`` when the same user is in both under
    another id; else ``property`` or ``event``, whichever of what changed about the user or what the user did
    sets those who moved most apart from those who did not (``share_moved`` less ``share_others``; those who
    stayed for who left, those who stayed out for who entered); else ``unknown``. Addresses and tokens are
    masked. Raises BadInput for an unknown cohort or a moment before its first snapshot.
    """
    _known(con, project["project_id"], [cohort])
    older, newer = _two_snapshots(con, project, cohort, since, until)
    zone = ZoneInfo(project["timezone"])
    first_on, last_on = (moment.replace(tzinfo=UTC).astimezone(zone).date() for _, moment in (older, newer))
    frame = con.execute(sql("cohort_changes"), {
        "project_id": project["project_id"], "cohort": cohort, "since_load": older[0], "since": older[1],
        "until_load": newer[0], "until": newer[1], "first_on": first_on, "last_on": last_on}).df()
    for column, show in {"distinct_id": emails.scrub, "canonical_id": emails.scrub, "before": lexicon.shown,
                         "after": lexicon.shown}.items():
        frame[column] = frame[column].map(show, na_action="ignore").astype("str")
    return frame


def _two_snapshots(con: duckdb.DuckDBPyConnection, project: dict[str, Any], cohort: str, since: Moment | None,
                   until: Moment | None) -> list[tuple[int, datetime]]:
    """``(load_id, loaded_at)`` of the cohort as it stood at two moments."""
    snapshots = con.execute("""select load_id, loaded_at from cohort_sizes where project_id = ? and cohort = ?
                               order by loaded_at, load_id""", [project["project_id"], cohort]).fetchall()
    last = _as_of(snapshots, until, project["timezone"], cohort)
    first = max(last - 1, 0) if since is None else _as_of(snapshots, since, project["timezone"], cohort)
    if first > last:
        raise BadInput(f"The time span ends ({until}) before it begins ({since}).")
    return [snapshots[first], snapshots[last]]


def _as_of(snapshots: list[tuple[int, datetime]], moment: Moment | None, timezone: str, cohort: str) -> int:
    """The place of the last snapshot that is not later than the moment."""
    if moment is None:
        return len(snapshots) - 1
    instant = _instant(moment, timezone)
    loaded = [place for place, (_, loaded_at) in enumerate(snapshots) if loaded_at <= instant]
    if not loaded:
        raise BadInput(f"The cohort {cohort!r} was first loaded at {snapshots[0][1]:%Y-%m-%d %H:%M} UTC; "
                       f"nothing is known of it at {moment}.")
    return loaded[-1]


def _instant(moment: Moment, timezone: str) -> datetime:
    """A moment as naive UTC; a day is its end in the project's zone."""
    try:
        if isinstance(moment, str):
            moment = date.fromisoformat(moment) if len(moment) == 10 else datetime.fromisoformat(moment)
        if not isinstance(moment, datetime):
            midnight = datetime.combine(moment + timedelta(days=1), time.min, ZoneInfo(timezone))
            moment = midnight - timedelta(microseconds=1)
        return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
    except (ValueError, OverflowError):
        raise BadInput(f"{str(moment)!r} is no date. Write 2026-10-31 or 2026-10-31T18:00:00+02:00.") from None


def _known(con: duckdb.DuckDBPyConnection, project_id: str, cohorts: Sequence[str]) -> list[str]:
    """The cohorts there are; raises BadInput when one of those named is not among them."""
    have = [name for (name,) in con.execute("select cohort from cohorts where project_id = ? order by cohort",
                                            [project_id]).fetchall()]
    for name in cohorts:
        if name not in have:
            raise BadInput(f"There is no cohort {name!r} here. Cohorts: {', '.join(have) or 'none yet'}.")
    return have


# what a load keeps

def record_profile_changes(con: duckdb.DuckDBPyConnection, load_id: int, loaded_at: datetime) -> None:
    """Keep what the profiles in ``new_profiles`` are about to change in ``generation.profiles``."""
    con.execute(f"insert into generation.profile_changes {sql('profile_changes')}",
                {"load_id": load_id, "changed_at": loaded_at})


def write_members(con: duckdb.DuckDBPyConnection, project_id: str, cohort: str, load_id: int,
                  loaded_at: datetime) -> None:
    """Make the ids of the table ``members`` the cohort's members, and keep them as a snapshot."""
    key, stamp = [project_id, cohort], [project_id, cohort, load_id, loaded_at]
    for table in ("cohort_members", "cohorts"):
        con.execute(f"delete from generation.{table} where project_id = ? and cohort = ?", key)
    con.execute("insert into generation.cohort_members select ?, ?, distinct_id from members", key)
    con.execute("insert into generation.cohort_snapshots select ?, ?, ?, ?, distinct_id from members", stamp)
    for table in ("cohorts", "cohort_sizes"):
        con.execute(f"insert into generation.{table} select ?, ?, ?, ?, count(*) from members", stamp)


# definitions

def define(home: Path, project_id: str, cohort: str, query: str) -> dict[str, Any]:
    """Keep a cohort's definition and reckon its members, all or nothing; answers its row of ``recompute``.

    ``query``: one SELECT with a column ``distinct_id``; it sees the project's tables and nothing else.
    A cohort defined before is defined anew. Raises BadInput for a question that cannot be answered, or a name
    that a loaded cohort has.
    """
    select_only(query)
    with drafting(home, project_id) as draft:
        _keep_definition(draft.con, project_id, checked_name(cohort), query)
        [row] = [row for row in recompute_draft(draft, *_new_load(draft.con)) if row["cohort"] == cohort]
        if row["failure"]:
            raise BadInput(row["failure"])
        return row


def _keep_definition(con: duckdb.DuckDBPyConnection, project_id: str, cohort: str, query: str) -> None:
    """One defined before stays in its place: those defined after it may be asking for its members."""
    key = [project_id, cohort]
    where = "where project_id = ? and cohort = ?"
    if con.execute(f"select 1 from generation.cohort_definitions {where}", key).fetchall():
        con.execute(f"update generation.cohort_definitions set sql = ? {where}", [query, *key])
        return
    if con.execute(f"select 1 from generation.cohorts {where}", key).fetchall():
        raise BadInput(f"{cohort!r} is a cohort loaded from a file. Give the definition another name.")
    con.execute("insert into generation.cohort_definitions values (?, ?, ?, ?, null)",
                [*key, query, datetime.now(UTC).replace(tzinfo=None)])


def undefine(home: Path, project_id: str, cohort: str) -> None:
    """Forget a definition and its members; the snapshots of it stay. Raises BadInput when there is none."""
    with drafting(home, project_id) as draft:
        key = [project_id, cohort]
        if not draft.con.execute("""delete from generation.cohort_definitions where project_id = ? and cohort = ?
                                    returning cohort""", key).fetchall():
            raise BadInput(f"There is no definition of a cohort {cohort!r} here.")
        for table in ("cohort_members", "cohorts"):
            draft.con.execute(f"delete from generation.{table} where project_id = ? and cohort = ?", key)


def refuse_defined(con: duckdb.DuckDBPyConnection, project_id: str, cohort: str) -> None:
    """Raise BadInput for a file of a cohort that is defined here: the next load would undo it."""
    if con.execute("select 1 from generation.cohort_definitions where project_id = ? and cohort = ?",
                   [project_id, cohort]).fetchall():
        raise BadInput(f"{cohort!r} is defined in SQL. Load the file under another name, or first: "
                       f"cohortsync cohort undefine {cohort}")


def definitions(con: duckdb.DuckDBPyConnection, project_id: str) -> pd.DataFrame:
    """One row per cohort defined here: ``project_id, cohort, sql, defined_at, failure, size, loaded_at``.

    ``failure``: why it could not be reckoned last time (then size and members are older); else null.
    """
    frame = con.execute("""select d.*, c.size, c.loaded_at from cohort_definitions d
        left join cohorts c on c.project_id = d.project_id and c.cohort = d.cohort
        where d.project_id = ? order by d.defined_at, d.cohort""", [project_id]).df()
    frame["sql"] = frame["sql"].map(emails.scrub)
    return frame


def recompute(home: Path, project_id: str) -> pd.DataFrame:
    """Reckon every cohort defined here anew; one row each: ``project_id, cohort, size, failure``."""
    with drafting(home, project_id) as draft:
        rows = recompute_draft(draft, *_new_load(draft.con))
        draft.unchanged = not rows
    return pd.DataFrame(rows, columns=["project_id", "cohort", "size", "failure"])


def recompute_draft(draft: Draft, load_id: int, loaded_at: datetime) -> list[dict[str, Any]]:
    """``recompute`` as the last step of a load, on what it has written so far; one row per definition.

    Definitions are reckoned in the order in which they were made, so that one may ask for the members of
    those before it. One that fails keeps its last members, and its ``failure`` is kept beside it.
    """
    rows = draft.con.execute("""select cohort, sql from generation.cohort_definitions where project_id = ?
                                order by defined_at, cohort""", [draft.project["project_id"]]).fetchall()
    return [_recompute_one(draft, cohort, query, load_id, loaded_at) for cohort, query in rows]


def _recompute_one(draft: Draft, cohort: str, query: str, load_id: int, loaded_at: datetime) -> dict[str, Any]:
    con, project_id = draft.con, draft.project["project_id"]
    key = [project_id, cohort]
    failure = None
    try:
        found = _answer(draft, project_id, query)
    except BadInput as error:
        failure = str(error)
    else:
        con.register("found", found)
        con.execute("create or replace temp table members as "
                    "select distinct distinct_id from found where valid_id(distinct_id) is not null")
        con.unregister("found")
        if _are_members(con, project_id, cohort):
            con.execute("update generation.cohorts set load_id = ?, loaded_at = ? where project_id = ? and cohort = ?",
                        [load_id, loaded_at, *key])
        else:
            write_members(con, project_id, cohort, load_id, loaded_at)
    con.execute("update generation.cohort_definitions set failure = ? where project_id = ? and cohort = ?",
                [failure, *key])
    size = con.execute("select size from generation.cohorts where project_id = ? and cohort = ?", key).fetchall()
    return {"project_id": project_id, "cohort": cohort, "size": size[0][0] if size else 0, "failure": failure}


def _are_members(con: duckdb.DuckDBPyConnection, project_id: str, cohort: str) -> bool:
    """Whether the ids of the table ``members`` are the cohort's members already: then there is no new snapshot."""
    return bool(con.execute("""select size = (select count(*) from members) and size = (
            select count(*) from members join generation.cohort_members m using (distinct_id)
            where m.project_id = c.project_id and m.cohort = c.cohort)
        from generation.cohorts c where project_id = ? and cohort = ?""", [project_id, cohort]).fetchall() == [(True,)])


def _answer(draft: Draft, project_id: str, query: str) -> pa.Table:
    """The ids that a definition names, asked of what is written so far; raises BadInput."""
    with proofreading(draft) as con:
        _show_only(con, project_id)
        lock_down(con, draft.home)
        try:
            answer = con.sql(select_only(query))
            if "distinct_id" not in answer.columns:
                raise BadInput("The definition answers no column distinct_id; it has "
                               f"{', '.join(answer.columns)}.")
            return answer.project("distinct_id::varchar as distinct_id").distinct().to_arrow_table()
        except duckdb.Error as error:
            raise BadInput(f"The definition cannot be reckoned: {emails.scrub(str(error))}") from None


def _show_only(con: duckdb.DuckDBPyConnection, project_id: str) -> None:
    """Let every table's bare name stand for the rows of one project."""
    con.execute("create schema project")
    for (table,) in con.execute("""select table_name from duckdb_columns() where column_name = 'project_id'
            and schema_name = 'main' and database_name = current_database() and not internal""").fetchall():
        con.execute(f"create view project.{table} as from memory.main.{table} where project_id = {quoted(project_id)}")
    con.execute("set search_path = 'memory.project,memory.main'")


def _new_load(con: duckdb.DuckDBPyConnection) -> tuple[int, datetime]:
    """A load of no file: what is reckoned without one has its place in time too."""
    con.execute(sql("macros"))
    loaded_at = datetime.now(UTC).replace(tzinfo=None)
    load_id = con.execute("select 1 + coalesce(max(load_id), 0) from generation.loads").fetchall()[0][0]
    con.execute("insert into generation.loads values (?, ?)", [load_id, loaded_at])
    return load_id, loaded_at
