"""The page of the local Mixpanel: what it holds and what time it is there."""

from __future__ import annotations

import sqlite3
from html import escape

from ..page import frame, number, table
from .state import now


def build_page(db: sqlite3.Connection) -> str:
    """The whole page as HTML; ids and addresses are not on it."""
    project = db.execute("select * from project").fetchone()
    held = [
        (name, number(db.execute(f"select count(*) from {name}").fetchone()[0])) for name in ("events", "profiles")
    ]
    cohorts = [
        (str(row["id"]), row["name"], number(row["count"]))
        for row in db.execute("select id, name, count from cohorts order by id")
    ]
    days = [
        (row["day"], number(row["n"]))
        for row in db.execute("select day, count(*) as n from events group by day order by day desc limit 14")
    ]
    return frame(
        "Mixpanel",
        f"<section><h2>{escape(project['name'])} <small>{project['project_id']}</small></h2>"
        f"<p>It is {now(db):%Y-%m-%d %H:%M} UTC there. Time zone {escape(project['timezone'])}, "
        f"{escape(project['id_merge'])} ID merge.</p>"
        + table("What it holds", ("What", "How many"), held)
        + table("Cohorts", ("Id", "Name", "Size when last counted"), cohorts)
        + table("Events by day, the latest", ("Day", "Events"), days)
        + "</section>",
    )
