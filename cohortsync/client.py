"""The one place that asks Mixpanel: within the budget, tried again while that may help, and read to the end.

Sources: https://developer.mixpanel.com/reference/overview and …/rate-limits
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
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

from cohortsync import mixpanel
from cohortsync.budget import Budget, Notice, OverBudget
from cohortsync.config import Settings, is_rehearsal
from cohortsync.errors import ApiFinal, ApiTransient, ConfigurationError
from cohortsync.mixpanel import Account, CohortSeen, Hosts, HourUsedUp, Interrupted, ProjectSeen, RateLimited, Request

CHUNK_BYTES = 1 << 20


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
        return self.retrying(lambda: mixpanel.parse_body(self.fetch(request)))

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
                refused = mixpanel.refusal(answer.status_code, _text(answer), answer.headers.get("Retry-After", ""))
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


def open_client(account: Account, project_id: str, region: str, local: str | None = None,
                settings: Settings | None = None) -> Client:
    """A client that sends this secret to its own region and nowhere else."""
    where = mixpanel.hosts(region, local)
    http = requests.Session()
    http.auth = HTTPBasicAuth(account.username.encode(), account.secret.encode())
    http.headers["Accept-Encoding"] = "gzip"
    for scheme in ("https://", "http://"):
        http.mount(scheme, HTTPAdapter(pool_maxsize=10, pool_block=True))
    http.trust_env = not is_rehearsal(where.query)
    return Client(where, http, settings or Settings(), mixpanel.project_number(project_id))


def fetch_project(client: Client) -> ProjectSeen | None:
    """What /me tells of the client's project; None where the account may not ask. Raises ApiFinal 401."""
    try:
        return mixpanel.parse_me(client.send(mixpanel.build_me()), client.project_id)
    except ApiFinal as error:
        if error.status == 401:
            raise
        return None


def fetch_own_role(client: Client, username: str) -> str:
    """The caller's role as the list of service accounts tells it; blank where the list may not be seen."""
    try:
        return mixpanel.parse_own_role(client.send(mixpanel.build_service_accounts(client.project_id)), username)
    except ApiFinal as error:
        if error.status == 401:
            raise
        return ""


def probe_region(account: Account, project_id: str, settings: Settings | None = None) -> str:
    """The region whose cluster knows the account: a secret works in one alone. Raises ApiFinal when none does."""
    refused = None
    for region in mixpanel.REGIONS:
        try:
            open_client(account, project_id, region, settings=settings).send(mixpanel.build_me())
            return region
        except ApiFinal as error:
            if error.status != 401:
                return region
            refused = error
    raise refused or ConfigurationError("No region of Mixpanel's answered.")


def fetch_cohorts(client: Client) -> list[CohortSeen]:
    return mixpanel.parse_cohorts(client.send(mixpanel.build_cohorts(client.project_id)))


def fetch_count(client: Client, cohort_id: str = "") -> int:
    """How many profiles there are in the project, or among a cohort's members."""
    request = mixpanel.build_engage(client.project_id, cohort_id=cohort_id, everyone=False, properties=[])
    return int(client.send(request).get("total") or 0)
