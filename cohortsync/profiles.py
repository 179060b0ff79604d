"""Profiles, cohort members and identity mappings: rows of files into the tables of a draft.

A row is an object that names somebody. The temp table ``objects`` holds those of the files at hand, ``json, file_no,
line``; what is none, or is of another kind, goes to quarantine.
"""

from __future__ import annotations

import duckdb
import pyarrow as pa

from cohortsync import cohorts, emails
from cohortsync.errors import BadInput
from cohortsync.intake import Intake
from cohortsync.lines import as_read, good_lines, spell_to_stage, unreadable
from cohortsync.sources import Source
from cohortsync.warehouse import one_file, sql


def load_profiles(intake: Intake, sources: list[tuple[int, Source]], new_only: bool, all_there_are: bool) -> None:
    """Load numbered files of profiles; the table ``new_profiles`` holds what they bring.

    ``new_only``: a profile that is there stays as it is; ``all_there_are``: those that did not come are gone.
    """
    con = intake.con
    _gather(intake, sources)
    con.execute(f"create temp table new_profiles as {sql('profiles_new')}")
    if new_only:
        con.execute("""delete from new_profiles where (project_id, distinct_id) in
                       (select (project_id, distinct_id) from generation.profiles)""")
    cohorts.record_profile_changes(con, intake.load_id, intake.loaded_at)
    con.execute("""delete from generation.profiles where (project_id, distinct_id) in
                   (select (project_id, distinct_id) from new_profiles)""")
    con.execute("insert into generation.profiles from new_profiles")
    if all_there_are:
        con.execute("""delete from generation.profiles where project_id = ? and distinct_id not in
                       (select distinct_id from new_profiles)""", [intake.project_id])
    _check_addresses(intake)


def _check_addresses(intake: Intake) -> None:
    """Judge each address once in its life; the library judges, the warehouse remembers."""
    fresh = [address for (address,) in intake.con.execute("""select distinct address from new_profiles
        where address is not null and address not in (select address from generation.addresses)""").fetchall()]
    if fresh:
        intake.progress("Checking addresses", 0, 1)
        judged = pa.table({"address": fresh, "valid": [emails.is_valid(address) for address in fresh]})
        intake.con.register("judged", judged)
        intake.con.execute("insert into generation.addresses from judged")
        intake.con.unregister("judged")


def drop_profiles_of(intake: Intake, names: list[str]) -> None:
    """Drop the profiles of the cohorts' members for whom none came."""
    intake.con.execute("""delete from generation.profiles where project_id = ? and distinct_id in
            (select distinct_id from generation.cohort_members where project_id = ? and list_contains(?, cohort))
        and distinct_id not in (select distinct_id from new_profiles)""",
                       [intake.project_id, intake.project_id, names])


def load_mappings(intake: Intake, sources: list[tuple[int, Source]]) -> None:
    """Load numbered files of identity mappings in place of all that were there."""
    _gather(intake, sources)
    intake.con.execute("delete from generation.identity_mappings where project_id = ?", [intake.project_id])
    intake.con.execute(f"insert into generation.identity_mappings {sql('mappings_new')}")


def load_cohort(intake: Intake, number: int, source: Source) -> None:
    """Load one numbered file as all the members of its cohort. Raises BadInput when pages of it are missing."""
    cohorts.refuse_defined(intake.con, intake.project_id, source.cohort)
    _empty_objects(intake)
    _gather_objects(intake, number, source)
    if source.shape == "ids":
        intake.con.execute("delete from objects where json_extract_string(json, '$') in ('$distinct_id', "
                           "'distinct_id', 'Distinct ID')")
    _check_pages(intake, number, source)
    _set_aside_strangers(intake, number, source)
    intake.con.execute(f"create or replace temp table members as {sql('members_new')}")
    cohorts.write_members(intake.con, intake.project_id, source.cohort, intake.load_id, intake.loaded_at)


def _check_pages(intake: Intake, number: int, source: Source) -> None:
    """Refuse a cohort of which pages are missing: its first page announces how many members there are."""
    announced = intake.scalar("select max(try_cast(json_extract_string(json, '$.total') as bigint)) from pages "
                              "where json_type(json, '$.results') = 'ARRAY'") or 0
    there = intake.scalar("select count(*) from objects where file_no = ?", [number])
    if there < announced:
        raise BadInput(f"{source.path} holds {there:,} of the {announced:,} members that its first page announces. "
                       "Fetch the other pages too (page=1, 2, … with the session_id) and put all into one file.")


def _gather(intake: Intake, sources: list[tuple[int, Source]]) -> None:
    """The rows of files of profiles or mappings as the table ``objects``."""
    _empty_objects(intake)
    for number, source in sources:
        _gather_objects(intake, number, source)
        _set_aside_strangers(intake, number, source)


def _empty_objects(intake: Intake) -> None:
    intake.con.execute("create or replace temp table objects (json json, file_no integer, line bigint)")


def _gather_objects(intake: Intake, number: int, source: Source) -> None:
    """The table ``objects``: one file's rows, pages opened, added to those of files before it."""
    intake.progress(f"Loading {source.path.name}", 0, 1)
    if source.shape in ("csv", "ids") or not _read_fast(intake, source):
        path = spell_to_stage(intake.draft, number, source, intake.progress)
        intake.note_split(source, path)
        intake.quarantine(source, f"select line, byte_offset, reason from read_parquet({one_file(path)}) "
                                  "where reason is not null")
        _read(intake, good_lines(path))
    intake.con.execute("""insert into objects select unnest(case when json_type(json, '$.results') = 'ARRAY'
        then json_extract(json, '$.results[*]') else [json] end), ?, line from pages order by line""", [number])


def _read_fast(intake: Intake, source: Source) -> bool:
    """The table ``pages`` without a look at each line; False when any is not accounted for."""
    try:
        _read(intake, as_read(intake.con, source))
    except duckdb.Error as error:
        raise unreadable(source, error) from None
    return source.shape != "lines" or source.lines == intake.scalar("select count(json) from pages")


def _read(intake: Intake, lines: str) -> None:
    intake.con.execute(f"create or replace temp table pages as select json, line from {lines}")


def _set_aside_strangers(intake: Intake, number: int, source: Source) -> None:
    """Quarantine what names nobody, and rows of another kind, which name somebody but say nothing about them."""
    where = f"file_no = {number} and stranger(json, '{source.kind}') is not null"
    intake.quarantine(source, f"""select line, null as byte_offset, stranger(json, '{source.kind}') as reason
        from objects where {where}""")
    intake.con.execute(f"delete from objects where {where}")
    intake.record_file(number, source, intake.scalar("select count(*) from objects where file_no = ?", [number]))
