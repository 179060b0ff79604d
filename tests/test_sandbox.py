"""The local Mailchimp over real HTTP: its rules, its limits, and what survives its end.

The recorded answers in `golden/mailchimp_answers.json` are renewed by running this file with
COHORTSYNC_RENEW_GOLDEN=1; read the difference before keeping it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from cohortsync.sandbox import Sandbox, start

OWNER = "0" * 32 + "-us6"
VIEWER = "0" * 32 + "-us2"
REVOKED = "0" * 32 + "-us3"
# Read here: for the length of a test conftest takes such variables away.
RENEW = "COHORTSYNC_RENEW_GOLDEN" in os.environ
GOLDEN = Path(__file__).parent / "golden" / "mailchimp_answers.json"
ALL_STATUSES = {"include_unsubscribed": "true", "include_cleaned": "true", "include_transactional": "true"}
NEW_AUDIENCE = {
    "contact": {"company": "C", "address1": "A", "city": "T", "country": "US"},
    "permission_reminder": "You asked.",
    "campaign_defaults": {"from_name": "N", "from_email": "n@shop.example", "subject": "", "language": "en"},
    "email_type_option": False,
}


def ask(sandbox: Sandbox, method: str, path: str, key: str = OWNER, **more: Any) -> requests.Response:
    more.setdefault("timeout", 30)
    return requests.request(method, sandbox.mailchimp_url + path, auth=("any", key), **more)


@dataclass(frozen=True)
class Audience:
    """An audience of a test's own."""

    sandbox: Sandbox
    id: str

    def ask(self, method: str, path: str = "", body: Any = None, **query: Any) -> requests.Response:
        return ask(self.sandbox, method, f"/3.0/lists/{self.id}{path}", json=body, params=query)

    def get(self, path: str = "", **query: Any) -> Any:
        return self.ask("GET", path, **query).json()

    def post(self, path: str, body: Any, **query: Any) -> Any:
        return self.ask("POST", path, body, **query).json()

    def batch(self, *members: dict[str, Any], query: str = "", **options: Any) -> Any:
        return self.post(query, {"members": list(members), **options})

    def add(self, *names: str, status: str = "subscribed", **more: Any) -> None:
        members = [{"email_address": at(name), "status_if_new": status, **more} for name in names]
        assert self.batch(*members)["total_created"] == len(names)

    def segment(self, *names: str, name: str = "Cohort") -> str:
        body = {"name": name, "static_segment": [at(each) for each in names]}
        return f"/segments/{self.post('/segments', body)['id']}"

    def person(self, action: str, name: str) -> None:
        answer = ask(self.sandbox, "POST", f"/people/{self.id}/{at(name)}/{action}")
        assert answer.status_code == 200

    def status(self, name: str) -> str:
        return str(self.get(f"/members/{at(name)}")["status"])

    def tags(self, name: str) -> list[str]:
        return [tag["name"] for tag in self.get(f"/members/{at(name)}")["tags"]]

    def on(self, segment: str, **query: Any) -> list[str]:
        return [each["email_address"] for each in self.get(segment + "/members", count=1000, **query)["members"]]


def at(name: str) -> str:
    return f"{name}@shop.example"


def refusal(response: requests.Response) -> tuple[int, str]:
    """Status and title of a refusal, which must be a whole problem document."""
    problem = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert {"type", "title", "status", "detail", "instance"} <= problem.keys()
    assert response.headers["X-Request-Id"] == problem["instance"]
    assert response.status_code == problem["status"]
    return response.status_code, problem["title"]


def first_audience(sandbox: Sandbox) -> Audience:
    return Audience(sandbox, ask(sandbox, "GET", "/3.0/lists").json()["lists"][0]["id"])


def seed_file(folder: Path, *members: dict[str, Any]) -> Path:
    path = folder / "seed.ndjson"
    path.write_text("".join(json.dumps(member) + "\n" for member in members))
    return path


