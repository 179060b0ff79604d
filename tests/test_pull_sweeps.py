"""Pulls through everything at once: seeded faults, and kills at random points. ``make sweep`` runs all of them."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import forked
import pytest
from conftest import PROJECT_ID, sampled
from mixpanel_side import connect, contents, seed_small, settle

import cohortsync as cs
from cohortsync.errors import ApiTransient

SINCE = date(2026, 11, 14)
FAULTS = "429,429_retry_after,500,502,cut,terminated_early,split_record,duplicate_rows,expired_session"
REPEATS_SHOW_IN = {"superseded", "lags", "rows by kind"}
DRAWN = random.Random(2026)
SEEDS = DRAWN.sample(range(10_000), 300)
POINTS = [DRAWN.uniform(0, 1.1) for _ in range(50)]  # when a pull is killed, in shares of what it takes
PULL = """
import sys
from datetime import date
import cohortsync as cs
workspace = cs.open(sys.argv[1])
print("begins", flush=True)
workspace.pull(since=date(2026, 11, 14))
"""


@pytest.fixture(scope="module")
def side(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A small local Mixpanel with room for many pulls in one hour."""
    place = tmp_path_factory.mktemp("side")
    with forked.sandbox(place / "mixpanel", mixpanel_seed=seed_small(place)) as running:
        settle(running, page_size=40, query_per_hour=10**6, export_per_hour=10**6, export_per_second=10**6)
        yield running


@pytest.fixture(autouse=True)
def _room(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("QUERIES_PER_HOUR", "EXPORTS_PER_HOUR", "EXPORTS_PER_SECOND"):
        monkeypatch.setenv(f"COHORTSYNC_MIXPANEL_{name}", "1000000")
    monkeypatch.setenv("COHORTSYNC_PULL_SPAN_DAYS", "3")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the tests of this module make once."""
    return {"place": tmp_path_factory.mktemp("made")}


@pytest.fixture
def before(side: Any, made: dict[str, Any]) -> Path:
    """The home of a workspace that has pulled two days before."""
    home = made["place"] / "before"
    if not home.exists():
        connect(side, home).pull(since=date(2026, 11, 20))
    return home


@pytest.fixture
def whole(before: Path, made: dict[str, Any]) -> dict[str, list[tuple[Any, ...]]]:
    """What is in it once everything was pulled in peace."""
    if "whole" not in made:
        workspace = cs.open(shutil.copytree(before, made["place"] / "peace"))
        workspace.pull(since=SINCE)
        made["whole"] = contents(workspace)
    return dict(made["whole"])


def without(tables: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: rows for name, rows in tables.items() if name not in names}


def pull_until_whole(workspace: cs.Workspace) -> int:
    """Pull as often as it takes, as a scheduler would; how often that was. What does not complete changes nothing."""
    as_of = workspace.as_of
    for number in range(1, 5):
        try:
            workspace.pull(since=SINCE)
            return number
        except ApiTransient:
            workspace.refresh()
            assert workspace.as_of == as_of
    raise AssertionError("four pulls did not complete")


@pytest.mark.parametrize("seed", sampled(SEEDS, 2))
def test_a_pull_through_seeded_faults_ends_whole(side: Any, before: Path, whole: dict[str, Any], tmp_path: Path,
                                                seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(seed)
    monkeypatch.setenv("COHORTSYNC_PULL_SPAN_DAYS", str(chance.randint(1, 8)))
    monkeypatch.setenv("COHORTSYNC_ATTEMPTS", "8")
    workspace = cs.open(shutil.copytree(before, tmp_path / "home"))
    settle(side, faults=FAULTS, fault_rate=chance.uniform(0.1, 0.4), fault_seed=seed, fault_count=0)
    try:
        pulls = pull_until_whole(workspace)
    finally:
        settle(side, fault_rate=0)
    print(f"seed {seed}: {pulls} pulls")
    assert without(contents(workspace), REPEATS_SHOW_IN) == without(whole, REPEATS_SHOW_IN)


@pytest.fixture
def duration(before: Path, made: dict[str, Any], whole: dict[str, Any]) -> float:
    """Seconds that the pull to be killed takes."""
    if "duration" not in made:
        with begun(shutil.copytree(before, made["place"] / "timed")) as process:
            began = time.monotonic()
            assert process.wait(timeout=120) == 0
        made["duration"] = time.monotonic() - began
    return float(made["duration"])


def begun(home: Path) -> subprocess.Popen[bytes]:
    """A process that has just begun to pull."""
    process = subprocess.Popen([sys.executable, "-c", PULL, str(home)], stdout=subprocess.PIPE)
    assert process.stdout and process.stdout.readline() == b"begins\n"
    return process


@pytest.mark.parametrize("share", sampled(POINTS, 1))
def test_a_pull_killed_anywhere_leaves_what_was_and_the_next_completes_it(
        side: Any, before: Path, whole: dict[str, Any], duration: float, tmp_path: Path, share: float) -> None:
    home = shutil.copytree(before, tmp_path / "home")
    with begun(home) as process:
        time.sleep(share * duration)
        process.kill()
    workspace = cs.open(home)
    assert contents(workspace) in (contents(cs.open(before)), whole)
    workspace.pull(since=SINCE)
    assert contents(workspace) == whole
    assert not list((home / "raw" / PROJECT_ID).rglob("*.draft"))
