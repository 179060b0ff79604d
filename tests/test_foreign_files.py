"""The main job on files that others made: records seen in the wild, published examples, Mixpanel's own tool."""

from __future__ import annotations

import gzip
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import reckoning
import yaml
from contract import needs_contracts
from mixpanel_utils import MixpanelUtils

import cohortsync as cs
from cohortsync.errors import BadInput

SIMPLIFIED = {"event": "durtle", "properties": {
    "time": 1785110733, "distinct_id": "b22d6231-4c1a-4f0e-9d5e-3f1f0a6f7c11", "$device_id": "WTdt8fs6Qp",
    "$import": True, "$insert_id": "a8d3831f-ba0e-447e-bdaf-81bc8e9f78be", "$mp_api_endpoint": "api.mixpanel.com",
    "$mp_api_timestamp_ms": 1785196817966, "$mp_event_size": 403,
    "$user_id": "b22d6231-4c1a-4f0e-9d5e-3f1f0a6f7c11", "mp_processing_time_ms": 1785196818451}}
ORIGINAL = {"event": "Device offline", "properties": {
    "time": 1609348133, "distinct_id": "225CC746-85BE-40CF-A9CC-46A94E0D6AF2",
    "$device_id": "48B5E9E3-2F5C-4A43-8B62-0C6B7D1D3A55", "$distinct_id_before_identity": "324172",
    "$insert_id": "4b9d04bb1df5dfb8", "$user_id": "324172", "$os": "iOS", "$city": "Las Vegas",
    "mp_country_code": "US", "mp_lib": "swift", "mp_processing_time_ms": 1609376952680}}
NOON = 1_700_000_000


def project(home: Path, id_merge: str = "simplified", timezone: str = "UTC") -> cs.Workspace:
    workspace = cs.open(home)
    workspace.init(timezone, id_merge)
    return workspace


def ndjson(path: Path, *rows: Any) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def reasons(workspace: cs.Workspace) -> dict[str, int]:
    return {reason: n for reason, n in workspace.audience_summary("all")["reasons"].items() if n}


# records seen in the wild


def test_a_real_simplified_record_links_its_device_to_its_user(tmp_path: Path) -> None:
    user = SIMPLIFIED["properties"]["distinct_id"]
    anonymous = {"event": "Visited", "properties": {"time": 1785110000, "distinct_id": "$device:WTdt8fs6Qp",
                                                    "$device_id": "WTdt8fs6Qp", "$insert_id": "5f0c"}}
    workspace = project(tmp_path / "home", timezone="America/New_York")
    workspace.load(
        events=[ndjson(tmp_path / "e", SIMPLIFIED, anonymous)],
        profiles=[ndjson(tmp_path / "p", {"$distinct_id": user, "$properties": {"$email": "durtle@lane.example"}})],
        cohorts={"all": ndjson(tmp_path / "c", [user, "$device:WTdt8fs6Qp"])})
    assert workspace.mtu()[["month", "mtu", "events"]].values.tolist() == [["2026-07", 1, 2]]
    assert reasons(workspace) == {"exportable": 1, "merged": 1}


def test_a_real_original_record_is_one_user_under_its_old_and_new_id(tmp_path: Path) -> None:
    workspace = project(tmp_path / "home", "original", "America/Los_Angeles")
    before = {"event": "Device online", "properties": {"time": 1609348000, "distinct_id": "324172",
                                                       "$insert_id": "4b9d04bb1df5dfb9"}}
    workspace.load(
        events=[ndjson(tmp_path / "e", ORIGINAL, before)],
        profiles=[ndjson(tmp_path / "p", {"$distinct_id": "324172", "$properties": {"$email": "sky@lane.example"}})],
        cohorts={"all": ndjson(tmp_path / "c", ["324172", ORIGINAL["properties"]["distinct_id"]])})
    assert workspace.mtu()[["month", "mtu", "events"]].values.tolist() == [["2020-12", 1, 2]]
    assert reasons(workspace) == {"exportable": 1, "merged": 1}


