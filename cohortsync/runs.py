"""Notebooks run by papermill: parameters checked first, executed into a file of their own, results read back.

papermill itself takes an unknown parameter with a warning and a wrong type as it comes, and the
interpreter it starts is whichever the machine calls python3; all three are settled here. No file of an executed
notebook holds an address, at any moment: outputs are masked before a cell is first saved.
Source: https://papermill.readthedocs.io/en/latest/usage-execute.html
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from cohortsync import config, emails, errors, ledger, report
from cohortsync.errors import BadInput, NotebookError
from cohortsync.sources import Progress, silent

if TYPE_CHECKING:  # papermill and its kin take half a second to import
    from nbformat import NotebookNode

RESULT = "application/vnd.cohortsync.result+json"
TYPES: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float), "bool": (bool,)}
BOOLEANS = {"true": True, "false": False}
SECRET_NAME = re.compile(r"(?i)secret|passw|token|credential|api_?key")
TAKES = {"str": "text", "int": "a whole number", "float": "a number", "bool": "true or false"}


@dataclass(frozen=True)
class NotebookRun:
    """One notebook executed into a folder of its own.

    ``folder`` holds ``notebook`` (executed, addresses masked) and ``report`` (HTML); ``result`` is what the notebook
    handed back by its output of type ``RESULT``, None when it did not.
    """

    run_id: str
    name: str
    folder: Path
    notebook: Path
    report: Path
    result: dict[str, Any] | None


def run_notebook(name_or_path: str | Path, parameters: Mapping[str, Any], home: Path,
                 progress: Progress = silent, run_id: str = "") -> NotebookRun:
    """Run a notebook on the workspace ``home`` into ``runs/<run_id>/`` there, and make its HTML report.

    Raises as ``execute_notebook`` does; a notebook that stopped half-way leaves its notebook and its report too.
    """
    import nbformat

    source, run_id = find_notebook(name_or_path), run_id or ledger.new_run_id()
    check_parameters(source, parameters, home)
    folder = config.private_folder(home / "runs" / run_id)
    executed, page = folder / source.name, folder / f"{source.stem}.html"
    try:
        found = result(execute_notebook(source, executed, parameters, home, progress))
    finally:
        node = nbformat.read(executed, as_version=4)
        config.write_private(page, report.build_page(node, f"{source.name} · run {run_id}"))
    if found is not None:
        config.write_private(folder / "result.json", json.dumps(found, indent=2))
    return NotebookRun(run_id, source.stem, folder, executed, page, found)


def bundled_notebooks() -> list[Path]:
    """The notebooks that ship with cohortsync, in their order."""
    return sorted(config.bundled("notebooks").glob("*.ipynb"))


def listed_notebooks() -> pd.DataFrame:
    """One row per notebook that ships with cohortsync: ``notebook, title, parameters`` (their names)."""
    rows = [(path.stem, report.title(_read(path)), list(declared_parameters(path))) for path in bundled_notebooks()]
    return pd.DataFrame(rows, columns=["notebook", "title", "parameters"])


def find_notebook(name_or_path: str | Path) -> Path:
    """A notebook by path, or a bundled one by name (``03_mtu_report``, ``mtu_report``). Raises BadInput."""
    for path in bundled_notebooks():
        if str(name_or_path) in (path.name, path.stem, path.stem.partition("_")[2]):
            return path
    path = Path(name_or_path).expanduser()
    if path.suffix == ".ipynb" and path.is_file():
        return path
    raise BadInput(f"There is no notebook {str(name_or_path)!r}. Name a file ending in .ipynb, or one of "
                   f"{', '.join(path.stem for path in bundled_notebooks())}.")


def copy_notebooks(destination: Path) -> list[Path]:
    """Copy the bundled notebooks into a folder to work on; refuses (BadInput) to overwrite any file."""
    copies = [destination / path.name for path in bundled_notebooks()]
    if there := [str(path) for path in copies if path.exists()]:
        raise BadInput(f"{', '.join(there)} would be overwritten. Choose an empty folder.")
    destination.mkdir(parents=True, exist_ok=True)
    return [Path(shutil.copyfile(source, copy)) for source, copy in zip(bundled_notebooks(), copies, strict=True)]


def execute_notebook(name_or_path: str | Path, output: Path, parameters: Mapping[str, Any], home: Path,
                     progress: Progress = silent) -> NotebookNode:
    """Run a notebook on the workspace ``home`` and write it, executed, to ``output`` (readable by its owner only).

    ``parameters``: name → value, or the value's text as a command line gives it. Raises BadInput before
    anything starts when one is unknown, not of its declared type, a secret or an address; NotebookError when a cell
    fails; what was executed until then stays in ``output``, addresses masked.
    """
    source = find_notebook(name_or_path)
    given = check_parameters(source, parameters, home)
    if "home" in declared_parameters(source):
        given = {"home": str(home), **given}
    _prepare(source, output)
    with tempfile.TemporaryDirectory(prefix="cohortsync-") as folder:
        return _execute(source, output, given, kernel_manager_class=_kernel_class(Path(folder), home),
                        on_cell_executed=_after_cell(source, progress), autosave_cell_every=0)


def declared_parameters(notebook: Path) -> dict[str, dict[str, Any]]:
    """Name → ``{"name", "inferred_type_name", "default", "help"}`` as the notebook's parameters cell says."""
    import papermill

    node = _read(notebook)
    node.metadata["kernelspec"] = {"name": "python3", "language": "python"}  # it asks which, and ours runs anyway
    return papermill.inspect_notebook(node)


