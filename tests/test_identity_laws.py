"""Laws of identity, over the tables that a load derives: fast as plain, split as whole, resolved as resolved."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import duckdb
import pytest
from conftest import examples
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from reckoning import Original, Row, Simplified
from test_identity import ANON, USERS, merge_original

import cohortsync as cs
from cohortsync import identity, warehouse

DEVICES = [f"$device:{name}" for name in "DEF"]
BRIEF = settings(max_examples=25, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
LOADED = settings(BRIEF, max_examples=examples(8))
EVIDENCE = ("device_links", "identity_verbs", "rekeys")
Rows = list[dict[str, Any]]


class Project:
    """One project's evidence and what is derived from it, beside another project that must not stir."""

    def __init__(self, con: duckdb.DuckDBPyConnection, id_merge: str) -> None:
        self.con = con
        self.settings = {"project_id": "p", "timezone": "UTC", "id_merge": id_merge, "event_times": "utc"}
        for table in (*EVIDENCE, "identity_mappings", "identities", "profiles"):
            con.execute(f"delete from generation.{table}")
        con.execute("insert into generation.identity_verbs values ('q', 1, 1, '', '$merge', 'ann', 'zoe')")
        con.execute("insert into generation.identities values ('q', 'zoe', 'ann')")

    def insert(self, table: str, rows: Sequence[Sequence[Any]]) -> None:
        if rows:
            self.con.executemany(f"insert into generation.{table} values ({', '.join('?' * len(rows[0]))})",
                                 [tuple(row) for row in rows])

    def know(self, verbs: Sequence[tuple[str, str, str]] = (), rekeys: Sequence[tuple[str, str, int, int]] = (),
             reachable: Sequence[str] = (), mappings: Sequence[tuple[str, str]] = ()) -> Project:
        self.insert("identity_verbs", [("p", n, 0, "", *verb) for n, verb in enumerate(verbs)])
        self.insert("rekeys", [("p", *rekey) for rekey in rekeys])
        self.insert("profiles", [("p", i, 1, "text", *[None] * 5) for i in reachable])
        self.insert("identity_mappings", [("p", *pair) for pair in mappings])
        return self

    def load(self, rows: Rows) -> None:
        """Stage export rows as a load does and fold in what they say."""
        self.con.execute("create or replace temp table lines "
                         "(event varchar, properties varchar, file_no integer, line bigint)")
        if rows:
            self.con.executemany("insert into lines values (?, ?, 0, ?)",
                                 [(row["event"], json.dumps(row["properties"]), n) for n, row in enumerate(rows)])
        self.con.execute("set variable project_id = 'p'")
        self.con.execute("set variable load_id = 1")
        self.con.execute(f"create or replace temp table staged as {warehouse.sql('stage_events')}")
        identity.refresh_evidence(self.con)

    def evidence(self) -> dict[str, list[tuple[Any, ...]]]:
        return {table: self.con.execute(f"from generation.{table} order by all").fetchall() for table in EVIDENCE}

    def canonical(self, cap: int = identity.CAP) -> dict[str, str]:
        identity.derive_identities(self.con, self.settings, cap)
        rows = self.con.execute("from generation.identities").fetchall()
        assert ("q", "zoe", "ann") in rows
        answers = [row[1:] for row in rows if row[0] == "p"]
        assert len(dict(answers)) == len(answers)
        return dict(answers)


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    engine = warehouse.engine()
    engine.execute("attach ':memory:' as generation")
    warehouse.create_schema(engine)
    engine.execute(warehouse.sql("macros") + warehouse.sql("records"))
    yield engine
    engine.close()


ids = st.sampled_from(USERS + ANON)
verb_names = st.sampled_from(["$identify", "$identify", "$create_alias", "$merge"])
verb_lists = st.lists(st.tuples(verb_names, ids, ids), max_size=30)
rekey_lists = st.lists(st.tuples(ids, ids, st.integers(0, 3), st.integers(-2, 3)).filter(lambda r: r[0] != r[1]),
                       max_size=4, unique_by=lambda r: r[:2])
