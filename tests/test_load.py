"""Loading files in every shape people have: what is taken, what is set aside with a reason, what is refused."""

from __future__ import annotations

import gzip
import json
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from conftest import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cohortsync as cs
from cohortsync import staging
from cohortsync.errors import BadInput
from cohortsync.intake import LoadReport

NOON = 1_700_000_000
BOM = b"\xef\xbb\xbf"
ANN = {"$distinct_id": "ann", "$properties": {"$email": "Ann@lane.example", "$last_seen": "2024-01-02T03:04:05"}}
BO = {"$distinct_id": "bo", "$properties": {"$email": "bo@lane.example", "plan": "pro"}}


@pytest.fixture
def project(tmp_path: Path) -> cs.Workspace:
    """A workspace with a project and nothing loaded."""
    return new_project(tmp_path / "home")


def new_project(home: Path, timezone: str = "UTC", id_merge: str = "simplified") -> cs.Workspace:
    workspace = cs.open(home)
    workspace.init(timezone, id_merge)
    return workspace


def event(number: int = 1, name: str = "Opened", at: int = NOON, user: str = "ann", **more: Any) -> dict[str, Any]:
    """A raw-export row; rows of one number and name and user are duplicates of each other."""
    return {"event": name, "properties": {
        "time": at, "distinct_id": user, "$user_id": user, "$insert_id": f"insert-{number}",
        "mp_processing_time_ms": at * 1000 + number, **more}}


def flat(row: dict[str, Any]) -> dict[str, Any]:
    return {"event": row["event"], **row["properties"]}


def page(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"page": 0, "page_size": 1000, "results": list(rows), "session_id": "1-X", "status": "ok",
            "total": len(rows)}


def lines(*rows: Any) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def load_events(project: cs.Workspace, content: str | bytes, name: str = "events.ndjson") -> LoadReport:
    return project.load(events=[write(project.home.parent / name, content)])


def rows(project: cs.Workspace, query: str) -> list[tuple[Any, ...]]:
    with project.connect() as con:
        return con.execute(query).fetchall()


def set_aside(project: cs.Workspace) -> list[tuple[int, str]]:
    return rows(project, "select line, reason from quarantine order by line")


def profiles(project: cs.Workspace) -> dict[str, Any]:
    return {each: json.loads(text) for each, text in rows(project, "select distinct_id, properties from profiles")}


def members(project: cs.Workspace) -> list[str]:
    return [each for (each,) in rows(project, "select distinct_id from cohort_members order by 1")]


def everything(project: cs.Workspace) -> dict[str, list[tuple[Any, ...]]]:
    """Every table of the workspace but the times of loading, to see that nothing changed."""
    with project.connect() as con:
        tables = [name for (name,) in con.execute("select view_name from duckdb_views() where not internal").fetchall()]
        query = "select columns(lambda name: name not in ('loaded_at', 'as_of', 'changed_at', 'defined_at')) from"
        return {name: sorted(con.execute(f"{query} {name}").fetchall(), key=repr) for name in tables}


def months(project: cs.Workspace) -> list[dict[Any, Any]]:
    return project.mtu().drop(columns="as_of").to_dict("records")


# events: shapes


@pytest.mark.parametrize("content", [
    lines(event(1), event(2, user="bo")),
    lines(flat(event(1)), flat(event(2, user="bo"))),
    lines(event(1), event(2, user="bo")).rstrip("\n"),
    lines(event(1), event(2, user="bo")).replace("\n", "\r\n"),
    lines(event(1), event(2, user="bo")).replace("\n", "\n\n  \n"),
    BOM + lines(event(1), event(2, user="bo")).encode(),
    json.dumps([event(1), event(2, user="bo")], indent=1),
    gzip.compress(lines(event(1)).encode()) + gzip.compress(lines(event(2, user="bo")).encode()),
    lines(event(1, time=NOON * 1000), event(2, user="bo", time=str(NOON))),
    lines(event(1, time="2023-11-14T22:13:20.9Z"), event(2, user="bo", time="2023-11-14T23:13:20+01:00")),
    lines(event(1, time="2023-11-14T22:13:20"), event(2, user="bo", time=NOON + 0.9)),
    "event,time,distinct_id,$user_id,$insert_id\r\nOpened,1700000000,ann,ann,insert-1\r\n"
    "Opened,1700000000,bo,bo,insert-2\r\n",
], ids=["nested", "flat", "no last newline", "CRLF", "blank lines", "BOM", "array", "gz of two parts",
        "milliseconds and digits", "ISO with zone", "naive ISO and fractions", "CSV"])
def test_events_are_read_from_every_shape(project: cs.Workspace, content: str | bytes) -> None:
    report = load_events(project, content)
    assert (report.events_added, report.quarantined) == (2, 0)
    assert rows(project, "select event, time_s, distinct_id, insert_id, line > 0 from events order by insert_id") == [
        ("Opened", NOON, "ann", "insert-1", True), ("Opened", NOON, "bo", "insert-2", True)]


