"""Every number of audience and mtu, held against a second reckoning straight from the raw lines."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import SAMPLE, sample_files
from identity_flows import FLOWS, Flow
from reckoning import Reckoning, reckon

import cohortsync as cs
from cohortsync import audience, emails

TIMEZONE = "America/New_York"


@pytest.fixture(scope="module", params=["simplified", "original"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[cs.Workspace, Reckoning]:
    """The sample as cohortsync loads it and as the second reckoning reads it, for one ID merge."""
    folder, id_merge = SAMPLE, request.param
    if id_merge == "original":
        folder = tmp_path_factory.mktemp("original")
        subprocess.run([sys.executable, SAMPLE.parent / "generate.py", "--out", folder, "--id-merge", id_merge],
                       check=True)
    files = {kind: _moved(value, folder) for kind, value in sample_files().items()}
    workspace = cs.open(tmp_path_factory.mktemp(id_merge) / "home")
    workspace.init(TIMEZONE, id_merge)
    workspace.load(**files)
    return workspace, reckon(files["events"], files["profiles"], files["cohorts"], TIMEZONE, id_merge)


def _moved(paths: Any, folder: Path) -> Any:
    if isinstance(paths, dict):
        return {name: folder / path.name for name, path in paths.items()}
    return [folder / path.name for path in paths]


@pytest.mark.parametrize("marked_only", [False, True])
def test_every_month_of_mtu_is_what_the_raw_lines_say(both: tuple[cs.Workspace, Reckoning], marked_only: bool) -> None:
    workspace, reckoned = both
    rows = workspace.mtu(marked_only=marked_only).drop(columns=["project_id", "as_of"]).to_dict("records")
    expected = reckoned.mtu_marked if marked_only else reckoned.mtu
    assert len(rows) == 3
    assert rows == [{name: month[name] for name in rows[0]} for month in expected]


def test_every_id_of_every_cohort_has_the_reason_that_the_raw_lines_give(
        both: tuple[cs.Workspace, Reckoning]) -> None:
    workspace, reckoned = both
    for cohort, expected in reckoned.audience.items():
        with workspace.connect() as con:
            frame = audience.people(con, workspace.project, cohort)
        assert dict(zip(frame["distinct_id"], frame["reason"], strict=True)) == expected
        assert frame["member_hash"].equals(frame["address"].map(emails.member_hash, na_action="ignore").astype("str"))
        assert frame["member_hash"].notna().any()


def test_cohort_sizes_and_reasons_add_up(both: tuple[cs.Workspace, Reckoning]) -> None:
    workspace, reckoned = both
    frame = workspace.cohorts()
    assert {row.cohort: (row.size_, row.exportable) for row in frame.rename(columns={"size": "size_"}).itertuples()} \
        == reckoned.cohorts
    for cohort, (size, _) in reckoned.cohorts.items():
        reasons = workspace.audience_summary(cohort)["reasons"]
        assert tuple(reasons) == audience.REASONS
        assert sum(reasons.values()) == size


def test_the_sample_shows_every_reason_and_a_month_that_is_not_complete(
        both: tuple[cs.Workspace, Reckoning]) -> None:
    workspace, _ = both
    assert all(count > 0 for count in workspace.audience_summary("power-users")["reasons"].values())
    assert workspace.mtu()["complete"].tolist() == [True, True, False]


def test_the_duplicates_and_bad_lines_left_out_are_those_of_the_raw_lines(
        both: tuple[cs.Workspace, Reckoning]) -> None:
    workspace, reckoned = both
    assert workspace.sql("select sum(rows) - (select count(*) from events) as n from files "
                         "where kind = 'events'")["n"].tolist() == [reckoned.duplicates]
    assert len(workspace.quarantine()) == reckoned.quarantined


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: f"{flow.id_merge}: {flow.name}")
def test_mixpanels_documented_identity_flows_come_out_as_documented(flow: Flow, tmp_path: Path) -> None:
    (tmp_path / "events.ndjson").write_text("\n".join(json.dumps(row) for row in flow.rows))
    ids = sorted({i for user in flow.users for i in user})
    (tmp_path / "ids.txt").write_text("\n".join(ids))
    workspace = cs.open(tmp_path / "home")
    workspace.init("UTC", flow.id_merge)
    workspace.load([tmp_path / "events.ndjson"], cohorts={"all": tmp_path / "ids.txt"})
    with workspace.connect() as con:
        frame = audience.people(con, workspace.project, "all")
    clusters = frame.groupby("canonical_id")["distinct_id"].apply(set).tolist()
    assert sorted(map(sorted, clusters)) == sorted(map(sorted, flow.users))
    assert workspace.mtu()["mtu"].tolist()[-1] == flow.mtu
