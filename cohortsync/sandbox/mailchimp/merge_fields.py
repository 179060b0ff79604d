"""Merge fields: the columns of an audience, and what a value must be to go into one.

Source: https://mailchimp.com/developer/marketing/docs/merge-fields/
"""

from __future__ import annotations

import json
import re
import sqlite3
from functools import lru_cache
from typing import Any

from .problems import invalid_resource

TEXTS = ("text", "phone", "url", "imageurl", "birthday", "zip")
TYPES = (*TEXTS, "number", "address", "date", "radio", "dropdown")
ADDRESS_PARTS = ("addr1", "city", "state", "zip")
DATE = re.compile(r"\d{4}-\d{2}-\d{2}|\d{1,2}/\d{1,2}/\d{4}")


def list_merge_fields(db: sqlite3.Connection, audience_id: str) -> list[dict[str, Any]]:
    """Every merge field of an audience as the API shows it."""
    rows = db.execute("select field from merge_fields where audience_id = ? order by merge_id", (audience_id,))
    return [parsed(row["field"]) for row in rows]


@lru_cache(1000)
def parsed(field: str) -> dict[str, Any]:
    """A field out of its text, which every member's every write asks for; not to be changed."""
    return dict(json.loads(field))


def create_merge_field(db: sqlite3.Connection, audience_id: str, body: dict[str, Any]) -> dict[str, Any]:
    """Add a field; without a tag it is named MMERGE<n>. Raises Problem 400 (type, tag, name)."""
    fields = list_merge_fields(db, audience_id)
    merge_id = max((field["merge_id"] for field in fields), default=0) + 1
    tag = str(body.get("tag") or f"MMERGE{merge_id}").upper()
    check_field(body, tag, {field["tag"] for field in fields})
    field = merge_field(audience_id, merge_id, tag, body)
    db.execute(
        "insert into merge_fields values (?, ?, ?, ?, ?, ?)",
        (audience_id, merge_id, tag, field["type"], field["required"], json.dumps(field)),
    )
    return field


def check_field(body: dict[str, Any], tag: str, taken: set[str]) -> None:
    if not isinstance(body.get("name"), str) or not body["name"].strip():
        raise invalid_resource(("name", "This value should not be blank."))
    if body.get("type") not in TYPES:
        raise invalid_resource(("type", "Value not found in enumeration"))
    if len(tag) > 10:
        raise invalid_resource(("tag", "A merge tag has at most 10 characters"))
    if tag in taken:
        raise invalid_resource(detail=f'A Merge Field with the tag "{tag}" already exists for this list.')


def merge_field(audience_id: str, merge_id: int, tag: str, body: dict[str, Any]) -> dict[str, Any]:
    return {
        "merge_id": merge_id,
        "tag": tag,
        "name": body["name"],
        "type": body["type"],
        "required": bool(body.get("required", False)),
        "default_value": str(body.get("default_value", "")),
        "public": bool(body.get("public", False)),
        "display_order": merge_id + 1,
        "options": body.get("options") or ({"size": 25} if body["type"] == "text" else {}),
        "help_text": str(body.get("help_text", "")),
        "list_id": audience_id,
        "_links": [],
    }


def merge_values(
    db: sqlite3.Connection,
    audience_id: str,
    before: dict[str, Any],
    given: Any,
    skip_required: bool,
) -> dict[str, Any]:
    """A member's merge fields after a write: unknown tags vanish without a word, as they do there.

    Raises Problem 400 naming each value of a wrong type and, unless skipped, each required one missing.
    """
    if given is None:
        given = {}
    if not isinstance(given, dict):
        raise invalid_resource(("merge_fields", "Schema describes object, another type found instead"))
    fields = {field["tag"]: field for field in list_merge_fields(db, audience_id)}
    known = {tag: value for tag, value in given.items() if tag in fields}
    after = before | known
    faults = [(tag, fault) for tag, value in known.items() if (fault := value_fault(fields[tag], value))]
    if not skip_required:
        missing = [tag for tag, field in fields.items() if field["required"] and after.get(tag) in (None, "")]
        faults += [(tag, "Please enter a value") for tag in missing]
    if faults:
        raise invalid_resource(*faults, detail="Your merge fields were invalid.")
    return after


def value_fault(field: dict[str, Any], value: Any) -> str | None:
    """What the API says against a value, or None. Blank empties any field."""
    if value == "":
        return None
    kind = field["type"]
    if kind == "address":
        complete = isinstance(value, dict) and all(value.get(part) for part in ADDRESS_PARTS)
        return None if complete else "Please enter a complete address"
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        return "Please enter a value"
    if kind == "number" and not is_number(value):
        return "Please enter a number"
    if kind == "date" and not DATE.match(str(value)):
        return "Please enter a date"
    choices = field["options"].get("choices", [])
    if kind in ("radio", "dropdown") and str(value) not in choices:
        return f"Value must be one of: {', '.join(choices)} "
    return None


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) or bool(re.fullmatch(r"\s*[+-]?(\d+\.?\d*|\.\d+)\s*", value))