def test_many_files_plain_and_gz_are_one_load(project: cs.Workspace, tmp_path: Path) -> None:
    files = [write(tmp_path / f"{n}.ndjson", lines(event(n))) for n in range(3)]
    files.append(write(tmp_path / "3", gzip.compress(lines(event(3)).encode())))
    assert project.load(events=files).events_added == 4
    assert rows(project, "select count(distinct load_id), count(distinct file_no) from events") == [(1, 4)]


def test_files_are_written_by_turns_and_every_row_once(project: cs.Workspace, tmp_path: Path,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "READERS", 2)
    monkeypatch.setattr(staging, "LINES_A_TURN", 4)
    files = [write(tmp_path / f"{n}.ndjson", lines(event(n), event(n + 7, at=NOON + n * 86400))) for n in range(5)]
    files[2].write_bytes(b"broken\n" + files[2].read_bytes())
    report = project.load(events=files)
    assert (report.events_added, report.quarantined) == (10, 1)
    assert rows(project, "select file_no, count(*) from events group by file_no order by file_no") == [
        (n, 2) for n in range(5)]


@pytest.mark.parametrize(("sizes", "even"), [([5, 5], True), ([3, 3, 3, 3], True), ([100, 99, 2, 1], True),
                                             ([5], False), ([5, 5, 5], False), ([9, 1], False), ([], False)])
def test_two_readers_take_a_file_each_where_they_end_together(sizes: list[int], even: bool,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "READERS", 2)
    assert staging._are_even(sizes) == even


@pytest.mark.parametrize("even", [True, False])
def test_a_line_keeps_its_number_however_many_threads_read_its_file(project: cs.Workspace, tmp_path: Path, even: bool,
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "_are_even", lambda _: even)
    def line(n: int, user: str) -> str:
        return "\n" if n % 7 == 0 else "broken\n" if n % 1100 == 0 else lines(event(n, user=user))

    files = [write(tmp_path / user, "".join(line(n, user) for n in range(1, 5_000))) for user in ("ann", "bo", "cy")]
    project.load(events=files)
    assert rows(project, "select file_no, line, insert_id from events order by all") == [
        (file_no, n, f"insert-{n}") for file_no in range(3) for n in range(1, 5_000) if n % 7 and n % 1100]


def test_an_export_of_a_day_without_events_is_empty_and_fine(project: cs.Workspace) -> None:
    assert load_events(project, "").events_added == 0
    assert load_events(project, "\n \n", "blank").events_added == 0
    assert load_events(project, lines(event(1)), "one").events_added == 1
    assert len(project.mtu()) == 1


def test_a_separator_inside_a_string_does_not_end_the_line(project: cs.Workspace) -> None:
    row = json.dumps(event(1, note="a\u2028b\u0085c"), ensure_ascii=False)
    assert load_events(project, row + "\n" + lines(event(2))).events_added == 2


@pytest.mark.parametrize("name", ["a[1].ndjson", "x*.ndjson", "q?.ndjson", "**", "it's.ndjson", 'a"b;--.ndjson',
                                  "sp ace.ndjson", "ünï😀.ndjson", "{a,b}.ndjson", "new\nline", "x.parquet"])
def test_a_file_loads_itself_whatever_its_name_looks_like(project: cs.Workspace, tmp_path: Path, name: str) -> None:
    for other in ("a1.ndjson", "xx.ndjson", "qq.ndjson"):
        write(tmp_path / other, lines(event(90)))
    load_events(project, lines(event(1)), name)
    assert rows(project, "select insert_id from events") == [("insert-1",)]
    assert rows(project, "select file from files") == [(str(tmp_path / name),)]


@pytest.mark.parametrize("name", ["p*.json", "p[1].json", "**"])
def test_a_document_loads_itself_whatever_its_name_looks_like(project: cs.Workspace, tmp_path: Path,
                                                              name: str) -> None:
    write(tmp_path / "p1.json", json.dumps(page(BO), indent=1))
    path = write(tmp_path / name, json.dumps(page(ANN), indent=1))
    project.load(profiles=[path], cohorts={"c": path})
    assert (list(profiles(project)), members(project)) == (["ann"], ["ann"])


# events: what is set aside

