"""Members of an audience: their states, and which of them a write may change.

Source: https://mailchimp.com/developer/marketing/api/list-members/
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from .addresses import address_fault, subscriber_hash
from .merge_fields import list_merge_fields, merge_values
from .problems import (
    forgotten,
    in_compliance_state,
    invalid_resource,
    member_exists,
    method_not_allowed,
    not_found,
)
from .state import now
from .tags import add_tags, check_tag_names, tags_of

WRITABLE = ("subscribed", "unsubscribed", "cleaned", "pending", "transactional")
STATUSES = (*WRITABLE, "archived")
DETAILS = {"email_type": "html", "language": "", "vip": False, "ip_signup": "", "ip_opt": "", "interests": {}}
NOWHERE = {
    "latitude": 0,
    "longitude": 0,
    "gmtoff": 0,
    "dstoff": 0,
    "country_code": "",
    "timezone": "",
    "region": "",
}


def find_member(db: sqlite3.Connection, audience_id: str, key: str) -> sqlite3.Row | None:
    """A member by subscriber hash or by address, whatever the status."""
    wanted = subscriber_hash(key) if "@" in key else key.lower()
    found: sqlite3.Row | None = db.execute(
        "select * from members where audience_id = ? and hash = ?", (audience_id, wanted)
    ).fetchone()
    return found


def the_member(db: sqlite3.Connection, audience_id: str, key: str) -> sqlite3.Row:
    """As find_member, or Problem 404."""
    found = find_member(db, audience_id, key)
    if found is None:
        raise not_found()
    return found


def member_objects(db: sqlite3.Connection, audience_id: str, rows: Sequence[sqlite3.Row]) -> list[dict[str, Any]]:
    """Rows as the API shows them, in their order, tags included."""
    tags = tags_of(db, [row["id"] for row in rows])
    blank = {field["tag"]: field["default_value"] for field in list_merge_fields(db, audience_id)}
    return [member_object(row, blank, tags[row["id"]]) for row in rows]


def member_object(row: sqlite3.Row, blank: dict[str, Any], tags: list[dict[str, Any]]) -> dict[str, Any]:
    details: dict[str, Any] = json.loads(row["details"])
    merge_fields = blank | json.loads(row["merge_fields"])
    contact = f"{row['audience_id']}:{row['id']}".encode()
    return {
        "id": row["hash"],
        "email_address": row["email"],
        "unique_email_id": row["hash"][:10],
        "contact_id": hashlib.md5(contact, usedforsecurity=False).hexdigest(),
        "full_name": f"{merge_fields.get('FNAME', '')} {merge_fields.get('LNAME', '')}".strip(),
        "web_id": row["id"],
        "status": row["status"],
        "unsubscribe_reason": unsubscribe_reason(row),
        "consents_to_one_to_one_messaging": row["status"] == "subscribed",
        "merge_fields": merge_fields,
        "stats": {"avg_open_rate": 0, "avg_click_rate": 0},
        "timestamp_signup": row["timestamp_signup"],
        "timestamp_opt": row["timestamp_opt"],
        "member_rating": 2,
        "last_changed": row["last_changed"],
        "email_client": "",
        "location": NOWHERE,
        "source": "API - Generic",
        "tags_count": len(tags),
        "tags": tags,
        "list_id": row["audience_id"],
        "_links": [],
        **details,
    }


def unsubscribe_reason(row: sqlite3.Row) -> str:
    if row["status"] != "unsubscribed":
        return ""
    return "N/A (Unsubscribed by admin)" if row["unsubscribed_by"] == "api" else "None given"


def one_object(db: sqlite3.Connection, audience_id: str, key: str) -> dict[str, Any]:
    """One member as the API shows it. Raises Problem 404."""
    return member_objects(db, audience_id, [the_member(db, audience_id, key)])[0]


def list_members(
    db: sqlite3.Connection,
    audience_id: str,
    count: int,
    offset: int,
    status: str | None = None,
    since_last_changed: str | None = None,
    before_last_changed: str | None = None,
) -> tuple[list[dict[str, Any]], int]:
    """One page and the total; archived members only when asked for by that status."""
    where = ["audience_id = :audience_id", "status = :status" if status else "status <> 'archived'"]
    where += ["last_changed > :since"] if since_last_changed else []
    where += ["last_changed < :before"] if before_last_changed else []
    told = {
        "audience_id": audience_id,
        "status": status,
        "since": since_last_changed,
        "before": before_last_changed,
        "count": count,
        "offset": offset,
    }
    condition = " and ".join(where)
    total = db.execute(f"select count(*) as n from members where {condition}", told).fetchone()["n"]
    # The inner query walks an index only; the wide rows are read for one page, however deep it lies.
    rows = db.execute(
        "select * from members where id in ("
        f" select id from members where {condition} order by id limit :count offset :offset) order by id",
        told,
    ).fetchall()
    return member_objects(db, audience_id, rows), total


def checked_address(body: dict[str, Any]) -> str:
    """The body's `email_address`, trimmed. Raises Problem 400 for one the API does not take."""
    address = body.get("email_address")
    if not isinstance(address, str) or not address.strip():
        raise invalid_resource(("email_address", "This value should not be blank."))
    address = address.strip()
    if fault := address_fault(address):
        fake = "looks fake" in fault
        raise invalid_resource(detail=fault if fake else "Please provide a valid email address.")
    return address


