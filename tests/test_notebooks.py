"""The committed notebooks, and how notebooks are run: real kernels on the sample workspace."""

from __future__ import annotations

import gzip
import json
import re
import stat
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from conftest import OWNER_KEY, SAMPLE
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook

import cohortsync as cs
from cohortsync import config, runs
from cohortsync.errors import BadInput, NotebookError, UnsafePlan
from cohortsync.plan import Plan, Target

NOTEBOOKS = runs.bundled_notebooks()
PLOTLY = "application/vnd.plotly.v1+json"
ADDRESS = re.compile(r'[^\s"@\\<>]+@[^\s"@\\<>]+\.[a-z]+')


def addresses() -> set[str]:
    """Every address of the sample, of profiles and of members, lower-cased."""
    profiles = gzip.decompress((SAMPLE / "profiles.ndjson.gz").read_bytes()).decode()
    found = ADDRESS.findall((profiles + (SAMPLE / "mailchimp_members.ndjson").read_text()).lower())
    assert len(found) > 2000
    return set(found)


def outputs(notebook: NotebookNode, mime: str) -> list[Any]:
    return [output.data[mime] for cell in notebook.cells for output in cell.get("outputs", [])
            if mime in output.get("data", {})]


def assert_shows_no_secret(file: Path) -> None:
    text = file.read_text().lower()
    assert OWNER_KEY not in text
    assert [address for address in addresses() if address in text] == []


def small_notebook(folder: Path, *cells: str) -> Path:
    """A notebook of one's own, its first cell the parameters."""
    notebook = new_notebook(cells=[new_code_cell(source) for source in cells])
    notebook.cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(notebook, folder / "mine.ipynb")
    return folder / "mine.ipynb"


# as committed

