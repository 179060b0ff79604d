"""Cohorts over time and against each other, and cohorts defined in SQL."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cohortsync import charts, cohorts, warehouse
from cohortsync.errors import BadInput

PROJECT = {"project_id": "p", "timezone": "America/New_York", "id_merge": "simplified"}
START = datetime(2026, 10, 1, 12)
IDS = st.sampled_from(["ann", "bo", "cy", "dee", "$device:1", "$device:2"])


def tables() -> duckdb.DuckDBPyConnection:
    """An empty generation that one may write to and read from, in memory."""
    con = warehouse.engine()
    con.execute("attach ':memory:' as generation")
    warehouse.create_schema(con)
    con.execute(warehouse.sql("macros"))
    for table in warehouse.TABLES:
        con.execute(f"create view {table} as from generation.{table}")
    return con


@cache
def kept() -> duckdb.DuckDBPyConnection:
    return tables()


@contextmanager
def emptied() -> Iterator[duckdb.DuckDBPyConnection]:
    """One and the same connection for many examples; what is written to it is taken back."""
    kept().begin()
    try:
        yield kept()
    finally:
        kept().rollback()


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with tables() as con:
        yield con


def snapshots(con: duckdb.DuckDBPyConnection, cohort: str, *members: set[str]) -> None:
    """A cohort as loaded once a day since ``START``, load 1 the first."""
    for load_id, ids in enumerate(members, 1):
        con.execute("create or replace temp table members (distinct_id varchar)")
        con.execute("insert into members select unnest($ids)", {"ids": sorted(ids)})
        cohorts.write_members(con, "p", cohort, load_id, START + timedelta(days=load_id - 1))


def identities(con: duckdb.DuckDBPyConnection, pairs: dict[str, str]) -> None:
    for distinct_id, canonical_id in pairs.items():
        con.execute("insert into generation.identities values ('p', ?, ?)", [distinct_id, canonical_id])


def did(con: duckdb.DuckDBPyConnection, event: str, *ids: str, day: date = date(2026, 10, 2)) -> None:
    for distinct_id in ids:
        con.execute("insert into generation.activity by name select 'p' as project_id, ? as day, ? as distinct_id, "
                    "? as event, 1 as events", [day, distinct_id, event])


def became(con: duckdb.DuckDBPyConnection, distinct_id: str, load_id: int, **properties: tuple[Any, Any]) -> None:
    """A load found a profile's properties to be something else than before."""
    for name, (before, after) in properties.items():
        con.execute("insert into generation.profile_changes values ('p', ?, ?, ?, ?, ?, ?)",
                    [distinct_id, load_id, START + timedelta(days=load_id - 1), name,
                     *(None if value is None else json.dumps(value) for value in (before, after))])


def reasons(con: duckdb.DuckDBPyConnection, **moments: Any) -> dict[str, tuple[str, ...]]:
    """Id → change, reason and its name."""
    frame = cohorts.changes(con, PROJECT, "c", **moments)
    return {row.distinct_id: (row.change, row.reason, *([row.name] if isinstance(row.name, str) else []))
            for row in frame.itertuples(index=False, name=None) for row in [_Row(*row)]}


class _Row:
    def __init__(self, *values: Any) -> None:
        _, _, self.change, self.distinct_id, _, self.reason, self.name, *_ = values


# size over time

def test_a_cohorts_history_has_a_row_per_snapshot(con: duckdb.DuckDBPyConnection) -> None:
    snapshots(con, "c", {"ann", "bo"}, {"bo", "cy", "dee"}, {"ann"})
    assert cohorts.history(con, "p", "c")[["size", "entered", "left"]].to_numpy().tolist() == [
        [2, 2, 0], [3, 2, 1], [1, 1, 3]]


def test_a_cohort_that_was_empty_in_between_lost_and_regained_everybody(con: duckdb.DuckDBPyConnection) -> None:
    snapshots(con, "c", {"ann"}, set(), {"ann"})
    assert cohorts.history(con, "p", "c")[["size", "entered", "left"]].to_numpy().tolist() == [
        [1, 1, 0], [0, 0, 1], [1, 1, 0]]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sets(IDS), min_size=1, max_size=6))
