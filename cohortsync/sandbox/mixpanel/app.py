"""The routes of the local Mixpanel: query, export, app and ingestion APIs at one address.

Source: https://developer.mixpanel.com/reference/overview
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

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
from . import accounts, engage, export, faults, ingestion
from .limits import Inside, count_request
from .page import build_page
from .refusals import Refusal, refused
from .state import keep_settings, now, setting

Json = dict[str, Any]
LOOPBACK = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d+)?")


@dataclass(frozen=True)
class Call:
    """One request, taken apart: where, who says so, what was asked (query, form or JSON body), and the raw body."""

    path: str
    authorization: str
    asked: Json
    raw: bytes
    headers: dict[str, str]
    project_id: str


Handler = Callable[[sqlite3.Connection, Call], Any]
Endpoint = Callable[[Request], Awaitable[Response]]


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

    async def call(self, request: Request) -> Call:
        raw = await request.body()
        asked = dict(request.query_params) | _body_parameters(raw, request.headers.get("content-type", ""))
        project_id = str(request.path_params.get("project_id") or asked.get("project_id") or "")
        path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return Call(path, request.headers.get("authorization", ""), asked, raw, dict(request.headers), project_id)

    def let_in(self, db: sqlite3.Connection, call: Call) -> sqlite3.Row:
        account = accounts.of_a_query(db, call.authorization, call.path)
        accounts.check_project(db, call.project_id, call.path)
        if setting(db, "402") == "1":
            raise Refusal(402, {"request": call.path, "error": "Payment required"})
        return account

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
        """The app and ingestion APIs: no limit but their own."""
        call = await self.call(request)

        def work() -> Any:
            with self.state.transaction() as db:
                return handler(db, call)

        found = await run_in_threadpool(work)
        return PlainTextResponse(str(found)) if isinstance(found, int) else JSONResponse(found)

    async def query(self, handler: Handler, request: Request) -> Response:
        call = await self.call(request)

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
        call = await self.call(request)
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


def _body_parameters(raw: bytes, content_type: str) -> Json:
    """The parameters of a form or of a JSON object; of anything else none."""
    if "json" in content_type and raw.strip()[:1] == b"{":
        try:
            return dict(json.loads(raw))
        except ValueError:
            return {}
    if "form-urlencoded" in content_type:
        return dict(parse_qsl(raw.decode("utf-8", "replace")))
    return {}


# handlers of the app and ingestion APIs


def get_me(db: sqlite3.Connection, call: Call) -> Json:
    return {"status": "ok", "results": accounts.me(db, accounts.of_the_app(db, call.authorization))}


def get_accounts(db: sqlite3.Connection, call: Call) -> Json:
    account = accounts.of_the_app(db, call.authorization)
    accounts.check_project(db, call.project_id, call.path)
    return {"status": "ok", "results": accounts.service_accounts(db, account)}


def get_cohorts(db: sqlite3.Connection, call: Call) -> Any:
    return engage.list_cohorts(db)


def get_engage(db: sqlite3.Connection, call: Call) -> str:
    engage.no_group(call.asked)
    return engage.page_of_profiles(db, call.asked)


def post_import(db: sqlite3.Connection, call: Call) -> Any:
    if "data" in call.asked:  # as the vendor's own library for Python sends it
        return post_track(db, call)
    accounts.check_importer(db, call.authorization, call.project_id)
    events = ingestion.body_events(ingestion.unzipped(call.raw, call.headers.get("content-encoding", "")))
    imported = ingestion.import_events(db, events, strict=str(call.asked.get("strict", "1")) != "0")
    return {"code": 200, "num_records_imported": imported, "status": "OK"}


def post_track(db: sqlite3.Connection, call: Call) -> Any:
    def keep() -> None:
        events = ingestion.form_data(str(call.asked.get("data", "")))
        ingestion.keep_events(db, [each for each in events if isinstance(each, dict) and "properties" in each],
                              imported=call.path.startswith("/import"))  # fmt: skip

    return outcome(call, keep)


def post_profiles(db: sqlite3.Connection, call: Call) -> Any:
    def change() -> None:
        ingestion.update_profiles(db, ingestion.form_data(str(call.asked["data"])) if "data" in call.asked
                                  else ingestion.body_updates(call.raw))  # fmt: skip

    return outcome(call, change)


def outcome(call: Call, work: Callable[[], None]) -> Json | int:
    """1 when it went well and 0 when not, in both cases answered 200; with the reason to who asks for it."""
    error = None
    try:
        work()
    except ingestion.Invalid as invalid:
        error = str(invalid)
    told = {"status": int(error is None), "error": error}
    return told if {"verbose", "strict"} & set(call.asked) else int(error is None)


def post_settings(db: sqlite3.Connection, call: Call) -> Json:
    keep_settings(db, call.asked)
    return {"status": "ok"}


class Door:
    """ASGI middleware that lets only loopback's names in."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        hosts = [value.decode("latin-1") for name, value in scope.get("headers", ()) if name == b"host"]
        # A web page anywhere can point its own name at 127.0.0.1; its Host header gives it away.
        if scope["type"] == "http" and not (hosts and LOOPBACK.fullmatch(hosts[0])):
            refusal = PlainTextResponse("This rehearsal answers on loopback names only.", 421)
            return await refusal(scope, receive, send)
        await self.app(scope, receive, send)


def build_app(state: State) -> ASGIApp:
    """The service as an ASGI application."""
    service = Mixpanel(state, Inside())

    def answers(handler: Handler) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            return await service.answer(handler, request)

        return endpoint

    def queries(handler: Handler) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            return await service.query(handler, request)

        return endpoint

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

    both = ["GET", "POST"]
    routes = [
        Route("/", page),
        Route("/api/app/me", answers(get_me)),
        Route("/api/app/me/", answers(get_me)),
        Route("/api/app/projects/{project_id}/service-accounts", answers(get_accounts)),
        *[Route(f"/api/{version}/cohorts/list{slash}", queries(get_cohorts), methods=both)
          for version in ("query", "2.0") for slash in ("", "/")],
        *[Route(f"/api/{version}/engage{slash}", queries(get_engage), methods=both)
          for version in ("query", "2.0") for slash in ("", "/")],
        *[Route(f"/api/2.0/export{slash}", service.raw_export) for slash in ("", "/")],
        *[Route(f"/import{slash}", answers(post_import), methods=["POST"]) for slash in ("", "/")],
        *[Route(f"/track{slash}", answers(post_track), methods=["POST"]) for slash in ("", "/")],
        *[Route(f"/engage{slash}", answers(post_profiles), methods=["POST"]) for slash in ("", "/")],
        Route("/sandbox/settings", answers(post_settings), methods=["POST"]),
    ]  # fmt: skip
    app = Starlette(routes=routes, exception_handlers={Refusal: no, HTTPException: nothing_there})
    app.router.redirect_slashes = False
    return Dated(Door(app), lambda: now(state.reader))
