"""Clients that others wrote, unchanged, against the local Mixpanel: what each brings is what the sample holds."""

from __future__ import annotations

import base64
import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import forked
import mixpanel as official
import pytest
import requests
from conftest import ADMIN, PROJECT_ID, SAMPLE
from mixpanel_utils import MixpanelUtils  # type: ignore[import-untyped]

from cohortsync.sandbox import Sandbox
from cohortsync.sandbox.mixpanel.accounts import TOKEN

NOON = 1795176000  # 20 November 2026, 12:00 UTC
DAY = "2026-11-20"


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A local Mixpanel that these tests may ask more often in a second than Mixpanel allows."""
    with forked.sandbox(tmp_path_factory.mktemp("clients"), mixpanel_seed=SAMPLE / "mixpanel.json") as running:
        requests.post(f"{running.mixpanel_url}/sandbox/settings", {"export_per_second": 100}, timeout=30)
        yield running


def events_of_the_day() -> list[str]:
    """The names of the sample's events of that UTC day, as they stand in its file, in order."""
    with gzip.open(SAMPLE / "events-2026-11.ndjson.gz", "rt", encoding="utf-8") as file:
        records = [json.loads(line) for line in file if line.endswith("}\n")]
    return sorted(each["event"] for each in records if each["properties"].get("time", 0) // 86400 == NOON // 86400)


def ask(local: Sandbox, path: str, **query: Any) -> requests.Response:
    answer = requests.get(f"{local.mixpanel_url}{path}", {"project_id": PROJECT_ID, **query},
                          auth=(ADMIN.username, ADMIN.secret), timeout=30)
    assert answer.ok, answer.text
    return answer


def exported(local: Sandbox, name: str) -> list[dict[str, Any]]:
    answer = ask(local, "/api/2.0/export", from_date=DAY, to_date=DAY, event=json.dumps([name]))
    return [json.loads(line)["properties"] for line in answer.text.splitlines()]


def profile(local: Sandbox, who: str) -> dict[str, Any]:
    return dict(ask(local, "/api/query/engage", distinct_id=who).json()["results"][0]["$properties"])


def ids(rows: list[dict[str, Any]], key: str) -> list[str]:
    return sorted(str(row[key]) for row in rows)


# mixpanel-headless

HEADLESS = """
import json, sys
import mixpanel_headless as mp

workspace = mp.Workspace(project=sys.argv[1])
members = [row["distinct_id"] for row in workspace.stream_profiles(cohort_id="4411003", include_all_users=True)]
found = workspace.query_user(mode="profiles", limit=2000, properties=["$email"])
me = workspace.me()
print(json.dumps({
    "cohorts": {cohort.name: [cohort.id, cohort.count] for cohort in workspace.cohorts()},
    "events": [row["event_name"] for row in workspace.stream_events(from_date=sys.argv[2], to_date=sys.argv[2])],
    "profiles": [row["distinct_id"] for row in workspace.stream_profiles()],
    "members": members,
    "found": found.total,
    "me": me.model_dump(mode="json")["projects"]["2195193"],
}))
"""


def test_mixpanel_headless_reads_cohorts_profiles_members_events_and_who_it_is(local: Sandbox, tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path), "MP_API_BASE_URL": str(local.mixpanel_url), "MP_REGION": "us",
                   "MP_USERNAME": ADMIN.username, "MP_SECRET": ADMIN.secret, "MP_PROJECT_ID": PROJECT_ID}
    ended = subprocess.run([sys.executable, "-c", HEADLESS, PROJECT_ID, DAY], env=environment, capture_output=True,
                           text=True, timeout=240)
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert told["cohorts"] == {"power-users": [4411001, 600], "trial-ending": [4411002, 200],
                               "newsletter-readers": [4411003, 906]}
    assert sorted(told["events"]) == events_of_the_day()
    assert len(told["profiles"]) == len(set(told["profiles"])) == told["found"] == 1672
    assert len(set(told["members"])) == 906
    assert (told["me"]["timezone"], told["me"]["role"]["name"]) == ("America/New_York", "admin")


# mixpanel-utils

@pytest.fixture
def utils(local: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)  # it keeps what it changes in files where it stands
    client = MixpanelUtils(ADMIN.secret, token=TOKEN, service_account_username=ADMIN.username, project_id=PROJECT_ID)
    client.raw_api = client.formatted_api = f"{local.mixpanel_url}/api"
    client.import_api = local.mixpanel_url
    return client


def test_mixpanel_utils_exports_the_events_of_a_day(utils: Any) -> None:
    got = utils.query_export({"from_date": DAY, "to_date": DAY})
    assert ids(got, "event") == events_of_the_day()


def test_mixpanel_utils_reads_every_page_of_profiles(utils: Any) -> None:
    got = utils.query_engage()
    assert len({row["$distinct_id"] for row in got}) == len(got) == 1672


def test_mixpanel_utils_imports_events_which_are_exported_again(utils: Any, local: Sandbox) -> None:
    utils.import_events([{"event": "From utils", "properties": {
        "time": NOON, "distinct_id": f"utils-{number}", "$insert_id": f"utils-{number}"}} for number in range(3)], 0)
    got = exported(local, "From utils")
    assert ids(got, "distinct_id") == ["utils-0", "utils-1", "utils-2"]
    assert all(row["time"] == NOON and row["$import"] for row in got)


def test_mixpanel_utils_changes_profiles(utils: Any, local: Sandbox) -> None:
    utils.import_people([{"$distinct_id": "utils-p", "$properties": {"$email": "p@utils.example", "plan": "solo"}}])
    utils.people_set({"plan": "team"}, profiles=[{"$distinct_id": "utils-p", "$properties": {}}])
    assert (profile(local, "utils-p")["$email"], profile(local, "utils-p")["plan"]) == ("p@utils.example", "team")


