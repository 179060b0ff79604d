"""Merge fields: discovered, mapped, converted, made on request, and written for people who are there if wished."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import faulty
import pandas as pd
import pytest
from mailchimp_side import Side
from test_sync import fault_on

import cohortsync as cs
from cohortsync import fields, ledger
from cohortsync import mailchimp as mc
from cohortsync.emails import member_hash
from cohortsync.errors import BadInput
from cohortsync.fields import Field

ANN, BOB = "ann@harbor.example", "bob@harbor.example"


def filled(kind: str, *values: Any, choices: tuple[str, ...] = ()) -> list[Any]:
    texts = pd.Series([None if value is None else json.dumps(value) for value in values], dtype="object")
    found = fields.fill({"x": fields.parsed(texts)}, {"x": "TAG"}, [Field("TAG", kind, choices)], create=False)
    return [None if value is None or value != value else value for value in found.columns["field.TAG"]]


@pytest.mark.parametrize(("kind", "given", "taken"), [
    ("text", [" a ", 3, True, None, "", {"a": 1}], ["a", "3", "true", None, None, None]),
    ("number", [3, "4.5", "many", True, None], [3.0, 4.5, None, None, None]),
    ("date", ["2026-03-01", "2026-03-01T10:00:00", "yesterday", "2026-13-01"],
     ["2026-03-01", "2026-03-01", None, None]),
    ("birthday", ["1990-03-01", "03/01", "99/99"], ["03/01", "03/01", None]),
    ("url", ["https://a.example", "a.example"], ["https://a.example", None]),
    ("address", [{"addr1": "1", "city": "B", "state": "C", "zip": "1"}, {"city": "B"}],
     [{"addr1": "1", "city": "B", "state": "C", "zip": "1"}, None])])
def test_a_value_goes_into_a_field_as_its_type_takes_it_or_not_at_all(
        kind: str, given: list[Any], taken: list[Any]) -> None:
    assert filled(kind, *given) == taken


def test_a_choice_must_be_one_of_the_fields() -> None:
    assert filled("dropdown", "gold", "lead", choices=("gold", "silver")) == ["gold", None]


def test_what_does_not_fit_is_told() -> None:
    texts = pd.Series(['"many"', "3"])
    found = fields.fill({"x": fields.parsed(texts)}, {"x": "TAG"}, [Field("TAG", "number")], create=False)
    assert found.warnings == ("1 values of x do not fit the merge field TAG (number) and are left out.",)


@pytest.mark.parametrize(("values", "kind"), [([1, 2.5], "number"), (["2026-01-01"], "date"), ([1, "a"], "text"),
                                              ([None], "text")])
def test_a_field_that_is_made_takes_the_type_of_its_values(values: list[Any], kind: str) -> None:
    parsed = fields.parsed(pd.Series([json.dumps(value) for value in values]))
    assert fields.fill({"x": parsed}, {"x": "NEW"}, [], create=True).new == (Field("NEW", kind),)


def test_a_field_that_the_audience_lacks_is_said_with_those_it_has() -> None:
    with pytest.raises(BadInput, match=r"no merge field NEW. It has FNAME.*--create-fields"):
        fields.fill({"$first_name": pd.Series(["Ann"], dtype="str"), "x": pd.Series([None])}, {"x": "NEW"},
                    [Field("FNAME", "text")], create=False)


@pytest.mark.parametrize("word", ["city", "=CITY", "city=", "city=ci ty", "city=ELEVENCHARS"])
def test_a_map_is_a_property_and_a_tag(word: str) -> None:
    with pytest.raises(BadInput, match="PROPERTY=TAG"):
        fields.parse_map([word])
    assert fields.parse_map(["$city=CITY", "a=b=C"]) == {"$city": "CITY", "a=b": "C"}
    with pytest.raises(BadInput, match="names CITY twice"):
        fields.parse_map(["$city=CITY", "town=CITY"])


@pytest.mark.parametrize(("name", "tag"), [("$city", "CITY"), ("$country_code", "COUNTRY_CO"), ("Größe!", "GRSSE"),
                                           ("日本", "FIELD")])
def test_a_property_suggests_a_tag_that_mailchimp_takes(name: str, tag: str) -> None:
    assert fields.suggested_tag(name) == tag
    assert fields.parse_map([f"{name}={tag}"])


def load_two(workspace: cs.Workspace, tmp_path: Path, city: str = "Berlin") -> None:
    people = [{"$distinct_id": "a", "$properties": {"$email": ANN, "$first_name": "Ann", "$city": city, "visits": 3,
                                                    "agreed": True}},
              {"$distinct_id": "b", "$properties": {"$email": BOB, "$first_name": "Bob", "$city": "Rome", "visits": 4,
                                                    "agreed": False}}]
    (tmp_path / "p.ndjson").write_text("\n".join(map(json.dumps, people)))
    (tmp_path / "c.txt").write_text("a\nb\n")
    workspace.load(profiles=[tmp_path / "p.ndjson"], cohorts={"two": tmp_path / "c.txt"})


@pytest.fixture
def side(connected: cs.Workspace) -> Side:
    return Side(f"http://{connected.connection['host']}")


def merge_fields(side: Side) -> dict[str, dict[str, Any]]:
    members = mc.fetch_members(side.client, side.audience_id, merge_fields=True).set_index("member_hash")
    return {address: members["merge_fields"][member_hash(address)] for address in (ANN, BOB)}


def test_new_people_come_with_their_fields_and_the_field_is_made_that_was_missing(
        connected: cs.Workspace, side: Side, tmp_path: Path) -> None:
    load_two(connected, tmp_path)
    terms: dict[str, Any] = {"fields": {"$city": "CITY", "visits": "VISITS"}, "create_fields": True}
    plan = connected.plan("two", side.audience_id, **terms)
    assert (dict(plan.new_fields), plan.requests["field_writes"]) == ({"CITY": "text", "VISITS": "number"}, 2)
    receipt = connected.apply(plan)
    assert (receipt["added"], receipt["field_writes"], receipt["writes"]) == (2, 2, plan.writes)
    assert merge_fields(side)[ANN] == {"FNAME": "Ann", "LNAME": "", "CITY": "Berlin", "VISITS": 3}
    assert "Berlin" not in connected.outcome(receipt["run_id"]).to_csv()


def test_a_field_that_was_made_though_the_answer_was_an_error_is_taken_as_made(
        proxied: tuple[cs.Workspace, faulty.Proxy, Side], tmp_path: Path) -> None:
    workspace, proxy, side = proxied
    load_two(workspace, tmp_path)
    fault_on(proxy, "POST", "/merge-fields", "done_500")
    receipt = workspace.sync("two", side.audience_id, fields={"$city": "CITY"}, create_fields=True)
    assert (receipt["status"], receipt["field_writes"]) == ("completed", 1)
    assert {address: found["CITY"] for address, found in merge_fields(side).items()} == {ANN: "Berlin", BOB: "Rome"}


def test_people_who_are_there_keep_their_fields_unless_it_is_asked_for(
        connected: cs.Workspace, side: Side, tmp_path: Path) -> None:
    load_two(connected, tmp_path)
    terms: dict[str, Any] = {"fields": {"$city": "CITY"}, "create_fields": True}
    connected.sync("two", side.audience_id, **terms)
    load_two(connected, tmp_path, city="Hamburg")
    assert connected.sync("two", side.audience_id, **terms)["field_writes"] == 0
    assert merge_fields(side)[ANN]["CITY"] == "Berlin"
    plan = connected.plan("two", side.audience_id, update_fields=True, **terms)
    assert (plan.changes, plan.patches, plan.requests["field_writes"]) == (0, 1, 1)
    receipt = connected.apply(plan)
    assert (receipt["kept"], receipt["field_writes"], receipt["writes"], receipt["status"]) == (2, 1, 0, "completed")
    assert {address: found["CITY"] for address, found in merge_fields(side).items()} == {ANN: "Hamburg", BOB: "Rome"}
    assert connected.plan("two", side.audience_id, update_fields=True, **terms).patches == 0


def test_who_does_not_consent_is_refused_and_comes_off_the_segment(
        connected: cs.Workspace, side: Side, tmp_path: Path) -> None:
    load_two(connected, tmp_path)
    connected.sync("two", side.audience_id)
    plan = connected.plan("two", side.audience_id, consent_property="agreed")
    lines = plan.people.set_index("address")
    assert (lines["word"][ANN], lines["word"][BOB], lines["reason"][BOB]) == ("keep", "remove", "no_consent")
    receipt = connected.sync("two", side.audience_id, consent_property="agreed")
    assert (receipt["kept"], receipt["refused"], receipt["removed"], receipt["accounted"]) == (1, 1, 0, 2)
    assert side.on_segment("mixpanel_two") == {member_hash(ANN)}
    again = connected.sync("two", side.audience_id, consent_property="agreed")
    assert (again["refusals"], again["writes"]) == ({"no_consent": 1}, 0)


def test_no_property_that_is_missing_is_a_consent() -> None:
    texts = pd.Series(["true", '"true"', '"Yes"', "1", "false", "0", None, '"no"', '"maybe"'])
    assert fields.consents(texts).tolist() == [True] * 4 + [False] * 5


@pytest.mark.filterwarnings("error")
def test_where_nobody_has_the_property_nobody_consents() -> None:
    assert fields.consents(pd.Series([float("nan")] * 2)).tolist() == [False, False]


def test_who_was_forgotten_here_is_refused_and_comes_off_the_segment(
        connected: cs.Workspace, side: Side, tmp_path: Path) -> None:
    load_two(connected, tmp_path)
    connected.sync("two", side.audience_id)
    ledger.record_forgotten(connected.home, [member_hash(ANN), "some other id"])
    receipt = connected.sync("two", side.audience_id)
    assert (receipt["kept"], receipt["refused"], receipt["refusals"]) == (1, 1, {"forgotten_here": 1})
    assert side.on_segment("mixpanel_two") == {member_hash(BOB)}
    ledger.record_forgotten(connected.home, ["local|b"])
    assert connected.sync("two", side.audience_id, force=True)["refusals"] == {"forgotten_here": 2}
    (tmp_path / "c.txt").write_text("b\n")
    connected.load(cohorts={"two": tmp_path / "c.txt"})
    side.move("mixpanel_two", [ANN], [])
    gone = connected.sync("two", side.audience_id, force=True)
    assert (gone["removed"], gone["refused"], gone["accounted"], gone["status"]) == (1, 1, 1, "completed")
    stored = (connected.home / "state.sqlite").read_bytes()
    assert member_hash(ANN).encode() not in stored
