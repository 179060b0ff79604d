"""Who of a cohort Mixpanel would export to Mailchimp, and the one reason why each of the rest is not.

Source: https://docs.mixpanel.com/docs/cohort-sync/integrations/mailchimp (identified profiles whose
``$email`` is a string).
"""

from __future__ import annotations

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

    Columns: ``distinct_id, canonical_id, reason, address, first_name, last_name, last_seen_at``.
    Raises BadInput for a cohort that was never loaded.
    """
    _known(con, project, cohort)
    return con.execute(sql("audience"), {"project_id": project["project_id"], "cohort": cohort,
                                         "original": project["id_merge"] == "original"}).df()


def preview(con: duckdb.DuckDBPyConnection, project: dict[str, Any], cohort: str) -> pd.DataFrame:
    """As ``people``, fit to be shown: ``email`` masked in place of ``address``, project and cohort added.

    Ids that are addresses are masked too; ``people`` and SQL have them whole.
    """
    frame = emails.masked(people(con, project, cohort))
    frame.insert(0, "project_id", project["project_id"])
    frame.insert(1, "cohort", cohort)
    return frame


def summary(con: duckdb.DuckDBPyConnection, project: dict[str, Any], cohort: str) -> dict[str, Any]:
    """``{"project_id", "cohort", "size", "exportable", "reasons": {reason: people}}``; reasons add up to size."""
    return summarise(project, cohort, people(con, project, cohort))


def summarise(project: dict[str, Any], cohort: str, frame: pd.DataFrame) -> dict[str, Any]:
    """``summary`` of rows of ``people`` already at hand."""
    counts = frame["reason"].value_counts()
    reasons = {reason: int(counts.get(reason, 0)) for reason in REASONS}
    return {"project_id": project["project_id"], "cohort": cohort, "size": len(frame),
            "exportable": reasons["exportable"], "reasons": reasons}


def cohorts(con: duckdb.DuckDBPyConnection, project: dict[str, Any]) -> pd.DataFrame:
    """One row per cohort: ``project_id, cohort, size, exportable, loaded_at`` (UTC)."""
    frame = con.execute(sql("cohorts"), {"project_id": project["project_id"]}).df()
    exportable = [summary(con, project, cohort)["exportable"] for cohort in frame["cohort"]]
    frame.insert(3, "exportable", pd.Series(exportable, dtype="int64"))
    return frame


def id_warning(project: dict[str, Any], frame: pd.DataFrame) -> str | None:
    """What a simplified project should know before it exports: whose ``$user_id`` is not the address sent.

    ``frame``: rows of ``people``. None where it does not apply or nobody is concerned.
    """
    if project["id_merge"] != "simplified":
        return None
    exported = frame[frame["reason"] == "exportable"]
    others = int((exported["canonical_id"] != exported["address"]).sum())
    if not others:
        return None
    return (f"{others:,} of {len(exported):,} exportable users have a $user_id that is not the address sent to "
            "Mailchimp. Under Simplified ID Merge, events that come back under the address become users of their "
            "own and never reach these.")


def _known(con: duckdb.DuckDBPyConnection, project: dict[str, Any], cohort: str) -> None:
    names = [name for (name,) in con.execute("select cohort from cohorts where project_id = ? order by cohort",
                                             (project["project_id"],)).fetchall()]
    if cohort not in names:
        have = ", ".join(names) or "none yet; load one with: cohortsync load --cohort NAME=FILE"
        raise BadInput(f"There is no cohort {cohort!r} here. Cohorts: {have}.")
