"""Static segments from the audience's side: who is on one, adding and removing.

Source: https://mailchimp.com/developer/marketing/api/list-segments/
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from typing import Any

from .addresses import subscriber_hash
from .members import member_objects
from .problems import Problem, invalid_resource, not_found
from .state import now
from .switches import setting
from .tags import add_to_segment, create_static_segment, find_tag, remove_from_segment

LIMIT = 500
TOO_MANY = (
    f"Maximum allowed member items exceeded, please provide at most {LIMIT} items "
    "in members_to_add field or members_to_remove field"
)
NOBODY = ("members_to_add", "None of the emails provided were subscribed to the list")
ALREADY_IN = "Email addresses already exist in the static segment"
NOT_IN = "Email addresses do not exist in the static segment"
# A segment's count is of those who would get a campaign, whoever else is on it.
SEGMENT = (
    "select segments.*, (select count(*) from segment_members as held"
    " join members on members.id = held.member_id and members.status = 'subscribed'"
    " where held.segment_id = segments.id) as member_count from segments where audience_id = ?"
)


def segment_object(row: sqlite3.Row) -> dict[str, Any]:
    return {
        "id": row["id"],
        "name": row["name"],
        "member_count": row["member_count"],
        "type": row["type"],
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
        "options": json.loads(row["options"]),
        "list_id": row["audience_id"],
        "_links": [],
    }


def list_segments(
    db: sqlite3.Connection, audience_id: str, count: int, offset: int, kind: str | None = None
) -> tuple[list[dict[str, Any]], int]:
    """One page of segments, and how many there are."""
    condition, told = (" and type = ?", [audience_id, kind]) if kind else ("", [audience_id])
    rows = db.execute(f"{SEGMENT}{condition} order by id limit ? offset ?", [*told, count, offset])
    total = db.execute(f"select count(*) as n from segments where audience_id = ?{condition}", told)
    return [segment_object(row) for row in rows], total.fetchone()["n"]


def the_segment(db: sqlite3.Connection, audience_id: str, segment_id: str) -> dict[str, Any]:
    """One segment as the API shows it. Raises Problem 404."""
    row = db.execute(f"{SEGMENT} and id = ?", (audience_id, segment_id)).fetchone()
    if row is None:
        raise not_found()
    return segment_object(row)


def the_static_segment(db: sqlite3.Connection, audience_id: str, segment_id: str) -> int:
    """The row id of a segment that can be written to. Raises Problem 404, for saved segments as well."""
    segment = the_segment(db, audience_id, segment_id)
    if segment["type"] != "static":
        raise Problem(404, "Resource Not Found", "The requested static segment does not exist.")
    return int(segment["id"])


def create_segment(db: sqlite3.Connection, audience_id: str, body: dict[str, Any]) -> dict[str, Any]:
    """A new segment, whatever others are called. Raises Problem 400."""
    name = checked_name(body)
    if setting(db, "duplicate_names") == "refused" and find_tag(db, audience_id, name):
        raise invalid_resource(("name", "Sorry, that tag already exists."))
    if "static_segment" in body and "options" in body:
        raise invalid_resource(("static_segment", "Cannot be given together with options"))
    addresses = checked_addresses(body, "static_segment")
    if isinstance(options := body.get("options"), dict):
        segment_id = create_saved_segment(db, audience_id, name, options)
    else:
        segment_id = create_static_segment(db, audience_id, name)
        add_to_segment(db, segment_id, members_at(db, audience_id, addresses).values())
    return the_segment(db, audience_id, str(segment_id))


def create_saved_segment(db: sqlite3.Connection, audience_id: str, name: str, options: dict[str, Any]) -> int:
    """A segment by conditions. It is kept, but its conditions find nobody here."""
    made = db.execute(
        "insert into segments (audience_id, name, type, options, created_at, updated_at)"
        " values (?, ?, 'saved', ?, ?, ?)",
        (audience_id, name, json.dumps(options), now(db), now(db)),
    )
    return int(made.lastrowid or 0)


def checked_name(body: dict[str, Any]) -> str:
    name = body.get("name")
    if not isinstance(name, str) or not name.strip():
        raise invalid_resource(("name", "This value should not be blank."))
    return name


def checked_addresses(body: dict[str, Any], name: str) -> list[str]:
    """A list of texts out of a body, each once. Raises Problem 400."""
    addresses = body.get(name) or []
    if not isinstance(addresses, list) or not all(isinstance(each, str) for each in addresses):
        raise invalid_resource((name, "Schema describes an array of strings"))
    return list({each.strip().lower(): each for each in addresses}.values())


def members_at(db: sqlite3.Connection, audience_id: str, addresses: Collection[str]) -> dict[str, int]:
    """Row ids of those addresses that are in the audience; archived ones are not (switch `archived_on_segment`)."""
    by_hash = {subscriber_hash(address): address for address in addresses}
    rows = db.execute(
        "select hash, id from members indexed by members_by_hash where audience_id = ?"
        " and hash in (select value from json_each(?)) and status <> ?",
        (audience_id, json.dumps(list(by_hash)), "" if setting(db, "archived_on_segment") == "added" else "archived"),
    )
    return {by_hash[row["hash"]]: row["id"] for row in rows}


def change_segment(db: sqlite3.Connection, audience_id: str, segment_id: str, body: dict[str, Any]) -> dict[str, Any]:
    """PATCH: rename, or write the membership. An empty `static_segment` empties the segment.

    Whether another one replaces or only adds is disputed; here it only adds (switch `patch_segment`).
    """
    row_id = the_static_segment(db, audience_id, segment_id)
    if "name" in body:
        db.execute("update segments set name = ? where id = ?", (checked_name(body), row_id))
    addresses = checked_addresses(body, "static_segment")
    if "static_segment" in body and (not addresses or setting(db, "patch_segment") == "replaces"):
        db.execute("delete from segment_members where segment_id = ?", (row_id,))
    add_to_segment(db, row_id, members_at(db, audience_id, addresses).values())
    db.execute("update segments set updated_at = ? where id = ?", (now(db), row_id))
    return the_segment(db, audience_id, segment_id)


def delete_segment(db: sqlite3.Connection, audience_id: str, segment_id: str) -> None:
    """Delete a segment, and with it the tag. Raises Problem 404."""
    row_id = the_segment(db, audience_id, segment_id)["id"]
    db.execute("delete from segment_members where segment_id = ?", (row_id,))
    db.execute("delete from segments where id = ?", (row_id,))


def add_and_remove(db: sqlite3.Connection, audience_id: str, segment_id: str, body: dict[str, Any]) -> dict[str, Any]:
    """POST to a segment: up to 500 addresses each way; those not in the audience are passed over.

    Raises Problem 400 when too many, or when none of those to add is in the audience (then nothing
    is removed either), and 404.
    """
    row_id = the_static_segment(db, audience_id, segment_id)
    adding, removing = checked_halves(body)
    found = members_at(db, audience_id, [*adding, *removing])
    unknown = adding and not any(address in found for address in adding)
    if unknown and not (removing and setting(db, "nobody_in_chunk") == "removes"):
        raise invalid_resource(NOBODY)
    before = held_by(db, row_id, found.values())
    to_add = [found[each] for each in adding if each in found and found[each] not in before]
    add_to_segment(db, row_id, to_add)
    held = before | set(to_add)
    to_remove = [found[each] for each in removing if found.get(each) in held]
    remove_from_segment(db, row_id, to_remove)
    already = [each for each in adding if each in found and found[each] in before]
    absent = [each for each in removing if found.get(each) not in held]
    return change_report(db, audience_id, to_add, to_remove, {ALREADY_IN: already, NOT_IN: absent})


def checked_halves(body: dict[str, Any]) -> tuple[list[str], list[str]]:
    if "members_to_add" not in body and "members_to_remove" not in body:
        raise invalid_resource(("members_to_add", "This value should not be blank."))
    halves = checked_addresses(body, "members_to_add"), checked_addresses(body, "members_to_remove")
    if any(len(body.get(name) or []) > LIMIT for name in ("members_to_add", "members_to_remove")):
        raise invalid_resource(detail=TOO_MANY)
    return halves


def held_by(db: sqlite3.Connection, segment_id: int, member_ids: Collection[int]) -> set[int]:
    """Which of these members the segment holds."""
    rows = db.execute(
        "select member_id from segment_members where segment_id = ? and member_id in (select value from json_each(?))",
        (segment_id, json.dumps(list(member_ids))),
    )
    return {row["member_id"] for row in rows}


def change_report(
    db: sqlite3.Connection,
    audience_id: str,
    added: list[int],
    removed: list[int],
    refused: dict[str, list[str]],
) -> dict[str, Any]:
    errors = [{"email_addresses": addresses, "error": error} for error, addresses in refused.items() if addresses]
    return {
        "members_added": objects(db, audience_id, added),
        "members_removed": objects(db, audience_id, removed),
        "errors": errors,
        "total_added": len(added),
        "total_removed": len(removed),
        "error_count": len(errors),
        "_links": [],
    }


def objects(db: sqlite3.Connection, audience_id: str, member_ids: list[int]) -> list[dict[str, Any]]:
    rows = db.execute(
        "select * from members where id in (select value from json_each(?)) order by id",
        (json.dumps(member_ids),),
    ).fetchall()
    return member_objects(db, audience_id, rows)


def list_segment_members(
    db: sqlite3.Connection,
    audience_id: str,
    segment_id: str,
    count: int,
    offset: int,
    statuses: Collection[str],
) -> tuple[list[dict[str, Any]], int]:
    """One page of a segment's members who hold one of `statuses`, and how many do. Raises Problem 404."""
    row_id = the_segment(db, audience_id, segment_id)["id"]
    statuses = [*statuses, *(["pending"] if setting(db, "pending_on_segment") == "listed" else [])]
    held = (
        "from segment_members as held join members on members.id = held.member_id"
        " where held.segment_id = ? and members.status in (select value from json_each(?))"
    )
    told = (row_id, json.dumps(list(statuses)))
    rows = db.execute(
        f"select members.* {held} order by held.member_id limit ? offset ?", (*told, count, offset)
    ).fetchall()
    total = db.execute(f"select count(*) as n {held}", told).fetchone()["n"]
    return member_objects(db, audience_id, rows), total
