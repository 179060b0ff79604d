"""The first start: one project, and the past of a seed file.

    {"project_id": 1, "name": "…", "timezone": "…", "id_merge": "simplified", "created_on": "2024-05-01",
     "now": "2026-11-21T05:00:00Z", "events": ["….ndjson.gz"], "profiles": ["…"],
     "cohorts": [{"id": 1001, "name": "…", "file": "…"}]}

Its files stand beside it, in the shapes of exports. A line that two of them hold is one event.
"""

from __future__ import annotations

import csv
import gzip
import json
import sqlite3
import time
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from .accounts import TOKEN, seed_accounts
from .ingestion import event_row, insert_rows

BATCH = 20_000
ID_COLUMNS = ("$distinct_id", "distinct_id", "Distinct ID")


def seed_state(db: sqlite3.Connection, seed: Path) -> None:
    """Set the project up. Raises ValueError naming the file for a seed that is none."""
    try:
        given = json.loads(seed.read_text(encoding="utf-8"))
        project = [given[name] for name in ("project_id", "name", "timezone", "id_merge", "created_on")]
        now = datetime.fromisoformat(given["now"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{seed} is not the seed of a project: {error!r}") from None
    db.execute("insert into project values (?, ?, ?, ?, ?, 'mixpanel.com', ?)", (*project, TOKEN))
    db.execute("insert into clock values (?, null)", (now.timestamp() - time.time(),))
    seed_accounts(db)
    seed_events(db, [seed.parent / name for name in given.get("events", ())])
    for name in given.get("profiles", ()):
        profiles = ((who, json.dumps(what, ensure_ascii=False)) for who, what in people(seed.parent / name))
        db.executemany("insert or replace into profiles values (?, ?)", profiles)
    for cohort in given.get("cohorts", ()):
        seed_cohort(db, cohort, seed.parent / cohort["file"], given["now"])


def opened(path: Path) -> Any:
    return gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")


def seed_events(db: sqlite3.Connection, paths: Iterable[Path]) -> None:
    """Every readable line of the files, in their order; a line of one file is not taken again from another."""
    days: dict[str, set[str]] = {}
    for path in paths:
        taken: dict[str, set[str]] = {}
        for batch in batches(path):
            new = [row for row in batch if row[-1] not in days.get(row[0], ())]
            insert_rows(db, new)
            for row in new:
                taken.setdefault(row[0], set()).add(row[-1])
        # Files overlap by whole days at their ends; only those are worth remembering.
        days = {day: taken[day] for day in sorted(taken)[-2:]}


def batches(path: Path) -> Iterator[list[Any]]:
    rows = []
    with opened(path) as lines:
        for line in lines:
            try:
                rows.append(event_row(json.loads(line), line.rstrip("\n")))
            except (ValueError, KeyError, TypeError):
                continue  # the sample's bad lines
            if len(rows) == BATCH:
                yield rows
                rows = []
    yield rows


def people(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """`distinct_id, properties` of a file of engage results, one a line or in pages."""
    with opened(path) as lines:
        for line in filter(str.strip, lines):
            found = json.loads(line)
            for each in found.get("results", [found]):
                yield str(each["$distinct_id"]), each.get("$properties") or {}


def seed_cohort(db: sqlite3.Connection, cohort: dict[str, Any], path: Path, created: str) -> None:
    members = list(dict.fromkeys(member_ids(path)))
    db.execute("insert into cohorts values (?, ?, ?, ?, 1, null, ?)",
               (cohort["id"], cohort["name"], cohort.get("description", ""), created[:19].replace("T", " "),
                len(members)))  # fmt: skip
    db.executemany("insert into cohort_members values (?, ?)", [(cohort["id"], each) for each in members])


def member_ids(path: Path) -> Iterator[str]:
    """The ids of engage pages, of a CSV with a column of ids, or one a line."""
    name = path.name.removesuffix(".gz")
    if name.endswith((".json", ".ndjson")):
        yield from (who for who, _ in people(path))
    elif name.endswith(".csv"):
        with opened(path) as lines:
            for row in csv.DictReader(lines):
                yield next(row[column] for column in row if column.lstrip("\ufeff") in ID_COLUMNS)
    else:
        with opened(path) as lines:
            yield from filter(None, map(str.strip, lines))
