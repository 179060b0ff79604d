"""The page of a local service: what stands there, with nobody's address on it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

NOTHING_FROM_OUTSIDE = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:",
}
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


def frame(service: str, sections: str) -> str:
    """The whole page as HTML; it fetches nothing."""
    title = f"LOCAL REHEARSAL · {service}"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{title}</title><link rel="icon" href="data:,"><style>{STYLE}</style></head><body>'
        f"<h1>{title}</h1><p>Not {service}: a stand-in on this machine. Nothing here reaches anybody.</p>"
        f"{sections}</body></html>"
    )


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