BAD_LINES = {
    '{"event": "Opened", "prop': "not valid JSON",
    "hello": "not valid JSON",
    "[1, 2]": "not a JSON object",
    "12": "not a JSON object",
    '"text"': "not a JSON object",
    '{"event": "A\x00", "properties": {"time": 1}}': "holds a NUL byte",
    '{"event": "A\x01", "properties": {"time": 1}}': "not valid JSON",
    '{"event": "\\ud800", "properties": {"time": 1}}': "not valid JSON",
    '{"event": "A", "time": 1} trailing': "not valid JSON",
    '{"event": "A", "time": 1}{"event": "A", "time": 1}': "not valid JSON",
    '{"event": "A", "x": ' + "[" * 100_000: "not valid JSON",
    "{'event': 'A', 'time': 1}": "not valid JSON",
    '{"properties": {"time": 1}}': "no event name",
    '{"event": "", "properties": {"time": 1}}': "no event name",
    '{"event": null, "properties": {"time": 1}}': "no event name",
    '{"event": 12, "properties": {"time": 1}}': "no event name",
    '{"event": {"a": 1}, "properties": {"time": 1}}': "no event name",
    "{}": "no event name",
    '{"event": "A", "properties": {}}': "no readable time",
    '{"event": "A", "properties": {"time": "soon"}}': "no readable time",
    '{"event": "A", "properties": {"time": true}}': "no readable time",
    '{"event": "A", "properties": {"time": 1e300}}': "no readable time",
    '{"event": "A", "properties": {"time": -99999999999}}': "no readable time",
    '{"event": "A", "properties": {"time": "9999-12-31T23:59:59Z"}}': "no readable time",
    '{"event": "A", "properties": {"time": "0001-01-01T00:00:00Z"}}': "no readable time",
    '{"event": "A", "properties": {"time": "infinity"}}': "no readable time",
    '{"event": "A", "properties": {"time": "2024-02-30"}}': "no readable time",
    "terminated early": "terminated early: the export is not whole",
}


def test_each_bad_line_is_set_aside_with_its_place_and_reason_and_the_rest_is_kept(project: cs.Workspace) -> None:
    text = "".join(f"{json.dumps(event(n))}\n{bad}\n" for n, bad in enumerate(BAD_LINES)).encode()
    text += b'{"event": "\xff", "properties": {"time": 1}}\r\n\r\n' + lines(event(99)).encode()
    report = load_events(project, gzip.compress(text))
    after = 2 * len(BAD_LINES)
    assert set_aside(project) == [(2 * n + 2, reason) for n, reason in enumerate(BAD_LINES.values())] + [
        (after + 1, "not UTF-8")]
    assert (report.events_added, report.quarantined) == (len(BAD_LINES) + 1, len(BAD_LINES) + 1)
    assert rows(project, "select max(line) from events") == [(after + 3,)]


@pytest.mark.parametrize("first", [b"\xff\xfe", b'"properties": {"time": 1}}', b"12", b"terminated early"])
def test_a_bad_first_line_is_set_aside_like_any_other(project: cs.Workspace, first: bytes) -> None:
    report = load_events(project, first + b"\n" + lines(event(1), event(2)).encode())
    assert (report.events_added, [line for line, _ in set_aside(project)]) == (2, [1])


def test_the_quarantine_tells_the_place_in_the_file_and_never_its_content(project: cs.Workspace, tmp_path: Path
                                                                          ) -> None:
    first = lines(event(1))
    load_events(project, first + '{"event": "Opened", "who": "secret@lane.example"\n')
    listed = project.quarantine().to_dict("records")
    assert [(row["file"], row["line"], row["byte_offset"]) for row in listed] == [
        (str(tmp_path / "events.ndjson"), 2, len(first))]
    assert "secret" not in str(listed)


@pytest.mark.parametrize("odd", [
    '"utm": 1, "UTM": 2, "Utm": 3', '"x": NaN, "y": -Infinity', '"x": 1, "x": 2', f'"x": {"9" * 40}',
    f'"x": {"[" * 5000}{"]" * 5000}', '"x": "\\u0000"', '"$mp_api_timestamp_ms": "often"',
], ids=["case", "NaN", "twice", "huge", "deep", "escaped NUL", "odd stamp"])
def test_odd_properties_do_not_cost_the_event(project: cs.Workspace, odd: str) -> None:
    row = f'{{"event": "Opened", "properties": {{"time": {NOON}, "distinct_id": "ann", {odd}}}}}\n'
    assert load_events(project, row + lines(event(2))).events_added == 2
    assert project.quarantine().empty


def test_a_moment_that_is_no_number_leaves_the_other_to_say_what_came_when(project: cs.Workspace) -> None:
    odd = json.dumps({"event": "A", "properties": {"time": NOON, "distinct_id": "ann", "mp_processing_time_ms": True,
                                                   "$mp_api_timestamp_ms": 1_700_000_005_000}})
    load_events(project, odd + "\n" + odd.replace("1700000005000", "false"))
    assert rows(project, "select ingest_ms, processed_ms from events order by line") == [
        (1_700_000_005_000, 1_700_000_005_000), (NOON * 1000, 0)]


@pytest.mark.parametrize("company", ["", "not JSON\n"], ids=["alone", "beside a bad line"])
def test_an_endless_line_is_set_aside(project: cs.Workspace, tmp_path: Path, company: str) -> None:
    with (tmp_path / "long").open("w") as file:
        file.write(lines(event(1)) + json.dumps(event(2, x="x" * 40_000_000)) + "\n" + lines(event(3)) + company)
    assert project.load(events=[tmp_path / "long"]).events_added == 2
    assert set_aside(project)[0] == (2, "longer than 32 MB")


