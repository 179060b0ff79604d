"""Every input users have: warehouse pipelines, Parquet, broken records put together, and bad lines of every sort."""

from __future__ import annotations

import gzip
import json
import os
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import examples
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import cohortsync as cs
from cohortsync import lines as line_reader
from cohortsync import sources, warehouse
from cohortsync.errors import BadInput
from cohortsync.intake import LoadReport

NOON = 1_700_000_000
BLANK = "2023-11-14 22:13:20"
PROPERTIES = {"$city": "Zürich", "utm": 1, "UTM": 2, "nothing": None, "deep": {"a": [1, None]},
              "mp_processing_time_ms": NOON * 1000 + 7}
MASTER = {"event_name": "Opened", "distinct_id": "ann", "device_id": "dev-1", "insert_id": "i-1", "user_id": "ann",
          "time": f"{BLANK} UTC", "properties": PROPERTIES}


@pytest.fixture
def project(tmp_path: Path) -> cs.Workspace:
    return new_project(tmp_path / "home")


def new_project(home: Path, id_merge: str = "simplified") -> cs.Workspace:
    workspace = cs.open(home)
    workspace.init("UTC", id_merge)
    return workspace


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def ndjson(*rows: Any) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def parquet(path: Path, *rows: dict[str, Any]) -> Path:
    pq.write_table(pa.Table.from_pylist(list(rows)), path)
    return path


def upper(row: dict[str, Any]) -> dict[str, Any]:
    return {name.upper(): value for name, value in row.items()}


def found(project: cs.Workspace, query: str) -> list[tuple[Any, ...]]:
    with project.connect() as con:
        return con.execute(query).fetchall()


def set_aside(project: cs.Workspace) -> list[tuple[int, str]]:
    return found(project, "select line, reason from quarantine order by line")


def nested(number: int, **more: Any) -> dict[str, Any]:
    return {"event": "Opened", "properties": {"time": NOON, "distinct_id": f"u{number}", "$insert_id": f"i-{number}",
                                              **more}}


# the warehouse's events


def assert_the_master_event(project: cs.Workspace, properties: dict[str, Any] = PROPERTIES) -> None:
    row, = found(project, "select event, time_s, distinct_id, user_id, device_id, insert_id, processed_ms, properties "
                          "from events")
    assert row[:-1] == ("Opened", NOON, "ann", "ann", "dev-1", "i-1", NOON * 1000 + 7)
    assert json.loads(row[-1]) == {**properties, "time": NOON, "distinct_id": "ann", "$user_id": "ann",
                                   "$device_id": "dev-1", "$insert_id": "i-1"}


@pytest.mark.parametrize("content", [
    ndjson(MASTER), gzip.compress(ndjson(MASTER).encode()), ndjson(upper(MASTER)), json.dumps([MASTER]),
    ndjson({**MASTER, "properties": json.dumps(PROPERTIES)}), ndjson({**MASTER, "time": NOON}),
    ndjson(MASTER) + "not JSON\n", "\n" + ndjson(MASTER),
], ids=["NDJSON", "gz", "upper case", "array", "properties as text", "epoch", "beside a bad line", "blank line"])
def test_a_row_of_the_warehouses_master_event_is_the_event_that_was_tracked(project: cs.Workspace, tmp_path: Path,
                                                                             content: str | bytes) -> None:
    assert project.load(events=[write(tmp_path / "e", content)]).events_added == 1
    assert_the_master_event(project)


def test_every_spelling_of_a_warehouses_timestamp_is_the_same_instant(project: cs.Workspace, tmp_path: Path) -> None:
    spellings = [BLANK, f"{BLANK} UTC", f"{BLANK}.999999 UTC", f"{BLANK.replace(' ', 'T')}Z", f"{BLANK}.000 Z",
                 f"{BLANK}+00", f"{BLANK}.5 +0000", f"{BLANK}.000000+00:00", "2023-11-14 14:13:20.000 -0800",
                 "2023-11-15T03:43:20+05:30", NOON, NOON * 1000, str(NOON)]
    rows = [{**MASTER, "time": spelt, "insert_id": f"i-{n}"} for n, spelt in enumerate(spellings)]
    assert project.load(events=[write(tmp_path / "e", ndjson(*rows))]).events_added == len(spellings)
    assert found(project, "select distinct time_s, properties ->> 'time' from events") == [(NOON, str(NOON))]


