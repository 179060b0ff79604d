"""The web server that Mixpanel sends cohorts to: on this machine alone, behind the user's own proxy for TLS.

Whoever sends is a stranger until the password fits, and what was sent is hostile until it is read.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import secrets
import socket
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from cohortsync import config, inbox, ledger
from cohortsync.config import Settings
from cohortsync.errors import BadInput, CohortsyncError, ConfigurationError
from cohortsync.webhook import LATER, TOO_LARGE, Page, Refused, build_answer, parse_page

PATH = "/mixpanel"
USERNAME = "mixpanel"
PASSWORD_VARIABLE = "MIXPANEL_WEBHOOK_PASSWORD"
HOST = "webhook"  # what the password is kept for
AT_ONCE = 16
Say = Callable[[str], None]


def new_password(home: Path) -> tuple[str, str]:
    """Make the password that Mixpanel is to send; answers it, and where it is kept."""
    password = secrets.token_urlsafe(32)
    return password, config.save_key(home, HOST, password)


def required_password(home: Path) -> str:
    """The password kept; raises ConfigurationError where there is none."""
    if password := config.load_key(home, HOST, PASSWORD_VARIABLE):
        return password
    raise ConfigurationError("There is no password for Mixpanel to send yet. Make one first: "
                             "cohortsync receive --new-password")


def build_app(home: Path, password: str, say: Say) -> Starlette:
    """The receiver of one workspace. ``say`` is told one line for each page, which holds no address."""
    async def hook(request: Request) -> Response:
        if not _is_allowed(request.headers.get("authorization", ""), password):
            say("A request without the right password was refused.")
            return JSONResponse(build_answer("members", Refused("Wrong username or password.", 401)), 401,
                                {"WWW-Authenticate": "Basic"})
        return await _take(home, request, say)

    async def health(_request: Request) -> Response:
        return PlainTextResponse("ok")

    return Starlette(routes=[Route(PATH, hook, methods=["POST"]), Route("/health", health)])


def _is_allowed(header: str, password: str) -> bool:
    """Whether a request brings the password; takes as long for one that is nearly right as for any other."""
    scheme, _, encoded = header.partition(" ")
    try:
        given = base64.b64decode(encoded.strip(), validate=True) if scheme.lower() == "basic" else b""
    except ValueError:
        given = b""
    wanted = f"{USERNAME}:{password}".encode()
    return hmac.compare_digest(sha256(given).digest(), sha256(wanted).digest())


async def _take(home: Path, request: Request, say: Say) -> Response:
    """Read a message, keep it, answer it."""
    action = "members"
    try:
        page = parse_page(await _body(request))
        action = page.action
        await run_in_threadpool(inbox.receive, home, page)
    except Refused as refused:
        say(f"Refused ({refused.code}): {refused}")
        return JSONResponse(build_answer(action, refused), refused.code)
    except CohortsyncError as error:
        say(f"Not loaded, Mixpanel will send it again: {error}")
        failed = Refused("The receiver could not load the cohort; its own log says why.", LATER)
        return JSONResponse(build_answer(action, failed), LATER)
    say(_told(page))
    return _Answer(home, page, request)


class _Answer(JSONResponse):
    """``success``; once it is sent to someone who still listens, that is noted."""

    def __init__(self, home: Path, page: Page, request: Request) -> None:
        super().__init__(build_answer(page.action))
        self.note = lambda: inbox.answered(home, page)
        self.request = request

    async def __call__(self, scope: object, receive: object, send: object) -> None:
        listens = not await self.request.is_disconnected()
        await super().__call__(scope, receive, send)  # type: ignore[arg-type]
        if listens:
            await run_in_threadpool(self.note)


async def _body(request: Request) -> bytes:
    """All of a message; raises Refused for one that is too large, or does not come to an end."""
    most = Settings().webhook_max_mb << 20
    too_large = Refused(f"A message may hold {Settings().webhook_max_mb} MB at most.", TOO_LARGE)
    if int(request.headers.get("content-length") or 0) > most:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(Settings().timeout_seconds):
            async for piece in request.stream():
                body += piece
                if len(body) > most:
                    raise too_large
    except (TimeoutError, ClientDisconnect):
        raise Refused("The message did not come to its end.", LATER) from None
    return bytes(body)


def _told(page: Page) -> str:
    return (f"Cohort {page.cohort_id}, {page.action}, page {page.number} of {page.total}: "
            f"{len(page.members):,} people.")


def serve(home: Path, port: int, say: Say) -> None:
    """Receive until told to stop. Raises BadInput where the port is taken, ConfigurationError before ``init``."""
    if not ledger.projects(home):
        raise ConfigurationError(f"The workspace {home} has no project yet. Set one up first, with Mixpanel's own id: "
                                 "cohortsync init --project-id N --timezone … --id-merge …")
    app = build_app(home, required_password(home), say)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as error:
            raise BadInput(f"Port {port} cannot be used ({error.strerror}). Name another with --port.") from None
        listener.listen()
        say(f"Receiving at http://127.0.0.1:{listener.getsockname()[1]}{PATH}")
        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="warning", access_log=False,
                                               limit_concurrency=AT_ONCE, timeout_graceful_shutdown=60))
        server.run(sockets=[listener])
