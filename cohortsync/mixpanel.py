"""Mixpanel's query, export and app APIs: requests built, answers read, and the one thin place that sends them.

Everything the package knows of these APIs stands here. ``build_`` and ``parse_`` are pure; ``fetch_`` and the
client's ``stream`` send. Source: https://developer.mixpanel.com/reference/overview
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import Any

import requests
from isal import isal_zlib
from requests.adapters import HTTPAdapter
from requests.auth import HTTPBasicAuth
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    retry_if_exception_type,
    stop_after_attempt,
    stop_before_delay,
    wait_fixed,
    wait_random_exponential,
)
from urllib3.exceptions import HTTPError

from cohortsync import emails
from cohortsync.budget import Budget, Notice, OverBudget
from cohortsync.config import Settings, is_local, is_rehearsal
from cohortsync.errors import ApiFinal, ApiTransient, BadInput, ConfigurationError

REGIONS = {"us": "", "eu": "eu", "in": "in"}
READERS = 4
CHUNK_BYTES = 1 << 20
EXPORTING_ROLES = ("owner", "admin")
USED_UP = re.compile(r"(\d+)/(\d+) queries running in the last hour")
Watch = Callable[[int, int], None]
HISTORY = re.compile(r"exceeds (\d+) days into the past")


class RateLimited(ApiTransient):
    """Mixpanel was asked too often at once; ``after`` so many seconds it may be asked again."""

    def __init__(self, message: str, after: float = 0) -> None:
        super().__init__(message)
        self.after = after


class HourUsedUp(OverBudget):
    """Others have used up the project's hour, and for longer than one may wait."""


class Interrupted(ApiTransient):
    """An answer broke off before its end: nothing of it can be relied on."""


class HistoryLimit(ApiFinal):
    """The plan does not export what is older than ``days``."""

    days = 0


class TooLate(ApiFinal):
    """Days were asked for that have not begun in the project."""


class SessionExpired(ApiFinal):
    """The pages asked for are of a query that Mixpanel has forgotten."""


@dataclass(frozen=True)
class Account:
    """A service account. Source: https://developer.mixpanel.com/reference/service-accounts"""

    username: str
    secret: str = field(repr=False)


@dataclass(frozen=True)
class Hosts:
    """Where a project's APIs are."""

    query: str
    export: str
    app: str


@dataclass(frozen=True)
class Request:
    """``api``: query, export or app; ``counts``: against the hour; ``form``: what a POST carries."""

    api: str
    method: str
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    form: Mapping[str, Any] | None = None
    counts: bool = True


# where a secret may go

def hosts(region: str, local: str | None = None) -> Hosts:
    """The APIs' addresses for a region (us, eu, in); ``local`` (loopback only) takes their place in a rehearsal.

    Raises ConfigurationError for another region, or when ``local`` is elsewhere.
    Source: https://developer.mixpanel.com/reference/overview
    """
    if local:
        if not is_local(local):
            raise ConfigurationError(f"--base-url takes a local rehearsal such as http://127.0.0.1:8019, not "
                                     f"{local!r}. For a real project leave it out: its region says where it is.")
        local = local.rstrip("/")
        return Hosts(f"{local}/api/query", f"{local}/api/2.0", f"{local}/api/app")
    if region not in REGIONS:
        raise ConfigurationError(f"{region!r} is no region of Mixpanel's; choose one of {', '.join(REGIONS)}.")
    place = REGIONS[region]
    main, data = (f"{place}.mixpanel.com", f"data-{place}.mixpanel.com") if place else ("mixpanel.com",
                                                                                      "data.mixpanel.com")
    return Hosts(f"https://{main}/api/query", f"https://{data}/api/2.0", f"https://{main}/api/app")


def project_number(project_id: str) -> str:
    """A project's id as it may stand in an address; Mixpanel's own are digits. Raises BadInput for others."""
    if not re.fullmatch(r"[0-9]{1,20}", project_id):
        raise BadInput(f"{project_id!r} is not the id of a Mixpanel project. It is a number; see Mixpanel: Project "
                       "Settings, Overview.")
    return project_id


