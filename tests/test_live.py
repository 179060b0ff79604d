"""Trying a real account's behaviours: all agree with the local Mailchimp, and a switch makes one differ."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import forked
import pandas as pd
import pytest
import requests
from conftest import OWNER_KEY
from typer.testing import CliRunner

import cohortsync as cs
from cohortsync import live
from cohortsync.cli import cli
from cohortsync.errors import BadInput
from cohortsync.sandbox.mailchimp.consent import breaches
from cohortsync.sandbox.mailchimp.switches import DEFAULTS

MAILBOX = "me@shop.example"
DIFFERS = {
    ("archived_in_batch", "refused"): "batch_brings_archived_back",
    ("archived_on_segment", "added"): "segment_passes_over_archived",
    ("batch_tags", "missing"): "batch_shows_tags",
    ("duplicate_names", "refused"): "segment_names_may_repeat",
    ("nobody_in_chunk", "removes"): "nobody_known_refuses_the_whole",
    ("pending_on_segment", "listed"): "segment_hides_pending",
    ("tag_changes_member", "yes"): "tag_is_no_change",
    ("tag_name", "newest"): "tag_goes_to_the_oldest",
}


class Throwaway:
    """A connected workspace, and an empty audience."""

    def __init__(self, home: Path, url: str) -> None:
        self.workspace, self.url = cs.open(home), url
        self.audience_id = self.workspace.connect_mailchimp(OWNER_KEY, "subscribed", url)["audiences"][0]["audience_id"]

    def set(self, **settings: Any) -> None:
        requests.post(f"{self.url}/sandbox/settings", json=DEFAULTS | settings, timeout=60).raise_for_status()

    def check(self) -> pd.DataFrame:
        return live.check(self.workspace.home, self.audience_id, MAILBOX)

    def command(self, *words: str) -> Any:
        return CliRunner().invoke(cli, ["--home", str(self.workspace.home), "check-live", "--audience",
                                        self.audience_id, "--mailbox", MAILBOX, *words])


@pytest.fixture
def throwaway(tmp_path: Path) -> Iterator[Throwaway]:
    with forked.sandbox(tmp_path / "mailchimp") as running:
        yield Throwaway(tmp_path / "home", running.mailchimp_url)


def test_everything_agrees_with_the_local_mailchimp(throwaway: Throwaway, tmp_path: Path) -> None:
    found = throwaway.check()
    assert found.loc[found["verdict"] != "agrees", ["behaviour", "verdict", "seen"]].to_numpy().tolist() == []
    assert len(found) == len(live.BEHAVIOURS) > 20
    held = requests.get(f"{throwaway.url}/3.0/lists/{throwaway.audience_id}/members", timeout=60, params={"count": 100},
                        auth=("any", OWNER_KEY)).json()["members"]
    assert {member["status"] for member in held} <= {"pending"}
    assert breaches(tmp_path / "mailchimp" / "mailchimp.sqlite") == []


@pytest.mark.parametrize("switch", DIFFERS, ids="-".join)
def test_what_is_switched_differs_and_nothing_else(
        throwaway: Throwaway, switch: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    throwaway.set(**dict([switch]))
    found = throwaway.check().set_index("behaviour")["verdict"]
    assert found[DIFFERS[switch]] == "differs"
    other = found[~found.index.isin([DIFFERS[switch], "tag_goes_to_the_oldest"])]
    assert set(other) == {"agrees"}


def test_what_cannot_be_tried_is_unknown_and_says_why_without_an_address(
        throwaway: Throwaway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COHORTSYNC_ATTEMPTS", "1")
    throwaway.set(faults="500", fault_rate=0.5, fault_seed=1, fault_from=8)
    found = throwaway.check()
    unknown = found[found["verdict"] == "unknown"]
    assert len(unknown) > 3
    assert unknown["seen"].str.contains("answered 500").all()
    assert not unknown["seen"].str.contains("me+", regex=False).any()


def test_an_audience_with_people_in_it_is_refused(connected: cs.Workspace) -> None:
    audience_id = connected.check_mailchimp()["audiences"][0]["audience_id"]
    with pytest.raises(BadInput, match=r"holds [\d,]+ contacts"):
        live.check(connected.home, audience_id, MAILBOX)


def test_nothing_is_tried_without_the_audiences_name(throwaway: Throwaway) -> None:
    for words in ((), ("--confirm", "Newsletters")):
        done = throwaway.command(*words)
        assert isinstance(done.exception, BadInput)
    assert requests.get(f"{throwaway.url}/3.0/lists/{throwaway.audience_id}/members", timeout=60,
                        auth=("any", OWNER_KEY)).json()["total_items"] == 0


def test_the_command_prints_a_verdict_for_each(throwaway: Throwaway) -> None:
    throwaway.set(tag_name="newest")
    done = throwaway.command("--confirm", "Newsletter")
    assert done.exit_code == 0
    assert done.stdout.count("agrees") == len(live.BEHAVIOURS) - 1
    assert "differs: of two segments of a name, a batch's tag reaches the older." in done.stderr


def test_the_document_lists_every_behaviour() -> None:
    text = (Path(__file__).parent.parent / "docs" / "check-live.md").read_text(encoding="utf-8")
    for behaviour in live.BEHAVIOURS:
        assert f"| `{behaviour.name}` | {behaviour.assumed} | {behaviour.otherwise} |" in text
