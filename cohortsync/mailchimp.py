"""Mailchimp's Marketing API 3.0: requests built, answers read, and the one thin place that sends them.

Everything the package knows of the API stands here. ``build_`` and ``parse_`` are pure; ``fetch_`` and
``apply_`` send. Source: https://mailchimp.com/developer/marketing/api/
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, urlsplit

import pandas as pd
import requests
from pydantic_core import to_json
from requests.adapters import HTTPAdapter
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from cohortsync import emails
from cohortsync.config import Settings, is_local, is_rehearsal
from cohortsync.errors import ApiFinal, ApiTransient, BadInput, CohortsyncError, ConfigurationError

CHUNK = 500
PAGE = 1000
WRITING_ROLES = ("owner", "admin", "manager")
JSON = {"Content-Type": "application/json"}
MEMBER_FIELDS = "members.id,members.email_address,members.status,members.tags,members.last_changed,total_items"


class Unanswered(CohortsyncError):
    """A request left and no answer came: a write may or may not have taken effect."""

    exit_status = ApiTransient.exit_status


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None


# where a key may go

def base_url(key: str, local: str | None = None) -> str:
    """The API's address for a key; ``local`` (loopback only) takes its place in a rehearsal.

    Raises ConfigurationError when the key does not end in a data centre (``…-us6``) or ``local`` is elsewhere.
    """
    data_centre = re.fullmatch(r"[0-9A-Za-z]+-([a-z]+[0-9]+)", key)
    if not data_centre:
        raise ConfigurationError("The Mailchimp key has no data centre at its end (it should read like …-us6). "
                                 "Copy it again from Mailchimp: Profile, Extras, API keys.")
    if not local:
        return f"https://{data_centre[1]}.api.mailchimp.com/3.0"
    if not is_local(local):
        raise ConfigurationError(f"--base-url takes a local rehearsal such as http://127.0.0.1:8018, not {local!r}. "
                                 "For a real account leave it out: its address follows from the key.")
    return f"http://{urlsplit(local).netloc}/3.0"


@dataclass
class Client:
    """One account's API: where it is, the session that carries the key, and how many requests were made.

    ``slots``: the most requests at once; ``wrote``: how many of those made could change something;
    ``dated``: what time the server said it was in its last answer.
    """

    url: str
    http: requests.Session
    settings: Settings
    slots: int = 4
    made: int = 0
    wrote: int = 0
    dated: datetime | None = None
    _count: threading.Lock = field(default_factory=threading.Lock)

    def limit(self, slots: int) -> None:
        """Let so many requests be open at once, and no more."""
        self.slots = slots
        for scheme in ("https://", "http://"):
            self.http.mount(scheme, HTTPAdapter(pool_maxsize=slots, pool_block=True))

    def send(self, request: Request, noting: Callable[[int], None] = lambda _try: None) -> dict[str, Any]:
        """The answer's JSON; tries again what may pass, with backoff and jitter.

        ``noting`` is called before each try with its number; what it raises ends the tries.
        Raises Unanswered for a write without an answer, ApiTransient when the tries are used up, ApiFinal for a no.
        """
        retrying = Retrying(
            retry=retry_if_exception_type((ApiTransient, Unanswered) if request.method == "GET" else ApiTransient),
            before=lambda state: noting(state.attempt_number),
            stop=stop_after_attempt(self.settings.attempts), reraise=True,
            wait=wait_random_exponential(self.settings.backoff_seconds, self.settings.backoff_max_seconds))
        return retrying(self._send_once, request)

    def _send_once(self, request: Request) -> dict[str, Any]:
        with self._count:
            self.made += 1
            self.wrote += request.method != "GET"
        try:
            answer = self.http.request(
                request.method, self.url + request.path, params=dict(request.params),
                data=None if request.body is None else to_json(request.body), headers=JSON,
                timeout=(10, self.settings.timeout_seconds), allow_redirects=False)
        except requests.ConnectTimeout as error:
            raise ApiTransient(f"Mailchimp could not be reached ({type(error).__name__}). Try again later.") from None
        except requests.RequestException as error:
            never_left = any(word in str(error).lower() for word in ("refused", "resolve", "certificate"))
            kind = ApiTransient if never_left else Unanswered
            advice = "Start the local Mailchimp: cohortsync sandbox." if is_rehearsal(self.url) else "Try again later."
            raise kind(f"Mailchimp did not answer at {self.url} ({type(error).__name__}). {advice}") from None
        self.dated = _date(answer) or self.dated
        return parse_answer(answer.status_code, answer.headers.get("Content-Type", ""), answer)


def open_client(key: str, local: str | None = None, settings: Settings | None = None,
                app: str = "cohortsync") -> Client:
    """A client that sends this key to its own host and nowhere else; ``app``: the name it goes by."""
    http = requests.Session()
    http.auth = (app, key)
    url = base_url(key, local)
    http.trust_env = not is_rehearsal(url)
    client = Client(url, http, settings or Settings())
    client.limit(client.settings.connections)
    return client


def parse_answer(status: int, content_type: str, answer: requests.Response) -> dict[str, Any]:
    """The JSON of an answer; raises by who can act. Source: …/marketing/docs/errors/"""
    if status == 204:
        return {}
    problem = "json" in content_type
    body = _json(answer) if problem else {}
    if 200 <= status < 300:
        return body
    detail = emails.scrub(str(body.get("detail", "")))
    if status == 429 or status >= 500 or (status == 403 and not problem):
        raise ApiTransient(f"Mailchimp answered {status} {detail or 'without a reason'}. Try again later.")
    title = str(body.get("title", "")) or "no title"
    fields = "; ".join(f"{e.get('field', '')}: {emails.scrub(str(e.get('message', '')))}"
                       for e in body.get("errors", []) if isinstance(e, dict))
    raise ApiFinal(f"Mailchimp said no: {status} {title}. {detail} {fields}".strip(), status=status, title=title,
                   detail=f"{detail} {fields}".strip())


def _date(answer: requests.Response) -> datetime | None:
    try:
        return parsedate_to_datetime(answer.headers.get("Date", "")).astimezone(UTC)
    except ValueError:
        return None


def _json(answer: requests.Response) -> dict[str, Any]:
    try:
        body = answer.json()
    except ValueError:
        raise Unanswered("Mailchimp's answer ended early. Try again later.") from None
    return body if isinstance(body, dict) else {}


def audience_path(audience_id: str) -> str:
    """The path of an audience; only Mailchimp's own kind of id is let into an address."""
    if not re.fullmatch(r"[0-9A-Za-z]{1,40}", audience_id):
        raise BadInput(f"{audience_id!r} is not an audience id. In Mailchimp it stands under Audience, Settings; "
                       "here: cohortsync connect mailchimp lists them.")
    return f"/lists/{quote(audience_id)}"


