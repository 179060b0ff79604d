"""Raw exports split by day as they arrive: every line kept, each with its day, however they are cut up."""

from __future__ import annotations

import gzip
import json
import random
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cohortsync.mixpanel import Interrupted
from cohortsync.raw import day_files
from cohortsync.sources import Source, inspect

FIRST = date(2026, 11, 14)
FIRST_S = 1_794_614_400
LAST = FIRST + timedelta(6)


def record(second: int, name: str = "Paid", **more: Any) -> bytes:
    return json.dumps({"event": name, "properties": {"time": FIRST_S + second, "distinct_id": "ann", **more}},
                      ensure_ascii=False).encode()


def split(folder: Path, export: bytes, pieces: int = 1, chance: random.Random | None = None) -> dict[date, list[bytes]]:
    """The lines of each day's file, after the export came in so many pieces."""
    cuts = sorted((chance or random.Random(0)).choices(range(len(export) + 1), k=pieces - 1))
    with day_files(folder, "mark", FIRST, LAST) as files:
        for start, end in zip([0, *cuts], [*cuts, len(export)], strict=True):
            files.write(export[start:end])
        kept = files.keep()
    assert list(kept) == [FIRST + timedelta(n) for n in range(7)]
    for one in kept.values():
        assert not one.source or as_found(one.source) == as_found(inspect("events", one.source.path))
    return {day: gzip.decompress(one.path.read_bytes()).splitlines(keepends=True) if one.path else []
            for day, one in kept.items()}


def as_found(source: Source) -> tuple[Source, bool]:
    return replace(source, longest=0, sha256=""), source.needs_spelling


