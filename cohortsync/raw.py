"""An export as it arrives, split into raw files by day, in constant memory."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from isal import igzip

from cohortsync.config import private_folder
from cohortsync.lines import CUT_SHORT
from cohortsync.mixpanel import Interrupted
from cohortsync.warehouse import to_disk

EPOCH = date(1970, 1, 1)
MILLISECONDS_FROM = 100_000_000_000
# As exports write a record; one written otherwise is looked at by itself.
USUAL = re.compile(rb'\n\{"event":\s?"[^"\\\n]*(?:\\.[^"\\\n]*)*",\s?"properties":\s?\{"time":\s?(\d{1,15})(?=[,}])')
BEGINS = re.compile(rb'\s*\{\s*"(?:event|properties)"\s*:')
SOME_TIME = re.compile(rb'"time":\s?(\d{1,15})')
CUT = re.compile(rb"[^\n]*" + CUT_SHORT.encode() + rb"\s*(?=\n)")
LONGEST = 32 << 20
Days = np.ndarray[Any, np.dtype[np.int64]]


class DayFiles:
    """Raw lines on their way into one gz file a day; drafts until ``keep``.

    ``first`` and ``last`` are the days that were asked for; a line of another day goes with the nearest of them.
    """

    def __init__(self, folder: Path, mark: str, first: date, last: date) -> None:
        self.folder, self.mark = private_folder(folder), mark
        self.first, self.last = (first - EPOCH).days, (last - EPOCH).days
        self.files: dict[int, BinaryIO] = {}
        self.events: Counter[int] = Counter()
        self.day = self.first  # of the record before
        self.told = False  # whether any record told its day
        self.rest = b""

    def write(self, piece: bytes) -> None:
        """Take in a piece of the export, which may begin and end in the middle of a line.

        Raises Interrupted at the line by which Mixpanel owns up to having stopped in the middle.
        """
        block, newline, self.rest = (self.rest + piece).rpartition(b"\n")
        if newline:
            self._write_lines(block + newline)

    def _write_lines(self, block: bytes, ended: bool = False) -> None:
        _refuse_cut_short(block)
        times = USUAL.findall(b"\n" + block)
        ends = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n")) + 1
        if len(times) == len(ends):
            seconds = np.array(times).astype(np.int64)
            self.told |= bool(times)
            days = np.where(seconds >= MILLISECONDS_FROM, seconds // 1000, seconds) // 86400
        else:
            days, ends = self._look_at_each(block, ended)
        if len(days):
            self._write_runs(block, days.clip(self.first, self.last), ends)

    def _write_runs(self, block: bytes, days: Days, ends: Days) -> None:
        """Records that follow each other on the same day are written at once."""
        self.day = int(days[-1])
        turns = np.append(np.flatnonzero(np.diff(days)), len(days) - 1)
        start = counted = 0
        for turn in turns.tolist():
            day, end = int(days[turn]), int(ends[turn])
            self._file(day).write(block[start:end])
            self.events[day] += turn + 1 - counted
            start, counted = end, turn + 1

    def _look_at_each(self, block: bytes, ended: bool) -> tuple[Days, Days]:
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

    def _file(self, day: int) -> BinaryIO:
        if day not in self.files:
            path = self._path(day, ".draft")
            path.touch(mode=0o600)
            self.files[day] = igzip.open(path, "wb", 1)
        return self.files[day]

    def _path(self, day: int, end: str = "") -> Path:
        return self.folder / f"{EPOCH + timedelta(day)}.{self.mark}.ndjson.gz{end}"

    def keep(self) -> dict[date, tuple[Path | None, int]]:
        """Make the files what they are called, on disk for good; the file (None: no events) and events of each day.

        Raises Interrupted when the last line is not whole, or nothing of all that came is an event.
        """
        last = self.rest.rpartition(b"\n")[2]
        if last and not _is_whole(last) and not _is_whole(self.rest):
            raise Interrupted("Mixpanel's export ended in the middle of a line. Try again later.")
        if self.rest:
            self._write_lines(self.rest + b"\n" * bool(last), ended=True)
        if self.files and not self.told:
            raise Interrupted("Mixpanel answered with something that is no events. Try again later.")
        for day, file in self.files.items():
            file.close()
            draft = self._path(day, ".draft")
            to_disk(draft)
            draft.replace(self._path(day))
        to_disk(self.folder)
        return {EPOCH + timedelta(day): (self._path(day) if day in self.files else None, self.events[day])
                for day in range(self.first, self.last + 1)}

    def discard(self) -> None:
        for day, file in self.files.items():
            file.close()
            self._path(day, ".draft").unlink(missing_ok=True)


@contextmanager
def day_files(folder: Path, mark: str, first: date, last: date) -> Iterator[DayFiles]:
    """Files for days of an export; the drafts are gone again when it does not end well."""
    files = DayFiles(folder, mark, first, last)
    try:
        yield files
    except BaseException:
        files.discard()
        raise


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
