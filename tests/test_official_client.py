"""Mailchimp's own Python client, unchanged, against the local Mailchimp."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import forked
import pytest
from mailchimp_marketing import Client  # type: ignore[import-untyped]
from mailchimp_marketing.api_client import ApiClientError  # type: ignore[import-untyped]

from cohortsync.sandbox import Sandbox

OWNER = "0" * 32 + "-us6"


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with forked.sandbox(tmp_path_factory.mktemp("official")) as running:
        yield running


def connect(sandbox: Sandbox, config: dict[str, str]) -> Any:
    """The client on a host of ours; everything else about it is Mailchimp's."""
    client = Client(config)
    client.api_client.host = f"{sandbox.mailchimp_url}/3.0"
    return client


@pytest.fixture(scope="module")
def client(sandbox: Sandbox) -> Any:
    return connect(sandbox, {"api_key": OWNER})


@pytest.fixture
def audience(client: Any, request: pytest.FixtureRequest) -> str:
    """An audience of the test's own."""
    made = client.lists.create_list(
        {
            "name": request.node.name,
            "contact": {"company": "C", "address1": "A", "city": "T", "country": "US"},
            "permission_reminder": "You asked.",
            "campaign_defaults": {
                "from_name": "N",
                "from_email": "n@shop.example",
                "subject": "",
                "language": "en",
            },
            "email_type_option": False,
        }
    )
    return str(made["id"])


def subscribe(client: Any, audience: str, *addresses: str) -> Any:
    members = [{"email_address": each, "status_if_new": "subscribed"} for each in addresses]
    body = {"members": members, "update_existing": False}
    return client.lists.batch_list_members(audience, body, skip_merge_validation=True)


def test_it_pings_with_a_key_or_a_token(client: Any, sandbox: Sandbox) -> None:
    by_token = connect(sandbox, {"access_token": OWNER, "server": "us6"})
    assert client.ping.get() == by_token.ping.get() == {"health_status": "Everything's Chimpy!"}


def test_it_reads_the_account_and_its_audiences(client: Any) -> None:
    assert client.root.get_root()["role"] == "owner"
    assert client.lists.get_all_lists(count=1000)["lists"][0]["name"] == "Newsletter"


def test_it_subscribes_a_batch_and_reads_the_members(client: Any, audience: str) -> None:
    assert subscribe(client, audience, "ann@shop.example", "ben@shop.example")["total_created"] == 2
    found = client.lists.get_list_members_info(audience, fields=["members.email_address", "total_items"])
    addresses = [{"email_address": "ann@shop.example"}, {"email_address": "ben@shop.example"}]
    assert found == {"members": addresses, "total_items": 2}


def test_it_sets_a_member(client: Any, audience: str) -> None:
    body = {"email_address": "ann@shop.example", "status_if_new": "pending"}
    assert client.lists.set_list_member(audience, "ann@shop.example", body)["status"] == "pending"
    assert client.lists.get_list_member(audience, "ann@shop.example")["status"] == "pending"


def test_it_fills_a_segment_and_reads_it(client: Any, audience: str) -> None:
    subscribe(client, audience, "ann@shop.example", "ben@shop.example")
    made = client.lists.create_segment(audience, {"name": "Cohort", "static_segment": ["ann@shop.example"]})
    body = {"members_to_add": ["ben@shop.example"], "members_to_remove": ["ann@shop.example"]}
    changed = client.lists.batch_segment_members(body, audience, made["id"])
    assert (changed["total_added"], changed["total_removed"]) == (1, 1)
    held = client.lists.get_segment_members_list(audience, made["id"], count=1000, include_cleaned=True)
    assert [member["email_address"] for member in held["members"]] == ["ben@shop.example"]
    assert [each["name"] for each in client.lists.list_segments(audience, type="static")["segments"]] == ["Cohort"]


def test_it_tags_a_member(client: Any, audience: str) -> None:
    subscribe(client, audience, "ann@shop.example")
    tags = {"tags": [{"name": "Loyal", "status": "active"}], "is_syncing": True}
    client.lists.update_list_member_tags(audience, "ann@shop.example", tags)
    found = client.lists.get_list_member_tags(audience, "ann@shop.example")
    assert [tag["name"] for tag in found["tags"]] == ["Loyal"]


def test_it_gets_a_refusal_as_its_own_error(client: Any, audience: str) -> None:
    with pytest.raises(ApiClientError) as raised:
        client.lists.get_list_member(audience, "nobody@shop.example")
    assert raised.value.status_code == 404
