"""Requests we build and answers we read: pure, then held against Mailchimp's published contract."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import OWNER_KEY
from contract import check_exchange, needs_contracts

from cohortsync import mailchimp as mc
from cohortsync.errors import ApiFinal, ApiTransient, BadInput, ConfigurationError

GOLDEN = Path(__file__).parent / "golden" / "mailchimp_requests.json"
PERSON = {"address": "ann@harbor.example", "merge_fields": {"FNAME": "Ann"}}


def built() -> list[mc.Request]:
    return [mc.build_segment("a1b2c3d4e5", "mixpanel_vip"),
            mc.build_batch_subscribe("a1b2c3d4e5", [PERSON], "pending", "mixpanel_vip"),
            mc.build_batch_subscribe("a1b2c3d4e5", [PERSON], "subscribed", None),
            mc.build_segment_update("a1b2c3d4e5", 7, ["ann@harbor.example"], ["bob@harbor.example"]),
            mc.build_segment_update("a1b2c3d4e5", 7, [], ["bob@harbor.example"])]


def test_requests_are_the_recorded_ones() -> None:
    recorded = json.loads(GOLDEN.read_text())
    assert [[r.method, r.path, dict(r.params), r.body] for r in built()] == recorded


def test_no_request_can_change_an_existing_contact() -> None:
    for request in built():
        assert "sync_tags" not in str(request.body)
        assert request.method == "POST"
        if "members" in request.body:
            assert request.body["update_existing"] is False
            assert all("status" not in member for member in request.body["members"])


@pytest.mark.parametrize("key", ["", "abc", "0123-", "0123-evil.example/", "0123-us6.evil.example", "0123-us6\n",
                                 "0123-us6-us7", "0123-US6", "0123-us6#", "0123-@evil.example", "01 23-us6", "кey-us6"])
def test_a_crafted_key_cannot_choose_the_host(key: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        mc.base_url(key)
    assert not key.strip() or key.strip() not in str(refused.value)


@pytest.mark.parametrize("local", ["http://evil.example", "https://127.0.0.1", "http://127.0.0.1.evil.example",
                                   "http://user@127.0.0.1:1", "http://127.0.0.1:1/path", "127.0.0.1", "file:///etc",
                                   "http://[::1", "http://127.0.0.1:99999", "http://127.0.0.1:abc"])
def test_a_local_address_is_loopback_or_refused(local: str) -> None:
    with pytest.raises(ConfigurationError):
        mc.base_url(OWNER_KEY, local)


def test_the_host_follows_from_the_key() -> None:
    assert mc.base_url("0123456789abcdef-us21") == "https://us21.api.mailchimp.com/3.0"
    assert mc.base_url(OWNER_KEY, "http://127.0.0.1:8018/") == "http://127.0.0.1:8018/3.0"


@pytest.mark.parametrize("audience_id", ["", "../x", "a/b", "a b", "a?b", "é", "x" * 41])
def test_only_an_audience_id_gets_into_an_address(audience_id: str) -> None:
    with pytest.raises(BadInput):
        mc.audience_path(audience_id)


@pytest.mark.parametrize(("text", "reason"), [
    ("ann@x looks fake or invalid, please enter a real email address.", "looks_fake"),
    ("ann@x was permanently deleted and cannot be re-imported. The contact must re-subscribe.", "forgotten"),
    ("ann@x is in a compliance state due to unsubscribe and cannot be subscribed.", "compliance"),
    ("ann@x is already a list member.", "exists"),
    ("Your merge fields were invalid.", "merge_fields_refused"),
    ("An email address must contain a single @", "address_refused"),
    ("ann@x has signed up to a lot of lists very recently; we're not allowing more signups for now",
     "signed_up_too_often"),
    ("something never seen", "refused_by_mailchimp")])
def test_a_refusal_of_a_person_becomes_one_of_our_reasons(text: str, reason: str) -> None:
    assert mc.refusal({"error": text}) == reason


class Answer:
    """An answer as parse_answer reads it."""

    def __init__(self, body: Any) -> None:
        self.body = body

    def json(self) -> Any:
        return self.body


@pytest.mark.parametrize(("status", "content_type", "error"), [
    (429, "application/problem+json", ApiTransient), (500, "application/problem+json", ApiTransient),
    (503, "text/html", ApiTransient), (403, "text/html", ApiTransient),
    (403, "application/problem+json", ApiFinal), (404, "application/problem+json", ApiFinal),
    (302, "text/html", ApiFinal)])
def test_errors_are_told_apart_by_who_can_act(status: int, content_type: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        mc.parse_answer(status, content_type, Answer({"title": "T"}))  # type: ignore[arg-type]


def test_an_error_shows_no_address() -> None:
    body = {"title": "Member Exists", "detail": "ann.lee@harbor.example is already a list member.",
            "errors": [{"field": "email", "message": "ann.lee@harbor.example"}]}
    with pytest.raises(ApiFinal) as error:
        mc.parse_answer(400, "application/problem+json", Answer(body))  # type: ignore[arg-type]
    assert "ann.lee" not in str(error.value)
    assert "Member Exists" in str(error.value)


@pytest.fixture
def checked_client(mailchimp: Any) -> Iterator[mc.Client]:
    """A client to the local Mailchimp whose every exchange is held against the contract."""
    client = mc.open_client(OWNER_KEY, mailchimp.mailchimp_url)
    client.http.hooks["response"].append(lambda answer, **_: check_exchange(answer.request, answer))
    yield client
    client.http.close()


@needs_contracts
def test_what_we_send_and_read_fits_the_published_contract(checked_client: mc.Client) -> None:
    client = checked_client
    mc.fetch_account(client)
    audience_id = mc.fetch_audiences(client)[0]["audience_id"]
    mc.fetch_audience_name(client, audience_id)
    client.send(mc.build_merge_field(audience_id, "CITY", "text"))
    tags = {row["tag"] for row in mc.fetch_merge_fields(client, audience_id)}
    segment = client.send(mc.build_segment(audience_id, "mixpanel_contract"))
    people = [{"address": f"contract{n}@harbor.example", "merge_fields": {"FNAME": "Ann"} if "FNAME" in tags else {}}
              for n in range(3)]
    added = mc.parse_batch_subscribe(client.send(mc.build_batch_subscribe(
        audience_id, people, "subscribed", "mixpanel_contract")))
    assert len(added.created) == 3
    client.send(mc.build_segment_update(audience_id, segment["id"], [people[0]["address"]], [people[1]["address"]]))
    assert len(mc.fetch_segment_members(client, audience_id, segment["id"])) == 2
    client.send(mc.build_fields_update(audience_id, added.created[0]["id"], {"CITY": "Berlin"}))
    assert len(mc.fetch_members(client, audience_id, merge_fields=True)) > 600
    assert mc.count_members(client, audience_id) > len(mc.fetch_members(client, audience_id, since="2030-01-01")) == 0
    assert set(mc.fetch_members(client, audience_id, "archived")["status"]) == {"archived"}
    with pytest.raises(ApiFinal) as nobody:
        client.send(mc.build_segment_update(audience_id, segment["id"], ["nobody@harbor.example"], []))
    assert mc.nobody_on_list(nobody.value)
