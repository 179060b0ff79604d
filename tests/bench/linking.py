"""Identity measured: the links of devices against a bare group by, original ID merge against plain Python."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import duckdb
from bench.data import statement
from bench.fresh import in_turns

STAGED = """select project_id, event, time_s, distinct_id, before_id, insert_id, user_id, device_id, ingest_ms,
    null::varchar as identity_failure from events"""
IN_ORDER = """select verb, first_id, second_id from generation.identity_verbs
    order by ingest_ms, time_s, insert_id, verb, first_id, second_id"""
PROJECT = {"project_id": "local", "timezone": "UTC", "id_merge": "original", "event_times": "utc"}


@contextmanager
def _generation(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """An empty generation in a file of its own."""
    from cohortsync import warehouse

    con = warehouse.engine()
    try:
        con.execute(f"attach '{path}' as generation")
        warehouse.create_schema(con)
        con.execute(warehouse.sql("macros") + warehouse.sql("records"))
        yield con
    finally:
        con.close()


def links(home: Path, folder: Path, repeats: int) -> dict[str, list[float]]:
    """Seconds of ``device_links``, with what it reads, and of a bare count by device, over the same rows, by turns."""
    import cohortsync as cs
    from cohortsync import warehouse

    rows = folder / "staged.parquet"
    with cs.open(home).connect() as con:
        con.execute(f"copy ({STAGED}) to '{rows}' (compression zstd, compression_level 1)")
    answer = "create or replace temp table answer as"
    ways = {"cohortsync": f"create or replace temp table rewritten as {warehouse.sql('rewritten')}; "
                          f"{answer} {warehouse.sql('device_links')}",
            "group by": f"{answer} select device_id, count(*) from staged group by device_id"}
    with _generation(folder / "links.duckdb") as con:
        con.execute(f"create temp view staged as from read_parquet('{rows}')")
        return in_turns({name: partial(con.execute, text) for name, text in ways.items()}, repeats)


def original(folder: Path, verbs: int) -> dict[str, Any]:
    """Seconds of original ID merge over so many verbs, and of plain Python; raises when their answers differ.

    The rival starts with the verbs in a list, in order, and ends with a dict; the time of reading them is not its.
    """
    from cohortsync import identity

    with _generation(folder / "original.duckdb") as con:
        con.execute(f"set variable verbs = {verbs}::bigint")
        con.execute(f"insert into generation.identity_verbs by name {statement('verbs')}")
        con.execute("checkpoint generation")
        start = perf_counter()
        identity.derive_identities(con, PROJECT)
        ours = perf_counter() - start
        in_order = con.execute(IN_ORDER).fetchall()
        start = perf_counter()
        canonical, refused = _plain(in_order)
        plain = perf_counter() - start
        _assert_same(con, canonical)
    return {"cohortsync": ours, "python": plain, "refused": refused, "merged": len(canonical)}


def _plain(verbs: list[tuple[str, str, str]]) -> tuple[dict[str, str], int]:
    """The same rules, verb by verb: id → canonical id, and how many verbs were refused."""
    from cohortsync.identity import Clusters, label

    clusters = Clusters()
    refused = sum(clusters.apply(*verb) is not None for verb in verbs)
    canonical: dict[str, str] = {}
    for ids in clusters.members.values():
        name = label(ids, {}, set(), clusters.identified)
        canonical.update((i, name) for i in ids if i != name)
    return canonical, refused


def _assert_same(con: duckdb.DuckDBPyConnection, canonical: dict[str, str]) -> None:
    import pyarrow as pa

    con.register("plain", pa.table({"distinct_id": list(canonical), "canonical_id": list(canonical.values())}))
    found = "select distinct_id, canonical_id from generation.identities"
    differences = f"(from plain except ({found})) union all (({found}) except from plain)"
    assert con.execute(f"select count(*) from ({differences})").fetchall() == [(0,)], "The answers differ."
