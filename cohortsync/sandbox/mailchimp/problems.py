"""The refusals of the API: problem details as Mailchimp words them.

Source: https://mailchimp.com/developer/marketing/docs/errors/
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

FieldErrors = Iterable[tuple[str, str]]
TYPE = "https://mailchimp.com/developer/marketing/docs/errors/"


class Problem(Exception):
    """A refusal: HTTP status, title, detail, (field, message) pairs, and headers of its own."""

    def __init__(
        self,
        status: int,
        title: str,
        detail: str,
        errors: FieldErrors = (),
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(f"{status} {title}")
        self.status, self.title, self.detail = status, title, detail
        self.errors = [{"field": field, "message": message} for field, message in errors]
        self.headers = headers or {}

    def document(self, instance: str) -> dict[str, Any]:
        """The problem+json body; `errors` only when a field is to blame."""
        body = {
            "type": TYPE,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "instance": instance,
        }
        return body | ({"errors": self.errors} if self.errors else {})


def invalid_resource(*errors: tuple[str, str], detail: str = "") -> Problem:
    """400 Invalid Resource: the body was JSON, but not what the resource takes."""
    told = detail or (
        "The resource submitted could not be validated. For field-specific details, see the 'errors' array."
    )
    return Problem(400, "Invalid Resource", told, errors)


def not_found() -> Problem:
    """404 for anything that is not there, routes included."""
    return Problem(404, "Resource Not Found", "The requested resource could not be found.")


def method_not_allowed(allowed: Iterable[str], detail: str = "") -> Problem:
    """405 with the `Allow` header."""
    told = detail or (
        "The requested method and resource are not compatible. "
        "See the Allow header for this resource's available methods."
    )
    return Problem(405, "Method Not Allowed", told, headers={"Allow": ", ".join(sorted(allowed))})


def member_exists(email: str) -> Problem:
    """400 Member Exists: also when an address is changed to another member's."""
    detail = f"{email} is already a list member. Use PUT to insert or update list members."
    return Problem(400, "Member Exists", detail)


def in_compliance_state(email: str) -> Problem:
    """400 for people who left by themselves or bounced: nobody but they can undo that."""
    detail = (
        f"{email} is in a compliance state due to unsubscribe, bounce, or compliance review and cannot be subscribed."
    )
    return Problem(400, "Member In Compliance State", detail)


def forgotten(email: str) -> Problem:
    """400 for people who were deleted permanently."""
    detail = (
        f"{email} was permanently deleted and cannot be re-imported. "
        "The contact must re-subscribe to get back on the list."
    )
    return Problem(400, "Forgotten Email Not Subscribed", detail)


def too_many_requests(limit: int) -> Problem:
    """429: more requests in progress than an account may have."""
    detail = f"You have exceeded the limit of {limit} simultaneous connections."
    return Problem(429, "Too Many Requests", detail)
