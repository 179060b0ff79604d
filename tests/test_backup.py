"""Backups: of one instant, made beside others' work, and put back whole or not at all."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
import threading
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import OWNER_KEY
from test_migration import RELEASED

import cohortsync as cs
from cohortsync import backup, config, ledger
from cohortsync.errors import BadInput, StoreError


def answers(workspace: cs.Workspace) -> dict[str, pd.DataFrame]:
    return {"cohorts": workspace.cohorts(), "audience": workspace.audience("power-users"), "mtu": workspace.mtu(),
            "events": workspace.sql("select event, count(*) as events from events group by all order by all"),
            "runs": workspace.runs()}


@pytest.mark.parametrize("name", ["kept.tar", "kept.tar.gz"])
def test_what_is_restored_answers_as_what_was_backed_up(workspace: cs.Workspace, tmp_path: Path, name: str) -> None:
    config.save_key(workspace.home, "us6.api.mailchimp.com", "k" * 32 + "-us6")
    kept = backup.write(workspace.home, tmp_path / name)
    assert (tmp_path / name).stat().st_mode & 0o077 == 0
    assert backup.restore(tmp_path / name, tmp_path / "restored") == kept
    restored = cs.open(tmp_path / "restored")
    for question, answer in answers(workspace).items():
        pd.testing.assert_frame_equal(answers(restored)[question], answer, obj=question)
    assert not [path for path in restored.home.rglob("*") if path.stat().st_mode & 0o077]
    assert not (restored.home / "keys.json").exists()
    assert b"k" * 32 not in (tmp_path / name).read_bytes()
    assert restored.load(cohorts={"new": _ids(tmp_path)}).files[0]["rows"] == 1


def _ids(folder: Path) -> Path:
    path = folder / "ids.csv"
    path.write_text("distinct_id\nann\n")
    return path


def test_keys_are_kept_only_when_asked_for(workspace: cs.Workspace, tmp_path: Path) -> None:
    config.save_key(workspace.home, "us6.api.mailchimp.com", OWNER_KEY)
    assert backup.write(workspace.home, tmp_path / "kept.tar", keys=True).keys
    backup.restore(tmp_path / "kept.tar", tmp_path / "restored")
    assert config.load_key(tmp_path / "restored", "us6.api.mailchimp.com") == OWNER_KEY


def test_a_backup_made_while_others_load_is_of_one_instant(workspace: cs.Workspace, tmp_path: Path) -> None:
    stop = threading.Event()

    def keep_loading() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            lines = tmp_path / f"events-{number}.ndjson"
            lines.write_text("".join(json.dumps({"event": "Beside", "properties": {
                "time": 1793491200 + 60 * n, "distinct_id": f"user-{n}", "$insert_id": f"beside-{number}-{n:06d}"}})
                + "\n" for n in range(10)))
            cs.open(workspace.home).load([lines])

    loader = threading.Thread(target=keep_loading)
    loader.start()
    try:
        for number in range(4):
            backup.write(workspace.home, tmp_path / f"{number}.tar")
    finally:
        stop.set()
        loader.join()
    for number in range(4):
        backup.restore(tmp_path / f"{number}.tar", tmp_path / f"restored-{number}")
        restored = cs.open(tmp_path / f"restored-{number}")
        beside, loads = restored.sql("select (select count(*) from events where event = 'Beside') as events, "
                                     "(select count(*) from loads) as loads").iloc[0]
        assert beside == 10 * (loads - 1)


def test_a_backup_killed_in_the_middle_leaves_nothing_that_counts(workspace: cs.Workspace, tmp_path: Path) -> None:
    script = ("import sys; from pathlib import Path; from cohortsync import backup\n"
              "def step(label, done, total):\n"
              "    if label == 'Writing the backup' and done > 1e6: print('now', flush=True); sys.stdin.read()\n"
              f"backup.write(Path({str(workspace.home)!r}), Path({str(tmp_path / 'kept.tar')!r}), progress=step)")
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writing:
        assert writing.stdout and writing.stdout.readline() == b"now\n"
        writing.kill()
    assert not (tmp_path / "kept.tar").exists()
    backup.write(workspace.home, tmp_path / "kept.tar")
    assert not list(workspace.home.glob(".backup-*"))


def test_nothing_is_overwritten(workspace: cs.Workspace, tmp_path: Path) -> None:
    backup.write(workspace.home, tmp_path / "kept.tar")
    with pytest.raises(BadInput, match="overwrites nothing"):
        backup.write(workspace.home, tmp_path / "kept.tar")
    with pytest.raises(BadInput, match="is not empty, and a restore overwrites nothing"):
        backup.restore(tmp_path / "kept.tar", workspace.home)
    with pytest.raises(BadInput, match="is no folder"):
        backup.write(workspace.home, tmp_path / "nowhere" / "kept.tar")


def test_a_damaged_backup_is_refused_and_leaves_nothing(workspace: cs.Workspace, tmp_path: Path) -> None:
    kept = tmp_path / "kept.tar"
    backup.write(workspace.home, kept)
    whole = kept.read_bytes()
    middle = len(whole) // 2
    changed = whole[:middle] + b"\xaa" * 100 + whole[middle + 100:]
    for name, content in {"cut.tar": whole[:middle], "changed.tar": changed, "empty.tar": b"",
                          "other.tar": b"not a tar at all" * 1000}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(StoreError, match=r"no backup of cohortsync, or damaged|is damaged|what no backup does"):
            backup.restore(tmp_path / name, tmp_path / "restored")
        assert not (tmp_path / "restored").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def made_by_hand(path: Path, *members: tarfile.TarInfo, **manifest: Any) -> Path:
    with tarfile.open(path, "w") as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(b"x" * member.size))
        text = json.dumps({"made_at": ledger.now(), "release": "9.9", "version": ledger.VERSION, "generation": 0,
                           "keys": False, "sha256": {}, **manifest}).encode()
        about = tarfile.TarInfo("manifest.json")
        about.size = len(text)
        tar.addfile(about, io.BytesIO(text))
    return path


@pytest.mark.parametrize(("name", "kind"), [("../escaped", tarfile.REGTYPE), ("/tmp/escaped", tarfile.REGTYPE),
                                            ("workspace/../../escaped", tarfile.REGTYPE),
                                            ("workspace/link", tarfile.SYMTYPE), ("workspace/pipe", tarfile.FIFOTYPE)])
def test_a_backup_cannot_write_elsewhere(tmp_path: Path, name: str, kind: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, "/etc/passwd"
    with pytest.raises(StoreError):
        backup.restore(made_by_hand(tmp_path / "bad.tar", member), tmp_path / "a" / "restored")
    assert not list(tmp_path.rglob("escaped"))


def test_a_backup_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"made by cohortsync 9\.9, which is newer"):
        backup.restore(made_by_hand(tmp_path / "new.tar", version=99), tmp_path / "restored")


def test_a_backup_of_an_older_workspace_is_of_the_present_one(tmp_path: Path) -> None:
    with tarfile.open(RELEASED[0]) as archive:
        archive.extractall(tmp_path, filter="data")
    run = [sys.executable, "-m", "cohortsync"]
    subprocess.run([*run, "--home", str(tmp_path / "home"), "backup", str(tmp_path / "kept.tar")], check=True)
    restored = subprocess.run([*run, "--home", str(tmp_path / "restored"), "restore", str(tmp_path / "kept.tar"),
                               "--json"], check=True, capture_output=True, text=True)
    assert json.loads(restored.stdout)["version"] == ledger.VERSION
    assert "API keys were not in the backup" in restored.stderr
    assert len(cs.open(tmp_path / "restored").audience("readers")) == 7
