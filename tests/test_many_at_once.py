"""Many at once: kernels that stay, an app that polls, loads that are killed, collide or find the disk full."""

from __future__ import annotations

import json
import os
import pickle
import random
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import sampled
from forked import PROCESSES
from told import load_when_told
from typer.testing import CliRunner

import cohortsync as cs
from cohortsync import cli, drafts, ledger, warehouse

PATIENCE = 120  # seconds that anything here may take before the test gives up
DAY = 86_400
INSTANTS = {"loaded_at", "as_of", "defined_at", "changed_at", "path"}  # differ from load to load by nature
KERNEL = """
import json, sys, threading
import cohortsync as cs

ws, stop = cs.open(sys.argv[1]), threading.Event()

def numbers():
    events = con.execute("select count(*), sum(hash(insert_id)) from events").fetchall()
    return json.dumps([ws.as_of.isoformat(), ws.mtu()["mtu"].tolist(), len(ws.sql("from events")), str(events)])

with ws.connect() as con:
    seen = [numbers()]
    print("reading", flush=True)
    threading.Thread(target=lambda: (sys.stdin.readline(), stop.set()), daemon=True).start()
    while not stop.wait(0.1):
        seen.append(numbers())
    outdated = ws.outdated
    ws.refresh()
    print(json.dumps({"seen": seen, "outdated": outdated, "after": numbers()}), flush=True)
"""
APP = """
import json, sys, threading
import cohortsync as cs

stop, seen = threading.Event(), []
threading.Thread(target=lambda: (sys.stdin.readline(), stop.set()), daemon=True).start()
while not stop.wait(0.1):
    ws = cs.open(sys.argv[1])
    seen.append([ws.as_of.isoformat(), int(ws.mtu()["events"].sum()), len(ws.sql("from events")), len(ws.cohorts())])
    if len(seen) == 1:
        print("reading", flush=True)
print(json.dumps(seen), flush=True)
"""


# the data, and what is in force

def write_events(path: Path, start: int, stop: int) -> Path:
    """Events of two days, of users who become known by their devices."""
    path.write_text("".join(json.dumps({"event": f"Event {n % 3}", "properties": {
        "time": 1_700_000_000 + n % 2 * DAY, "distinct_id": f"$device:{n % 40}", "$device_id": f"{n % 40}",
        **({"$user_id": f"user-{n % 30}"} if n % 2 else {}), "$insert_id": f"insert-{n}",
        "mp_processing_time_ms": 1_700_000_000_000 + start}}) + "\n" for n in range(start, stop)))
    return path


def write_profiles(path: Path, start: int, stop: int) -> Path:
    path.write_text("".join(json.dumps({"$distinct_id": f"user-{n}", "$properties": {
        "$email": f"user-{n}@people.example", "plan": str(start)}}) + "\n" for n in range(start, stop)))
    return path


