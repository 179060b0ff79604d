"""The connections of a workspace: those to Mixpanel and the one to Mailchimp, as they stand."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from cohortsync import access, account, ledger
from cohortsync.errors import ApiFinal

COLUMNS = ["kind", "project_id", "name", "role", "region", "status", "reason", "checked_at", "host", "rehearsal"]


def listed(home: Path) -> list[dict[str, Any]]:
    """Each connection as ``COLUMNS`` name it."""
    rows = [{**access.shown(row), "name": row["account_name"], "rehearsal": bool(row["rehearsal"])}
            for row in ledger.connections(home)]
    return [{name: row[name] for name in COLUMNS} for row in rows]


def check(home: Path) -> None:
    """Ask both sides whether they still answer; how each connection stands then is noted on it.

    Raises ApiTransient where one cannot be reached.
    """
    for row in ledger.connections(home):
        if row["kind"] == "mixpanel":
            access.check(home, row["project_id"])
        elif row["kind"] == "mailchimp":
            with suppress(ApiFinal):  # noted on the connection
                account.check_connection(home)