@dataclass
class Client:
    """One project's APIs: the session that carries the secret, the budget that requests are taken from."""

    hosts: Hosts
    http: requests.Session
    settings: Settings
    project_id: str
    budget: Budget = field(init=False)
    notice: Notice = lambda _text: None
    made: dict[str, int] = field(default_factory=lambda: {"query": 0, "page": 0, "export": 0, "app": 0})
    offset_s: float = 0
    stopped: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.budget = Budget(f"{self.hosts.query}|{self.project_id}", self.settings, self.server_s,
                             lambda text: self.notice(text), self.pause)
        self.offset_s = self.budget.offset_s()

    def server_s(self) -> float:
        """The server's clock, in epoch seconds, as its last answer told it."""
        return time.time() + self.offset_s

    def server_now(self) -> datetime:
        return datetime.fromtimestamp(self.server_s(), UTC)

    def send(self, request: Request) -> Any:
        """The answer's JSON. Tries again what may pass, with backoff and jitter.

        Raises ApiTransient when the tries are used up, ApiFinal for a no.
        """
        return self.retrying(lambda: parse_body(self.fetch(request)))

    def fetch(self, request: Request) -> bytes:
        """The body of an answer, asked for once."""
        answer, opened = self._opened(request)
        with opened:
            try:
                return answer.content
            except requests.RequestException as error:
                raise Interrupted(f"Mixpanel's answer broke off ({type(error).__name__}). Try again later.") from None

    @contextmanager
    def stream(self, request: Request) -> Iterator[Iterator[bytes]]:
        """The body of a long answer, some megabytes at a time, as it arrives.

        Raises as ``send`` does until it begins, and Interrupted from within when it breaks off.
        """
        answer, opened = self.retrying(lambda: self._opened(request))
        with opened:
            yield _unzipped(answer)

    def _opened(self, request: Request) -> tuple[requests.Response, ExitStack]:
        """An answer, not yet read, and what ends it together with its share of the budget."""
        with ExitStack() as opening:
            if request.api != "app":
                opening.enter_context(self.budget.take(request.api, request.counts))
            answer = opening.enter_context(self.ask(request))
            return answer, opening.pop_all()

    def retrying(self, work: Callable[[], Any]) -> Any:
        """What the work answers: tried again while what stops it may pass, and longer for an hour used up."""
        longest = self.settings.backoff_max_seconds
        patient = Retrying(retry=retry_if_exception_type(HourUsedUp), reraise=True, sleep=self.pause,
                           stop=stop_before_delay(self.settings.mixpanel_wait_seconds), wait=wait_fixed(longest),
                           before_sleep=lambda _: self.notice("Waiting: others have used up the project's hour"))
        return Retrying(retry=retry_if_exception(_may_pass), reraise=True, sleep=self.pause, wait=self._wait,
                        stop=stop_after_attempt(self.settings.attempts))(patient, work)

    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome and state.outcome.exception()
        longest = self.settings.backoff_max_seconds
        asked = min(error.after, longest) if isinstance(error, RateLimited) else 0
        return max(asked, wait_random_exponential(self.settings.backoff_seconds, longest)(state))

    def pause(self, seconds: float) -> None:
        """Wait, but no longer than until the work was ``stopped``; raises ApiTransient then."""
        if self.stopped.wait(seconds):
            raise ApiTransient("Stopped while waiting for Mixpanel.")

    def ask(self, request: Request) -> requests.Response:
        """Send one request; answers it opened, not read. Raises by who can act."""
        with self._lock:
            kind = "page" if request.api == "query" and not request.counts else request.api
            self.made[kind] += 1
        base = getattr(self.hosts, request.api)
        try:
            answer = self.http.request(request.method, base + request.path, params=dict(request.params),
                                       data=request.form, stream=True, allow_redirects=False,
                                       timeout=(10, self.settings.mixpanel_timeout_seconds))
        except requests.RequestException as error:
            advice = "Start the local one: cohortsync sandbox." if is_rehearsal(base) else "Try again later."
            raise ApiTransient(f"Mixpanel could not be reached at {base} ({type(error).__name__}). {advice}") from None
        self._learn_time(answer.headers.get("Date", ""))
        if answer.status_code != 200:
            with answer:
                refused = refusal(answer.status_code, _text(answer), answer.headers.get("Retry-After", ""))
            if isinstance(refused, HourUsedUp) and request.api != "app":
                self.budget.exhaust(request.api, self.settings.backoff_max_seconds)
            raise refused
        return answer

    def _learn_time(self, text: str) -> None:
        try:
            told = parsedate_to_datetime(text).timestamp()
        except (TypeError, ValueError):
            return
        # Told in whole seconds: a new telling counts only where it is not the old one, rounded.
        if abs(told - self.server_s()) > 2:
            self.offset_s = told - time.time()
            self.budget.remember_offset(self.offset_s)


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, ApiTransient) and not isinstance(error, OverBudget)


