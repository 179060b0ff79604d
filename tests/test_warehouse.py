"""Generations: published whole, read undisturbed, safe from crashes and from a second loader."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier

import duckdb
import pandas as pd
import pytest
from conftest import sampled

import cohortsync as cs
from cohortsync import drafts, ledger, warehouse
from cohortsync.errors import BadInput

DAY = 86_400
LOADER = """
import sys, cohortsync as cs
label = sys.argv[3]
def progress(seen, done, total):
    if seen.startswith(label):
        print("here", flush=True)
        sys.stdin.readline()
cs.open(sys.argv[1]).load(events=[sys.argv[2]], progress=progress)
print("done", flush=True)
"""
FORKING = """
import os, sys, cohortsync as cs
def count():
    return cs.open(sys.argv[1]).cohort_names(), cs.open(sys.argv[1]).mtu()["mtu"].tolist()
before = count()
child = os.fork()
assert count() == before
if child:
    assert os.waitpid(child, 0)[1] == 0
    print(before)
"""


@pytest.fixture
def project(tmp_path: Path) -> cs.Workspace:
    """A workspace with ten events of two days in force, generation 1."""
    workspace = cs.open(tmp_path / "home")
    workspace.init("UTC", "simplified")
    workspace.load(events=[events(tmp_path / "first", 0, 10)])
    return workspace


def events(path: Path, start: int, stop: int) -> Path:
    path.write_text("".join(json.dumps({"event": "Opened", "properties": {
        "time": 1_700_000_000 + n % 2 * DAY, "distinct_id": f"user-{n}", "$insert_id": f"insert-{n}"}}) + "\n"
        for n in range(start, stop)))
    return path


def count(workspace: cs.Workspace) -> int:
    with workspace.connect() as con:
        return con.execute("select count(*) from events").fetchall()[0][0]


def generations(home: Path) -> list[int]:
    return sorted(int(path.stem) for path in (home / "warehouse").glob("*.duckdb"))


def event_files(home: Path) -> set[str]:
    return {str(path.relative_to(home)) for path in (home / "events").rglob("*.parquet")}


def listed_files(workspace: cs.Workspace) -> set[str]:
    with workspace.connect() as con:
        return {path for (path,) in con.execute("select path from event_files").fetchall()}


@contextmanager
def loader(home: Path, path: Path, label: str = "never") -> Iterator[subprocess.Popen[str]]:
    """A real process that loads one file and stops at the step called ``label`` until it is given a line."""
    process = subprocess.Popen([sys.executable, "-c", LOADER, str(home), str(path), label], text=True,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=60)


@pytest.mark.parametrize("label", sampled(["Writing events by day", "Counting users", "Linking identities",
                                           "Finding duplicates", "Counting events"], 2))
def test_a_loader_killed_anywhere_leaves_the_last_generation_and_nothing_in_the_way(
        project: cs.Workspace, tmp_path: Path, label: str) -> None:
    path = events(tmp_path / "second", 5, 20)
    with loader(project.home, path, label) as process:
        assert process.stdout.readline() == "here\n"  # type: ignore[union-attr]
        process.send_signal(signal.SIGKILL)
        assert process.wait(timeout=60) == -signal.SIGKILL
    assert (count(project), ledger.generation(project.home)) == (10, 1)
    report = project.load(events=[path])
    assert (report.events_added, report.duplicates, count(project)) == (10, 5, 20)
    assert project.mtu()["mtu"].tolist() == [20]
    assert generations(project.home) == [ledger.generation(project.home)]
    assert event_files(project.home) == listed_files(project)
    assert list((project.home / "stage").iterdir()) == []


@pytest.mark.parametrize("pause", [0.7, 1.1])
def test_a_loader_killed_at_any_instant_leaves_all_or_nothing(project: cs.Workspace, tmp_path: Path,
                                                              pause: float) -> None:
    path = events(tmp_path / "second", 10, 3000)
    with loader(project.home, path) as process:
        time.sleep(pause)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
    assert count(project) in (10, 3000)
    project.load(events=[path])
    assert count(project) == 3000
    assert event_files(project.home) == listed_files(project)


def test_two_loaders_at_once_are_both_loaded(project: cs.Workspace, tmp_path: Path) -> None:
    one, other = events(tmp_path / "one", 10, 20), events(tmp_path / "other", 15, 30)
    with loader(project.home, one, "Counting users") as first:
        assert first.stdout.readline() == "here\n"  # type: ignore[union-attr]
        with loader(project.home, other) as second:
            assert second.poll() is None
            assert first.communicate("\n", timeout=60)[0] == "done\n"
            assert second.communicate(timeout=60)[0] == "done\n"
    assert (count(project), ledger.generation(project.home)) == (30, 3)
    assert project.mtu()["mtu"].tolist() == [30]


def test_a_reader_keeps_its_answers_while_a_load_is_published(project: cs.Workspace, tmp_path: Path) -> None:
    with warehouse.reading(project.home) as old:
        before = old.execute("from events order by insert_id").fetchall()
        project.load(events=[events(tmp_path / "second", 10, 20)])
        project.load(events=[events(tmp_path / "third", 20, 30)])
        assert old.execute("from events order by insert_id").fetchall() == before
        assert count(project) == 30
        assert generations(project.home) == [1, 3]
    project.load(events=[events(tmp_path / "fourth", 30, 40)])
    assert generations(project.home) == [4]
    assert event_files(project.home) == listed_files(project)


def test_a_load_that_changes_nothing_publishes_nothing(project: cs.Workspace, tmp_path: Path) -> None:
    assert project.load(events=[tmp_path / "first"]).unchanged
    assert (ledger.generation(project.home), generations(project.home)) == (1, [1])


def test_a_refused_load_leaves_no_generation_behind(project: cs.Workspace, tmp_path: Path) -> None:
    (tmp_path / "bad").write_text("{}\n{}\n")
    with pytest.raises(BadInput):
        project.load(events=[events(tmp_path / "good", 10, 20), tmp_path / "bad"])
    assert (ledger.generation(project.home), generations(project.home), count(project)) == (1, [1], 10)
    assert event_files(project.home) == listed_files(project)


def test_a_generation_is_not_published_over_another_one(project: cs.Workspace) -> None:
    with pytest.raises(cs.CohortsyncError, match="Run this load again"), drafts.drafting(project.home):
        ledger.publish_generation(project.home, 9, 1, project.project, ledger.fingerprint(warehouse.sql("schema")))
    assert ledger.generation(project.home) == 9


def test_everything_in_the_workspace_is_its_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        workspace = cs.open(tmp_path / "home")
        workspace.init("UTC", "simplified")
        workspace.load(events=[events(tmp_path / "e", 0, 3)], cohorts={"c": _written(tmp_path / "c", "user-1\n")})
    finally:
        os.umask(before)
    for path in (workspace.home, *workspace.home.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


@pytest.mark.parametrize("name", ["[h]", "h*", "it's a place, ü😀"])
def test_a_workspace_may_lie_in_any_folder(tmp_path: Path, name: str) -> None:
    for folder, start in (("h", 90), ("hx", 95), (name, 0)):
        workspace = cs.open(tmp_path / folder)
        workspace.init("UTC", "simplified")
        workspace.load(events=[events(tmp_path / f"file-{start}", start, start + 5)])
    workspace.load(events=[events(tmp_path / "more", 3, 8)])
    assert count(workspace) == 8
    assert len(workspace.sql("from events")) == 8


@pytest.mark.parametrize("question", [
    "from read_csv('/etc/passwd')", "select * from read_text('{home}/state.sqlite')", "drop table events",
    "select 1; select 2", "copy events to 'x.csv'", "attach 'x.duckdb'", "not sql", "set enable_external_access = true",
])
def test_outside_sql_reads_the_workspace_and_nothing_else(project: cs.Workspace, question: str) -> None:
    with pytest.raises(BadInput):
        project.sql(question.replace("{home}", str(project.home)))
    assert project.sql("select count(*) as n from events")["n"].tolist() == [10]


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_an_engine_is_lent_again_and_shows_nothing_of_whom_it_was_lent_to_before(project: cs.Workspace) -> None:
    with warehouse.attached(project.home) as con:
        con.execute("create table memory.mark as select 1")
        con.execute("create temp table members as select 1")
        con.register("found", pd.DataFrame({"n": [1]}))
        con.execute("set variable project_id = 'mine'")
        con.execute("set TimeZone = 'Asia/Tokyo'")
    with warehouse.attached(project.home) as con:
        con.execute("drop table memory.mark")  # it is the same engine
        assert con.execute("select current_setting('TimeZone'), getvariable('project_id')").fetchall() == [
            ("UTC", None)]
        for table in ("members", "found"):
            with pytest.raises(duckdb.CatalogException):
                con.execute(f"from {table}")


def test_two_threads_at_once_each_see_the_generation_they_hold(project: cs.Workspace, tmp_path: Path) -> None:
    old = warehouse.hold(project.home)
    project.load(events=[events(tmp_path / "second", 10, 30)])
    new = warehouse.hold(project.home)
    both = Barrier(2)

    def counted(held: warehouse.Generation) -> list[tuple[int]]:
        with warehouse.reading(project.home, held) as con:
            both.wait(timeout=30)
            return con.execute("select count(*) from events").fetchall()

    with ThreadPoolExecutor(2) as threads:
        for _ in range(3):
            assert list(threads.map(counted, [old, new])) == [[(10,)], [(30,)]]


def test_a_process_that_is_forked_off_opens_an_engine_of_its_own(project: cs.Workspace) -> None:
    done = subprocess.run([sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKING, str(project.home)],
                          text=True, capture_output=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("([], [10])\n", "")


def test_an_engine_that_spilled_is_not_kept_and_leaves_nothing_on_the_disk(project: cs.Workspace) -> None:
    with warehouse.attached(project.home) as con:
        con.execute("create table memory.mark as select 1")
        con.execute("set memory_limit = '60 MB'")
        con.execute("create temp table large as select range, random() as r from range(6_000_000)")
        assert list(project.home.glob("warehouse/*.spill-*/*"))
    assert not list(project.home.glob("warehouse/*.spill-*"))
    with warehouse.attached(project.home) as con, pytest.raises(duckdb.CatalogException):
        con.execute("from memory.mark")


def test_an_error_in_a_question_reaches_who_asked_and_spoils_nothing_for_the_next(project: cs.Workspace) -> None:
    with pytest.raises(duckdb.ConversionException), warehouse.attached(project.home) as con:
        con.execute("begin; select 'x'::integer")
    assert count(project) == 10


def test_outside_sql_locks_no_engine_that_others_get(project: cs.Workspace) -> None:
    project.mtu()
    project.sql("from events")
    with warehouse.attached(project.home) as con:
        assert con.execute("select current_setting('lock_configuration'), current_setting('enable_external_access')"
                           ).fetchall() == [(False, True)]


def test_every_cursor_of_a_connection_sees_the_tables(project: cs.Workspace) -> None:
    with project.connect() as con:
        assert con.cursor().execute("select count(*), count(prop('$city')) from events").fetchall() == [(10, 0)]


def test_an_empty_folder_becomes_a_workspace_of_ones_own_and_a_file_none(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir(mode=0o755)
    (tmp_path / "file").write_text("mine")
    before = (tmp_path / "file").stat().st_mode
    cs.open(tmp_path / "shared").init("UTC", "simplified")
    assert (tmp_path / "shared").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "shared" / "state.sqlite").stat().st_mode & 0o777 == 0o600
    with pytest.raises(cs.CohortsyncError, match="cannot be the workspace"):
        cs.open(tmp_path / "file")
    assert (tmp_path / "file").stat().st_mode == before
