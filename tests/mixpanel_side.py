"""What happens on Mixpanel's side of a test: a local Mixpanel, its settings, its data, and the same data as files."""

from __future__ import annotations

import json
import random
import sqlite3
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import requests
from conftest import ADMIN, PROJECT_ID

import cohortsync as cs
from cohortsync.warehouse import TABLES

NOT_THE_DATA = {"load_id", "file_no", "line", "loaded_at", "as_of", "changed_at", "path", "file"}
WEEK_S = 1_794_614_400  # 2026-11-14
BY_FILE = {"published", "loads", "files", "event_files"}


def settle(running: Any, **values: Any) -> None:
    """Change settings of the local Mixpanel: limits, faults, how it behaves."""
    requests.post(f"{running.mixpanel_url}/sandbox/settings", json=values, timeout=20).raise_for_status()


def change(folder: Path, *statements: str) -> None:
    """Change what the local Mixpanel holds, as its people and their doings would."""
    with closing(sqlite3.connect(folder / "mixpanel.sqlite", timeout=30)) as db, db:
        for statement in statements:
            db.execute(statement)


def connect(running: Any, home: Path) -> cs.Workspace:
    """A workspace connected to the local Mixpanel's project."""
    workspace = cs.open(home)
    workspace.connect_mixpanel(ADMIN.username, ADMIN.secret, PROJECT_ID, base_url=running.mixpanel_url,
                               id_merge="simplified")
    return workspace


def load_as_files(running: Any, home: Path, place: Path, first: str, last: str) -> cs.Workspace:
    """What curl fetches of the project, loaded from files."""
    def ask(path: str, **form: Any) -> requests.Response:
        answer = requests.request("POST" if form else "GET", f"{running.mixpanel_url}/api/{path}", data=form,
                                  auth=(ADMIN.username, ADMIN.secret), timeout=60)
        answer.raise_for_status()
        return answer

    (place / "events.ndjson").write_bytes(ask(f"2.0/export?project_id={PROJECT_ID}&from_date={first}&to_date={last}")
                                          .content)
    engage = f"query/engage?project_id={PROJECT_ID}"
    (place / "profiles.json").write_bytes(ask(engage, page=0, page_size=40000).content)
    cohorts = {}
    for cohort in ask(f"query/cohorts/list?project_id={PROJECT_ID}").json():
        cohorts[cohort["name"]] = place / f"{cohort['id']}.json"
        cohorts[cohort["name"]].write_bytes(
            ask(engage, page=0, page_size=40000, filter_by_cohort=json.dumps({"id": cohort["id"]})).content)
    workspace = cs.open(home)
    workspace.init("America/New_York", "simplified", PROJECT_ID)
    workspace.load([place / "events.ndjson"], [place / "profiles.json"], cohorts)
    return workspace


def contents(workspace: cs.Workspace) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table, sorted; only what tells by which files it came is left out."""
    found = {}
    with workspace.connect() as con:
        for table in ("events", *(name for name in TABLES if name not in BY_FILE)):
            columns = [name for name in con.sql(f"from {table}").columns if name not in NOT_THE_DATA]
            found[table] = con.sql(f"select {', '.join(columns)} from {table} order by all").fetchall()
        found["rows by kind"] = con.sql("select kind, cohort, sum(rows)::bigint from files group by all order by all"
                                        ).fetchall()
    return found


def differences(one: cs.Workspace, other: cs.Workspace) -> dict[str, pd.DataFrame]:
    """The tables that differ, with the rows that only one of the two has."""
    left, right = contents(one), contents(other)
    return {name: pd.DataFrame([row for row in [*left[name], *right[name]]
                                if left[name].count(row) != right[name].count(row)][:20])
            for name in left if left[name] != right[name]}


def seed_small(folder: Path) -> Path:
    """A small project of a week: users and devices, some of them linked, profiles and people without one."""
    chance = random.Random(2026)
    people = [f"user-{number:03d}" for number in range(150)]
    events = [_event(chance, number, people) for number in range(700)]
    _write(folder / "events.ndjson", sorted(events, key=lambda event: event["properties"]["time"]))
    _write(folder / "profiles.ndjson", [{"$distinct_id": who, "$properties": _profile(chance, who)}
                                        for who in people[:130]])
    (folder / "big.txt").write_text("\n".join(people[40:]))
    (folder / "few.txt").write_text("\n".join(people[:12]))
    seed = folder / "seed.json"
    seed.write_text(json.dumps({
        "project_id": int(PROJECT_ID), "name": "Tally", "timezone": "America/New_York", "id_merge": "simplified",
        "created_on": "2025-02-03", "now": "2026-11-21T05:00:00+00:00", "events": ["events.ndjson"],
        "profiles": ["profiles.ndjson"], "cohorts": [{"id": 1, "name": "big", "file": "big.txt"},
                                                     {"id": 2, "name": "few", "file": "few.txt"}]}))
    return seed


def seed_old(folder: Path, id_merge: str) -> Path:
    """The small project as one made in 2020: its events tell its own clock, and its devices are plain UUIDs."""
    seed = seed_small(folder)
    settings = json.loads(seed.read_text())
    seed.write_text(json.dumps(settings | {"created_on": "2020-01-01", "id_merge": id_merge}))
    text = (folder / "events.ndjson").read_text(encoding="utf-8")
    for number in reversed(range(200)):
        text = text.replace(f"device-{number}", str(uuid.UUID(int=number, version=4)))
    rows = [json.loads(line) for line in text.split("\n") if line]
    for row in rows:
        row["properties"]["time"] -= 5 * 3600  # New York's clock
        if id_merge == "original":
            row["properties"]["distinct_id"] = row["properties"]["distinct_id"].removeprefix("$device:")
    _write(folder / "events.ndjson", rows)
    return seed


def _event(chance: random.Random, number: int, people: list[str]) -> dict[str, Any]:
    time_s = WEEK_S + chance.randrange(6 * 86400)
    who, device = chance.choice(people), f"device-{chance.randrange(200)}"
    known = {"distinct_id": who, "$user_id": who} if chance.random() < 0.7 else {"distinct_id": f"$device:{device}"}
    return {"event": chance.choice(["Paid", "Seen", "Mailchimp Campaign - Open", "Ünïcode"]), "properties": {
        "time": time_s, **known, "$device_id": device, "$insert_id": f"insert-{number}",
        "mp_processing_time_ms": time_s * 1000 + number, "UTM": 1, "utm": "x", "note": "a\u2028b \"c\" {"}}


def _profile(chance: random.Random, who: str) -> dict[str, Any]:
    email: Any = chance.choice([f"{who}@tinpot.example", f"{who}@tinpot.example", None, 7, "no address"])
    return {"$email": email, "$first_name": who.title(), "session_id": "kept", "empty": None}


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
