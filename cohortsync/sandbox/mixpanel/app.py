"""The local Mixpanel as one application: its APIs, their limits and faults, and the page on one state.

Source: https://developer.mixpanel.com/reference/overview
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ..dated import Dated
from ..page import NOTHING_FROM_OUTSIDE
from ..state import State
from . import accounts, export, faults, ingestion
from .door import Door
from .limits import Inside, count_request
from .page import build_page
from .refusals import Refusal, refused
from .routes import LOOKUPS, QUERIES, SWITCHES, WRITES, Call, Handler
from .state import now, setting

Answer = Callable[[Handler, Request], Awaitable[Response]]


class Lost(Response):
    """An answer that breaks off in the middle: the connection ends before the answer does."""

    def __init__(self, parts: Iterator[bytes], headers: dict[str, str]) -> None:
        super().__init__(headers=headers)
        self.parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(name.encode(), value.encode()) for name, value in self.headers.items() if name != "content-length"]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        part = await run_in_threadpool(next, self.parts, b"")
        await send({"type": "http.response.body", "body": part[: len(part) // 2], "more_body": True})


@dataclass(frozen=True)
class Mixpanel:
    """The service on one state."""

    state: State
    inside: Inside

    # asking

    def let_in(self, db: sqlite3.Connection, call: Call) -> None:
        accounts.of_a_query(db, call.authorization, call.path)
        accounts.check_project(db, call.project_id, call.path)
        if setting(db, "402") == "1":
            raise Refusal(402, {"request": call.path, "error": "Payment required"})

    def admit(self, db: sqlite3.Connection, kind: str, call: Call, running: int) -> str:
        """Past the limits; the fault it meets then. A refusal is answered, but what was counted stays counted."""
        self.let_in(db, call)
        later = bool(call.asked.get("session_id")) and str(call.asked.get("page", "0")) != "0"
        counts = not later or setting(db, "count_pages") == "1"
        if too_many := count_request(db, kind, call.path, running, counts):
            raise too_many
        return faults.draw(db, kind, later)

    # answering

    async def answer(self, handler: Handler, request: Request) -> Response:
        """The app API and the switches: no limit but their own."""
        call = await Call.of(request)

        def work() -> Any:
            with self.state.transaction() as db:
                return handler(db, call)

        return JSONResponse(await run_in_threadpool(work))

    async def take_in(self, handler: Handler, request: Request) -> Response:
        """The ingestion API. Where an answer gets lost, what was sent is there all the same."""
        call = await Call.of(request)

        def work() -> tuple[Any, str]:
            with self.state.transaction() as db:
                fault = faults.draw(db, "import", False)
            if refusal := faults.refusal_of_data(fault):
                raise refusal
            with self.state.transaction() as db:
                ingestion.refuse_too_large(db, call.raw)
                return handler(db, call), fault

        found, fault = await run_in_threadpool(work)
        if fault == "cut":
            return Lost(iter([json.dumps(found).encode()]), {"content-type": "application/json"})
        return PlainTextResponse(str(found)) if isinstance(found, int) else JSONResponse(found)

    async def query(self, handler: Handler, request: Request) -> Response:
        call = await Call.of(request)

        def work() -> tuple[str, str]:
            with self.inside.visit("query") as running:
                with self.state.transaction() as db:
                    fault = self.admit(db, "query", call, running)
                if refusal := faults.refusal(fault, call.path):
                    raise refusal
                with self.state.transaction() as db:
                    found = handler(db, call)
                return found if isinstance(found, str) else json.dumps(found), fault

        text, fault = await run_in_threadpool(work)
        if fault == "cut":
            return Lost(iter([text.encode()]), {"content-type": "application/json"})
        return Response(text, media_type="application/json")

    async def raw_export(self, request: Request) -> Response:
        call = await Call.of(request)
        leave = ExitStack()

        def work() -> tuple[Iterator[bytes], str]:
            running = leave.enter_context(self.inside.visit("export"))
            with self.state.transaction() as db:
                fault = self.admit(db, "export", call, running)
            if refusal := faults.refusal(fault, call.path):
                raise refusal
            with self.state.transaction() as db:
                query, values = export.statement(db, call.asked)
            in_ms = str(call.asked.get("time_in_ms", "")).lower() == "true"
            parts = export.chunks(self.state.snapshot(), query, values, in_ms)
            return (export.spoilt(parts, fault) if fault else parts), fault

        try:
            parts, fault = await run_in_threadpool(work)
            return await self.stream(parts, fault, "gzip" in call.headers.get("accept-encoding", ""), leave)
        except BaseException:
            leave.close()
            raise

    async def stream(self, parts: Iterator[bytes], fault: str, zips: bool, leave: ExitStack) -> Response:
        """The lines as they are read; zipped where that is understood and worth it."""
        first = await run_in_threadpool(next, parts, b"")
        headers = {"content-type": "text/plain"}
        if len(first) <= export.SMALLEST_ZIPPED:
            leave.close()
            return PlainTextResponse(first)
        whole = _chain(first, parts, leave)
        if zips:
            whole, headers = export.zipped(whole), headers | {"content-encoding": "gzip"}
        if fault == "cut":
            return Lost(whole, headers)
        return StreamingResponse(iterate_in_threadpool(whole), headers=headers)


def _chain(first: bytes, rest: Iterator[bytes], leave: ExitStack) -> Iterator[bytes]:
    with leave:
        yield first
        yield from rest


def build_app(state: State) -> ASGIApp:
    """The service as an ASGI application."""
    service = Mixpanel(state, Inside())

    async def page(request: Request) -> Response:
        def show() -> Response:
            with state.transaction() as db:
                return HTMLResponse(build_page(db), headers=NOTHING_FROM_OUTSIDE)

        return await run_in_threadpool(show)

    async def no(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refusal)
        return JSONResponse(error.body, error.status, headers=error.headers)

    async def nothing_there(request: Request, error: Exception) -> Response:
        return await no(request, refused(404, request.url.path, "Not found"))

    def paths(handlers: Mapping[str, Handler], answer: Answer, *methods: str) -> list[Route]:
        return [Route(path + slash, partial(answer, handler), methods=methods)
                for path, handler in handlers.items() for slash in ("", "/")]  # fmt: skip

    routes = [
        Route("/", page),
        *paths(QUERIES, service.query, "GET", "POST"),
        *paths(LOOKUPS, service.answer, "GET"),
        *paths(SWITCHES, service.answer, "POST"),
        *paths(WRITES, service.take_in, "POST"),
        *[Route(f"/api/2.0/export{slash}", service.raw_export) for slash in ("", "/")],
    ]
    app = Starlette(routes=routes, exception_handlers={Refusal: no, HTTPException: nothing_there})
    app.router.redirect_slashes = False
    return Dated(Door(app), lambda: now(state.reader))