def test_a_master_event_whose_properties_or_time_cannot_be_read_is_set_aside(project: cs.Workspace,
                                                                             tmp_path: Path) -> None:
    bad = [{**MASTER, "properties": '{"cut": '}, {**MASTER, "properties": [1]}, {**MASTER, "time": "soon"},
           {**MASTER, "time": "9999-12-31 00:00:00"}, {**MASTER, "event_name": None}, {**MASTER, "event_name": 7}]
    report = project.load(events=[write(tmp_path / "e", ndjson(MASTER, *bad))])
    assert (report.events_added, report.quarantined) == (1, len(bad))
    assert [reason for _, reason in set_aside(project)] == ["no readable properties"] * 2 + ["no readable time"] * 2 + [
        "no event name"] * 2


def test_a_master_event_without_a_column_of_properties_keeps_its_other_columns(project: cs.Workspace,
                                                                               tmp_path: Path) -> None:
    rows = [{**{name: value for name, value in MASTER.items() if name != "properties"}, "plan": "pro"}]
    project.load(events=[write(tmp_path / "e", ndjson(*rows))])
    assert found(project, "select prop('plan'), prop('$user_id') from events") == [("pro", "ann")]


def test_the_same_event_from_the_warehouse_and_the_raw_export_is_one(project: cs.Workspace, tmp_path: Path) -> None:
    raw = {"event": "Opened", "properties": {**PROPERTIES, "time": NOON, "distinct_id": "ann", "$insert_id": "i-1"}}
    report = project.load(events=[write(tmp_path / "w", ndjson(MASTER)), write(tmp_path / "r", ndjson(raw))])
    assert (report.events_added, report.duplicates) == (1, 1)


# Parquet


INSTANT = datetime.fromtimestamp(NOON, UTC)


@pytest.mark.parametrize("row", [
    {"properties": json.dumps(PROPERTIES), "time": INSTANT.replace(tzinfo=None)},
    {"properties": json.dumps(PROPERTIES), "time": INSTANT},
    {"properties": json.dumps(PROPERTIES), "time": NOON},
    {"properties": json.dumps(PROPERTIES).encode(), "time": NOON * 1000},
    {"properties": PROPERTIES, "time": f"{BLANK} UTC"},
], ids=["timestamp", "timestamp with zone", "epoch", "bytes and milliseconds", "struct"])
@pytest.mark.parametrize("spelt", [dict, upper], ids=["lower case", "upper case"])
def test_parquet_of_the_master_event_is_the_event_that_was_tracked(project: cs.Workspace, tmp_path: Path, row: Any,
                                                                   spelt: Any) -> None:
    path = parquet(tmp_path / "e", spelt({**MASTER, **row}))
    report = project.load(events=[path])
    assert (report.files[0]["rows"], report.quarantined) == (1, 0)
    unset = {name: value for name, value in PROPERTIES.items() if value is not None}
    assert_the_master_event(project, unset if isinstance(row["properties"], dict) else PROPERTIES)
    assert project.load(events=[path]).unchanged


def test_parquet_of_maps_and_of_json_is_read_but_for_its_bad_rows(project: cs.Workspace, tmp_path: Path) -> None:
    maps = pa.table({"event_name": ["Opened", None], "time": [NOON, NOON], "distinct_id": [7, 8],
                     "properties": pa.array([[("a", "1"), ("A", "2")], []], pa.map_(pa.string(), pa.string()))})
    pq.write_table(maps, tmp_path / "maps")
    with warehouse.engine() as con:
        con.execute(f"""copy (select 'Opened' as event_name, {NOON} as time, '9' as distinct_id,
                        '{{"a": "1", "A": "2"}}'::json as properties) to '{tmp_path / "json"}' (format parquet)""")
    report = project.load(events=[tmp_path / "maps", tmp_path / "json"])
    assert (report.events_added, set_aside(project)) == (2, [(2, "no event name")])
    assert found(project, "select distinct_id, properties ->> 'a', properties ->> 'A' from events order by 1") == [
        ("7", "1", "2"), ("9", "1", "2")]


