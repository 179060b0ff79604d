"""Who of a cohort Mixpanel would export to Mailchimp, and the one reason why each of the rest is not.

Source: https://docs.mixpanel.com/docs/cohort-sync/integrations/mailchimp (identified profiles whose
``$email`` is a string).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import duckdb
import pandas as pd

from cohortsync import emails
from cohortsync.errors import BadInput
from cohortsync.warehouse import sql

REASONS = ("exportable", "merged", "no_profile", "no_email", "email_not_string", "email_invalid", "duplicate_email")
EXPLAINED = {
    "exportable": "can be exported",
    "merged": "another id of the cohort is the same user",
    "no_profile": "anonymous: no profile with a property",
    "no_email": "the profile has no $email",
    "email_not_string": "$email is a list, number or object",
    "email_invalid": "$email is not a well-formed address",
    "duplicate_email": "another user of the cohort has the same address",
}


def people(con: duckdb.DuckDBPyConnection, project: dict[str, Any], cohort: str) -> pd.DataFrame:
    """One row per id of the cohort, whole addresses included: for the plan, not for showing.

    Columns: ``distinct_id, canonical_id, reason, address, first_name, last_name, last_seen_at, member_hash``
    (Mailchimp's, of the address, which is kept in lower case).
    Raises BadInput for a cohort that was never loaded.
    """
    _known(con, project, cohort)
    return con.execute(f"select *, md5(address) as member_hash from ({_asking('audience')})",
                       _values(project, cohort)).df()


def values(con: duckdb.DuckDBPyConnection, project: dict[str, Any], users: Sequence[str],
           names: Sequence[str]) -> pd.DataFrame:
    """One row per user who has a profile, by ``canonical_id``: a column a property, its value as JSON.

    None where the profile lacks it. A user's profile is the one that ``people`` takes.
    """
    if not names:
        return pd.DataFrame()
    pointers = ["/" + name.replace("~", "~0").replace("/", "~1") for name in names]
    frame = con.execute(_asking("profile_values"), {
        "project_id": project["project_id"], "original": project["id_merge"] == "original", "users": list(users),
        "pointers": pointers}).df().set_index("canonical_id")
    return pd.DataFrame({name: frame["found"].str[place] for place, name in enumerate(names)}, index=frame.index)


def preview(con: duckdb.DuckDBPyConnection, project: dict[str, Any], cohort: str, reasons: Sequence[str] = (),
            limit: int | None = None, whole: bool = False) -> pd.DataFrame:
    """As ``people``, fit to be shown: ``email`` masked in place of ``address``, project and cohort added.

    Ids that are addresses are masked too; ``people`` and SQL have them whole, and so has this when asked for
    ``whole``. ``reasons``: only these; ``limit``: only the first so many.
    """
    _reckon(con, project, cohort)
    return _preview(con, project, cohort, reasons, limit, whole)


def _preview(con: duckdb.DuckDBPyConnection, project: dict[str, Any], cohort: str, reasons: Sequence[str] = (),
             limit: int | None = None, whole: bool = False) -> pd.DataFrame:
    frame = con.execute("""from reckoned where $reasons = [] or reason in (from unnest($reasons))
        order by distinct_id limit $limit""", {"reasons": list(reasons), "limit": limit}).df()
    frame = frame.rename(columns={"address": "email"}) if whole else emails.masked(frame)
    frame.insert(0, "project_id", project["project_id"])
    frame.insert(1, "cohort", cohort)
    return frame


def summary(con: duckdb.DuckDBPyConnection, project: dict[str, Any], cohort: str) -> dict[str, Any]:
    """``project_id, cohort, size, exportable, reasons`` (reason → ids; they add up to size) and ``warning``."""
    _reckon(con, project, cohort)
    return _summary(con, project, cohort)


def _summary(con: duckdb.DuckDBPyConnection, project: dict[str, Any], cohort: str) -> dict[str, Any]:
    rows = con.execute("""select reason, count(*), count(*) filter (canonical_id is distinct from address)
        from reckoned group by reason""").fetchall()
    found = {reason: (ids, others) for reason, ids, others in rows}
    reasons = {reason: found.get(reason, (0, 0))[0] for reason in REASONS}
    return {"project_id": project["project_id"], "cohort": cohort, "size": sum(reasons.values()),
            "exportable": reasons["exportable"], "reasons": reasons,
            "warning": _warning(project, *found.get("exportable", (0, 0)))}


def standing(con: duckdb.DuckDBPyConnection, project: dict[str, Any], cohort: str) -> pd.DataFrame:
    """How the exportable users stand in each Mailchimp audience, as it was last read.

    Columns: ``audience_id, status`` (``not in it``: new to it), ``people``.
    """
    _reckon(con, project, cohort)
    return con.execute(sql("standing")).df()


def at_once(con: duckdb.DuckDBPyConnection, project: dict[str, Any], cohort: str,
            **options: Any) -> tuple[dict[str, Any], pd.DataFrame, pd.DataFrame]:
    """``summary``, ``standing`` and ``preview`` (with these options) of a cohort whose people are reckoned once."""
    _reckon(con, project, cohort)
    return _summary(con, project, cohort), con.execute(sql("standing")).df(), _preview(con, project, cohort, **options)


def _reckon(con: duckdb.DuckDBPyConnection, project: dict[str, Any], cohort: str) -> None:
    """The people of a cohort as a table of this connection alone, to be asked several questions."""
    _known(con, project, cohort)
    con.execute(f"create or replace temp table reckoned as {_asking('audience')}", _values(project, cohort))


def _asking(name: str) -> str:
    """A statement, and in it the one that says through which profile a user is seen."""
    return sql(name).replace("($seen_profiles)", f"({sql('seen_profiles')})")


def _values(project: dict[str, Any], cohort: str) -> dict[str, Any]:
    return {"project_id": project["project_id"], "cohort": cohort, "original": project["id_merge"] == "original"}


def cohorts(con: duckdb.DuckDBPyConnection, project: dict[str, Any]) -> pd.DataFrame:
    """One row per cohort: ``project_id, cohort, size, exportable, loaded_at`` (UTC)."""
    frame = con.execute(sql("cohorts"), {"project_id": project["project_id"]}).df()
    exportable = [summary(con, project, cohort)["exportable"] for cohort in frame["cohort"]]
    frame.insert(3, "exportable", pd.Series(exportable, dtype="int64"))
    return frame


def names(con: duckdb.DuckDBPyConnection, project_id: str) -> list[str]:
    """The cohorts by name."""
    return [name for (name,) in con.execute("select cohort from cohorts where project_id = ? order by cohort",
                                            [project_id]).fetchall()]


def largest(con: duckdb.DuckDBPyConnection, project: dict[str, Any]) -> str:
    """The cohort with the most exportable users; raises BadInput where none is loaded."""
    frame = cohorts(con, project).sort_values(["exportable", "cohort"], ascending=[False, True])
    if frame.empty:
        raise BadInput("No cohort is loaded yet. Load one with: cohortsync load --cohort NAME=FILE")
    return str(frame["cohort"].iloc[0])


def id_warning(project: dict[str, Any], frame: pd.DataFrame) -> str | None:
    """What a simplified project should know before it exports: whose ``$user_id`` is not the address sent.

    ``frame``: rows of ``people``. None where it does not apply or nobody is concerned.
    """
    exported = frame[frame["reason"] == "exportable"]
    return _warning(project, len(exported), int((exported["canonical_id"] != exported["address"]).sum()))


def _warning(project: dict[str, Any], exportable: int, others: int) -> str | None:
    if project["id_merge"] != "simplified" or not others:
        return None
    return (f"{others:,} of {exportable:,} exportable users have a $user_id that is not the address sent to "
            "Mailchimp. Under Simplified ID Merge, events that come back under the address become users of their "
            "own and never reach these.")


def _known(con: duckdb.DuckDBPyConnection, project: dict[str, Any], cohort: str) -> None:
    known = names(con, project["project_id"])
    if cohort not in known:
        have = ", ".join(known) or "none yet; load one with: cohortsync load --cohort NAME=FILE"
        raise BadInput(f"There is no cohort {cohort!r} here. Cohorts: {have}.")
