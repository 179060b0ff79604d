"""What goes wrong on request: drawn by a seed, one request after the other.

`POST /sandbox/settings` sets `faults` (a comma list of the names below, or `all`), `fault_rate` and the other
settings of `switches`; a new `fault_seed` begins its draws anew. `GET` shows them.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..state import State
from . import stirring, switches
from .door import LIMIT, LOOPBACK, problem_response
from .problems import Problem, too_many_requests
from .record import Record

SETTINGS = "/sandbox/settings"
REFUSALS = ("429", "429_html", "403_html", "503_html", "500")
FAULTS = (
    *REFUSALS,
    "reset_before",  # the connection is reset; nothing took effect
    "reset_after",  # it took effect; the connection is reset
    "lost",  # it took effect; the answer ends in its middle
    "slow_before",  # it takes effect late, when the caller may have given up
    "slow_after",  # it takes effect at once, and the answer comes late
    "elsewhere",  # an unrelated app holds some of the account's connections
    "stirred",  # someone whom the request names has just changed, by their own doing or by hand
)
BLOCKED = "<html><head><title>Request Blocked</title></head><body>Reference Number: 18.6f2e</body></html>"


class Faults:
    """ASGI middleware, the outermost: it must hold the connection itself to cut it."""

    def __init__(self, app: ASGIApp, state: State) -> None:
        self.app, self.state, self.record = app, state, Record(state.path.with_name("exchanges.ndjson"))
        with state.transaction() as db:
            self.settings = switches.settings(db)
        self.drawn = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        if scope["path"] == SETTINGS:
            return await (await self.set(Request(scope, receive)))(scope, receive, send)
        if not scope["path"].startswith("/3.0"):
            return await self.app(scope, receive, send)
        fault, chance = self.draw()
        elsewhere = chance.randint(1, LIMIT) if fault == "elsewhere" else self.settings["elsewhere"]
        scope.setdefault("state", {})["elsewhere"] = elsewhere
        await self.meet(fault, chance, scope, receive, send)

    async def set(self, request: Request) -> Response:
        """Answer the settings, changed where the request says so."""
        wanted = await request.json() if request.method == "POST" else {}
        if not LOOPBACK.fullmatch(request.headers.get("host", "")) or not isinstance(wanted, dict):
            return JSONResponse({"error": "not from here"}, 421)

        def change() -> dict[str, Any]:
            with self.state.transaction() as db:
                return switches.change(db, wanted)

        try:
            self.settings = await run_in_threadpool(change)
        except ValueError as error:
            return JSONResponse({"error": str(error)}, 400)
        self.drawn = 0 if wanted else self.drawn
        return JSONResponse(self.settings)

    def draw(self) -> tuple[str, random.Random]:
        """The fault that this request meets, blank for none, and the chance that decides its details."""
        self.drawn += 1
        chance = random.Random(f"{self.settings['fault_seed']}:{self.drawn}")
        chosen = self.settings["faults"]
        wanted = FAULTS if chosen == "all" else [name for name in chosen.split(",") if name in FAULTS]
        met = chance.random() < self.settings["fault_rate"] and self.drawn > self.settings["fault_from"]
        return (chance.choice(wanted) if wanted and met else ""), chance

    async def meet(self, fault: str, chance: random.Random, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, with what its fault does to it on the way."""
        slow = self.settings["slow_seconds"]

        async def receive_late() -> Message:
            message = await receive()
            if fault == "slow_before":
                await asyncio.sleep(slow)
            return message

        async def send_or_fail(message: Message) -> None:
            if message["type"] == "http.response.start":
                await asyncio.sleep(self.settings["delay_ms"] / 1000 + (slow if fault == "slow_after" else 0))
                if fault != "reset_after":
                    await send(message)
            elif fault == "reset_after":
                await hang_up(send)
            elif fault == "lost" and message.get("body"):
                await send({**message, "body": message["body"][: len(message["body"]) // 2], "more_body": True})
                await hang_up(send)
            else:
                await send(message)

        if fault == "reset_before":
            return await hang_up(send)
        if fault == "stirred":
            receive = await self.stirred(chance, scope, receive)
        passing: tuple[Receive, Send] = receive_late, send_or_fail
        if self.settings["record"]:  # what the service says, be it that the fault cuts it off on its way
            passing = self.record.watching(scope, *passing)
        await (refusing(fault) if fault in REFUSALS else self.app)(scope, *passing)

    async def stirred(self, chance: random.Random, scope: Scope, receive: Receive) -> Receive:
        """Change someone whom the request names, then let it in with its body."""
        body = await Request(scope, receive).body()
        await run_in_threadpool(stirring.stir, self.state, chance, scope["path"], body)

        async def again() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        return again


def refusing(fault: str) -> ASGIApp:
    """A service that hears a request out and refuses it."""

    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        await Request(scope, receive).body()
        await refusal(fault)(scope, receive, send)

    return refuse


def refusal(fault: str) -> Response:
    """The answer of a fault that is one; those without JSON come from in front of Mailchimp."""
    if fault == "429":
        return problem_response(too_many_requests(LIMIT))
    if fault == "500":
        return problem_response(Problem(500, "Internal Server Error", "An unexpected internal error occurred."))
    return HTMLResponse(BLOCKED, int(fault.partition("_")[0]))


async def hang_up(send: Send) -> None:
    """Reset the caller's connection, without another byte."""
    transport = getattr(send, "__self__").transport  # noqa: B009  (uvicorn's own; ASGI has no word for it)
    if not transport.is_closing():
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    await asyncio.sleep(0.01)  # until uvicorn knows that nobody is there
