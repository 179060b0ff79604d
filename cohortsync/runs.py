"""Notebooks run by papermill: parameters checked first, executed into a file of their own, results read back.

papermill itself takes an unknown parameter with a warning and a wrong type as it comes, and the
interpreter it starts is whichever the machine calls python3; all three are settled here.
Source: https://papermill.readthedocs.io/en/latest/usage-execute.html
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cohortsync import config, emails, errors
from cohortsync.errors import BadInput, NotebookError
from cohortsync.sources import Progress, silent

if TYPE_CHECKING:  # papermill and its kin take half a second to import
    from nbformat import NotebookNode

RESULT = "application/vnd.cohortsync.result+json"
TYPES: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float), "bool": (bool,)}
BOOLEANS = {"true": True, "false": False}
TAKES = {"str": "text", "int": "a whole number", "float": "a number", "bool": "true or false"}


def bundled_notebooks() -> list[Path]:
    """The notebooks that ship with cohortsync, in their order."""
    return sorted(config.bundled("notebooks").glob("*.ipynb"))


def find_notebook(name_or_path: str | Path) -> Path:
    """A notebook by path, or a bundled one by name (``02_mtu_report``, ``mtu_report``). Raises BadInput."""
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
    anything starts when one is unknown or not of its declared type, NotebookError when a cell fails; what was
    executed until then stays in ``output``, addresses masked.
    """
    source = find_notebook(name_or_path)
    given = check_parameters(source, parameters)
    if "home" in declared_parameters(source):
        given = {"home": str(home), **given}
    _prepare(source, output)
    with tempfile.TemporaryDirectory(prefix="cohortsync-") as folder:
        return _execute(source, output, given, kernel_manager_class=_kernel_class(Path(folder), home),
                        on_cell_executed=_cell_progress(source, progress))


def declared_parameters(notebook: Path) -> dict[str, dict[str, Any]]:
    """Name → ``{"name", "inferred_type_name", "default", "help"}`` as the notebook's parameters cell says."""
    import papermill

    node = _read(notebook)
    node.metadata["kernelspec"] = {"name": "python3", "language": "python"}  # it asks which, and ours runs anyway
    return papermill.inspect_notebook(node)


def check_parameters(notebook: Path, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters, each of the type the notebook declares; raises BadInput with the value and the choices."""
    declared = declared_parameters(notebook)
    for name in parameters:
        if name not in declared:
            raise BadInput(f"{notebook.name} has no parameter {name!r}. It has: {', '.join(declared) or 'none'}.")
    return {name: _typed(name, value, declared[name]["inferred_type_name"]) for name, value in parameters.items()}


def result(notebook: NotebookNode) -> dict[str, Any] | None:
    """What an executed notebook handed back, by its last output of type ``RESULT``; None when it did not."""
    for cell in reversed(notebook.cells):
        for output in reversed(cell.get("outputs", [])):
            if found := output.get("data", {}).get(RESULT):
                return dict(found)
    return None


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
        _mask_outputs(output)
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


def _mask_outputs(notebook: Path) -> None:
    """Mask every address in what a failed notebook shows: a traceback prints whatever it met."""
    import nbformat

    node = _read(notebook)
    for cell in node.cells:
        if "outputs" in cell:
            cell.outputs = nbformat.from_dict(_masked(cell.outputs))
    config.write_private(notebook, nbformat.writes(node))


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return emails.scrub(value)
    if isinstance(value, list):
        return [_masked(item) for item in value]
    return {key: _masked(item) for key, item in value.items()} if isinstance(value, dict) else value


def _cell_progress(source: Path, progress: Progress) -> Callable[..., None]:
    cells = len(_read(source).cells)

    def executed(cell: NotebookNode, cell_index: int, **_reply: Any) -> None:
        progress(f"Running {source.stem}", min(cell_index + 1, cells), cells)

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
