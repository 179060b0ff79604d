"""Loading measured: raw events into a workspace, and the same files into less."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

from bench.data import TIMEZONE

SIX_COLUMNS = """select event, properties.time as time, properties.distinct_id as distinct_id,
    properties."$device_id" as device_id, properties."$user_id" as user_id, properties."$insert_id" as insert_id
    from read_json({files}, format = 'newline_delimited', compression = 'gzip', columns = {{event: 'VARCHAR',
        properties: 'STRUCT(time BIGINT, distinct_id VARCHAR, "$device_id" VARCHAR, "$user_id" VARCHAR,
                            "$insert_id" VARCHAR)'}})"""

SYSTEM = ("$mp_session_record", "$campaign_delivery", "$experiment_started")


class Steps:
    """Progress that notes how long each step took, files of one step put together."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.step, self.since = "Opening", perf_counter()

    def __call__(self, label: str, _done: float = 0, _total: float = 0) -> None:
        now = perf_counter()
        self.seconds[self.step] += now - self.since
        self.step, self.since = " ".join(word for word in label.split() if ".ndjson" not in word), now


def cohortsync(home: Path, files: list[Path]) -> dict[str, Any]:
    """Load files into a workspace (made when it is not there): seconds, seconds by step, events added."""
    from cohortsync.workspace import Workspace

    start, steps = perf_counter(), Steps()
    known, workspace = home.exists(), Workspace.at(home)
    if not known:
        workspace.init(TIMEZONE, "simplified")
    report = workspace.load(files, progress=steps)
    steps("")
    return {"seconds": perf_counter() - start, "steps": dict(steps.seconds), "added": report.events_added,
            "duplicates": report.duplicates}


def six_columns(database: Path, files: list[Path]) -> float:
    """DuckDB's bare ``create table as`` of six typed columns, into a file, checkpointed."""
    import duckdb

    start = perf_counter()
    with duckdb.connect(database, config={"preserve_insertion_order": False}) as con:
        con.execute(f"create table events as {SIX_COLUMNS.format(files=list(map(str, files)))}")
        con.execute("checkpoint")
    return perf_counter() - start


def pandas(folder: Path, file: Path, rows: int) -> dict[str, Any]:
    """The same with pandas: a column per property, the row of a duplicate processed last, devices linked to users,
    days and months counted, Parquet by day. ``seconds`` a row; ``events``, ``activity`` and ``user_months`` found.
    """
    import pandas as pd

    start = perf_counter()
    raw = pd.read_json(file, lines=True, nrows=rows)
    frame = pd.json_normalize(raw["properties"].tolist()).assign(event=raw["event"])
    frame = frame.sort_values("mp_processing_time_ms", kind="stable")
    sent_as = frame["$distinct_id_before_identity"].fillna(frame["distinct_id"])
    key = pd.DataFrame({"event": frame["event"], "time": frame["time"], "id": sent_as, "insert": frame["$insert_id"]})
    frame = frame[~(key.duplicated(keep="last") & key["insert"].notna())]
    canonical = _owners(frame)
    at = pd.to_datetime(frame["time"], unit="s", utc=True)
    local = at.dt.tz_convert(TIMEZONE)
    tracked = (frame["$user_id"].fillna("$device:" + frame["$device_id"])
               .fillna(frame["$distinct_id_before_identity"]).fillna(frame["distinct_id"]))
    activity = frame.groupby([local.dt.date.rename("day"), tracked.rename("id"), frame["event"],
                              frame["$source"].fillna("")]).size()
    user = tracked.map(canonical).fillna(tracked)
    known = (tracked != "") & ~frame["event"].isin(SYSTEM)
    user_months = frame[known].groupby([local.dt.strftime("%Y-%m")[known], user[known]])["event"].agg(["size", set])
    frame.assign(day=at.dt.strftime("%Y-%m-%d")).astype({"$app_build_number": str}).to_parquet(
        folder, partition_cols=["day"])
    return {"seconds": (perf_counter() - start) / len(raw), "events": len(frame), "activity": len(activity),
            "user_months": len(user_months)}


def _owners(frame: Any) -> Any:
    """Whose a device is, as a series: what a rewritten row shows, else the first user seen with it."""
    shown = frame[frame["$distinct_id_before_identity"].notna()]
    shown = shown.sort_values("$mp_api_timestamp_ms", kind="stable").drop_duplicates("$distinct_id_before_identity")
    seen = frame[frame["$user_id"].notna() & frame["$device_id"].notna()]
    seen = seen.sort_values("$mp_api_timestamp_ms", kind="stable").drop_duplicates("$device_id")
    owners = seen.assign(id="$device:" + seen["$device_id"]).set_index("id")["$user_id"]
    return shown.set_index("$distinct_id_before_identity")["distinct_id"].combine_first(owners)


def inserts(database: Path, file: Path, rows: int) -> float:
    """Seconds a row by ``executemany`` into DuckDB: six columns and the properties, in one transaction."""
    import duckdb

    start = perf_counter()
    with gzip.open(file, "rt", encoding="utf-8") as lines, duckdb.connect(database) as con:
        con.execute("create table events (event varchar, time bigint, distinct_id varchar, device_id varchar, "
                    "user_id varchar, insert_id varchar, properties json)")
        con.execute("begin")
        con.executemany("insert into events values (?, ?, ?, ?, ?, ?, ?)", map(_values, islice(lines, rows)))
        con.execute("commit")
    return (perf_counter() - start) / rows


def _values(line: str) -> list[Any]:
    record = json.loads(line)
    p = record["properties"]
    return [record["event"], p["time"], p["distinct_id"], p.get("$device_id"), p.get("$user_id"),
            p.get("$insert_id"), json.dumps(p)]
