"""The client of Mixpanel's APIs: what it asks, how it reads answers, what it does when something goes wrong."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import forked
import pytest
import requests
from conftest import ADMIN, PROJECT_ID, SAMPLE, interruptible
from contract import needs_contracts, request_errors

from cohortsync import client as asking
from cohortsync import mixpanel as api
from cohortsync.budget import OverBudget
from cohortsync.config import Settings
from cohortsync.errors import ApiFinal, ApiTransient, BadInput, ConfigurationError
from cohortsync.people import fetch_profiles

FAULTS = "429,429_retry_after,500,502,cut,expired_session"
WAITING = f"""
import sys
from pathlib import Path
from cohortsync import mixpanel
from cohortsync.client import open_client
from cohortsync.people import fetch_profiles
client = open_client(mixpanel.Account({ADMIN.username!r}, {ADMIN.secret!r}), {PROJECT_ID!r}, "us", sys.argv[1])
client.notice = lambda text: print(text, flush=True)
fetch_profiles(client, Path(sys.argv[2]))
"""


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Any]:
    """A local Mixpanel whose settings a test may change."""
    with forked.sandbox(tmp_path / "mixpanel", mixpanel_seed=SAMPLE / "mixpanel.json") as running:
        yield running


def settle(running: Any, **values: Any) -> None:
    requests.post(f"{running.mixpanel_url}/sandbox/settings", json=values, timeout=20).raise_for_status()


def client_of(running: Any, account: api.Account = ADMIN, **settings: Any) -> asking.Client:
    return asking.open_client(account, PROJECT_ID, "us", running.mixpanel_url, Settings(**settings))


def people(path: Path) -> list[dict[str, Any]]:
    return [row for line in path.read_text(encoding="utf-8").splitlines() for row in json.loads(line)["results"]]


# where a secret goes

def test_each_region_has_its_own_hosts() -> None:
    assert api.hosts("us") == api.Hosts("https://mixpanel.com/api/query", "https://data.mixpanel.com/api/2.0",
                                        "https://mixpanel.com/api/app")
    assert api.hosts("eu").export == "https://data-eu.mixpanel.com/api/2.0"
    assert api.hosts("in").query == "https://in.mixpanel.com/api/query"
    with pytest.raises(ConfigurationError, match="'mars' is no region"):
        api.hosts("mars")


@pytest.mark.parametrize("elsewhere", ["https://mixpanel.example", "http://127.0.0.1:80@mixpanel.example",
                                       "http://127.0.0.1.mixpanel.example", "http://127.0.0.1:8019/path"])
def test_a_rehearsal_is_on_this_machine_or_refused(elsewhere: str) -> None:
    with pytest.raises(ConfigurationError, match="local rehearsal"):
        api.hosts("us", elsewhere)


@pytest.mark.parametrize("project_id", ["", "12/../34", "1?x=2", "tally", "١٢"])
def test_only_a_number_is_a_project_in_an_address(project_id: str) -> None:
    with pytest.raises(BadInput, match="not the id of a Mixpanel project"):
        api.project_number(project_id)


def test_the_secret_shows_in_no_repr() -> None:
    assert ADMIN.secret not in repr(ADMIN)


# who the caller is

@pytest.mark.parametrize("role", ["admin", {"id": 2, "name": "Admin"}])
def test_the_role_is_read_in_both_shapes(role: Any) -> None:
    project = {"name": "Tally", "role": role, "domain": "eu.mixpanel.com", "timezone": "Europe/Berlin"}
    for answer in ({"projects": {"1": project}}, {"status": "ok", "results": {"projects": {"1": project}}}):
        assert api.parse_me(answer, "1") == api.ProjectSeen("Tally", "admin", "eu", "Europe/Berlin")
    assert api.parse_me({"projects": {}}, "1") is None


def test_an_owner_of_the_organisation_is_one_of_its_projects() -> None:
    answer = {"organizations": {"7": {"role": "owner"}}, "projects": {"1": {"organization_id": 7, "role": "analyst"}}}
    assert api.parse_me(answer, "1").role == "owner"  # type: ignore[union-attr]


def test_the_project_is_looked_up(mixpanel: Any) -> None:
    assert asking.fetch_project(client_of(mixpanel)) == api.ProjectSeen("Tally", "admin", "us", "America/New_York")


def test_where_me_may_not_be_asked_the_list_of_accounts_tells_the_role(mixpanel: Any) -> None:
    unseen = api.Account("unseen.0a1b2c.mp-service-account", ADMIN.secret)
    assert asking.fetch_project(client_of(mixpanel, unseen)) is None
    assert asking.fetch_own_role(client_of(mixpanel, unseen), unseen.username) == "admin"


def test_a_wrong_secret_is_one_clear_refusal_without_the_secret(mixpanel: Any) -> None:
    wrong = api.Account(ADMIN.username, "not-the-secret")
    with pytest.raises(ApiFinal, match="401.*Check the service account") as raised:
        asking.fetch_project(client_of(mixpanel, wrong))
    assert wrong.secret not in str(raised.value)


# cohorts and profiles

def test_cohorts_are_listed_with_the_size_announced(mixpanel: Any) -> None:
    found = {seen.name: seen for seen in asking.fetch_cohorts(client_of(mixpanel))}
    assert found["power-users"] == api.CohortSeen("4411001", "power-users", 600, True, True)
    assert len(found) == 3


def test_members_come_with_and_without_those_who_have_no_profile(mixpanel: Any, tmp_path: Path) -> None:
    client = client_of(mixpanel)
    assert fetch_profiles(client, tmp_path / "members.ndjson", "4411003", properties=[]) == 906
    assert len({row["$distinct_id"] for row in people(tmp_path / "members.ndjson")}) == 906
    assert asking.fetch_count(client, "4411003") == 808


def test_every_page_of_profiles_comes_once_for_one_query_of_the_hour(own: Any, tmp_path: Path) -> None:
    settle(own, page_size=100)
    client = client_of(own)
    total = fetch_profiles(client, tmp_path / "profiles.ndjson")
    assert total == len({row["$distinct_id"] for row in people(tmp_path / "profiles.ndjson")}) == 1672
    assert client.made == {"query": 1, "page": 16, "export": 0, "app": 0}
    assert client.budget.left("query") == 59


def test_profiles_come_whole_through_faults(own: Any, tmp_path: Path) -> None:
    fetch_profiles(client_of(own), tmp_path / "plain.ndjson")
    settle(own, page_size=200, faults=FAULTS, fault_rate=0.3, fault_seed=5, query_per_hour=1000)
    fetch_profiles(client_of(own, attempts=12, mixpanel_queries_per_hour=1000), tmp_path / "faulty.ndjson")
    assert people(tmp_path / "faulty.ndjson") == people(tmp_path / "plain.ndjson")


def test_a_query_that_is_always_forgotten_ends_in_one_clear_error(own: Any, tmp_path: Path) -> None:
    settle(own, page_size=200, faults="expired_session", fault_rate=1)
    with pytest.raises(ApiTransient, match="kept changing"):
        fetch_profiles(client_of(own), tmp_path / "profiles.ndjson")


# events

def lines(client: asking.Client, first: date, last: date) -> list[bytes]:
    with client.stream(api.build_export(PROJECT_ID, first, last)) as parts:
        return b"".join(parts).split(b"\n")[:-1]


def test_raw_events_stream_as_they_are(mixpanel: Any) -> None:
    got = lines(client_of(mixpanel), date(2026, 11, 10), date(2026, 11, 11))
    assert len(got) > 500
    assert {json.loads(line)["properties"]["time"] // 86400 for line in got} == {20767, 20768}


def test_a_day_without_events_is_empty(mixpanel: Any) -> None:
    assert lines(client_of(mixpanel), date(2026, 8, 1), date(2026, 8, 1)) == []


def test_an_export_that_breaks_off_is_never_taken_for_whole(own: Any) -> None:
    settle(own, faults="cut", fault_rate=1)
    with pytest.raises(api.Interrupted):
        lines(client_of(own), date(2026, 11, 1), date(2026, 11, 20))


def test_an_export_zipped_in_several_parts_is_read_to_its_end() -> None:
    whole = gzip.compress(b"one\n") + gzip.compress(b"two\n")
    assert b"".join(asking._inflated([whole])) == b"one\ntwo\n"
    assert b"".join(asking._inflated(whole[at:at + 1] for at in range(len(whole)))) == b"one\ntwo\n"
    with pytest.raises(api.Interrupted):
        list(asking._inflated([whole[:-1]]))


def test_days_that_have_not_begun_are_told_apart(mixpanel: Any) -> None:
    with pytest.raises(api.TooLate):
        lines(client_of(mixpanel), date(2026, 11, 20), date(2027, 1, 1))


def test_the_plans_history_is_told_apart(own: Any) -> None:
    settle(own, history_days=30)
    with pytest.raises(api.HistoryLimit) as raised:
        lines(client_of(own), date(2026, 9, 1), date(2026, 11, 1))
    assert raised.value.days == 30


def test_a_plan_without_the_api_is_one_clear_refusal(own: Any) -> None:
    settle(own, **{"402": 1})
    with pytest.raises(ApiFinal, match="no access to the API"):
        asking.fetch_cohorts(client_of(own))


# limits and time

def test_the_clients_clock_is_the_servers(mixpanel: Any) -> None:
    client = client_of(mixpanel)
    asking.fetch_cohorts(client)
    assert client.server_now().date() == date(2026, 11, 21)


def test_the_clock_that_one_client_saw_the_next_begins_with(mixpanel: Any) -> None:
    asking.fetch_cohorts(client_of(mixpanel))
    assert client_of(mixpanel).server_now().date() == date(2026, 11, 21)


def test_an_hour_used_up_by_others_is_waited_for_and_said(own: Any) -> None:
    settle(own, query_per_hour=1)
    said: list[str] = []
    client = client_of(own, mixpanel_wait_seconds=0.5)
    client.notice = said.append
    asking.fetch_cohorts(client)
    with pytest.raises(api.HourUsedUp, match="allows 1 an hour and refused number 2.*kept; go on in"):
        asking.fetch_cohorts(client)
    assert "others have used up the project's hour" in said[0]


def test_an_hour_used_up_by_others_is_gone_on_with_once_it_is_free(own: Any) -> None:
    settle(own, query_per_hour=1)
    client = client_of(own)
    asking.fetch_cohorts(client)
    client.notice = lambda _text: settle(own, query_per_hour=100)
    assert len(asking.fetch_cohorts(client)) == 3


def test_an_hour_used_up_here_is_one_clear_error_and_asks_nothing(mixpanel: Any) -> None:
    client = client_of(mixpanel, mixpanel_queries_per_hour=1, mixpanel_wait_seconds=0, attempts=6)
    asking.fetch_cohorts(client)
    with pytest.raises(OverBudget, match="allows 1 queries an hour and the next is free at"):
        asking.fetch_cohorts(client)
    assert client.made["query"] == 1


def test_whoever_waits_for_pages_can_be_interrupted(own: Any, tmp_path: Path) -> None:
    settle(own, page_size=200, count_pages=1, query_per_hour=1)
    with subprocess.Popen([sys.executable, "-c", WAITING, own.mixpanel_url, str(tmp_path / "profiles.ndjson")],
                          preexec_fn=interruptible, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          env={**os.environ, "COHORTSYNC_BACKOFF_MAX_SECONDS": "300"}) as waiting:
        assert waiting.stdout and "others have used up" in waiting.stdout.readline()
        waiting.send_signal(signal.SIGINT)
        assert "KeyboardInterrupt" in waiting.communicate(timeout=20)[1]


def test_too_many_at_once_is_not_an_hour_used_up() -> None:
    text = "Query rate limit exceeded for project_id: 1. 5/5 queries running concurrently and {}/60 queries running " \
           "in the last hour."
    assert isinstance(api.refusal(429, json.dumps({"error": text.format(60)})), api.RateLimited)
    assert isinstance(api.refusal(429, json.dumps({"error": text.format(61)})), api.HourUsedUp)


@pytest.mark.parametrize(("status", "said", "means"), [
    (401, "Invalid service account credentials", "username and secret .* one region alone.*connect mixpanel"),
    (403, "Service account does not have access to project 7", "access to project 7. Check the project's id"),
    (402, "Payment required", "no access to the API; ask its owner, or load files"),
    (429, "Please retry the request with exponential backoff.", "exponential backoff. Try again later"),
    (503, "", "answered 503 without a reason. Try again later")])
def test_a_refusal_says_what_mixpanel_said_and_what_to_do(status: int, said: str, means: str) -> None:
    assert re.search(means, str(api.refusal(status, json.dumps({"error": said}))))


def test_the_error_of_a_web_server_is_read_as_text() -> None:
    assert "Bad gateway" in str(api.refusal(502, "<html><h1>Bad gateway</h1></html>"))


def test_addresses_in_an_error_are_masked() -> None:
    assert "ada@tinpot.example" not in str(api.refusal(400, json.dumps({"error": "no ada@tinpot.example"})))


# what Mixpanel publishes of its APIs

def as_sent(request: api.Request) -> requests.PreparedRequest:
    """A request as it leaves for a real project."""
    address = getattr(api.hosts("us"), request.api) + request.path
    return requests.Request(request.method, address, params=request.params, data=request.form,
                            auth=(ADMIN.username, ADMIN.secret)).prepare()


@needs_contracts
@pytest.mark.parametrize(("contract", "built"), [
    ("export", api.build_export(PROJECT_ID, date(2026, 11, 1), date(2026, 11, 30))),
    ("query", api.build_cohorts(PROJECT_ID)),
    ("query", api.build_engage(PROJECT_ID)),
    ("query", api.build_engage(PROJECT_ID, cohort_id="4411001", properties=[])),
    ("query", api.build_engage(PROJECT_ID, 3, "1234567890-EXAMPL", "4411001", everyone=False)),
    ("service-accounts", api.build_service_accounts(PROJECT_ID))])
def test_a_request_fits_the_published_contract(contract: str, built: api.Request) -> None:
    assert request_errors(as_sent(built), f"{contract}.openapi.yaml") == []


@needs_contracts
def test_the_published_contract_would_find_what_is_missing() -> None:
    for contract, request in (("export", api.Request("export", "GET", "/export", {"project_id": PROJECT_ID})),
                              ("query", api.Request("query", "POST", "/engage", {}, {"page": "first"}))):
        assert request_errors(as_sent(request), f"{contract}.openapi.yaml")