def wait_for(condition: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with start(tmp_path_factory.mktemp("sandbox")) as running:
        yield running


@pytest.fixture
def audience(sandbox: Sandbox, request: pytest.FixtureRequest) -> Audience:
    body = {"name": request.node.name, **NEW_AUDIENCE}
    return Audience(sandbox, ask(sandbox, "POST", "/3.0/lists", json=body).json()["id"])


# Keys and roles


def test_an_owners_key_is_let_in_by_basic_and_by_bearer(sandbox: Sandbox) -> None:
    bearer = {"Authorization": f"Bearer {OWNER}"}
    by_bearer = requests.get(sandbox.mailchimp_url + "/3.0/", headers=bearer, timeout=30)
    assert by_bearer.json()["role"] == ask(sandbox, "GET", "/3.0/").json()["role"] == "owner"


def test_no_key_is_missing_and_a_wrong_one_invalid(sandbox: Sandbox) -> None:
    without = requests.get(sandbox.mailchimp_url + "/3.0/ping", timeout=30)
    assert refusal(without) == (401, "API Key Missing")
    for key in ("secret", "0" * 32, OWNER + "-us6", REVOKED):
        assert refusal(ask(sandbox, "GET", "/3.0/ping", key)) == (401, "API Key Invalid")


def test_a_viewer_reads_the_root_and_writes_nothing(sandbox: Sandbox, audience: Audience) -> None:
    assert ask(sandbox, "GET", "/3.0/", VIEWER).json()["role"] == "viewer"
    for method, path in (("POST", ""), ("PUT", "/members/x"), ("DELETE", "/members/x")):
        answer = ask(sandbox, method, f"/3.0/lists/{audience.id}{path}", VIEWER, json={})
        assert refusal(answer) == (403, "User action not permitted")


def test_a_host_name_that_is_not_loopback_is_refused(sandbox: Sandbox) -> None:
    for path in ("/", "/3.0/ping"):
        answer = ask(sandbox, "GET", path, headers={"Host": "rebound.shop.example"})
        assert answer.status_code == 421
    assert ask(sandbox, "GET", "/3.0/ping", headers={"Host": "localhost:1"}).status_code == 200


# Routes, bodies and answers


def test_unknown_paths_and_head_are_404_and_wrong_methods_405(sandbox: Sandbox, audience: Audience) -> None:
    assert refusal(ask(sandbox, "GET", "/3.0/nothing")) == (404, "Resource Not Found")
    assert refusal(audience.ask("GET", "/segments/1")) == (404, "Resource Not Found")
    assert ask(sandbox, "HEAD", "/3.0/ping").status_code == 404
    wrong = ask(sandbox, "DELETE", "/3.0/lists")
    assert refusal(wrong) == (405, "Method Not Allowed")
    assert wrong.headers["Allow"] == "GET, POST"


def test_a_body_that_is_not_json_is_a_parse_error(audience: Audience) -> None:
    answer = ask(audience.sandbox, "POST", f"/3.0/lists/{audience.id}", data="{members: ")
    assert refusal(answer) == (400, "JSON Parse Error")


@pytest.mark.parametrize("body", [[], "text", 3, {"members": "all"}, {"members": [1]}, {"members": [{}]}])
def test_a_body_of_another_shape_is_invalid(audience: Audience, body: Any) -> None:
    assert refusal(audience.ask("POST", "", body)) == (400, "Invalid Resource")


def test_answers_are_cut_to_the_fields_asked_for(audience: Audience) -> None:
    audience.add("ann")
    asked = "members.email_address,members.stats.avg_open_rate,total_items"
    member = {"email_address": at("ann"), "stats": {"avg_open_rate": 0}}
    assert audience.get("/members", fields=asked) == {"members": [member], "total_items": 1}
    assert audience.get("/members", fields="members", exclude_fields="members") == {}
    assert "stats" not in audience.get(f"/members/{at('ann')}", exclude_fields="stats")


def test_a_misspelt_field_is_refused(audience: Audience) -> None:
    audience.add("ann")
    answer = audience.ask("GET", "/members", fields="members.emial_address")
    assert refusal(answer) == (422, "Requested Fields Invalid")


# Reading members


def test_a_page_holds_ten_unless_asked_and_a_thousand_at_most(audience: Audience) -> None:
    for start_at in range(0, 1010, 505):
        names = [f"p{number}" for number in range(start_at, start_at + 505)]
        audience.add(*names[:500])
        audience.add(*names[500:])
    assert len(audience.get("/members")["members"]) == 10
    page = audience.get("/members", count=5000, fields="members.id,total_items")
    assert (len(page["members"]), page["total_items"]) == (1000, 1010)
    rest = audience.get("/members", count=1000, offset=1000, fields="members.id")
    assert len(rest["members"]) == 10


def test_archived_members_show_only_when_asked_for(audience: Audience) -> None:
    audience.add("ann", "ben")
    assert audience.ask("DELETE", f"/members/{at('ben')}").status_code == 204
    assert [each["email_address"] for each in audience.get("/members")["members"]] == [at("ann")]
    assert [each["status"] for each in audience.get("/members", status="archived")["members"]] == ["archived"]


def test_members_are_filtered_by_status_and_by_last_change(audience: Audience) -> None:
    audience.add("ann")
    audience.add("ben", status="pending")
    assert audience.get("/members", status="pending")["total_items"] == 1
    assert audience.get("/members", since_last_changed="2020-01-01T00:00:00+00:00")["total_items"] == 2
    assert audience.get("/members", since_last_changed="2100-01-01T00:00:00Z")["total_items"] == 0
    assert audience.get("/members", before_last_changed="2100-01-01T00:00:00Z")["total_items"] == 2
    assert audience.ask("GET", "/members", since_last_changed="yesterday").status_code == 400


def test_a_member_is_found_by_hash_and_by_address_in_any_case(audience: Audience) -> None:
    audience.add("ann")
    hashed = hashlib.md5(at("ann").encode()).hexdigest()
    assert audience.get(f"/members/{hashed}")["id"] == hashed
    assert audience.get("/members/ANN@Shop.example")["id"] == hashed


def test_absent_dates_are_empty_texts(audience: Audience) -> None:
    audience.add("ann", status="pending")
    member = audience.get(f"/members/{at('ann')}")
    assert (member["timestamp_signup"], member["timestamp_opt"]) == ("", "")


# Batch subscribe


def test_a_batch_is_answered_200_even_when_everybody_failed(audience: Audience) -> None:
    answer = audience.batch({"email_address": "nobody", "status_if_new": "subscribed"})
    assert (answer["total_created"], answer["error_count"]) == (0, 1)
    assert answer["errors"][0]["error_code"] == "ERROR_GENERIC"


def test_an_existing_contact_is_left_alone_without_update_existing(audience: Audience) -> None:
    audience.add("ann", status="pending")
    answer = audience.batch({"email_address": at("ann"), "status": "subscribed", "tags": ["New"]})
    assert answer["errors"][0]["error_code"] == "ERROR_CONTACT_EXISTS"
    assert (audience.status("ann"), audience.tags("ann")) == ("pending", [])


def test_update_existing_changes_the_status_with_status_but_not_with_status_if_new(
    audience: Audience,
) -> None:
    audience.add("ann", "ben", status="unsubscribed")
    answer = audience.batch(
        {"email_address": at("ann"), "status": "subscribed"},
        {"email_address": at("ben"), "status_if_new": "subscribed"},
        update_existing=True,
    )
    assert answer["total_updated"] == 2
    assert (audience.status("ann"), audience.status("ben")) == ("subscribed", "unsubscribed")


def test_an_archived_contact_comes_back_by_a_batch_that_updates_nobody(audience: Audience) -> None:
    audience.add("ann", tags=["Old"])
    audience.ask("DELETE", f"/members/{at('ann')}")
    answer = audience.batch({"email_address": at("ann"), "status_if_new": "subscribed"}, update_existing=False)
    assert (answer["total_created"], audience.status("ann")) == (1, "subscribed")


def test_a_member_without_any_status_is_refused_alone(audience: Audience) -> None:
    answer = audience.batch({"email_address": at("ann")}, {"email_address": at("ben"), "status": "subscribed"})
    assert (answer["total_created"], answer["error_count"]) == (1, 1)


def test_a_repeated_address_rejects_the_whole_call_unless_duplicates_are_skipped(audience: Audience) -> None:
    members = [
        {"email_address": at("ann"), "status_if_new": "pending"},
        {"email_address": at("ANN"), "status_if_new": "subscribed"},
    ]
    assert audience.ask("POST", "", {"members": members}).status_code == 400
    assert audience.get("/members")["total_items"] == 0
    answer = audience.post("", {"members": members}, skip_duplicate_check="true")
    assert (answer["total_created"], audience.status("ann")) == (1, "pending")


def test_five_hundred_and_one_members_are_too_many(audience: Audience) -> None:
    members = [{"email_address": at(f"p{n}"), "status_if_new": "subscribed"} for n in range(501)]
    assert refusal(audience.ask("POST", "", {"members": members})) == (400, "Invalid Resource")
    assert audience.batch(*members[:500])["total_created"] == 500


def test_an_unsubscribed_person_is_not_brought_back(audience: Audience) -> None:
    audience.add("ann")
    audience.person("unsubscribe", "ann")
    answer = audience.batch({"email_address": at("ann"), "status": "subscribed"}, update_existing=True)
    assert "compliance state" in answer["errors"][0]["error"]
    assert audience.status("ann") == "unsubscribed"


def test_a_forgotten_person_is_not_imported_again(audience: Audience) -> None:
    audience.add("ann")
    gone = audience.ask("POST", f"/members/{at('ann')}/actions/delete-permanent")
    assert (gone.status_code, gone.content) == (204, b"")
    answer = audience.batch({"email_address": at("ann"), "status_if_new": "pending"})
    assert "permanently deleted" in answer["errors"][0]["error"]
    single = audience.ask("PUT", f"/members/{at('ann')}", {"email_address": at("ann"), "status_if_new": "pending"})
    assert refusal(single) == (400, "Forgotten Email Not Subscribed")


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("ann@example.com", "looks fake or invalid"),
        ("ann@mail.example.org", "looks fake or invalid"),
        ("test@test.example", "looks fake or invalid"),
        ("ann", "must contain a single @"),
        ("ann@ben@shop.example", "must contain a single @"),
        ("ann..b@shop.example", "username portion"),
        ("@shop.example", "username portion"),
        ("ann@shop", "domain portion"),
        ("ann@-shop.example", "domain portion"),
    ],
)
def test_an_address_nobody_can_have_is_refused(audience: Audience, address: str, said: str) -> None:
    answer = audience.batch({"email_address": address, "status_if_new": "subscribed"})
    assert said in answer["errors"][0]["error"]
    single = audience.ask("POST", "/members", {"email_address": address, "status": "subscribed"})
    assert refusal(single) == (400, "Invalid Resource")


