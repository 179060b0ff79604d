"""The local Mailchimp as one application: the API and the page on one state."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from ..dated import Dated
from ..page import NOTHING_FROM_OUTSIDE
from ..state import State
from .door import Door, problem_response
from .faults import Faults
from .page import build_page
from .problems import Problem, not_found
from .routes import build_routes
from .state import instant


def build_app(state: State) -> ASGIApp:
    async def page(request: Request) -> Response:
        return await run_in_threadpool(show)

    def show() -> Response:
        with state.transaction() as db:
            return HTMLResponse(build_page(db), headers=NOTHING_FROM_OUTSIDE)

    async def nothing_there(request: Request, error: Exception) -> Response:
        return problem_response(not_found())

    async def fault(request: Request, error: Exception) -> Response:
        return problem_response(Problem(500, "Internal Server Error", "An unexpected internal error occurred."))

    app = Starlette(
        routes=[Route("/", page), *build_routes(state)],
        middleware=[Middleware(Door)],
        exception_handlers={HTTPException: nothing_there, Exception: fault},
    )
    app.router.redirect_slashes = False
    return Faults(Dated(app, lambda: instant(state.reader)), state)
