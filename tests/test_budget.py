"""The hour's budget of requests: shared by processes, freed by the kernel, counted by the server's clock."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from cohortsync.budget import Budget
from cohortsync.config import Settings, state_folder
from cohortsync.errors import ApiTransient, StoreError

SPEND = """
import sys
from cohortsync.budget import Budget
from cohortsync.config import Settings
budget = Budget("host|1", Settings(mixpanel_queries_per_hour=10, mixpanel_wait_seconds=0.2))
for _ in range(int(sys.argv[1])):
    with budget.take("query"):
        pass
"""
HOLD = """
import time
from cohortsync.budget import Budget
from cohortsync.config import Settings
with Budget("host|1", Settings(mixpanel_concurrent=1)).take("query"):
    print("held", flush=True)
    time.sleep(60)
"""
WAIT = """
from cohortsync.budget import Budget
from cohortsync.config import Settings
budget = Budget("host|1", Settings(mixpanel_concurrent=1, mixpanel_queries_per_hour=1),
                notice=lambda text: print(text, flush=True))
for _ in range(2):
    with budget.take("query"):
        pass
"""


class Clock:
    """A server's clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def budget(clock: Clock | None = None, scope: str = "host|1", **settings: Any) -> Budget:
    return Budget(scope, Settings(**{"mixpanel_wait_seconds": 0.2, **settings}), clock or Clock())


def spend(one: Budget, kind: str = "query", times: int = 1) -> None:
    for _ in range(times):
        with one.take(kind):
            pass


def test_an_hour_holds_so_many_and_an_hour_later_as_many_again() -> None:
    clock = Clock()
    one = budget(clock, mixpanel_queries_per_hour=3)
    spend(one, times=3)
    assert one.left("query") == 0
    with pytest.raises(ApiTransient, match="allows 3 queries an hour and the next is free at"):
        spend(one)
    clock.now += 3600
    assert one.left("query") == 3
    spend(one)


def test_each_kind_and_each_project_has_its_own() -> None:
    one, other = budget(mixpanel_queries_per_hour=1), budget(scope="host|2", mixpanel_queries_per_hour=1)
    spend(one)
    assert (one.left("query"), one.left("export"), other.left("query")) == (0, 60, 1)


def test_what_does_not_count_takes_nothing() -> None:
    one = budget()
    with one.take("query", counts=False):
        pass
    assert one.left("query") == 60


def test_exports_are_spread_over_the_second() -> None:
    one = Budget("host|1", Settings(mixpanel_exports_per_second=2, mixpanel_wait_seconds=5))
    start = time.monotonic()
    spend(one, "export", 3)
    assert time.monotonic() - start >= 0.9


def test_processes_share_one_hour() -> None:
    running = [subprocess.Popen([sys.executable, "-c", SPEND, "4"], stderr=subprocess.PIPE) for _ in range(4)]
    failed = [process.communicate(timeout=60)[1].decode() for process in running]
    assert budget(time.time, mixpanel_queries_per_hour=10).left("query") == 0  # type: ignore[arg-type]
    assert sum("allows 10 queries an hour" in text for text in failed) >= 1


def test_the_place_of_a_killed_process_is_free_again() -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE) as holder:
        assert holder.stdout and holder.stdout.readline() == b"held\n"
        with pytest.raises(ApiTransient, match="others of this machine keep it busy"):
            spend(budget(mixpanel_concurrent=1))
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait(timeout=20)
    spend(budget(mixpanel_concurrent=1))


def test_whoever_waits_for_the_hour_keeps_no_place_meanwhile() -> None:
    with subprocess.Popen([sys.executable, "-c", WAIT], stdout=subprocess.PIPE, text=True) as waiting:
        assert waiting.stdout and "Mixpanel allows 1 queries an hour" in waiting.stdout.readline()
        with Budget("host|1", Settings(mixpanel_concurrent=1, mixpanel_wait_seconds=10)).take("query", counts=False):
            pass
        waiting.kill()


def test_queries_and_exports_have_places_of_their_own() -> None:
    one = budget(mixpanel_concurrent=1)
    with one.take("query"), one.take("export"):
        pass


def test_an_hour_that_others_have_used_up_is_so_for_every_process_until_it_is_tried_again() -> None:
    clock = Clock()
    spend(budget(clock))
    budget(clock).exhaust("query", 90)
    assert (budget(clock).left("query"), budget(clock).left("export")) == (0, 60)
    clock.now += 91
    assert budget(clock).left("query") == 59


def test_entries_of_a_clock_that_was_set_back_take_nothing() -> None:
    clock = Clock()
    spend(budget(clock), times=3)
    clock.now -= 7200
    spend(budget(clock))
    assert budget(clock).left("query") == 59


def test_the_servers_clock_is_known_to_the_next_process() -> None:
    assert budget().offset_s() == 0
    budget().remember_offset(-86400.5)
    assert (budget().offset_s(), budget(scope="host|2").offset_s()) == (-86400.5, 0)


def test_what_was_spent_before_the_servers_clock_was_seen_counts_by_it() -> None:
    clock = Clock()
    spend(budget(clock), times=2)
    budget(clock).remember_offset(-86400)
    clock.now -= 86400
    assert budget(clock).left("query") == 58


def test_a_damaged_count_says_what_to_do() -> None:
    spend(budget())
    (state_folder("budget") / "requests.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(StoreError, match="delete it, and it begins anew"):
        spend(budget())
