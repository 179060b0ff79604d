"""The local Mixpanel, and what cohortsync asks of it, against Mixpanel's published contracts.

Where those say nothing (`/api/app/me`, refusals of the query and export APIs) the recorded shapes count.
"""

from __future__ import annotations

import gzip
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import forked
import pytest
import requests
from conftest import ADMIN, PROJECT_ID, SAMPLE
from contract import check_exchange, needs_contracts, request_errors, response_errors

from cohortsync import client as asking
from cohortsync import mixpanel as api
from cohortsync.config import Settings
from cohortsync.people import fetch_profiles
from cohortsync.sandbox import Sandbox, start
from cohortsync.sandbox.mixpanel.accounts import TOKEN

QUERY, EXPORT = "query.openapi.yaml", "export.openapi.yaml"
INGESTION, APP = "ingestion.openapi.yaml", "service-accounts.openapi.yaml"
NOON = 1795176000  # 20 November 2026, 12:00 UTC
ANALYST = "analyst.0a1b2c.mp-service-account"


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with forked.sandbox(tmp_path_factory.mktemp("contracts"), mixpanel_seed=SAMPLE / "mixpanel.json") as running:
        settle(running, export_per_second=100, query_per_hour=1000)
        yield running


def settle(local: Sandbox, **settings: Any) -> None:
    requests.post(f"{local.mixpanel_url}/sandbox/settings", json=settings, timeout=30).raise_for_status()


def call(local: Sandbox, method: str, path: str, expect: int = 200, who: str = ADMIN.username, contract: str = "",
         **more: Any) -> Any:
    """The JSON of an answer; checked against a contract, with its request where the answer is yes."""
    request = requests.Request(method, f"{local.mixpanel_url}{path}", auth=(who, ADMIN.secret), **more).prepare()
    with requests.Session() as session:
        answer = session.send(request, timeout=30)
    assert answer.status_code == expect, answer.text
    if contract:
        assert response_errors(request, answer, contract) == []
        assert expect != 200 or request_errors(request, contract) == []
    return answer.json()


def event(number: int, **properties: Any) -> dict[str, Any]:
    told = {"time": NOON, "distinct_id": f"user-{number}", "$insert_id": f"id-{number}"} | properties
    return {"event": "Imported", "properties": told}


# what cohortsync asks

@needs_contracts
def test_cohorts_and_profiles_are_asked_for_and_answered_by_the_contract(local: Sandbox, tmp_path: Path) -> None:
    client, kept = watched(local)
    settle(local, page_size=400)
    asking.fetch_cohorts(client)
    fetch_profiles(client, tmp_path / "profiles.ndjson")
    fetch_profiles(client, tmp_path / "members.ndjson", "4411003", properties=[])
    asking.fetch_count(client, "4411003")
    settle(local, page_size=1000)
    assert len(kept) >= 10
    for answer in kept:
        check_exchange(answer.request, answer, QUERY)


@needs_contracts
def test_raw_events_are_asked_for_and_answered_by_the_contract(local: Sandbox) -> None:
    client, kept = watched(local, read=False)
    with client.stream(api.build_export(PROJECT_ID, date(2026, 11, 19), date(2026, 11, 20))) as parts:
        events = b"".join(parts)
    assert request_errors(kept[0].request, EXPORT) == []
    again = requests.get(kept[0].url, auth=(ADMIN.username, ADMIN.secret), timeout=30,
                         headers={"Accept-Encoding": "gzip"})
    assert again.content == events and again.headers["Content-Encoding"] == "gzip"
    check_exchange(again.request, again, EXPORT)


@needs_contracts
def test_the_role_is_asked_for_and_answered_by_the_contract(local: Sandbox) -> None:
    client, kept = watched(local)
    assert asking.fetch_own_role(client, ADMIN.username) == "admin"
    check_exchange(kept[0].request, kept[0], APP)


def watched(local: Sandbox, read: bool = True) -> tuple[asking.Client, list[requests.Response]]:
    """A client, and a list that each answer it gets is put into; ``read`` while that is still whole."""
    client, kept = asking.open_client(ADMIN, PROJECT_ID, "us", local.mixpanel_url, Settings()), []

    def keep(answer: requests.Response, **_: Any) -> None:
        assert not read or answer.content
        kept.append(answer)

    client.http.hooks["response"].append(keep)
    return client, kept


