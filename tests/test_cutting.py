"""Lines of events are cut by position only where they are written as Mixpanel writes them."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from cohortsync.cutting import cut
from cohortsync.sources import inspect, unheard

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


def pieces_of(folder: Path, text: bytes, chunk_bytes: int) -> list[tuple[int, list[bytes]]]:
    file = folder / "events.ndjson"
    file.write_bytes(text)
    source = inspect("events", file)
    rows = [row for batch in cut(source, unheard, chunk_bytes) for row in batch.to_pylist()]
    return [(row["line"], [piece.encode() for piece in row["pieces"]]) for row in rows]


@given(lines=st.lists(LINES, min_size=1, max_size=30), chunk_bytes=st.sampled_from([50, 300, 1 << 20]),
       ended=st.booleans())
def test_the_pieces_of_a_line_are_the_line_and_those_cut_out_are_what_json_says(
        tmp_path_factory, lines: list[str], chunk_bytes: int, ended: bool) -> None:
    text = "".join(['{"event":"first","properties":{}}\n', *lines]).encode()
    text = text if ended else text.rstrip(b"\n")
    found = pieces_of(tmp_path_factory.mktemp("cut"), text, chunk_bytes)
    assert [line for line, _ in found] == list(range(1, 1 + len(found)))
    assert b"".join(piece for _, pieces in found for piece in pieces) == text
    for (_, pieces), line in zip(found, text.split(b"\n"), strict=False):
        assert b"".join(pieces).rstrip(b"\n") == line
        if pieces[3]:
            whole, properties = parsed(line), parsed(pieces[3])
            if isinstance(properties, dict):
                assert whole == {"event": pieces[1].decode(), "properties": properties}
            else:
                assert whole is None or set(whole) != {"event", "properties"}


def parsed(text: bytes) -> dict | None:
    try:
        return json.loads(text)
    except ValueError:
        return None


def test_a_line_as_exports_write_it_is_cut_whatever_its_properties_hold(tmp_path: Path) -> None:
    properties = '{"time":1,"city":"Zürich","note":"}}\\n{"}'
    line = f'{{"event":"Sign up","properties":{properties}}}\n'
    first, *_ = pieces_of(tmp_path, 3 * line.encode(), 1 << 20)
    assert first == (1, [b'{"event":"', b"Sign up", b'","properties":', properties.encode(), b"}\n"])
