"""Invented events in the shape of Mixpanel's export, and identity verbs: made by SQL, the same for everyone."""

from __future__ import annotations

import gzip
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path

import duckdb
import pyarrow as pa

FIRST_S = int(datetime(2026, 7, 1, tzinfo=UTC).timestamp())
DAYS = 90
FILES = 8
TIMEZONE = "America/New_York"
EVENTS_PER_USER = 50
SLICE = 100_000


def statement(name: str) -> str:
    return (Path(__file__).parent / f"{name}.sql").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Export:
    """Files of raw events: ``files`` hold 89 days in the order of ingestion, ``newest`` the day after them."""

    events: int
    files: tuple[Path, ...]
    newest: Path


def export(folder: Path, events: int) -> Export:
    """The export of so many events (lines of about 500 bytes), made below ``folder`` if it is not there yet."""
    place = folder / f"events-{events}"
    made = Export(events, tuple(place / f"events-{n}.ndjson.gz" for n in range(FILES)), place / "newest.ndjson.gz")
    place.mkdir(parents=True, exist_ok=True)
    bounds = [events * n // FILES for n in range(FILES + 1)] + [events + events // (DAYS - 1)]
    missing = [(path, events, *lines) for path, lines in zip([*made.files, made.newest], pairwise(bounds), strict=True)
               if not path.exists()]
    if missing:
        with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
            list(pool.map(_write, *zip(*missing, strict=True)))
    return made


def _write(path: Path, events: int, first_line: int, end_line: int) -> None:
    """One file; the last step gives it its name, so that a file that is there is whole."""
    unfinished = path.with_suffix(".part")
    with duckdb.connect(config={"threads": 1}) as con, gzip.open(unfinished, "wb", compresslevel=1) as file:
        con.execute(f"set variable events = {events}::bigint")
        con.execute(f"set variable first_s = {FIRST_S}::bigint")
        con.execute(f"set variable devices = {max(1, events * 3 // EVENTS_PER_USER // 2)}::bigint")
        con.execute(f"create temp table devices as {statement('devices')}")
        for start in range(first_line, end_line, SLICE):
            con.execute(f"set variable first_line = {start}::bigint")
            con.execute(f"set variable end_line = {min(start + SLICE, end_line)}::bigint")
            for chunk in con.sql(statement("events")).to_arrow_table().column("line").chunks:
                file.write(pa.concat_arrays([chunk]).buffers()[2])
    unfinished.rename(path)
