"""Forgetting a person: gone from every file, gone from what is reckoned, and never exported again."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import forked
import nbformat
import pandas as pd
import pytest
from conftest import MEMBERS, OWNER_KEY, PROJECT_ID, SAMPLE, sampled
from mixpanel_side import change, connect
from nbformat.v4 import new_code_cell, new_notebook
from standing import COHORT

import cohortsync as cs
from cohortsync import backup, config, emails, ledger, mirror, runs, strike, work
from cohortsync.errors import ApiTransient, BadInput, ConfigurationError
from cohortsync.strike import Marks

MARIA = {"$distinct_id": "u-forget-1027", "$properties": {"$email": "Maria.Q@Harbor.example", "$first_name": "Maria"}}
ADDRESS, ID = "maria.q@harbor.example", "u-forget-1027"


def event(name: str, distinct_id: str, second: int, **properties: Any) -> dict[str, Any]:
    return {"event": name, "properties": {"time": 1_793_500_000 + second, "distinct_id": distinct_id,
                                          "$insert_id": f"i{second}", **properties}}


@pytest.fixture(scope="module")
def prepared(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample workspace with one person more, whom everything knows: loaded, synced, in a notebook, kept raw."""
    place = tmp_path_factory.mktemp("maria")
    shutil.copytree(sample, place / "home")
    workspace, raw = cs.open(place / "home"), place / "home" / "raw" / "77"
    raw.mkdir(parents=True)
    lines = [event("Signed Up", "$device:maria-phone-1", 0, **{"$device_id": "maria-phone-1"}),
             event("Signed Up", ID, 1, **{"$device_id": "maria-phone-1", "$user_id": ID, "$email": ADDRESS}),
             event("Invited", "someone-else", 2, friend=ADDRESS.upper(), friends=f"{ADDRESS},{ADDRESS}", by=ID),
             event("Played", "someone-else", 3, other="joanna.maria.q@harbor.example")]
    text = "\n".join(map(json.dumps, lines))
    (place / "events.ndjson").write_text(text + '\nnot an event of maria.q@harbor.example\n')
    (raw / "2026-11-01.ndjson.gz").write_bytes(gzip.compress(text.encode()))
    page = {"page": 0, "total": 2, "results": [MARIA, {"$distinct_id": "someone-else", "$properties": {}}]}
    (raw / "profiles.ndjson").write_text(json.dumps(page) + "\n")
    (raw / "members.csv").write_text(f"distinct_id,note\n{ID},first\nsomeone-else,knows {ADDRESS}\n")
    pd.DataFrame({"distinct_id": [ID, "someone-else"], "email": [ADDRESS, None]}).to_parquet(raw / "page.parquet")
    (place / "profiles.ndjson").write_text(json.dumps(MARIA))
    (place / "members.json").write_text(json.dumps([ID, *_members(workspace)[:60]]))
    workspace.load([place / "events.ndjson"], [place / "profiles.ndjson"], {COHORT: place / "members.json"})
    with forked.sandbox(place / "mailchimp", seed=MEMBERS) as running:
        workspace.connect_mailchimp(OWNER_KEY, "subscribed", running.mailchimp_url)
        workspace.sync(COHORT, _audience(workspace), force=True)
    mine = new_notebook(cells=[new_code_cell("home: str = ''"), new_code_cell(
        f"import cohortsync as cs\ncs.open().sql(\"select distinct_id from profiles where distinct_id = '{ID[:9]}' || "
        f"'{ID[9:]}'\")")])
    mine.cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(mine, place / "mine.ipynb")
    runs.run_notebook(place / "mine.ipynb", {}, workspace.home)
    ledger.record_rejects(workspace.home, "a", "b", {emails.member_hash(ADDRESS): "looks_fake"}, 30)
    return place