def checked_status(body: dict[str, Any], *names: str) -> str | None:
    """The first of the named statuses that the body gives. Raises Problem 400 for an unknown word."""
    for name in names:
        if (status := body.get(name)) is None:
            continue
        if status not in WRITABLE:
            raise invalid_resource((name, "Value not found in enumeration"))
        return str(status)
    return None


def create_member(
    db: sqlite3.Connection, audience_id: str, body: dict[str, Any], status: str, skip_required: bool
) -> sqlite3.Row:
    """A member who was not there. Raises Problem 400: address, forgotten, merge fields, tags."""
    address = checked_address(body)
    tags = check_tag_names(body.get("tags") or [])
    check_not_forgotten(db, audience_id, address)
    merge_fields = merge_values(db, audience_id, {}, body.get("merge_fields"), skip_required)
    insert_member(db, audience_id, address, status, merge_fields, body)
    member = the_member(db, audience_id, address)
    add_tags(db, member, tags)
    return member


def check_not_forgotten(db: sqlite3.Connection, audience_id: str, address: str) -> None:
    key = (audience_id, subscriber_hash(address))
    if db.execute("select 1 from forgotten where audience_id = ? and hash = ?", key).fetchone():
        raise forgotten(address)


def insert_member(
    db: sqlite3.Connection,
    audience_id: str,
    address: str,
    status: str,
    merge_fields: dict[str, Any],
    body: dict[str, Any],
    unsubscribed_by: str = "api",
) -> None:
    details = DETAILS | {name: body[name] for name in DETAILS if name in body}
    at = now(db)
    opted = body.get("timestamp_opt") or (at if status == "subscribed" else "")
    db.execute(
        "insert into members (audience_id, hash, email, status, unsubscribed_by, merge_fields, details,"
        " timestamp_signup, timestamp_opt, last_changed) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            audience_id,
            subscriber_hash(address),
            address,
            status,
            unsubscribed_by if status == "unsubscribed" else "",
            json.dumps(merge_fields),
            json.dumps(details),
            str(body.get("timestamp_signup") or ""),
            str(opted),
            at,
        ),
    )


def change_member(
    db: sqlite3.Connection, member: sqlite3.Row, body: dict[str, Any], status: str | None, skip_required: bool
) -> sqlite3.Row:
    """Write a body over a member; `status` None leaves the status alone.

    Raises Problem 400: Member Exists (new address is another's), compliance, merge fields, tags.
    """
    address = changed_address(db, member, body)
    tags = check_tag_names(body.get("tags") or [])
    if status:
        check_may_become(member, status)
    before = json.loads(member["merge_fields"])
    merge_fields = merge_values(db, member["audience_id"], before, body.get("merge_fields"), skip_required)
    details = json.loads(member["details"]) | {name: body[name] for name in DETAILS if name in body}
    db.execute(
        "update members set hash = ?, email = ?, merge_fields = ?, details = ?, last_changed = ? where id = ?",
        (
            subscriber_hash(address),
            address,
            json.dumps(merge_fields),
            json.dumps(details),
            now(db),
            member["id"],
        ),
    )
    if status and status != member["status"]:
        set_status(db, member, status)
    add_tags(db, member, tags)
    return the_member(db, member["audience_id"], address)


def changed_address(db: sqlite3.Connection, member: sqlite3.Row, body: dict[str, Any]) -> str:
    if body.get("email_address") is None:
        return str(member["email"])
    address = checked_address(body)
    holder = find_member(db, member["audience_id"], address)
    if holder is not None and holder["id"] != member["id"]:
        raise member_exists(address)
    return address


