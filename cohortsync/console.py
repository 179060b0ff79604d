"""What people see of the command line: tables, notes and a progress bar; and JSON for scripts and for logs."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

import pandas as pd
from rich import markup
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from cohortsync import emails
from cohortsync.config import PROGRESS_VARIABLE, write_private
from cohortsync.errors import CohortsyncError

NOTED_EVERY = 0.3

out, err = (Console(stderr=stderr, width=None if sys.stdout.isatty() else 160, emoji=False, highlight=False)
            for stderr in (False, True))


class Log:
    """Whether stderr is for programs: then each line is a JSON object. It never holds an address."""

    as_json = False
    begun_at = monotonic()

    def write(self, level: str, **fields: Any) -> None:
        """One line of the log: when, how bad, and what; addresses masked."""
        said = {name: emails.scrub(value) if isinstance(value, str) else value for name, value in fields.items()}
        line = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "level": level, **said}
        print(json.dumps(line, ensure_ascii=False), file=sys.stderr, flush=True)


log = Log()


@contextmanager
def logged() -> Iterator[None]:
    """Show what is meant for a person, and end with its exit status; in a log for programs, the end is a line too."""
    status: Any = 1
    try:
        yield
    except CohortsyncError as error:
        status = error.exit_status
        note(f"Error: {error}", "error")
        sys.exit(status)
    except SystemExit as end:
        status = end.code or 0
        raise
    except Exception as crash:
        if not log.as_json:
            raise
        log.write("error", message=f"{type(crash).__name__}: {crash}", traceback=traceback.format_exc())
        sys.exit(status)
    finally:
        if log.as_json:
            log.write("info", message="End", status=status, seconds=round(monotonic() - log.begun_at, 3))


def escape(text: str) -> str:
    """A text from outside as it is: neither markup nor the terminal's own escapes are acted on."""
    return markup.escape("".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text))


def print_json(value: Any) -> None:
    """A value on stdout, for a script."""
    print(json.dumps(value, ensure_ascii=False, default=str))


def records(frame: pd.DataFrame, columns: list[str] | None = None) -> list[dict[str, Any]]:
    """A table's rows as JSON would have them."""
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
    """A table on stdout, and on stderr as of when it is."""
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


def note(text: str, level: str = "info") -> None:
    """A line on stderr, for people; with ``--log-json`` a line of the log."""
    if log.as_json:
        log.write(level, message=text)
    else:
        err.print(escape(text), soft_wrap=True)


@contextmanager
def progress() -> Iterator[Any]:
    """A bar on stderr while work goes on, or a line of the log a step; where stderr is no terminal, nothing.

    A file that says how far it is, where one is named.
    """
    file = os.environ.get(PROGRESS_VARIABLE)
    noted = 0.0
    bar = Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=err, transient=True,
                   disable=log.as_json or not err.is_terminal)
    with bar:
        task = bar.add_task("", visible=False)

        def step(label: str, done: float, total: float) -> None:
            nonlocal noted
            if file and monotonic() - noted > NOTED_EVERY:
                noted = monotonic()
                write_private(Path(file), json.dumps({"step": label, "done": done, "total": total}))
            if escape(label) != bar.tasks[0].description:
                if log.as_json:
                    log.write("info", step=label)
                bar.reset(task, description=escape(label), visible=True)
            bar.update(task, completed=done, total=total if done else None)

        yield step