# events: the same thing again


def test_the_same_content_again_adds_nothing_under_whatever_name(project: cs.Workspace, tmp_path: Path) -> None:
    content = lines(event(1), event(2)) + "broken\n"
    load_events(project, content)
    before = everything(project)
    again = [write(tmp_path / "renamed", content), write(tmp_path / "zipped", gzip.compress(content.encode()))]
    report = project.load(events=[tmp_path / "events.ndjson", *again])
    assert report.unchanged
    assert everything(project) == before


def test_one_file_given_twice_in_a_call_counts_once(project: cs.Workspace, tmp_path: Path) -> None:
    path = write(tmp_path / "e", lines(event(1)))
    copy = write(tmp_path / "copy", lines(event(1)))
    report = project.load(events=[path, path, copy])
    assert sum(file["known"] for file in report.files) == 2
    assert (report.events_added, report.duplicates) == (1, 0)


def test_overlapping_files_keep_the_row_processed_last(project: cs.Workspace) -> None:
    load_events(project, lines(event(1, mp_processing_time_ms=20, v="late"), event(2)), "a")
    report = load_events(project, lines(event(1, mp_processing_time_ms=10, v="early"), event(3)), "b")
    assert (report.events_added, report.duplicates) == (1, 1)
    assert rows(project, "select properties->>'v' from events where insert_id = 'insert-1'") == [("late",)]
    load_events(project, lines(event(1, mp_processing_time_ms=30, v="last")), "c")
    assert rows(project, "select properties->>'v' from events where insert_id = 'insert-1'") == [("last",)]


@pytest.mark.parametrize("other", [event(1, name="Closed"), event(1, at=NOON + 1), event(1, user="bo"), event(2)],
                         ids=["name", "time", "user", "insert id"])
def test_rows_that_differ_in_one_of_four_parts_are_two_events(project: cs.Workspace, other: dict[str, Any]) -> None:
    assert load_events(project, lines(event(1), other)).events_added == 2


def test_a_row_rewritten_by_a_merge_is_still_the_same_event(project: cs.Workspace) -> None:
    load_events(project, lines(event(1, user="ann")), "a")
    rewritten = event(1, user="canonical", **{"$distinct_id_before_identity": "ann"})
    assert load_events(project, lines(rewritten), "b").duplicates == 1


@pytest.mark.parametrize("insert_id", [None, "", "null", "undefined"])
def test_rows_without_an_insert_id_are_never_duplicates_and_are_warned_about(
        project: cs.Workspace, insert_id: str | None) -> None:
    row = event(1, **{"$insert_id": insert_id})
    assert load_events(project, lines(row, row), "a").unkeyed_in_overlap == 0
    report = load_events(project, lines(row, event(1), event(1, at=NOON + 86400, **{"$insert_id": insert_id})), "b")
    assert (report.events_added, report.duplicates, report.unkeyed_in_overlap) == (3, 0, 1)


ROWS = [event(n, user=f"user-{n % 4}", at=NOON + n * 700_000, name=("Opened", "Mailchimp - Bounced")[n % 2])
        for n in range(8)]


@pytest.mark.law
@settings(max_examples=examples(2), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.sampled_from(range(8)), min_size=1, max_size=8), min_size=1, max_size=3), st.randoms())
def test_any_split_of_rows_into_overlapping_files_gives_the_same_events_and_mtu(
        tmp_path_factory: pytest.TempPathFactory, parts: list[list[int]], chance: random.Random) -> None:
    place = tmp_path_factory.mktemp("split")
    missing = set(range(8)).difference(*parts)
    parts = [*parts, *([sorted(missing)] if missing else [])]
    chance.shuffle(parts)
    split, whole = new_project(place / "split"), new_project(place / "whole")
    for number, part in enumerate(parts):
        split.load(events=[write(place / f"{number}", lines(*(ROWS[n] for n in part)))])
    whole.load(events=[write(place / "whole.ndjson", lines(*ROWS))])
    query = "select event, time_s, distinct_id, insert_id, properties from events order by insert_id"
    assert rows(split, query) == rows(whole, query)
    assert months(split) == months(whole)


@pytest.mark.parametrize(("timezone", "id_merge"), [("Pacific/Auckland", "simplified"), ("UTC", "original")])
def test_a_changed_project_equals_a_fresh_load_of_it(tmp_path: Path, timezone: str, id_merge: str) -> None:
    links = [event(20, user="ann", **{"$device_id": "d1"}),
             {"event": "$identify", "properties": {"time": NOON, "distinct_id": "bo", "$identified_id": "bo",
                                                   "$anon_id": "b22d6231-0000-4000-8000-000000000001"}},
             event(21, user="$device:d1", **{"$user_id": None}),
             event(22, user="b22d6231-0000-4000-8000-000000000001", **{"$user_id": None})]
    files = {"events": [write(tmp_path / "e", lines(*ROWS, *links))], "profiles": [write(tmp_path / "p", lines(ANN))],
             "cohorts": {"c": write(tmp_path / "c", "ann\nbo\n")}}
    changed, fresh = new_project(tmp_path / "changed"), new_project(tmp_path / "fresh", timezone, id_merge)
    for each in (changed, fresh):
        each.load(**files)
    changed.init(timezone, id_merge)
    found, expected = everything(changed), everything(fresh)
    for history in ("loads", "published", "month_versions", "month_users", "month_events"):
        del found[history], expected[history]
    assert found == expected
    assert months(changed) == months(fresh)