# Merge fields


def test_an_unknown_merge_field_vanishes_without_a_word(audience: Audience) -> None:
    audience.add("ann", merge_fields={"FNAME": "Ann", "SHOE": "43"})
    assert audience.get(f"/members/{at('ann')}")["merge_fields"] == {"FNAME": "Ann", "LNAME": ""}


def test_a_text_in_a_number_field_is_refused(audience: Audience) -> None:
    audience.post("/merge-fields", {"name": "Value", "tag": "LTV", "type": "number"})
    member = {"email_address": at("ann"), "status_if_new": "subscribed", "merge_fields": {"LTV": "lots"}}
    [error] = audience.batch(member)["errors"]
    assert (error["field"], error["field_message"]) == ("LTV", "Please enter a number")
    single = audience.ask("PUT", f"/members/{at('ann')}", member)
    assert single.json()["errors"] == [{"field": "LTV", "message": "Please enter a number"}]


def test_a_missing_required_field_is_refused_unless_skipped(audience: Audience) -> None:
    audience.post("/merge-fields", {"name": "Plan", "tag": "PLAN", "type": "text", "required": True})
    member = {"email_address": at("ann"), "status_if_new": "subscribed"}
    assert audience.batch(member)["errors"][0]["field"] == "PLAN"
    assert audience.batch(member, query="?skip_merge_validation=true")["total_created"] == 1