# reading

def fetch_account(client: Client) -> dict[str, str]:
    """``account_id, account_name, role`` of the key's owner. Source: …/marketing/api/root/"""
    root = client.send(Request("GET", "/"))
    return {"account_id": str(root.get("account_id", "")), "account_name": str(root.get("account_name", "")),
            "role": str(root.get("role", "")).lower()}


def fetch_audiences(client: Client) -> list[dict[str, str]]:
    """``audience_id, name`` of every audience. Source: …/marketing/api/lists/"""
    rows = _pages(client, "/lists", "lists", {"fields": "lists.id,lists.name,total_items"})
    return [{"audience_id": row["id"], "name": row["name"]} for row in rows]


def fetch_audience_name(client: Client, audience_id: str) -> str:
    """What an audience is called."""
    return str(client.send(Request("GET", audience_path(audience_id), {"fields": "id,name"}))["name"])


def fetch_merge_fields(client: Client, audience_id: str) -> list[dict[str, Any]]:
    """``tag, type, options`` of the audience's merge fields. Source: …/marketing/api/list-merges/"""
    return _pages(client, f"{audience_path(audience_id)}/merge-fields", "merge_fields",
                  {"fields": "merge_fields.tag,merge_fields.type,merge_fields.options,total_items"})


def fetch_members(client: Client, audience_id: str, status: str | None = None, since: str | None = None,
                  merge_fields: bool = False) -> pd.DataFrame:
    """Every member, or those of one status, or changed since an instant; archived ones only by their status.

    Columns: ``member_hash, address, status, last_changed, tags`` (a list of tag ids), ``merge_fields`` if asked for.
    Source: …/marketing/api/list-members/
    """
    params = {"fields": f"members.merge_fields,{MEMBER_FIELDS}" if merge_fields else MEMBER_FIELDS}
    params |= {"status": status} if status else {}
    params |= {"since_last_changed": since} if since else {}
    return parse_members(_pages(client, _members_path(audience_id), "members", params), merge_fields)


