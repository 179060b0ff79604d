"""Every error cohortsync raises on purpose, split by who can act on it.

    CohortsyncError            exit status
    ├── BadInput               2   a file, an option or a question cannot be used as it is
    ├── ConfigurationError     2   a setting, key or connection is missing or wrong
    ├── StoreError             3   the workspace is missing, locked or damaged
    ├── UnsafePlan             4   a guard refused to change the audience
    ├── ApiTransient           5   the other side may answer later; nothing to mend here
    ├── ApiFinal               6   the other side said no; someone must change something there
    └── NotebookError          …   a notebook stopped; the status of what stopped it, else 1

A message says what happened, with the value, and then what to do next. It never holds a key
or a whole e-mail address. Front ends show the message of these and let anything else crash.
"""

from __future__ import annotations

from collections.abc import Mapping


class CohortsyncError(Exception):
    """Base of the tree; catching it catches everything meant for a person."""

    exit_status = 1

    def _render_traceback_(self) -> list[str]:
        """What Jupyter shows in place of a traceback: the message is all there is to know."""
        return [f"{type(self).__name__}: {self}"]


class BadInput(CohortsyncError):
    exit_status = 2


class ConfigurationError(CohortsyncError):
    exit_status = 2


class StoreError(CohortsyncError):
    exit_status = 3


class UnsafePlan(CohortsyncError):
    """Carries which ``guard`` refused, the ``numbers`` it looked at, and the ``run_id`` of the plan that was kept."""

    exit_status = 4

    def __init__(self, message: str, *, guard: str = "", numbers: Mapping[str, float] | None = None,
                 run_id: str = "") -> None:
        super().__init__(message)
        self.guard, self.numbers, self.run_id = guard, dict(numbers or {}), run_id


class ApiTransient(CohortsyncError):
    exit_status = 5


class ApiFinal(CohortsyncError):
    """Carries the answer's ``status`` (HTTP), ``title`` and ``detail`` for the caller to branch on."""

    exit_status = 6

    def __init__(self, message: str, *, status: int = 0, title: str = "", detail: str = "") -> None:
        super().__init__(message)
        self.status, self.title, self.detail = status, title, detail


class NotebookError(CohortsyncError):
    """What the notebook had shown until it stopped is in its output file."""

    def __init__(self, message: str, exit_status: int = 1) -> None:
        super().__init__(message)
        self.exit_status = exit_status