# what others may ask

@needs_contracts
def test_who_may_not_list_accounts_is_told_so_by_the_contract(local: Sandbox) -> None:
    path = f"/api/app/projects/{PROJECT_ID}/service-accounts"
    refusals = [call(local, "GET", path, 403, who=ANALYST, contract=APP), call(local, "GET", path, 401, who="nobody",
                                                                              contract=APP)]
    assert {refusal["status"] for refusal in refusals} == {"error"}


@needs_contracts
def test_events_are_imported_by_the_contract(local: Sandbox) -> None:
    def post(*events: dict[str, Any], expect: int = 200, who: str = ADMIN.username) -> Any:
        return call(local, "POST", "/import", expect, who, contract=INGESTION, json=list(events),
                    params={"strict": "1", "project_id": PROJECT_ID})

    assert post(event(1), event(2)) == {"code": 200, "num_records_imported": 2, "status": "OK"}
    settle(local, insert_id_key="insert_id")
    refused = post(event(3), event(4, time="yesterday"), expect=400)
    settle(local, insert_id_key="$insert_id")
    assert refused["num_records_imported"] == 1
    assert refused["failed_records"] == [{"index": 1, "insert_id": "id-4", "field": "properties.time", "message": (
        "'properties.time' is invalid: must be specified as seconds since epoch")}]
    assert post(event(5), expect=401, who="nobody")["status"] == "Unauthorized"
    assert post(*(event(n) for n in range(2001)), expect=413)["code"] == 413


@needs_contracts
def test_profiles_are_set_by_the_contract(local: Sandbox) -> None:
    update = {"$token": TOKEN, "$distinct_id": "contract-p", "$set": {"plan": "solo"}}
    assert call(local, "POST", "/engage", contract=INGESTION, json=[update]) == 1
    nobody = {name: update[name] for name in ("$token", "$set")}
    assert call(local, "POST", "/engage", json=[nobody]) == 0


@needs_contracts
def test_mixpanels_contracts_are_asked_in_earnest(local: Sandbox) -> None:
    without = requests.Request("POST", f"{local.mixpanel_url}/api/query/cohorts/list", auth=("a", "b")).prepare()
    assert request_errors(without, QUERY)
    answer = requests.get(f"{local.mixpanel_url}/api/query/cohorts/list", {"project_id": PROJECT_ID}, timeout=30,
                          auth=(ADMIN.username, ADMIN.secret))
    answer._content = b'[{"id": "seven"}]'
    asked = requests.Request("POST", answer.url, auth=("a", "b")).prepare()
    assert response_errors(asked, answer, QUERY)


# what only records tell

@pytest.mark.parametrize(("shape", "role"), [("object", {"id": 2, "name": "admin"}), ("string", "admin")])
def test_me_has_the_recorded_fields_in_both_shapes(local: Sandbox, shape: str, role: Any) -> None:
    settle(local, role_shape=shape)
    told = call(local, "GET", "/api/app/me")
    assert told["status"] == "ok"
    assert {"user_id", "user_email", "user_name", "organizations", "projects", "workspaces"} <= set(told["results"])
    project = told["results"]["projects"][PROJECT_ID]
    assert {"name", "domain", "organization_id", "timezone", "type", "has_workspaces", "permissions"} <= set(project)
    assert (project["role"], project["domain"]) == (role, "mixpanel.com")


def test_who_wants_to_know_is_told_why_an_update_failed(local: Sandbox) -> None:
    update = {"$token": TOKEN, "$distinct_id": "contract-p", "$set": {"plan": "solo"}}
    for how in ("verbose", "strict"):
        assert call(local, "POST", "/engage", params={how: 1}, json=[update]) == {"status": 1, "error": None}
        failed = call(local, "POST", "/engage", params={how: 1}, json=[{"$set": {}}])
        assert failed["status"] == 0 and "$distinct_id" in failed["error"]


