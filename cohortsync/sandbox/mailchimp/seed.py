"""The first start: one account, one audience, and the people of a seed file."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

from .audiences import create_audience
from .members import STATUSES, find_member, insert_member
from .tags import add_tags


def seed_state(db: sqlite3.Connection, seed: Path | None) -> None:
    """Make the audience "Newsletter" with the members of `seed`.

    The file is NDJSON: `email_address`, `status` (any, archived included), and at will `merge_fields`,
    `tags` (names) and `unsubscribed_by`: `person` (the default; nobody can undo it) or `api`.
    Raises ValueError naming the file and line of the first line that is not one.
    """
    audience_id = create_audience(db, "Newsletter", {})
    if seed is None:
        return
    with seed.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                seed_member(db, audience_id, parse_member(line, f"{seed}, line {number}"))


def parse_member(line: str, place: str) -> dict[str, Any]:
    try:
        member: Any = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{place}: not JSON") from error
    if fault := member_fault(member):
        raise ValueError(f"{place}: {fault}")
    return dict(member)


def member_fault(member: Any) -> str | None:
    if not isinstance(member, dict) or not isinstance(member.get("email_address"), str):
        return "not an object with an email_address"
    if member.get("status") not in STATUSES:
        return f"status must be one of {', '.join(STATUSES)}"
    return None


def seed_member(db: sqlite3.Connection, audience_id: str, body: dict[str, Any]) -> None:
    """Put a person in as they are, unchecked: an audience with a past holds all sorts."""
    address = body["email_address"].strip()
    left_by = body.get("unsubscribed_by", "person")
    insert_member(db, audience_id, address, body["status"], body.get("merge_fields") or {}, body, left_by)
    if tags := body.get("tags"):
        member = find_member(db, audience_id, address)
        assert member is not None
        add_tags(db, member, tags)