@pytest.fixture
def maria(prepared: Path, tmp_path: Path) -> Iterator[cs.Workspace]:
    """The same, one's own, connected to a local Mailchimp of its own."""
    for name in ("home", "mailchimp"):
        shutil.copytree(prepared / name, tmp_path / name)
    with forked.sandbox(tmp_path / "mailchimp") as running:
        workspace = cs.open(tmp_path / "home")
        workspace.connect_mailchimp(OWNER_KEY, "subscribed", running.mailchimp_url)
        yield workspace


def _members(workspace: cs.Workspace) -> list[str]:
    frame = workspace.sql(f"select distinct_id from cohort_members where cohort = '{COHORT}' order by 1")
    return list(frame["distinct_id"])


def _audience(workspace: cs.Workspace) -> str:
    return str(workspace.check_mailchimp()["audiences"][0]["audience_id"])


def places(home: Path, words: list[str]) -> set[str]:
    """The files of a workspace that hold one of these words, whatever their form."""
    return {str(path.relative_to(home)) for path in home.rglob("*")
            if path.is_file() and any(word.lower() in held for held in _held(path) for word in words)}


def _held(path: Path) -> list[str]:
    data = path.read_bytes()
    texts = [data.decode("utf-8", "replace")]
    if data[:2] == b"\x1f\x8b":
        texts.append(gzip.decompress(data).decode())
    if path.suffix == ".parquet":
        texts += duckdb.execute("select string_agg(t::varchar) from read_parquet(?) t", [str(path)]).fetchone() or ()
    if path.suffix == ".duckdb":
        with duckdb.connect(str(path), read_only=True) as con:
            texts += [con.sql(f"select string_agg(t::varchar) from {table} t").fetchall()[0][0]
                      for (table,) in con.sql("select table_name from duckdb_tables()").fetchall()]
    if path.name == "state.sqlite":
        db = sqlite3.connect(path)
        texts += list(db.iterdump())
        db.close()
    return [text.lower() for text in texts if text]


WORDS = [ADDRESS, ID, emails.member_hash(ADDRESS), "maria-phone-1"]


@pytest.mark.parametrize("named", sampled(["$device:maria-phone-1", ADDRESS.upper(), ID], 1))
def test_a_person_is_gone_from_every_file_whatever_they_are_named_by(maria: cs.Workspace, named: str) -> None:
    other = "joanna.maria.q@harbor.example"
    before = places(maria.home, WORDS)
    assert {path.split("/")[0] for path in before} >= {"events", "warehouse", "audiences", "runs", "raw",
                                                       "state.sqlite"}
    erased = maria.forget(named)
    assert places(maria.home, [ID, emails.member_hash(ADDRESS), "maria-phone-1"]) == set()
    assert {path.split("/")[0] for path in places(maria.home, [ADDRESS])} <= {"events", "raw"}
    assert maria.sql("select properties from events where event = 'Played' and distinct_id = 'someone-else'")[
        "properties"].str.contains(other).all()
    assert (erased.found["profiles"], erased.found["events"], erased.found["remembered refusals"]) == (1, 2, 1)
    assert not [note for note in erased.notes if "still reads" in note]
    assert erased.found["raw"] >= 5 and erased.found["audiences"] >= 1 and erased.found["runs"] >= 3


def test_what_others_did_stays_with_the_mention_taken_out(maria: cs.Workspace) -> None:
    before = maria.mtu().set_index("month")["events"]
    maria.forget(ADDRESS)
    (properties,) = maria.sql("select properties from events where event = 'Invited' and distinct_id = 'someone-else'")[
        "properties"]
    kept = json.loads(properties)
    assert (kept["friend"], kept["friends"], kept["by"]) == ("forgotten", "forgotten,forgotten", "forgotten")
    after = maria.mtu().set_index("month")["events"]
    assert (before - after).sum() == 2
    raw = maria.home / "raw" / "77"
    page = json.loads((raw / "profiles.ndjson").read_text())
    assert (page["total"], [one["$distinct_id"] for one in page["results"]]) == (1, ["someone-else"])
    assert (raw / "members.csv").read_text() == "distinct_id,note\nsomeone-else,knows forgotten\n"
    lines = gzip.decompress((raw / "2026-11-01.ndjson.gz").read_bytes()).decode().splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["Invited", "Played"]


