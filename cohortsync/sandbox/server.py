"""Serving the sandbox: in this process until told to stop, or as a process of its own."""

from __future__ import annotations

import asyncio
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
from typing import Any

import uvicorn

from .mailchimp import app as mailchimp
from .mailchimp import consent, switches
from .mailchimp import seed as mailchimp_seed
from .mailchimp import state as mailchimp_state
from .mixpanel import app as mixpanel
from .mixpanel import seed as mixpanel_seed
from .mixpanel import state as mixpanel_state
from .state import State

START_TIMEOUT = 300.0
STOP_TIMEOUT = 10.0


class Server(uvicorn.Server):
    """Says where it listens once it does, and leaves signals to who runs it."""

    def __init__(self, app: Any, name: str, port: int) -> None:
        # Named TCP, or asyncio leaves its sockets slow: 40 ms an answer.
        self.listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", port))
        self.name = name
        super().__init__(uvicorn.Config(app, lifespan="off", log_level="warning", access_log=False,
                                        date_header=False, timeout_graceful_shutdown=5))  # fmt: skip

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        print(f"{ready(self.name)}http://127.0.0.1:{self.listener.getsockname()[1]}", file=sys.stderr, flush=True)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn's own raises the signal again after a clean end, which would make it a failure.
        yield


def ready(name: str) -> str:
    return f"local {name} ready at "


@dataclass
class Services:
    """What is served from one folder: the local Mailchimp, and the local Mixpanel where it was ever seeded."""

    mailchimp: State
    mixpanel: State | None

    @classmethod
    def at(cls, folder: Path, seed: Path | None, mixpanel_seed_file: Path | None) -> Services:
        """Raises ValueError for a seed that is none."""
        mailchimp_there = State(folder / "mailchimp.sqlite")
        with mailchimp_there.transaction() as db:
            empty = mailchimp_state.make_tables(db)
            switches.make_table(db)
            consent.watch(db)
            if empty:
                mailchimp_seed.seed_state(db, seed)
        path = folder / "mixpanel.sqlite"
        if not path.exists() and not mixpanel_seed_file:
            return cls(mailchimp_there, None)
        mixpanel_there = State(path)
        with mixpanel_there.transaction() as db:
            if mixpanel_state.make_tables(db):
                if mixpanel_seed_file is None:
                    raise ValueError(f"{path} is empty; remove it, or name a seed")
                mixpanel_seed.seed_state(db, mixpanel_seed_file)
            mixpanel_state.start_clock(db)
        return cls(mailchimp_there, mixpanel_there)

    def servers(self, mailchimp_port: int, mixpanel_port: int) -> list[Server]:
        found = [Server(mailchimp.build_app(self.mailchimp), "Mailchimp", mailchimp_port)]
        if self.mixpanel:
            found.append(Server(mixpanel.build_app(self.mixpanel), "Mixpanel", mixpanel_port))
        return found

    def close(self) -> None:
        self.mailchimp.close()
        if self.mixpanel:
            with self.mixpanel.transaction() as db:
                mixpanel_state.stop_clock(db)
            self.mixpanel.close()


def serve(
    state_dir: Path,
    mailchimp_port: int = 0,
    seed: Path | None = None,
    stop_with_stdin: bool = False,
    mixpanel_port: int = 0,
    mixpanel_seed: Path | None = None,
) -> None:
    """Serve on 127.0.0.1 until SIGTERM or SIGINT, or until stdin ends when asked to.

    Port 0 is a free one. Seeds count on the first start only. Raises ValueError (seed) and OSError (port).
    """
    services = Services.at(state_dir, seed, mixpanel_seed)
    servers = services.servers(mailchimp_port, mixpanel_port)

    def stop_all(*_: Any) -> None:
        for server in servers:
            server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop_all)
    if stop_with_stdin:
        threading.Thread(target=stop_at_end_of_stdin, args=(stop_all,), daemon=True).start()
    asyncio.run(serve_all(servers))
    services.close()


async def serve_all(servers: list[Server]) -> None:
    await asyncio.gather(*(server.serve(sockets=[server.listener]) for server in servers))


def stop_at_end_of_stdin(stop_all: Any) -> None:
    """The pipe of a parent that was killed ends, and so does the child."""
    while os.read(0, 1024):
        pass
    stop_all()


@dataclass(frozen=True)
class Sandbox:
    """A sandbox that is up."""

    port: int
    pid: int
    mixpanel_port: int | None = None

    @property
    def mailchimp_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def mixpanel_url(self) -> str | None:
        return f"http://127.0.0.1:{self.mixpanel_port}" if self.mixpanel_port else None


@contextmanager
def start(
    state_dir: str | os.PathLike[str],
    mailchimp_port: int = 0,
    seed: str | os.PathLike[str] | None = None,
    mixpanel_port: int = 0,
    mixpanel_seed: str | os.PathLike[str] | None = None,
) -> Iterator[Sandbox]:
    """Run the sandbox as a process of its own for the length of a `with`.

    It is answering when the block begins, is ended when the block ends, and ends by itself when this
    process dies. What it says goes to `sandbox.log` in `state_dir`. Raises RuntimeError with the end
    of that log when it does not come up.
    """
    folder = Path(state_dir)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    log = folder / "sandbox.log"
    both = bool(mixpanel_seed) or (folder / "mixpanel.sqlite").exists()
    options = {"mailchimp-port": mailchimp_port, "mixpanel-port": mixpanel_port, "state": folder, "seed": seed,
               "mixpanel-seed": mixpanel_seed}  # fmt: skip
    child = launch({name: str(value) for name, value in options.items() if value is not None}, log)
    try:
        yield Sandbox(wait_until_ready(child, log, "Mailchimp"), child.pid,
                      wait_until_ready(child, log, "Mixpanel") if both else None)  # fmt: skip
    finally:
        stop(child)


def launch(options: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "cohortsync.sandbox", "--stop-with-stdin"]
    command += [word for name, value in options.items() for word in (f"--{name}", value)]
    # The child must find this very package, installed or not.
    here = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    with open(os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as out:
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=out, stderr=out, env=os.environ | {"PYTHONPATH": path}
        )


def wait_until_ready(child: subprocess.Popen[bytes], log: Path, name: str) -> int:
    """The port of a service, once the child has said that it listens there."""
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        said = log.read_text(errors="replace")
        if found := re.search(rf"^{ready(name)}http://127\.0\.0\.1:(\d+)$", said, re.MULTILINE):
            return int(found[1])
        if child.poll() is not None:
            break
        time.sleep(0.02)
    raise RuntimeError(f"The local {name} did not start. It said:\n{log.read_text(errors='replace')[-2000:]}")


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
