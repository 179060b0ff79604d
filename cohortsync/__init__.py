"""cohortsync: Mixpanel cohorts to Mailchimp audiences, with a plan before and a proof after.

    import cohortsync as cs
    ws = cs.open()
    ws.cohorts()
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cohortsync.errors import CohortsyncError

if TYPE_CHECKING:
    from cohortsync import charts
    from cohortsync.workspace import Workspace

__version__ = "0.1.0"
__all__ = ["CohortsyncError", "Workspace", "charts", "open"]


def open(home: Path | str | None = None, project: str | None = None) -> Workspace:
    """The workspace in ``home`` (default: ``COHORTSYNC_HOME``, else your data folder), made if need be.

    ``project``: the id of one of its projects (default: ``COHORTSYNC_PROJECT``, else the only one).
    """
    return __getattr__("Workspace").at(home, project)


def __getattr__(name: str) -> Any:
    """Imported when first asked for: pandas and plotly cost a second that the local services need not wait."""
    if name == "Workspace":
        return import_module("cohortsync.workspace").Workspace
    if name == "charts":
        return import_module("cohortsync.charts")
    raise AttributeError(f"module 'cohortsync' has no attribute {name!r}")
