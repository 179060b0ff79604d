"""An executed notebook as one HTML page that works without a network: its words, tables and charts, not its code.

nbconvert leaves a Plotly figure out without a word, and its page asks other hosts for scripts; here the figures
carry Plotly with them, and the page's own policy forbids it to fetch anything.
Source: https://nbconvert.readthedocs.io/en/latest/api/preprocessors.html
"""

from __future__ import annotations

import copy
import re
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # nbconvert takes half a second to import
    from nbformat import NotebookNode

PLOTLY = "application/vnd.plotly.v1+json"
ALARM, STOPPED = "papermill-error-cell-tag", "**It stopped here; what follows was not done:**"  # in red, by papermill
POLICY = ("default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; font-src data:; "
          "form-action 'none'; base-uri 'none'")
STYLE = """
:root { color-scheme: light dark; --ink: #1f2333; --paper: #fff; --line: #d9dae2; --quiet: #5d6070 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #eceef5; --paper: #14161f; --line: #34384c; --quiet: #a9adbd } }
body { font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper);
       max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1, h2 { line-height: 1.25 }
.jp-InputArea-prompt, .jp-OutputPrompt, .prompt, .anchor-link { display: none }
table { border-collapse: collapse; border: 0; margin: 1rem 0; font-size: .9rem; font-variant-numeric: tabular-nums }
th, td { padding: .3rem .7rem; border: 0; border-bottom: 1px solid var(--line); text-align: left }
.dataframe thead th { text-align: left !important }
.number { text-align: right }
.day { white-space: nowrap }
pre { white-space: pre-wrap; font: inherit }
.output_html { overflow-x: auto }
.main-svg text[style*="rgb(118, 118, 118)"] { fill: var(--quiet) !important }
footer { color: var(--quiet); border-top: 1px solid var(--line); margin-top: 2rem; padding-top: .5rem }
"""


def build_page(notebook: NotebookNode, note: str = "") -> str:
    """The page of an executed notebook, headed by its own title; ``note`` stands at its foot."""
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(template_name="basic", exclude_input=True, exclude_input_prompt=True,
                            exclude_output_prompt=True)
    body, _ = exporter.from_notebook_node(_with_figures(_without_alarm(notebook)))
    body = re.sub(r"<td>(-?[\d,.]+%?)</td>", r'<td class="number">\1</td>', body)
    body = re.sub(r"<td>(\d{4}-\d\d(?:-\d\d)?)</td>", r'<td class="day">\1</td>', body)
    return (f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
            f'<meta name="viewport" content="width=device-width"><title>{escape(title(notebook))}</title>'
            f"<style>{STYLE}</style></head>\n<body><main>{body}</main><footer>{escape(note)}</footer></body></html>\n")


def title(notebook: NotebookNode) -> str:
    """The first heading of a notebook."""
    lines = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown").splitlines()
    return next((line.removeprefix("# ") for line in lines if line.startswith("# ")), "Report")


def _without_alarm(notebook: NotebookNode) -> NotebookNode:
    """A copy that says in plain words where it stopped: a guard that stops a sync is no accident."""
    calm = copy.deepcopy(notebook)
    alarms = [cell for cell in calm.cells if ALARM in cell.metadata.get("tags", [])]
    for cell in alarms:
        cell.source, cell.metadata = STOPPED, {}
    needless = {id(cell) for cell in alarms[:-1]}  # the last stands where it stopped
    calm.cells = [cell for cell in calm.cells if id(cell) not in needless]
    return calm


def _with_figures(notebook: NotebookNode) -> NotebookNode:
    """A copy in which each Plotly figure is HTML that draws itself; the first brings Plotly along."""
    drawn = copy.deepcopy(notebook)
    brings: bool | str = "inline"
    for cell in drawn.cells:
        for output in cell.get("outputs", []):
            if figure := output.get("data", {}).pop(PLOTLY, None):
                output["data"] = {"text/html": _figure(figure, brings)}
                brings = False
    return drawn


def _figure(figure: dict[str, Any], include_plotlyjs: bool | str) -> str:
    import plotly.io

    return plotly.io.to_html({"data": figure["data"], "layout": figure["layout"]}, full_html=False, validate=False,
                             include_plotlyjs=include_plotlyjs, config={"displayModeBar": False, "responsive": True})
