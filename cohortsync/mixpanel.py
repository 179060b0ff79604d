"""Mixpanel's query, export and app APIs: what is asked of them, and what they answer.

Everything the package knows of these APIs stands here, and nothing here sends anything.
Source: https://developer.mixpanel.com/reference/overview
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from cohortsync import emails
from cohortsync.budget import OverBudget
from cohortsync.config import is_local
from cohortsync.errors import ApiFinal, ApiTransient, BadInput, ConfigurationError

REGIONS = {"us": "", "eu": "eu", "in": "in"}
EXPORTING_ROLES = ("owner", "admin")
USED_UP = re.compile(r"(\d+)/(\d+) queries running in the last hour")
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


def parse_body(body: bytes) -> Any:
    """The JSON of an answer. Raises Interrupted when it is not whole."""
    try:
        return json.loads(body)
    except ValueError:
        raise Interrupted("Mixpanel's answer is not whole. Try again later.") from None


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


# events

def build_export(project_id: str, first_on: date, last_on: date) -> Request:
    """Raw events of whole days, both included. Source: https://developer.mixpanel.com/reference/raw-event-export"""
    return Request("export", "GET", "/export", {"project_id": project_id, "from_date": first_on.isoformat(),
                                                "to_date": last_on.isoformat()})