def test_merge_fields_are_listed_and_their_tags_are_unique_and_short(audience: Audience) -> None:
    field = {"name": "Plan", "tag": "PLAN", "type": "text"}
    assert audience.post("/merge-fields", field)["merge_id"] == 3
    assert audience.ask("POST", "/merge-fields", field).status_code == 400
    assert audience.ask("POST", "/merge-fields", field | {"tag": "ELEVENCHARS"}).status_code == 400
    tags = [each["tag"] for each in audience.get("/merge-fields")["merge_fields"]]
    assert tags == ["FNAME", "LNAME", "PLAN"]


# One member


def test_post_refuses_a_member_who_is_there(audience: Audience) -> None:
    body = {"email_address": at("ann"), "status": "subscribed"}
    assert audience.ask("POST", "/members", body).status_code == 200
    assert refusal(audience.ask("POST", "/members", body)) == (400, "Member Exists")


def test_post_brings_an_archived_member_back(audience: Audience) -> None:
    audience.add("ann")
    audience.ask("DELETE", f"/members/{at('ann')}")
    assert audience.post("/members", {"email_address": at("ann"), "status": "subscribed"})["status"] == "subscribed"


def test_put_adds_with_status_if_new_and_leaves_an_existing_status(audience: Audience) -> None:
    body = {"email_address": at("ann"), "status_if_new": "subscribed"}
    assert audience.ask("PUT", f"/members/{at('ann')}", body).json()["status"] == "subscribed"
    audience.ask("PATCH", f"/members/{at('ann')}", {"status": "unsubscribed"})
    assert audience.ask("PUT", f"/members/{at('ann')}", body).json()["status"] == "unsubscribed"
    audience.ask("PUT", f"/members/{at('ann')}", body | {"status": "subscribed"})
    assert audience.status("ann") == "subscribed"