def test_parquet_of_raw_records_nested_and_flat_is_read(project: cs.Workspace, tmp_path: Path) -> None:
    files = [parquet(tmp_path / "nested", nested(1), nested(2, plan="pro")),
             parquet(tmp_path / "flat", *({"event": "Opened", **nested(n)["properties"]} for n in (3, 4)))]
    assert project.load(events=files).events_added == 4
    assert found(project, "select distinct_id, insert_id from events order by 1") == [
        (f"u{n}", f"i-{n}") for n in range(1, 5)]
    assert found(project, "select json_keys(properties) from events where distinct_id = 'u1'") == [
        (["time", "distinct_id", "$insert_id"],)]


def test_columns_of_parquet_keep_their_names_whatever_they_are(project: cs.Workspace, tmp_path: Path) -> None:
    names = ["event", "time", "UTM", "utm", "'); drop table events; --", 'a"b', "", "$x.y", "C3", "ü😀", "properties 2"]
    columns = [pa.array(["Opened"]), pa.array([NOON]), *(pa.array([n]) for n in range(len(names) - 3)),
               pa.array([{"k": 1, "K": 2}])]
    pq.write_table(pa.Table.from_arrays(columns, names=names), tmp_path / "e[1]*.parquet")
    assert project.load(events=[tmp_path / "e[1]*.parquet"]).events_added == 1
    (text,), = found(project, "select properties from events")
    assert json.loads(text) == {"time": NOON, **{name: n for n, name in enumerate(names[2:-1])},
                                "properties 2": {"k": 1, "K": 2}}


def test_damaged_parquet_is_one_error(project: cs.Workspace, tmp_path: Path) -> None:
    whole = parquet(tmp_path / "whole", *(nested(n, note=random.Random(n).randbytes(99).hex()) for n in range(300)))
    content = whole.read_bytes()
    spoilt = bytearray(content)
    spoilt[200:6000] = bytes(5800)
    for name, data in {"cut": content[:-20], "head": b"PAR1", "spoilt": bytes(spoilt),
                       "zip": gzip.compress(content)}.items():
        with pytest.raises(BadInput, match=name):
            project.load(events=[write(tmp_path / name, data)])
    assert found(project, "select count(*) from files") == [(0,)]


# the warehouse's people and identity mappings


PEOPLE = [{"distinct_id": "ann", "properties": {"$email": "Ann@lane.example", "plan": "pro"}},
          {"distinct_id": "bo", "properties": {"$email": "bo@lane.example"}}]


@pytest.mark.parametrize("form", ["NDJSON", "gz", "text", "upper", "Parquet", "Parquet text", "CSV"])
def test_the_warehouses_people_are_profiles_and_a_cohort(project: cs.Workspace, tmp_path: Path, form: str) -> None:
    as_text = [{**row, "properties": json.dumps(row["properties"])} for row in PEOPLE]
    path = tmp_path / "p"
    if form.startswith("Parquet"):
        parquet(path, *(as_text if "text" in form else PEOPLE))
    elif form == "CSV":
        write(path, "DISTINCT_ID,PROPERTIES\n" + "".join(
            f'{row["distinct_id"]},"{row["properties"].replace(chr(34), chr(34) * 2)}"\n' for row in as_text))
    else:
        rows = {"text": as_text, "upper": [upper(row) for row in PEOPLE]}.get(form, PEOPLE)
        write(path, gzip.compress(ndjson(*rows).encode()) if form == "gz" else ndjson(*rows))
    report = project.load(profiles=[path], cohorts={"all": path})
    assert [file["rows"] for file in report.files] == [2, 2]
    assert [(each, json.loads(text)) for each, text in found(project, "select distinct_id, properties from profiles "
                                                                      "order by 1")] == [
        (row["distinct_id"], row["properties"]) for row in PEOPLE]
    assert project.audience_summary("all")["exportable"] == 2


PAIRS = [{"distinct_id": "$device:D", "resolved_distinct_id": "ann"},
         {"distinct_id": "old", "resolved_distinct_id": "bo"}]