# profiles


@pytest.mark.parametrize("content", [
    json.dumps(page(ANN, BO), indent=2), json.dumps(page(ANN), indent=1) + "\n" + json.dumps(page(BO), indent=1),
    json.dumps(page(ANN)) + json.dumps(page(BO)), lines(page(ANN), page(BO)), json.dumps([page(ANN), page(BO)]),
    json.dumps([ANN, BO], indent=1), lines(ANN, BO), BOM + lines(ANN, BO).encode(),
    gzip.compress(json.dumps(page(ANN, BO), indent=2).encode()),
    lines(*({"$distinct_id": row["$distinct_id"], **row["$properties"]} for row in (ANN, BO))),
], ids=["page", "pages", "pages joined", "page a line", "array of pages", "array", "NDJSON", "BOM", "gz", "flat"])
def test_profiles_are_read_from_every_shape(project: cs.Workspace, tmp_path: Path, content: str | bytes) -> None:
    report = project.load(profiles=[write(tmp_path / "p", content)])
    assert (report.files[0]["rows"], report.quarantined) == (2, 0)
    assert profiles(project) == {"ann": ANN["$properties"], "bo": BO["$properties"]}
    assert rows(project, "select address, last_seen_at is null from profiles order by 1") == [
        ("ann@lane.example", False), ("bo@lane.example", True)]


def test_profiles_come_from_the_csv_that_mixpanel_shows(project: cs.Workspace, tmp_path: Path) -> None:
    text = ('Distinct ID,Email,First Name,Updated at,Tags,plan,Plan\r\n'
            'ann,Ann@lane.example,"Ann, the ""first""",2024-01-02T03:04:05,"[""a"", ""b""]",,x\r\n'
            '007,bo@lane.example,"two\nlines",,,,\r\n')
    project.load(profiles=[write(tmp_path / "p.csv", BOM + text.encode())])
    assert profiles(project) == {
        "ann": {"Email": "Ann@lane.example", "First Name": 'Ann, the "first"', "Updated at": "2024-01-02T03:04:05",
                "Tags": '["a", "b"]', "Plan": "x"},
        "007": {"Email": "bo@lane.example", "First Name": "two\nlines"}}
    assert rows(project, "select address, first_name from profiles where distinct_id = 'ann'") == [
        ("ann@lane.example", 'Ann, the "first"')]


def test_a_bad_csv_row_is_set_aside_at_the_line_where_it_begins(project: cs.Workspace, tmp_path: Path) -> None:
    text = (b'$distinct_id,$email\nann,"a\n@lane.example"\none\none,two,three\n,nobody@lane.example\n'
            b'cy,c\xff@lane.example\n\n"d"y,d@lane.example\nbo,bo@lane.example\n')
    report = project.load(profiles=[write(tmp_path / "p.csv", text)])
    assert set_aside(project) == [
        (4, "not as many cells as columns"), (5, "not as many cells as columns"), (6, "no $distinct_id"),
        (7, "not UTF-8"), (9, "broken quotes or an endless cell")]
    assert (report.files[0]["rows"], sorted(profiles(project))) == (2, ["ann", "bo"])


def test_bad_profile_lines_are_set_aside_and_the_rest_is_kept(project: cs.Workspace, tmp_path: Path) -> None:
    text = lines(ANN) + '{broken\n\n12\n"x"\n{"$properties": {}}\n{"$distinct_id": "undefined"}\n' + lines(
        flat(event(1)), BO)
    report = project.load(profiles=[write(tmp_path / "p", text)])
    assert set_aside(project) == [
        (2, "not valid JSON"), (4, "not a JSON object"), (5, "not a JSON object"), (6, "no $distinct_id"),
        (7, "no $distinct_id"), (8, "an event")]
    assert (report.files[0]["rows"], report.quarantined, sorted(profiles(project))) == (2, 6, ["ann", "bo"])


def test_the_place_of_a_nameless_profile_counts_blank_lines(project: cs.Workspace, tmp_path: Path) -> None:
    project.load(profiles=[write(tmp_path / "p", lines(ANN) + "\n\n" + lines({"$properties": {}}))])
    assert set_aside(project) == [(4, "no $distinct_id")]


