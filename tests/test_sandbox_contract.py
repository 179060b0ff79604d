"""The local Mailchimp against Mailchimp's published contract: every route, requests and answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from contract import check_exchange, needs_contracts, request_errors, response_errors

from cohortsync.sandbox import advance, start

pytestmark = needs_contracts

OWNER = "0" * 32 + "-us6"
SEED = [
    {"email_address": "ann@shop.example", "status": "subscribed", "merge_fields": {"FNAME": "Ann"}},
    {"email_address": "ben@shop.example", "status": "unsubscribed", "tags": ["Old"]},
    {"email_address": "cem@shop.example", "status": "cleaned"},
    {"email_address": "dee@shop.example", "status": "archived"},
]
NEW_AUDIENCE = {
    "name": "Second",
    "contact": {"company": "C", "address1": "A", "city": "T", "country": "US"},
    "permission_reminder": "You asked.",
    "campaign_defaults": {"from_name": "N", "from_email": "n@shop.example", "subject": "", "language": "en"},
    "email_type_option": False,
}
BATCH = {
    "members": [
        {"email_address": "new@shop.example", "status_if_new": "subscribed", "tags": ["Fresh"]},
        {"email_address": "ann@shop.example", "status_if_new": "subscribed"},
        {"email_address": "not an address", "status_if_new": "subscribed"},
    ],
    "update_existing": False,
}


class Account:
    """A session on the account that checks every exchange it has."""

    def __init__(self, url: str, key: str = OWNER, folder: Path = Path()) -> None:
        self.url, self.session, self.folder = f"{url}/3.0", requests.Session(), folder
        self.session.auth = ("any", key)

    def call(self, method: str, path: str, body: Any = None, expect: int = 200, **query: Any) -> Any:
        asked = requests.Request(method, self.url + path, json=body, params=query)
        request = self.session.prepare_request(asked)
        response = self.session.send(request, timeout=30)
        assert response.status_code == expect, response.text
        if expect < 400:
            check_exchange(request, response)
        else:
            assert response_errors(request, response) == []
        return response.json() if response.content else None


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    folder: Path = tmp_path_factory.mktemp("contract")
    seed = folder / "seed.ndjson"
    seed.write_text("\n".join(map(json.dumps, SEED)))
    with start(folder / "state", seed=seed) as sandbox:
        yield Account(sandbox.mailchimp_url, folder=folder / "state")


@pytest.fixture(scope="module")
def audience(account: Account) -> str:
    return "/lists/" + account.call("GET", "/lists")["lists"][0]["id"]


@pytest.fixture(scope="module")
def segment(account: Account, audience: str) -> str:
    body = {"name": "Cohort", "static_segment": ["ann@shop.example", "ben@shop.example"]}
    made = account.call("POST", audience + "/segments", body)
    return f"{audience}/segments/{made['id']}"


def test_the_account_and_its_audiences_keep_to_the_contract(account: Account, audience: str) -> None:
    account.call("GET", "/ping")
    account.call("GET", "/")
    account.call("GET", "/lists", count=1000, fields="lists.id,lists.name,total_items")
    account.call("POST", "/lists", NEW_AUDIENCE)
    account.call("GET", audience, include_total_contacts="true")


def test_merge_fields_keep_to_the_contract(account: Account, audience: str) -> None:
    account.call("POST", audience + "/merge-fields", {"name": "Plan", "tag": "PLAN", "type": "text"})
    account.call("GET", audience + "/merge-fields", count=1000)


def test_reading_members_keeps_to_the_contract(account: Account, audience: str) -> None:
    account.call("GET", audience + "/members", count=1000)
    account.call("GET", audience + "/members", status="archived", since_last_changed="2020-01-01T00:00:00Z")
    account.call("GET", audience + "/members", fields="members.email_address,members.status,total_items")
    account.call("GET", audience + "/members/ben@shop.example")


def test_writing_a_member_keeps_to_the_contract(account: Account, audience: str) -> None:
    member = audience + "/members/eva@shop.example"
    account.call("POST", audience + "/members", {"email_address": "eva@shop.example", "status": "pending"})
    account.call("PUT", member, {"email_address": "eva@shop.example", "status_if_new": "subscribed"})
    account.call("PATCH", member, {"merge_fields": {"FNAME": "Eva"}, "status": "subscribed"})
    account.call("POST", member + "/tags", {"tags": [{"name": "T", "status": "active"}], "is_syncing": True}, 204)
    account.call("GET", member + "/tags")
    account.call("DELETE", member, expect=204)
    account.call("POST", member + "/actions/delete-permanent", expect=204)


def test_batch_subscribe_keeps_to_the_contract(account: Account, audience: str) -> None:
    answer = account.call("POST", audience, BATCH, skip_merge_validation="true", skip_duplicate_check="true")
    assert (answer["total_created"], answer["error_count"]) == (1, 2)


def test_segments_keep_to_the_contract(account: Account, audience: str, segment: str) -> None:
    account.call("GET", audience + "/segments", type="static", count=1000)
    account.call("GET", segment)
    account.call("PATCH", segment, {"name": "Cohort, renamed"})
    answer = account.call(
        "POST", segment, {"members_to_add": ["ann@shop.example"], "members_to_remove": ["dee@shop.example"]}
    )
    assert answer["error_count"] == 2
    account.call("GET", segment + "/members", include_unsubscribed="true", include_cleaned="true")
    account.call("GET", audience + "/tag-search", name="Coh")
    gone = account.call("POST", audience + "/segments", {"name": "Gone", "static_segment": []})
    account.call("DELETE", f"{audience}/segments/{gone['id']}", expect=204)


def test_the_reports_of_a_campaign_keep_to_the_contract(account: Account, segment: str) -> None:
    happened = advance(account.folder, 7200).mailchimp
    assert happened["campaigns"] == 1 and happened["sent"]
    (report,) = account.call("GET", "/reports", since_send_time="2020-01-01T00:00:00Z", count=1000)["reports"]
    account.call("GET", f"/reports/{report['id']}")
    for part in ("email-activity", "sent-to", "unsubscribed"):
        account.call("GET", f"/reports/{report['id']}/{part}", count=1000)
    account.call("GET", "/reports/0000000000", expect=404)


def test_refusals_keep_to_the_contract(account: Account, audience: str, segment: str) -> None:
    account.call("GET", "/lists/0000000000", expect=404)
    account.call("GET", audience + "/members/nobody@shop.example", expect=404)
    account.call("GET", audience + "/members", expect=422, fields="members.emial_address")
    account.call("POST", audience, {"members": []}, 400)
    account.call("POST", segment, {"members_to_add": ["nobody@shop.example"]}, 400)
    account.call("DELETE", audience + "/members/cem@shop.example", expect=405)
    Account(account.url.removesuffix("/3.0"), OWNER[:-1] + "3").call("GET", "/ping", expect=401)


def test_the_contract_is_asked_in_earnest(account: Account, audience: str) -> None:
    wrong = {"members": [{"email_address": "ann@shop.example"}], "update_exsiting": True}
    request = account.session.prepare_request(requests.Request("POST", account.url + audience, json=wrong))
    assert request_errors(request)
    response = account.session.send(request, timeout=30)
    response._content = b'{"new_members": "none"}'
    assert response_errors(request, response)