@pytest.mark.parametrize("form", ["NDJSON", "upper", "CSV", "Parquet"])
def test_identity_mappings_resolve_ids_and_replace_the_last(project: cs.Workspace, tmp_path: Path, form: str) -> None:
    path = tmp_path / "m"
    if form == "Parquet":
        parquet(path, *PAIRS)
    elif form == "CSV":
        write(path, "distinct_id,resolved_distinct_id\n$device:D,ann\nold,bo\n")
    else:
        write(path, ndjson(*(upper(row) if form == "upper" else row for row in PAIRS)))
    project.load(mappings=[write(tmp_path / "before", ndjson({"distinct_id": "x", "resolved_distinct_id": "y"}))])
    visit = {"event": "Opened", "properties": {"time": NOON, "distinct_id": "$device:D", "$device_id": "D"}}
    events = write(tmp_path / "e", ndjson(visit, nested(1, distinct_id="ann")))
    report = project.load(mappings=[path], events=[events])
    assert {file["kind"]: file["rows"] for file in report.files} == {"mappings": 2, "events": 2}
    assert found(project, "select distinct_id, resolved_id from identity_mappings order by 1") == [
        ("$device:D", "ann"), ("old", "bo")]
    assert project.mtu()["mtu"].tolist() == [1]
    assert project.load(mappings=[path]).unchanged


def test_mappings_of_no_use_are_set_aside_and_the_last_of_an_id_stands(project: cs.Workspace, tmp_path: Path) -> None:
    text = ndjson(*PAIRS, {"distinct_id": "a"}, {"resolved_distinct_id": "b"}, "ann", MASTER,
                  {"distinct_id": "old", "resolved_distinct_id": "cy"}) + "broken\n"
    report = project.load(mappings=[write(tmp_path / "m", text)])
    assert set_aside(project) == [(3, "no resolved_distinct_id"), (4, "no $distinct_id"), (5, "not a JSON object"),
                                  (6, "an event"), (8, "not valid JSON")]
    assert report.files[0]["rows"] == 3
    assert found(project, "select resolved_id from identity_mappings where distinct_id = 'old'") == [("cy",)]


def test_rows_of_one_of_the_warehouses_tables_are_none_of_another(project: cs.Workspace, tmp_path: Path) -> None:
    master, pairs, people = (write(tmp_path / name, ndjson(*rows)) for name, rows in (
        ("master", [MASTER]), ("pairs", PAIRS), ("people", PEOPLE)))
    for files in ({"profiles": [master]}, {"profiles": [pairs]}, {"mappings": [people]}, {"events": [people]},
                  {"cohorts": {"c": pairs}}, {"mappings": [master]}, {"events": [pairs]}):
        with pytest.raises(BadInput, match="holds no"):
            project.load(**files)


# records split over several lines


RECORD = json.dumps(nested(1, note='a {b} "c" ü '), ensure_ascii=False).encode()


def split_at(*places: int, newline: bytes = b"\n") -> bytes:
    ends = [0, *places, len(RECORD)]
    return newline.join(RECORD[start:end] for start, end in pairwise(ends)) + b"\n"


@settings(max_examples=60, deadline=None)
@given(st.sets(st.integers(1, len(RECORD) - 1), min_size=1, max_size=6), st.sampled_from([b"\n", b"\r\n"]))
def test_a_record_split_anywhere_is_put_together_at_its_first_line(tmp_path_factory: pytest.TempPathFactory,
                                                                   places: set[int], newline: bytes) -> None:
    path = tmp_path_factory.mktemp("split") / "e"
    whole = json.dumps(nested(2)).encode() + b"\n"
    split = split_at(*sorted(places), newline=newline)
    # what is JSON by itself stays so, be it a line or a few, and a blank line parts what is around it
    parts = [RECORD[start:end] for start, end in pairwise([0, *sorted(places), len(RECORD)])]
    assume(all(part.strip() for part in parts))
    assume(not any(is_json(b"".join(some)) for some in runs(parts) if len(some) < len(parts)))
    content = whole + split + whole
    rows = spelt(write(path, content))
    assert [line for line, *_ in rows] == [1, 2, 3 + len(places)]
    assert [reason for *_, reason, _ in rows] == [None] * 3
    assert json.loads(rows[1][1]) == json.loads(RECORD)
    assert sum(parts for *_, parts in rows) == content.count(b"\n")


def runs(parts: list[bytes]) -> Iterator[list[bytes]]:
    """All that follow each other: each by itself, two, three, …"""
    return (parts[start:end] for start in range(len(parts)) for end in range(start + 1, len(parts) + 1))


