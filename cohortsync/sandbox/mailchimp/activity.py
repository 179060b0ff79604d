"""What became of the mails that a campaign sent. No mail ever was: a rehearsal makes it up.

Source: https://mailchimp.com/developer/marketing/api/reports/
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .problems import not_found

CAMPAIGN = "select campaigns.*, audiences.name as audience from campaigns join audiences on audiences.id = audience_id"


@dataclass(frozen=True)
class Mailed:
    """One thing that became of a mail: sent, open, click, bounce or unsub; `part` of the time had passed then."""

    member_id: int
    address: str
    action: str
    part: float
    at: datetime
    campaign: str
    title: str
    url: str = ""


def record_campaign(
    db: sqlite3.Connection, campaign_id: str, audience_id: str, segment_id: int, title: str, at: datetime
) -> None:
    db.execute("insert into campaigns values (?, ?, ?, ?, ?)", (campaign_id, audience_id, segment_id, title, iso(at)))


def record_activity(db: sqlite3.Connection, mailed: list[Mailed]) -> None:
    db.executemany(
        "insert into activity (campaign_id, member_id, action, at, url) values (?, ?, ?, ?, ?)",
        [(each.campaign, each.member_id, each.action, iso(each.at), each.url) for each in mailed],
    )


def iso(at: datetime) -> str:
    return at.isoformat(timespec="seconds")


def list_reports(db: sqlite3.Connection, since: str, count: int, offset: int) -> tuple[list[dict[str, Any]], int]:
    """One page of campaigns sent since an instant, and how many there are."""
    rows = db.execute(f"{CAMPAIGN} where sent_at >= ? order by sent_at, campaigns.id", (since,)).fetchall()
    return [report(db, row) for row in rows[offset : offset + count]], len(rows)


def the_report(db: sqlite3.Connection, campaign_id: str) -> dict[str, Any]:
    """One campaign's report. Raises Problem 404."""
    return report(db, the_campaign(db, campaign_id))


def the_campaign(db: sqlite3.Connection, campaign_id: str) -> sqlite3.Row:
    row: sqlite3.Row | None = db.execute(f"{CAMPAIGN} where campaigns.id = ?", (campaign_id,)).fetchone()
    if row is None:
        raise not_found()
    return row


def report(db: sqlite3.Connection, campaign: sqlite3.Row) -> dict[str, Any]:
    counts = dict(db.execute("select action, count(*) from activity where campaign_id = ? group by action",
                             (campaign["id"],)).fetchall())  # fmt: skip
    sent, opens, clicks = (counts.get(action, 0) for action in ("sent", "open", "click"))
    return {
        "id": campaign["id"],
        "campaign_title": campaign["title"],
        "subject_line": campaign["title"],
        "type": "regular",
        "list_id": campaign["audience_id"],
        "list_name": campaign["audience"],
        "list_is_active": True,
        "send_time": campaign["sent_at"],
        "emails_sent": sent,
        "unsubscribed": counts.get("unsub", 0),
        "abuse_reports": 0,
        "bounces": {"hard_bounces": counts.get("bounce", 0), "soft_bounces": 0, "syntax_errors": 0},
        "opens": {"opens_total": opens, "unique_opens": opens, "open_rate": opens / sent if sent else 0},
        "clicks": {"clicks_total": clicks, "unique_clicks": clicks, "click_rate": clicks / sent if sent else 0},
        "_links": [],
    }


def list_email_activity(
    db: sqlite3.Connection, campaign_id: str, since: str, count: int, offset: int
) -> tuple[list[dict[str, Any]], int]:
    """One page of those mailed, with what each opened, clicked or bounced since an instant. Raises Problem 404."""
    mailed = people(db, campaign_id, "sent")
    rows = db.execute(
        "select * from activity where campaign_id = ? and action in ('open', 'click', 'bounce') and at > ? order by id",
        (campaign_id, since),
    ).fetchall()
    done: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        done.setdefault(row["member_id"], []).append(action_object(row))
    page = [person(member) | {"activity": done.get(member["id"], [])} for member in mailed[offset : offset + count]]
    return page, len(mailed)


def action_object(row: sqlite3.Row) -> dict[str, Any]:
    told = {"action": row["action"], "timestamp": row["at"]}
    more = {"bounce": {"type": "hard"}, "click": {"url": row["url"], "ip": ""}, "open": {"ip": ""}}
    return told | more[row["action"]]


def list_sent_to(
    db: sqlite3.Connection, campaign_id: str, count: int, offset: int
) -> tuple[list[dict[str, Any]], int]:
    """One page of those mailed, and whether it reached them. Raises Problem 404."""
    mailed = people(db, campaign_id, "sent")
    bounced = {member["id"] for member in people(db, campaign_id, "bounce")}
    opened = {member["id"]: member["at"] for member in people(db, campaign_id, "open")}
    page = [
        person(member)
        | {
            "merge_fields": json.loads(member["merge_fields"]),
            "vip": False,
            "status": "hard" if member["id"] in bounced else "sent",
            "open_count": int(member["id"] in opened),
            "last_open": opened.get(member["id"], ""),
            "gmt_offset": 0,
        }
        for member in mailed[offset : offset + count]
    ]
    return page, len(mailed)


def list_unsubscribed(
    db: sqlite3.Connection, campaign_id: str, count: int, offset: int
) -> tuple[list[dict[str, Any]], int]:
    """One page of those who left by way of a campaign. Raises Problem 404."""
    left = people(db, campaign_id, "unsub")
    page = [
        person(member)
        | {
            "merge_fields": json.loads(member["merge_fields"]),
            "vip": False,
            "timestamp": member["at"],
            "reason": "None given",
        }
        for member in left[offset : offset + count]
    ]
    return page, len(left)


def people(db: sqlite3.Connection, campaign_id: str, action: str) -> list[sqlite3.Row]:
    """The members whom a campaign brought to an action. Raises Problem 404."""
    the_campaign(db, campaign_id)
    return db.execute(
        "select members.*, activity.campaign_id, activity.at from activity join members on members.id = member_id"
        " where campaign_id = ? and action = ? order by activity.id",
        (campaign_id, action),
    ).fetchall()


def person(member: sqlite3.Row) -> dict[str, Any]:
    return {
        "email_id": member["hash"],
        "email_address": member["email"],
        "campaign_id": member["campaign_id"],
        "list_id": member["audience_id"],
        "list_is_active": True,
        "_links": [],
    }
