"""What can be set while the local Mailchimp runs: its faults, and the behaviours that Mailchimp leaves open.

Of each open behaviour the first is the worst for a sync, and the one in force unless another is set.
"""

from __future__ import annotations

import sqlite3
from typing import Any

BEHAVIOURS = {
    "archived_in_batch": ("brought_back", "refused"),  # a batch subscribe without update_existing meets an archived one
    "archived_on_segment": ("ignored", "added"),  # a segment call meets an archived member
    "batch_tags": ("shown", "missing"),  # a batch's answer shows the tags just given
    "duplicate_names": ("allowed", "refused"),  # a second segment of one name
    "nobody_in_chunk": ("refuses_all", "removes"),  # a segment call whose members_to_add are all unknown
    "patch_segment": ("adds", "replaces"),  # PATCH with a non-empty static_segment
    "pending_on_segment": ("hidden", "listed"),  # pending members in a segment's listing
    "tag_changes_member": ("no", "yes"),  # whether a tag moves last_changed
    "tag_name": ("oldest", "newest"),  # where a tag goes by a name that several segments have
}
NUMBERS = {
    "fault_rate": 0.0,  # the share of requests that meet a fault
    "fault_seed": 0,
    "fault_from": 0,  # how many requests pass before the first fault may come
    "slow_seconds": 1.0,  # how long the slow faults take
    "delay_ms": 0.0,  # how long every answer takes
    "elsewhere": 0,  # connections that another app holds all the time
    "refused_share": 0.0,  # new people whom a batch refuses one by one, always the same ones
}
TEXTS = {
    "faults": "",
    "record": "",
    "batch_status": "",  # what new people of a batch become, whatever was asked
    "batch_updates": "",  # yes: a batch writes over who is there, though it was told not to
}
DEFAULTS: dict[str, Any] = {name: ways[0] for name, ways in BEHAVIOURS.items()} | NUMBERS | TEXTS


def make_table(db: sqlite3.Connection) -> None:
    db.execute("create table if not exists settings (name text primary key, value)")


def settings(db: sqlite3.Connection) -> dict[str, Any]:
    """Every setting with its value."""
    return DEFAULTS | dict(map(tuple, db.execute("select name, value from settings")))


def setting(db: sqlite3.Connection, name: str) -> Any:
    """The value in force of one setting."""
    row = db.execute("select value from settings where name = ?", (name,)).fetchone()
    return row[0] if row else DEFAULTS[name]


def change(db: sqlite3.Connection, wanted: dict[str, Any]) -> dict[str, Any]:
    """Set some; all as they then stand. Raises ValueError for a name or value that is none."""
    for name, value in wanted.items():
        check(name, value)
    db.executemany("insert or replace into settings values (?, ?)", list(wanted.items()))
    return settings(db)


def check(name: str, value: Any) -> None:
    if name in BEHAVIOURS:
        fits = value in BEHAVIOURS[name]
    else:
        fits = isinstance(value, (int, float)) if name in NUMBERS else name in TEXTS and isinstance(value, str)
    if not fits:
        raise ValueError(f"{name} cannot be {value!r}")