def count_members(client: Client, audience_id: str, status: str | None = None) -> int:
    """How many members the audience has, without the archived, or how many of one status."""
    params = {"fields": "total_items", "count": 1} | ({"status": status} if status else {})
    return int(client.send(Request("GET", _members_path(audience_id), params)).get("total_items", 0))


def _members_path(audience_id: str) -> str:
    return f"{audience_path(audience_id)}/members"


def parse_members(rows: Sequence[Mapping[str, Any]], merge_fields: bool = False) -> pd.DataFrame:
    """One row per member: ``member_hash, address, status, last_changed, tags`` (ids), ``merge_fields`` if asked."""
    asked = {"id": "member_hash", "email_address": "address", "status": "status", "last_changed": "last_changed",
             "tags": "tags"} | ({"merge_fields": "merge_fields"} if merge_fields else {})
    frame = pd.DataFrame.from_records(rows, columns=list(asked)).rename(columns=asked)
    frame["tags"] = [[tag["id"] for tag in tags] if isinstance(tags, list) else [] for tags in frame["tags"]]
    return frame


def fetch_segments(client: Client, audience_id: str) -> list[dict[str, Any]]:
    """``segment_id, name`` of every static segment. Source: …/marketing/api/list-segments/"""
    rows = _pages(client, f"{audience_path(audience_id)}/segments", "segments",
                  {"type": "static", "fields": "segments.id,segments.name,total_items"})
    return [{"segment_id": int(row["id"]), "name": str(row["name"])} for row in rows]


def fetch_segment_members(client: Client, audience_id: str, segment_id: int) -> pd.DataFrame:
    """``member_hash, address, status`` of everyone on the segment that Mailchimp lists, whatever their status.

    Source: …/marketing/api/list-segment-members/
    """
    rows = _pages(client, f"{audience_path(audience_id)}/segments/{segment_id}/members", "members",
                  {"fields": "members.id,members.email_address,members.status,total_items", "include_cleaned": "true",
                   "include_unsubscribed": "true", "include_transactional": "true"})
    return parse_segment_members(rows)