def test_put_cannot_take_another_members_address(audience: Audience) -> None:
    audience.add("ann", "ben")
    answer = audience.ask("PUT", f"/members/{at('ann')}", {"email_address": at("ben")})
    assert refusal(answer) == (400, "Member Exists")


def test_patch_changes_merge_fields_alone(audience: Audience) -> None:
    audience.add("ann", status="pending", merge_fields={"LNAME": "Li"})
    after = audience.ask("PATCH", f"/members/{at('ann')}", {"merge_fields": {"FNAME": "Ann"}}).json()
    assert (after["status"], after["full_name"]) == ("pending", "Ann Li")
    assert audience.ask("PATCH", f"/members/{at('ben')}", {}).status_code == 404


@pytest.mark.parametrize("action", ["unsubscribe", "bounce"])
def test_one_who_left_or_bounced_cannot_be_subscribed(audience: Audience, action: str) -> None:
    audience.add("ann")
    audience.person(action, "ann")
    answer = audience.ask("PATCH", f"/members/{at('ann')}", {"status": "subscribed"})
    assert refusal(answer) == (400, "Member In Compliance State")


def test_one_who_left_may_be_asked_to_confirm_and_only_they_can(audience: Audience) -> None:
    audience.add("ann")
    audience.person("unsubscribe", "ann")
    audience.ask("PATCH", f"/members/{at('ann')}", {"status": "pending"})
    assert audience.ask("PATCH", f"/members/{at('ann')}", {"status": "subscribed"}).status_code == 400
    audience.person("confirm", "ann")
    assert audience.status("ann") == "subscribed"


@pytest.mark.parametrize("status", ["pending", "cleaned"])
def test_pending_and_bounced_members_cannot_be_archived(audience: Audience, status: str) -> None:
    audience.add("ann", status=status)
    answer = audience.ask("DELETE", f"/members/{at('ann')}")
    assert refusal(answer) == (405, "Method Not Allowed")
    assert "Allow" in answer.headers


# Segments and tags


def test_two_segments_may_have_one_name(audience: Audience) -> None:
    assert audience.segment() != audience.segment()
    assert audience.get("/segments", type="static")["total_items"] == 2
    assert audience.get("/segments", type="saved")["total_items"] == 0


def test_a_segment_takes_only_those_in_the_audience(audience: Audience) -> None:
    audience.add("ann")
    assert audience.on(audience.segment("ann", "stranger")) == [at("ann")]


def test_adding_and_removing_reports_what_was_needless(audience: Audience) -> None:
    audience.add("ann", "ben", "cem")
    segment = audience.segment("ann", "cem")
    body = {"members_to_add": [at("ann"), at("ben")], "members_to_remove": [at("cem"), at("dee")]}
    answer = audience.post(segment, body)
    assert (answer["total_added"], answer["total_removed"], answer["error_count"]) == (1, 1, 2)
    assert [error["email_addresses"] for error in answer["errors"]] == [[at("ann")], [at("dee")]]
    assert ["exist" in error["error"] for error in answer["errors"]] == [True, True]
    assert audience.on(segment) == [at("ann"), at("ben")]


def test_when_nobody_to_add_is_in_the_audience_nothing_is_removed_either(audience: Audience) -> None:
    audience.add("ann", "arc")
    audience.ask("DELETE", f"/members/{at('arc')}")
    segment = audience.segment("ann")
    body = {"members_to_add": [at("stranger"), at("arc")], "members_to_remove": [at("ann")]}
    answer = audience.ask("POST", segment, body)
    assert refusal(answer) == (400, "Invalid Resource")
    assert answer.json()["errors"][0]["field"] == "members_to_add"
    assert audience.on(segment) == [at("ann")]


