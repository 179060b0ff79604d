"""Processes of their own that begin at once: forked from one that has imported all there is to import."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from cohortsync.sandbox.server import STOP_TIMEOUT, Sandbox, serve, wait_until_ready

MODULES = ["cohortsync.cli", "cohortsync.demo", "cohortsync.sandbox.server", "cohortsync.charts"]
PROCESSES = multiprocessing.get_context("forkserver")


class Forked(ForkServerProcess):
    """A process that runs a function in an environment, a folder and files of its own, as a new program would.

    Its standard input ends when this process does, however that ends.
    """

    def __init__(self, does: Callable[..., object], *given: object, out: Path, err: Path,
                 environment: Mapping[str, str]) -> None:
        self._held, pipe = PROCESSES.Pipe()
        super().__init__(target=_run, args=(does, given, dict(environment), os.getcwd(), out, err, pipe))
        self.start()
        pipe.close()

    def poll(self) -> int | None:
        return self.exitcode


def _run(does: Callable[..., object], given: tuple[object, ...], environment: dict[str, str], folder: str, out: Path,
         err: Path, pipe: Connection) -> None:
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    os.dup2(pipe.fileno(), 0)
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600), number)
    does(*given)


def command(words: list[str]) -> None:
    """``python -m cohortsync`` with these words."""
    from cohortsync.cli import main

    sys.argv = ["cohortsync", *words]
    main()


@contextmanager
def sandbox(folder: Path, seed: Path | None = None, mixpanel_seed: Path | None = None) -> Iterator[Sandbox]:
    """As ``cohortsync.sandbox.start``: the local services, on free ports, for the length of a ``with``."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    log = folder / "sandbox.log"
    log.write_bytes(b"")
    child = Forked(serve, folder, 0, seed, True, 0, mixpanel_seed, out=log, err=log, environment=os.environ)
    try:
        yield Sandbox(wait_until_ready(child, log, "Mailchimp"), child.pid or 0,
                      wait_until_ready(child, log, "Mixpanel") if mixpanel_seed else None)
    finally:
        child.terminate()
        child.join(STOP_TIMEOUT)
        child.kill()
        child.join()
