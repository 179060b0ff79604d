"""The files a user brings: what they are, whether they are whole, and their lines.

Nothing here knows what an event or a profile is; the shapes are those that Mixpanel's export, its
pages and its clients write (NDJSON, JSON arrays and documents, CSV, lists of ids; plain or gz).
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from cohortsync import emails
from cohortsync.errors import BadInput

MAX_LINE = 32 * 1024 * 1024
ID_COLUMNS = ("$distinct_id", "distinct_id", "Distinct ID")
BOM = b"\xef\xbb\xbf"
Progress = Callable[[str, float, float], None]


def silent(_label: str, _done: float, _total: float) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True)
class Source:
    """One file as found: ``shape`` is lines, array, document, csv or ids; ``sha256`` of the decompressed bytes;
    ``longest`` line in bytes (those under 1 MB not measured)."""

    kind: str
    path: Path
    cohort: str
    sha256: str
    lines: int
    longest: int
    shape: str
    compression: str

    @property
    def needs_splitting(self) -> bool:
        """Whether DuckDB's reader would take what it should not: rows of a broken CSV, an endless line."""
        endless = self.longest > MAX_LINE and self.kind == "events"
        return self.shape == "csv" or (self.shape == "lines" and endless)


def inspect(kind: str, path: Path, cohort: str = "", progress: Progress = silent) -> Source:
    """Read a file once to its end (a gz to its checksum) and say what it is.

    ``kind``: events, profiles or cohort. Raises BadInput when it is missing, damaged or something else.
    """
    path = Path(os.path.expanduser(path))
    if not os.path.isfile(path):
        raise BadInput(f"{path} is not a file. Check the name and the folder.")
    if not os.access(path, os.R_OK):
        raise BadInput(f"{path} is not yours to read. Change its permissions or copy it.")
    compression = "gzip" if path.open("rb").read(2) == b"\x1f\x8b" else "uncompressed"
    sha256, lines, longest = _digest(path, compression, progress)
    return Source(kind, path.resolve(), cohort, sha256, lines, longest, _shape(kind, path, compression), compression)


def opened(path: Path, compression: str) -> BinaryIO:
    return gzip.open(path, "rb") if compression == "gzip" else path.open("rb")  # type: ignore[return-value]


def _digest(path: Path, compression: str, progress: Progress) -> tuple[str, int, int]:
    digest, size, last = hashlib.sha256(), path.stat().st_size, b"\n"
    lines = longest = open_line = 0
    try:
        with path.open("rb") as raw, gzip.open(raw) if compression == "gzip" else raw as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
                lines, last = lines + chunk.count(b"\n"), chunk[-1:]
                longest = max(longest, open_line + len(chunk.partition(b"\n")[0]))
                open_line = len(chunk.rpartition(b"\n")[2]) + (0 if b"\n" in chunk else open_line)
                progress(f"Reading {path.name}", raw.tell(), size)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadInput(f"{path} is a damaged gz file ({error}). Fetch it again; nothing was loaded.") from None
    return digest.hexdigest(), lines + (last != b"\n"), longest


def _shape(kind: str, path: Path, compression: str) -> str:
    with opened(path, compression) as file:
        head = file.read(1 << 20).removeprefix(BOM).lstrip()
    first_line = head.partition(b"\n")[0].strip()
    if head.startswith(b"Unable to authenticate"):
        raise BadInput(f"{path} is not data but Mixpanel's refusal: Unable to authenticate request. Check the service "
                       "account's name, secret and project, and fetch it again.")
    if head[:1] == b"[":
        return "array"
    if head[:1] == b"{":
        _refuse_error_answer(path, head)
        return "lines" if kind == "events" or _is_json(first_line) or len(first_line) > 1 << 19 else "document"
    if not head and kind == "events":  # a day on which nothing happened
        return "lines"
    if not head:
        raise BadInput(f"{path} is empty. If there is truly nothing, say so: a file that holds only [].")
    return _text_shape(kind, path, first_line)