def test_what_entered_less_what_left_is_the_difference_in_size(members: list[set[str]]) -> None:
    with emptied() as con:
        snapshots(con, "c", *members)
        frame = cohorts.history(con, "p", "c")
    before = [set(), *members[:-1]]
    assert frame["size"].tolist() == [len(ids) for ids in members]
    assert frame["entered"].tolist() == [len(ids - old) for old, ids in zip(before, members, strict=True)]
    assert frame["left"].tolist() == [len(old - ids) for old, ids in zip(before, members, strict=True)]
    assert (frame["entered"] - frame["left"]).tolist() == frame["size"].diff().fillna(frame["size"]).tolist()


def test_the_history_of_one_cohort_is_not_anothers(con: duckdb.DuckDBPyConnection) -> None:
    snapshots(con, "c", {"ann"})
    snapshots(con, "d", {"bo", "cy"})
    assert cohorts.history(con, "p", "c")["size"].tolist() == [1]
    with pytest.raises(BadInput, match="Cohorts: c, d"):
        cohorts.history(con, "p", "e")


# overlap

def test_an_overlap_counts_ids_and_users(con: duckdb.DuckDBPyConnection) -> None:
    snapshots(con, "c", {"ann", "bo", "cy", "$device:1"})
    snapshots(con, "d", {"bo", "$device:2"})
    identities(con, {"$device:1": "dee", "$device:2": "dee"})
    row = cohorts.overlap(con, "p", ["c", "d"]).iloc[0]
    assert (row["users"], row["other_users"], row["ids_in_both"], row["users_in_both"]) == (4, 2, 1, 2)
    assert (row["share"], row["other_share"]) == (0.5, 1.0)


def test_all_cohorts_are_compared_when_none_is_named(con: duckdb.DuckDBPyConnection) -> None:
    for name in ("c", "a", "b"):
        snapshots(con, name, {"ann"})
    frame = cohorts.overlap(con, "p")
    assert list(zip(frame["cohort"], frame["other"], strict=True)) == [("a", "b"), ("a", "c"), ("b", "c")]


def test_an_empty_cohort_overlaps_with_nothing_and_has_no_share(con: duckdb.DuckDBPyConnection) -> None:
    snapshots(con, "c", {"ann"})
    snapshots(con, "d", set())
    row = cohorts.overlap(con, "p", ["c", "d"]).iloc[0]
    assert (row["users_in_both"], row["share"], row["other_share"] != row["other_share"]) == (0, 0.0, True)


def test_an_overlap_needs_two_cohorts_that_there_are(con: duckdb.DuckDBPyConnection) -> None:
    snapshots(con, "c", {"ann"})
    for names in (["c"], ["c", "c"], ["c", "missing"]):
        with pytest.raises(BadInput):
            cohorts.overlap(con, "p", names)


@settings(max_examples=40, deadline=None)
@given(st.sets(IDS), st.sets(IDS), st.dictionaries(st.sampled_from(["$device:1", "$device:2"]),
                                                   st.sampled_from(["ann", "bo"])))
def test_an_overlap_is_the_same_from_either_side(one: set[str], other: set[str], merged: dict[str, str]) -> None:
    with emptied() as con:
        snapshots(con, "c", one)
        snapshots(con, "d", other)
        identities(con, merged)
        there, back = (cohorts.overlap(con, "p", names).iloc[0] for names in (["c", "d"], ["d", "c"]))
    users, others = ({merged.get(i, i) for i in ids} for ids in (one, other))
    assert (there["ids_in_both"], there["users_in_both"]) == (len(one & other), len(users & others))
    assert there[["ids_in_both", "users_in_both"]].equals(back[["ids_in_both", "users_in_both"]])
    assert (there["users"], there["other_users"]) == (back["other_users"], back["users"]) == (len(users), len(others))


# who entered and left, and why

