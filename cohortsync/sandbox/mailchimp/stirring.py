"""Someone whom a request names changes right before it takes effect: by their own doing, or by hand in the account.

Nobody comes back: a status changes to unsubscribed, cleaned or archived, and who is new comes by a form of
their own.
"""

from __future__ import annotations

import json
import random
import sqlite3
from typing import Any

from ..state import State
from .addresses import address_fault
from .members import find_member, insert_member, set_status
from .tags import remove_from_segment

CAME = ("subscribed", "pending", "unsubscribed")
LEFT = {"unsubscribed": "person", "cleaned": "person", "archived": "api"}


def stir(state: State, chance: random.Random, path: str, body: bytes) -> None:
    """Change one of the people in a write's body; nothing when it names nobody."""
    parts = path.strip("/").split("/")
    if not (named := named_in(body)) or parts[1:2] != ["lists"]:
        return
    with state.transaction() as db:
        change_one(db, chance, parts[2], chance.choice(named))


def named_in(body: bytes) -> list[str]:
    """The addresses that a batch subscribe or a segment call names."""
    try:
        told: Any = json.loads(body or b"{}")
    except ValueError:
        return []
    people = [each["email_address"] for each in told.get("members", [])]
    return people + told.get("members_to_add", []) + told.get("members_to_remove", [])


def change_one(db: sqlite3.Connection, chance: random.Random, audience_id: str, address: str) -> None:
    member = find_member(db, audience_id, address)
    if member is None:
        if not address_fault(address):
            insert_member(db, audience_id, address, chance.choice(CAME), {}, {}, unsubscribed_by="person")
    elif member["status"] in ("subscribed", "transactional") and chance.random() < 0.7:
        status = chance.choice(list(LEFT))
        set_status(db, member, status, unsubscribed_by=LEFT[status])
    else:
        held = db.execute("select segment_id from segment_members where member_id = ?", (member["id"],)).fetchall()
        for row in held:
            remove_from_segment(db, row["segment_id"], [member["id"]])
