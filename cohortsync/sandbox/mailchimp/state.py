"""What the local Mailchimp remembers."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta

SCHEMA = """
create table audiences (
    number integer primary key, id text unique, name text, created_at text, settings text);
create table merge_fields (
    audience_id text, merge_id integer, tag text, type text, required integer, field text,
    primary key (audience_id, merge_id)) without rowid;
create table members (
    id integer primary key autoincrement, audience_id text, hash text, email text, status text,
    unsubscribed_by text, merge_fields text, details text,
    timestamp_signup text, timestamp_opt text, last_changed text);
create unique index members_by_hash on members (audience_id, hash);
create index members_in_order on members (audience_id, id, status);
create index members_by_status on members (audience_id, status, id);
create index members_by_last_changed on members (audience_id, last_changed, status);
create table forgotten (audience_id text, hash text, primary key (audience_id, hash)) without rowid;
create table segments (
    id integer primary key autoincrement, audience_id text, name text, type text, options text,
    created_at text, updated_at text);
create index segments_by_name on segments (audience_id, name, id);
create table segment_members (
    segment_id integer, member_id integer, added_at text, primary key (segment_id, member_id)) without rowid;
create index segments_of_member on segment_members (member_id, segment_id);
create table clock (ahead_s real);
insert into clock values (0);
create table campaigns (
    id text primary key, audience_id text, segment_id integer, title text, sent_at text);
create table activity (
    id integer primary key, campaign_id text, member_id integer, action text, at text, url text);
create index activity_of_member on activity (member_id, id);
create index activity_of_campaign on activity (campaign_id, member_id, id);
insert into sqlite_sequence (name, seq) values ('members', 10000000), ('segments', 100000);
"""


def ahead_s(db: sqlite3.Connection) -> float:
    """How far the local Mailchimp's clock was moved on; it runs as fast as any."""
    return float(db.execute("select ahead_s from clock").fetchone()[0])


def instant(db: sqlite3.Connection) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=ahead_s(db))


def now(db: sqlite3.Connection) -> str:
    """The instant as the API writes it, whole seconds, UTC."""
    return instant(db).isoformat(timespec="seconds")


def move_clock(db: sqlite3.Connection, seconds: float) -> None:
    db.execute("update clock set ahead_s = ahead_s + ?", (seconds,))


def make_tables(db: sqlite3.Connection) -> bool:
    """Create the tables in an empty file; False when they are there already."""
    if db.execute("select 1 from sqlite_schema where name = 'audiences'").fetchone():
        return False
    for statement in filter(str.strip, SCHEMA.split(";")):
        db.execute(statement)
    return True
