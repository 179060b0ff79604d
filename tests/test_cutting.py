"""Lines of events are cut by position only where they are written as Mixpanel writes them."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cohortsync.cutting import cut
from cohortsync.sources import BLOCK, inspect, unheard

NAMES = st.one_of(st.text(max_size=90).map(lambda name: json.dumps(name, ensure_ascii=False)[1:-1]),
                  st.text(max_size=9).map(lambda name: json.dumps(name)[1:-1]), st.sampled_from(["Sign up", "a" * 80]))
PROPERTIES = st.one_of(
    st.dictionaries(st.text(max_size=5), st.one_of(st.text(max_size=60), st.integers(), st.none(), st.just({"a": {}})))
    .map(lambda found: json.dumps(found, ensure_ascii=False, separators=(",", ":"))),
    st.sampled_from(["{}", "[1]", "3", '{"a":1', '{"a":"}}"}', '{"time":1},"more":{}']))
SHAPES = st.sampled_from(3 * ['{"event":"NAME","properties":PROPERTIES}\n'] + [
    '{"event": "NAME", "properties": PROPERTIES}\n', '{"event":"NAME","properties":PROPERTIES}\r\n', "\n", "}}\n",
    "terminated early\n",
    '{"properties":PROPERTIES,"event":"NAME"}\n', '{"event":"NAME","properties":{"a":1},"also":PROPERTIES}\n',
    ' {"event":"NAME","properties":PROPERTIES}\n', '{"event":"NAME","event":"","properties":PROPERTIES}\n'])
LINES = st.builds(lambda shape, name, properties: shape.replace("NAME", name).replace("PROPERTIES", properties),
                  SHAPES, NAMES, PROPERTIES)


Cut = tuple[str | None, str | None, str | None]


def cut_lines(folder: Path, text: bytes, chunk_bytes: int = BLOCK) -> list[Cut]:
    """An event's name, its properties and, in place of these, the whole line: of each line of a file."""
    file = folder / "events.ndjson"
    file.write_bytes(text)
    pieces = cut(inspect("events", file), unheard, chunk_bytes)  # noqa: F841
    rows = duckdb.sql("from pieces").fetchall()
    assert [line for line, *_ in rows] == list(range(1, 1 + len(rows)))
    return [(event, properties, whole) for _, event, properties, whole in rows]


def put_together(found: Cut) -> str:
    event, properties, whole = found
    return whole or f'{{"event":"{event}","properties":{properties}}}\n'


@given(lines=st.lists(LINES, min_size=1, max_size=30), chunk_bytes=st.sampled_from([50, 300, 1 << 20]),
       ended=st.booleans())
def test_a_line_is_cut_into_what_json_says_of_it_or_left_whole(
        tmp_path_factory, lines: list[str], chunk_bytes: int, ended: bool) -> None:
    text = "".join(['{"event":"first","properties":{}}\n', *lines]).encode()
    text = text if ended else text.rstrip(b"\n")
    found = cut_lines(tmp_path_factory.mktemp("cut"), text, chunk_bytes)
    assert "".join(map(put_together, found)).encode() == text
    for event, properties, whole in found:
        if whole is None:
            assert "\n" not in properties
            line, values = parsed(put_together((event, properties, whole))), parsed(properties)
            if isinstance(values, dict):
                assert line == {"event": event, "properties": values}
            else:
                assert line is None or set(line) != {"event", "properties"}
        else:
            assert (event, properties, whole.find("\n", 0, -1)) == (None, None, -1)


def parsed(text: str) -> dict | None:
    try:
        return json.loads(text)
    except ValueError:
        return None


def test_a_line_as_exports_write_it_is_cut_whatever_its_properties_hold(tmp_path: Path) -> None:
    properties = '{"time":1,"city":"Zürich","note":"}}\\n{"}'
    line = f'{{"event":"Sign up","properties":{properties}}}\n'
    assert cut_lines(tmp_path, 3 * line.encode())[0] == ("Sign up", properties, None)


@pytest.mark.parametrize("length", [1, 3, 4, 5, 8, 11, 12, 13, 16, 17, 63])
def test_a_name_is_cut_whole_however_long_it_is_and_wherever_a_block_ends(tmp_path: Path, length: int) -> None:
    names = ["abcdefghijklmnopqrstuvwxyz"[n:] * 3 for n in range(9)]
    lines = [f'{{"event":"{name[:length]}","properties":{{}}}}\n' for name in names]
    found = cut_lines(tmp_path, "".join(lines).encode(), chunk_bytes=4 * len(lines[0]) + 1)
    assert sum(whole is None for *_, whole in found) > 3
    assert list(map(put_together, found)) == lines
