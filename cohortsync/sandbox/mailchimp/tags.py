"""Tags, which are static segments looked at from the member's side.

A name may belong to several segments. A write by name then reaches the one with the lowest id,
which need not be the one the caller made: the worst of the ways Mailchimp leaves open.
Source: https://mailchimp.com/developer/marketing/docs/organize-contacts-with-tags/
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Sequence
from typing import Any

from .problems import invalid_resource
from .state import now
from .switches import setting


def tags_of(db: sqlite3.Connection, member_ids: Sequence[int]) -> dict[int, list[dict[str, Any]]]:
    """The tags, `{"id", "name"}` each, of every member named by row id."""
    tags: dict[int, list[dict[str, Any]]] = {member_id: [] for member_id in member_ids}
    rows = db.execute(
        "select held.member_id, segments.id, segments.name"
        " from json_each(?) as wanted"
        " join segment_members as held on held.member_id = wanted.value"
        " join segments on segments.id = held.segment_id"
        " order by held.member_id, segments.id",
        (json.dumps(list(member_ids)),),
    )
    for row in rows:
        tags[row["member_id"]].append({"id": row["id"], "name": row["name"]})
    return tags


def find_tag(db: sqlite3.Connection, audience_id: str, name: str) -> int | None:
    """The segment a tag's name leads to: of several, the oldest (switch `tag_name`)."""
    order = "desc" if setting(db, "tag_name") == "newest" else "asc"
    row = db.execute(
        f"select id from segments where audience_id = ? and name = ? and type = 'static' order by id {order} limit 1",
        (audience_id, name),
    ).fetchone()
    return row["id"] if row else None


def create_static_segment(db: sqlite3.Connection, audience_id: str, name: str) -> int:
    """A new empty static segment; its name need not be free."""
    made = db.execute(
        "insert into segments (audience_id, name, type, options, created_at, updated_at)"
        " values (?, ?, 'static', '{}', ?, ?)",
        (audience_id, name, now(db), now(db)),
    )
    return int(made.lastrowid or 0)


def add_to_segment(db: sqlite3.Connection, segment_id: int, member_ids: Collection[int]) -> None:
    at = now(db)
    db.executemany(
        "insert or ignore into segment_members values (?, ?, ?)",
        [(segment_id, member_id, at) for member_id in member_ids],
    )
    db.execute("update segments set updated_at = ? where id = ?", (now(db), segment_id))
    touch(db, member_ids)


def remove_from_segment(db: sqlite3.Connection, segment_id: int, member_ids: Collection[int]) -> None:
    db.executemany(
        "delete from segment_members where segment_id = ? and member_id = ?",
        [(segment_id, member_id) for member_id in member_ids],
    )
    db.execute("update segments set updated_at = ? where id = ?", (now(db), segment_id))
    touch(db, member_ids)


def touch(db: sqlite3.Connection, member_ids: Collection[int]) -> None:
    """Move `last_changed` where the switch `tag_changes_member` says so; whether Mailchimp does is not known."""
    if setting(db, "tag_changes_member") == "yes":
        db.executemany("update members set last_changed = ? where id = ?", [(now(db), each) for each in member_ids])


def check_tag_names(names: Any) -> list[str]:
    """The names themselves, or Problem 400 when they are not a list of texts."""
    if not isinstance(names, list) or not all(isinstance(name, str) and name.strip() for name in names):
        raise invalid_resource(("tags", "Schema describes an array of strings"))
    return names


def add_tags(db: sqlite3.Connection, member: sqlite3.Row, names: list[str]) -> None:
    audience_id = member["audience_id"]
    for name in names:
        segment_id = find_tag(db, audience_id, name) or create_static_segment(db, audience_id, name)
        add_to_segment(db, segment_id, [member["id"]])


def replace_tags(db: sqlite3.Connection, member: sqlite3.Row, names: list[str]) -> None:
    """What `sync_tags` does: every other tag of the member is lost."""
    db.execute("delete from segment_members where member_id = ?", (member["id"],))
    add_tags(db, member, names)


def set_tags(db: sqlite3.Connection, member: sqlite3.Row, changes: Any) -> None:
    """Give (`active`) or take (`inactive`) tags by name. Raises Problem 400 on another shape."""
    if not isinstance(changes, list) or not all(is_tag_change(change) for change in changes):
        raise invalid_resource(("tags", "Schema describes an array of {name, status: active or inactive}"))
    for change in changes:
        if change["status"] == "active":
            add_tags(db, member, [change["name"]])
        elif segment_id := find_tag(db, member["audience_id"], change["name"]):
            remove_from_segment(db, segment_id, [member["id"]])


def is_tag_change(change: Any) -> bool:
    return (
        isinstance(change, dict)
        and isinstance(change.get("name"), str)
        and change.get("status") in ("active", "inactive")
    )


def list_member_tags(db: sqlite3.Connection, member: sqlite3.Row) -> list[dict[str, Any]]:
    """The member's tags with the instant each was given."""
    rows = db.execute(
        "select segments.id, segments.name, held.added_at as date_added"
        " from segment_members as held join segments on segments.id = held.segment_id"
        " where held.member_id = ? order by segments.id",
        (member["id"],),
    )
    return [dict(row) for row in rows]


def search_tags(db: sqlite3.Connection, audience_id: str, prefix: str) -> list[dict[str, Any]]:
    """Tags whose name starts with `prefix`, in any case."""
    rows = db.execute(
        "select id, name from segments where audience_id = ? and type = 'static'"
        " and lower(substr(name, 1, ?)) = lower(?) order by id",
        (audience_id, len(prefix), prefix),
    )
    return [dict(row) for row in rows]
