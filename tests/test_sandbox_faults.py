"""The local Mailchimp going wrong on request, its open behaviours switched, and who changed whose consent."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import forked
import pytest
import requests

from cohortsync import sandbox
from cohortsync.sandbox.life import remembered
from cohortsync.sandbox.mailchimp import consent
from cohortsync.sandbox.mailchimp.faults import FAULTS
from cohortsync.sandbox.mailchimp.switches import DEFAULTS

KEY = "0" * 32 + "-us6"
Breaches = Callable[[], list[str]]


class Account:
    """An account as one app sees it; ``app`` is the user name that it comes with."""

    def __init__(self, url: str, app: str = "any", audience: str = "") -> None:
        self.url, self.app, self.audience = url, app, audience

    def ask(self, method: str, path: str, body: Any = None, **query: Any) -> requests.Response:
        return requests.request(method, self.url + path, auth=(self.app, KEY), json=body, params=query, timeout=20)

    def set(self, **settings: Any) -> requests.Response:
        return requests.post(f"{self.url}/sandbox/settings", json=settings, timeout=20)

    def subscribe(self, *names: str, **more: Any) -> Any:
        members = [{"email_address": at(name), "status_if_new": "subscribed", "tags": ["T"]} for name in names]
        return self.ask("POST", self.audience, {"members": members, "update_existing": False, **more}).json()

    def segment(self, *names: str, name: str = "T") -> str:
        body = {"name": name, "static_segment": [at(each) for each in names]}
        return f"{self.audience}/segments/{self.ask('POST', self.audience + '/segments', body).json()['id']}"

    def member(self, name: str) -> Any:
        return self.ask("GET", f"{self.audience}/members/{at(name)}").json()

    def on(self, segment: str) -> set[str]:
        members = self.ask("GET", segment + "/members", count=1000, include_unsubscribed="true").json()["members"]
        return {member["email_address"].partition("@")[0] for member in members}


def at(name: str) -> str:
    return f"{name}@shop.example"


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder outside of what is looked through for breaches at the end, for they are made here."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def running(place: Path) -> Iterator[sandbox.Sandbox]:
    with forked.sandbox(place) as running:
        yield running


@pytest.fixture
def account(running: sandbox.Sandbox) -> Account:
    """An audience of a test's own, and every setting as it is by default."""
    account = Account(running.mailchimp_url)
    account.set(**DEFAULTS)
    body = {"name": "Own", "contact": {"company": "C", "address1": "A", "city": "T", "country": "US"},
            "permission_reminder": "You asked.", "email_type_option": False, "campaign_defaults": {
                "from_name": "N", "from_email": "n@shop.example", "subject": "", "language": "en"}}
    account.audience = f"/3.0/lists/{account.ask('POST', '/3.0/lists', body).json()['id']}"
    return account


# faults

@pytest.mark.parametrize(("fault", "status", "type_"), [
    ("429", 429, "application/problem+json"), ("429_html", 429, "text/html; charset=utf-8"),
    ("403_html", 403, "text/html; charset=utf-8"), ("503_html", 503, "text/html; charset=utf-8"),
    ("500", 500, "application/problem+json")])
def test_a_refusal_by_fault_is_answered_in_mailchimps_form_and_changes_nothing(
        account: Account, fault: str, status: int, type_: str) -> None:
    account.set(faults=fault, fault_rate=1)
    answer = account.ask("POST", account.audience, {"members": [{"email_address": at("a"), "status": "subscribed"}]})
    assert (answer.status_code, answer.headers["content-type"]) == (status, type_)
    account.set(fault_rate=0)
    assert account.member("a")["status"] == 404


