"""What people see of the command line: tables, notes and a progress bar; and JSON for scripts."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from time import monotonic
from typing import Any

import pandas as pd
from rich import markup
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from cohortsync.config import PROGRESS_VARIABLE, write_private

NOTED_EVERY = 0.3

out, err = (Console(stderr=stderr, width=None if sys.stdout.isatty() else 160, emoji=False, highlight=False)
            for stderr in (False, True))


def escape(text: str) -> str:
    """A text from outside as it is: neither markup nor the terminal's own escapes are acted on."""
    return markup.escape("".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text))


def print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, default=str))


def records(frame: pd.DataFrame, columns: list[str] | None = None) -> list[dict[str, Any]]:
    return json.loads(frame[columns or list(frame.columns)].to_json(orient="records", date_format="iso"))


def build_table(frame: pd.DataFrame) -> Table:
    """A table for people: numbers to the right, texts from outside as they are."""
    shown = Table(box=None, header_style="bold", pad_edge=False)
    for name, kind in frame.dtypes.items():
        number = pd.api.types.is_numeric_dtype(kind)
        shown.add_column(str(name).replace("_", " "), justify="right" if number else "left", overflow="fold")
    for row in frame.itertuples(index=False):
        shown.add_row(*(escape(_cell(value)) for value in row))
    return shown


def table(frame: pd.DataFrame) -> None:
    out.print(build_table(frame))
    note_as_of(frame.attrs.get("as_of"))


def note_as_of(published: str | None) -> None:
    """When the data shown was published; nothing where there is none."""
    if published:
        note(f"As of {datetime.fromisoformat(published):%Y-%m-%d %H:%M} UTC.")


def show(frame: pd.DataFrame, as_json: bool, hidden: Sequence[str] = (), shares: Sequence[str] = ()) -> None:
    """A table for people without what they know, shares in per cent; all of it for a script."""
    if as_json:
        print_json(records(frame))
        return
    for column in frame.select_dtypes("datetime"):
        frame[column] = frame[column].dt.strftime("%Y-%m-%d %H:%M:%S UTC")
    for column in shares:
        frame[column] = frame[column].map("{:.1%}".format, na_action="ignore").astype("str")
    table(frame.drop(columns=["project_id", *hidden], errors="ignore"))


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return "" if value is None or value is pd.NA or value != value else str(value)


def note(text: str) -> None:
    err.print(escape(text), soft_wrap=True)


@contextmanager
def progress() -> Iterator[Any]:
    """A bar on stderr while work goes on; where stderr is no terminal, nothing, or a file that says how far it is."""
    file = os.environ.get(PROGRESS_VARIABLE)
    noted = 0.0
    bar = Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=err, transient=True,
                   disable=not err.is_terminal)
    with bar:
        task = bar.add_task("")

        def step(label: str, done: float, total: float) -> None:
            nonlocal noted
            if file and monotonic() - noted > NOTED_EVERY:
                noted = monotonic()
                write_private(Path(file), json.dumps({"step": label, "done": done, "total": total}))
            if escape(label) != bar.tasks[0].description:
                bar.reset(task, description=escape(label))
            bar.update(task, completed=done, total=total if done else None)

        yield step
