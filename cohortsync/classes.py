"""Event classes: which events make a user tracked, as data that can be edited.

An event name stands in the table ``event_classes`` with its class; one that does not stand there qualifies.
An edit writes a new generation and derives from activity again, so it applies at once to every month.
Sources: https://docs.mixpanel.com/docs/pricing/legacy-mtu-billing for what ships, and each partner's page
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pandas as pd

from cohortsync import clock, ledger, mtu
from cohortsync.drafts import drafting
from cohortsync.errors import BadInput
from cohortsync.warehouse import required_project, sql

CLASSES = ("qualifying", "system", "engagement", "delivery", "partner")
BY_HAND = "set by hand"
PAGES = "https://docs.mixpanel.com/docs/cohort-sync/integrations/"


def listed(con: duckdb.DuckDBPyConnection) -> pd.DataFrame:
    """One row per event name that is not simply qualifying, or was set by hand: ``event, class, source``.

    ``source``: the page that names it, or ``set by hand``.
    """
    frame = con.execute("from event_classes order by class, source, event").df()
    return frame if len(frame) else con.execute(f"from ({sql('event_classes')}) order by class, source, event").df()


def partners(con: duckdb.DuckDBPyConnection) -> pd.DataFrame:
    """One row per partner whose events Mixpanel exempts: ``partner, on, events`` (names), ``marker, source``."""
    sources = {source for (source,) in con.execute("select distinct source from event_classes").fetchall()}
    frame = pd.DataFrame(partner_events())
    rows = frame.groupby("partner", as_index=False).agg(events=("event", "count"), marker=("marker", "first"))
    rows["source"] = PAGES + rows["partner"]
    return rows.assign(on=rows["source"].isin(sources))[["partner", "on", "events", "marker", "source"]]


def partner_events() -> list[dict[str, str]]:
    """One row per event that a partner's page lists as exempt: ``partner, marker`` (the property), ``event``."""
    with (Path(__file__).parent / "partners.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def set_class(home: Path, event: str, to: str) -> None:
    """Say what class an event is of, whatever the pages say; ``to`` is one of ``CLASSES``."""
    if to not in CLASSES:
        raise BadInput(f"There is no class {to!r}; choose one of {', '.join(CLASSES)}.")
    if not event.strip():
        raise BadInput("An event's class needs the event's name.")
    with _editing(home) as con:
        con.execute("delete from generation.event_classes where event = ?", [event])
        con.execute("insert into generation.event_classes values (?, ?, ?)", [event, to, BY_HAND])


def set_partner(home: Path, partner: str, on: bool) -> None:
    """Exempt the events that a partner's page lists, or no longer; what is classed otherwise stays so."""
    names = [row["event"] for row in partner_events() if row["partner"] == partner]
    if not names:
        known = dict.fromkeys(row["partner"] for row in partner_events())
        raise BadInput(f"There is no partner {partner!r}; choose one of {', '.join(known)}.")
    with _editing(home) as con:
        con.execute("delete from generation.event_classes where class = 'partner' and source = ?", [PAGES + partner])
        if on:
            con.execute("""insert into generation.event_classes select event, 'partner', $source
                from (select unnest($names::varchar[]) as event) anti join generation.event_classes using (event)""",
                        {"names": names, "source": PAGES + partner})


def reset(home: Path) -> None:
    """Take every edit back: the classes as they ship, all partners off."""
    with _editing(home) as con:
        con.execute("delete from generation.event_classes")


@contextmanager
def _editing(home: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A draft to edit the classes in; every project's months are derived by them afterwards."""
    projects = ledger.projects(home) or [required_project(home)]
    with drafting(home, projects[0]["project_id"]) as draft:
        mtu.write_classes(draft.con)
        yield draft.con
        load_id = draft.con.execute("select coalesce(max(load_id), 0) from generation.loads").fetchall()[0][0]
        for project in projects:
            mtu.derive(draft.con, clock.as_found(draft.con, project), load_id, datetime.now(UTC).replace(tzinfo=None))