def test_the_three_shapes_of_a_refused_import(local: Sandbox) -> None:
    def failed(*events: dict[str, Any]) -> Any:
        return call(local, "POST", "/import", 400, params={"strict": 1, "project_id": PROJECT_ID},
                    json=list(events))["failed_records"]

    assert list(failed(event(6, distinct_id="undefined"))[0]) == ["index", "$insert_id", "field", "message"]
    settle(local, insert_id_key="insert_id")
    assert list(failed(event(6, distinct_id="undefined"))[0]) == ["index", "insert_id", "field", "message"]
    settle(local, insert_id_key="$insert_id")
    verb = {**event(7), "event": "$identify"}
    assert failed(verb) == ["identity events are not allowed when project is using simplified identity management"]


def test_valid_events_of_a_refused_import_are_taken_in_as_ndjson_and_gzip_too(local: Sandbox) -> None:
    lines = "\n".join(json.dumps(each) for each in (event(8), {"event": "", "properties": {}}, event(9)))
    refused = call(local, "POST", "/import", 400, params={"strict": 1, "project_id": PROJECT_ID},
                   data=gzip.compress(lines.encode()),
                   headers={"Content-Type": "application/x-ndjson", "Content-Encoding": "gzip"})
    assert refused["num_records_imported"] == 2
    got = requests.get(f"{local.mixpanel_url}/api/2.0/export", {
        "project_id": PROJECT_ID, "from_date": "2026-11-20", "to_date": "2026-11-20", "event": '["Imported"]'},
        auth=(ADMIN.username, ADMIN.secret), timeout=30).text
    assert {"user-8", "user-9"} <= {json.loads(line)["properties"]["distinct_id"] for line in got.splitlines()}


def test_profiles_answer_get_and_post_form_and_json_alike(local: Sandbox) -> None:
    asked = {"filter_by_cohort": '{"id": 4411002}', "include_all_users": "false", "output_properties": '["$email"]'}
    url, auth = f"{local.mixpanel_url}/api/query/engage", (ADMIN.username, ADMIN.secret)
    whose = {"project_id": PROJECT_ID}
    answers = [requests.get(url, whose | asked, auth=auth, timeout=30).json(),
               requests.post(url, data=asked, params=whose, auth=auth, timeout=30).json(),
               requests.post(url, json={"filter_by_cohort": {"id": "4411002"}, "include_all_users": False,
                                        "output_properties": ["$email"]}, params=whose, auth=auth, timeout=30).json(),
               requests.get(url.replace("query", "2.0"), whose | asked, auth=auth, timeout=30).json()]
    assert [answer["total"] for answer in answers] == [166] * 4
    assert all(answer["results"] == answers[0]["results"] for answer in answers)
    assert set(answers[0]["results"][0]["$properties"]) <= {"$email"}


def test_one_request_too_many_is_refused_in_mixpanels_words(tmp_path: Path) -> None:
    with start(tmp_path, mixpanel_seed=SAMPLE / "mixpanel.json") as local:
        settle(local, query_per_hour=2)
        path = f"/api/query/cohorts/list?project_id={PROJECT_ID}"
        for expect in (200, 200, 429):
            told = call(local, "GET", path, expect)
        assert told["request"] == path
        assert told["error"].startswith(f"Query rate limit exceeded for project_id: {PROJECT_ID}. 1/5 queries running "
                                        "concurrently and 3/2 queries running in the last hour.")
        with closing(sqlite3.connect(tmp_path / "mixpanel.sqlite")) as db:
            assert db.execute("select count(*) from requests").fetchone() == (2,)


@pytest.mark.parametrize(("path", "who", "status"), [
    ("/api/query/engage?project_id=2195193", "nobody", 401), ("/api/query/engage", ADMIN.username, 400),
    ("/api/query/engage?project_id=1", ADMIN.username, 403), ("/api/query/nothing?project_id=1", ADMIN.username, 404)])
def test_queries_are_refused_in_the_recorded_shape(local: Sandbox, path: str, who: str, status: int) -> None:
    assert set(call(local, "GET", path, status, who=who)) == {"request", "error"}