def test_the_property_that_moved_people_is_named_with_its_values(con: duckdb.DuckDBPyConnection) -> None:
    snapshots(con, "c", {"ann", "bo"}, {"ann", "cy"})
    became(con, "cy", 2, plan=("free", "pro"))
    became(con, "bo", 2, plan=("pro", None))
    frame = cohorts.changes(con, PROJECT, "c").set_index("distinct_id")
    assert frame.loc["cy", ["change", "reason", "name", "before", "after"]].tolist() == [
        "entered", "property", "plan", "free", "pro"]
    assert frame.loc["bo", ["change", "reason", "name", "before"]].tolist() == ["left", "property", "plan", "pro"]


def test_a_property_that_everyone_had_changed_explains_nothing(con: duckdb.DuckDBPyConnection) -> None:
    snapshots(con, "c", {"ann"}, {"ann", "cy"})
    for distinct_id in ("ann", "bo", "cy"):
        became(con, distinct_id, 2, visits=(1, 2))
        did(con, "App opened", distinct_id)
    assert reasons(con) == {"cy": ("entered", "unknown")}
    did(con, "Purchase", "cy")
    assert reasons(con) == {"cy": ("entered", "event", "Purchase")}


def test_the_event_named_is_the_one_that_sets_those_who_moved_most_apart(con: duckdb.DuckDBPyConnection) -> None:
    snapshots(con, "c", {"ann"}, {"ann", "bo", "cy"})
    did(con, "App opened", "bo", "cy", "dee", "eve", "flo", "gus")
    did(con, "Purchase", "bo", "cy", "eve")
    did(con, "Invited a friend", "bo")
    frame = cohorts.changes(con, PROJECT, "c").set_index("distinct_id")
    assert frame["name"].tolist() == ["Purchase", "Purchase"]
    assert frame.loc["bo", ["share_moved", "share_others"]].tolist() == [1.0, 0.25]


def test_where_both_say_as_much_the_property_is_named(con: duckdb.DuckDBPyConnection) -> None:
    snapshots(con, "c", {"ann"}, {"ann", "bo"})
    did(con, "A purchase", "bo")
    became(con, "bo", 2, plan=("free", "pro"))
    assert reasons(con) == {"bo": ("entered", "property", "plan")}


def test_a_user_who_is_there_under_another_id_is_merged_whatever_else_happened(con: duckdb.DuckDBPyConnection) -> None:
    snapshots(con, "c", {"$device:1", "cy"}, {"ann", "cy"})
    identities(con, {"$device:1": "ann"})
    did(con, "Purchase", "ann")
    became(con, "ann", 2, plan=("free", "pro"))
    assert reasons(con) == {"$device:1": ("left", "merged"), "ann": ("entered", "merged")}


def test_what_an_anonymous_id_did_counts_for_its_user(con: duckdb.DuckDBPyConnection) -> None:
    snapshots(con, "c", set(), {"ann"})
    identities(con, {"$device:1": "ann"})
    did(con, "Purchase", "$device:1")
    assert reasons(con) == {"ann": ("entered", "event", "Purchase")}


def test_only_what_happened_in_between_is_a_reason(con: duckdb.DuckDBPyConnection) -> None:
    snapshots(con, "c", {"ann"}, {"ann"}, {"ann", "bo"}, {"ann", "bo"})
    became(con, "bo", 2, plan=("free", "pro"))
    became(con, "bo", 4, plan=("pro", "max"))
    did(con, "Purchase", "bo", day=date(2026, 10, 1))
    did(con, "Purchase", "bo", day=date(2026, 10, 4))
    assert reasons(con, since="2026-10-02", until="2026-10-03") == {"bo": ("entered", "unknown")}


def test_a_property_that_changed_and_changed_back_is_no_reason(con: duckdb.DuckDBPyConnection) -> None:
    snapshots(con, "c", set(), set(), {"bo"})
    became(con, "bo", 2, plan=(None, "pro"))
    became(con, "bo", 3, plan=("pro", None))
    assert reasons(con, since="2026-10-01") == {"bo": ("entered", "unknown")}


