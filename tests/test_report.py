"""The HTML report of a notebook: complete without a network, and nothing of the outside acted on."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from served import CHROMIUM, FLAGS

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
