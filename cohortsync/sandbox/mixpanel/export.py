"""Raw export: one JSON line an event, streamed.

Source: https://developer.mixpanel.com/reference/raw-event-export
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from isal import isal_zlib

from .refusals import refused
from .state import now, setting

PATH = "/api/2.0/export"
LINES = 1000
SMALLEST_ZIPPED = 1400
MOST = 100_000
LATER_THAN = re.compile(r'properties\["\$?time"\]\s*>=\s*datetime\((\d+)\)')
UTC_SINCE = date(2023, 1, 1)


def statement(db: sqlite3.Connection, asked: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """The query for the lines that were asked for. Raises Refusal 400 and 403."""
    first, last = day(asked, "from_date"), day(asked, "to_date")
    today = now(db).astimezone(clock_of_days(db)).date()
    if last > today:
        raise refused(400, PATH, "to_date cannot be later than today")
    if first > last:
        raise refused(400, PATH, "from_date cannot be later than to_date")
    if (past := setting(db, "history_days")) and (today - first).days > int(past):
        raise refused(403, PATH, f"Date range exceeds {past} days into the past")
    where = "day between ? and ?"
    values: list[Any] = [first.isoformat(), last.isoformat()]
    if names := asked.get("event"):
        found = json.loads(names)
        where += f" and event in ({', '.join('?' * len(found))})"
        values += found
    if text := asked.get("where"):
        if not (since := LATER_THAN.fullmatch(str(text).strip())):
            raise refused(400, PATH, 'the local Mixpanel understands properties["$time"] >= datetime(…) in where')
        where += " and time_s >= ?"
        values.append(int(since[1]))
    most = f" limit {min(int(asked['limit']), MOST)}" if asked.get("limit") else ""
    order = "id * 2654435761 % 4294967296" if setting(db, "export_order") == "any" else "day, id"
    return f"select line from events where {where} order by {order}{most}", values


def clock_of_days(db: sqlite3.Connection) -> Any:
    """Days are UTC's for projects created since 2023, else the project's own."""
    project = db.execute("select timezone, created_on from project").fetchone()
    return UTC if date.fromisoformat(project["created_on"]) >= UTC_SINCE else ZoneInfo(project["timezone"])


def event_time(db: sqlite3.Connection, at_s: float) -> int:
    """An instant as the project's events tell it: the seconds of the clock of its days."""
    offset = datetime.fromtimestamp(at_s, clock_of_days(db)).utcoffset()
    return int(at_s + (offset.total_seconds() if offset else 0))


def day(asked: Mapping[str, Any], name: str) -> date:
    try:
        return date.fromisoformat(str(asked.get(name, "")))
    except ValueError:
        raise refused(400, PATH, f"{name} must be a date such as {datetime.now(UTC):%Y-%m-%d}") from None


def chunks(con: sqlite3.Connection, query: str, values: list[Any], in_ms: bool) -> Iterator[bytes]:
    """The lines, so many at a time that they stay in the processor's cache; the connection is closed at the end."""
    con.text_factory = bytes  # they go out as they are
    try:
        cursor = con.execute(query, values)
        while rows := cursor.fetchmany(LINES):
            text = b"\n".join([line for (line,) in rows]) + b"\n"
            yield in_milliseconds(text) if in_ms else text
    finally:
        con.close()


def in_milliseconds(text: bytes) -> bytes:
    return re.sub(rb'"time":\s*(\d{1,10})(?=\D)', rb'"time": \g<1>000', text)


def zipped(parts: Iterator[bytes]) -> Iterator[bytes]:
    squeeze = isal_zlib.compressobj(1, isal_zlib.DEFLATED, 31)
    for part in parts:
        if done := squeeze.compress(part):
            yield done
    yield squeeze.flush()


def spoilt(parts: Iterator[bytes], fault: str) -> Iterator[bytes]:
    """The lines as they arrive when something went wrong with them."""
    for number, part in enumerate(parts):
        lines = part.splitlines(keepends=True) if number == 0 else []
        half = len(lines) // 2
        if fault == "terminated_early" and lines:
            yield b"".join(lines[:half]) + b"terminated early\n"
            return
        if fault == "duplicate_rows" and lines:
            part = b"".join(lines[:half] + lines[:3] + lines[half:])
        if fault == "split_record" and lines:
            broken = lines[half].replace(b',"$', b',\n"$', 1) if half else lines[0]
            part = b"".join([*lines[:half], broken, *lines[half + 1 :]])
        yield part
