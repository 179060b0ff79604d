"""The benchmark: what its tables say is there, its events are the same for everyone, its ways agree."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest
from bench import counting, data, linking, loading, pulling, report, syncing
from bench.fresh import measured

import cohortsync as cs

ROOT = Path(__file__).parent.parent
EVENTS = 5_000


def written(document: str, name: str) -> str:
    text = (ROOT / document).read_text(encoding="utf-8")
    found = re.search(f"<!-- bench: {name} -->\n(.+)\n<!-- end of bench: {name} -->", text, re.DOTALL)
    assert found, f"{document} has no benchmark table {name}"
    return found[1]


def rows(table: str, heading: report.Row) -> list[list[str]]:
    lines = table.split("| " + " | ".join(heading) + " |\n")[1].split("\n\n")[0].splitlines()[1:]
    return [line.strip("| ").split(" | ") for line in lines]


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> data.Export:
    return data.export(tmp_path_factory.mktemp("exports"), EVENTS)


@pytest.fixture(scope="module")
def loaded(export: data.Export, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("loaded") / "home"
    loading.cohortsync(home, list(export.files))
    return home


def lines(path: Path) -> list[str]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return file.readlines()


def test_the_readme_shows_every_comparison() -> None:
    table = rows(written("README.md", "ratios"), report.RATIOS)
    assert [row[0] for row in table] == [
        report.LOAD, report.LOAD, report.LOAD, report.MTU, report.MTU, report.LINKS, report.ORIGINAL, report.REFRESH,
        report.MEMORY]


def test_the_readme_shows_three_sizes() -> None:
    assert len(rows(written("README.md", "ratios"), report.SCALE)) == 3


def test_the_document_shows_the_steps_of_a_load() -> None:
    assert len(rows(written("docs/benchmarks.md", "steps"), report.STEPS)) > 3


def test_a_table_goes_between_its_markers_and_nothing_else_changes(tmp_path: Path) -> None:
    document = tmp_path / "some.md"
    document.write_text("before\n<!-- bench: it -->\nold\n<!-- end of bench: it -->\nafter\n", encoding="utf-8")
    report.put(document, "it", "new")
    assert document.read_text(encoding="utf-8") == (
        "before\n<!-- bench: it -->\nnew\n<!-- end of bench: it -->\nafter\n")


def test_a_ratio_says_when_it_misses_its_target() -> None:
    assert report.Comparison("load", 3, "bare", 1, 2.5, at_most=True).row[3] == "3× its time (missed)"
    assert report.Comparison("mtu", 0.01, "polars", 1, 50).row[3] == "100× as fast"


def test_the_events_are_the_same_each_time_they_are_made(export: data.Export, tmp_path: Path) -> None:
    again = data.export(tmp_path, EVENTS)
    assert [lines(path) for path in again.files] == [lines(path) for path in export.files]


def test_there_are_as_many_events_as_asked_for_and_each_is_an_events_object(export: data.Export) -> None:
    events = [json.loads(line) for path in export.files for line in lines(path)]
    assert len(events) == EVENTS
    assert {type(event["properties"]["time"]) for event in events} == {int}


def test_the_newest_day_is_one_day_after_all_others(export: data.Export) -> None:
    days = [{json.loads(line)["properties"]["time"] // 86400 for line in lines(path)}
            for path in (*export.files, export.newest)]
    assert days[-1] == {max(set().union(*days[:-1])) + 1}


def test_two_percent_of_the_lines_are_duplicates(loaded: Path) -> None:
    with cs.open(loaded).connect() as con:
        kept = con.execute("select count(*) from events").fetchall()[0][0]
    assert EVENTS * 0.97 < kept < EVENTS * 0.99


def test_the_three_ways_to_count_users_agree(loaded: Path, tmp_path: Path) -> None:
    pytest.importorskip("polars")
    taken = counting.compare(loaded, tmp_path, repeats=1)
    assert set(taken) == {"cohortsync", "duckdb", "polars"}


def test_links_and_a_bare_group_by_read_the_same_rows(loaded: Path, tmp_path: Path) -> None:
    assert set(linking.links(loaded, tmp_path, repeats=1)) == {"cohortsync", "group by"}


def test_original_merge_gives_the_same_users_as_plain_python(tmp_path: Path) -> None:
    found = linking.original(tmp_path, 5_000)
    assert found["refused"] > 0 and found["merged"] > 0


def test_a_measured_sync_shows_its_requests_beside_the_fewest(tmp_path: Path) -> None:
    first, changed, nothing = syncing.syncs(tmp_path, people=1_200, changes=40)
    assert (first.receipt["added"], first.writes) == (1_200, 4)
    assert (changed.receipt["added"], changed.receipt["removed"], changed.receipt["writes"]) == (20, 20, 2)
    assert nothing.receipt["writes"] == nothing.writes == 0
    for each in (first, changed, nothing):
        assert each.writes <= each.receipt["writes"] <= each.writes + 3
        assert each.seconds > each.least_s


def test_everyone_pulls_the_same_events(export: data.Export, tmp_path: Path) -> None:
    with pulling.served(export, tmp_path) as url:
        ways = {pulling.cohortsync: "home", pulling.headless: "nothing", pulling.utils: "events.json",
                pulling.raw_copy: "events.ndjson"}
        pulled, counted, *_ = (measured(way, tmp_path / left, url).answer for way, left in ways.items())
    assert counted["events"] == pulled["events"]
    assert len(json.loads((tmp_path / "events.json").read_text())) == pulled["events"]
    assert len(lines(tmp_path / "events.ndjson.gz")) == pulled["events"]


def test_the_document_shows_everyones_pull() -> None:
    pulled = [row[0] for row in rows(written("docs/benchmarks.md", "pulls"), report.PULLS)]
    assert pulled == ["cohortsync", "mixpanel-headless", "mixpanel-utils", "mixpanel-utils, raw", "cohortsync"]


def test_pandas_ends_with_the_same_numbers(export: data.Export, tmp_path: Path) -> None:
    found = loading.pandas(tmp_path / "by-pandas", export.files[0], EVENTS)
    loading.cohortsync(tmp_path / "home", [export.files[0]])
    counted = cs.open(tmp_path / "home").sql("""select (select count(*) from events) as events,
        (select count(*) from activity) as activity, (select count(*) from user_months) as user_months""")
    assert counted.to_dict("records") == [{name: found[name] for name in ("events", "activity", "user_months")}]
