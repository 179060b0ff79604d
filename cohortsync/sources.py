"""The files a user brings: what they are, whether they are whole, and their lines.

Nothing here knows what an event or a profile is; the shapes are those that Mixpanel's export, its
pages and its clients write (NDJSON, JSON arrays and documents, CSV, lists of ids; plain or gz), and Parquet.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from blake3 import blake3
from isal import igzip, isal_zlib

from cohortsync import emails
from cohortsync.errors import BadInput

MAX_LINE = 32 * 1024 * 1024
MAX_JOINED_LINES, MAX_JOINED = 8, 1024 * 1024
BLOCK = 1 << 19  # of a file's bytes, taken in at once: more is memory that the C library asks for anew each time
ID_COLUMNS = ("$distinct_id", "distinct_id", "Distinct ID", "DISTINCT_ID")
EVENT_COLUMNS = ({"event", "time"}, {"event_name", "time"}, {"EVENT_NAME", "TIME"})
PARQUET = b"PAR1"
BOM = b"\xef\xbb\xbf"
DAMAGED: tuple[type[Exception], ...] = (EOFError, isal_zlib.error, gzip.BadGzipFile)  # type: ignore[assignment]
Progress = Callable[[str, float, float], None]
Tell = Callable[[int], None]
Hear = Callable[[bytes, int, int], object]


def silent(_label: str, _done: float, _total: float) -> None:
    """Progress that nobody watches."""


def unheard(*_read: object) -> None:
    """What is read of a file, when nobody wants to know."""


@dataclass(frozen=True)
class Source:
    """One file as found: ``shape`` is lines, array, document, csv, ids or parquet (``lines``: its rows).

    ``digest``: BLAKE3 of the decompressed bytes, blank until they are read, and ``lines`` guessed; ``sha256``: what
    older releases know them by, blank where they cannot have read them; no line has more bytes than ``longest``;
    ``nested``: the first is an event with an object of properties.
    """

    kind: str
    path: Path
    cohort: str
    shape: str
    compression: str
    nested: bool
    digest: str = ""
    sha256: str = ""
    lines: int = 0
    longest: int = 0

    @property
    def needs_spelling(self) -> bool:
        """Whether DuckDB's own reader of lines is not enough for events: another shape, or an endless line."""
        return self.shape != "parquet" and (self.shape != "lines" or self.longest > MAX_LINE)

    def after(self, reading: Reading) -> Source:
        """The same once it is read."""
        return replace(self, digest=reading.digest, lines=reading.lines, longest=reading.longest)

    def is_among(self, digests: Collection[str]) -> bool:
        """Whether a file of this content is among those of which these were kept, by whichever release."""
        return any(known in digests for known in (self.digest, self.sha256) if known)


class Reading:
    """What the bytes of a file come to while they pass: their hash, how many lines, and how long none of them is."""

    def __init__(self) -> None:
        self._hash = blake3()
        self._ended = self._open = self.longest = 0

    def take(self, piece: bytes) -> None:
        last_end = piece.rfind(b"\n")
        self.note(piece, piece.count(b"\n"), len(piece) - last_end - 1 + (self._open if last_end < 0 else 0))

    def note(self, piece: bytes, ended: int, left_open: int) -> None:
        """Take a piece in which so many lines are known to end, so many bytes after the last of them."""
        self._hash.update(piece)
        self.longest = max(self.longest, self._open + len(piece))
        self._ended += ended
        self._open = left_open

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    @property
    def lines(self) -> int:
        return self._ended + (self._open > 0)


def inspect(kind: str, path: Path, cohort: str = "", tell: Tell = unheard) -> Source:
    """Read a file once to its end (a gz to its checksum) and say what it is.

    ``kind``: events, profiles, mappings or cohort; ``tell`` hears how many of the file's bytes are read. Raises
    BadInput when the file is missing, damaged or something else.
    """
    path, compression = _readable(path)
    reading, sha256 = _read(path, compression, tell)
    shape, nested = _shape(kind, path, compression)
    source = Source(kind, path.resolve(), cohort, shape, compression, nested, sha256=sha256).after(reading)
    return replace(source, lines=_parquet_rows(path, compression)) if shape == "parquet" else source


