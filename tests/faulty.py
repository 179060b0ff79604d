"""A real proxy before the local Mailchimp that goes wrong on request, and keeps what passed through it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import requests

Fault = Callable[[str, str], str | None]


@dataclass
class Proxy:
    """``fault(method, path)`` names what goes wrong: 400, 429, 500, 403 (no JSON), lost (done, not answered),
    done_500 (done, and answered so).
    """

    url: str
    fault: Fault = lambda _method, _path: None
    passed: list[tuple[str, str, bytes]] = field(default_factory=list)

    def writes(self) -> list[tuple[str, str, bytes]]:
        return [request for request in self.passed if request[0] != "GET"]


@contextmanager
def before(target: str) -> Iterator[Proxy]:
    """Listen on a free port and hand everything on to ``target``."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    proxy = Proxy(f"http://127.0.0.1:{server.server_port}")
    server.target, server.proxy = target, proxy  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65536

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.proxy.fault(self.command, self.path)  # type: ignore[attr-defined]
        if fault == "400":
            self._answer(400, "application/problem+json", b'{"title": "Bad Request", "status": 400, "detail": "no"}')
            return
        if fault in ("429", "500", "403"):
            self._answer(int(fault), "text/html", b"<h1>no</h1>")
            return
        self.server.proxy.passed.append((self.command, self.path, body))  # type: ignore[attr-defined]
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")}
        answer = requests.request(self.command, self.server.target + self.path, data=body,  # type: ignore[attr-defined]
                                  headers=headers, timeout=20)
        if fault == "lost":
            self.close_connection = True
            self.connection.close()
            return
        if fault == "done_500":
            self._answer(500, "text/html", b"<h1>no</h1>")
            return
        self._answer(answer.status_code, answer.headers.get("Content-Type", ""), answer.content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass

    def _answer(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass
