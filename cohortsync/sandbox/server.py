"""Serving the sandbox: in this process until told to stop, or as a process of its own."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from .door import Door, problem_response
from .mailchimp import build_routes
from .page import build_page
from .problems import Problem, not_found
from .seed import seed_state
from .state import State, make_tables

NOTHING_FROM_OUTSIDE = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
READY = "local Mailchimp ready at "
START_TIMEOUT = 120.0
STOP_TIMEOUT = 10.0


def build_app(state: State) -> Starlette:
    """The API and the page on one state."""

    async def page(request: Request) -> Response:
        return await run_in_threadpool(show)

    def show() -> Response:
        with state.transaction() as db:
            return HTMLResponse(build_page(db), headers={"Content-Security-Policy": NOTHING_FROM_OUTSIDE})

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
    return app


class Server(uvicorn.Server):
    """Says where it listens once it does, and ends well when it is told to end."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        port = sockets[0].getsockname()[1] if sockets else self.config.port
        print(f"{READY}http://127.0.0.1:{port}", file=sys.stderr, flush=True)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn's own raises the signal again after a clean end, which would make it a failure.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.handle_exit)
        yield


def serve(state_dir: Path, port: int = 0, seed: Path | None = None, stop_with_stdin: bool = False) -> None:
    """Serve on 127.0.0.1 until SIGTERM or SIGINT, or until stdin ends when asked to.

    Port 0 is a free one. `seed` counts on the first start only. Raises ValueError (seed) and OSError (port).
    """
    state = State(state_dir)
    with state.transaction() as db:
        if make_tables(db):
            seed_state(db, seed)
    # Named TCP, or asyncio leaves its sockets slow: 40 ms an answer.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    server = Server(
        uvicorn.Config(
            build_app(state),
            lifespan="off",
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=5,
        )
    )
    if stop_with_stdin:
        threading.Thread(target=stop_at_end_of_stdin, args=(server,), daemon=True).start()
    server.run(sockets=[listener])
    state.close()


def stop_at_end_of_stdin(server: uvicorn.Server) -> None:
    """The pipe of a parent that was killed ends, and so does the child."""
    while os.read(0, 1024):
        pass
    server.should_exit = True


@dataclass(frozen=True)
class Sandbox:
    """A sandbox that is up."""

    port: int
    pid: int

    @property
    def mailchimp_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def start(
    state_dir: str | os.PathLike[str], mailchimp_port: int = 0, seed: str | os.PathLike[str] | None = None
) -> Iterator[Sandbox]:
    """Run the sandbox as a process of its own for the length of a `with`.

    It is answering when the block begins, is ended when the block ends, and ends by itself when this
    process dies. What it says goes to `sandbox.log` in `state_dir`. Raises RuntimeError with the end
    of that log when it does not come up.
    """
    folder = Path(state_dir)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    log = folder / "sandbox.log"
    child = launch(folder, mailchimp_port, Path(seed) if seed else None, log)
    try:
        yield Sandbox(wait_until_ready(child, log), child.pid)
    finally:
        stop(child)


def launch(folder: Path, port: int, seed: Path | None, log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "cohortsync.sandbox", "--mailchimp-port", str(port)]
    command += ["--state", str(folder), "--stop-with-stdin", *(["--seed", str(seed)] if seed else [])]
    # The child must find this very package, installed or not.
    here = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    with open(os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as out:
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=out, stderr=out, env=os.environ | {"PYTHONPATH": path}
        )


def wait_until_ready(child: subprocess.Popen[bytes], log: Path) -> int:
    """The port, once the child has said that it listens there."""
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        said = log.read_text(errors="replace")
        if ready := re.search(rf"^{READY}http://127\.0\.0\.1:(\d+)$", said, re.MULTILINE):
            return int(ready[1])
        if child.poll() is not None:
            break
        time.sleep(0.02)
    raise RuntimeError(f"The local Mailchimp did not start. It said:\n{log.read_text(errors='replace')[-2000:]}")


def stop(child: subprocess.Popen[bytes]) -> None:
    """End the child: asked first, then made to."""
    if child.stdin:
        child.stdin.close()
    child.terminate()
    try:
        child.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
