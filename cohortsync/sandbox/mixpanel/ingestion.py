"""Events and profile updates that come in.

Source: https://developer.mixpanel.com/reference/import-events and …/profile-set
"""

from __future__ import annotations

import base64
import binascii
import gzip
import hashlib
import json
import re
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from .export import event_time
from .refusals import Refusal, refused_import
from .state import now_s, setting

MOST_EVENTS, MOST_UPDATES = 2000, 2000
MOST_BYTES = 10 * 1024 * 1024
VERBS = ("$identify", "$create_alias", "$merge")
INVALID_IDS = frozenset(
    ["00000000-0000-0000-0000-000000000000", "anon", "anonymous", "nil", "none", "null", "n/a", "na", "undefined",
     "unknown", "<nil>", "0", "-1", "true", "false", "[]", "{}"]
)  # fmt: skip
INSERT_ID = re.compile(r"[A-Za-z0-9-]{1,36}")
FIRST_TIME_S = 31_536_000
DIGITS_OF_MS = 10**11


class Invalid(ValueError):
    """Data that is none, in Mixpanel's words; by the older ways in, the answer is 200 all the same."""


def unzipped(raw: bytes, encoding: str) -> bytes:
    try:
        return gzip.decompress(raw) if encoding == "gzip" else raw
    except (OSError, EOFError):
        raise bad_request("the body is not gzip") from None


def refuse_too_large(db: sqlite3.Connection, raw: bytes) -> None:
    """Raises Refusal 413; Mixpanel's pages name 10 MB, and 2 MiB in an example."""
    most = int(setting(db, "import_bytes", str(MOST_BYTES)))
    if len(raw) > most:
        raise refused_import(413, f"request exceeds max limit of {most} bytes", "Request Entity Too Large")


def bad_request(error: str, **more: Any) -> Refusal:
    return refused_import(400, error, "Bad Request", **more)


def form_data(text: str) -> list[Any]:
    """The `data=` of a form: JSON, plain or in base64, of one thing or a list."""
    for read in (lambda: text, lambda: base64.b64decode(text, validate=True).decode()):
        try:
            found = json.loads(read())
        except (ValueError, binascii.Error):
            continue
        return found if isinstance(found, list) else [found]
    raise Invalid("data, missing or empty")


def body_updates(raw: bytes) -> list[Any]:
    """The updates of a JSON body: one, or a list."""
    try:
        found = json.loads(raw)
    except ValueError:
        raise Invalid("data, missing or empty") from None
    return found if isinstance(found, list) else [found]


def body_events(raw: bytes) -> list[Any]:
    """The events of a JSON array or of NDJSON."""
    text = raw.decode("utf-8", "replace").strip()
    try:
        found = json.loads(text) if text.startswith("[") else [json.loads(line) for line in text.split("\n") if line]
    except ValueError:
        raise bad_request("unable to parse the body as JSON") from None
    if not isinstance(found, list):
        raise bad_request("the body must be a list of events")
    if len(found) > MOST_EVENTS:
        raise refused_import(413, f"request exceeds max limit of {MOST_EVENTS} events", "Request Entity Too Large")
    return found


def import_events(db: sqlite3.Connection, events: list[Any], strict: bool = True) -> int:
    """Take in what is valid; how many that is. Raises Refusal 400 that names the rest, all the same."""
    if db.execute("select id_merge from project").fetchone()["id_merge"] == "simplified" and any(
        isinstance(each, dict) and each.get("event") in VERBS for each in events
    ):
        text = "identity events are not allowed when project is using simplified identity management"
        raise bad_request("some data points in the request failed validation", failed_records=[text],
                          num_records_imported=0)  # fmt: skip
    judged = [(number, each, fault_of(each)) for number, each in enumerate(events)]
    good = [each for _, each, fault in judged if fault is None]
    keep_events(db, good, imported=True)
    name = setting(db, "insert_id_key", "$insert_id")
    failed = [failed_record(number, each, name, *fault) for number, each, fault in judged if fault]
    if failed and strict:
        db.commit()  # the valid ones stay, though the answer is a refusal
        db.execute("begin immediate")
        raise bad_request("some data points in the request failed validation", failed_records=failed,
                          num_records_imported=len(good))  # fmt: skip
    return len(good)


def failed_record(number: int, event: Any, name: str, field: str, message: str) -> dict[str, Any]:
    """What is wrong with one event; the key of its `$insert_id` differs between Mixpanel's pages."""
    properties = event.get("properties") if isinstance(event, dict) else None
    insert_id = properties.get("$insert_id", "") if isinstance(properties, dict) else ""
    return {"index": number, name: insert_id, "field": field, "message": message}


