"""A person erased from everything that the workspace keeps, and never exported again.

What others keep is theirs to erase: Mixpanel and Mailchimp, from where a person can come back into the workspace
(though not into an export), and the files that were loaded from elsewhere.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from cohortsync import backup, config, drafts, emails, events, lease, ledger, load, pull, strike, warehouse, work
from cohortsync.drafts import Draft, drafting
from cohortsync.errors import BadInput
from cohortsync.sources import Progress, silent
from cohortsync.strike import IN_THEIR_PLACE, LONG, Marks
from cohortsync.warehouse import event_paths, event_source, quoted

ID_COLUMNS = {
    "profiles": ["distinct_id"], "profile_changes": ["distinct_id"], "cohort_members": ["distinct_id"],
    "cohort_snapshots": ["distinct_id"], "device_links": ["user_id"], "identity_verbs": ["first_id", "second_id"],
    "rekeys": ["distinct_id", "before_id"], "identity_mappings": ["distinct_id", "resolved_id"]}
EVENT_IDS = ("distinct_id", "before_id", "user_id")
NOTHING = r"[^\s\S]"
ELSEWHERE = {"events", "warehouse", "stage", "sandbox", "backups"}  # treated by themselves, or the other side's


@dataclass
class Erased:
    """What was erased. ``found``: place → how many rows, lines or passages; ``notes``: what is left to others."""

    ids: int
    addresses: int
    found: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """What a script would read; neither ids nor addresses."""
        return {"ids": self.ids, "addresses": self.addresses, "found": dict(self.found), "notes": self.notes}


@dataclass
class Person:
    """All that a person goes by: ``ids`` by project, ``addresses``."""

    ids: dict[str, set[str]]
    addresses: set[str]

    @property
    def keys(self) -> list[str]:
        """What the ledger is asked for when someone is to be exported."""
        ids = [f"{project_id}|{one}" for project_id, ours in self.ids.items() for one in ours]
        return [*ids, *map(emails.member_hash, self.addresses)]

    @property
    def marks(self) -> Marks:
        return Marks(frozenset().union(*self.ids.values()), frozenset(self.addresses))


def forget(home: Path, given: str, project_id: str | None = None, progress: Progress = silent) -> Erased:
    """Erase a person, named by an address or a distinct_id, and keep salted hashes so that nobody exports them again.

    ``project_id``: whose distinct_id it is; None: any project's. Raises BadInput for nothing, ConfigurationError
    where there is no such project.
    """
    if not given.strip():
        raise BadInput("Name a person by an address or a distinct_id.")
    have = [row["project_id"] for row in ledger.projects(home)]
    projects = have if have and project_id is None else [warehouse.required_project(home, project_id)["project_id"]]
    ledger.record_forgotten(home, find(home, given, projects).keys)  # whatever happens now, there is no export any more
    with _at_rest(home, have, progress):
        person = find(home, given, projects)  # a pull may just have brought more of them
        ledger.record_forgotten(home, person.keys)
        erased = Erased(len(person.marks.ids), len(person.addresses))
        for project in projects:
            progress("Erasing from the warehouse", 0, 1)
            _erase_from_warehouse(home, project, person, erased, progress)
        _erase_from_ledger(home, person, erased)
        _erase_leftovers(home, erased)
        for path in _files(home):
            progress(f"Looking through {path.parent.name}", 0, 1)
            if passages := strike.strike(path, person.marks):
                erased.found[path.relative_to(home).parts[0]] += passages
    erased.notes += _left_to_others(home)
    return erased


@contextmanager
def _at_rest(home: Path, projects: list[str], progress: Progress) -> Iterator[None]:
    """Nobody fetches or keeps anything of the person inside: waits for pulls and for a backup that is being made.

    Raises ApiTransient while a sync is at work.
    """
    with ExitStack() as held:
        for project in projects:
            if ledger.connection(home, "mixpanel", project):
                held.enter_context(pull.at_rest(home, project, progress))
        if connection := ledger.connection(home):
            held.enter_context(lease.hold(connection, config.Settings()))
        held.enter_context(backup.at_rest(home))
        yield


# who it is

def find(home: Path, given: str, projects: list[str]) -> Person:
    """A person's ids and addresses: what was given, what shares an id or an address with it, merged ids included."""
    addresses = {emails.normalise(given)} if emails.is_valid(given.strip()) else set()
    person = Person({project: {given.strip(), *addresses} for project in projects}, addresses)
    with warehouse.attached(home) as con:
        size = -1
        while size != (size := len(person.addresses) + sum(map(len, person.ids.values()))):
            for project in projects:
                _widen(con, project, person)
    return person