def _text(answer: requests.Response) -> str:
    try:
        return answer.text[:5000]
    except requests.RequestException:
        return ""


def _unzipped(answer: requests.Response) -> Iterator[bytes]:
    """The body in pieces; Interrupted where it ends before its end."""
    zipped = answer.headers.get("Content-Encoding") == "gzip"
    pieces = answer.raw.stream(CHUNK_BYTES // 4 if zipped else CHUNK_BYTES, decode_content=False)
    try:
        yield from _inflated(pieces) if zipped else pieces
    except (OSError, isal_zlib.error, requests.RequestException, HTTPError) as error:  # type: ignore[misc]
        raise Interrupted(f"Mixpanel's answer broke off ({type(error).__name__}). Try again later.") from None


def _inflated(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """What was zipped, in one part or several that follow each other."""
    part = isal_zlib.decompressobj(31)
    for piece in pieces:
        while piece:
            part = isal_zlib.decompressobj(31) if part.eof else part
            yield part.decompress(piece)
            piece = part.unused_data
    if not part.eof:
        raise Interrupted("Mixpanel's answer broke off before its end. Try again later.")


def parse_body(body: bytes) -> Any:
    """The JSON of an answer. Raises Interrupted when it is not whole."""
    try:
        return json.loads(body)
    except ValueError:
        raise Interrupted("Mixpanel's answer is not whole. Try again later.") from None


def open_client(account: Account, project_id: str, region: str, local: str | None = None,
                settings: Settings | None = None) -> Client:
    """A client that sends this secret to its own region and nowhere else."""
    where = hosts(region, local)
    http = requests.Session()
    http.auth = HTTPBasicAuth(account.username.encode(), account.secret.encode())
    http.headers["Accept-Encoding"] = "gzip"
    for scheme in ("https://", "http://"):
        http.mount(scheme, HTTPAdapter(pool_maxsize=10, pool_block=True))
    http.trust_env = not is_rehearsal(where.query)
    return Client(where, http, settings or Settings(), project_number(project_id))


def refusal(status: int, text: str, retry_after: str = "") -> ApiTransient | ApiFinal:
    """The error that an answer other than 200 is, by who can act.

    Sources: https://developer.mixpanel.com/reference/rate-limits and the error answers seen in public issues.
    """
    said = emails.scrub(_error_text(text))
    if status == 429:
        used = USED_UP.search(said)
        if used and int(used[1]) > int(used[2]):
            return HourUsedUp("The project's hour is used up, also by others than this machine: Mixpanel allows "
                              f"{used[2]} an hour and refused number {used[1]}. What was fetched is kept; go on in an "
                              "hour.")
        return RateLimited(f"Mixpanel was asked too often: {said or 'without a reason'}. Try again later.",
                           float(retry_after) if retry_after.isdecimal() else 0)
    if status >= 500:
        return ApiTransient(f"Mixpanel answered {status} {said or 'without a reason'}. Try again later.")
    if past := HISTORY.search(said):
        limit = HistoryLimit(f"The plan does not export what is older than {past[1]} days.", status=status)
        limit.days = int(past[1])
        return limit
    kind: type[ApiFinal] = ApiFinal
    if "to_date cannot be later than today" in said:
        kind = TooLate
    elif "session_id" in said or "uncached query" in said:
        kind = SessionExpired
    advice = ADVICE.get(status, "Change that, then try again.")
    return kind(f"Mixpanel said no: {status} {said or 'without a reason'}. {advice}", status=status, detail=said)


ADVICE = {
    401: "Check the service account's username and secret (Mixpanel: Project Settings, Service Accounts), and leave "
         "--region out: they are known in one region alone. Then: cohortsync connect mixpanel",
    402: "The project's plan has no access to the API; ask its owner, or load files instead: cohortsync load",
    403: "Check the project's id, and what the service account may do there (Mixpanel: Project Settings, Service "
         "Accounts).",
}


def _error_text(text: str) -> str:
    try:
        body = json.loads(text)
    except ValueError:
        return " ".join(re.sub(r"<[^>]*>", " ", text).split())[:300]
    said = body.get("error") or body.get("status") if isinstance(body, dict) else ""
    return str(said or "")[:300].rstrip(". ")


# who the caller is

def build_me() -> Request:
    return Request("app", "GET", "/me")


@dataclass(frozen=True)
class ProjectSeen:
    """What the app API tells of a project; blank where it does not."""

    name: str
    role: str
    region: str
    timezone: str


def parse_me(answer: Any, project_id: str) -> ProjectSeen | None:
    """The project as /me shows it, None when it is not among the caller's.

    The answer is not documented; the role was seen both as text and as an object with a name. An owner or admin of
    the organisation is one of its projects. Source: https://developer.mixpanel.com/reference/service-accounts
    """
    found = answer.get("results", answer) if isinstance(answer, dict) else {}
    project = (found.get("projects") or {}).get(project_id)
    if not isinstance(project, dict):
        return None
    organisation = (found.get("organizations") or {}).get(str(project.get("organization_id")), {})
    roles = [_role(project.get("role")), _role(organisation.get("role"))]
    role = next((role for role in EXPORTING_ROLES if role in roles), roles[0])
    return ProjectSeen(str(project.get("name") or ""), role, _region(str(project.get("domain") or "")),
                       str(project.get("timezone") or ""))


def _role(given: Any) -> str:
    name = given.get("name") if isinstance(given, dict) else given
    return str(name or "").strip().lower()


def _region(domain: str) -> str:
    return {"mixpanel.com": "us", "eu.mixpanel.com": "eu", "in.mixpanel.com": "in"}.get(domain, "")


def build_service_accounts(project_id: str) -> Request:
    return Request("app", "GET", f"/projects/{project_number(project_id)}/service-accounts")


def parse_own_role(answer: Any, username: str) -> str:
    """The caller's role in the list of service accounts; blank when it is not listed.

    Source: https://developer.mixpanel.com/reference/list-service-accounts
    """
    rows = answer.get("results", []) if isinstance(answer, dict) else []
    return next((_role(row.get("role")) for row in rows if row.get("username") == username), "")


def fetch_project(client: Client) -> ProjectSeen | None:
    """What /me tells of the client's project; None where the account may not ask. Raises ApiFinal 401."""
    try:
        return parse_me(client.send(build_me()), client.project_id)
    except ApiFinal as error:
        if error.status == 401:
            raise
        return None


def fetch_own_role(client: Client, username: str) -> str:
    """The caller's role as the list of service accounts tells it; blank where the list may not be seen."""
    try:
        return parse_own_role(client.send(build_service_accounts(client.project_id)), username)
    except ApiFinal as error:
        if error.status == 401:
            raise
        return ""


def probe_region(account: Account, project_id: str, settings: Settings | None = None) -> str:
    """The region whose cluster knows the account: a secret works in one alone. Raises ApiFinal when none does."""
    refused = None
    for region in REGIONS:
        try:
            open_client(account, project_id, region, settings=settings).send(build_me())
            return region
        except ApiFinal as error:
            if error.status != 401:
                return region
            refused = error
    raise refused or ConfigurationError("No region of Mixpanel's answered.")


# cohorts and profiles

@dataclass(frozen=True)
class CohortSeen:
    """A cohort of the project. ``size``: as Mixpanel last counted it; ``of_users``: not of a group."""

    cohort_id: str
    name: str
    size: int
    visible: bool
    of_users: bool


def build_cohorts(project_id: str) -> Request:
    return Request("query", "POST", "/cohorts/list", {"project_id": project_id})


def parse_cohorts(answer: Any) -> list[CohortSeen]:
    """Source: https://developer.mixpanel.com/reference/cohorts-list"""
    return [CohortSeen(str(row["id"]), str(row.get("name") or row["id"]), int(row.get("count") or 0),
                       bool(row.get("is_visible", 1)), row.get("data_group_id") is None) for row in answer]


def fetch_cohorts(client: Client) -> list[CohortSeen]:
    return parse_cohorts(client.send(build_cohorts(client.project_id)))


def build_engage(project_id: str, page: int = 0, session_id: str = "", cohort_id: str = "", everyone: bool = True,
                 properties: list[str] | None = None, pages_count: bool = False) -> Request:
    """A page of profiles; of a cohort's members, with (``everyone``) or without those who have no profile.

    Source: https://developer.mixpanel.com/reference/engage-query
    """
    form: dict[str, Any] = {"page": page} | ({"session_id": session_id} if page else {})
    if cohort_id:
        form |= {"filter_by_cohort": json.dumps({"id": int(cohort_id)}), "include_all_users": str(everyone).lower()}
    if properties is not None:
        form["output_properties"] = json.dumps(properties)
    return Request("query", "POST", "/engage", {"project_id": project_id}, form, counts=not page or pages_count)


def fetch_profiles(client: Client, path: Path, cohort_id: str = "", everyone: bool = True,
                   properties: list[str] | None = None, watch: Watch = lambda _came, _announced: None) -> int:
    """Write every page of profiles, or of a cohort's members, to a file, a page a line; how many people those are.

    ``everyone``: the members without a profile too; ``properties``: only these, None for all. Read anew when the pages
    together are not as many as were announced, or Mixpanel has forgotten the query.
    """
    path.touch(mode=0o600)
    for _ in range(client.settings.attempts):
        try:
            announced, written = _fetch_pages(client, path, partial(
                build_engage, client.project_id, cohort_id=cohort_id, everyone=everyone, properties=properties,
                pages_count=client.settings.mixpanel_pages_count), watch)
        except SessionExpired:
            client.notice("Reading people anew: Mixpanel has forgotten the query")
            continue
        if announced == written:
            return written
        client.notice(f"Reading people anew: {announced:,} were announced, and {written:,} came")
    raise ApiTransient("The pages of profiles kept changing while they were read. Try again later.")


def _fetch_pages(client: Client, path: Path, build: Callable[[int, str], Request], watch: Watch) -> tuple[int, int]:
    """How many people were announced, and how many came."""
    def ask(page: int, session_id: str = "") -> tuple[dict[str, Any], bytes]:
        return client.retrying(lambda: _page(client, build(page, session_id)))

    first, line = ask(0)
    size, total = max(int(first.get("page_size") or 1000), 1), int(first.get("total") or 0)
    with path.open("wb") as file, ThreadPoolExecutor(READERS) as pool:
        file.write(line)
        came = len(first["results"])
        # A few at a time: what waits to be written is held in memory.
        pages = range(1, -(-total // size))
        for start in range(0, len(pages), 2 * READERS):
            watch(came, total)
            some = pages[start:start + 2 * READERS]
            try:
                for page, line in pool.map(ask, some, [str(first.get("session_id") or "")] * len(some)):
                    file.write(line)
                    came += len(page["results"])
            except KeyboardInterrupt:
                client.stopped.set()  # or the threads would wait on, and this one for them
                raise
    return total, came


def _page(client: Client, request: Request) -> tuple[dict[str, Any], bytes]:
    """A page, and the same as a line of a file; without its session, so that the same people are the same file."""
    body = client.fetch(request).strip()
    page = parse_body(body)
    if not isinstance(page, dict) or not isinstance(page.get("results"), list):
        raise Interrupted("Mixpanel's page of profiles has no results. Try again later.")
    line = json.dumps(page).encode() if b"\n" in body else body
    session = re.escape(json.dumps(page.get("session_id")).encode())
    return page, re.sub(rb'"session_id"\s*:\s*' + session, b'"session_id": ""', line, count=1) + b"\n"


def fetch_count(client: Client, cohort_id: str = "") -> int:
    """How many profiles there are in the project, or among a cohort's members."""
    request = build_engage(client.project_id, cohort_id=cohort_id, everyone=False, properties=[])
    return int(client.send(request).get("total") or 0)


# events

def build_export(project_id: str, first_on: date, last_on: date) -> Request:
    """Raw events of whole days, both included. Source: https://developer.mixpanel.com/reference/raw-event-export"""
    return Request("export", "GET", "/export", {"project_id": project_id, "from_date": first_on.isoformat(),
                                                "to_date": last_on.isoformat()})
