"""The account and its audiences.

Source: https://mailchimp.com/developer/marketing/api/lists/
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from typing import Any

from .members import status_counts
from .merge_fields import create_merge_field
from .problems import invalid_resource, not_found
from .state import now

SETTINGS: dict[str, Any] = {
    "contact": {
        "company": "Rehearsal account",
        "address1": "1 Practice Lane",
        "city": "Nowhere",
        "country": "US",
    },
    "permission_reminder": "You are part of a rehearsal.",
    "use_archive_bar": False,
    "campaign_defaults": {
        "from_name": "Rehearsal",
        "from_email": "owner@rehearsal.example",
        "subject": "",
        "language": "en",
    },
    "notify_on_subscribe": "",
    "notify_on_unsubscribe": "",
    "email_type_option": False,
    "double_optin": False,
    "marketing_permissions": False,
}


def account_object(db: sqlite3.Connection, role: str) -> dict[str, Any]:
    """The API root: who the key belongs to."""
    subscribed = db.execute("select count(*) as n from members where status = 'subscribed'").fetchone()["n"]
    return {
        "account_id": "0000000000rehearsal",
        "login_id": "1",
        "account_name": "Rehearsal account",
        "email": f"{role}@rehearsal.example",
        "first_name": "Rehearsal",
        "last_name": role.capitalize(),
        "username": f"rehearsal-{role}",
        "avatar_url": "",
        "role": role,
        "member_since": "2020-01-01T00:00:00+00:00",
        "pricing_plan_type": "monthly",
        "first_payment": "",
        "account_timezone": "Etc/UTC",
        "account_industry": "",
        "contact": {"company": "Rehearsal account", "addr1": "", "addr2": "", "city": "", "state": ""},
        "pro_enabled": False,
        "last_login": "",
        "total_subscribers": subscribed,
        "industry_stats": {"open_rate": 0, "bounce_rate": 0, "click_rate": 0},
        "_links": [],
    }


def create_audience(db: sqlite3.Connection, name: str, settings: dict[str, Any]) -> str:
    """A new audience with the two merge fields every audience starts with; its id is returned."""
    number = db.execute("select coalesce(max(number), 100000) + 1 as n from audiences").fetchone()["n"]
    audience_id = hashlib.md5(f"{number}:{name}".encode(), usedforsecurity=False).hexdigest()[:10]
    db.execute(
        "insert into audiences values (?, ?, ?, ?, ?)",
        (number, audience_id, name, now(db), json.dumps(SETTINGS | settings)),
    )
    for tag, label in (("FNAME", "First Name"), ("LNAME", "Last Name")):
        create_merge_field(db, audience_id, {"tag": tag, "name": label, "type": "text", "public": True})
    return audience_id


def post_audience(db: sqlite3.Connection, body: dict[str, Any]) -> dict[str, Any]:
    """POST lists. Raises Problem 400 for a blank one of the required fields."""
    required = ("name", "contact", "permission_reminder", "campaign_defaults", "email_type_option")
    if blank := [name for name in required if body.get(name) in (None, "")]:
        raise invalid_resource(*((name, "This value should not be blank.") for name in blank))
    settings = {name: body[name] for name in SETTINGS if name in body}
    return the_audience(db, create_audience(db, str(body["name"]), settings))


def list_audiences(db: sqlite3.Connection, count: int, offset: int) -> tuple[list[dict[str, Any]], int]:
    """One page of audiences, and how many there are."""
    rows = db.execute("select * from audiences order by number limit ? offset ?", (count, offset)).fetchall()
    total = db.execute("select count(*) as n from audiences").fetchone()["n"]
    return [audience_object(db, row) for row in rows], total


def the_audience(db: sqlite3.Connection, audience_id: str, include_total_contacts: bool = False) -> dict[str, Any]:
    """One audience as the API shows it. Raises Problem 404."""
    row = db.execute("select * from audiences where id = ?", (audience_id,)).fetchone()
    if row is None:
        raise not_found()
    return audience_object(db, row, include_total_contacts)


def check_audience(db: sqlite3.Connection, audience_id: str) -> None:
    """Problem 404 unless the audience exists."""
    if not db.execute("select 1 from audiences where id = ?", (audience_id,)).fetchone():
        raise not_found()


def audience_object(db: sqlite3.Connection, row: sqlite3.Row, include_total_contacts: bool = False) -> dict[str, Any]:
    stats = audience_stats(db, row["id"])
    if not include_total_contacts:
        del stats["total_contacts"]
    return {
        "id": row["id"],
        "web_id": row["number"],
        "name": row["name"],
        "date_created": row["created_at"],
        "list_rating": 0,
        "subscribe_url_short": "",
        "subscribe_url_long": "",
        "beamer_address": "",
        "visibility": "prv",
        "has_welcome": False,
        "modules": [],
        "stats": stats,
        "_links": [],
        **json.loads(row["settings"]),
    }


def audience_stats(db: sqlite3.Connection, audience_id: str) -> dict[str, Any]:
    counts = status_counts(db, audience_id)
    fields = db.execute("select count(*) as n from merge_fields where audience_id = ?", (audience_id,))
    dates = ("campaign_last_sent", "last_sub_date", "last_unsub_date")
    zeros = (
        "member_count_since_send",
        "unsubscribe_count_since_send",
        "cleaned_count_since_send",
        "campaign_count",
        "avg_sub_rate",
        "avg_unsub_rate",
        "target_sub_rate",
        "open_rate",
        "click_rate",
    )
    return {
        "member_count": counts["subscribed"],
        "total_contacts": sum(counts[each] for each in ("subscribed", "unsubscribed", "pending")),
        "unsubscribe_count": counts["unsubscribed"],
        "cleaned_count": counts["cleaned"],
        "merge_field_count": fields.fetchone()["n"],
        **dict.fromkeys(dates, ""),
        **dict.fromkeys(zeros, 0),
    }