# Mixpanel's own library

@pytest.fixture
def library(local: Sandbox) -> Any:
    url = local.mixpanel_url
    return official.Mixpanel(TOKEN, consumer=official.Consumer(
        events_url=f"{url}/track", people_url=f"{url}/engage", import_url=f"{url}/import"))


def test_mixpanels_own_library_tracks_and_imports(library: Any, local: Sandbox) -> None:
    library.import_data("", "sdk-1", "From the library", NOON, {"plan": "solo", "$insert_id": "sdk-1"})
    (got,) = exported(local, "From the library")
    assert (got["distinct_id"], got["plan"], got["time"], got["$import"]) == ("sdk-1", "solo", NOON, True)
    library.track("sdk-2", "Tracked", {"plan": "team"})
    today = ask(local, "/api/2.0/export", from_date="2026-11-21", to_date="2026-11-21", event='["Tracked"]').text
    assert json.loads(today)["properties"]["distinct_id"] == "sdk-2"


def test_mixpanels_own_library_imports_as_a_service_account(local: Sandbox) -> None:
    url = local.mixpanel_url
    account = official.ServiceAccountCredentials(ADMIN.username, ADMIN.secret, PROJECT_ID)
    library = official.Mixpanel(TOKEN, consumer=official.Consumer(import_url=f"{url}/import", credentials=account))
    library.import_data("", "sdk-3", "From an account", NOON, {"$insert_id": "sdk-3"})
    assert ids(exported(local, "From an account"), "distinct_id") == ["sdk-3"]


def test_mixpanels_own_library_changes_profiles(library: Any, local: Sandbox) -> None:
    who = "sdk-p"
    library.people_set(who, {"$email": "p@library.example", "visits": 1, "tags": ["a"]})
    library.people_set_once(who, {"$email": "not@this.example", "first": True})
    library.people_increment(who, {"visits": 2})
    library.people_append(who, {"tags": "b"})
    library.people_union(who, {"tags": ["b", "c"]})
    library.people_remove(who, {"tags": "a"})
    library.people_unset(who, ["first"])
    got = profile(local, who)
    assert {name: got.get(name) for name in ("$email", "visits", "tags", "first")} == {
        "$email": "p@library.example", "visits": 3, "tags": ["b", "c"], "first": None}
    library.people_delete(who)
    assert ask(local, "/api/query/engage", distinct_id=who).json()["results"] == []


@pytest.fixture
def settled(local: Sandbox) -> Iterator[Callable[..., None]]:
    """Change what goes wrong at the local Mixpanel; right again after the test."""
    def settle(**values: Any) -> None:
        requests.post(f"{local.mixpanel_url}/sandbox/settings", json=values, timeout=30).raise_for_status()

    yield settle
    settle(fault_rate=0, import_bytes=10_000_000)


@pytest.mark.parametrize(("fault", "error"), [("429", "Project exceeded rate limits"), ("429_retry_after", "exceeded"),
                                              ("500", "Internal server error")])
def test_mixpanels_own_library_says_that_it_was_refused(library: Any, settled: Callable[..., None], fault: str,
                                                        error: str) -> None:
    settled(faults=fault, fault_rate=1)
    with pytest.raises(official.MixpanelException, match=error):
        library.import_data("", "sdk-4", "Refused", NOON, {"$insert_id": "sdk-4"})
    with pytest.raises(official.MixpanelException, match=error):
        library.people_set("sdk-4", {"plan": "solo"})


def test_mixpanels_own_library_tries_again_until_its_events_are_in(local: Sandbox, library: Any,
                                                                   settled: Callable[..., None]) -> None:
    session = library._consumer._session
    session.mount("http://", session.get_adapter("https://"))  # it tries again by https alone
    settled(faults="500,502", fault_rate=0.5, fault_seed=8, fault_count=0)
    for number in range(6):
        library.import_data("", f"again-{number}", "Again", NOON, {"$insert_id": f"again-{number}"})
    settled(fault_rate=0)
    assert ids(exported(local, "Again"), "$insert_id") == [f"again-{number}" for number in range(6)]


def test_an_event_whose_answer_got_lost_is_there_and_sent_again_is_a_duplicate(local: Sandbox, library: Any,
                                                                               settled: Callable[..., None]) -> None:
    settled(faults="cut", fault_rate=1)
    with pytest.raises(official.MixpanelException, match="ended prematurely|IncompleteRead"):
        library.import_data("", "lost-1", "Lost", NOON, {"$insert_id": "lost-1"})
    settled(fault_rate=0)
    library.import_data("", "lost-1", "Lost", NOON, {"$insert_id": "lost-1"})
    assert ids(exported(local, "Lost"), "$insert_id") == ["lost-1", "lost-1"]


def test_a_body_that_is_too_large_is_refused_by_every_way_in(library: Any, settled: Callable[..., None]) -> None:
    settled(import_bytes=2000)
    for send in (lambda: library.import_data("", "sdk-5", "Large", NOON, {"$insert_id": "sdk-5", "note": "x" * 2000}),
                 lambda: library.people_set("sdk-5", {"note": "x" * 2000})):
        with pytest.raises(official.MixpanelException, match="request exceeds max limit of 2000 bytes"):
            send()


def test_data_in_base64_is_taken_as_older_libraries_send_it(local: Sandbox) -> None:
    update = [{"$token": TOKEN, "$distinct_id": "old-p", "$set": {"plan": "solo"}}]
    data = base64.b64encode(json.dumps(update).encode()).decode()
    answer = requests.post(f"{local.mixpanel_url}/engage", {"data": data, "verbose": 1}, timeout=30)
    assert answer.json() == {"status": 1, "error": None}
    assert profile(local, "old-p")["plan"] == "solo"
