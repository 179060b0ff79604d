"""Who may come in: loopback callers only, ten requests at a time, with a key.

Source: https://mailchimp.com/developer/marketing/docs/fundamentals/
"""

from __future__ import annotations

import base64
import binascii
import re
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .problems import Problem, too_many_requests

LIMIT = 10
KEY = re.compile(r"[0-9A-Za-z]+-[a-z]+[0-9]+")
LOOPBACK = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d+)?")


def problem_response(problem: Problem) -> JSONResponse:
    """The problem+json answer; its `X-Request-Id` is the body's `instance`."""
    instance = str(uuid.uuid4())
    return JSONResponse(
        problem.document(instance),
        problem.status,
        headers=problem.headers | {"X-Request-Id": instance},
        media_type="application/problem+json",
    )


class Door:
    """ASGI middleware that refuses, or lets in with the caller's `state.app` and the role of the key in `state.role`.

    `state.elsewhere` is how many of the account's connections another app holds meanwhile.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.inside: set[object] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        try:
            self.check(scope)
        except Problem as problem:
            # Read to the end first: a client still sending would see a broken pipe, not the refusal.
            await Request(scope, receive).body()
            return await problem_response(problem)(scope, receive, send)
        visit = object()
        self.inside.add(visit)

        async def send_out(message: Message) -> None:
            if message["type"] == "http.response.start":
                # Gone before the caller can read the answer, so that it may call again at once.
                self.inside.discard(visit)
                MutableHeaders(scope=message).setdefault("X-Request-Id", str(uuid.uuid4()))
            await send(message)

        try:
            await self.app(scope, receive, send_out)
        except ClientDisconnect:
            return  # who hung up needs no answer, and it is no fault of ours to log
        finally:
            self.inside.discard(visit)

    def check(self, scope: Scope) -> None:
        """Raise the Problem of a caller who may not come in."""
        headers = Headers(scope=scope)
        # A web page anywhere can point its own name at 127.0.0.1; its Host header gives it away.
        if not LOOPBACK.fullmatch(headers.get("host", "")):
            raise Problem(421, "Misdirected Request", "This rehearsal answers on loopback names only.")
        if scope["path"] == "/":
            return
        if len(self.inside) + scope.get("state", {}).get("elsewhere", 0) >= LIMIT:
            raise too_many_requests(LIMIT)
        app, key = credentials(headers.get("authorization", ""))
        role = role_of(key)
        if role == "viewer" and scope["method"] not in ("GET", "HEAD"):
            detail = "User does not have access to the requested operation"
            raise Problem(403, "User action not permitted", detail)
        scope.setdefault("state", {}).update(role=role, app=app)


def credentials(authorization: str) -> tuple[str, str]:
    """User and key of a Basic (any user, the key as password) or Bearer (no user) header; blank when there is none."""
    scheme, _, given = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return "", given.strip()
    if scheme.lower() != "basic":
        return "", ""
    try:
        user, _, key = base64.b64decode(given).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", given
    return user, key


def role_of(key: str) -> str:
    """A key's role. Raises Problem 401 for none, a malformed and a revoked one (`-us3`)."""
    if not key:
        raise Problem(401, "API Key Missing", "Your request did not include an API key.")
    if not KEY.fullmatch(key) or key.endswith("-us3"):
        detail = "Your API key may be invalid, or you've attempted to access the wrong datacenter."
        raise Problem(401, "API Key Invalid", detail)
    return "viewer" if key.endswith("-us2") else "owner"