def check_may_become(member: sqlite3.Row, status: str) -> None:
    """Nobody but the person undoes an unsubscribe of their own, and nothing undoes a bounce."""
    left = member["unsubscribed_by"] == "person" and member["status"] in ("unsubscribed", "pending")
    mailable = status in ("subscribed", "transactional")
    bounced = member["status"] == "cleaned" and status != "unsubscribed" and status != "cleaned"
    if bounced or (left and mailable):
        raise in_compliance_state(member["email"])


def set_status(db: sqlite3.Connection, member: sqlite3.Row, status: str, unsubscribed_by: str = "api") -> None:
    """Change the status without asking. A pending person who had left still has to confirm."""
    left_by = {"unsubscribed": unsubscribed_by, "pending": member["unsubscribed_by"]}.get(status, "")
    opted = now(db) if status == "subscribed" else member["timestamp_opt"]
    db.execute(
        "update members set status = ?, unsubscribed_by = ?, timestamp_opt = ?, last_changed = ? where id = ?",
        (status, left_by, opted, now(db), member["id"]),
    )


def add_member(db: sqlite3.Connection, audience_id: str, body: dict[str, Any], skip_required: bool) -> dict[str, Any]:
    """POST members: a new member, or an archived one back. Raises Problem 400 otherwise."""
    address, status = checked_address(body), checked_status(body, "status")
    if status is None:
        raise invalid_resource(("status", "This value should not be blank."))
    member = find_member(db, audience_id, address)
    if member is None:
        create_member(db, audience_id, body, status, skip_required)
    else:
        check_may_become(member, status)
        if member["status"] != "archived":
            raise member_exists(address)
        change_member(db, member, body, status, skip_required)
    return one_object(db, audience_id, address)


def put_member(
    db: sqlite3.Connection, audience_id: str, key: str, body: dict[str, Any], skip_required: bool
) -> dict[str, Any]:
    """PUT: change the member, or add one with `status_if_new`, which an existing status outlives."""
    address = checked_address(body)
    member = find_member(db, audience_id, key)
    if member is not None:
        change_member(db, member, body, checked_status(body, "status"), skip_required)
    elif find_member(db, audience_id, address) is not None:
        raise member_exists(address)
    elif status := checked_status(body, "status_if_new", "status"):
        create_member(db, audience_id, body, status, skip_required)
    else:
        raise invalid_resource(("status_if_new", "This value should not be blank."))
    return one_object(db, audience_id, address)


def patch_member(
    db: sqlite3.Connection, audience_id: str, key: str, body: dict[str, Any], skip_required: bool
) -> dict[str, Any]:
    """PATCH: change what the body gives. Raises Problem 404 when nobody is there."""
    member = the_member(db, audience_id, key)
    after = change_member(db, member, body, checked_status(body, "status"), skip_required)
    return one_object(db, audience_id, after["hash"])


def archive_member(db: sqlite3.Connection, audience_id: str, key: str) -> None:
    """DELETE archives. Raises Problem 404, and 405 for a member who is gone or not yet there."""
    member = the_member(db, audience_id, key)
    if member["status"] in ("cleaned", "pending", "archived"):
        why = "Can not archive a contact that is bounced, pending or archived"
        detail = f"This list member cannot be removed. {why}"
        raise method_not_allowed(("GET", "PUT", "PATCH"), detail)
    set_status(db, member, "archived")


def forget_member(db: sqlite3.Connection, audience_id: str, key: str) -> None:
    """Delete for good: the address can never be imported again. Raises Problem 404."""
    member = the_member(db, audience_id, key)
    db.execute("insert or ignore into forgotten values (?, ?)", (audience_id, member["hash"]))
    db.execute("delete from segment_members where member_id = ?", (member["id"],))
    db.execute("delete from members where id = ?", (member["id"],))


def act_as_person(db: sqlite3.Connection, audience_id: str, key: str, action: str) -> dict[str, Any]:
    """What only the person or their mailbox can do: unsubscribe, confirm, bounce. Raises Problem 404."""
    statuses = {"unsubscribe": "unsubscribed", "confirm": "subscribed", "bounce": "cleaned"}
    if action not in statuses:
        raise not_found()
    set_status(db, the_member(db, audience_id, key), statuses[action], unsubscribed_by="person")
    return one_object(db, audience_id, key)


def status_counts(db: sqlite3.Connection, audience_id: str) -> dict[str, int]:
    """How many members hold each status."""
    rows = db.execute("select status, count(*) as n from members where audience_id = ? group by status", (audience_id,))
    return dict.fromkeys(STATUSES, 0) | {row["status"]: row["n"] for row in rows}
