"""Reading a workspace: one generation of it, held so that all answers agree with each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import duckdb
import pandas as pd

from cohortsync import drafts, mtu, warehouse
from cohortsync.errors import BadInput
from cohortsync.warehouse import Generation

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Reader:
    """Reads the generation that it read first, whatever others load meanwhile, until ``refresh``.

    Tables that it answers say in ``attrs["as_of"]`` when what they were read from was published (ISO, UTC).
    """

    home: Path
    project_id: str | None = None
    _place: dict[str, Generation] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy in another process reads the newest generation: what is held cannot be handed over."""
        return type(self), (self.home, self.project_id)

    @property
    def as_of(self) -> datetime | None:
        """When the generation that is read was published (UTC); None before anything is loaded."""
        return self._generation.as_of

    @property
    def outdated(self) -> bool:
        """Whether newer data waits for ``refresh``."""
        return not self._generation.is_newest

    def refresh(self) -> datetime | None:
        """Move to the newest generation; answers its ``as_of``."""
        self._place.clear()
        return self.as_of

    @property
    def project(self) -> dict[str, Any] | None:
        """``project_id, timezone, id_merge, event_times``; None before ``init``."""
        return self._project if self._generation.projects else None

    @contextmanager
    def connect(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A DuckDB connection in which the workspace is tables: ``events, profiles, cohort_members, …``.

        It stays on the generation that it was opened on, also when the workspace moves.
        """
        with warehouse.opened(self.home, self._generation) as con:
            yield con

    def sql(self, query: str) -> pd.DataFrame:
        """The answer to one SELECT over the workspace's tables; no file but the workspace's can be read."""
        question = warehouse.select_only(query)
        with self.connect() as con:
            return self._dated(_answer(con, self.home, question))

    @property
    def _generation(self) -> Generation:
        """The generation this workspace stays on, once there is one; several threads get the same."""
        held = self._place.get("generation") or warehouse.hold(self.home)
        return self._place.setdefault("generation", held) if held.number else held

    @property
    def _project(self) -> dict[str, Any]:
        return warehouse.required_project(self.home, self.project_id, self._generation.projects)

    @property
    def _id(self) -> str:
        return str(self._project["project_id"])

    def _reading(self) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        return warehouse.reading(self.home, self._generation)

    def _ask(self, question: Callable[Concatenate[duckdb.DuckDBPyConnection, P], T],
             *args: P.args, **options: P.kwargs) -> T:
        """A question's answer from all that the workspace holds, dated."""
        with self._reading() as con:
            return self._dated(question(con, *args, **options))

    def _ask_tables(self, question: Callable[Concatenate[duckdb.DuckDBPyConnection, P], T],
                    *args: P.args, **options: P.kwargs) -> T:
        """As ``_ask``, for a question that needs no events: answered at once."""
        with warehouse.attached(self.home, self._generation) as con:
            return self._dated(question(con, *args, **options))

    def _change(self, deed: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
        """Do what publishes a generation; then that one is read, and the one before let go of."""
        done = deed(*args, **options)
        if self._place:
            self._place.clear()
            drafts.sweep(self.home)
        return done

    @property
    def _as_of_text(self) -> str | None:
        return self.as_of.isoformat() if self.as_of else None

    def _dated(self, answer: T) -> T:
        for frame in [answer, *getattr(answer, "__dict__", {}).values()]:
            if isinstance(frame, pd.DataFrame):
                frame.attrs["as_of"] = self._as_of_text
        return answer

    def _with_as_of(self, frame: pd.DataFrame, asked: datetime | str | None = None) -> pd.DataFrame:
        """The table with its last column ``as_of``: naive and UTC, as all instants in tables."""
        known = [instant for instant in (self.as_of, asked and mtu.instant(asked).replace(tzinfo=UTC)) if instant]
        stamp = min(known).replace(tzinfo=None) if known else pd.NaT
        return frame.assign(as_of=pd.Series(stamp, index=frame.index, dtype="datetime64[us]"))


def _answer(con: duckdb.DuckDBPyConnection, home: Path, query: str) -> pd.DataFrame:
    """What outside SQL asks; the connection can do nothing else from then on."""
    warehouse.lock_down(con, home)
    try:
        return con.execute(query).df()
    except duckdb.Error as error:
        raise BadInput(f"The question cannot be answered: {error}") from None