@pytest.mark.parametrize(("fault", "done"), [("reset_before", False), ("reset_after", True), ("lost", True)])
@pytest.mark.parametrize("record", ["", "yes"])
def test_a_cut_connection_leaves_the_caller_without_an_answer(account: Account, fault: str, done: bool,
                                                              record: str) -> None:
    account.set(faults=fault, fault_rate=1, record=record)
    with pytest.raises(requests.RequestException) as cut:
        account.ask("POST", account.audience, {"members": [{"email_address": at("ann"), "status": "subscribed"}]})
    assert isinstance(cut.value, requests.ConnectionError) is (fault != "lost")
    account.set(fault_rate=0, record="")
    assert (account.member("ann")["status"] == "subscribed") is done


@pytest.mark.parametrize("fault", ["slow_before", "slow_after"])
def test_a_slow_answer_takes_effect_although_the_caller_gave_up(account: Account, fault: str) -> None:
    account.set(faults=fault, fault_rate=1, slow_seconds=0.6)
    body = {"members": [{"email_address": at("ann"), "status": "subscribed"}]}
    with pytest.raises(requests.ReadTimeout):
        requests.post(account.url + account.audience, json=body, auth=("any", KEY), timeout=(20, 0.2))
    account.set(fault_rate=0)
    found = [account.member("ann")["status"]]
    while found[-1] != "subscribed" and len(found) < 500:
        found.append(account.member("ann")["status"])
    assert found[-1] == "subscribed"


def test_another_app_takes_connections_away(account: Account) -> None:
    account.set(elsewhere=10)
    assert account.ask("GET", "/3.0/ping").status_code == 429
    account.set(elsewhere=9)
    assert account.ask("GET", "/3.0/ping").status_code == 200


def test_whom_a_request_names_may_have_changed_just_before(account: Account) -> None:
    account.subscribe("ann")
    account.set(faults="stirred", fault_rate=1)
    answers = [account.subscribe(f"new{number}") for number in range(12)]
    assert {answer["errors"][0]["error_code"] for answer in answers} == {"ERROR_CONTACT_EXISTS"}
    segment = account.segment()
    for _ in range(12):
        account.ask("POST", segment, {"members_to_add": [at("ann")]})
    assert account.member("ann")["status"] in ("unsubscribed", "cleaned", "archived")


def test_some_people_are_refused_one_by_one_and_always_the_same_ones(account: Account) -> None:
    account.set(refused_share=0.3, fault_seed=7)
    names = [f"p{number}" for number in range(200)]
    refused = [{error["email_address"] for error in account.subscribe(*names)["errors"]
                if error["error_code"] == "ERROR_GENERIC"} for _ in range(2)]
    assert refused[0] == refused[1]
    assert 30 < len(refused[0]) < 90


def test_one_seed_draws_the_same_faults_every_time(account: Account) -> None:
    def drawn() -> list[int]:
        account.set(faults="429,500,503_html", fault_rate=0.5, fault_seed=3)
        return [account.ask("GET", "/3.0/ping").status_code for _ in range(30)]

    first = drawn()
    assert drawn() == first
    assert set(first) == {200, 429, 500, 503}


def test_all_names_every_fault(account: Account) -> None:
    account.set(faults="all", fault_rate=0.9, slow_seconds=0)
    for _ in range(150):
        try:
            account.ask("GET", account.audience + "/members")
        except requests.RequestException:
            continue
    account.set(fault_rate=0)
    assert account.ask("GET", "/3.0/ping").status_code == 200
    assert len(FAULTS) == 12


def test_a_setting_that_is_none_is_refused(account: Account) -> None:
    assert account.set(fault_rats=1).status_code == 400
    assert account.set(archived_in_batch="perhaps").status_code == 400


def test_what_passes_is_kept_when_asked_and_holds_no_key(account: Account, place: Path) -> None:
    account.set(record="yes")
    account.subscribe("ann")
    account.set(record="")
    text = (place / "exchanges.ndjson").read_text()
    line = json.loads(text.splitlines()[-1])
    assert (line["method"], line["path"], line["status"]) == ("POST", account.audience, 200)
    assert json.loads(line["answer"])["total_created"] == 1
    assert KEY not in text
    assert (place / "exchanges.ndjson").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("fault", ["reset_after", "lost"])