@pytest.mark.parametrize("half", ["members_to_add", "members_to_remove"])
def test_a_segment_call_takes_five_hundred_each_way(audience: Audience, half: str) -> None:
    audience.add("p0")
    segment = audience.segment()
    crowd = [at(f"p{number}") for number in range(501)]
    assert "at most 500 items" in audience.post(segment, {half: crowd})["detail"]
    assert audience.ask("POST", segment, {half: crowd[:500]}).status_code == 200


def test_only_active_members_of_a_segment_show_without_the_flags(audience: Audience) -> None:
    audience.add("ann", "uma", "cle")
    audience.add("pen", status="pending")
    audience.add("tra", status="transactional")
    audience.add("arc")
    segment = audience.segment("ann", "uma", "cle", "pen", "tra", "arc")
    audience.person("unsubscribe", "uma")
    audience.person("bounce", "cle")
    audience.ask("DELETE", f"/members/{at('arc')}")
    assert audience.on(segment) == [at("ann")]
    assert audience.on(segment, include_unsubscribed="true") == [at("ann"), at("uma")]
    assert set(audience.on(segment, **ALL_STATUSES)) == {at("ann"), at("uma"), at("cle"), at("tra")}
    assert audience.get(segment)["member_count"] == 1
    assert audience.tags("pen") == ["Cohort"]


def test_patching_a_segment_adds_without_removing_and_empties_with_nothing(audience: Audience) -> None:
    audience.add("ann", "ben")
    segment = audience.segment("ann")
    audience.ask("PATCH", segment, {"static_segment": [at("ben")]})
    assert audience.on(segment) == [at("ann"), at("ben")]
    audience.ask("PATCH", segment, {"name": "Renamed", "static_segment": []})
    assert (audience.on(segment), audience.get(segment)["name"]) == ([], "Renamed")


def test_a_deleted_segment_is_gone_and_its_id_is_not_used_again(audience: Audience) -> None:
    segment = audience.segment()
    assert audience.ask("DELETE", segment).status_code == 204
    assert refusal(audience.ask("POST", segment, {"members_to_add": []})) == (404, "Resource Not Found")
    assert audience.segment() != segment


def test_a_segment_by_conditions_cannot_be_written_to(audience: Audience) -> None:
    made = audience.post("/segments", {"name": "Saved", "options": {"match": "all", "conditions": []}})
    answer = audience.ask("POST", f"/segments/{made['id']}", {"members_to_add": []})
    assert (made["type"], answer.status_code) == ("saved", 404)


def test_a_tag_in_a_batch_makes_a_segment_or_joins_the_oldest_of_that_name(audience: Audience) -> None:
    audience.add("ann", tags=["Made"])
    older, newer = audience.segment(), audience.segment()
    audience.add("ben", tags=["Cohort"])
    assert (audience.on(older), audience.on(newer)) == ([at("ben")], [])
    assert [each["name"] for each in audience.get("/tag-search", name="ma")["tags"]] == ["Made"]


def test_sync_tags_takes_every_other_tag_away(audience: Audience) -> None:
    audience.add("ann", "ben", tags=["Old"])
    members = [{"email_address": at(each), "status_if_new": "subscribed", "tags": ["New"]} for each in ("ann", "ben")]
    audience.batch(members[0], update_existing=True)
    audience.batch(members[1], update_existing=True, sync_tags=True)
    assert (audience.tags("ann"), audience.tags("ben")) == (["Old", "New"], ["New"])


def test_tags_are_given_and_taken_by_name(audience: Audience) -> None:
    audience.add("ann", tags=["Old"])
    changes = [{"name": "New", "status": "active"}, {"name": "Old", "status": "inactive"}]
    answer = audience.ask("POST", f"/members/{at('ann')}/tags", {"tags": changes, "is_syncing": True})
    assert (answer.status_code, answer.content) == (204, b"")
    assert audience.tags("ann") == ["New"]
    assert audience.ask("POST", f"/members/{at('ben')}/tags", {"tags": changes}).status_code == 404


# Limits


