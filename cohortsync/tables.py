"""Answers as a notebook shows them: HTML tables in which every text from outside is text, and no address whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from cohortsync import emails


class Answer(dict[str, Any]):
    """A dict that a notebook shows as a table, a row an entry; what it holds by name has rows of its own."""

    def _repr_html_(self) -> str:
        return table(self)


def table(entries: Mapping[str, Any], title: str = "", lines: Iterable[str] = ()) -> str:
    """Entries as rows under a title, with sentences below; entries that are empty are left out."""
    rows = "".join(f'<tr><th style="text-align:left">{_text(name)}</th><td style="text-align:right">{_text(value)}</td>'
                   "</tr>" for name, value in _flat(entries) if value not in (None, "", {}, []))
    caption = f'<caption style="text-align:left"><b>{_text(title)}</b></caption>' if title else ""
    return f"<table>{caption}<tbody>{rows}</tbody></table>" + "".join(f"<p>{_text(line)}</p>" for line in lines)


def _flat(entries: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    for name, value in entries.items():
        if isinstance(value, Mapping) and value:
            yield from ((f"{name} · {inner}", count) for inner, count in _flat(value))
        else:
            yield name, value


def _text(value: Any) -> str:
    """A value as a person reads it: numbers with separators, addresses masked, nothing acted on."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return escape(emails.scrub(str(value)))
