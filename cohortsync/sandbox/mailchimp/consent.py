"""Who changed whose consent: every change that a request made to people who were there already.

A member's status and the tags they wear are watched by the database itself, whatever code changes them.
An app is told by the user name of its Basic authorization, which Mailchimp leaves free. What people,
their mailboxes and the sandbox's own faults do is nobody's request, and is not kept here.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WATCH = (
    "create table if not exists asking (app text, request text)",
    "create table if not exists segment_makers (segment_id integer primary key, app text)",
    "create table if not exists consent_changes (id integer primary key, app text, request text, what text,"
    " member text, before text, after text)",
    "create trigger if not exists segment_made after insert on segments begin"
    " insert or replace into segment_makers select new.id, app from asking; end",
    "create trigger if not exists status_changed after update of status on members"
    " when old.status <> new.status begin"
    " insert into consent_changes (app, request, what, member, before, after)"
    " select app, request, 'status', old.hash, old.status, new.status from asking; end",
    "create trigger if not exists member_deleted after delete on members begin"
    " insert into consent_changes (app, request, what, member, before, after)"
    " select app, request, 'deleted', old.hash, old.status, '' from asking; end",
    "create trigger if not exists tag_lost after delete on segment_members begin"
    " insert into consent_changes (app, request, what, member, before, after)"
    " select app, request, 'tag', (select hash from members where id = old.member_id), old.segment_id,"
    " coalesce((select app from segment_makers where segment_id = old.segment_id), '') from asking; end",
)
BREACHES = """
select request, what, coalesce(member, '') as member, before, after from consent_changes
where app = :app and request like '% /3.0/%'
    and (what <> 'tag' or after <> :app or request not like 'POST %/segments/' || before)
order by id
"""


def watch(db: sqlite3.Connection) -> None:
    """Begin to watch a state, or go on."""
    for statement in WATCH:
        db.execute(statement)
    db.execute("delete from asking")


@contextmanager
def asked_by(db: sqlite3.Connection, app: str, request: str) -> Iterator[None]:
    """What changes inside is this app's doing, by this request."""
    db.execute("insert into asking values (?, ?)", (app, request))
    yield
    db.execute("delete from asking")


def hand_over(db: sqlite3.Connection, segment_id: int, app: str = "cohortsync") -> None:
    """The account's owner lets an app have a segment that others made; `--adopt` says so to a sync."""
    db.execute("insert or replace into segment_makers values (?, ?)", (segment_id, app))


def breaches(state_file: Path, app: str = "cohortsync") -> list[str]:
    """What an app did to people's consent that a sync must never do; each as a line without an address.

    Never: another status for someone who was there, be it back or away; someone deleted; a tag lost by any
    request but a segment call, or from a segment that another app made and nobody handed over.
    """
    with sqlite3.connect(f"{state_file.absolute().as_uri()}?mode=ro", uri=True, timeout=30) as db:
        watched = db.execute("select 1 from sqlite_schema where name = 'consent_changes'").fetchone()
        found = db.execute(BREACHES, {"app": app}).fetchall() if watched else []
    db.close()
    return [f"{re.sub('[^/ ]+@[^/ ]+', '…', request)}: {what} of {member[:8]}, {before} to {after or 'none'}"
            for request, what, member, before, after in found]  # fmt: skip