def test_the_last_change_of_a_property_gives_its_value_after(con: duckdb.DuckDBPyConnection) -> None:
    snapshots(con, "c", set(), set(), {"bo"})
    became(con, "bo", 2, plan=(None, "pro"))
    became(con, "bo", 3, plan=("pro", "max"))
    frame = cohorts.changes(con, PROJECT, "c", since="2026-10-01")
    assert frame["after"].tolist() == ["max"]
    assert frame["before"].isna().all()


def test_addresses_are_masked_in_ids_and_values(con: duckdb.DuckDBPyConnection) -> None:
    snapshots(con, "c", set(), {"bo@lane.example"})
    became(con, "bo@lane.example", 2, **{"$email": ("bob@lane.example", "bo@lane.example")})
    shown = cohorts.changes(con, PROJECT, "c").to_csv()
    assert "lane" not in shown
    assert "b•••@l•••.example" in shown


def test_a_day_is_its_end_in_the_projects_zone_and_an_instant_is_utc(con: duckdb.DuckDBPyConnection) -> None:
    snapshots(con, "c", {"ann"})
    cohorts_at = {"2026-10-02": 1, date(2026, 10, 2): 1, "2026-10-02T04:00": 1, "2026-10-02T03:00": 0,
                  "2026-10-01T23:00-04:00": 0, "2026-10-01": 0, datetime(2026, 10, 2, 5, tzinfo=UTC): 1}
    con.execute("create or replace temp table members as select 'bo' as distinct_id")
    cohorts.write_members(con, "p", "c", 2, datetime(2026, 10, 2, 4))
    for moment, changed in cohorts_at.items():
        assert bool(len(cohorts.changes(con, PROJECT, "c", "2026-10-01T20:00", moment))) == bool(changed), moment


@pytest.mark.parametrize("moments", [("2026-09-30", None), ("soon", None), (None, "2026-13-01"), ("", None),
                                     ("2026-10-02", "2026-10-01"), (None, "9999-12-31")])
def test_a_moment_of_which_nothing_is_known_is_said(con: duckdb.DuckDBPyConnection, moments: tuple[Any, Any]) -> None:
    snapshots(con, "c", {"ann"}, {"bo"})
    with pytest.raises(BadInput):
        cohorts.changes(con, PROJECT, "c", *moments)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sets(IDS), min_size=2, max_size=4), st.dictionaries(st.just("$device:1"), st.just("ann")))
def test_who_moved_is_the_difference_of_the_two_snapshots(members: list[set[str]], merged: dict[str, str]) -> None:
    with emptied() as con:
        snapshots(con, "c", *members)
        identities(con, merged)
        frame = cohorts.changes(con, PROJECT, "c", since="2026-10-01")
    moved = {change: set(part["distinct_id"]) for change, part in frame.groupby("change")}
    assert moved.get("entered", set()) == members[-1] - members[0]
    assert moved.get("left", set()) == members[0] - members[-1]
    assert len(frame) == len(members[0] ^ members[-1])


# figures

def test_a_history_is_drawn_with_who_left_below_the_line(con: duckdb.DuckDBPyConnection) -> None:
    snapshots(con, "c", {"ann", "bo"}, {"bo"})
    figure = charts.cohort_history(cohorts.history(con, "p", "c"))
    assert {trace.name: list(trace.y) for trace in figure.data} == {
        "entered": [2, 0], "left": [0, -1], "size": [2, 1]}


def test_an_overlap_is_drawn_as_shares_of_the_rows_cohort(con: duckdb.DuckDBPyConnection) -> None:
    snapshots(con, "<b>c</b>", {"ann", "bo"})
    snapshots(con, "d", {"bo"})
    snapshots(con, "e", set())
    figure = charts.cohort_overlap(cohorts.overlap(con, "p", ["<b>c</b>", "d", "e"]))
    assert [list(line)[:2] for line in figure.data[0].z[:2]] == [[1.0, 0.5], [1.0, 1.0]]
    assert figure.data[0].text[0][1] == "50.0% (1)"
    assert figure.layout.yaxis.ticktext[0] == "&lt;b&gt;c&lt;/b&gt;"
    assert charts.cohort_overlap(cohorts.overlap(con, "p").iloc[:0]).layout.annotations[0].text.startswith("An overlap")