def write_ids(path: Path, start: int, stop: int) -> Path:
    path.write_text("".join(f"user-{n}\n" for n in range(start, stop)))
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What three loads bring; the second supersedes so much of the first that its days are written anew."""
    folder = tmp_path_factory.mktemp("files")
    return {name: {"events": [write_events(folder / f"{name}-events", *span)],
                   "profiles": [write_profiles(folder / f"{name}-profiles", span[0] // 10, span[1] // 10)],
                   "cohorts": {"vip": write_ids(folder / f"{name}-ids", span[0] // 10, span[1] // 10)}}
            for name, span in {"first": (0, 200), "second": (100, 300), "third": (250, 400)}.items()}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, files: dict[str, dict[str, Any]]) -> Path:
    """The home of a workspace with the first load and a cohort defined in SQL in force; copy it."""
    workspace = cs.open(tmp_path_factory.mktemp("base") / "home")
    workspace.init("UTC", "simplified")
    workspace.load(**files["first"])
    workspace.define_cohort("tracked", "select distinct_id from events where event = 'Event 1'")
    return workspace.home


@pytest.fixture
def home(base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(base, tmp_path / "home"))


def contents(home: Path) -> dict[str, list[str]]:
    """Every row of the generation in force, by table, without what differs from load to load by nature."""
    with warehouse.reading(home) as con:
        tables = {name: con.execute(f"from {name}").df() for name in (*warehouse.TABLES, "events")}
    return {name: sorted(map(repr, frame[[c for c in frame if c not in INSTANTS]].itertuples(index=False, name=None)))
            for name, frame in tables.items() if name != "published"}


def after_loading(base: Path, place: Path, *loads: dict[str, Any]) -> dict[str, list[str]]:
    """What loads that nothing disturbs leave."""
    workspace = cs.open(shutil.copytree(base, place))
    for load in loads:
        workspace.load(**load)
    return contents(workspace.home)


def generations(home: Path) -> set[int]:
    return {int(path.stem) for path in (home / "warehouse").glob("*.duckdb")}


def assert_no_orphans(home: Path) -> None:
    number = ledger.generation(home)
    with warehouse.reading(home) as con:
        listed = {path for (path,) in con.execute("select path from event_files").fetchall()}
    assert {str(path.relative_to(home)) for path in (home / "events").rglob("*.parquet")} == listed
    assert {path.name for path in (home / "warehouse").iterdir()} - {f"{number:06d}.lock"} == {f"{number:06d}.duckdb"}
    assert list((home / "stage").iterdir()) == []


# processes

@contextmanager
def running(script: str, home: Path) -> Iterator[subprocess.Popen[str]]:
    """A Python process of its own, ended with the block at the latest."""
    process = subprocess.Popen([sys.executable, "-c", script, str(home)], text=True, stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE)


def line(process: subprocess.Popen[str]) -> str:
    """The next line that a process prints, within bounds; else what it said instead."""
    stdout, stderr = process.stdout, process.stderr
    assert stdout
    assert stderr
    ready, _, _ = select.select([stdout], [], [], PATIENCE)
    said = stdout.readline() if ready else ""
    if not said:
        process.kill()
        pytest.fail(f"The process said nothing. {stderr.read()}")
    return said.strip()


def told_to_stop(process: subprocess.Popen[str]) -> Any:
    assert process.stdin
    process.stdin.write("\n")
    process.stdin.flush()
    return json.loads(line(process))


@contextmanager
def loader(home: Path, load: dict[str, Any], *limits: int) -> Iterator[tuple[BaseProcess, Connection]]:
    """A real process that loads once it is sent something."""
    here, there = PROCESSES.Pipe()
    process = PROCESSES.Process(target=load_when_told, args=(home, load, there, *limits))
    process.start()
    there.close()
    try:
        assert heard(here) == "ready"
        yield process, here
    finally:
        process.kill()
        process.join(PATIENCE)


def heard(pipe: Connection) -> str:
    assert pipe.poll(PATIENCE), "nothing was heard"
    return str(pipe.recv())


def loaded(home: Path, load: dict[str, Any], *limits: int) -> str:
    with loader(home, load, *limits) as (_, pipe):
        pipe.send("go")
        return heard(pipe)


# a workspace stays where it is

def test_the_numbers_of_a_workspace_agree_until_it_is_refreshed(home: Path, files: dict[str, Any]) -> None:
    notebook, before = cs.open(home), contents(home)
    assert not notebook.outdated
    cohorts, months, as_of = notebook.cohorts(), notebook.mtu(), notebook.as_of
    cs.open(home).load(**files["second"])
    assert notebook.outdated
    assert "newer data waits" in repr(notebook)
    pd.testing.assert_frame_equal(notebook.cohorts(), cohorts)
    pd.testing.assert_frame_equal(notebook.mtu(), months)
    assert len(notebook.sql("from events")) == len(before["events"])
    assert notebook.as_of == as_of

    moved_to = notebook.refresh()
    assert moved_to == cs.open(home).as_of > as_of
    assert len(notebook.sql("from events")) == 300
    assert not notebook.outdated
    assert "newer" not in repr(notebook)


def test_a_workspace_sees_at_once_what_it_publishes_itself(home: Path, files: dict[str, Any]) -> None:
    workspace = cs.open(home)
    seen = [workspace.as_of]
    workspace.load(**files["second"])
    assert len(workspace.sql("from events")) == 300
    seen.append(workspace.as_of)
    workspace.define_cohort("all", "select distinct_id from events")
    assert "all" in workspace.cohorts()["cohort"].tolist()
    seen.append(workspace.as_of)
    workspace.init("Asia/Tokyo", "simplified")
    assert workspace.project and workspace.project["timezone"] == "Asia/Tokyo"
    seen.append(workspace.as_of)
    workspace.set_class("Event 1", "system")
    seen.append(workspace.as_of)
    assert seen == sorted(set(seen))


def test_a_workspace_keeps_the_settings_its_generation_was_reckoned_by(home: Path) -> None:
    notebook = cs.open(home)
    people = notebook.audience("vip")
    cs.open(home).init("Asia/Tokyo", "original")
    pd.testing.assert_frame_equal(notebook.audience("vip"), people)
    assert notebook.project and notebook.project["id_merge"] == "simplified"
    notebook.refresh()
    assert notebook.project["id_merge"] == "original"


def test_a_workspace_that_read_before_anything_was_loaded_sees_the_first_load(tmp_path: Path,
                                                                              files: dict[str, Any]) -> None:
    notebook = cs.open(tmp_path / "home")
    assert "nothing loaded yet" in repr(notebook)
    notebook.init("UTC", "simplified")
    assert notebook.cohorts().empty
    assert notebook.as_of is None
    cs.open(tmp_path / "home").load(**files["first"])
    assert notebook.cohorts()["cohort"].tolist() == ["vip"]


OF_NO_GENERATION = {"connections", "pulls", "syncs", "sync_history", "runs", "proof", "outcome",  # the ledger's
                    "members", "member_counts", "segments"}  # Mailchimp's
NEEDS = {"audience": ["vip"], "cohort_history": ["vip"], "cohort_changes": ["vip"], "events": ["Event 1"],
         "standing": ["vip"], "sql": ["from events"]}


def test_every_table_says_as_of_when(home: Path) -> None:
    workspace = cs.open(home)
    names = [name for name, method in vars(cs.Workspace).items()
             if not name.startswith("_") and name not in OF_NO_GENERATION
             and getattr(method, "__annotations__", {}).get("return") == "pd.DataFrame"]
    assert len(names) > 15
    for name in names:
        table = getattr(workspace, name)(*NEEDS.get(name, []))
        assert table.attrs["as_of"] == workspace.as_of.isoformat(), name  # type: ignore[union-attr]
    found = workspace.month_to_date()
    assert found and found.months.attrs == found.days.attrs == workspace.mtu().attrs
    assert workspace.audience_summary("vip")["as_of"] == workspace.cohorts().attrs["as_of"]
    for table in (workspace.cohorts(), workspace.mtu()):
        assert table.columns[-1] == "as_of"
        assert {f"{instant.isoformat()}+00:00" for instant in table["as_of"]} == {table.attrs["as_of"]}


@pytest.mark.parametrize("command", [["cohorts"], ["mtu"], ["audience", "vip"], ["classes"], ["lexicon", "events"]])
def test_the_command_line_says_as_of_when_once_and_beside_the_data(home: Path, command: list[str]) -> None:
    said = CliRunner().invoke(cli.cli, ["--home", str(home), *command])
    assert (said.exit_code, said.stderr.count("As of "), said.stdout.count("As of ")) == (0, 1, 0)
    rows = CliRunner().invoke(cli.cli, ["--home", str(home), *command, "--json"])
    assert "as_of" not in rows.stdout
    assert "As of" not in rows.stderr


def test_a_workspace_can_be_sent_to_another_process(home: Path, files: dict[str, Any]) -> None:
    notebook = cs.open(home)
    assert len(notebook.sql("from events")) == 200
    cs.open(home).load(**files["second"])
    assert len(pickle.loads(pickle.dumps(notebook)).sql("from events")) == 300


def test_a_connection_outlives_the_refresh_of_its_workspace(home: Path, files: dict[str, Any]) -> None:
    workspace = cs.open(home)
    with workspace.connect() as con:
        for load in (files["second"], files["third"]):
            cs.open(home).load(**load)
            workspace.refresh()
            assert con.execute("select count(*) from events").fetchall() == [(200,)]
    assert len(workspace.sql("from events")) == 400


# kernels, an app and loads

def test_kernels_an_app_and_loads_go_on_side_by_side(home: Path, tmp_path: Path) -> None:
    pinned = ledger.generation(home)
    with running(KERNEL, home) as kernel, running(KERNEL, home) as other, running(APP, home) as app:
        assert [line(process) for process in (kernel, other, app)] == ["reading"] * 3
        for number in range(3):
            path = write_events(tmp_path / f"events-{number}", 400 + number * 20, 420 + number * 20)
            assert loaded(home, {"events": [path]}) == "done"
            assert {pinned, ledger.generation(home)} <= generations(home)
        polled = told_to_stop(app)
        assert loaded(home, {"events": [write_events(tmp_path / "last", 600, 620)]}) == "done"
        assert generations(home) == {pinned, ledger.generation(home)}

        notebook = told_to_stop(kernel)
        kernel.wait(PATIENCE)
        other.kill()
        other.wait(PATIENCE)
    assert loaded(home, {"events": [write_events(tmp_path / "afterwards", 700, 720)]}) == "done"
    assert generations(home) == {ledger.generation(home)}
    assert_no_orphans(home)

    assert len(notebook["seen"]) > 1
    assert len(set(notebook["seen"])) == 1
    assert notebook["outdated"]
    assert (json.loads(notebook["seen"][0])[2], json.loads(notebook["after"])[2]) == (200, 280)
    assert polled == sorted(polled)
    assert polled[-1][1] == polled[-1][2] > 200


def test_many_begin_a_workspace_at_once(tmp_path: Path, files: dict[str, Any]) -> None:
    home = tmp_path / "home"
    cs.open(home).init("UTC", "simplified")
    with loader(home, files["first"]) as (_, one), loader(home, files["first"]) as (_, two), \
            loader(home, files["second"]) as (_, three):
        for pipe in (one, two, three):
            pipe.send("go")
        assert [heard(pipe) for pipe in (one, two, three)] == ["done"] * 3
    assert len(cs.open(home).sql("from events")) == 300
    assert_no_orphans(home)


@pytest.mark.parametrize(("one", "other"), [("second", "third"), ("second", "second")])
def test_two_loads_started_at_once_succeed_in_turn(home: Path, base: Path, tmp_path: Path, files: dict[str, Any],
                                                   one: str, other: str) -> None:
    with loader(home, files[one]) as (_, first), loader(home, files[other]) as (_, second):
        for pipe in (first, second):
            pipe.send("go")
        assert [heard(pipe) for pipe in (first, second)] == ["done"] * 2
    assert contents(home) in (after_loading(base, tmp_path / "a", files[one], files[other]),
                              after_loading(base, tmp_path / "b", files[other], files[one]))
    assert_no_orphans(home)


# loads that end badly

@pytest.fixture(scope="module")
def undisturbed(base: Path, files: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    return after_loading(base, tmp_path_factory.mktemp("undisturbed") / "home", files["second"])


@pytest.fixture(scope="module")
def duration(base: Path, files: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> float:
    """Seconds that the load to be killed takes, in a process as it will be killed in."""
    place = Path(shutil.copytree(base, tmp_path_factory.mktemp("measured") / "home"))
    with loader(place, files["second"]) as (_, pipe):
        pipe.send("go")
        begun = time.monotonic()
        assert heard(pipe) == "done"
        return time.monotonic() - begun


def killed_at(share: float, duration: float, home: Path, load: dict[str, Any]) -> None:
    with loader(home, load) as (process, pipe):
        pipe.send("go")
        time.sleep(share * duration)
        process.kill()
        process.join(PATIENCE)


DRAWN = random.Random(2026)
POINTS = [DRAWN.uniform(0.02, 1.05) for _ in range(108)]  # when a load is killed, in shares of what it takes


@pytest.mark.parametrize("share", sampled(POINTS, 2))
def test_a_load_killed_anywhere_leaves_a_whole_generation_and_the_next_completes_it(
        home: Path, base: Path, files: dict[str, Any], undisturbed: dict[str, list[str]], duration: float,
        share: float) -> None:
    before = contents(base)
    killed_at(share, duration, home, files["second"])
    assert contents(home) in (before, undisturbed)
    cs.open(home).load(**files["second"])
    assert contents(home) == undisturbed
    cs.open(home).load(**files["third"])
    assert_no_orphans(home)


@pytest.mark.parametrize("room", sampled([0.5, 1.02, 0.02, 0.99], 2))
def test_a_load_that_finds_no_room_says_so_and_leaves_the_last_generation(
        home: Path, files: dict[str, Any], undisturbed: dict[str, list[str]], room: float) -> None:
    before, size = contents(home), warehouse.generation_path(home, ledger.generation(home)).stat().st_size
    said = loaded(home, files["second"], int(room * size))
    if said != "done":
        assert said.startswith("The load could not be written (")
        assert len(said.splitlines()) == 1
        assert contents(home) == before
        assert len(generations(home)) == 1
    assert said != "done" or room > 1
    cs.open(home).load(**files["second"])
    assert contents(home) == undisturbed
    assert_no_orphans(home)


def test_a_load_that_cannot_write_its_own_files_says_so(home: Path, files: dict[str, Any]) -> None:
    before = contents(home)
    (home / "stage").rmdir()
    (home / "stage").write_text("in the way")
    with pytest.raises(cs.CohortsyncError, match="could not be written"):
        cs.open(home).load(**files["second"])
    assert contents(home) == before
    (home / "stage").unlink()
    cs.open(home).load(**files["second"])
    assert_no_orphans(home)


def test_what_a_killed_load_left_is_never_taken_for_the_next_one(home: Path, files: dict[str, Any],
                                                                 undisturbed: dict[str, list[str]]) -> None:
    number = ledger.generation(home)
    for name in (f"{number + 1:06d}.duckdb.wal", f"{number + 2:06d}.lock", f"{number + 3:06d}.duckdb"):
        (home / "warehouse" / name).write_bytes(b"not what it seems" * 100)
    (home / "stage" / "folder").mkdir()
    cs.open(home).load(**files["second"])
    assert contents(home) == undisturbed
    assert_no_orphans(home)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_process_forked_off_during_a_load_keeps_nobody_from_loading(home: Path, files: dict[str, Any]) -> None:
    reads, writes = os.pipe()
    with drafts.drafting(home) as draft:
        draft.unchanged = True
        child = os.fork()
        if not child:
            os.close(writes)
            os.read(reads, 1)
            os._exit(0)
    try:
        assert loaded(home, files["second"]) == "done"
    finally:
        os.close(writes)
        os.waitpid(child, 0)