@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_committed_notebook_holds_no_outputs(path: Path) -> None:
    for cell in json.loads(path.read_text())["cells"]:
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_committed_notebook_is_valid_with_cell_ids_that_say_what_they_are(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert all(re.fullmatch("[a-z-]+", cell.id) for cell in notebook.cells)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_committed_notebook_is_thin(path: Path) -> None:
    first, second, *rest = nbformat.read(path, as_version=4).cells
    assert first.cell_type == "markdown"
    assert second.metadata.tags == ["parameters"]
    code = [cell.source for cell in rest if cell.cell_type == "code"]
    assert 3 <= len(code) <= 10
    assert not re.search(r"^\s*(def|class|async def) ", "\n".join(code), re.MULTILINE)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_parameter_has_a_type_and_a_help_text(path: Path) -> None:
    declared = runs.declared_parameters(path)
    source = nbformat.read(path, as_version=4).cells[1].source
    assert len(declared) == len(source.splitlines())
    for parameter in declared.values():
        assert parameter["inferred_type_name"] in runs.TYPES
        assert parameter["help"]


# executed

def test_exploring_hands_back_the_summary_of_the_largest_cohort(workspace: cs.Workspace, tmp_path: Path) -> None:
    executed = runs.execute_notebook("explore_cohort", tmp_path / "out.ipynb", {}, workspace.home)
    largest = workspace.cohorts().sort_values("size")["cohort"].iloc[-1]
    summary = workspace.audience_summary(largest)
    assert runs.result(executed) == {key: summary[key] for key in ("cohort", "size", "exportable", "reasons")}
    assert len(outputs(executed, PLOTLY)) == 2
    assert_shows_no_secret(tmp_path / "out.ipynb")


def test_the_mtu_report_hands_back_the_months_as_its_parameters_ask(workspace: cs.Workspace, tmp_path: Path) -> None:
    asked = {"marked_only": True, "guardrail_events": "qualifying"}
    executed = runs.execute_notebook("mtu_report", tmp_path / "out.ipynb", asked, workspace.home)
    months = workspace.mtu(**asked)
    so_far = workspace.month_to_date(marked_only=True)
    marginal = workspace.marginal_mtu(months["month"].iloc[-1], marked_only=True)
    assert so_far is not None
    assert runs.result(executed) == {
        "months": months.drop(columns="as_of").to_dict("records"), "as_of": months.attrs["as_of"],
        "month_to_date": so_far.summary(), "marginal": marginal.query("sole_users > 0").to_dict("records")}
    assert so_far.sentence() in str([cell.get("outputs") for cell in executed.cells])
    assert len(outputs(executed, PLOTLY)) == 4
    assert_shows_no_secret(tmp_path / "out.ipynb")


def test_the_mtu_report_of_a_project_without_events_has_nothing_to_count(tmp_path: Path) -> None:
    cs.open(tmp_path / "home").init("UTC", "simplified")
    executed = runs.execute_notebook("mtu_report", tmp_path / "out.ipynb", {}, tmp_path / "home")
    assert runs.result(executed) == {"months": [], "as_of": None, "month_to_date": None, "marginal": []}
    assert "there is no month to follow" in str(outputs(executed, PLOTLY))


def test_the_sync_notebook_writes_nothing_unless_told_to(connected: cs.Workspace, tmp_path: Path) -> None:
    executed = runs.execute_notebook("sync_cohort", tmp_path / "out.ipynb", {"cohort": "power-users"}, connected.home)
    receipt = runs.result(executed)
    assert receipt is not None
    assert (receipt["status"], receipt["writes"]) == ("planned", 0)
    assert connected.plan("power-users", receipt["audience_id"]).counts["add_new"] > 0
    assert len(outputs(executed, PLOTLY)) == 2
    assert_shows_no_secret(tmp_path / "out.ipynb")


def test_the_sync_notebook_with_dry_run_off_syncs_and_proves_it(connected: cs.Workspace, tmp_path: Path) -> None:
    parameters = {"cohort": "power-users", "dry_run": False}
    executed = runs.execute_notebook("04_sync_cohort", tmp_path / "out.ipynb", parameters, connected.home)
    receipt = runs.result(executed)
    assert receipt is not None
    assert receipt["status"] == "completed"
    assert receipt["accounted"] == receipt["size"]
    assert connected.plan("power-users", receipt["audience_id"]).changes == 0
    assert stat.S_IMODE((tmp_path / "out.ipynb").stat().st_mode) == 0o600
    assert_shows_no_secret(tmp_path / "out.ipynb")


@pytest.mark.parametrize("confirm", ["", "newsletter"])
def test_the_sync_notebook_asks_for_the_audiences_name_before_it_writes_to_a_real_account(confirm: str) -> None:
    target = Target("a1", "Harbor", "l1", "Newsletter", rehearsal=False, segment_id=None, segment_name="mixpanel_x")
    notebook = nbformat.read(runs.find_notebook("sync_cohort"), as_version=4)
    cell = next(cell for cell in notebook.cells if cell.id == "sync")
    plan = Plan("local", "x", 0, target, "subscribed", None, {})  # type: ignore[arg-type]
    with pytest.raises(UnsafePlan, match="set confirm to the audience's name: Newsletter"):
        exec(cell.source, {"dry_run": False, "confirm": confirm, "plan": plan, "cs": cs})


def test_the_preview_says_what_mailchimp_will_do_with_each_and_writes_nothing(
        connected: cs.Workspace, tmp_path: Path) -> None:
    executed = runs.execute_notebook("audience_preview", tmp_path / "out.ipynb", {}, connected.home)
    plan = connected.plan(connected.largest_cohort(), connected.chosen_audience())
    assert runs.result(executed) == {"cohort": plan.cohort, "size": plan.size, "excluded": plan.excluded,
                                     "people": plan.counts}
    assert plan.counts["add_new"] > 0
    assert len(outputs(executed, PLOTLY)) == 2
    assert_shows_no_secret(tmp_path / "out.ipynb")


@pytest.mark.parametrize(("asked", "cohorts"), [({}, 4), ({"cohort": "power-users", "month": "2026-10"}, 2)])
def test_the_followup_hands_back_what_the_mails_led_to(
        workspace: cs.Workspace, tmp_path: Path, asked: dict[str, str], cohorts: int) -> None:
    executed = runs.execute_notebook("campaign_followup", tmp_path / "out.ipynb", asked, workspace.home)
    found = runs.result(executed)
    assert found is not None
    table = workspace.followup(asked.get("month"))
    assert len(found["rows"]) == cohorts * 5
    assert found["rows"][-5:] == table.tail(5).drop(columns="project_id").assign(cohort=None).to_dict("records")
    assert len(outputs(executed, PLOTLY)) == 1


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_on_an_empty_workspace_says_what_to_do_first(path: Path, tmp_path: Path) -> None:
    with pytest.raises(NotebookError, match="cohortsync (init|connect|syncs create)") as stopped:
        runs.execute_notebook(path, tmp_path / "out.ipynb", {}, tmp_path)
    assert stopped.value.exit_status == 2
    shown = runs._read(tmp_path / "out.ipynb")
    assert "Traceback" not in str(outputs(shown, "text/plain")) + nbformat.writes(shown)


# running any notebook

def test_a_notebook_runs_in_this_python_on_the_given_workspace_and_tells_how_far_it_is(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "kernels" / "python3"
    folder.mkdir(parents=True)
    (folder / "kernel.json").write_text(json.dumps({"argv": ["/bin/false"], "display_name": "x", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    mine = small_notebook(tmp_path, "limit: int = 1  # how many", f"""import os, sys
found = {{"python": sys.executable, "home": os.environ["COHORTSYNC_HOME"], "limit": limit}}
display({{"{runs.RESULT}": found}}, raw=True)""")
    seen: list[tuple[str, float, float]] = []
    executed = runs.execute_notebook(mine, tmp_path / "{out}.ipynb", {"limit": "7"}, tmp_path / "home",
                                     lambda *step: seen.append(step))
    assert runs.result(executed) == {"python": sys.executable, "home": str(tmp_path / "home"), "limit": 7}
    assert (tmp_path / "{out}.ipynb").exists()
    assert seen[-1] == ("mine: cell 2 of 2", 2, 2)


def test_a_failing_notebook_names_the_cell_and_keeps_its_output_without_addresses(
        tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    mine = small_notebook(tmp_path, "limit: int = 1",
                          "who = 'maria@harbor.' + 'example'\nprint(who)\nraise KeyError(who)")
    with pytest.raises(NotebookError, match=r"cell \[2\]: KeyError: 'm•••@h•••.example'") as stopped:
        runs.execute_notebook(mine, tmp_path / "out.ipynb", {}, tmp_path)
    assert "maria@harbor.example" not in str(stopped.value) + (tmp_path / "out.ipynb").read_text()
    assert stat.S_IMODE((tmp_path / "out.ipynb").stat().st_mode) == 0o600
    assert capfd.readouterr().err == ""


def test_no_file_of_a_run_holds_an_address_at_any_moment(tmp_path: Path) -> None:
    mine = small_notebook(tmp_path, "limit: int = 1", "print('maria@harbor.' + 'example')",
                          f"saved = open({str(tmp_path / 'out.ipynb')!r}).read()",
                          "print('maria@harbor.' + 'example' in saved, 'm•••@h•••.' + 'example' in saved)")
    executed = runs.execute_notebook(mine, tmp_path / "out.ipynb", {}, tmp_path)
    assert executed.cells[-1].outputs[0].text == "False True\n"
    assert "maria@harbor.example" not in (tmp_path / "out.ipynb").read_text()


@pytest.mark.parametrize(("parameter", "value", "said"), [
    ("api_key", "0123", "holds a secret"), ("note", OWNER_KEY, "holds a secret"),
    ("note", "it is kept-secret-here", "holds a secret"), ("note", "of the environment", "holds a secret"),
    ("note", "maria@harbor.example", "m•••@h•••.example")])
def test_a_secret_or_an_address_is_refused_as_a_parameter(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parameter: str, value: str, said: str) -> None:
    config.save_key(tmp_path, "127.0.0.1:8019", "kept-secret")
    monkeypatch.setenv("MIXPANEL_SECRET", "environment")
    mine = small_notebook(tmp_path, 'api_key: str = ""\nnote: str = ""')
    with pytest.raises(BadInput, match=said) as refused:
        runs.run_notebook(mine, {parameter: value}, tmp_path)
    assert value not in str(refused.value)
    assert not (tmp_path / "runs").exists()


def test_a_run_leaves_the_notebook_its_report_and_its_result_to_the_owner_alone(
        workspace: cs.Workspace, tmp_path: Path) -> None:
    done = runs.run_notebook("mtu_report", {"marked_only": "true"}, workspace.home)
    left = {path.name for path in done.folder.iterdir()}
    assert left == {done.notebook.name, done.report.name, "result.json"}
    assert done.folder == workspace.home / "runs" / done.run_id
    assert {stat.S_IMODE(path.stat().st_mode) for path in done.folder.iterdir()} == {0o600}
    assert json.loads((done.folder / "result.json").read_text()) == done.result
    assert_shows_no_secret(done.report)


def test_a_notebook_that_stops_leaves_a_report_of_how_far_it_came(tmp_path: Path) -> None:
    mine = small_notebook(tmp_path, "limit: int = 1", "print('so far')", "1 / 0", "print('no more')")
    with pytest.raises(NotebookError, match="ZeroDivisionError"):
        runs.run_notebook(mine, {}, tmp_path)
    page = next((tmp_path / "runs").glob("*/mine.html")).read_text()
    assert "so far" in page and "ZeroDivisionError" in page and "no more" not in page


@pytest.mark.parametrize(("parameters", "said"), [
    ({"cohrt": "x"}, "no parameter 'cohrt'. It has: home, project, cohort, audience_id, dry_run, confirm"),
    ({"dry_run": "flase"}, "dry_run cannot be 'flase'; it takes true or false"),
    ({"dry_run": 0}, "dry_run cannot be 0; it takes true or false"),
    ({"cohort": 12345678}, "cohort cannot be 12345678; it takes text"),
    ({"cohort": None}, "cohort cannot be None; it takes text")])
def test_a_wrong_parameter_is_refused_before_anything_starts(
        tmp_path: Path, parameters: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput) as refused:
        runs.execute_notebook("04_sync_cohort", tmp_path / "out.ipynb", parameters, tmp_path)
    assert said in str(refused.value)
    assert not (tmp_path / "out.ipynb").exists()


def test_an_id_of_digits_stays_text_and_numbers_are_read_as_declared(tmp_path: Path) -> None:
    mine = small_notebook(tmp_path, 'audience: str = ""\nlimit: int = 1\nshare: float = 0.5\nfree = None')
    given = {"audience": "57e1234567", "limit": "12", "share": 1, "free": [1]}
    assert runs.check_parameters(mine, given, tmp_path) == {**given, "limit": 12}
    for wrong in ({"limit": "1.5"}, {"limit": True}, {"share": "half"}):
        with pytest.raises(BadInput, match="it takes a"):
            runs.check_parameters(mine, wrong, tmp_path)


def test_an_unknown_notebook_is_answered_with_those_there_are() -> None:
    with pytest.raises(BadInput, match="01_explore_cohort, 02_audience_preview, 03_mtu_report"):
        runs.find_notebook("04_more")


def test_a_file_that_is_no_notebook_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.ipynb").write_text("hello")
    with pytest.raises(BadInput, match="is not a notebook"):
        runs.execute_notebook(tmp_path / "x.ipynb", tmp_path / "out.ipynb", {}, tmp_path)


def test_a_notebook_is_never_executed_in_place(tmp_path: Path) -> None:
    mine = small_notebook(tmp_path, "limit: int = 1")
    for output in (mine, NOTEBOOKS[0]):
        with pytest.raises(BadInput, match="stays without outputs"):
            runs.execute_notebook(mine, output, {}, tmp_path)


def test_copies_to_work_on_never_overwrite_anything(tmp_path: Path) -> None:
    copies = runs.copy_notebooks(tmp_path / "work")
    assert [path.read_bytes() for path in copies] == [path.read_bytes() for path in NOTEBOOKS]
    copies[0].unlink()
    copies[1].write_text("mine")
    with pytest.raises(BadInput, match="03_mtu_report.ipynb"):
        runs.copy_notebooks(tmp_path / "work")
    assert copies[1].read_text() == "mine"
    assert not copies[0].exists()