def _widen(con: duckdb.DuckDBPyConnection, project_id: str, person: Person) -> None:
    """Add what goes with the ids and addresses that are known so far."""
    key = {"project_id": project_id, "ids": list(person.ids[project_id]), "addresses": list(person.addresses)}
    person.ids[project_id] |= {one for (one,) in con.execute("""
        with mine as (select unnest($ids::varchar[]) as id
            union select distinct_id from profiles
                  where project_id = $project_id and list_contains($addresses::varchar[], address)),
        users as (select coalesce(canonical_id, id) as id from mine
            left join (from identities where project_id = $project_id) on distinct_id = id)
        from users union from mine union
        select distinct_id from identities where project_id = $project_id and canonical_id in (from users)""",
                                                             key).fetchall()}
    key["ids"] = list(person.ids[project_id])
    person.addresses |= {emails.normalise(address) for (address,) in con.execute("""
        select address from profiles where project_id = $project_id and list_contains($ids::varchar[], distinct_id)
            and address is not null
        union select unnest([before ->> '$', after ->> '$']) from profile_changes where project_id = $project_id
            and list_contains($ids::varchar[], distinct_id) and property = '$email'""",
        {name: value for name, value in key.items() if name != "addresses"}).fetchall() if address}


# the warehouse

def _erase_from_warehouse(home: Path, project_id: str, person: Person, erased: Erased, progress: Progress) -> None:
    """Publish a generation without the person, with everything that follows from events reckoned anew."""
    if not ledger.generation(home):
        return
    with drafting(home, project_id) as draft:
        _offer_marks(draft.con, project_id, person)
        found = _erase_rows(draft.con, project_id) + _erase_events(draft, project_id, progress)
        erased.found += found
        draft.unchanged = not found
        if found:
            load.reckon(draft, progress)
            drafts.rewrite(draft)


def _offer_marks(con: duckdb.DuckDBPyConnection, project_id: str, person: Person) -> None:
    """The temp tables ``gone_ids`` and ``gone_addresses``, and the macro ``mentions`` and ``silenced`` of a text."""
    con.execute("create temp table gone_ids as select unnest(?::varchar[]) as id", [list(person.ids[project_id])])
    con.execute("create temp table gone_addresses as select unnest(?::varchar[]) as address", [list(person.addresses)])
    pattern = quoted(_pattern(person.addresses, [one for one in person.ids[project_id] if len(one) >= LONG]))
    silenced = f"regexp_replace(%s, {pattern}, '\\1{IN_THEIR_PLACE}\\2', 'g')"
    con.execute(f"create temp macro mentions(text) as regexp_matches(text, {pattern})")
    con.execute(f"create temp macro silenced(text) as {silenced % (silenced % 'text')}")  # neighbours share a delimiter


def _pattern(addresses: Iterable[str], ids: Iterable[str]) -> str:
    """Matches them where they stand by themselves in JSON, as the database's regular expressions spell it."""
    words = [f"(?i:{re.escape(address)})" for address in addresses]
    words += [re.escape(json.dumps(one, ensure_ascii=False)[1:-1]) for one in ids]
    return rf"""(^|[\s"'<>(,;:])(?:{"|".join(words) or NOTHING})($|[\s"'<>),;:])"""


def _erase_rows(con: duckdb.DuckDBPyConnection, project_id: str) -> Counter[str]:
    found: Counter[str] = Counter()
    for table, columns in ID_COLUMNS.items():
        named = " or ".join(f"{column} in (from gone_ids)" for column in columns)
        found[table] = _deleted(con, f"delete from generation.{table} where project_id = ? and ({named})", [project_id])
    found["addresses"] = _deleted(con, "delete from generation.addresses where address in (from gone_addresses)")
    for table, members, key in (("cohorts", "cohort_members", "cohort"),
                                ("cohort_sizes", "cohort_snapshots", "cohort, load_id")):
        con.execute(f"""update generation.{table} t set size = (select count(*) from generation.{members} m
            where m.project_id = t.project_id and {' and '.join(f'm.{k} = t.{k}' for k in key.split(', '))})
            where project_id = ?""", [project_id])
    return +found


