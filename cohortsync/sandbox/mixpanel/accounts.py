"""Service accounts: who may come in, with which role, and what they can learn about themselves.

Source: https://developer.mixpanel.com/reference/service-accounts
"""

from __future__ import annotations

import base64
import binascii
import sqlite3
from typing import Any

from .refusals import refused, refused_by_app, refused_import
from .state import setting

SECRET = "rehearsal-secret"
TOKEN = "rehearsal-token"
ROLES = ("owner", "admin", "analyst", "consumer")
MANAGERS = ("owner", "admin")


def seed_accounts(db: sqlite3.Connection) -> None:
    """One account a role, and an admin whose account may not ask for /me."""
    rows = [(name_of(role), SECRET, role, 1) for role in ROLES] + [(name_of("unseen"), SECRET, "admin", 0)]
    db.executemany("insert into accounts values (?, ?, ?, ?)", rows)


def name_of(who: str) -> str:
    return f"{who}.0a1b2c.mp-service-account"


def find_account(db: sqlite3.Connection, authorization: str) -> sqlite3.Row | None:
    """Who asks, by Basic authentication; None for nobody known."""
    username, _, secret = credentials(authorization).partition(":")
    query = "select * from accounts where username = ? and secret = ?"
    row: sqlite3.Row | None = db.execute(query, (username, secret)).fetchone()
    return row


def of_a_query(db: sqlite3.Connection, authorization: str, path: str) -> sqlite3.Row:
    """Who asks the query and export APIs. Raises Refusal 401."""
    if account := find_account(db, authorization):
        return account
    raise refused(401, path, "Invalid service account credentials")


def of_the_app(db: sqlite3.Connection, authorization: str) -> sqlite3.Row:
    """Who asks the app API. Raises Refusal 401."""
    if account := find_account(db, authorization):
        return account
    raise refused_by_app(401, "Invalid service account credentials")


def credentials(authorization: str) -> str:
    """`username:secret`, in base64 or plain, as Mixpanel takes both."""
    scheme, _, given = authorization.partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(given, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return given


def by_token(db: sqlite3.Connection, authorization: str) -> bool:
    """Whether the project's token was sent in place of a service account: it lets data in, never out."""
    token = db.execute("select token from project").fetchone()["token"]
    return credentials(authorization).partition(":")[0] == token


def check_project(db: sqlite3.Connection, given: str, path: str) -> None:
    """Raises Refusal 400 without a project, 403 for another's."""
    if not given:
        raise refused(400, path, "project_id is a required parameter when using service account credentials")
    if given != str(db.execute("select project_id from project").fetchone()["project_id"]):
        raise refused(403, path, f"Service account does not have access to project {given[:20]}")


def me(db: sqlite3.Connection, account: sqlite3.Row) -> dict[str, Any]:
    """GET /api/app/me: its answer is not documented; this is the shape that was seen."""
    if not account["sees_me"]:
        raise refused_by_app(403, "You do not have permission to perform this action.")
    project = db.execute("select * from project").fetchone()
    role: Any = {"id": ROLES.index(account["role"]) + 1, "name": account["role"]} if account["role"] in ROLES else {
        "id": 99, "name": account["role"]}
    if setting(db, "role_shape") == "string":
        role = account["role"]
    number = str(project["project_id"])
    return {
        "user_id": 1,
        "user_email": account["username"],
        "user_name": account["username"].partition(".")[0],
        "organizations": {"1": {"id": 1, "name": "Rehearsal", "role": "member", "permissions": []}},
        "projects": {
            number: {
                "name": project["name"],
                "domain": project["domain"],
                "organization_id": 1,
                "timezone": project["timezone"],
                "type": "PROJECT",
                "has_workspaces": True,
                "permissions": [],
                "role": role,
            }
        },
        "workspaces": {"1": {"id": 1, "name": "All Project Data", "project_id": project["project_id"],
                             "is_default": True, "is_global": True}},
    }  # fmt: skip


def service_accounts(db: sqlite3.Connection, account: sqlite3.Row) -> list[dict[str, Any]]:
    """Every account of the project, for those who may manage them. Raises Refusal 403."""
    if account["role"] not in MANAGERS:
        raise refused_by_app(403, "You do not have permission to manage service accounts.")
    rows = db.execute("select rowid, * from accounts order by rowid").fetchall()
    return [service_account(row) for row in rows]


def service_account(row: sqlite3.Row) -> dict[str, Any]:
    return {
        "id": row["rowid"],
        "username": row["username"],
        "last_used": "2026-11-20T09:00:00Z",
        "creator": 1,
        "created": "2026-01-05T09:00:00Z",
        "user": row["rowid"],
        "hasSensitiveAccess": False,
        "role": row["role"],
        "role_order": ROLES.index(row["role"]) + 1 if row["role"] in ROLES else 99,
        "target_type": "individual",
        "email": row["username"],
    }


def check_importer(db: sqlite3.Connection, authorization: str, project_id: str) -> None:
    """The project's token may import, and its owners and admins. Raises Refusal 401 and 403."""
    if by_token(db, authorization):
        return
    account = find_account(db, authorization)
    if account is None:
        raise refused_import(401, "Invalid credentials", "Unauthorized")
    if account["role"] not in MANAGERS:
        raise refused_import(403, "the service account needs the role of an owner or admin", "Forbidden")
    check_project(db, project_id, "/import")