def test_the_cohorts_sizes_still_add_up(maria: cs.Workspace) -> None:
    maria.forget(ID)
    summary = maria.audience_summary(COHORT)
    assert summary["size"] == 60 == sum(summary["reasons"].values())
    assert maria.cohort_history(COHORT)["size"].iloc[-1] == 60


def test_who_was_forgotten_is_never_exported_again_even_when_loaded_again(
        maria: cs.Workspace, tmp_path: Path) -> None:
    maria.forget(ADDRESS)
    again = {**MARIA, "$properties": {"$email": "maria.new@harbor.example"}}  # the same id, a new address
    twin = {"$distinct_id": "another-id", "$properties": {"$email": ADDRESS}}  # the same address, a new id
    (tmp_path / "p.ndjson").write_text("\n".join(map(json.dumps, [again, twin])))
    (tmp_path / "again.json").write_text(json.dumps([ID, "another-id", *_members(maria)]))
    maria.load(profiles=[tmp_path / "p.ndjson"], cohorts={COHORT: tmp_path / "again.json"})
    plan = maria.plan(COHORT, _audience(maria))
    theirs = plan.people[plan.people["canonical_id"].isin([ID, "another-id"])]
    assert theirs["reason"].tolist() == ["forgotten_here"] * 2
    assert set(theirs["word"]) == {"remove", "refuse"}  # the old address is still on the segment
    receipt = maria.sync(COHORT, _audience(maria), force=True)
    assert (receipt["status"], receipt["accounted"]) == ("completed", receipt["size"])
    assert emails.member_hash(ADDRESS) not in set(mirror.last_export(
        maria.home, _audience(maria), receipt["segment_id"])["member_hash"])


def test_the_mirror_keeps_who_was_forgotten_by_hash_alone(maria: cs.Workspace) -> None:
    maria.forget(ADDRESS)
    maria.plan(COHORT, _audience(maria))
    members = maria.sql("from audience_members").set_index("member_hash")
    assert members.loc[emails.member_hash(ADDRESS), ["address", "status"]].tolist() == ["", "subscribed"]


def test_what_is_kept_of_a_person_tells_nobody_who_it_was(maria: cs.Workspace) -> None:
    maria.forget(ADDRESS)
    with ledger.state(maria.home) as con:
        kept = [row["person_hash"] for row in con.execute("select * from forgotten")]
    assert len(kept) >= 3
    assert emails.member_hash(ADDRESS) not in kept
    assert places(maria.home, kept) == {"state.sqlite"}


def test_somebody_nobody_knows_is_still_never_exported(connected: cs.Workspace) -> None:
    erased = connected.forget("nobody.yet@harbor.example")
    assert +erased.found == {}
    key = emails.member_hash("nobody.yet@harbor.example")
    assert ledger.forgotten_among(connected.home, [key, "other"]) == {key}


def test_a_workspace_without_anything_loaded_takes_a_person_to_forget(tmp_path: Path) -> None:
    workspace = cs.open(tmp_path / "home")
    with pytest.raises(ConfigurationError, match="cohortsync init"):
        workspace.forget(ADDRESS)
    workspace.init("UTC", "simplified")
    workspace.forget(ADDRESS)
    assert ledger.forgotten_among(workspace.home, [emails.member_hash(ADDRESS)])
    with pytest.raises(BadInput, match="Name a person"):
        workspace.forget(" ")