def test_the_list_of_cohorts_is_not_a_cohort(tmp_path: Path) -> None:
    listed = [{"count": 150, "is_visible": 1, "description": "", "created": "2019-03-19 23:49:51", "project_id": 1,
               "id": 1000, "name": "Cohort One", "data_group_id": None}]
    (tmp_path / "list").write_text(json.dumps(listed))
    with pytest.raises(BadInput, match="holds no cohort members"):
        project(tmp_path / "home").load(cohorts={"One": tmp_path / "list"})


# the examples of the published contracts


def example(name: str, path: str) -> Any:
    """The example of the 200 answer of a path's one operation."""
    contract = yaml.safe_load((Path(os.environ["COHORTSYNC_CONTRACTS"]) / name).read_text())
    operation = next(iter(contract["paths"][path].values()))
    media = next(iter(operation["responses"]["200"]["content"].values()))
    named = media.get("examples") or media["schema"].get("examples") or {}
    return named["example"]["value"] if named else media.get("example", media["schema"].get("example"))


@needs_contracts
def test_the_published_export_example_loads_and_counts_its_userless_events(tmp_path: Path) -> None:
    (tmp_path / "e").write_text(example("export.openapi.yaml", "/export"))
    workspace = project(tmp_path / "home")
    assert workspace.load(events=[tmp_path / "e"]).events_added == 2
    assert workspace.mtu()[["month", "mtu", "events", "guardrail"]].values.tolist() == [["2020-10", 0, 2, 1]]


@needs_contracts
def test_the_published_engage_example_is_profiles_and_members(tmp_path: Path) -> None:
    page = example("query.openapi.yaml", "/engage")
    page["results"][0]["$properties"]["$email"] = "example@lane.example"
    (tmp_path / "page").write_text(json.dumps(page, indent=2))
    workspace = project(tmp_path / "home")
    workspace.load(profiles=[tmp_path / "page"], cohorts={"all": tmp_path / "page"})
    assert workspace.audience("all")[["distinct_id", "reason", "first_name"]].values.tolist() == [
        ["4", "exportable", "Example"]]


@needs_contracts
def test_the_published_list_of_cohorts_is_refused_as_members(tmp_path: Path) -> None:
    (tmp_path / "list").write_text(json.dumps(example("query.openapi.yaml", "/cohorts/list")))
    with pytest.raises(BadInput, match="holds no cohort members"):
        project(tmp_path / "home").load(cohorts={"One": tmp_path / "list"})


# files written by mixpanel-utils


EVENTS = [{"event": ("Opened", "Mailchimp Campaign - Open", "$identify")[n % 3], "properties": {
    "time": NOON + n * 400_000, "distinct_id": f"user-{n % 7}" if n % 5 else f"$device:dev-{n % 7}",
    "$insert_id": f"insert-{n}", "mp_processing_time_ms": (NOON + n * 400_000) * 1000 + n,
    "note": 'a "quoted", note\nof two lines', "tags": ["a", {"b": n}], "count": n, "Count": n + 1,
    **({"$user_id": f"user-{n % 7}", "$device_id": f"dev-{n % 7}"} if n % 5 else {"$device_id": f"dev-{n % 7}"}),
}} for n in range(40)]
PEOPLE = [{"$distinct_id": f"user-{n}", "$properties": {
    "$email": f"user{n}@lane.example", "$first_name": "Zoë, the 1st", "$last_seen": f"2024-01-0{n + 1}T00:00:00",
    "tags": ["a", "b"]} if n != 3 else {}} for n in range(7)]