def day_of(line: bytes) -> date:
    return FIRST + timedelta((json.loads(line)["properties"]["time"] - FIRST_S) // 86400)


# The ways in which one and the same record may be written.
SHAPES: list[Callable[[int], bytes]] = [
    record,
    lambda second: record(second, 'A "quoted" \\ name, {"event": "x"}'),
    lambda second: record(second, "Ünïcode\u2028", note='\n{"event": "Seen", "properties": {"time": 1'),
    lambda second: record(second, **{"nested": {"time": 5}}),
    lambda second: json.dumps(json.loads(record(second)), separators=(",", ":")).encode(),
    lambda second: b'{"properties": {"distinct_id": "ann", "time": %d}, "event": "Paid"}' % (FIRST_S + second),
    lambda second: b' { "event" : "Paid" , "properties" : { "a" : 1 , "time" : %d } } ' % (FIRST_S + second),
]
lines = st.lists(st.tuples(st.integers(0, 7 * 86400 - 1), st.sampled_from(SHAPES)).map(lambda pair: pair[1](pair[0])),
                 max_size=30)


@settings(deadline=None)
@given(lines, st.integers(1, 40), st.randoms(use_true_random=False))
def test_every_line_comes_to_its_day_however_the_export_is_cut_up(
        tmp_path_factory: pytest.TempPathFactory, export: list[bytes], pieces: int, chance: random.Random) -> None:
    found = split(tmp_path_factory.mktemp("raw"), b"".join(line + b"\n" for line in export), pieces, chance)
    assert {day: rows for day, rows in found.items() if rows} == {
        day: [line + b"\n" for line in export if day_of(line) == day] for day in {day_of(line) for line in export}}


@settings(deadline=None)
@given(st.lists(st.integers(0, 7 * 86400 - 1), min_size=1, max_size=12), st.integers(1, 40),
       st.randoms(use_true_random=False))
def test_a_record_broken_over_two_lines_stays_together_in_its_day(
        tmp_path_factory: pytest.TempPathFactory, seconds: list[int], pieces: int, chance: random.Random) -> None:
    whole = [record(second, **{"$insert_id": str(n), "$os": "iOS"}) for n, second in enumerate(seconds)]
    broken = [line.replace(b', "$', b',\n"$', 1) if chance.random() < 0.5 else line for line in whole]
    found = split(tmp_path_factory.mktemp("raw"), b"".join(line + b"\n" for line in broken), pieces, chance)
    for day, rows in found.items():
        assert b"".join(rows) == b"".join(
            line + b"\n" for line, one in zip(broken, whole, strict=True) if day_of(one) == day)


def test_of_a_day_as_exports_write_it_a_load_finds_nothing_out_that_is_not_known(tmp_path: Path) -> None:
    with day_files(tmp_path, "mark", FIRST, LAST) as files:
        files.write(b"".join(record(second) + b"\n" for second in range(0, 2 * 86400, 3600)))
        kept = files.keep()
    for day in (FIRST, FIRST + timedelta(1)):
        source = kept[day].source
        assert source and as_found(source) == as_found(inspect("events", source.path))


def test_milliseconds_are_seconds_too(tmp_path: Path) -> None:
    line = b'{"event": "Paid", "properties": {"time": %d, "distinct_id": "ann"}}\n' % ((FIRST_S + 86400) * 1000)
    assert split(tmp_path, line)[FIRST + timedelta(1)] == [line]


def test_a_line_of_another_day_goes_with_the_nearest_one(tmp_path: Path) -> None:
    before, after = record(-5) + b"\n", record(9 * 86400) + b"\n"
    found = split(tmp_path, before + after)
    assert (found[FIRST], found[LAST]) == ([before], [after])


def test_what_is_no_record_is_kept_where_it_came(tmp_path: Path) -> None:
    odd = [record(86400) + b"\n", b"what is this?\n", b"\n", b'{"half": \n', record(86401) + b"\n"]
    assert split(tmp_path, b"".join(odd), 9)[FIRST + timedelta(1)] == odd


@pytest.mark.parametrize("answer", [b"<html>\n<h1>Sign in</h1>\n</html>\n", b'{"status": "error"}', b"no"])
def test_an_answer_that_holds_no_event_at_all_is_refused(tmp_path: Path, answer: bytes) -> None:
    with pytest.raises(Interrupted):
        split(tmp_path, answer)
    assert list(tmp_path.iterdir()) == []


def test_the_last_line_needs_no_end(tmp_path: Path) -> None:
    assert split(tmp_path, record(1) + b"\n" + record(2))[FIRST] == [record(1) + b"\n", record(2) + b"\n"]


def test_a_day_without_events_has_no_file(tmp_path: Path) -> None:
    assert split(tmp_path, b"") == {FIRST + timedelta(n): [] for n in range(7)}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("export", [
    record(1) + b"\nterminated early\n", record(1) + b"\nterminated early", record(1)[:40] + b"terminated early\n",
    record(1) + b"\n" + record(2)[:-5], record(1) + b"\n" + record(2)[:-5] + b"\n" + b"terminated early\n"])
@pytest.mark.parametrize("pieces", [1, 20])
def test_an_export_that_stopped_in_the_middle_is_refused_and_leaves_nothing(tmp_path: Path, export: bytes, pieces: int
                                                                           ) -> None:
    with pytest.raises(Interrupted):
        split(tmp_path, export, pieces)
    assert list(tmp_path.iterdir()) == []


def test_an_event_may_say_that_something_was_terminated_early(tmp_path: Path) -> None:
    line = record(1, note="the call was terminated early") + b"\n"
    named = record(2, "terminated early") + b"\n"
    assert split(tmp_path, line + named)[FIRST] == [line, named]


def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    split(tmp_path / "events", record(1))
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "events").iterdir()} == {0o600}


def test_memory_stays_flat_however_long_the_export(tmp_path: Path) -> None:
    block = b"".join(record(second * 600, note="x" * 300) + b"\n" for second in range(1000))
    peaks = []
    for blocks in (20, 200):
        tracemalloc.start()
        with day_files(tmp_path, "mark", FIRST, LAST) as files:
            for _ in range(blocks):
                files.write(block[:300_000])
                files.write(block[300_000:])
            assert sum(day.events for day in files.keep().values()) == blocks * 1000
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0] + 100_000
