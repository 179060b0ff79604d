"""MTU as the workspace, the command line and the charts answer it, on the sample."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import cohortsync as cs
from cohortsync import charts, cli

VIEWS = {"--history": "mtu_before", "--organisation": "projects", "--marginal": "sole_users",
         "--unmarked": "canonical_id", "--anonymous": "anonymous_share", "--spikes day": "usual"}


def run(home: Path, words: str) -> Result:
    return CliRunner().invoke(cli.cli, ["--home", str(home), *words.split()], catch_exceptions=False)


def answer(home: Path, words: str) -> Any:
    ended = run(home, f"{words} --json")
    assert ended.exit_code == 0, ended.stderr
    return json.loads(ended.stdout)


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_answers_a_table_and_json(sample: Path, view: str) -> None:
    assert VIEWS[view] in answer(sample, f"mtu {view}")[0]
    assert VIEWS[view].replace("_", " ").split()[0] in run(sample, f"mtu {view}").stdout


@pytest.mark.parametrize("command", ["mtu", "classes", "classes set", "classes partner", "classes reset"])
def test_every_command_says_an_example_of_itself(command: str) -> None:
    shown = CliRunner().invoke(cli.cli, [*command.split(), "--help"])
    assert shown.exit_code == 0
    assert command == "classes" or f"cohortsync {command}" in " ".join(shown.output.split())


def test_two_views_at_once_are_refused(sample: Path) -> None:
    with pytest.raises(cs.CohortsyncError, match="--marginal and --to-date"):
        run(sample, "mtu --marginal --to-date")


def test_the_month_to_date_says_its_projection_and_error(sample: Path) -> None:
    found, workspace = answer(sample, "mtu --to-date"), cs.open(sample)
    assert found["mtu"] == workspace.mtu()["mtu"].iloc[-1]
    assert (found["tests"], found["month"]) == (1, "2026-11")
    assert found["error"] == pytest.approx(abs(found["months"][1]["error"]))
    ended = run(sample, "mtu --to-date")
    assert f"may end near {found['projection']:,}" in ended.stderr
    assert "in 1 past month." in ended.stderr


def test_mtu_says_which_of_mailchimps_names_occurred(sample: Path) -> None:
    said = run(sample, "mtu").stderr
    assert "billing page in 2026-09, 2026-10" in said
    assert "integration page in 2026-10, 2026-11" in said


def test_the_people_who_differ_are_as_many_as_the_two_readings_differ_by(sample: Path) -> None:
    workspace = cs.open(sample)
    differ = workspace.mtu(marked_only=True)["mtu"] - workspace.mtu()["mtu"]
    people = workspace.unmarked_users()
    assert people.groupby("month").size().tolist() == differ.tolist()
    assert not people["canonical_id"].str.contains(r"\w{3,}@").any()


def test_classes_edited_on_the_command_line_change_the_bill_at_once(workspace: cs.Workspace) -> None:
    before, home = workspace.mtu()["mtu"].tolist(), workspace.home
    page_views = workspace.marginal_mtu().query("event == 'Page viewed'")["sole_users"].tolist()
    ended = CliRunner().invoke(cli.cli, ["--home", str(home), "classes", "set", "Page viewed", "system"])
    assert ended.exit_code == 0
    workspace.refresh()
    assert workspace.mtu()["mtu"].tolist() == [all_ - sole for all_, sole in zip(before, page_views, strict=True)]
    assert run(home, "classes partner braze --on").exit_code == 0
    listed = answer(home, "classes")
    assert {"event": "Page viewed", "class": "system", "source": "set by hand"} in listed["classes"]
    assert [row["partner"] for row in listed["partners"] if row["on"]] == ["braze"]
    assert run(home, "classes reset").exit_code == 0
    workspace.refresh()
    assert workspace.mtu()["mtu"].tolist() == before


def test_edited_classes_survive_a_load(workspace: cs.Workspace, tmp_path: Path) -> None:
    workspace.set_class("Page viewed", "system")
    before = workspace.mtu()["mtu"].tolist()
    event = {"event": "Page viewed", "properties": {"time": 1794000000, "$user_id": "someone new", "$insert_id": "x"}}
    (tmp_path / "late.ndjson").write_text(json.dumps(event))
    workspace.load([tmp_path / "late.ndjson"])
    assert workspace.mtu()["mtu"].tolist() == before


def test_late_events_leave_the_months_as_they_stood_to_be_seen(workspace: cs.Workspace, tmp_path: Path) -> None:
    before = workspace.mtu()
    as_of = workspace.mtu_history()["as_of"].max()
    event = {"event": "Page viewed", "properties": {"time": 1790000000, "$user_id": "late", "$insert_id": "x"}}
    (tmp_path / "late.ndjson").write_text(json.dumps(event))
    workspace.load([tmp_path / "late.ndjson"])
    assert workspace.mtu(as_of=as_of)["mtu"].tolist() == before["mtu"].tolist()
    assert workspace.mtu()["mtu"].tolist() == [before["mtu"][0] + 1, *before["mtu"][1:]]
    assert len(workspace.mtu_history()) == 4


def test_the_marginal_chart_shows_the_newest_months_sole_users(sample: Path) -> None:
    frame = cs.open(sample).marginal_mtu()
    newest = frame[frame["month"] == "2026-11"].query("sole_users > 0").head(10)
    assert list(charts.marginal(frame).data[0].x) == newest["sole_users"].tolist()
    assert "alone" in charts.marginal(frame.head(0)).layout.annotations[0].text


def test_the_month_to_date_chart_shows_every_month_and_the_projection(sample: Path) -> None:
    found = cs.open(sample).month_to_date()
    assert found
    figure = charts.month_to_date(found)
    assert [trace.name for trace in figure.data] == ["2026-09", "2026-10", "2026-11", "projection"]
    assert figure.data[2].y[-1] == found.mtu
    assert figure.data[3].y == (found.projection,)
    assert "No events" in charts.month_to_date(None).layout.annotations[0].text


def test_anonymous_share_is_part_of_mtu(sample: Path) -> None:
    workspace = cs.open(sample)
    frame = workspace.anonymous_share()
    assert frame["mtu"].tolist() == workspace.mtu()["mtu"].tolist()
    assert all(math.isclose(row.anonymous_share, row.anonymous_users / row.mtu, abs_tol=1e-4)
               for row in frame.itertuples())


def test_the_months_as_they_stood_are_answered_on_the_command_line(sample: Path) -> None:
    assert answer(sample, "mtu --as-of 2020-01-01") == []
    assert answer(sample, "mtu --as-of 9000-01-01T00:00+00:00") == answer(sample, "mtu")