def glance(path: Path) -> Source | None:
    """A file of events by its beginning, where that shows events with objects of properties; the rest is not read.

    Raises BadInput when the file is missing or something else.
    """
    path, compression = _readable(path)
    with suppress(*DAMAGED):
        shape, nested = _shape("events", path, compression)
        if nested:
            return Source("events", path.resolve(), "", shape, compression, nested,
                          lines=_guessed_lines(path, compression))
    return None


def _readable(path: Path) -> tuple[Path, str]:
    path = Path(os.path.expanduser(path))
    if not os.path.isfile(path):
        raise BadInput(f"{path} is not a file. Check the name and the folder.")
    if not os.access(path, os.R_OK):
        raise BadInput(f"{path} is not yours to read. Change its permissions or copy it.")
    return path, "gzip" if path.open("rb").read(2) == b"\x1f\x8b" else "uncompressed"


def opened(path: Path, compression: str) -> BinaryIO:
    return igzip.open(path, "rb") if compression == "gzip" else path.open("rb")


def _read(path: Path, compression: str, tell: Tell) -> tuple[Reading, str]:
    reading, sha256 = Reading(), hashlib.sha256()
    try:
        with path.open("rb") as raw, igzip.open(raw) if compression == "gzip" else raw as file:
            while piece := file.read(1 << 20):
                reading.take(piece)
                sha256.update(piece)
                tell(raw.tell())
    except DAMAGED as error:
        raise BadInput(f"{path} is a damaged gz file ({error}). Fetch it again; nothing was loaded.") from None
    return reading, sha256.hexdigest()


