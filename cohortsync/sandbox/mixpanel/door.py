"""Who may come in: loopback callers only."""

from __future__ import annotations

import re

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

LOOPBACK = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d+)?")


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
