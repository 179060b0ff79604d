"""Files without a person: rows, lines, members of lists and passages that are theirs taken out of what is left."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from isal import igzip

from cohortsync import config, emails, report

IN_THEIR_PLACE = "forgotten"
LONG = 8  # an id of fewer characters may well mean something else inside a text
OWN = {"distinct_id", "$distinct_id", "mixpanel_distinct_id", "Distinct ID", "$distinct_id_before_identity", "$user_id",
       "user_id", "$email", "email", "address", "email_address", "canonical_id", "member_hash"}  # whose a record is
WHOLE = 64 * 1024 * 1024  # a JSON document up to this size is read at once


@dataclass(frozen=True)
class Marks:
    """What tells a person: ``ids`` as they are, ``addresses`` in any case."""

    ids: frozenset[str]
    addresses: frozenset[str]

    @cached_property
    def hashes(self) -> frozenset[str]:
        return frozenset(map(emails.member_hash, self.addresses))

    def are(self, value: Any) -> bool:
        """Whether a value is one of the person's own."""
        return isinstance(value, str) and (value in self.ids or value in self.hashes
                                           or emails.normalise(value) in self.addresses)

    @cached_property
    def anywhere(self) -> re.Pattern[str]:
        """Matches any of them where it stands by itself in a text."""
        return self._pattern(self.ids)

    @cached_property
    def surely(self) -> re.Pattern[str]:
        """The same without the ids that are short enough to mean something else."""
        return self._pattern(one for one in self.ids if len(one) >= LONG)

    def _pattern(self, ids: Iterable[str]) -> re.Pattern[str]:
        exact, folded = ([re.escape(spelt) for word in words for spelt in {word, escape(word)}]
                         for words in (ids, [*self.addresses, *self.hashes]))
        words = [*exact, *(f"(?i:{word})" for word in folded)] or [r"(?!)"]
        return re.compile(rf"(?<![\w.%+@$-])(?:{'|'.join(sorted(words, key=len, reverse=True))})(?![\w@$-])")


def strike(path: Path, marks: Marks) -> int:
    """Take a person out of a file, which is written anew where they are in it; answers how often they were."""
    if path.suffix == ".parquet":
        return _strike_table(path, marks)
    if path.suffix == ".ipynb":
        return _strike_notebook(path, marks)
    if path.suffix == ".html":
        return 0  # made anew with its notebook
    return _strike_text(path, marks)


def _strike_table(path: Path, marks: Marks) -> int:
    table = pq.read_table(path)
    wanted = pa.array([*marks.ids, *marks.addresses, *marks.hashes], pa.string())
    theirs = pa.array([False] * len(table), pa.bool_())
    for column in table.columns:
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            text = pc.cast(column, pa.string())
            named = pc.or_(pc.is_in(text, wanted), pc.is_in(pc.utf8_lower(pc.utf8_trim_whitespace(text)), wanted))
            theirs = pc.or_(theirs, named)
    struck = pc.sum(theirs).as_py() or 0
    if struck:
        content = io.BytesIO()
        pq.write_table(table.filter(pc.invert(theirs)), content)
        config.write_private(path, content.getvalue())
    return int(struck)


def _strike_notebook(path: Path, marks: Marks) -> int:
    """Take them out of a notebook's outputs, and make the report beside it anew."""
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    struck = 0
    for cell in notebook.cells:
        outputs, times = _silenced(cell.get("outputs", []), marks.anywhere)
        if times:
            cell.outputs, struck = nbformat.from_dict(outputs), struck + times
    if struck:
        config.write_private(path, nbformat.writes(notebook))
        page = path.with_suffix(".html")
        if page.exists():
            config.write_private(page, report.build_page(notebook, f"{path.name} · run {path.parent.name}"))
    return struck


