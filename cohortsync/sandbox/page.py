"""The page of the local Mailchimp: what stands in the audience, with nobody's address on it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from .addresses import masked
from .audiences import list_audiences
from .members import member_objects, status_counts
from .segments import list_segments

TITLE = "LOCAL REHEARSAL · Mailchimp"
SHOWN = 50
STYLE = """
:root { color-scheme: light dark; --ink: #1d2330; --soft: #5b6475; --line: #d9dde5;
  --paper: #fff; --flag: #a8480f }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8ebf1; --soft: #9aa3b5; --line: #343b49;
    --paper: #14171d; --flag: #f0a35e } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.4rem; color: var(--flag) } h2 { margin-top: 2.5rem } h3 { font-size: 1rem }
p, caption, small { color: var(--soft) }
table { border-collapse: collapse; width: 100% } caption { text-align: left; padding: .5rem 0 }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line) }
.scroll { overflow-x: auto }
"""


def build_page(db: sqlite3.Connection) -> str:
    """The whole page as HTML; it fetches nothing and shows addresses masked."""
    audiences, _ = list_audiences(db, count=100, offset=0)
    sections = "".join(audience_section(db, audience) for audience in audiences)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{TITLE}</title><link rel="icon" href="data:,"><style>{STYLE}</style></head><body>'
        f"<h1>{TITLE}</h1><p>Not Mailchimp: a stand-in on this machine. Nothing here reaches anybody.</p>"
        f"{sections}</body></html>"
    )


def audience_section(db: sqlite3.Connection, audience: dict[str, Any]) -> str:
    audience_id = audience["id"]
    counts = [(status, number(n)) for status, n in status_counts(db, audience_id).items()]
    segments, total = list_segments(db, audience_id, count=100, offset=0)
    held = [(each["name"], str(each["id"]), number(each["member_count"])) for each in segments]
    return (
        f"<section><h2>{escape(audience['name'])} <small>{escape(audience_id)}</small></h2>"
        + table("Contacts by status", ("Status", "Contacts"), counts)
        + table(f"Segments and tags ({total})", ("Name", "Id", "Active members"), held)
        + table(
            f"Contacts changed last (up to {SHOWN})",
            ("Address", "Status", "Tags", "Changed"),
            last_members(db, audience_id),
        )
        + "</section>"
    )


def last_members(db: sqlite3.Connection, audience_id: str) -> list[tuple[str, ...]]:
    rows = db.execute(
        "select * from members where audience_id = ? order by last_changed desc, id desc limit ?",
        (audience_id, SHOWN),
    ).fetchall()
    return [
        (
            masked(member["email_address"]),
            member["status"],
            ", ".join(tag["name"] for tag in member["tags"]),
            member["last_changed"],
        )
        for member in member_objects(db, audience_id, rows)
    ]


def table(caption: str, headings: Iterable[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return f"<p>{escape(caption)}: none yet.</p>"
    head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in headings)
    body = "".join("<tr>" + "".join(cell(text) for text in row) + "</tr>" for row in rows)
    return (
        f'<div class="scroll"><table><caption>{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def cell(text: str) -> str:
    return f"<td>{escape(text)}</td>"


def number(value: int) -> str:
    return f"{value:,}"