def _deleted(con: duckdb.DuckDBPyConnection, statement: str, values: list[Any] | None = None) -> int:
    return int(con.execute(statement, values or []).fetchall()[0][0])


def _erase_events(draft: Draft, project_id: str, progress: Progress) -> Counter[str]:
    """Write the days anew in which the person did something, or is mentioned by somebody else's event."""
    con = draft.con
    theirs = f"({' or '.join(f'coalesce({one} in (from gone_ids), false)' for one in EVENT_IDS)})"
    mine = f"project_id = {quoted(project_id)}"
    rows = event_source(event_paths(draft.home, con, mine))
    con.execute(f"""create temp table concerned_days as
        select day, count(*) filter ({theirs}) as theirs, count(*) filter (not {theirs}) as mentions
        from {rows} where {theirs} or mentions(properties) group by day""")
    counted = con.execute("select coalesce(sum(theirs), 0), coalesce(sum(mentions), 0) from concerned_days").fetchall()
    found = +Counter({"events": int(counted[0][0]), "mentions in other events": int(counted[0][1])})
    if found:
        these = f"{mine} and day in (select day from concerned_days)"
        left = f"""select * replace (silenced(properties) as properties)
            from {event_source(event_paths(draft.home, con, these))} where not {theirs}"""
        written = events.write_days(draft, left, "f", progress, "Writing days anew")
        con.execute(f"delete from generation.event_files where {these}")
        events.add_files(con, project_id, written)
        kept = event_source(written) if written else "generation.no_events"
        con.execute(f"""delete from generation.superseded s where {these}
            and not exists (from {kept} k where (k.load_id, k.file_no, k.line) = (s.load_id, s.file_no, s.line))""")
    return found


# the rest

def _erase_from_ledger(home: Path, person: Person, erased: Erased) -> None:
    """Refusals are kept by Mailchimp's hash, which tells whoever knows the address."""
    hashes = [(emails.member_hash(address),) for address in person.addresses]
    with ledger.state(home) as con:
        con.execute("pragma secure_delete = on")
        before = con.total_changes
        con.executemany("delete from rejects where member_hash = ?", hashes)
        erased.found += +Counter({"remembered refusals": con.total_changes - before})
        con.execute("pragma wal_checkpoint(truncate)")


def _erase_leftovers(home: Path, erased: Erased) -> None:
    """What nothing goes by any more: backups that a migration made inside, and files handed to work that failed."""
    for folder in (home / "backups").glob("*"):
        shutil.rmtree(folder) if folder.is_dir() else folder.unlink()
        erased.found["backups"] += 1
    for failed in work.failed(home):
        failed.clear()
        erased.found["work"] += 1


def _files(home: Path) -> Iterator[Path]:
    """Whatever else lies in the workspace: mirrors, runs, raw files, webhook pages, files handed to the app."""
    for path in sorted(home.rglob("*")):
        inside = path.relative_to(home).parts
        if path.is_file() and len(inside) > 1 and inside[0] not in ELSEWHERE and not path.name.endswith("lock"):
            yield path


def _left_to_others(home: Path) -> list[str]:
    """What the workspace cannot erase, in words."""
    with warehouse.attached(home) as con:
        loaded = [Path(file) for (file,) in con.execute("select distinct file from files where file <> '' order by 1")
                  .fetchall()]
    mine = [str(path) for path in loaded if not path.is_relative_to(home) and path.exists()]
    notes = ["Mixpanel and Mailchimp hold their own. What Mixpanel still sends comes back with the next pull, and is "
             "not exported; have the person deleted there too."]
    if mine:
        notes.append(f"Files of yours that were loaded stay as they are: {', '.join(mine)}.")
    if len(warehouse.generations_on_disk(home)) > 1:
        notes.append("Something, perhaps a notebook, still reads the data as it was before. Close it: what it holds "
                     "goes with the next load.")
    kept = ledger.backups(home)
    notes.append(f"Backups hold the person as they were{': ' if kept else ', if there are any'}"
                 f"{', '.join(map(str, kept))}. Delete them, and copies of them elsewhere. Whoever restores one must "
                 "forget the person again.")
    if (home / "sandbox").exists():
        notes.append("The local Mailchimp and Mixpanel play the other side, and keep what they were given: sandbox/. "
                     "Delete that folder, and a rehearsal begins anew.")
    return notes
