"""The HTML report of a notebook: complete without a network, and nothing of the outside acted on."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from served import CHROMIUM, FLAGS
from test_accessible import PALE

import cohortsync as cs
from cohortsync import report, runs

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")


def executed(*outputs: NotebookNode) -> NotebookNode:
    return new_notebook(cells=[new_markdown_cell("# Cohorts & mails\n\nWords."),
                               new_code_cell("secret_code()", outputs=list(outputs))])


def test_a_report_shows_words_and_outputs_but_no_code() -> None:
    page = report.build_page(executed(new_output("stream", text="3,014 people")), "run 1 <2>")
    assert "<title>Cohorts &amp; mails</title>" in page
    assert "3,014 people" in page and "run 1 &lt;2&gt;" in page
    assert "secret_code" not in page


def test_a_report_says_where_a_run_stopped_without_alarm() -> None:
    def red(text: str) -> NotebookNode:
        return new_markdown_cell(f'<span style="color:red">{text}</span>', metadata={"tags": [report.ALARM]})

    stopped = executed(new_output("stream", text="A guard says no."))
    stopped.cells = [red("An Exception was encountered"), stopped.cells[0],
                     red('<span id="papermill-error-cell">Execution using papermill</span>'), stopped.cells[1]]
    page = report.build_page(stopped)
    assert "It stopped here" in page and "A guard says no." in page
    assert "papermill" not in page and "Exception" not in page


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM, reason="no Chromium found")
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_of_a_report_stands_out(workspace: cs.Workspace, tmp_path: Path, theme: str) -> None:
    figure = cs.charts.reasons(workspace.audience_summary("power-users"))
    (tmp_path / "report.html").write_text(report.build_page(executed(
        new_output("display_data", data={report.PLOTLY: figure.to_plotly_json()}))))
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(color_scheme=theme)
        page.goto((tmp_path / "report.html").as_uri())
        page.locator(".infolayer").first.wait_for()
        assert page.get_by_text("can be exported").count()
        assert page.evaluate(PALE) == []
        browser.close()


def test_a_month_in_a_table_stays_on_one_line_and_a_number_stands_to_the_right() -> None:
    page = report.build_page(executed(new_output("display_data", data={
        "text/html": "<table><tr><td>2026-11</td><td>1,020</td></tr></table>"})))
    assert '<td class="day">2026-11</td>' in page
    assert '<td class="number">1,020</td>' in page


def test_a_notebook_without_a_heading_is_a_report() -> None:
    assert "<title>Report</title>" in report.build_page(new_notebook())


def test_making_a_report_leaves_the_notebook_as_it_is() -> None:
    figure = {"data": [{"type": "bar", "x": [1], "y": [2]}], "layout": {}}
    notebook = executed(new_output("display_data", {report.PLOTLY: figure}))
    before = nbformat.writes(notebook)
    report.build_page(notebook)
    assert nbformat.writes(notebook) == before


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM, reason="no Chromium found; `make browser` installs Debian's")
def test_the_charts_of_a_report_draw_themselves_without_a_network(workspace: cs.Workspace) -> None:
    done = runs.run_notebook("explore_cohort", {"cohort": "power-users"}, workspace.home)
    asked: list[str] = []
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.goto(done.report.as_uri())
        page.locator("g.point").first.wait_for()
        assert page.locator(".plotly-graph-div").count() == 2
        assert page.locator("g.point").count() == 3 * 2 + 8
        browser.close()
    assert asked == [done.report.as_uri()]
    assert complaints == []


def test_a_report_forbids_its_page_to_fetch_anything(tmp_path: Path) -> None:
    page = report.build_page(executed(new_output("display_data", {
        "text/html": "<img src='https://evil.example/x.png'>"})))
    assert "default-src 'none'" in page.partition("</head>")[0]
