"""An export as it arrives, split into raw files by day, in constant memory."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
from isal import igzip

from cohortsync.config import private_folder
from cohortsync.cutting import Numbers, places
from cohortsync.disk import to_disk
from cohortsync.lines import CUT_SHORT
from cohortsync.mixpanel import Interrupted
from cohortsync.sources import Reading, Source, is_nested, line_ends

EPOCH = date(1970, 1, 1)
MILLISECONDS_FROM = 100_000_000_000
# As exports write a record; one written otherwise is looked at by itself.
USUAL = re.compile(rb'\n\{"event":\s?"[^"\\\n]*(?:\\.[^"\\\n]*)*",\s?"properties":\s?\{"time":\s?(\d{1,15})(?=[,}])')
BEGINS = re.compile(rb'\s*\{\s*"(?:event|properties)"\s*:')
SOME_TIME = re.compile(rb'"time":\s?(\d{1,15})')
CUT = re.compile(rb"[^\n]*" + CUT_SHORT.encode() + rb"\s*(?=\n)")
LONGEST = 32 << 20
BEFORE_TIME = b'{"time":'
DIGITS = 10  # of seconds from 2001 to 2286
POWERS = 10 ** np.arange(DIGITS - 1, -1, -1, dtype=np.int64)


@dataclass(frozen=True)
class Kept:
    """A day as it was kept: how many events, their file (None: no events), and what a load would find out about it
    (None: it has to look for itself)."""

    events: int
    path: Path | None = None
    source: Source | None = None


NOTHING = Kept(0)


class DayFile:
    """One day's lines on their way to the disk, and what there is to know of them."""

    def __init__(self, draft: Path) -> None:
        draft.touch(mode=0o600)
        self.draft, self.file = draft, igzip.open(draft, "wb", 1)
        self.reading = Reading()
        self.events = 0
        self.first = b""

    def write(self, lines: bytes, events: int) -> None:
        """Take in whole lines that hold so many events."""
        self.first = self.first or lines[:lines.find(b"\n") + 1]
        self.file.write(lines)
        self.reading.take(lines)
        self.events += events

    def keep(self, path: Path) -> Kept:
        """Give a file that is closed and on the disk its name."""
        self.draft.replace(path)
        usual = USUAL.match(b"\n" + self.first) and is_nested(self.first)
        source = Source("events", path.resolve(), "", "lines", "gzip", nested=True).after(self.reading)
        return Kept(self.events, path, source if usual else None)

    def discard(self) -> None:
        self.file.close()
        self.draft.unlink(missing_ok=True)


