"""A load at work: the draft it writes to, and file by file what was taken, set aside and worth a note."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from cohortsync.drafts import Draft
from cohortsync.errors import BadInput
from cohortsync.lines import CUT_SHORT, NOUN
from cohortsync.sources import Progress, Source
from cohortsync.warehouse import one_file, sql


@dataclass
class LoadReport:
    """What a load did. ``files``: one dict per file (``file, kind, cohort, rows, quarantined, known``).

    ``replaced``: events of days pulled earlier that came anew; ``rekeyed``: events of pulled days that came under
    another id than they were sent with. ``notes``: what the user should know about it, a
    sentence or two each.
    """

    files: list[dict[str, Any]] = field(default_factory=list)
    events_added: int = 0
    duplicates: int = 0
    replaced: int = 0
    rekeyed: int = 0
    unkeyed_in_overlap: int = 0
    days: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def quarantined(self) -> int:
        return sum(file["quarantined"] for file in self.files)

    @property
    def unchanged(self) -> bool:
        return all(file["known"] for file in self.files)

    def add_file(self, source: Source, rows: int = 0, quarantined: int = 0, known: bool = False) -> None:
        self.files.append({"file": str(source.path), "kind": source.kind, "cohort": source.cohort, "rows": rows,
                           "quarantined": quarantined, "known": known})


class Intake:
    """One load's number and moment (naive UTC), its draft and its report. ``pulled_on``: the files that are all of a
    day's events."""

    def __init__(self, draft: Draft, progress: Progress, pulled_on: Mapping[Path, date]) -> None:
        self.draft, self.con, self.progress, self.pulled_on = draft, draft.con, progress, pulled_on
        self.project_id: str = draft.project["project_id"]
        self.report = LoadReport()
        self.quarantined: Counter[Source] = Counter()
        self.loaded_at = datetime.now(UTC).replace(tzinfo=None)
        for macros in ("macros", "records"):
            self.con.execute(sql(macros))
        self.load_id: int = 1 + self.scalar("select coalesce(max(load_id), 0) from generation.loads")

    def begin(self) -> None:
        """Give the load its row, and the statements what they ask for."""
        self.con.execute("insert into generation.loads values (?, ?)", [self.load_id, self.loaded_at])
        self.con.execute("create or replace temp table touched (distinct_id varchar)")
        self.con.execute("set variable project_id = ?", [self.project_id])
        self.con.execute("set variable load_id = ?", [self.load_id])

    def scalar(self, query: str, values: list[Any] | None = None) -> Any:
        return self.con.execute(query, values or []).fetchall()[0][0]

    def record_file(self, number: int, source: Source, rows: int) -> None:
        """Note a file as loaded. Raises BadInput when nothing in it is what it was loaded as."""
        quarantined = self.quarantined[source]
        if quarantined and not rows:
            raise BadInput(f"{source.path} holds no {NOUN[source.kind]}: none of its {source.lines:,} lines "
                           "is one. Nothing was loaded; check that the file is what it should be.")
        self.con.execute("insert into generation.files values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                         [self.load_id, number, self.project_id, source.kind, source.cohort, str(source.path),
                          source.digest, rows, quarantined, self.pulled_on.get(source.path)])
        self.report.add_file(source, rows, quarantined)
        if quarantined:
            self._note_cut_short(source)

    def _note_cut_short(self, source: Source) -> None:
        """Say so when a file holds the line by which Mixpanel owns up to having stopped in the middle."""
        cut = self.scalar("select min(line) from generation.quarantine where load_id = ? and file = ? "
                          "and starts_with(reason, ?)", [self.load_id, str(source.path), CUT_SHORT])
        if cut:
            self.report.notes.append(f"{source.path.name} is not whole: Mixpanel gave up in the middle of it (line "
                                     f"{cut:,} says {CUT_SHORT}). What it holds was loaded; fetch it again.")

    def note_split(self, source: Source, spelt: Path) -> None:
        """Say how many records of a spelt file were put together."""
        split = self.scalar(f"select count(*) from read_parquet({one_file(spelt)}) where parts > 1 and reason is null")
        if split:
            self.report.notes.append(f"{source.path.name} breaks {split:,} of its records over several lines; they "
                                     "were put together, and their place is their first line.")

    def quarantine(self, source: Source, rows: str) -> None:
        """Note the rows of a query ``line, byte_offset, reason`` as lines that were not taken."""
        self.quarantined[source] += self.scalar(
            f"insert into generation.quarantine select {self.load_id}, ?, line, byte_offset, reason from ({rows})",
            [str(source.path)])
