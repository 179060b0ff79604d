"""The lines of a file as a table: fast by DuckDB's own readers, or spelt out one by one where those are not enough."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from cohortsync import emails
from cohortsync.errors import BadInput
from cohortsync.sources import Progress, Source, split
from cohortsync.warehouse import Draft, one_file, quoted

NOUN = {"events": "events", "profiles": "profiles", "mappings": "identity mappings", "cohort": "cohort members"}
BY_LINE = ("lines", "csv", "ids")
MAX_OBJECT = 256 * 1024 * 1024
LONG_LINE = 1024 * 1024
BARE_ID = """to_json(regexp_replace(text, '^[\\s\\p{Z}"]+|[\\s\\p{Z}"]+$', '', 'g'))"""
CUT_SHORT = "terminated early"
BAD_LINE = f"""case when ends_with(text, '{CUT_SHORT}') then '{CUT_SHORT}: the export is not whole'
    when not json_valid(text) then 'not valid JSON'
    when json_type(text) <> 'OBJECT' then 'not a JSON object' end"""


def as_read(source: Source) -> str:
    """A query ``json, line`` by DuckDB's own reader: the objects of a file of lines, an array, a document or Parquet.

    ``json`` is null for a line that is no JSON. Lines are counted as read, blank ones left out.
    """
    if source.shape == "parquet":
        return _parquet_rows(source.path)
    # The reader sets aside twice as much for each thread, so no more than the file needs.
    most = 2 * max(source.longest, LONG_LINE) if source.shape == "lines" else MAX_OBJECT
    file = f"{one_file(source.path)}, compression = '{source.compression}', maximum_object_size = {most}"
    reader = {"lines": f"read_ndjson_objects({file}, ignore_errors = true)",
              "array": f"read_json_objects({file}, format = 'array')",
              "document": f"read_json_objects({file}, format = 'unstructured')"}[source.shape]
    return f"(select json, row_number() over () as line from {reader})"


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


def readable(con: duckdb.DuckDBPyConnection, source: Source) -> bool:
    """Whether DuckDB's own reader gets through the file."""
    try:
        con.execute(f"select count(json) from {as_read(source)}").fetchall()  # an open result keeps the connection busy
    except duckdb.Error:
        return False
    return True


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
            f"from {as_read(source)}")
    try:
        con.execute(f"copy ({rows}) to {quoted(path)} (compression zstd, compression_level 1)")
    except duckdb.Error as error:
        raise BadInput(f"{source.path} cannot be read as {NOUN[source.kind]} ({first_line(error)}).") from None
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