def test_profiles_are_replaced_whole_by_id(project: cs.Workspace, tmp_path: Path) -> None:
    project.load(profiles=[write(tmp_path / "1", lines(ANN, BO))])
    changed = {"$distinct_id": "ann", "$properties": {"plan": "free"}}
    project.load(profiles=[write(tmp_path / "2", lines(changed, {"$distinct_id": "cy", "$properties": {}}))])
    assert profiles(project) == {"ann": {"plan": "free"}, "bo": BO["$properties"], "cy": {}}
    project.load(profiles=[write(tmp_path / "3", lines({"$distinct_id": "ann", "$properties": {}}))])
    assert rows(project, "select property_count, email_kind, address from profiles where distinct_id = 'ann'") == [
        (0, "none", None)]


def test_within_a_load_the_last_profile_of_an_id_wins(project: cs.Workspace, tmp_path: Path) -> None:
    def version(number: int) -> dict[str, Any]:
        return {"$distinct_id": "ann", "$properties": {"v": number}}

    files = [write(tmp_path / "1", json.dumps(page(version(1), version(2)), indent=1)),
             write(tmp_path / "2", lines(page(version(3), BO, version(4))))]
    project.load(profiles=files)
    assert profiles(project)["ann"] == {"v": 4}


# cohorts


@pytest.mark.parametrize("content", [
    "ann\nbo\n", "ann\nbo", "$distinct_id\nann\nbo\n", "distinct_id\r\nann\r\nbo\r\n\r\n", "Distinct ID\nann\nbo\n",
    BOM + b"$distinct_id\nann\nbo\n", "\n\nann \t\n  bo\u00a0\n\n", "ann\nbo\nann\n", '"ann"\n"bo"\n',
    '["ann", "bo"]', '[\n "ann",\n "bo"\n]\n', lines(page(ANN), page(BO)), json.dumps(page(ANN, BO), indent=2),
    json.dumps(page(ANN), indent=2) + json.dumps(page(BO), indent=2), lines({"distinct_id": "ann"}, BO),
    BOM + b'Email,Distinct ID\r\nx@lane.example,ann\r\n,"bo"\r\n', gzip.compress(b"ann\nbo\n"),
], ids=["ids", "no last newline", "header", "CRLF", "display name", "BOM", "blanks", "twice", "quoted", "JSON list",
        "JSON list on lines", "page a line", "page", "pages", "flat", "CSV", "gz"])
def test_cohort_members_are_read_from_every_shape(project: cs.Workspace, tmp_path: Path, content: str | bytes) -> None:
    report = project.load(cohorts={"c": write(tmp_path / "c", content)})
    assert (members(project), report.quarantined) == (["ann", "bo"], 0)
    assert rows(project, "select cohort, size from cohorts") == [("c", 2)]


def test_ids_stay_as_they_are_written(project: cs.Workspace, tmp_path: Path) -> None:
    given = ["#1", "$device:a b", "007", "1e5", "a,b", "ü😀", "{6F9619FF}"]
    project.load(cohorts={"c": write(tmp_path / "c", "\n".join(given))})
    assert members(project) == sorted(given)
    project.load(cohorts={"c": write(tmp_path / "j", '[1001, "007", {"$distinct_id": 5}]')})
    assert members(project) == ["007", "1001", "5"]


def test_ids_that_name_nobody_are_set_aside(project: cs.Workspace, tmp_path: Path) -> None:
    project.load(cohorts={"c": write(tmp_path / "c", b"ann\nnull\nb\xff\n\nundefined\nbo\n")})
    assert members(project) == ["ann", "bo"]
    assert set_aside(project) == [(2, "no $distinct_id"), (3, "not UTF-8"), (5, "no $distinct_id")]
    project.load(cohorts={"d": write(tmp_path / "d", '["cy", null, "", [1]]')})
    assert rows(project, "select distinct_id from cohort_members where cohort = 'd'") == [("cy",)]


def test_a_cohort_loaded_again_replaces_its_members_and_keeps_every_snapshot(project: cs.Workspace,
                                                                             tmp_path: Path) -> None:
    first, second = write(tmp_path / "a", "ann\nbo\n"), write(tmp_path / "b", "bo\ncy\n")
    for path, expected in ((first, ["ann", "bo"]), (second, ["bo", "cy"]), (first, ["ann", "bo"])):
        assert not project.load(cohorts={"c": path}).unchanged
        assert members(project) == expected
    assert project.load(cohorts={"c": first}).unchanged
    assert rows(project, "select load_id, string_agg(distinct_id, ' ' order by distinct_id), count(distinct loaded_at) "
                         "from cohort_snapshots group by 1 order by 1") == [
        (1, "ann bo", 1), (2, "bo cy", 1), (3, "ann bo", 1)]


def test_an_empty_cohort_is_one_that_says_so(project: cs.Workspace, tmp_path: Path) -> None:
    for number, content in enumerate(["[]", json.dumps(page()), "$distinct_id,$email\n"]):
        project.load(cohorts={"c": write(tmp_path / f"{number}", content)})
        assert rows(project, "select size from cohorts") == [(0,)]