def test_what_took_effect_is_kept_whole_although_its_answer_was_cut(account: Account, place: Path, fault: str) -> None:
    account.set(record="yes", faults=fault, fault_rate=1)
    with pytest.raises(requests.RequestException):
        account.subscribe("ann")
    account.set(record="")
    line = json.loads((place / "exchanges.ndjson").read_text().splitlines()[-1])
    assert (line["path"], json.loads(line["answer"])["total_created"]) == (account.audience, 1)


# behaviours that Mailchimp leaves open

def test_an_archived_person_in_a_batch_comes_back_or_is_refused(account: Account) -> None:
    account.subscribe("ann")
    account.ask("DELETE", f"{account.audience}/members/{at('ann')}")
    account.set(archived_in_batch="refused")
    assert account.subscribe("ann")["errors"][0]["error_code"] == "ERROR_CONTACT_EXISTS"
    account.set(archived_in_batch="brought_back")
    assert account.subscribe("ann")["total_created"] == 1


def test_a_batch_does_something_else_than_it_was_asked_when_it_is_set_to(account: Account) -> None:
    account.set(batch_status="pending", batch_updates="yes")
    assert account.subscribe("ann")["new_members"][0]["status"] == "pending"
    again = account.subscribe("ann")
    assert (again["total_updated"], again["updated_members"][0]["status"], again["errors"]) == (1, "pending", [])


def test_a_batch_shows_its_tags_or_not(account: Account) -> None:
    assert account.subscribe("ann")["new_members"][0]["tags"]
    account.set(batch_tags="missing")
    assert account.subscribe("ben")["new_members"][0]["tags"] == []
    assert account.member("ben")["tags"]


def test_a_tag_goes_to_the_oldest_or_the_newest_segment_of_its_name(account: Account) -> None:
    old, new = account.segment(), account.segment()
    account.subscribe("ann")
    account.set(tag_name="newest")
    account.subscribe("ben")
    assert (account.on(old), account.on(new)) == ({"ann"}, {"ben"})


def test_a_second_segment_of_a_name_is_made_or_refused(account: Account) -> None:
    assert account.segment() != account.segment()
    account.set(duplicate_names="refused")
    assert account.ask("POST", account.audience + "/segments", {"name": "T", "static_segment": []}).status_code == 400


def test_a_chunk_with_nobody_to_add_takes_people_off_or_not(account: Account) -> None:
    account.subscribe("ann")
    segment = account.segment("ann")
    change = {"members_to_add": [at("nobody")], "members_to_remove": [at("ann")]}
    assert account.ask("POST", segment, change).status_code == 400
    assert account.on(segment) == {"ann"}
    account.set(nobody_in_chunk="removes")
    assert account.ask("POST", segment, change).status_code == 200
    assert account.on(segment) == set()


def test_a_patched_membership_is_added_or_replaces(account: Account) -> None:
    account.subscribe("ann", "ben")
    segment = account.segment("ann")
    account.ask("PATCH", segment, {"static_segment": [at("ben")]})
    assert account.on(segment) == {"ann", "ben"}
    account.set(patch_segment="replaces")
    account.ask("PATCH", segment, {"static_segment": [at("ben")]})
    assert account.on(segment) == {"ben"}


def test_pending_people_are_hidden_on_a_segment_or_listed(account: Account) -> None:
    account.ask("POST", account.audience + "/members", {"email_address": at("ann"), "status": "pending"})
    segment = account.segment("ann")
    assert account.on(segment) == set()
    account.set(pending_on_segment="listed")
    assert account.on(segment) == {"ann"}


def test_an_archived_person_is_passed_over_by_a_segment_call_or_added(account: Account) -> None:
    account.subscribe("ann", "ben")
    segment = account.segment()
    account.ask("DELETE", f"{account.audience}/members/{at('ann')}")
    both = {"members_to_add": [at("ann"), at("ben")]}
    assert account.ask("POST", segment, both).json()["total_added"] == 1
    account.set(archived_on_segment="added")
    assert account.ask("POST", segment, both).json()["total_added"] == 1


