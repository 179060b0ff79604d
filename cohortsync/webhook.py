"""Mixpanel's custom webhook: what it sends, how it is answered, which session stands on which. Nothing is kept here.

Of a cohort Mixpanel sends all ``members`` first, then who was added and who was removed since the last sync that it
knows to have succeeded. Its page leaves open whether both halves of such a sync share a session, and whether their
pages are numbered together; so both are taken either way.
Source: https://docs.mixpanel.com/docs/cohort-sync/webhooks
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MEMBERS, ADDED, REMOVED = ACTIONS = ("members", "add_members", "remove_members")
RECEIVING, HALF, APPLIED, STALE = "receiving", "half", "applied", "stale"
MOST_PAGES = 100_000
REMEMBERED = 3  # sessions whose results are kept to stand on
WRONG, UNKNOWN, TOO_LARGE, LATER = 400, 404, 413, 503  # at the first two Mixpanel pauses the sync, at the last it waits
TEXT = re.compile(r"[^\x00-\x1f\x7f]{1,255}")
NAME_ONLY = re.compile(r"[A-Za-z0-9_-]{1,64}")

Member = tuple[str, str | None, str | None, str | None]


class Refused(Exception):
    """A page that is answered with ``failure``: the message is shown in Mixpanel, ``code`` says what it does then."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Page:
    """One message: page ``number`` of ``total``. ``members``: id, address, first and last name of each."""

    project_id: str
    cohort_id: str
    name: str
    session_id: str
    action: str
    number: int
    total: int
    members: Sequence[Member]


def parse_page(body: bytes) -> Page:
    """Read a message; raises Refused for one that is not what Mixpanel sends. Members without an id are left out."""
    try:
        message = json.loads(body)
        parameters = message["parameters"]
        number, total = (parameters["page_info"][name] for name in ("page_count", "total_pages"))
        members = [_member(row) for row in parameters["members"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Refused("This is no message of Mixpanel's cohort sync.", WRONG) from None
    if message.get("action") not in ACTIONS:
        raise Refused("The action must be members, add_members or remove_members.", WRONG)
    if not (_is_number(number) and _is_number(total) and 1 <= number <= total <= MOST_PAGES):
        raise Refused("page_info must count pages from 1 to total_pages.", WRONG)
    return Page(_identifier(parameters, "mixpanel_project_id"), _identifier(parameters, "mixpanel_cohort_id"),
                _text(parameters.get("mixpanel_cohort_name")) or "", _session(parameters), message["action"],
                number, total, [member for member in members if member[0]])


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _identifier(parameters: Mapping[str, Any], name: str) -> str:
    value = str(parameters.get(name, ""))
    if not NAME_ONLY.fullmatch(value):
        raise Refused(f"{name} must be an id of letters and digits.", WRONG)
    return value


def _session(parameters: Mapping[str, Any]) -> str:
    value = str(parameters.get("mixpanel_session_id", ""))
    if not TEXT.fullmatch(value):
        raise Refused("mixpanel_session_id is missing, or no id.", WRONG)
    return value


def _member(row: Mapping[str, Any]) -> Member:
    return (_text(row.get("mixpanel_distinct_id")) or "", _text(row.get("email")), _text(row.get("first_name")),
            _text(row.get("last_name")))


def _text(value: Any) -> str | None:
    """A text as files can hold it: halves of a surrogate pair cannot."""
    if _is_number(value):
        value = str(value)
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) and value else None


def build_answer(action: str, refused: Refused | None = None) -> dict[str, Any]:
    """What a message is answered with."""
    if refused is None:
        return {"action": action, "status": "success"}
    return {"action": action, "status": "failure", "error": {"message": str(refused), "code": refused.code}}


@dataclass(frozen=True)
class Session:
    """What is there of a session. ``pages``: action → how many came, of how many; ``numbers``: page numbers that came.

    ``status``: receiving, half (of a sync in two halves one was applied), applied, or stale (a later one began).
    ``answered``: whether Mixpanel was told that it was applied.
    """

    session_id: str
    pages: Mapping[str, tuple[int, int]]
    numbers: int
    status: str = RECEIVING
    answered: bool = False

    @property
    def complete(self) -> frozenset[str]:
        """The actions whose pages are all there: each by itself, or where none is, both when counted together."""
        whole = frozenset(action for action, (came, total) in self.pages.items() if came == total)
        together = {total for _, total in self.pages.values()} == {self.numbers}
        return frozenset(self.pages) if together and not whole else whole


def standing(session: Session, base: Session | None) -> str:
    """The status of a session that was applied to the result of ``base``."""
    halves = session.complete
    if MEMBERS in halves or {ADDED, REMOVED} <= halves or (base is not None and base.status == HALF):
        return APPLIED
    return HALF


def bases(session: Session, earlier: Sequence[Session]) -> list[Session]:
    """The sessions, of those ``earlier`` (oldest first), whose result a diff may be meant for; the likeliest first.

    One half stands on the other half just before it. Else the latest session counts that Mixpanel was told of; one
    whose answer may be lost comes after it, since Mixpanel then knows nothing of it.
    """
    done = [one for one in reversed(earlier) if one.status in (HALF, APPLIED)]
    complement = [one for one in done[:1] if one.status == HALF and not one.complete & session.complete]
    whole = [one for one in done if one.status == APPLIED][:REMEMBERED]
    return complement + sorted(whole, key=lambda one: not one.answered)