def test_one_file_may_be_two_cohorts_and_each_counts_its_own_bad_lines(project: cs.Workspace, tmp_path: Path) -> None:
    path = write(tmp_path / "c", "ann\nnull\nbo\n")
    report = project.load(cohorts={"c": path, "d": path})
    assert [(file["rows"], file["quarantined"]) for file in report.files] == [(2, 1), (2, 1)]


@pytest.mark.parametrize("name", ["'; drop table cohorts; --", "😀", "x" * 255, "../../etc", '"%s {0}"', "a/b"])
def test_a_cohort_may_be_called_anything_printable(project: cs.Workspace, tmp_path: Path, name: str) -> None:
    project.load(cohorts={name: write(tmp_path / "c", "ann\n")})
    assert (project.cohorts()["cohort"].tolist(), len(project.audience(name))) == ([name], 1)


# files that are not what they should be


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> cs.Workspace:
    """A workspace with something in it, which no refused file may change."""
    place = tmp_path_factory.mktemp("loaded")
    project = new_project(place / "home")
    project.load(events=[write(place / "e", lines(event(1)))], profiles=[write(place / "p", lines(ANN))],
                 cohorts={"c": write(place / "c", "ann\n")})
    return project


GZ = gzip.compress(lines(*(event(n) for n in range(50))).encode())
NEVER = {
    "binary": bytes(random.Random(1).randbytes(4000)), "zip": b"PK\x03\x04" + bytes(range(256)) * 9,
    "picture": b"\x89PNG\r\n\x1a\n" + bytes(100), "UTF-16": lines(event(1)).encode("utf-16"),
    "cut gz": GZ[:-10], "gz head": GZ[:5], "spoilt gz": GZ[:40] + bytes([GZ[40] ^ 255]) + GZ[41:],
    "gz and more": GZ + b"junk", "gz of gz": gzip.compress(GZ),
    "login page": "<!DOCTYPE html>\n<html><body>Log in</body></html>\n", "broken object": "{", "empty object": "{}",
    "error": '{"request": "/api/2.0/export", "error": "Query rate limit exceeded"}',
    "pretty error": '{\n "error": "No",\n "status": "error"\n}', "error page": '{"results": [], "error": "No"}',
    "prose": "hello, this is a text\nand more, of it\n", "null": "null",
}


def assert_refused(project: cs.Workspace, saying: str = "", **files: Any) -> None:
    before, generation = everything(project), sorted((project.home / "warehouse").iterdir())
    with pytest.raises(BadInput) as refusal:
        project.load(**files)
    assert saying in str(refusal.value)
    assert everything(project) == before
    assert [path for path in sorted((project.home / "warehouse").iterdir()) if path.suffix == ".duckdb"] == [
        path for path in generation if path.suffix == ".duckdb"]


@pytest.mark.parametrize("kind", ["events", "profiles", "cohorts"])
def test_a_file_that_is_something_else_is_one_error_and_changes_nothing(
        loaded: cs.Workspace, tmp_path: Path, kind: str) -> None:
    before = everything(loaded)
    for name, content in NEVER.items():
        path = write(tmp_path / name, content)
        with pytest.raises(BadInput, match=name):
            loaded.load(**{kind: {"c": path} if kind == "cohorts" else [path]})
    assert everything(loaded) == before


def test_a_first_file_that_is_damaged_far_from_its_beginning_is_refused(project: cs.Workspace, tmp_path: Path) -> None:
    whole = gzip.compress(lines(event(1, more="x" * 999)).encode() * 3000, 1)
    good = write(tmp_path / "good", lines(event(70)))
    for content in (whole[:-10], whole[:-40] + b"x" + whole[-39:], whole + b"junk"):
        with pytest.raises(BadInput, match="bad is a damaged gz file"):
            project.load(events=[good, write(tmp_path / "bad", content)])
    assert not everything(project)["events"]
    assert project.load(events=[good, write(tmp_path / "bad", whole)]).events_added == 2


@pytest.mark.parametrize(("kind", "content"), [
    ("events", lines(ANN, BO)), ("events", json.dumps(page(ANN), indent=1)), ("events", "$distinct_id,$email\na,b\n"),
    ("profiles", lines(event(1), event(2))), ("profiles", lines(flat(event(1)))), ("profiles", "name,Email\na,b\n"),
    ("profiles", '"$distinct_id"x,$email\na,b\n'), ("profiles", ""),
    ("profiles", json.dumps(page(ANN, BO), indent=1)[:-30]), ("profiles", '["ann", "bo"]'),
    ("cohorts", lines(event(1), event(2))), ("cohorts", lines(flat(event(1)))), ("cohorts", "name,Email\na,b\n"),
    ("cohorts", ""), ("cohorts", "\n \n"), ("cohorts", '[{"count": 150, "id": 1000, "name": "One"}]'),
    ("cohorts", '["ann", "bo"'),
])
def test_a_file_of_another_kind_is_one_error_and_changes_nothing(loaded: cs.Workspace, tmp_path: Path, kind: str,
                                                                 content: str) -> None:
    path = write(tmp_path / "file", content)
    good = write(tmp_path / "good", lines(event(70)))
    files: dict[str, Any] = {"events": [good]}
    if kind == "cohorts":
        files["cohorts"] = {"new": path}
    else:
        files[kind] = [*files.get(kind, []), path]
    assert_refused(loaded, str(path), **files)