class DayFiles:
    """Raw lines on their way into one gz file a day; drafts until ``keep``.

    ``first`` and ``last`` are the days that were asked for; a line of another day goes with the nearest of them. What
    came is written beside, while the next piece is taken in; never more than one waits.
    """

    def __init__(self, folder: Path, mark: str, first: date, last: date) -> None:
        self.folder, self.mark = private_folder(folder), mark
        self.first, self.last = (first - EPOCH).days, (last - EPOCH).days
        self.files: dict[int, DayFile] = {}
        self.day = self.first  # of the record before
        self.told = False  # whether any record told its day
        self.rest = b""
        self.beside = ThreadPoolExecutor(1)
        self.writing: Future[None] = Future()
        self.writing.set_result(None)

    def write(self, piece: bytes) -> None:
        """Take in a piece of the export, which may begin and end in the middle of a line.

        Raises Interrupted at the line by which Mixpanel owns up to having stopped in the middle.
        """
        text = self.rest + piece
        end = text.rfind(b"\n") + 1
        self.rest = text[end:]
        if end:
            self._write_lines(text[:end])

    def _write_lines(self, block: bytes, ended: bool = False) -> None:
        ends = line_ends(block)
        seconds = _seconds_at_once(block, ends)
        if seconds is None:
            _refuse_cut_short(block)
            seconds = np.array(USUAL.findall(b"\n" + block)).astype(np.int64)
        if len(seconds) == len(ends):
            self.told |= bool(len(seconds))
            days = np.where(seconds >= MILLISECONDS_FROM, seconds // 1000, seconds) // 86400
        else:
            days, ends = self._look_at_each(block, ended)
        if len(days):
            self.day = int(days[-1].clip(self.first, self.last))
            self.writing.result()
            self.writing = self.beside.submit(self._write_runs, block, days.clip(self.first, self.last), ends)

    def _write_runs(self, block: bytes, days: Numbers, ends: Numbers) -> None:
        """Records that follow each other on the same day are written at once."""
        turns = np.append(np.flatnonzero(np.diff(days)), len(days) - 1)
        start = counted = 0
        for turn in turns.tolist():
            end = int(ends[turn])
            self._file(int(days[turn])).write(block[start:end], turn + 1 - counted)
            start, counted = end, turn + 1

    def _look_at_each(self, block: bytes, ended: bool) -> tuple[Numbers, Numbers]:
        """Day and end of each record, a broken one with all of its lines; what is no record goes with the one before.

        A last one that does not tell its day yet waits for its other lines.
        """
        days, ends = [self.day], [0]
        records = list(_records(block))
        for number, record in enumerate(records, 1):
            day = _day_of(record)
            self.told |= day is not None
            if day is None and number == len(records) and len(record) < LONGEST and not ended:
                self.rest = record + self.rest
                break
            days.append(days[-1] if day is None else min(max(day, self.first), self.last))
            ends.append(ends[-1] + len(record))
        return np.array(days[1:], np.int64), np.array(ends[1:], np.int64)

    def _file(self, day: int) -> DayFile:
        if day not in self.files:
            self.files[day] = DayFile(self._path(day, ".draft"))
        return self.files[day]

    def _path(self, day: int, end: str = "") -> Path:
        return self.folder / f"{EPOCH + timedelta(day)}.{self.mark}.ndjson.gz{end}"

    def keep(self) -> dict[date, Kept]:
        """Make the files what they are called, on disk for good.

        Raises Interrupted when the last line is not whole, or nothing of all that came is an event.
        """
        last = self.rest.rpartition(b"\n")[2]
        if last and not _is_whole(last) and not _is_whole(self.rest):
            raise Interrupted("Mixpanel's export ended in the middle of a line. Try again later.")
        if self.rest:
            self._write_lines(self.rest + b"\n" * bool(last), ended=True)
        self.writing.result()
        if self.files and not self.told:
            raise Interrupted("Mixpanel answered with something that is no events. Try again later.")
        for file in self.files.values():
            file.file.close()
        to_disk(*(file.draft for file in self.files.values()))
        kept = {day: file.keep(self._path(day)) for day, file in self.files.items()}
        to_disk(self.folder)
        return {EPOCH + timedelta(day): kept.get(day, NOTHING) for day in range(self.first, self.last + 1)}

    def discard(self) -> None:
        wait([self.writing])
        for file in self.files.values():
            file.discard()


@contextmanager
def day_files(folder: Path, mark: str, first: date, last: date) -> Iterator[DayFiles]:
    """Files for days of an export; the drafts are gone again when it does not end well."""
    files = DayFiles(folder, mark, first, last)
    with files.beside:
        try:
            yield files
        except BaseException:
            files.discard()
            raise


def _seconds_at_once(block: bytes, ends: Numbers) -> Numbers | None:
    """The time of each line, where all are whole and written as exports write them, time first; else None."""
    found = places(block, ends)
    properties, closing = found[:, 3], found[:, 4]
    width = len(BEFORE_TIME) + DIGITS + 1
    if (closing == found[:, 0]).any() or properties[-1] + width > len(block):
        return None
    windows = np.lib.stride_tricks.sliding_window_view(np.frombuffer(block, np.uint8), width)[properties]
    digits, after = windows[:, len(BEFORE_TIME):-1] - ord("0"), windows[:, -1]
    told = ((windows[:, :len(BEFORE_TIME)] == np.frombuffer(BEFORE_TIME, np.uint8)).all() and (digits <= 9).all()
            and ((after == ord(",")) | (after == ord("}"))).all())
    return digits @ POWERS if told else None


def _refuse_cut_short(block: bytes) -> None:
    if CUT_SHORT.encode() in block and any(not _is_whole(line) for line in CUT.findall(block)):
        raise Interrupted(f"Mixpanel gave up in the middle of an export ({CUT_SHORT}). Try again later.")


def _is_whole(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _records(block: bytes) -> Iterator[bytes]:
    """Lines that belong together: one that does not begin as records do goes on with the one before."""
    held: list[bytes] = []
    for line in block.split(b"\n")[:-1]:
        if held and BEGINS.match(line):
            yield b"".join(held)
            held = []
        held.append(line + b"\n")
    if held:
        yield b"".join(held)


def _day_of(record: bytes) -> int | None:
    """The day that a record tells, or what there is of it; None when it does not."""
    told = USUAL.match(b"\n" + record)
    if not told:
        try:
            return _day(json.loads(record)["properties"]["time"])
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            told = SOME_TIME.search(record)
    return _day(int(told[1])) if told else None


def _day(time: float) -> int:
    return int(time // (86_400_000 if time >= MILLISECONDS_FROM else 86400))
