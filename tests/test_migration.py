"""Workspaces of older releases, brought to the present formats when they are opened."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import tarfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import cohortsync as cs
from cohortsync import drafts, ledger, migration
from cohortsync.errors import StoreError

RELEASED = sorted((Path(__file__).parent / "released").glob("*.tar.gz"))


@pytest.fixture(params=RELEASED, ids=[path.name for path in RELEASED])
def released(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder with the ``home`` that a release made, and the ``files`` that it loaded."""
    with tarfile.open(request.param) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def loaded_now(folder: Path) -> cs.Workspace:
    """The same files, loaded in the same order by this release."""
    files = folder / "files"
    workspace = cs.open(folder / "fresh")
    workspace.init("America/New_York", "simplified")
    workspace.load([files / "events-2026-09.ndjson"], [files / "profiles.ndjson"],
                   {"readers": files / "readers-1.csv"})
    workspace.load([files / "events-2026-10.ndjson"], cohorts={"readers": files / "readers-2.csv"})
    return workspace


def answers(workspace: cs.Workspace) -> dict[str, Any]:
    """What a workspace says, without when it was loaded, and where from."""
    return {
        "cohorts": workspace.cohorts().drop(columns=["loaded_at", "as_of"]),
        "audience": workspace.audience("readers"),
        "history": workspace.cohort_history("readers").drop(columns="loaded_at"),
        "mtu": workspace.mtu().drop(columns="as_of"),
        "marginal": workspace.marginal_mtu(),
        "quarantine": workspace.quarantine().drop(columns="file"),
        "events": workspace.sql("from events select * exclude (load_id) order by all"),
        "classes": workspace.event_classes(),
        "identities": workspace.sql("from identities order by all"),
        "evidence": workspace.sql("from device_links order by all"),
        "lags": workspace.sql("from lags select project_id, day, lag_s order by all"),  # of duplicates too, or not
    }


def test_a_workspace_of_an_older_release_answers_as_if_loaded_now(released: Path) -> None:
    home, fresh = released / "home", loaded_now(released)
    migrated = answers(cs.open(home))
    for question, answer in answers(fresh).items():
        pd.testing.assert_frame_equal(migrated[question], answer, obj=question)
    assert tables(home) == tables(fresh.home)


def test_what_a_workspace_had_done_stays_known(released: Path) -> None:
    workspace = cs.open(released / "home")
    run = workspace.runs().iloc[0]
    assert (run["status"], run["added"], run["size"], run["accounted"]) == ("completed", 6, 7, 7)
    assert len(workspace.outcome(run["run_id"])) == 6
    assert workspace.connection and workspace.connection["status"] == "Connected"
    [row] = ledger.runs(workspace.home)
    assert ledger.segment(workspace.home, row["account_id"], row["audience_id"], "local", "readers")


def test_a_file_that_an_older_release_loaded_is_known(released: Path) -> None:
    report = cs.open(released / "home").load([released / "files" / "events-2026-09.ndjson"])
    assert report.unchanged


def test_the_next_load_goes_on_from_there(released: Path) -> None:
    line = released / "more.ndjson"
    line.write_text('{"event": "Page viewed", "properties": {"time": 1793491200, "distinct_id": "user-1", '
                    '"$user_id": "user-1", "$insert_id": "insert-new"}}\n')
    workspaces = [cs.open(released / "home"), loaded_now(released)]
    assert [workspace.load([line]).events_added for workspace in workspaces] == [1, 1]
    pd.testing.assert_frame_equal(*(workspace.mtu().drop(columns="as_of") for workspace in workspaces))


def test_the_backup_is_the_workspace_as_it_was(released: Path) -> None:
    home = released / "home"
    before = {path.relative_to(home): path.read_bytes() for part in ("events", "warehouse", "runs", "audiences")
              for path in (home / part).rglob("*.*") if path.suffix != ".lock"}
    cs.open(home)
    [kept] = (home / "backups").iterdir()
    assert {path: (kept / path).read_bytes() for path in before} == before
    with closing(sqlite3.connect(kept / "state.sqlite")) as con:
        assert con.execute("select version, generation from workspace").fetchall() == [(1, 2)]


def test_a_workspace_is_brought_up_to_date_once(released: Path) -> None:
    home = released / "home"
    cs.open(home)
    there = ledger.generation(home)
    cs.open(home)
    assert ledger.generation(home) == there
    assert len(list((home / "backups").iterdir())) == 1


def tables(home: Path) -> dict[str, str]:
    with closing(sqlite3.connect(home / "state.sqlite")) as con:
        return dict(con.execute("select name, sql from sqlite_master where type = 'table'").fetchall())


def test_one_that_was_interrupted_between_state_and_warehouse_goes_on(released: Path) -> None:
    home = released / "home"
    migration._migrate_state(home)
    assert answers(cs.open(home))["mtu"].equals(answers(loaded_now(released))["mtu"])


def test_one_that_is_killed_again_and_again_is_brought_up_to_date_in_the_end(released: Path) -> None:
    script = (f"import cohortsync as cs\nprint('now', flush=True)\ncs.open({str(released / 'home')!r})")
    for seconds in (0.0, 0.05, 0.2, 0.5):
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as opening:
            assert opening.stdout and opening.stdout.readline() == b"now\n"
            time.sleep(seconds)
            opening.kill()
    migrated, fresh = answers(cs.open(released / "home")), answers(loaded_now(released))
    for question in ("mtu", "events", "audience", "history"):
        pd.testing.assert_frame_equal(migrated[question], fresh[question], obj=question)


def test_several_that_open_it_at_once_wait_for_each_other(released: Path) -> None:
    script = f"import cohortsync as cs; print(len(cs.open({str(released / 'home')!r}).mtu()))"
    running = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) for _ in range(3)]
    assert [process.communicate(timeout=120)[0].strip() for process in running] == [b"3"] * 3
    assert len(list((released / "home" / "backups").iterdir())) == 1


def test_a_workspace_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    ledger.generation(tmp_path)
    with closing(sqlite3.connect(tmp_path / "state.sqlite")) as con, con:
        con.execute("update workspace set version = 99")
    with pytest.raises(StoreError, match=r"newer cohortsync \(its format is 99"):
        cs.open(tmp_path)


def test_a_table_and_a_column_that_a_state_lacks_are_added_with_their_defaults(tmp_path: Path) -> None:
    workspace = cs.open(tmp_path / "home")
    workspace.init("UTC", "simplified")
    with closing(sqlite3.connect(workspace.home / "state.sqlite")) as con, con:
        con.execute("drop table runs")
        con.execute("alter table projects drop column event_times")
        con.execute("pragma user_version = 7")
    assert cs.open(workspace.home).projects()["event_times"].tolist() == ["auto"]
    assert cs.open(workspace.home).runs().empty


def test_a_table_and_a_column_that_a_warehouse_lacks_are_added(workspace: cs.Workspace) -> None:
    before = workspace.mtu().drop(columns="as_of")
    with drafts.drafting(workspace.home) as draft:
        draft.con.execute("drop table generation.profile_changes")
        draft.con.execute("alter table generation.profiles drop column last_name")
    with closing(sqlite3.connect(workspace.home / "state.sqlite")) as con, con:
        con.execute("update workspace set format = 7")
    now = cs.open(workspace.home)
    assert now.sql("select count(*) as there, count(last_name) as known from profiles").loc[0].tolist() == [1672, 0]
    assert now.sql("from profile_changes").empty
    pd.testing.assert_frame_equal(now.mtu().drop(columns="as_of"), before)
