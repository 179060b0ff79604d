"""Each measurement in a process of its own: no warm caches, no memory left over from the one before."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from time import perf_counter
from typing import Any

import psutil


@dataclass(frozen=True)
class Measured:
    """What a function answered, and the most memory its process ever held."""

    answer: Any
    peak_bytes: int


def measured(function: Callable[..., Any], *arguments: Any) -> Measured:
    """Call a function of a module in a fresh process, after what others wrote is on the disk."""
    os.sync()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_quiet) as pool:
        return pool.submit(_call, function, *arguments).result()


def _quiet() -> None:
    """A main module without a file makes DuckDB think it is in a console, where it draws its progress."""
    sys.modules["__main__"].__file__ = __file__


def _call(function: Callable[..., Any], *arguments: Any) -> Measured:
    answer = function(*arguments)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Measured(answer, peak if sys.platform == "darwin" else peak * 1024)


def in_turns(ways: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each way, called so often, one after the other and then the other way round."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats):
        for name, way in list(ways.items())[:: -1 if turn % 2 else 1]:
            start = perf_counter()
            way()
            taken[name].append(perf_counter() - start)
    return taken


def machine() -> str:
    """What the figures depend on: cores, memory, versions."""
    from importlib.metadata import version

    python = ".".join(map(str, sys.version_info[:3]))
    packages = ", ".join(f"{name} {version(name)}" for name in ("duckdb", "pandas", "polars"))
    memory = psutil.virtual_memory().total / 2**30
    return f"{os.cpu_count()} cores, {memory:.0f} GiB of memory, Python {python}, {packages}"
