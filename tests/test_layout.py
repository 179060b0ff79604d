"""The package's rooms: flat, and importing one way."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import cohortsync

PACKAGE = Path(cohortsync.__file__).parent
ARCHITECTURE = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
ROOMS = [room for table in ARCHITECTURE.split("| room | does |")[1:]
         for room in re.findall(r"^\| `(\w+)` \|", table.split("\n\n")[0], re.MULTILINE)]


def imported_rooms(path: Path) -> set[str]:
    """The rooms of the package that a file imports, at any depth of its code."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "cohortsync":
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return found & set(ROOMS)


def test_every_module_is_a_room_of_the_list() -> None:
    assert {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"} <= set(ROOMS)


def test_a_room_imports_only_rooms_before_it() -> None:
    for path in PACKAGE.glob("*.py"):
        if path.stem in ROOMS:
            later = ROOMS[ROOMS.index(path.stem):]
            assert not imported_rooms(path) & set(later), path.name


def test_the_sandbox_knows_nothing_of_the_rest() -> None:
    assert not [path for path in (PACKAGE / "sandbox").rglob("*.py") if imported_rooms(path) - {"sandbox"}]