def _silenced(value: Any, pattern: re.Pattern[str]) -> tuple[Any, int]:
    """A value of JSON in which every passage that names the person is replaced, and how many those were."""
    if isinstance(value, str):
        return pattern.subn(IN_THEIR_PLACE, value)
    if isinstance(value, list):
        parts = [_silenced(item, pattern) for item in value]
        return [part for part, _ in parts], sum(times for _, times in parts)
    if isinstance(value, dict):
        pairs = {key: _silenced(item, pattern) for key, item in value.items()}
        return {key: part for key, (part, _) in pairs.items()}, sum(times for _, times in pairs.values())
    return value, 0


def _strike_text(path: Path, marks: Marks) -> int:
    """A document of JSON as one, anything else line by line: a line that is theirs goes, a passage is replaced."""
    with _opened(path, "rt") as file:
        if not any(marks.anywhere.search(_plain(line)) for line in file):
            return 0
    draft = path.with_name(f".{path.name}.draft")
    with _opened(path, "rt") as file, _opened(draft, "wt", like=path) as kept:
        draft.chmod(0o600)
        left, struck = _without(file.read(WHOLE), marks)
        if left is not None and not file.read(1):
            kept.write(left)
        else:
            file.seek(0)
            struck = 0
            for line in file:
                left, times = _without_line(line, marks)
                kept.write(left)
                struck += times
    draft.replace(path)
    return struck


def _opened(path: Path, mode: str, like: Path | None = None) -> Any:
    """A text file as it lies on the disk, plain or gz; ``like``: the file whose form a new one takes."""
    with (like or path).open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    form = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}
    return igzip.open(path, mode, compresslevel=1, **form) if packed else path.open(mode, **form)  # type: ignore[call-overload]


def _plain(line: str) -> str:
    r"""A line with what JSON may have spelt as \u0040 and the like as it reads."""
    return re.sub(r"\\u([0-9a-fA-F]{4})", lambda code: chr(int(code[1], 16)), line) if "\\u" in line else line


def _without(text: str, marks: Marks) -> tuple[str | None, int]:
    """A document of JSON without the person; None for what is none."""
    try:
        document = json.loads(text)
    except ValueError:
        return None, 0
    left, struck = _struck(document, marks)
    left, more = _silenced(left, marks.surely)
    return json.dumps(left, ensure_ascii=False), struck + more


def _without_line(line: str, marks: Marks) -> tuple[str, int]:
    """A line without the person: none of it where it is theirs."""
    if not marks.anywhere.search(_plain(line)):
        return line, 0
    try:
        record = json.loads(line)
    except ValueError:  # a row of a CSV, or words
        theirs = any(map(marks.are, re.split(r'[,;\t"\r\n]', line)))
        return ("", 1) if theirs else marks.surely.subn(IN_THEIR_PLACE, line)
    if _is_theirs(record, marks):
        return "", 1
    left, times = _without(line, marks)
    return (f"{left}\n", times) if times else (line, 0)


def _is_theirs(record: Any, marks: Marks) -> bool:
    """Whether a record is the person's own, by what says whose it is, in it or in its properties."""
    if not isinstance(record, dict):
        return marks.are(record)
    properties = record.get("properties", record.get("$properties"))
    parts = [record, properties] if isinstance(properties, dict) else [record]
    return any(marks.are(part[name]) for part in parts for name in OWN & part.keys())


def _struck(value: Any, marks: Marks) -> tuple[Any, int]:
    """A value of JSON without the members of lists that are the person's, and how many those were."""
    if isinstance(value, list):
        left = [_struck(item, marks) for item in value if not _is_theirs(item, marks)]
        return [item for item, _ in left], len(value) - len(left) + sum(times for _, times in left)
    if isinstance(value, dict):
        pairs = {key: _struck(item, marks) for key, item in value.items()}
        times = sum(count for _, count in pairs.values())
        found = {key: item for key, (item, _) in pairs.items()}
        if times and isinstance(found.get("total"), int):
            found["total"] -= times
        return found, times
    return value, 0