@pytest.mark.parametrize("name", ["missing.ndjson", "", ".", "x" * 5000, "a\0b", "~nobody-here/x", "folder"])
def test_a_name_that_is_no_file_is_one_error_and_changes_nothing(loaded: cs.Workspace, tmp_path: Path,
                                                                 name: str) -> None:
    (tmp_path / "folder").mkdir()
    assert_refused(loaded, "is not a file", events=[name if name != "folder" else tmp_path / name])


@pytest.mark.parametrize("name", ["", "  ", "x" * 300, "a\nb", "a\0b"])
def test_a_cohort_needs_a_name_that_can_be_shown(loaded: cs.Workspace, tmp_path: Path, name: str) -> None:
    assert_refused(loaded, "cannot name a cohort", cohorts={name: write(tmp_path / "c", "ann\n")})


def test_the_message_of_a_refusal_holds_no_address(loaded: cs.Workspace, tmp_path: Path) -> None:
    path = write(tmp_path / "p", '{"error": "nobody called ann@lane.example"}')
    with pytest.raises(BadInput) as refusal:
        loaded.load(profiles=[path])
    assert "ann@lane.example" not in str(refusal.value)


def test_a_profile_may_have_a_property_called_error(project: cs.Workspace, tmp_path: Path) -> None:
    project.load(profiles=[write(tmp_path / "p", lines({"$distinct_id": "ann", "error": "seen"}))])
    assert profiles(project) == {"ann": {"error": "seen"}}


def test_loading_before_there_is_a_project_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(cs.CohortsyncError, match="cohortsync init"):
        cs.open(tmp_path / "home").load(events=[write(tmp_path / "e", lines(event(1)))])


def engage(ids: list[str], total: int) -> str:
    """One engage page as Mixpanel answers it."""
    return json.dumps({"page": 0, "page_size": 2, "session_id": "s", "status": "ok", "total": total,
                       "results": [{"$distinct_id": i, "$properties": {}} for i in ids]})


def test_a_cohort_of_which_pages_are_missing_is_refused_and_changes_nothing(
        project: cs.Workspace, tmp_path: Path) -> None:
    (tmp_path / "whole.json").write_text(engage(["a", "b"], 3) + "\n" + json.dumps(
        {"page": 1, "page_size": 2, "status": "ok", "results": [{"$distinct_id": "c", "$properties": {}}]}))
    project.load(cohorts={"vip": tmp_path / "whole.json"})
    (tmp_path / "part.json").write_text(engage(["a", "b"], 4))
    with pytest.raises(BadInput, match="2 of the 4 members"):
        project.load(cohorts={"vip": tmp_path / "part.json"})
    assert project.cohorts()["size"].tolist() == [3]


def test_mixpanels_refusal_saved_as_a_file_is_not_a_cohort_of_one(project: cs.Workspace, tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("Unable to authenticate request")
    with pytest.raises(BadInput, match="service account"):
        project.load(cohorts={"vip": tmp_path / "c.txt"})


def test_profiles_are_as_last_loaded_also_when_only_the_first_file_is_loaded_again(
        project: cs.Workspace, tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).write_text(json.dumps({"$distinct_id": "u", "$properties": {"plan": name}}))
    files = [tmp_path / "old", tmp_path / "new"]
    project.load(profiles=files)
    assert project.load(profiles=files).unchanged
    project.load(profiles=files[:1])
    assert project.sql("select properties->>'plan' as plan from profiles")["plan"].tolist() == ["old"]


def test_loading_nothing_is_said(project: cs.Workspace) -> None:
    with pytest.raises(BadInput, match="nothing to load"):
        project.load()


def test_what_an_id_did_is_kept_together_since_that_takes_little_room(project: cs.Workspace, tmp_path: Path) -> None:
    def kept() -> list[str]:
        return project.sql("select distinct_id from activity")["distinct_id"].tolist()

    rows = [event(n, at=NOON + n % 7 * 86_400, user=f"user-{n % 50}") for n in range(500)]
    for part in (rows[:300], rows[300:]):
        project.load(events=[write(tmp_path / str(len(part)), lines(*part))])
        ids = kept()
        neighbours = sum(one == next_ for one, next_ in pairwise(ids))
        assert (len(set(ids)), len(ids)) == (50, 350 if len(part) == 200 else 300)
        assert neighbours >= len(ids) - 50