def _guessed_lines(path: Path, compression: str) -> int:
    """By the length of the first lines, and by the size that a gz file says it unpacks to."""
    with opened(path, compression) as file:
        head = file.read(1 << 20)
    with path.open("rb") as raw:
        size = raw.seek(0, os.SEEK_END)
        if compression == "gzip":
            raw.seek(-4, os.SEEK_END)
            size = max(size, int.from_bytes(raw.read(), "little"))
    return max(1, size * head.count(b"\n") // max(1, len(head)))


def _shape(kind: str, path: Path, compression: str) -> tuple[str, bool]:
    """What a file is by its beginning, and whether its first line is an event with an object of properties."""
    with opened(path, compression) as file:
        head = file.read(1 << 20).removeprefix(BOM).lstrip()
    if head.startswith(PARQUET):
        return "parquet", False
    first_line = head.partition(b"\n")[0].strip()
    if head.startswith(b"Unable to authenticate"):
        raise BadInput(f"{path} is not data but Mixpanel's refusal: Unable to authenticate request. Check the service "
                       "account's name, secret and project, and fetch it again.")
    if head[:1] == b"[":
        return "array", False
    if head[:1] == b"{":
        _refuse_error_answer(path, head)
        lines = kind == "events" or _is_json(first_line) or len(first_line) > 1 << 19
        return ("lines" if lines else "document"), lines and is_nested(first_line)
    if not head and kind == "events":  # a day on which nothing happened
        return "lines", False
    if not head:
        raise BadInput(f"{path} is empty. If there is truly nothing, say so: a file that holds only [].")
    return _text_shape(kind, path, first_line), False


def _parquet_rows(path: Path, compression: str) -> int:
    if compression != "uncompressed":
        raise BadInput(f"{path} is Parquet within gz. Unpack it first: gunzip; nothing was loaded.")
    try:
        return pq.read_metadata(path).num_rows
    except (pa.ArrowInvalid, OSError) as error:
        raise BadInput(f"{path} is a damaged Parquet file ({emails.scrub(str(error))[:200]}). Fetch it again; "
                       "nothing was loaded.") from None


def _text_shape(kind: str, path: Path, first_line: bytes) -> str:
    try:
        columns = next(csv.reader([first_line.decode()], strict=True), [])
    except (UnicodeDecodeError, csv.Error):
        columns = []
    if kind == "events" and any(names <= set(columns) for names in EVENT_COLUMNS):
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


def is_nested(text: bytes) -> bool:
    """Whether a line is an event with an object of properties."""
    record = json.loads(text) if _is_json(text) else {}
    return "event" in record and isinstance(record.get("properties"), dict)


def _refuse_error_answer(path: Path, head: bytes) -> None:
    """Mixpanel's refusals are JSON too, and easily saved in place of the data."""
    if not _is_json(head):
        return
    answer = json.loads(head)
    if "error" in answer and not answer.get("results") and answer.keys().isdisjoint(("event", *ID_COLUMNS)):
        raise BadInput(f"{path} is not data but an error answer from Mixpanel: "
                       f"{emails.scrub(str(answer['error']))[:200]}. Fetch it again.")


STREAM = pa.schema([("line", pa.int64()), ("text", pa.string())])


def stream(source: Source, tell: Tell = unheard, chunk_bytes: int = BLOCK) -> pa.RecordBatchReader:
    """Every line of a file as it stands, ``line, text``, blank ones too: fast, once only, nothing is judged.

    ``tell`` hears how many lines are read.
    """
    return pa.RecordBatchReader.from_batches(STREAM, (_slice(*block) for block in blocks(source, tell, chunk_bytes)))


def blocks(source: Source, tell: Tell, chunk_bytes: int,
           hear: Hear = unheard) -> Iterator[tuple[int, bytes, npt.NDArray[np.int64]]]:
    """A file as it is read: the number of a block's first line, the block, and where its lines end.

    ``tell`` hears how many lines are read, ``hear`` each piece of the file, how many lines end in it, and how many
    bytes of the next it leaves open.
    """
    line = 1
    with opened(source.path, source.compression) as file:
        head = file.read(len(BOM))
        rest = head.removeprefix(BOM)
        hear(head, 0, len(rest))
        while chunk := file.read(chunk_bytes):
            block = rest + chunk
            ends = line_ends(block)
            rest = block[ends[-1]:] if len(ends) else block
            hear(chunk, len(ends), len(rest))
            yield line, block, ends
            line += len(ends)
            tell(line - 1)
    yield line, rest, np.array([len(rest)] if rest else [], np.int64)


def line_ends(block: bytes) -> npt.NDArray[np.int64]:
    """Where each line of a block ends, its newline included; what stands after the last is no line yet.

    Eight bytes are looked at together first: in most of them no line ends.
    """
    is_end = np.zeros(-(-len(block) // 8) * 8, np.bool_)
    np.equal(np.frombuffer(block, np.uint8), ord("\n"), out=is_end[:len(block)])
    words = np.flatnonzero(is_end.view(np.uint64) != 0)
    found = np.flatnonzero(is_end.reshape(-1, 8)[words])
    return words[found // 8] * 8 + found % 8 + 1


def _slice(line: int, block: bytes, ends: npt.NDArray[np.int64]) -> pa.RecordBatch:
    """Lines as a table; none is copied out."""
    bounds = np.concatenate([[0], ends]).astype(np.int32)
    text = pa.StringArray.from_buffers(len(ends), pa.py_buffer(bounds), pa.py_buffer(block))
    return pa.record_batch([pa.array(np.arange(line, line + len(ends))), text], schema=STREAM)


Row = tuple[int, int | None, str | None, str | None, int]
LINES = pa.schema([("line", pa.int64()), ("byte_offset", pa.int64()), ("text", pa.string()),
                   ("reason", pa.string()), ("parts", pa.int64())])


def split(source: Source, batch_bytes: int = 16 << 20) -> pa.RecordBatchReader:
    """Every non-blank line of a file of lines, ids or CSV as a stream of ``line, byte_offset, text, reason, parts``.

    ``text`` is null where ``reason`` says why the line cannot even be read; a CSV row is a JSON object of its non-blank
    cells; a record split over several lines is put together, ``parts`` being their number. For CSV, and for files on
    which the fast reader gave up.
    """
    return pa.RecordBatchReader.from_batches(LINES, _batches(source, batch_bytes))


def _batches(source: Source, batch_bytes: int) -> Iterator[pa.RecordBatch]:
    rows: list[Row] = []
    held = 0
    with opened(source.path, source.compression) as file:
        for row in {"csv": _csv_rows, "ids": _id_rows}.get(source.shape, _line_rows)(file):
            rows.append(row)
            held += len(row[2] or "")
            if held > batch_bytes:
                yield _batch(rows)
                rows, held = [], 0
    yield _batch(rows)


def _batch(rows: list[Row]) -> pa.RecordBatch:
    columns = zip(*rows, strict=True) if rows else [[]] * len(LINES)
    return pa.record_batch([list(column) for column in columns], schema=LINES)


def _id_rows(file: BinaryIO) -> Iterator[Row]:
    for line, offset, raw in _raw_lines(file):
        yield line, offset, *_text(raw), 1


def _line_rows(file: BinaryIO) -> Iterator[Row]:
    for line, offset, raw, parts in _rejoined(_raw_lines(file)):
        yield line, offset, *_text(raw), parts


Line = tuple[int, int, bytes]


def _rejoined(lines: Iterator[Line]) -> Iterator[tuple[int, int, bytes, int]]:
    """The lines, those put together that are no JSON each but one object together: exports break records so.

    Only lines that follow each other, and never across a line that is JSON by itself.
    """
    held: list[Line] = []
    for line, offset, raw in lines:
        fragment = (held or not _looks_whole(raw)) and not _is_json(raw)
        if held and (not fragment or line != held[-1][0] + 1):
            yield from ((*each, 1) for each in held)
            held = []
        if not fragment:
            yield line, offset, raw, 1
            continue
        held.append((line, offset, raw))
        first, whole = _completed(held)
        if whole:
            yield from ((*each, 1) for each in held[:first])
            yield *held[first][:2], whole, len(held) - first
            held = []
        while len(held) == MAX_JOINED_LINES or sum(len(raw) for *_, raw in held) > MAX_JOINED:
            yield *held.pop(0), 1
    yield from ((*each, 1) for each in held)


def _looks_whole(raw: bytes) -> bool:
    """Whether a line is an object as far as can be told without parsing it."""
    text = raw.strip()
    return text[:1] == b"{" and text[-1:] == b"}" and text.count(b"{") == text.count(b"}")


def _completed(held: list[Line]) -> tuple[int, bytes]:
    """From which of the lines on they are one object, and that object's text; blank where they are none."""
    ends = [raw.rstrip(b"\r\n") for *_, raw in held]
    if ends[-1].rstrip()[-1:] == b"}":
        for first in range(len(ends) - 1):
            if ends[first].lstrip()[:1] == b"{":
                for glue in (b"\n", b""):
                    if _is_object(text := glue.join(ends[first:])):
                        return first, text
    return 0, b""


def _is_object(text: bytes) -> bool:
    """Whether text is a JSON object to DuckDB as well, which takes neither a NUL byte nor half a character."""
    try:
        record = json.loads(text.decode())
        json.dumps(record, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return False
    return isinstance(record, dict)


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
            yield line, None, None, "broken quotes or an endless cell", 1
            continue
        if cells:
            yield line, None, *_object(header, cells), 1


def _object(header: list[str], cells: list[str]) -> tuple[str | None, str | None]:
    if len(cells) != len(header):
        return None, "not as many cells as columns"
    text = json.dumps({name: cell for name, cell in zip(header, cells, strict=True) if cell}, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return None, "not UTF-8"
    return text, None


def _raw_lines(file: BinaryIO) -> Iterator[Line]:
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