def test_a_tag_moves_last_changed_or_not(account: Account) -> None:
    account.subscribe("ann")
    segment, before = account.segment(), account.member("ann")["last_changed"]
    account.set(tag_changes_member="yes")
    found = [before]
    while found[-1] == before and len(found) < 1000:  # whole seconds
        account.ask("POST", segment, {"members_to_remove": [at("ann")]})
        account.ask("POST", segment, {"members_to_add": [at("ann")]})
        found.append(account.member("ann")["last_changed"])
    assert found[-1] > before


# consent

@pytest.fixture
def breaches(account: Account, place: Path) -> Breaches:
    """What was done to consent in this test's audience."""
    return lambda: [line for line in consent.breaches(place / "mailchimp.sqlite") if account.audience in line]


@pytest.fixture
def ours(account: Account) -> Account:
    account.subscribe("ann", "ben")
    return Account(account.url, "cohortsync", account.audience)


def test_what_a_sync_may_do_is_no_breach(ours: Account, breaches: Breaches) -> None:
    ours.subscribe("eve")
    segment = ours.segment("ann", name="Cohort")
    ours.ask("POST", segment, {"members_to_add": [at("ben")], "members_to_remove": [at("ann")]})
    ours.ask("PATCH", f"{ours.audience}/members/{at('ben')}", {"merge_fields": {"FNAME": "Ben"}})
    assert breaches() == []


@pytest.mark.parametrize("body", [{"status": "unsubscribed"}, {"status": "transactional"}])
def test_another_status_is_a_breach_and_is_told_without_the_address(
        ours: Account, breaches: Breaches, body: dict[str, str]) -> None:
    ours.ask("PATCH", f"{ours.audience}/members/{at('ann')}", body)
    whose = hashlib.md5(at("ann").encode()).hexdigest()[:8]
    assert breaches() == [f"PATCH {ours.audience}/members/…: status of {whose}, subscribed to "
                               f"{body['status']}"]


def test_bringing_someone_back_is_a_breach(ours: Account, account: Account, breaches: Breaches) -> None:
    account.ask("DELETE", f"{account.audience}/members/{at('ann')}")
    assert breaches() == []
    ours.subscribe("ann")
    assert len(breaches()) == 1


def test_archiving_and_deleting_are_breaches(ours: Account, breaches: Breaches) -> None:
    ours.ask("DELETE", f"{ours.audience}/members/{at('ann')}")
    ours.ask("POST", f"{ours.audience}/members/{at('ben')}/actions/delete-permanent")
    assert [line.split(": ")[1].split()[0] for line in breaches()] == ["status", "tag", "deleted"]


def test_wiping_tags_is_a_breach(ours: Account, breaches: Breaches) -> None:
    ours.subscribe("ann", update_existing=True, sync_tags=True)
    ours.ask("PATCH", ours.segment("ann", name="Cohort"), {"static_segment": []})
    assert len(breaches()) == 2


def test_taking_people_off_a_segment_of_others_is_a_breach(ours: Account, account: Account, breaches: Breaches) -> None:
    ours.ask("POST", account.segment("ann", name="Hers"), {"members_to_remove": [at("ann")]})
    assert len(breaches()) == 1


def test_taking_people_off_a_segment_that_was_handed_over_is_none(
        ours: Account, account: Account, breaches: Breaches, place: Path) -> None:
    hers = account.segment("ann", name="Hers")
    with remembered(place / "mailchimp.sqlite") as db:
        consent.hand_over(db, int(hers.rpartition("/")[2]))
    ours.ask("POST", hers, {"members_to_remove": [at("ann")]})
    assert breaches() == []


def test_what_people_do_themselves_is_no_breach(ours: Account, breaches: Breaches) -> None:
    ours.ask("POST", ours.audience.replace("/3.0/lists", "/people") + f"/{at('ann')}/unsubscribe")
    assert ours.member("ann")["status"] == "unsubscribed"
    assert breaches() == []
