"""`fields` and `exclude_fields`: the part of an answer a caller asked for, by dot paths."""

from __future__ import annotations

from typing import Any

from .problems import Problem

Tree = dict[str, Any]


def select_fields(answer: Any, fields: str, exclude_fields: str) -> Any:
    """The answer cut to `fields`, then without `exclude_fields` (comma lists of dot paths).

    Raises Problem 422 for a path of `fields` that the answer does not have.
    """
    wanted, unwanted = parse_paths(fields), parse_paths(exclude_fields)
    if wrong := [path for path in wanted if not has_path(answer, path)]:
        detail = f"The requested fields are not part of this resource: {', '.join('.'.join(p) for p in wrong)}"
        raise Problem(422, "Requested Fields Invalid", detail)
    kept = keep(answer, build_tree(wanted)) if wanted else answer
    return drop(kept, build_tree(unwanted)) if unwanted else kept


def parse_paths(listed: str) -> list[list[str]]:
    return [path.strip().split(".") for path in listed.split(",") if path.strip()]


def has_path(value: Any, path: list[str]) -> bool:
    """Whether a path leads somewhere; an empty collection cannot tell, so it agrees."""
    if not path or value in ([], {}):
        return True
    if isinstance(value, list):
        return has_path(value[0], path)
    return isinstance(value, dict) and path[0] in value and has_path(value[path[0]], path[1:])


def build_tree(paths: list[list[str]]) -> Tree:
    """Paths as nested dicts; an empty dict means "all of it", so shorter paths win."""
    tree: Tree = {}
    for path in sorted(paths, key=len, reverse=True):
        node = tree
        for name in path[:-1]:
            node = node.setdefault(name, {})
        node[path[-1]] = {}
    return tree


def keep(value: Any, tree: Tree) -> Any:
    if not tree:
        return value
    if isinstance(value, list):
        return [keep(item, tree) for item in value]
    if not isinstance(value, dict):
        return value
    return {name: keep(part, tree[name]) for name, part in value.items() if name in tree}


def drop(value: Any, tree: Tree) -> Any:
    if isinstance(value, list):
        return [drop(item, tree) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: drop(part, tree[name]) if name in tree else part for name, part in value.items() if tree.get(name, True)
    }