def is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def spelt(path: Path, kind: str = "events") -> list[tuple[int, str | None, str | None, int]]:
    """The lines of a file one by one: ``line, json, reason, parts``."""
    with warehouse.engine() as con:
        line_reader.spell_out(con, sources.inspect(kind, path), path.parent / "spelt.parquet")
        return con.execute("select line, json, reason, parts from read_parquet(?) order by line",
                           [str(path.parent / "spelt.parquet")]).fetchall()


def test_split_records_are_loaded_and_said(project: cs.Workspace, tmp_path: Path) -> None:
    content = ndjson(nested(2)).encode() + split_at(30) + b"broken\n" + split_at(60, 90).replace(b"i-1", b"i-9")
    report = project.load(events=[write(tmp_path / "e", content)])
    assert (report.events_added, set_aside(project)) == (3, [(4, "not valid JSON")])
    assert found(project, "select insert_id, line from events order by line") == [("i-2", 1), ("i-1", 2), ("i-9", 5)]
    assert found(project, "select properties ->> 'note' from events where insert_id = 'i-1'") == [('a {b} "c" ü ',)]
    assert "breaks 2 of its records" in "".join(report.notes)


def test_split_profiles_are_put_together_as_well(project: cs.Workspace, tmp_path: Path) -> None:
    text = ndjson(*PEOPLE).replace("lane.ex", "lane\n.ex")
    report = project.load(profiles=[write(tmp_path / "p", ndjson(PEOPLE[0]) + text)])
    assert (report.files[0]["rows"], report.quarantined) == (3, 0)
    assert found(project, "select address from profiles order by 1") == [("ann@lane.example",), ("bo@lane.example",)]


@pytest.mark.parametrize("content", [
    split_at(30).replace(b"\n", b"\n" + RECORD + b"\n", 1), split_at(30).replace(b"\n", b"\n\n", 1),
    split_at(30).replace(b"\n", b"\n12\n", 1), split_at(*range(10, 19)),
    b'{"event": "A", "x": "' + b"x" * (1 << 20) + b'\n", "time": 1}\n', split_at(30).replace(b"\n", b"\n\x00", 1),
    b'{"event": "A", "time": 1, "x": "\\ud8\n00"}\n',
], ids=["across a good line", "across a blank line", "across other JSON", "into ten", "too long", "NUL",
        "half a character"])
def test_what_is_not_surely_one_record_stays_apart(tmp_path: Path, content: bytes) -> None:
    rows = spelt(write(tmp_path / "e", b"{}\n" + content))
    assert all(parts == 1 for *_, parts in rows)
    assert len(rows) == 1 + sum(bool(line.strip()) for line in content.split(b"\n"))


# bad lines of every sort


def test_an_export_that_ended_early_is_loaded_and_said_not_to_be_whole(project: cs.Workspace, tmp_path: Path) -> None:
    for number, end in enumerate(["terminated early\n", "terminated early", '{"event": "A", "pr\nterminated early',
                                  '{"event": "A", "prterminated early\n']):
        report = project.load(events=[write(tmp_path / f"e{number}", ndjson(nested(number)) + end)])
        assert report.events_added == 1
        assert "is not whole" in "".join(report.notes)
    assert {reason for _, reason in set_aside(project)} == {
        "terminated early: the export is not whole", "not valid JSON"}


def test_odd_but_readable_lines_are_events_with_everything_they_say(project: cs.Workspace, tmp_path: Path) -> None:
    odd = ['"a": 1, "A": 2', '"same": "1.12.0"', '"same": 4213', '"same": {"x": []}', f'"big": {2**70}',
           '"x": 1e999', '"sep": "a\u2028b\u0085c"', '"esc": "\\u0000\\u0001"', f'"deep": {"[" * 900}{"]" * 900}',
           '"nan": NaN', '"twice": 1, "twice": 2']
    rows = [f'{{"event": "Opened", "properties": {{"time": {NOON}, "distinct_id": "u{n}", {more}}}}}'
            for n, more in enumerate(odd)]
    fast, slow = tmp_path / "fast", tmp_path / "slow"
    write(fast, "\n".join(rows) + "\n")
    write(slow, sources.BOM + "\r\n".join(["", *rows, "broken"]).encode())
    query = "select distinct_id, properties from events order by 1"
    expected = [(f"u{n}", f'{{"time":{NOON},"distinct_id":"u{n}",') for n in range(len(odd))]
    other = new_project(tmp_path / "other")
    assert project.load(events=[fast]).quarantined == 0
    assert other.load(events=[slow]).quarantined == 1
    kept = found(project, query)
    assert kept == found(other, query)
    assert [(each, text.replace(" ", "")[:len(start)]) for (each, text), (_, start) in
            zip(kept, sorted(expected), strict=True)] == sorted(expected)
    texts = dict(kept)
    assert all(part in texts["u0"] for part in ('"a"', '"A"'))
    assert str(2**70) in texts["u4"] or "1.1805916207174113e21" in texts["u4"]


