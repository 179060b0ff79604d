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


def pandas(parquet: Path, file: Path, rows: int) -> float:
    """Seconds a row with pandas: a column per property, duplicates dropped, monthly counts, one Parquet file."""
    import pandas as pd

    start = perf_counter()
    with pd.read_json(file, lines=True, chunksize=50_000, nrows=rows) as chunks:
        frame = pd.concat([pd.DataFrame(chunk["properties"].tolist()).assign(event=chunk["event"].to_numpy())
                           for chunk in chunks], ignore_index=True)
    read = len(frame)
    keyed = frame["$insert_id"].notna()
    again = frame[keyed].duplicated(["event", "time", "distinct_id", "$insert_id"], keep="last")
    frame = frame.drop(index=again.index[again])
    at = pd.to_datetime(frame["time"], unit="s", utc=True).dt.tz_convert(TIMEZONE)
    frame.groupby([at.dt.strftime("%Y-%m"), "distinct_id", "event"]).size()
    frame.astype({"$app_build_number": str}).to_parquet(parquet)
    return (perf_counter() - start) / read


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