def test_the_eleventh_request_at_a_time_is_refused(sandbox: Sandbox) -> None:
    def half_a_request() -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", sandbox.port), timeout=30)
        sock.sendall(
            f"POST /3.0/lists HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {OWNER}\r\n"
            "Content-Length: 9\r\n\r\n{".encode()
        )
        return sock

    held = [half_a_request() for _ in range(10)]
    wait_for(lambda: ask(sandbox, "GET", "/3.0/ping").status_code == 429)
    refused = ask(sandbox, "GET", "/3.0/ping")
    assert refusal(refused) == (429, "Too Many Requests")
    assert "limit of 10 simultaneous connections" in refused.json()["detail"]
    for sock in held:
        sock.close()
    wait_for(lambda: ask(sandbox, "GET", "/3.0/ping").status_code == 200)


def test_ten_at_a_time_are_all_served(audience: Audience) -> None:
    def subscribe(number: int) -> int:
        people = [{"email_address": at(f"p{number}x{n}"), "status_if_new": "subscribed"} for n in range(20)]
        return int(audience.batch(*people)["total_created"])

    with ThreadPoolExecutor(10) as pool:
        assert list(pool.map(subscribe, range(50))) == [20] * 50
    assert audience.get("/members", fields="total_items") == {"total_items": 1000}


# The page


def test_the_page_shows_the_audience_and_no_address(tmp_path: Path) -> None:
    seed = seed_file(
        tmp_path,
        {"email_address": at("ann"), "status": "subscribed", "tags": ["<b>Bold</b>"]},
        {"email_address": at("uma"), "status": "unsubscribed"},
    )
    with start(tmp_path / "state", seed=seed) as sandbox:
        page = requests.get(sandbox.mailchimp_url, timeout=30)
    assert page.headers["content-type"].startswith("text/html")
    for shown in ("LOCAL REHEARSAL · Mailchimp", "Newsletter", "a***@***.example", "&lt;b&gt;Bold&lt;/b&gt;"):
        assert shown in page.text
    assert at("ann") not in page.text
    assert "<b>Bold" not in page.text
    assert "//" not in page.text.replace("<!doctype html>", "")


# Start, end and what is kept


def test_the_first_start_seeds_and_later_ones_do_not(tmp_path: Path) -> None:
    statuses = ["subscribed", "unsubscribed", "cleaned", "pending", "transactional", "archived"]
    people = [{"email_address": at(status), "status": status} for status in statuses]
    seed = seed_file(tmp_path, *people)
    for _ in range(2):
        with start(tmp_path / "state", seed=seed) as sandbox:
            newsletter = first_audience(sandbox)
            assert newsletter.get()["name"] == "Newsletter"
            assert [newsletter.status(status) for status in statuses] == statuses
            assert newsletter.get("/members")["total_items"] == 5
        seed_file(tmp_path, {"email_address": at("late"), "status": "subscribed"})


def test_the_seeds_unsubscribed_left_by_themselves_unless_it_says_otherwise(tmp_path: Path) -> None:
    seed = seed_file(
        tmp_path,
        {"email_address": at("left"), "status": "unsubscribed"},
        {"email_address": at("put"), "status": "unsubscribed", "unsubscribed_by": "api"},
    )
    with start(tmp_path / "state", seed=seed) as sandbox:
        newsletter = first_audience(sandbox)
        answers = [
            newsletter.ask("PATCH", f"/members/{at(name)}", {"status": "subscribed"}).status_code
            for name in ("left", "put")
        ]
    assert answers == [400, 200]


def test_a_bad_seed_line_is_named_and_nothing_is_kept(tmp_path: Path) -> None:
    seed = seed_file(tmp_path, {"email_address": at("ann"), "status": "happy"})
    with (
        pytest.raises(RuntimeError, match="line 1: status must be one of"),
        start(tmp_path / "state", seed=seed),
    ):
        pass
    seed_file(tmp_path, {"email_address": at("ann"), "status": "pending"})
    with start(tmp_path / "state", seed=seed) as sandbox:
        assert first_audience(sandbox).status("ann") == "pending"


def test_what_was_answered_survives_a_restart_and_a_kill(tmp_path: Path) -> None:
    with start(tmp_path) as sandbox:
        first_audience(sandbox).add("ann", tags=["Kept"])
    with start(tmp_path) as sandbox:
        first_audience(sandbox).add("ben")
        os.kill(sandbox.pid, signal.SIGKILL)
    with start(tmp_path) as sandbox:
        newsletter = first_audience(sandbox)
        assert (newsletter.tags("ann"), newsletter.status("ben")) == (["Kept"], "subscribed")