NAMES = ["404", "true", "null", "[x]", "{y}", "-1", "1e5", " ", "\u2028", "A\tB", "😀"]


@pytest.mark.parametrize("end", ["", "broken\n"], ids=["fast", "by line"])
def test_names_that_look_like_something_else_are_names(project: cs.Workspace, tmp_path: Path, end: str) -> None:
    rows = [{"event": name, "properties": {"time": NOON}} for name in NAMES]
    rows += [{"event_name": name, "time": BLANK} for name in NAMES]
    assert project.load(events=[write(tmp_path / "e", ndjson(*rows) + end)]).events_added == 2 * len(NAMES)
    counted = found(project, "select event, count(*) from events group by 1")
    assert sorted(counted) == sorted((name, 2) for name in NAMES)


@pytest.mark.parametrize("end", ["", "broken\n"], ids=["fast", "by line"])
def test_a_time_is_read_right_or_not_at_all(project: cs.Workspace, tmp_path: Path, end: str) -> None:
    right = {"1700000000.9": NOON, "1700000000000": NOON, "1.7e9": NOON, '"1700000000"': NOON, "-5": -5, "-0.5": -1,
             "0": 0, '"2023-11-14T22:13:20.9Z"': NOON, '"2023-11-14 22:13:20"': NOON, '"1969-12-31T23:59:59Z"': -1}
    wrong = ["NaN", "Infinity", "-Infinity", '"NaN"', '"Infinity"', "1e300", "null", '""', "true", "[1]", '{"a": 1}',
             '"2023-13-01"', '"yesterday"', "-1e15", "9" * 30]
    rows = [f'{{"event": "A", "properties": {{"distinct_id": "u", "time": {time}}}}}\n' for time in [*right, *wrong]]
    report = project.load(events=[write(tmp_path / "e", "".join(rows) + end)])
    assert found(project, "select time_s from events order by line") == [(time,) for time in right.values()]
    assert report.quarantined == len(wrong) + bool(end)


@pytest.mark.parametrize("content", [b"", b"\n \r\n\t\n", sources.BOM, gzip.compress(b""), gzip.compress(b"\n")],
                         ids=["empty", "blank lines", "BOM", "empty gz", "blank gz"])
def test_a_file_with_nothing_in_it_is_no_error(project: cs.Workspace, tmp_path: Path, content: bytes) -> None:
    report = project.load(events=[write(tmp_path / "e", content)])
    assert (report.events_added, report.quarantined) == (0, 0)


def test_what_cannot_be_read_to_its_end_is_one_error(project: cs.Workspace, tmp_path: Path) -> None:
    zipped = gzip.compress(ndjson(*(nested(n) for n in range(500))).encode())
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder.gz").mkdir()
    for name, content in {"cut.gz": zipped[:-9], "spoilt.gz": zipped[:300] + b"\0\0\0" + zipped[303:],
                          "more.gz": zipped + b"more", "checksum.gz": zipped[:-8] + bytes(8)}.items():
        write(tmp_path / name, content)
    for path in [*sorted(tmp_path.glob("*.gz")), tmp_path / "fifo", Path("/dev/null")]:
        with pytest.raises(BadInput, match=path.name):
            project.load(events=[path])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_one_error(project: cs.Workspace, tmp_path: Path) -> None:
    write(tmp_path / "e", ndjson(nested(1))).chmod(0)
    with pytest.raises(BadInput, match="not yours to read"):
        project.load(events=[tmp_path / "e"])


