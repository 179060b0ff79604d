"""What the local Mixpanel remembers, and what time it is there."""

from __future__ import annotations

import sqlite3
import time
from datetime import UTC, datetime

SCHEMA = """
create table project (project_id integer, name text, timezone text, id_merge text, created_on text, domain text,
    token text);
create table clock (offset_s real, stopped_s real);
create table accounts (username text primary key, secret text, role text, sees_me integer);
create table profiles (distinct_id text primary key, properties text);
create table cohorts (id integer primary key, name text, description text, created text, is_visible integer,
    data_group_id integer, count integer);
create table cohort_members (cohort_id integer, distinct_id text, primary key (cohort_id, distinct_id)) without rowid;
create table events (id integer primary key, day text, time_s integer, event text, distinct_id text, insert_id text,
    line text);
create index events_by_day on events (day, id);
create table sessions (session_id text primary key, ids text, page_size integer, created_s real);
create table requests (kind text, at_s real);
create table settings (name text primary key, value text);
"""


def make_tables(db: sqlite3.Connection) -> bool:
    """Create the tables in an empty file; False when they are there already."""
    if db.execute("select 1 from sqlite_schema where name = 'project'").fetchone():
        return False
    for statement in filter(str.strip, SCHEMA.split(";")):
        db.execute(statement)
    return True


def now_s(db: sqlite3.Connection) -> float:
    """The local Mixpanel's clock: it runs as fast as any, from where it was set, and stands while nobody serves."""
    offset_s, stopped_s = db.execute("select offset_s, stopped_s from clock").fetchone()
    return float(time.time() + offset_s if stopped_s is None else stopped_s)


def now(db: sqlite3.Connection) -> datetime:
    return datetime.fromtimestamp(now_s(db), UTC)


def stop_clock(db: sqlite3.Connection) -> None:
    """Note the time, to go on from there however long the service is down."""
    db.execute("update clock set stopped_s = ? where stopped_s is null", (now_s(db),))


def start_clock(db: sqlite3.Connection) -> None:
    db.execute("update clock set offset_s = stopped_s - ? where stopped_s is not null", (time.time(),))
    db.execute("update clock set stopped_s = null")


def move_clock(db: sqlite3.Connection, seconds: float) -> None:
    db.execute("update clock set offset_s = offset_s + ?, stopped_s = stopped_s + ?", (seconds, seconds))


def setting(db: sqlite3.Connection, name: str, default: str = "") -> str:
    row = db.execute("select value from settings where name = ?", (name,)).fetchone()
    return str(row[0]) if row else default


def keep_settings(db: sqlite3.Connection, values: dict[str, str]) -> None:
    db.executemany("insert or replace into settings values (?, ?)", [(str(k), str(v)) for k, v in values.items()])