def _text_shape(kind: str, path: Path, first_line: bytes) -> str:
    try:
        columns = next(csv.reader([first_line.decode()], strict=True), [])
    except (UnicodeDecodeError, csv.Error):
        columns = []
    if kind == "events" and "event" in columns and "time" in columns:
        return "csv"
    if kind != "events" and any(name in columns for name in ID_COLUMNS):
        return "csv"
    if kind == "cohort" and len(columns) == 1 and columns[0].isprintable() and not columns[0].startswith("<"):
        return "ids"
    if kind == "events":  # broken lines may come first: let every line be judged
        return "lines"
    raise BadInput(f"{path} cannot be loaded as {kind}: it is no JSON, and no CSV with a column "
                   f"{' or '.join(ID_COLUMNS)}.")


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse_error_answer(path: Path, head: bytes) -> None:
    """Mixpanel's refusals are JSON too, and easily saved in place of the data."""
    if not _is_json(head):
        return
    answer = json.loads(head)
    if "error" in answer and not answer.get("results") and answer.keys().isdisjoint(("event", *ID_COLUMNS)):
        raise BadInput(f"{path} is not data but an error answer from Mixpanel: "
                       f"{emails.scrub(str(answer['error']))[:200]}. Fetch it again.")


Row = tuple[int, int | None, str | None, str | None]
LINES = pa.schema([("line", pa.int64()), ("byte_offset", pa.int64()), ("text", pa.string()),
                   ("reason", pa.string())])


def split(source: Source, batch_bytes: int = 16 << 20) -> pa.RecordBatchReader:
    """Every non-blank line of a file of lines, ids or CSV as a stream of ``line, byte_offset, text, reason``.

    ``text`` is null where ``reason`` says why the line cannot even be read; a CSV row is a JSON object of
    its non-blank cells. For CSV, and for files on which the fast reader gave up.
    """
    return pa.RecordBatchReader.from_batches(LINES, _batches(source, batch_bytes))


def _batches(source: Source, batch_bytes: int) -> Iterator[pa.RecordBatch]:
    rows: list[Row] = []
    held = 0
    with opened(source.path, source.compression) as file:
        for row in _csv_rows(file) if source.shape == "csv" else _line_rows(file):
            rows.append(row)
            held += len(row[2] or "")
            if held > batch_bytes:
                yield _batch(rows)
                rows, held = [], 0
    yield _batch(rows)


def _batch(rows: list[Row]) -> pa.RecordBatch:
    columns = zip(*rows, strict=True) if rows else ([], [], [], [])
    return pa.record_batch([list(column) for column in columns], schema=LINES)


def _line_rows(file: BinaryIO) -> Iterator[Row]:
    for line, offset, raw in _raw_lines(file):
        yield line, offset, *_text(raw)


def _csv_rows(file: BinaryIO) -> Iterator[Row]:
    """Each row at the line where it begins; a quote never closed costs the rows up to the reader's cell limit."""
    reader = csv.reader(io.TextIOWrapper(file, "utf-8-sig", "surrogateescape", newline=""), strict=True)
    header = next(reader, [])
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield line, None, None, "broken quotes or an endless cell"
            continue
        if cells:
            yield line, None, *_object(header, cells)


def _object(header: list[str], cells: list[str]) -> tuple[str | None, str | None]:
    if len(cells) != len(header):
        return None, "not as many cells as columns"
    text = json.dumps({name: cell for name, cell in zip(header, cells, strict=True) if cell}, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return None, "not UTF-8"
    return text, None


def _raw_lines(file: BinaryIO) -> Iterator[tuple[int, int, bytes]]:
    """Line number from 1, byte offset and bytes of each non-blank line; an endless line is cut, not held."""
    number = offset = 0
    while raw := file.readline(MAX_LINE + 1):
        number, start, offset = number + 1, offset, offset + len(raw)
        while len(raw) > MAX_LINE and not raw.endswith(b"\n") and (rest := file.readline(MAX_LINE)):
            offset += len(rest)
            if rest.endswith(b"\n"):
                break
        raw = raw.removeprefix(BOM) if number == 1 else raw
        if raw.strip():
            yield number, start, raw


def _text(raw: bytes) -> tuple[str | None, str | None]:
    if len(raw) > MAX_LINE:
        return None, "longer than 32 MB"
    if b"\x00" in raw:
        return None, "holds a NUL byte"
    try:
        return raw.decode().strip(), None
    except UnicodeDecodeError:
        return None, "not UTF-8"
