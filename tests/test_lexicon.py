"""What events and properties there are, and how a property is asked for by its name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import duckdb
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cohortsync as cs
from cohortsync import lexicon, warehouse
from cohortsync.errors import BadInput

PROJECT = {"project_id": "p", "timezone": "America/New_York", "id_merge": "simplified", "event_times": "utc"}
NAMES = ["plan", "Plan", "$city", "a.b", 'q"q', "it's", "ü😀", "a/b", "~t", "*", "", "0", "[0]", "a\\b", "sp ace",
         "#", "%s", "$.x", "null", "tab\there", "distinct_id", "event", "time"]


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    """A generation that one may write to and read from, with a table of events of its own."""
    with warehouse.engine() as con:
        con.execute("attach ':memory:' as generation")
        warehouse.create_schema(con)
        con.execute(warehouse.sql("macros"))
        for table in warehouse.TABLES:
            con.execute(f"create view {table} as from generation.{table}")
        con.execute("create table events as select *, make_timestamp(time_s * 1000000) as occurred_at "
                    "from generation.no_events")
        yield con


def did(con: duckdb.DuckDBPyConnection, event: str, user_id: str | None, time_s: int = 1_790_000_000, /,
        **properties: Any) -> None:
    """One event, counted in ``activity`` too."""
    day = datetime.fromtimestamp(time_s, UTC).date()
    con.execute("""insert into events by name select 'p' as project_id, ? as event, ?::bigint as time_s,
        make_timestamp(?::bigint * 1000000) as occurred_at, ? as user_id, ? as distinct_id, ?::json as properties,
        ? as day""", [event, time_s, time_s, user_id, user_id, json.dumps(properties), day])
    con.execute("insert into generation.activity by name select 'p' as project_id, ?::date as day, "
                "? as distinct_id, ? as event, 1 as events", [day, user_id or "", event])


# events

def test_events_seen_counts_users_after_the_merge_and_events_of_nobody(con: duckdb.DuckDBPyConnection) -> None:
    con.execute("insert into generation.identities values ('p', '$device:1', 'ann')")
    con.execute("insert into generation.event_classes by name select 'Opened' as event, 'engagement' as class")
    for user, time_s in (("ann", 1_790_000_000), ("$device:1", 1_790_200_000), (None, 1_790_000_000)):
        did(con, "Purchase", user, time_s)
    did(con, "Opened", "bo")
    frame = lexicon.events_seen(con, "p")
    assert frame[["event", "events", "users", "class"]].to_numpy().tolist() == [
        ["Purchase", 3, 1, "qualifying"], ["Opened", 1, 1, "engagement"]]
    assert frame.loc[0, ["first_on", "last_on"]].tolist() == ["2026-09-21", "2026-09-23"]
    assert len(lexicon.events_seen(con, "other")) == 0


# properties

def described(frame: pd.DataFrame, name: str) -> pd.Series:
    [row] = [row for _, row in frame.iterrows() if row["property"] == name]
    return row


def test_a_propertys_types_are_counted_and_drift_is_shown(con: duckdb.DuckDBPyConnection) -> None:
    for value in ("1.12.0", 4213, 4.5, None, True, [1], {"a": 1}, "2026-10-01T08:00:00"):
        did(con, "Purchase", "ann", version=value, plan="free")
    frame = lexicon.event_properties(con, "p", "Purchase")
    row = described(frame, "version")
    assert row["types"] == {"string": 1, "number": 2, "null": 1, "boolean": 1, "list": 1, "object": 1, "date": 1}
    assert (row["filled"], row["fill_rate"], row["drifts"]) == (7, 7 / 8, True)
    assert not described(frame, "plan")["drifts"]


def test_names_that_differ_only_in_case_stay_apart(con: duckdb.DuckDBPyConnection) -> None:
    did(con, "Purchase", "ann", utm_medium="mail", UTM_Medium="ad")
    did(con, "Purchase", "ann", utm_medium="mail")
    frame = lexicon.event_properties(con, "p")
    assert dict(zip(frame["property"], frame["filled"], strict=True)) == {"utm_medium": 2, "UTM_Medium": 1}
    picked = lexicon.events(con, PROJECT, "Purchase", ["UTM_Medium", "utm_medium"])
    assert list(picked.columns[-2:]) == ["UTM_Medium", "utm_medium"]
    assert picked["utm_medium"].tolist() == ["mail", "mail"]


def test_properties_are_those_of_one_event_or_of_all(con: duckdb.DuckDBPyConnection) -> None:
    did(con, "Purchase", "ann", price=3)
    did(con, "Login", "ann", method="code")
    assert lexicon.event_properties(con, "p", "Login")["property"].tolist() == ["method"]
    assert described(lexicon.event_properties(con, "p"), "price")["fill_rate"] == 0.5
    with pytest.raises(BadInput, match="no event 'login'"):
        lexicon.event_properties(con, "p", "login")


def test_properties_of_profiles_are_listed_too(con: duckdb.DuckDBPyConnection) -> None:
    for distinct_id, properties in (("ann", {"$email": "ann@lane.example"}), ("bo", {"plan": "pro"}), ("cy", {})):
        con.execute("""insert into generation.profiles by name select 'p' as project_id, ? as distinct_id,
            ? as property_count, ?::json as properties""", [distinct_id, len(properties), json.dumps(properties)])
    frame = lexicon.profile_properties(con, "p")
    assert dict(zip(frame["property"], frame["fill_rate"], strict=True)) == {"$email": 0.5, "plan": 0.5}


def test_a_sample_says_how_large_it_is(con: duckdb.DuckDBPyConnection) -> None:
    for number in range(30):
        did(con, "Purchase", "ann", n=number)
    assert lexicon.event_properties(con, "p", sample=10)[["filled", "sampled"]].to_numpy().tolist() == [[10, 10]]
    for _ in range(5):
        did(con, "Login", "bo", method="code")
    assert lexicon.event_properties(con, "p", "Login", sample=4)["filled"].tolist() == [4]
    whole = lexicon.event_properties(con, "p", "Purchase", sample=None)
    assert whole[["filled", "sampled"]].to_numpy().tolist() == [[30, 30]]
    assert whole["distinct_values"].iloc[0] == pytest.approx(30, rel=0.2)


@pytest.mark.parametrize("value", [
    "ann@lane.example", "Ann <ann@lane.example>", "see ann@lane.example and bo@lane.example",
    "a8d3831f-ba0e-447e-bdaf-81bc8e9f78be", "4b9d04bb1df5dfb84b9d04bb1df5dfb8", "https://x.example/?t=4b9d04bb1df5dfb84b",
    "@lane.example", "ann@lane", "+49 170 1234567", "4111111111111111", ["ann@lane.example"],
    {"mail": "ann@lane.example"},
])
def test_no_address_or_token_stands_among_the_examples(con: duckdb.DuckDBPyConnection, value: Any) -> None:
    did(con, "Purchase", "ann", seen=value)
    [example] = lexicon.event_properties(con, "p")["examples"].iloc[0]
    assert "•••" in example
    assert not [secret for secret in ("lane", "447e", "dfb8", "1234567", "111111") if secret in example]


@pytest.mark.parametrize(("value", "example"), [
    ("Las Vegas", "Las Vegas"), (4213, "4213"), (True, "true"), ('say "hi"', 'say "hi"'), ("", ""), ([1, 2], "[1,2]"),
    ("2026-10-01T08:00:00", "2026-10-01T08:00:00"), ("x y " * 200, ("x y " * 200)[:59] + "…"),
])
def test_other_examples_are_shown_as_they_are(con: duckdb.DuckDBPyConnection, value: Any, example: str) -> None:
    did(con, "Purchase", "ann", seen=value)
    assert lexicon.event_properties(con, "p")["examples"].iloc[0] == [example]


def test_a_small_sample_is_drawn_from_a_week_of_days_or_more(con: duckdb.DuckDBPyConnection) -> None:
    for number in range(400):
        did(con, "Purchase", "ann", 1_790_000_000 + 86_400 * (number % 20), day=number % 20)
    seen = lexicon.event_properties(con, "p", sample=15)
    assert seen["sampled"].tolist() == [15]
    days = lexicon._drawn_days(con, "p", None, 5)
    assert len(days) == 7
    assert len(lexicon._drawn_days(con, "p", None, 15)) == 15
    assert len(lexicon._drawn_days(con, "p", None, 1000)) == 0


def test_properties_that_are_no_object_are_none(con: duckdb.DuckDBPyConnection) -> None:
    did(con, "Purchase", "ann")
    con.execute("update events set properties = '[1, 2]'")
    assert len(lexicon.event_properties(con, "p")) == 0


# a property by its name

@pytest.mark.parametrize("name", NAMES)
def test_any_property_is_asked_for_by_its_name(con: duckdb.DuckDBPyConnection, name: str) -> None:
    did(con, "Purchase", "ann", **{**dict.fromkeys(NAMES, "another"), name: "this"})
    literal = warehouse.quoted(name)
    assert con.execute(f"select prop({literal}), prop(e.properties, {literal}) from events e").fetchall() == [
        ("this", "this")]
    assert lexicon.events(con, PROJECT, "Purchase", [name])[name].tolist() == ["this"]


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(max_size=8), st.text(max_size=8), min_size=1, max_size=4))
def test_a_property_is_found_whatever_its_name_and_value(properties: dict[str, str]) -> None:
    with warehouse.engine() as con:
        con.execute(warehouse.sql("macros"))
        con.execute("create table rows as select ?::json as properties", [json.dumps(properties)])
        for name, value in properties.items():
            assert con.execute("select prop($name), prop(r.properties, $name) from rows r",
                               {"name": name}).fetchall() == [(value, value)]


def test_values_that_are_no_text_are_given_as_json(con: duckdb.DuckDBPyConnection) -> None:
    did(con, "Purchase", "ann", n=1.5, yes=True, none=None, list=[1, "a"])
    row = lexicon.events(con, PROJECT, "Purchase", ["n", "yes", "none", "list", "absent"]).iloc[0]
    assert row[["n", "yes", "list"]].tolist() == ["1.5", "true", '[1,"a"]']
    assert row[["none", "absent"]].isna().all()


def test_events_are_those_of_a_name_the_latest_first_with_their_user(con: duckdb.DuckDBPyConnection) -> None:
    con.execute("insert into generation.identities values ('p', '$device:1', 'ann')")
    did(con, "Purchase", "$device:1", 1_790_000_000, plan="a")
    did(con, "Purchase", "bo", 1_790_000_100, plan="b")
    did(con, "Login", "cy", 1_790_000_200)
    frame = lexicon.events(con, PROJECT, "Purchase", ["plan"])
    assert frame[["distinct_id", "canonical_id", "plan"]].to_numpy().tolist() == [
        ["bo", "bo", "b"], ["$device:1", "ann", "a"]]
    assert len(lexicon.events(con, PROJECT, "Purchase", limit=1)) == 1
    with pytest.raises(BadInput, match="no event"):
        lexicon.events(con, PROJECT, "purchase")


def test_the_last_days_are_counted_in_the_projects_zone(con: duckdb.DuckDBPyConnection) -> None:
    midnight = int(datetime(2026, 9, 24, 4, tzinfo=UTC).timestamp())
    for time_s in (midnight - 1, midnight, midnight + 60):
        did(con, "Purchase", "ann", time_s)
    con.execute("update generation.activity set day = date '2026-09-24'")
    assert [len(lexicon.events(con, PROJECT, "Purchase", days=days)) for days in (1, 2, None)] == [2, 3, 3]


def test_addresses_are_masked_unless_asked_for_whole(con: duckdb.DuckDBPyConnection) -> None:
    did(con, "Purchase", "ann@lane.example", email="ann@lane.example")
    assert "lane" not in lexicon.events(con, PROJECT, "Purchase", ["email"]).to_csv()
    assert lexicon.events(con, PROJECT, "Purchase", ["email"], whole=True)["email"].tolist() == ["ann@lane.example"]


def test_a_property_called_like_a_column_takes_its_place(con: duckdb.DuckDBPyConnection) -> None:
    did(con, "Purchase", "ann", event="fair", distinct_id="as sent")
    frame = lexicon.events(con, PROJECT, "Purchase", ["event", "distinct_id", "event"])
    assert list(frame.columns) == ["project_id", "occurred_at", "canonical_id", "event", "distinct_id"]
    assert frame.loc[0, ["event", "distinct_id"]].tolist() == ["fair", "as sent"]


# in a workspace

def test_prop_works_in_questions_and_connections(workspace: cs.Workspace) -> None:
    asked = workspace.sql("select prop('$city') as city, count(*) as events from events group by all order by all")
    with workspace.connect() as con:
        plain = con.execute("""select properties->>'$."$city"' as city, count(*) as events from events
                               group by all order by all""").df()
    assert asked.equals(plain)
    assert len(workspace.sql("select prop(p.properties, '$email') as email from profiles p")) > 10


def test_the_samples_events_and_properties_are_listed(workspace: cs.Workspace) -> None:
    seen = workspace.events_seen()
    assert seen["events"].sum() == workspace.sql("select count(*) as n from events")["n"].iloc[0]
    name = seen["event"].iloc[0]
    properties = workspace.properties(name, sample=None)
    assert properties["sampled"].iloc[0] == seen["events"].iloc[0]
    assert {"time", "distinct_id"} <= set(properties["property"])
    shown = workspace.properties(profiles=True).to_csv() + workspace.events(name, ["distinct_id"]).to_csv()
    addresses = workspace.sql("select address from profiles where contains(address, '@')")["address"]
    assert not [address for address in addresses if address in shown.lower()]