@pytest.mark.parametrize("end", [b"", b"broken\n"], ids=["fast", "by line"])
def test_gz_in_several_members_or_padded_and_gz_in_name_only_are_read_whole(project: cs.Workspace, tmp_path: Path,
                                                                            end: bytes) -> None:
    one, two = (ndjson(nested(n)).encode() for n in (1, 2))
    files = [write(tmp_path / "members.gz", gzip.compress(one[:20]) + gzip.compress(one[20:] + two + end)),
             write(tmp_path / "padded.gz", gzip.compress(ndjson(nested(3)).encode() + end) + bytes(512)),
             write(tmp_path / "plain.gz", ndjson(nested(4)).encode() + end)]
    report = project.load(events=files)
    assert (report.events_added, report.quarantined) == (4, 3 if end else 0)


# good among bad


def good_line(form: int, n: int) -> bytes:
    row = {**MASTER, "distinct_id": f"u{n}", "insert_id": f"i-{n}"}
    return [json.dumps(nested(n, note="\u2028 {[")), json.dumps({"event": "Opened", **nested(n)["properties"]}),
            json.dumps(row), "  " + json.dumps(nested(n, Note=1, note=[])) + "\t"][form].encode()


BAD = st.sampled_from([
    b'{"event": "A", "prop', b'rties": {"time": 1}', b"hello", b"12", b"null", b"{}", b"}}", b"{", b'"', b"\xff", b"[]",
    b"\x00", b'{"event": "A\x01", "time": 1}', b'{"event": 404, "time": 1}', b'{"event": "A", "time": "soon"}',
    b"terminated early", b'{"event": "A", "time": 1}}', b"{'event': 'A'}", b'{"event": "A", "time": 1} {}',
    b'{"event": "A", "x": "\\ud800", "time": 1}', b'{"event_name": "A", "properties": "{", "time": 1}', b"a\rb",
    b'{"event": "A", "time": 1, "x": ' + b"[" * 3000, b"PAR1"])
NOTHING = st.sampled_from([b"", b" ", b"\t"])


@pytest.mark.law
@settings(max_examples=examples(5), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.one_of(st.integers(0, 3), BAD, NOTHING), min_size=1, max_size=12), st.sampled_from([b"\n", b"\r\n"]),
       st.booleans(), st.booleans())
def test_good_lines_are_kept_whole_and_every_other_line_is_set_aside(
        tmp_path_factory: pytest.TempPathFactory, kinds: list[int | bytes], newline: bytes, zipped: bool,
        last: bool) -> None:
    place = tmp_path_factory.mktemp("mixed")
    given_lines = [kind if isinstance(kind, bytes) else good_line(kind, n) for n, kind in enumerate([0, *kinds])]
    content = newline.join(given_lines) + (newline if last else b"")
    report, kept = loaded(place, gzip.compress(content) if zipped else content)
    good = [(n, id_in(line)) for n, line in enumerate(given_lines, 1) if id_in(line)]
    assert [(line, each) for line, each, _ in kept] == good
    aside = [n for n, line in enumerate(given_lines, 1) if line.strip() and not id_in(line)]
    assert (report.events_added + report.duplicates, report.quarantined) == (len(good), len(aside))
    for line, _, text in kept:
        assert facts(json.loads(text)) == facts(properties_in(given_lines[line - 1]))


def loaded(place: Path, content: bytes) -> tuple[LoadReport, list[tuple[int, str, str]]]:
    project = new_project(place / "home")
    report = project.load(events=[write(place / "e", content)])
    with project.connect() as con:
        paths = warehouse.event_source(warehouse.event_paths(project.home, con))
        return report, con.execute(f"select line, distinct_id, properties from {paths} order by line").fetchall()


def properties_in(line: bytes) -> dict[str, Any]:
    record = json.loads(line)
    return record.get("properties") or {name: value for name, value in record.items() if name != "event"}


def facts(properties: dict[str, Any]) -> dict[str, Any]:
    """Properties but for those that a warehouse has in columns of their own."""
    own = ("time", "distinct_id", "$insert_id", "$user_id", "$device_id")
    return {name: value for name, value in properties.items() if name not in own}


def id_in(line: bytes) -> str | None:
    """Whose event a line is: ours all have an id, and no bad line has one."""
    try:
        record = json.loads(line)
        return (record.get("properties") or {}).get("distinct_id") or record.get("distinct_id")
    except (ValueError, AttributeError, RecursionError):
        return None