def parameter_table(notebook: Path) -> pd.DataFrame:
    """One row per parameter of a notebook: ``parameter, takes, default, help``."""
    rows = [(row["name"], TAKES.get(row["inferred_type_name"], "anything"), row["default"], row["help"])
            for row in declared_parameters(notebook).values()]
    return pd.DataFrame(rows, columns=["parameter", "takes", "default", "help"])


def check_parameters(notebook: Path, parameters: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """The parameters, each of the type the notebook declares; raises BadInput with the value and the choices."""
    declared = declared_parameters(notebook)
    for name, value in parameters.items():
        if name not in declared:
            raise BadInput(f"{notebook.name} has no parameter {emails.scrub(name)!r}. It has: "
                           f"{', '.join(declared) or 'none'}.")
        _refuse_unsafe(name, str(value), home)
    return {name: _typed(name, value, declared[name]["inferred_type_name"]) for name, value in parameters.items()}


def result(notebook: NotebookNode) -> dict[str, Any] | None:
    """What an executed notebook handed back, by its last output of type ``RESULT``; None when it did not."""
    for cell in reversed(notebook.cells):
        for output in reversed(cell.get("outputs", [])):
            if found := output.get("data", {}).get(RESULT):
                return dict(found)
    return None


def _refuse_unsafe(name: str, text: str, home: Path) -> None:
    """A parameter stands in the executed notebook, twice, for whoever opens it."""
    if SECRET_NAME.search(name) or config.is_secret(home, text):
        raise BadInput(f"The parameter {name} holds a secret, which would stay readable in the executed notebook. Keep "
                       "it with: cohortsync connect")
    if emails.ADDRESS.search(text):
        raise BadInput(f"The parameter {name} holds the address {emails.scrub(text)}, which would stay readable in the "
                       "executed notebook. Name the person by distinct_id.")


def _read(notebook: Path) -> NotebookNode:
    import nbformat

    try:
        return nbformat.read(notebook, as_version=4)
    except (ValueError, AttributeError):
        raise BadInput(f"{notebook} is not a notebook.") from None


def _typed(name: str, value: Any, kind: str) -> Any:
    if kind not in TYPES:
        return value
    typed = _parsed(value, kind) if isinstance(value, str) else value
    if not isinstance(typed, TYPES[kind]) or isinstance(typed, bool) != (kind == "bool"):
        raise BadInput(f"The parameter {name} cannot be {emails.scrub(repr(value))}; it takes {TAKES[kind]}.")
    return typed


def _parsed(text: str, kind: str) -> Any:
    """Text read as the declared type; None when it is none."""
    parsers: dict[str, Callable[[str], Any]] = {"str": str, "int": int, "float": float, "bool": BOOLEANS.get}
    try:
        return parsers[kind](text)
    except ValueError:
        return None


def _literal(path: Path) -> str:
    """A path as papermill takes it, which fills parameters into braces."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _prepare(source: Path, output: Path) -> None:
    """An output file only its owner can read, and never the source or a bundled notebook."""
    if output.resolve() in [path.resolve() for path in [source, *bundled_notebooks()]]:
        raise BadInput(f"{output} is a source notebook and stays without outputs. Name another output file.")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.touch(mode=0o600)
    output.chmod(0o600)


def _execute(source: Path, output: Path, parameters: dict[str, Any], **options: Any) -> NotebookNode:
    import papermill
    from nbclient.exceptions import DeadKernelError

    try:
        return papermill.execute_notebook(_literal(source), _literal(output), parameters, kernel_name="python3",
                                          language="python", progress_bar=False, **options)
    except papermill.PapermillExecutionError as error:
        raise NotebookError(
            f"{source.name} stopped in cell [{error.exec_count}]: {_said(error)}\nExecuted until there: {output}",
            getattr(getattr(errors, error.ename, None), "exit_status", 1)) from None
    except DeadKernelError:
        raise NotebookError(f"{source.name} stopped: its Python process died, perhaps for want of memory. "
                            f"Executed until there: {output}") from None


def _said(error: Any) -> str:
    """The failing cell's message, addresses masked; what is not ours is named by its type."""
    message = emails.scrub(error.evalue.strip())
    return message if hasattr(errors, error.ename) else f"{error.ename}: {message}"


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return emails.scrub(value)
    if isinstance(value, list):
        return [_masked(item) for item in value]
    if isinstance(value, dict):
        return {emails.scrub(key): _masked(item) for key, item in value.items()}
    return value


def _after_cell(source: Path, progress: Progress) -> Callable[..., None]:
    """What is done when a cell was executed and not yet saved: its outputs masked, and told how far the run is."""
    import nbformat

    cells = len(_read(source).cells)

    def executed(cell: NotebookNode, cell_index: int, **_reply: Any) -> None:
        cell.outputs = nbformat.from_dict(_masked(cell.outputs))
        done = min(cell_index + 1, cells)
        progress(f"{source.stem}: cell {done} of {cells}", done, cells)

    return executed


def _kernel_class(folder: Path, home: Path) -> type:
    """A kernel of this very Python, over sockets in a private folder, on the workspace ``home``.

    IPython's own folder is a fresh one: neither start-up files nor a missing home folder change a run.
    """
    from jupyter_client.manager import AsyncKernelManager

    class Kernel(AsyncKernelManager):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options, transport="ipc", connection_file=str(folder / "kernel.json"))

        def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
            return [sys.executable, "-m", "ipykernel_launcher", "-f", self.connection_file, "--log-level=CRITICAL",
                    *(extra_arguments or [])]

        async def start_kernel(self, **options: Any) -> None:  # type: ignore[override]
            environment = {**os.environ, "COHORTSYNC_HOME": str(home), "IPYTHONDIR": str(folder),
                           "PLOTLY_RENDERER": "plotly_mimetype"}
            await self._async_start_kernel(**{**options, "env": environment})

    return Kernel
