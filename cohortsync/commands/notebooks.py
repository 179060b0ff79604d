"""Notebooks: which there are, and running one with its parameters checked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from cohortsync import console
from cohortsync.commands.options import AsJson, opened, services
from cohortsync.errors import BadInput

app = typer.Typer()


@app.command(epilog="Examples: cohortsync notebooks; cohortsync notebooks --copy mine")
def notebooks(copy: Annotated[Path | None, typer.Option(help="A folder to copy them to.")] = None,
              as_json: AsJson = False) -> None:
    """List the notebooks that ship with cohortsync, or copy them to a folder of yours, to open and change."""
    from cohortsync import runs

    if copy:
        console.out.print("\n".join(map(str, runs.copy_notebooks(copy))), markup=False, soft_wrap=True)
        return
    frame = runs.listed_notebooks()
    console.show(frame if as_json else frame.assign(parameters=frame["parameters"].map(", ".join)), as_json)


@app.command(epilog="""Examples: cohortsync run mtu_report; cohortsync run explore_cohort -p cohort=power-users --json;
cohortsync run mine/report.ipynb --parameters""")
def run(ctx: typer.Context,
        notebook: Annotated[str, typer.Argument(help="A notebook's file, or the name of one that ships with "
                                                     "cohortsync; cohortsync notebooks lists them.")],
        parameters: Annotated[list[str] | None, typer.Option(
            "--parameter", "-p", metavar="NAME=VALUE", help="A parameter, of the type that the notebook declares. "
            "Name as many as there are.")] = None,
        declared: Annotated[bool, typer.Option("--parameters", help="List its parameters; run nothing.")] = False,
        as_json: AsJson = False) -> None:
    """Run a notebook into a folder of its own: executed, as an HTML report, and its result."""
    from cohortsync import runs

    workspace = opened(ctx)
    if declared:
        console.show(runs.parameter_table(runs.find_notebook(notebook)), as_json)
        return
    given = _values(parameters or [])
    if workspace.project_id and "project" in runs.declared_parameters(runs.find_notebook(notebook)):
        given = {"project": workspace.project_id, **given}
    with services(workspace), console.progress() as step:
        done = runs.run_notebook(notebook, given, workspace.home, step)
    if as_json:
        console.print_json({"run_id": done.run_id, "notebook": done.name, "executed": str(done.notebook),
                            "report": str(done.report), "result": done.result})
    else:
        console.table(pd.DataFrame({"what": ["report", "executed notebook"],
                                    "where": [str(done.report), str(done.notebook)]}))
        console.note(f"Run {done.run_id} of {done.name}.")


def _values(pairs: list[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (equals and name):
            raise BadInput(f"-p takes NAME=VALUE, not {pair.partition('=')[0]!r}.")
        if name in values:
            raise BadInput(f"-p names {name!r} twice.")
        values[name] = value
    return values