def test_a_pull_from_mixpanel_brings_nobody_back_into_an_export(tmp_path: Path) -> None:
    with forked.sandbox(tmp_path / "sandbox", mixpanel_seed=SAMPLE / "mixpanel.json") as running:
        workspace = connect(running, tmp_path / "home")
        workspace.pull(events=False)
        person = workspace.sql(f"""select distinct_id, address from profiles semi join
            (from cohort_members where cohort = '{COHORT}') using (distinct_id) where address like '%@%'
            order by distinct_id""").iloc[0]
        address = person["address"]
        erased = workspace.forget(address)
        assert erased.found["raw"] > 0
        assert places(tmp_path / "home", [address]) == set()
        change(tmp_path / "sandbox", "update profiles set properties = json_set(properties, '$.seen', 1)",
               f"delete from cohort_members where distinct_id > '{person['distinct_id']}'")
        workspace.pull(events=False)
        workspace.connect_mailchimp("0" * 32 + "-us6", "subscribed", running.mailchimp_url)
        plan = workspace.plan(COHORT, _audience(workspace))
        assert plan.people.loc[plan.people["address"] == address, "reason"].tolist() == ["forgotten_here"]
    assert "comes back with the next pull" in erased.notes[0]


# nobody else at it

def test_a_pull_at_work_is_waited_for_and_brings_nobody_back(tmp_path: Path) -> None:
    with forked.sandbox(tmp_path / "sandbox", mixpanel_seed=SAMPLE / "mixpanel.json") as running:
        workspace = connect(running, tmp_path / "home")
        workspace.pull(events=False)
        address = workspace.sql("select max(address) from profiles where address like '%@%'").iloc[0, 0]
        change(tmp_path / "sandbox", "update profiles set properties = json_set(properties, '$.seen', 1)")
        begun, waiting = threading.Event(), threading.Event()

        def wait(_plan: object) -> None:
            begun.set()
            waiting.wait(60)

        def tell(step: str, *_: object) -> None:
            if step == "Waiting for a pull":
                waiting.set()

        with ThreadPoolExecutor() as pool:
            pulling = pool.submit(cs.open(tmp_path / "home").pull, since=date(2026, 11, 20), review=wait)
            assert begun.wait(60)
            erased = workspace.forget(address, tell)
            assert pulling.done()
        assert pulling.result().profiles > 0
    assert (erased.found["profiles"], places(tmp_path / "home", [address])) == (1, set())


def test_nobody_is_erased_while_a_sync_is_at_work_and_yet_never_exported_again(maria: cs.Workspace) -> None:
    def forget(_plan: object) -> None:
        cs.open(maria.home).forget(ADDRESS)

    with pytest.raises(ApiTransient, match="Another sync"):
        maria.sync(COHORT, _audience(maria), review=forget)
    assert maria.sync(COHORT, _audience(maria))["refusals"]["forgotten_here"] == 1
    maria.forget(ADDRESS)
    assert places(maria.home, [ID, emails.member_hash(ADDRESS)]) == set()


def test_what_was_killed_or_failed_leaves_nothing_of_a_person(tmp_path: Path) -> None:
    with forked.sandbox(tmp_path / "sandbox", mixpanel_seed=SAMPLE / "mixpanel.json") as running:
        workspace = connect(running, tmp_path / "home")
        left = [workspace.home / path for path in (
            f"raw/{PROJECT_ID}/events/2026-11-01.gz.draft", "work/load-1/files/events-0/broken.ndjson.gz",
            "work/load-2/files/profiles-0/never-began.ndjson", ".backup-0a1b2c3d/runs/plan.json")]
        for path in left:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(gzip.compress(json.dumps(MARIA).encode())[:-9])
        work.start(workspace.home, "load-1", "Loading files", ["load", "--events", left[1]])
        deadline = time.monotonic() + 60
        while work.under_way(workspace.home) and time.monotonic() < deadline:
            time.sleep(0.1)
        erased = workspace.forget(ADDRESS)
    assert [path for path in left if path.exists()] == []
    assert erased.found["work"] == 2