mapping_lists = st.lists(st.tuples(ids, ids), max_size=4)
reachables = st.lists(ids, max_size=3, unique=True)


# original ID merge

@BRIEF
@given(verb_lists, rekey_lists, reachables, mapping_lists, st.integers(1, 8))
def test_the_fast_merge_answers_as_the_slow_one(con: duckdb.DuckDBPyConnection, verbs: list, rekeys: list,
                                                reachable: list, mappings: list, cap: int) -> None:
    known = Project(con, "original").know(verbs, rekeys, reachable, mappings)
    expected = merge_original(verbs, rekeys, set(reachable), cap, mappings)
    assert known.canonical(cap) == expected
    assert known.canonical(cap) == expected


@BRIEF
@given(st.lists(st.tuples(verb_names, st.sampled_from(USERS), st.sampled_from(ANON)), max_size=12), st.integers(2, 500))
def test_the_fast_merge_answers_as_the_slow_one_where_visitors_are_shared(
        con: duckdb.DuckDBPyConnection, verbs: list, cap: int) -> None:
    assert Project(con, "original").know(verbs).canonical(cap) == merge_original(verbs, [], set(), cap)


@BRIEF
@given(verb_lists, rekey_lists, reachables, st.integers(1, 8))
def test_a_project_exported_resolved_resolves_to_the_same(con: duckdb.DuckDBPyConnection, verbs: list, rekeys: list,
                                                          reachable: list, cap: int) -> None:
    known = Project(con, "original").know(verbs, rekeys, reachable)
    canonical = known.canonical(cap)
    assert not set(canonical) & set(canonical.values())
    known.insert("rekeys", [("p", name, i, 9, 9) for i, name in canonical.items()])
    assert known.canonical(cap) == canonical


@BRIEF
@given(st.data(), st.lists(st.tuples(ids, ids), max_size=12))
def test_merges_below_the_cap_may_come_in_any_order(con: duckdb.DuckDBPyConnection, data: st.DataObject,
                                                    pairs: list) -> None:
    shuffled = data.draw(st.permutations(pairs))
    answers = [Project(con, "original").know([("$merge", *pair) for pair in order]).canonical()
               for order in (pairs, shuffled)]
    assert answers[0] == answers[1]


@BRIEF
@given(st.data(), st.dictionaries(st.sampled_from(ANON), st.sampled_from(USERS)))
def test_visitors_of_one_user_each_may_be_identified_in_any_order(con: duckdb.DuckDBPyConnection, data: st.DataObject,
                                                                  user_of: dict) -> None:
    verbs = [("$identify", user, anon) for anon, user in user_of.items()]
    for order in (verbs, data.draw(st.permutations(verbs))):
        assert Project(con, "original").know(order).canonical() == user_of


@pytest.mark.parametrize(("cap", "outside"), [(499, 2), (500, 1), (501, 0)])
def test_a_user_of_five_hundred_and_one_ids_is_cut_at_the_cap(con: duckdb.DuckDBPyConnection, cap: int,
                                                              outside: int) -> None:
    crowd = [f"till-{n:03d}" for n in range(500)]
    canonical = Project(con, "original").know([("$merge", "till", each) for each in crowd]).canonical(cap)
    assert canonical == dict.fromkeys(crowd[:500 - outside], "till")


def test_what_mixpanel_shows_is_one_user_beyond_every_cap_and_refusal(con: duckdb.DuckDBPyConnection) -> None:
    refused = [("$identify", "ann", ANON[0]), ("$identify", "bob", ANON[0])]
    known = Project(con, "original").know(refused, [("bob", ANON[0], 1, 1)], [], [("cid", "ann"), ("bob", "ann")])
    assert known.canonical(cap=1) == {"bob": "ann", ANON[0]: "ann", "cid": "ann"}


def test_the_head_of_a_mapping_names_the_user_though_it_be_anonymous(con: duckdb.DuckDBPyConnection) -> None:
    star = [("ann", ANON[0]), ("$device:D", ANON[0]), ("ann@harbor-mail.example", ANON[0])]
    known = Project(con, "original").know([], [("ann", "crm", 9, 9)], ["ann@harbor-mail.example"], star)
    assert known.canonical() == dict.fromkeys(["ann", "$device:D", "ann@harbor-mail.example", "crm"], ANON[0])