def test_the_state_is_its_owners_alone(tmp_path: Path) -> None:
    with start(tmp_path / "state"):
        files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "state").iterdir()}
    assert "mailchimp.sqlite" in files
    assert set(files.values()) == {0o600}


def test_it_ends_well_when_told_to(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cohortsync.sandbox", "--state", str(tmp_path)]
    for number in (signal.SIGTERM, signal.SIGINT):
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as child:
            assert child.stderr
            ready = child.stderr.readline()
            assert re.fullmatch(r"local Mailchimp ready at http://127\.0\.0\.1:\d+\n", ready)
            child.send_signal(number)
            assert (child.wait(timeout=15), child.stderr.read()) == (0, "")


def test_it_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    program = (
        "import sys, time\nfrom cohortsync.sandbox import start\n"
        "with start(sys.argv[1]) as sandbox:\n    print(sandbox.port, flush=True)\n    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        sandbox = Sandbox(port=int(parent.stdout.readline()), pid=0)
        assert ask(sandbox, "GET", "/3.0/ping").status_code == 200
        parent.kill()

    def gone() -> bool:
        try:
            socket.create_connection(("127.0.0.1", sandbox.port), timeout=5).close()
        except ConnectionRefusedError:
            return True
        return False

    wait_for(gone)


def test_a_port_in_use_is_one_clear_line(tmp_path: Path, sandbox: Sandbox) -> None:
    with pytest.raises(RuntimeError, match="cannot start the local Mailchimp"), start(tmp_path, sandbox.port):
        pass


# Recorded answers


def exchanges(newsletter: Audience) -> Iterator[tuple[str, requests.Response]]:
    """A walk through the API on a fresh account, one named answer after the other."""
    person = {"email_address": at("ann"), "status_if_new": "subscribed"}
    segment = "/segments/100001"
    steps: list[tuple[str, str, str, Any]] = [
        ("an audience", "GET", "", None),
        ("its merge fields", "GET", "/merge-fields", None),
        ("a batch", "POST", "", {"members": [person | {"tags": ["Cohort"]}], "update_existing": False}),
        ("the batch again", "POST", "", {"members": [person], "update_existing": False}),
        ("a batch without members", "POST", "", {"members": []}),
        ("members", "GET", "/members?fields=members.email_address,members.status,total_items", None),
        ("a segment call", "POST", segment, {"members_to_add": [at("ann")], "members_to_remove": [at("x")]}),
        ("a segment call for nobody", "POST", segment, {"members_to_add": [at("x")]}),
        ("segments", "GET", "/segments?type=static", None),
        ("segment members", "GET", segment + "/members?include_unsubscribed=true", None),
        ("a tag search", "GET", "/tag-search?name=coh", None),
        ("a member who is there", "POST", "/members", {"email_address": at("ann"), "status": "subscribed"}),
        ("a fake address", "POST", "/members", {"email_address": "a@example.com", "status": "subscribed"}),
        ("archiving", "DELETE", f"/members/{at('ann')}", None),
        ("archiving again", "DELETE", f"/members/{at('ann')}", None),
        ("deleting for good", "POST", f"/members/{at('ann')}/actions/delete-permanent", None),
        ("a forgotten person", "PUT", f"/members/{at('ann')}", person),
    ]
    for name, method, path, body in steps:
        yield name, newsletter.ask(method, path, body)
    for name, path, key in (
        ("the root", "/", OWNER),
        ("ping", "/ping", OWNER),
        ("a revoked key", "/", REVOKED),
    ):
        yield name, ask(newsletter.sandbox, "GET", "/3.0" + path, key)


def recorded(name: str, response: requests.Response) -> dict[str, Any]:
    """An answer with everything that differs from run to run blotted out."""
    steady = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", "<time>", response.text)
    steady = re.sub(r'"instance":"[0-9a-f-]{36}"', '"instance":"<id>"', steady)
    return {
        "name": name,
        "status": response.status_code,
        "type": response.headers.get("content-type", ""),
        "body": json.loads(steady) if steady else None,
    }


def test_answers_are_the_recorded_ones(tmp_path: Path) -> None:
    with start(tmp_path) as sandbox:
        answers = [recorded(name, response) for name, response in exchanges(first_audience(sandbox))]
    if RENEW:
        GOLDEN.write_text(json.dumps(answers, indent=1) + "\n")
    assert answers == json.loads(GOLDEN.read_text())