def test_what_is_out_of_reach_is_told(maria: cs.Workspace, prepared: Path, tmp_path: Path) -> None:
    kept, gone = tmp_path / "kept.tar", tmp_path / "gone.tar.gz"
    for archive in (kept, gone):
        backup.write(maria.home, archive)
    gone.unlink()
    notes = " ".join(maria.forget(ADDRESS).notes)
    assert f"Backups hold the person as they were: {kept}. Delete them" in notes
    assert "Mixpanel and Mailchimp hold their own" in notes
    assert str(prepared / "events.ndjson") in notes.partition("Files of yours that were loaded stay as they are: ")[2]
    assert ADDRESS not in notes
    backup.restore(kept, tmp_path / "restored")
    assert ADDRESS in cs.open(tmp_path / "restored").sql("select address from profiles")["address"].tolist()


# plans and outcomes expire

def test_plans_and_outcomes_expire_and_receipts_stay(connected: cs.Workspace) -> None:
    audience_id = _audience(connected)
    first = connected.sync(COHORT, audience_id, force=True)
    folder = connected.home / "runs" / first["run_id"]
    for path in folder.iterdir():
        os.utime(path, (0, 0))
    second = connected.sync(COHORT, audience_id)
    assert {path.name for path in folder.glob("*.parquet")} == set()
    assert (folder / "receipt.json").exists()
    assert (second["kept"], second["added"]) == (first["added"], 0)
    assert len(list((connected.home / "runs" / second["run_id"]).glob("*.parquet"))) == 2


# what is theirs in a file

@pytest.mark.parametrize(("line", "left"), [
    ('{"event": "x", "properties": {"distinct_id": "u-1"}}\n', ""),
    ('{"event": "x", "properties": {"distinct_id": "u-2", "n": "u-1"}}\n', None),
    ('{"event": "x", "properties": {"distinct_id": "u-2", "n": "Ann@x.example"}}\n',
     '{"event": "x", "properties": {"distinct_id": "u-2", "n": "forgotten"}}\n'),
    ('{"event": "x", "properties": {"distinct_id": "u-12"}}\n', None),
    ('{"a": {"b": {"c": "write ann\\u0040x.example"}}}\n', '{"a": {"b": {"c": "write forgotten"}}}\n'),
    ("u-1,x\n", ""), ("ANN@x.example\n", ""), ("words of joann@x.example.\n", None), ("17,u-11\n", None)])
def test_a_line_is_theirs_mentions_them_or_stays_as_it_is(tmp_path: Path, line: str, left: str | None) -> None:
    file = tmp_path / "lines.txt"
    file.write_text("first\n" + line)
    strike.strike(file, Marks(frozenset({"u-1"}), frozenset({"ann@x.example"})))
    assert file.read_text() == "first\n" + (line if left is None else left)


@pytest.mark.parametrize(("people", "left"), [(["u-1", "u-2"], ["u-2"]), ([" Ann@X.example"], []), ([], [])])
def test_a_table_loses_their_rows_and_may_be_empty(tmp_path: Path, people: list[str], left: list[str]) -> None:
    file = tmp_path / "people.parquet"
    pd.DataFrame({"distinct_id": pd.Series(people, dtype="str"), "edit": None}).to_parquet(file)
    assert strike.strike(file, Marks(frozenset({"u-1"}), frozenset({"ann@x.example"}))) == len(people) - len(left)
    assert pd.read_parquet(file)["distinct_id"].tolist() == left


# the workspace's folder

@pytest.mark.parametrize(("mode", "holds", "closed"), [
    (0o755, [], True), (0o755, ["state.sqlite"], True), (0o755, ["thesis.doc"], False),
    (0o1777, ["state.sqlite"], False)])
def test_a_workspaces_folder_is_closed_to_others_unless_it_is_not_ours_alone(
        tmp_path: Path, mode: int, holds: list[str], closed: bool) -> None:
    folder = tmp_path / "place"
    folder.mkdir()
    for name in holds:
        (folder / name).touch()
    folder.chmod(mode)
    config.open_home(folder)
    assert folder.stat().st_mode & 0o7777 == (0o700 if closed else mode)
