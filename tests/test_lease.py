"""The lease of an account: one holder, freed by the kernel, and the connections of the dead cool down."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cohortsync import lease
from cohortsync.config import Settings
from cohortsync.errors import ApiTransient

ACCOUNT = {"host": "us6.api.mailchimp.com", "account_id": "a1", "account_name": "Account"}
HOLDING = f"""
import sys
from cohortsync import lease
from cohortsync.config import Settings
with lease.hold({ACCOUNT!r}, Settings()) as slots:
    print(slots, flush=True)
    sys.stdin.read()
"""


def settings(**changes: float) -> Settings:
    return Settings().model_copy(update={"settle_seconds": 60, **changes})


@contextmanager
def a_holder() -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lease, and does not live longer than the block."""
    child = subprocess.Popen([sys.executable, "-c", HOLDING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                             env=os.environ | {"COHORTSYNC_SETTLE_SECONDS": "60"})
    assert child.stdout is not None
    try:
        child.granted = int(child.stdout.readline())  # type: ignore[attr-defined]
        yield child
    finally:
        child.send_signal(signal.SIGKILL)
        child.communicate()


def test_one_process_at_a_time_holds_the_lease() -> None:
    with a_holder():
        with pytest.raises(ApiTransient, match="Another sync with Account"), lease.hold(ACCOUNT, settings()):
            pass
        with lease.hold({**ACCOUNT, "account_id": "a2"}, settings()) as slots:
            assert slots == 4


def test_the_kernel_frees_the_lease_of_a_killed_process_and_its_connections_cool_down() -> None:
    granted = []
    for _ in range(3):
        with a_holder() as child:
            granted.append(child.granted)  # type: ignore[attr-defined]
    assert granted == [4, 4, 2]


def test_when_all_connections_cool_down_the_next_holder_waits_until_one_has() -> None:
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), lease.hold(ACCOUNT, settings(settle_seconds=1)):
            raise ZeroDivisionError
    began = time.monotonic()
    with lease.hold(ACCOUNT, settings(settle_seconds=1)) as slots:
        assert slots >= 2
    assert time.monotonic() - began < 30


def test_who_ends_in_order_leaves_all_connections_free() -> None:
    for _ in range(4):
        with lease.hold(ACCOUNT, settings(connections=10)) as slots:
            assert slots == 10