class Mixpanel(BaseHTTPRequestHandler):
    """The two answers that mixpanel-utils asks for: a raw export, and profiles in pages of three."""

    def do_GET(self) -> None:
        where = urlsplit(self.path)
        if where.path == "/api/2.0/export":
            body = "".join(f"{json.dumps(row)}\n" for row in EVENTS)
        else:
            number = int(parse_qs(where.query).get("page", ["0"])[0])
            body = json.dumps({"page": number, "page_size": 3, "session_id": "1-X", "status": "ok",
                               "results": PEOPLE[number * 3:number * 3 + 3], "total": len(PEOPLE)})
        self.answer(body.encode())

    def answer(self, body: bytes) -> None:
        zipped = "gzip" in self.headers.get("Accept-Encoding", "")
        body = gzip.compress(body) if zipped else body
        self.send_response(200)
        if zipped:
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def serving() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Mixpanel) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/api"
        finally:
            server.shutdown()
            thread.join(timeout=30)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of files that mixpanel-utils fetched and wrote, in each way it can."""
    folder = tmp_path_factory.mktemp("exported")
    with serving() as url:
        client = MixpanelUtils("secret", service_account_username="sa", project_id=1)
        client.raw_api = client.formatted_api = url
        days = {"from_date": "2023-11-14", "to_date": "2024-05-31"}
        client.export_events(str(folder / "events.json"), days)
        client.export_events(str(folder / "zipped.json"), days, add_gzip_header=True, compress=True)
        client.export_events(str(folder / "events.csv"), days, format="csv")
        client.export_events(str(folder / "stream.ndjson"), days, raw_stream=True)
        client.export_events(str(folder / "stream2.ndjson"), days, raw_stream=True, add_gzip_header=True)
        client.export_people(str(folder / "people.json"))
        client.export_people(str(folder / "people.csv"), format="csv")
        client.export_people(str(folder / "zipped-people.json"), compress=True)
    return folder


def served(properties: dict[str, Any]) -> dict[str, Any]:
    """What a CSV keeps of properties: text, lists and objects as JSON, nothing that is blank."""
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in properties.items()}


EVENT_FILES = ["events.json", "zipped.json.gz", "events.csv", "stream.ndjson", "stream2.ndjson.gz"]


@pytest.mark.parametrize("name", EVENT_FILES)
def test_events_that_mixpanel_utils_wrote_are_the_events_that_were_served(exported: Path, tmp_path: Path,
                                                                          name: str) -> None:
    workspace = project(tmp_path / "home")
    assert workspace.load(events=[exported / name]).events_added == len(EVENTS)
    with workspace.connect() as con:
        kept = con.execute("select event, properties from events order by line").fetchall()
    as_kept = served if name.endswith("csv") else dict
    assert [(event, json.loads(text)) for event, text in kept] == [
        (row["event"], as_kept(row["properties"])) for row in EVENTS]


def test_the_same_export_in_five_forms_is_the_same_events(exported: Path, tmp_path: Path) -> None:
    workspace = project(tmp_path / "home")
    report = workspace.load(events=[exported / name for name in EVENT_FILES])
    assert (report.events_added, report.quarantined) == (len(EVENTS), 0)


@pytest.mark.parametrize("name", ["people.json", "people.csv", "zipped-people.json.gz"])
def test_profiles_that_mixpanel_utils_wrote_are_the_profiles_that_were_served(exported: Path, tmp_path: Path,
                                                                              name: str) -> None:
    workspace = project(tmp_path / "home")
    workspace.load(profiles=[exported / name], cohorts={"all": exported / name})
    with workspace.connect() as con:
        kept = con.execute("select distinct_id, properties from profiles order by 1").fetchall()
    as_kept = served if name.endswith("csv") else dict
    assert [(each, json.loads(text)) for each, text in kept] == [
        (row["$distinct_id"], as_kept(row["$properties"])) for row in PEOPLE]
    assert reasons(workspace) == {"exportable": 6, "no_profile": 1}


@pytest.mark.parametrize("id_merge", ["simplified", "original"])
def test_the_main_job_on_files_of_mixpanel_utils_agrees_with_the_independent_reckoning(
        exported: Path, tmp_path: Path, id_merge: str) -> None:
    zone = "Asia/Kolkata"
    (tmp_path / "ids").write_text("\n".join(row["properties"]["distinct_id"] for row in EVENTS))
    events, people, cohort = exported / "stream.ndjson", exported / "people.json", tmp_path / "ids"
    workspace = project(tmp_path / "home", id_merge, zone)
    workspace.load(events=[events], profiles=[people], cohorts={"all": cohort})
    expected = reckoning.reckon([events], [people], {"all": cohort}, zone, id_merge)
    found = workspace.mtu().drop(columns=["project_id", "as_of"]).to_dict("records")
    assert found == [{name: row[name] for name in found[0]} for row in expected.mtu]
    judged = workspace.audience("all")[["distinct_id", "reason"]].itertuples(index=False, name=None)
    assert dict(judged) == expected.audience["all"]
