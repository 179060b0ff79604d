"""The lines of a file as a table: fast by DuckDB's own readers, or spelt out one by one where those are not enough."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from cohortsync import emails
from cohortsync.drafts import Draft
from cohortsync.errors import BadInput
from cohortsync.sources import Progress, Source, Tell, split, stream, unheard
from cohortsync.warehouse import one_file, quoted

NOUN = {"events": "events", "profiles": "profiles", "mappings": "identity mappings", "cohort": "cohort members"}
BY_LINE = ("lines", "csv", "ids")
MAX_OBJECT = 256 * 1024 * 1024
BARE_ID = """to_json(regexp_replace(text, '^[\\s\\p{Z}"]+|[\\s\\p{Z}"]+$', '', 'g'))"""
CUT_SHORT = "terminated early"
BAD_LINE = f"""case when ends_with(text, '{CUT_SHORT}') then '{CUT_SHORT}: the export is not whole'
    when not json_valid(text) then 'not valid JSON'
    when json_type(text) <> 'OBJECT' then 'not a JSON object' end"""


def one_name(source: Source) -> str:
    """The name of the table by which DuckDB reads a file's lines."""
    return f"{source.kind}_{hashlib.sha256(os.fsencode(source.path)).hexdigest()[:16]}"


def as_read(con: duckdb.DuckDBPyConnection, source: Source, tell: Tell = unheard) -> str:
    """A query ``json, line``, to be run once: the objects of a file of lines, an array, a document or Parquet.

    ``json`` is null for a line that is no JSON. What is not in lines is counted as read.
    """
    if source.shape == "lines":
        con.register(one_name(source), stream(source, tell))
        return f"(select try_cast(text as json) as json, line from {one_name(source)})"
    if source.shape == "parquet":
        return _parquet_rows(source.path)
    form = {"array": "array", "document": "unstructured"}[source.shape]
    return f"""(select json, row_number() over () as line from read_json_objects({one_file(source.path)},
        format = '{form}', compression = '{source.compression}', maximum_object_size = {MAX_OBJECT}))"""


def _parquet_rows(path: Path) -> str:
    """Each row as an object. Columns go by their place: DuckDB renames those that differ only in case."""
    schema = pq.read_schema(path)
    columns = ", ".join(f"c{n}" for n in range(len(schema)))
    values = _object([(field.name, f"c{n}", field.type) for n, field in enumerate(schema)])
    return (f"(select {values} as json, row_number() over () as line "
            f"from read_parquet({one_file(path)}, binary_as_string = true) as t({columns}))")


def _object(values: list[tuple[str, str, pa.DataType]]) -> str:
    return f"json_object({', '.join(f'{quoted(name)}, {_value(value, kind)}' for name, value, kind in values)})"


def _value(value: str, kind: pa.DataType) -> str:
    """A value as JSON; of a struct only the fields that are set, since other rows have other properties."""
    if not pa.types.is_struct(kind):
        return value
    fields = [(kind.field(n).name, f"struct_extract_at({value}, {n + 1})", kind.field(n).type)
              for n in range(kind.num_fields)]
    return f"case when {value} is not null then json_merge_patch('{{}}', {_object(fields)}) end"


def unreadable(source: Source, error: duckdb.Error) -> BadInput:
    return BadInput(f"{source.path} cannot be read as {NOUN[source.kind]} ({first_line(error)}).")


def refuse_unreadable(con: duckdb.DuckDBPyConnection, source: Source) -> None:
    """Raise BadInput for a Parquet file that DuckDB does not get through; lines are read whatever they hold."""
    if source.shape == "parquet":
        try:
            con.execute(f"select count(json) from {as_read(con, source)}").fetchall()
        except duckdb.Error as error:
            raise unreadable(source, error) from None


def spell_to_stage(draft: Draft, number: int, source: Source, watch: Progress) -> Path:
    """Spell out a numbered file of a load; answers where."""
    watch(f"Reading {source.path.name} line by line", 0, 1)
    path = draft.stage / f"{source.kind}-{number:06d}.parquet"
    spell_out(draft.con, source, path)
    return path


def spell_out(con: duckdb.DuckDBPyConnection, source: Source, path: Path) -> None:
    """Write each line of a file to Parquet: ``line, byte_offset, json, reason, parts``.

    ``reason``: why it is none, else null; ``parts``: of how many lines it was put together. Raises BadInput for an
    array or document that is none.
    """
    rows = (_split_lines(con, source) if source.shape in BY_LINE else
            "select line, null::bigint as byte_offset, json, null::varchar as reason, 1 as parts "
            f"from {as_read(con, source)}")
    try:
        con.execute(f"copy ({rows}) to {quoted(path)} (compression zstd, compression_level 1)")
    except duckdb.Error as error:
        raise unreadable(source, error) from None
    finally:
        con.unregister("split_lines")


def good_lines(path: Path) -> str:
    """A query ``json, line`` of the lines of a spelt file that hold a JSON object (of a list of ids: an id)."""
    return f"(select json::json as json, line from read_parquet({one_file(path)}) where reason is null)"


def _split_lines(con: duckdb.DuckDBPyConnection, source: Source) -> str:
    con.register("split_lines", split(source))
    value, bad = (BARE_ID, "null") if source.shape == "ids" else ("text", BAD_LINE)
    return f"""select line, byte_offset, case when coalesce(reason, {bad}) is null then {value} end as json,
        coalesce(reason, {bad}) as reason, parts from split_lines"""


def first_line(error: Exception) -> str:
    """The first line of DuckDB's complaint, fit to be shown."""
    return emails.scrub(str(error).splitlines()[0])[:200]