def parse_segment_members(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row per member: ``member_hash, address, status``."""
    frame = pd.DataFrame.from_records(rows, columns=["id", "email_address", "status"])
    return frame.set_axis(["member_hash", "address", "status"], axis="columns").astype("str")


def _pages(client: Client, path: str, rows_key: str, params: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All rows of a listing; read again when what came is not what was announced (it changed meanwhile)."""
    for _ in range(3):
        first = _page(client, path, params, 0)
        total = int(first.get("total_items", 0))
        with ThreadPoolExecutor(client.slots) as pool:
            rest = pool.map(lambda offset: _page(client, path, params, offset), range(PAGE, total, PAGE))
            rows = [row for page in [first, *rest] for row in page.get(rows_key, [])]
        distinct = {row.get("id", row.get("tag")): row for row in rows}
        if len(distinct) == total:
            return list(distinct.values())
    raise ApiTransient(f"{path} kept changing while it was read ({len(distinct):,} rows of {total:,}). "
                       "Try again later.")


def _page(client: Client, path: str, params: Mapping[str, Any], offset: int) -> dict[str, Any]:
    return client.send(Request("GET", path, {**params, "count": PAGE, "offset": offset}))


# writing

def build_segment(audience_id: str, name: str) -> Request:
    """A static segment with nobody on it. Source: …/marketing/api/list-segments/add-segment/"""
    return Request("POST", f"{audience_path(audience_id)}/segments", body={"name": name, "static_segment": []})


def build_merge_field(audience_id: str, tag: str, kind: str) -> Request:
    """A merge field that was not there. Source: …/marketing/api/list-merges/add-merge-field/"""
    return Request("POST", f"{audience_path(audience_id)}/merge-fields",
                   body={"tag": tag, "name": tag, "type": kind, "required": False, "public": False})


def build_fields_update(audience_id: str, member_hash: str, merge_fields: Mapping[str, Any]) -> Request:
    """Write merge fields of someone who is in the audience, and nothing else of them.

    Source: …/marketing/api/list-members/update-list-member/
    """
    return Request("PATCH", f"{_members_path(audience_id)}/{member_hash}", {"skip_merge_validation": "true"},
                   {"merge_fields": dict(merge_fields)})


def build_batch_subscribe(audience_id: str, people: Iterable[Mapping[str, Any]], status: str,
                          tag: str | None) -> Request:
    """Add at most 500 new people; whoever is there already is left exactly as is.

    ``people``: ``address`` and ``merge_fields``; ``status`` applies to new contacts alone, ``tag`` names the
    segment they go on. Source: …/marketing/api/lists/batch-subscribe-or-unsubscribe/
    """
    tagged = {"tags": [tag]} if tag else {}
    members = [{"email_address": person["address"], "status_if_new": status, "merge_fields": person["merge_fields"],
                **tagged} for person in people]
    return Request("POST", audience_path(audience_id),
                   {"skip_merge_validation": "true", "skip_duplicate_check": "true"},
                   {"members": members, "update_existing": False})


def build_segment_update(audience_id: str, segment_id: int, add: Sequence[str], remove: Sequence[str]) -> Request:
    """Put at most 500 members on a segment and take at most 500 off it.

    Source: …/marketing/api/list-segments/batch-add-remove-members-segment/
    """
    body = {key: list(value) for key, value in (("members_to_add", add), ("members_to_remove", remove)) if value}
    return Request("POST", f"{audience_path(audience_id)}/segments/{segment_id}", body=body)


@dataclass(frozen=True)
class Subscribed:
    """A batch subscribe's answer: ``created`` member records, ``errors`` member hash → reason code."""

    created: list[dict[str, Any]]
    updated: list[dict[str, Any]]
    errors: dict[str, str]


def parse_batch_subscribe(answer: Mapping[str, Any]) -> Subscribed:
    """Who came new, who was changed, and by hash the reason for each who was refused."""
    errors = {emails.member_hash(e.get("email_address", "")): refusal(e) for e in answer.get("errors", [])}
    return Subscribed(list(answer.get("new_members", [])), list(answer.get("updated_members", [])), errors)


def refusal(error: Mapping[str, Any]) -> str:
    """Mailchimp's words about one person as one of our reasons. The texts are not documented; these were seen."""
    text = str(error.get("error", "")).lower()
    if error.get("error_code") == "ERROR_CONTACT_EXISTS" or "already a list member" in text:
        return "exists"
    for words, reason in (("permanently deleted", "forgotten"), ("compliance state", "compliance"),
                          ("looks fake or invalid", "looks_fake"), ("valid email", "address_refused"),
                          ("portion of the email", "address_refused"), ("single @", "address_refused"),
                          ("too many", "signed_up_too_often"), ("a lot of lists", "signed_up_too_often"),
                          ("merge fields", "merge_fields_refused")):
        if words in text:
            return reason
    return "refused_by_mailchimp"


def nobody_on_list(error: ApiFinal) -> bool:
    """Whether a segment call failed only because none of its people is in the audience."""
    return error.status == 400 and "none of the emails provided" in error.detail.lower()