def fault_of(event: Any) -> tuple[str, str] | None:
    """The field that is wrong with an event, and how; None when it is valid."""
    properties = event.get("properties") if isinstance(event, dict) else None
    if not isinstance(properties, dict):
        return "properties", "properties is required and must be an object"
    if not isinstance(event.get("event"), str) or not event["event"]:
        return "event", "'event' must not be empty"
    if seconds(properties.get("time")) is None:
        return "properties.time", "'properties.time' is invalid: must be specified as seconds since epoch"
    if "distinct_id" not in properties and "$user_id" not in properties and "$device_id" not in properties:
        return "properties.distinct_id", "'properties.distinct_id' is invalid: must not be missing"
    if str(properties.get("distinct_id", "")).lower() in INVALID_IDS:
        return "properties.distinct_id", "'properties.distinct_id' is invalid: must be a real id"
    if not INSERT_ID.fullmatch(str(properties.get("$insert_id", ""))):
        return "properties.$insert_id", "'properties.$insert_id' is invalid: must be 1 to 36 of A-Z, a-z, 0-9 and -"
    return None


def seconds(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    whole = int(value / 1000 if value >= DIGITS_OF_MS else value)
    return whole if whole >= FIRST_TIME_S else None


def keep_events(db: sqlite3.Connection, events: list[dict[str, Any]], imported: bool) -> None:
    """Store events as they will be exported: stamped, and under the id of who did them."""
    now_ms = int(now_s(db) * 1000)
    simplified = db.execute("select id_merge from project").fetchone()["id_merge"] == "simplified"
    rows = []
    for event in events:
        sent = event["properties"]
        time_s = event_time(db, min(seconds(sent.get("time")) or now_ms // 1000, now_ms // 1000 + 3600))
        who = str(sent.get("distinct_id", ""))
        if simplified:
            who = str(sent.get("$user_id") or (f"$device:{sent['$device_id']}" if sent.get("$device_id") else who))
        stamped = {"time": time_s, "distinct_id": who} | {
            name: value for name, value in sent.items() if name not in ("time", "distinct_id", "token")
        }
        stamped.setdefault("$insert_id", hashlib.sha256(repr((event, now_ms)).encode()).hexdigest()[:16])
        stamped |= {"$import": True} if imported else {}
        stamped |= {"$mp_api_endpoint": "api.mixpanel.com", "$mp_api_timestamp_ms": now_ms,
                    "mp_processing_time_ms": now_ms + 200}  # fmt: skip
        rows.append(event_row({"event": event["event"], "properties": stamped}))
    insert_rows(db, rows)


Row = tuple[str, int, str, str, str | None, str]


def event_row(record: dict[str, Any], line: str | None = None) -> Row:
    """`day, time_s, event, distinct_id, insert_id, line` of a record, and of the line it is exported as."""
    sent = record["properties"]
    time_s = int(sent["time"])
    line = json.dumps(record, separators=(",", ":"), ensure_ascii=False) if line is None else line
    return (f"{datetime.fromtimestamp(time_s, UTC):%Y-%m-%d}", time_s, record["event"], str(sent["distinct_id"]),
            sent.get("$insert_id"), line)  # fmt: skip


def insert_rows(db: sqlite3.Connection, rows: list[Row]) -> None:
    db.executemany("insert into events (day, time_s, event, distinct_id, insert_id, line) values (?, ?, ?, ?, ?, ?)",
                   rows)  # fmt: skip


Profile = dict[str, Any]


def _union(old: Any, new: Any) -> list[Any]:
    there = old if isinstance(old, list) else []
    return there + [each for each in new if each not in there]


UPDATES: dict[str, Callable[[Profile, Any], Profile]] = {
    "$set": lambda old, new: old | new,
    "$set_once": lambda old, new: new | old,
    "$add": lambda old, new: old | {name: (old.get(name) or 0) + value for name, value in new.items()},
    "$union": lambda old, new: old | {name: _union(old.get(name), value) for name, value in new.items()},
    "$append": lambda old, new: old | {name: [*(old.get(name) or []), value] for name, value in new.items()},
    "$remove": lambda old, new: old | {
        name: [each for each in old.get(name) or [] if each != value] for name, value in new.items()},
    "$unset": lambda old, new: {name: value for name, value in old.items() if name not in new},
}  # fmt: skip


def update_profiles(db: sqlite3.Connection, updates: list[Any]) -> None:
    """Apply profile updates in order. Raises Invalid for the first that is none."""
    if len(updates) > MOST_UPDATES:
        raise Invalid(f"no more than {MOST_UPDATES} updates at once")
    for update in updates:
        operations = [name for name in (*UPDATES, "$delete") if isinstance(update, dict) and name in update]
        if not operations or not update.get("$distinct_id"):
            raise Invalid("engage, missing or empty: $distinct_id and one operation")
        who = str(update["$distinct_id"])
        for operation in operations:
            if operation == "$delete":
                db.execute("delete from profiles where distinct_id = ?", (who,))
            else:
                change_profile(db, who, operation, update[operation], not update.get("$ignore_time"))


def change_profile(db: sqlite3.Connection, who: str, operation: str, value: Any, seen: bool) -> None:
    row = db.execute("select properties from profiles where distinct_id = ?", (who,)).fetchone()
    changed = UPDATES[operation](json.loads(row[0]) if row else {}, value)
    if seen:
        changed["$last_seen"] = f"{datetime.fromtimestamp(now_s(db), UTC):%Y-%m-%dT%H:%M:%S}"
    db.execute("insert or replace into profiles values (?, ?)", (who, json.dumps(changed, ensure_ascii=False)))