def test_of_two_heads_of_one_user_the_smaller_names_it(con: duckdb.DuckDBPyConnection) -> None:
    known = Project(con, "original").know([("$merge", "ann", "bob")], [], [], [("ann", "x2"), ("bob", "x1")])
    assert known.canonical() == dict.fromkeys(["ann", "bob", "x2"], "x1")


# simplified ID merge

def test_a_mapping_outweighs_what_rows_say_of_a_device(con: duckdb.DuckDBPyConnection) -> None:
    known = Project(con, "simplified").know(mappings=[("$device:D", "cid")])
    known.insert("device_links", [("p", "D", False, "ann", 1, 1, ""), ("p", "D", True, "bob", 1, 1, ""),
                                  ("p", "E", False, "ann", 1, 1, ""), ("p", "E", True, "bob", 1, 1, "")])
    assert known.canonical() == {"$device:D": "cid", "$device:E": "bob"}


def test_a_devices_user_is_resolved_by_the_mapping_of_the_user(con: duckdb.DuckDBPyConnection) -> None:
    known = Project(con, "simplified").know(mappings=[("ann", "$device:E")])
    known.insert("device_links", [("p", "D", False, "ann", 1, 1, ""), ("p", "E", False, "ann", 1, 1, "")])
    assert known.canonical() == {"ann": "$device:E", "$device:D": "$device:E"}


@BRIEF
@given(st.lists(st.tuples(st.sampled_from(DEVICES + USERS[:3]), st.sampled_from(DEVICES + USERS[:3])), max_size=6),
       st.dictionaries(st.sampled_from("DEF"), st.sampled_from(USERS[:3])))
def test_whatever_the_mappings_a_canonical_id_is_its_own(con: duckdb.DuckDBPyConnection, mappings: list,
                                                         owners: dict) -> None:
    known = Project(con, "simplified").know(mappings=mappings)
    known.insert("device_links", [("p", device, False, user, 1, 1, "") for device, user in owners.items()])
    canonical = known.canonical()
    assert not set(canonical) & set(canonical.values())


# evidence, load after load

def _row(event: str, **props: Any) -> dict[str, Any]:
    return {"event": event, "properties": {name: value for name, value in props.items() if value is not None}}


some = st.sampled_from
stamps = {"time": some([1788868800, 1788868801]), "$mp_api_timestamp_ms": some([None, 5, 6]),
          "$insert_id": some([None, "a", "b"])}
before = {"distinct_id": some([None, "ann", "bob", "cid", DEVICES[0], DEVICES[1]]),
          "$distinct_id_before_identity": some([None, None, "ann", DEVICES[0], DEVICES[1]])}
seen_rows = st.fixed_dictionaries({
    **stamps, **before, "$user_id": some([None, "ann", "bob", "null"]),
    "$device_id": some([None, "D", "E", DEVICES[0]]),
    "$identity_failure_reason": some([None, None, None, "err"])}).map(lambda p: _row("Seen", **p))
small = some(["ann", "bob", "cid", *ANON[:3]])
verb_rows = st.one_of(
    st.fixed_dictionaries({**stamps, **before, "$identified_id": small, "$anon_id": small,
                           "$failure_reason": some([None, None, "err"])}).map(lambda p: _row("$identify", **p)),
    st.fixed_dictionaries({**stamps, "distinct_id": small, "alias": small}).map(lambda p: _row("$create_alias", **p)),
    st.fixed_dictionaries({**stamps, "$distinct_ids": st.lists(small, min_size=2, max_size=2)}).map(
        lambda p: _row("$merge", **p)))
row_lists = st.lists(st.one_of(seen_rows, verb_rows), max_size=12)
EVERY_ID = ["ann", "bob", "cid", *ANON[:3], *DEVICES[:2]]
pairs_of_ids = st.lists(some(list(product(EVERY_ID, EVERY_ID))), max_size=2)


