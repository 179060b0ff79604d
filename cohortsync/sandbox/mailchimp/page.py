"""The page of the local Mailchimp: what stands in the audience, with nobody's address on it."""

from __future__ import annotations

import sqlite3
from html import escape
from typing import Any

from ..page import frame, number, table
from .addresses import masked
from .audiences import list_audiences
from .members import member_objects, status_counts
from .segments import list_segments

SHOWN = 50


def build_page(db: sqlite3.Connection) -> str:
    """The whole page as HTML; it fetches nothing and shows addresses masked."""
    audiences, _ = list_audiences(db, count=100, offset=0)
    sections = "".join(audience_section(db, audience) for audience in audiences)
    return frame("Mailchimp", sections)


def audience_section(db: sqlite3.Connection, audience: dict[str, Any]) -> str:
    audience_id = audience["id"]
    counts = [(status, number(n)) for status, n in status_counts(db, audience_id).items()]
    segments, total = list_segments(db, audience_id, count=100, offset=0)
    held = [(each["name"], str(each["id"]), number(each["member_count"])) for each in segments]
    return (
        f"<section><h2>{escape(audience['name'])} <small>{escape(audience_id)}</small></h2>"
        + table("Contacts by status", ("Status", "Contacts"), counts)
        + table(f"Segments and tags ({total})", ("Name", "Id", "Active members"), held)
        + table(
            f"Contacts changed last (up to {SHOWN})",
            ("Address", "Status", "Tags", "Changed"),
            last_members(db, audience_id),
        )
        + "</section>"
    )


def last_members(db: sqlite3.Connection, audience_id: str) -> list[tuple[str, ...]]:
    rows = db.execute(
        "select * from members where audience_id = ? order by last_changed desc, id desc limit ?",
        (audience_id, SHOWN),
    ).fetchall()
    return [
        (
            masked(member["email_address"]),
            member["status"],
            ", ".join(tag["name"] for tag in member["tags"]),
            member["last_changed"],
        )
        for member in member_objects(db, audience_id, rows)
    ]