def _reckoned(rows: Rows) -> list[Row]:
    return [Row(row["event"], row["properties"]["time"], row["properties"], (0, n)) for n, row in enumerate(rows)]


@pytest.mark.law
@LOADED
@given(row_lists, pairs_of_ids)
def test_devices_are_linked_as_a_second_reckoning_links_them(con: duckdb.DuckDBPyConnection, rows: list,
                                                             mappings: list) -> None:
    known = Project(con, "simplified").know(mappings=mappings)
    known.load(rows)
    canonical, reckoned = known.canonical(), Simplified(_reckoned(rows), mappings)
    assert {i: canonical.get(i, i) for i in EVERY_ID} == {i: reckoned.canonical(i) for i in EVERY_ID}


@pytest.mark.law
@LOADED
@given(row_lists, pairs_of_ids)
def test_ids_are_merged_as_a_second_reckoning_merges_them(con: duckdb.DuckDBPyConnection, rows: list,
                                                          mappings: list) -> None:
    known = Project(con, "original").know(mappings=mappings)
    known.load(rows)
    canonical, reckoned = known.canonical(), Original(_reckoned(rows), {}, mappings)
    assert {i: canonical.get(i, i) for i in EVERY_ID} == {i: reckoned.canonical(i) for i in EVERY_ID}


@pytest.mark.law
@LOADED
@given(st.data(), row_lists)
def test_loads_leave_the_same_evidence_whole_split_or_repeated(con: duckdb.DuckDBPyConnection, data: st.DataObject,
                                                               drawn: list) -> None:
    """Of rows received at different times; of those of one instant, ``insert_id`` decides within a load alone."""
    received = data.draw(st.permutations(range(len(drawn))))
    rows = [{**row, "properties": {**row["properties"], "$mp_api_timestamp_ms": ms}}
            for row, ms in zip(drawn, received, strict=True)]
    whole, cut = Project(con, "simplified"), data.draw(st.integers(0, len(rows)))
    whole.load(rows)
    expected = whole.evidence()
    for parts in ([rows[:cut], rows[cut:]], [rows[cut:], rows[:cut]], [rows, rows]):
        split = Project(con, "simplified")
        for part in parts:
            split.load(part)
        assert split.evidence() == expected


def test_an_older_link_that_is_loaded_later_counts_and_changes_one_row_only(con: duckdb.DuckDBPyConnection) -> None:
    known = Project(con, "simplified")
    links = [_row("Seen", time=1788868800 + n, **{"$device_id": d, "$user_id": u})
             for n, (d, u) in enumerate([("D", "ann"), ("D", "bob"), ("E", "ann")])]
    known.load(links[1:])
    assert known.canonical() == {"$device:D": "bob", "$device:E": "ann"}
    known.load(links[:1])
    assert known.canonical() == {"$device:D": "ann", "$device:E": "ann"}


def test_a_login_next_month_takes_users_off_the_month_before(tmp_path: Path) -> None:
    workspace = cs.open(tmp_path / "home")
    workspace.init("UTC", "simplified")
    september, october = 1788868800, 1788868800 + 30 * 86400
    first = [_row("Seen", time=september, **{"$device_id": device}) for device in ("D", "E")]
    later = [_row("Seen", time=october, **{"$device_id": device, "$user_id": "ann"}) for device in ("D", "E")]
    for name, rows, expected in (("first", first, [2]), ("later", later, [1, 1])):
        path = tmp_path / f"{name}.ndjson"
        path.write_text("\n".join(map(json.dumps, rows)))
        workspace.load([path])
        assert workspace.mtu()["mtu"].tolist() == expected


def test_a_device_linked_in_one_load_is_known_in_the_next(con: duckdb.DuckDBPyConnection) -> None:
    known = Project(con, "simplified")
    known.load([_row("Seen", time=1788868800, **{"$device_id": "D", "$user_id": "ann"})])
    known.load([_row("Seen", time=1788868900, **{"$device_id": "D"})])
    assert known.canonical() == {"$device:D": "ann"}
