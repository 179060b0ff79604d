"""A day that is pulled again replaces its earlier pull, and nothing that was loaded by hand."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cohortsync as cs
from cohortsync import load
from cohortsync.intake import LoadReport
from cohortsync.load import Pulled
from cohortsync.sources import inspect

FIRST = date(2026, 10, 1)
SECONDS = 1790812800  # midnight of the first day, UTC


def event(name: str, user: str, day: int = 0, insert_id: str | None = None, second: int = 0,
          processed: int = 0) -> dict[str, Any]:
    keyed = {"$insert_id": insert_id} if insert_id else {}
    return {"event": name, "properties": {"time": SECONDS + 86400 * day + second, "distinct_id": user,
                                          "$user_id": user, "mp_processing_time_ms": 1790900000000 + processed} | keyed}


def write(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def workspace(tmp_path: Path) -> cs.Workspace:
    workspace = cs.open(tmp_path / "home")
    workspace.init("UTC", "simplified")
    return workspace


def pull(workspace: cs.Workspace, place: Path, days: dict[int, list[dict[str, Any]]], by_hand: Iterable[Path] = ()
         ) -> LoadReport:
    """Load days as a pull does; a day without events is named without a file."""
    number = len(list(place.glob("*.ndjson")))
    files = {FIRST + timedelta(day): write(place / f"{number}-{day}.ndjson", rows) if rows else None
             for day, rows in days.items()}
    report = load.load(workspace.home, by_hand, project_id="local", pulled=Pulled(files))
    workspace.refresh()
    return report


def there(workspace: cs.Workspace) -> list[tuple[str, str]]:
    return list(workspace.sql("select event, distinct_id from events order by all").itertuples(index=False, name=None))


def counted(workspace: cs.Workspace) -> list[tuple[str, str, int]]:
    return list(workspace.sql("select event, distinct_id, sum(events)::int from activity group by all order by all")
                .itertuples(index=False, name=None))


def test_a_day_pulled_again_counts_once_also_without_insert_ids(workspace: cs.Workspace, tmp_path: Path) -> None:
    pull(workspace, tmp_path, {0: [event("Paid", "ada"), event("Paid", "ben")]})
    report = pull(workspace, tmp_path, {0: [event("Paid", "ada"), event("Paid", "ben"), event("Paid", "cem")]})
    assert counted(workspace) == [("Paid", "ada", 1), ("Paid", "ben", 1), ("Paid", "cem", 1)]
    assert (report.replaced, report.events_added, report.duplicates, report.unkeyed_in_overlap) == (2, 1, 0, 0)


def test_what_is_gone_from_a_day_pulled_again_is_gone(workspace: cs.Workspace, tmp_path: Path) -> None:
    pull(workspace, tmp_path, {0: [event("Paid", "ada"), event("Paid", "ben")], 1: [event("Paid", "dee", 1)]})
    pull(workspace, tmp_path, {0: [event("Paid", "ben")]})
    assert there(workspace) == [("Paid", "ben"), ("Paid", "dee")]
    assert workspace.mtu()["mtu"].tolist() == [2]


def test_a_day_found_without_events_is_emptied(workspace: cs.Workspace, tmp_path: Path) -> None:
    pull(workspace, tmp_path, {0: [event("Paid", "ada")], 1: [event("Paid", "ben", 1)]})
    report = pull(workspace, tmp_path, {0: []})
    assert (there(workspace), report.events_added) == ([("Paid", "ben")], -1)
    assert pull(workspace, tmp_path, {0: []}).unchanged
    pull(workspace, tmp_path, {0: [event("Paid", "ada")]})
    assert counted(workspace) == [("Paid", "ada", 1), ("Paid", "ben", 1)]


def test_a_pull_that_finds_the_same_adds_nothing(workspace: cs.Workspace, tmp_path: Path) -> None:
    pull(workspace, tmp_path, {0: [event("Paid", "ada")]})
    as_of = workspace.as_of
    assert pull(workspace, tmp_path, {0: [event("Paid", "ada")]}).unchanged
    assert workspace.as_of == as_of


def test_a_day_that_was_emptied_has_the_events_of_a_later_pull(workspace: cs.Workspace, tmp_path: Path) -> None:
    for rows in ([event("Paid", "ben")], []):
        pull(workspace, tmp_path, {0: rows})
    path = write(tmp_path / "later.json", [event("Paid", "ada")])
    known = replace(inspect("events", path), sha256="")  # as a pull knows what it wrote itself
    load.load(workspace.home, project_id="local", pulled=Pulled({FIRST: path}, known={path: known}))
    workspace.refresh()
    assert counted(workspace) == [("Paid", "ada", 1)]


def test_a_pull_that_is_short_of_memory_is_given_as_much_as_a_load(workspace: cs.Workspace, tmp_path: Path,
                                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "PULL_MEMORY_MB", 1)
    people = [f"user-{n}" for n in range(5000)]
    report = pull(workspace, tmp_path, {0: [event("Paid", one) for one in people]})
    assert report.events_added == 5000
    assert [user for _, user in there(workspace)] == sorted(people)


def test_what_was_loaded_by_hand_outlives_the_pull_that_superseded_it(workspace: cs.Workspace, tmp_path: Path) -> None:
    workspace.load(events=[write(tmp_path / "by-hand.json", [event("Paid", "ada", insert_id="a"),
                                                            event("Seen", "ben")])])
    pull(workspace, tmp_path, {0: [event("Paid", "ada", insert_id="a", processed=9)]})
    assert counted(workspace) == [("Paid", "ada", 1), ("Seen", "ben", 1)]
    report = pull(workspace, tmp_path, {0: [event("Seen", "cem", insert_id="c")]})
    assert counted(workspace) == [("Paid", "ada", 1), ("Seen", "ben", 1), ("Seen", "cem", 1)]
    assert (report.replaced, report.events_added) == (1, 1)


def test_a_file_given_by_hand_counts_when_its_pull_was_replaced(workspace: cs.Workspace, tmp_path: Path) -> None:
    first = [event("Paid", "ada")]
    pull(workspace, tmp_path, {0: first})
    assert workspace.load(events=[write(tmp_path / "same.json", first)]).unchanged
    pull(workspace, tmp_path, {0: [event("Paid", "ben")]})
    workspace.load(events=[tmp_path / "same.json"])
    assert counted(workspace) == [("Paid", "ada", 1), ("Paid", "ben", 1)]


def test_a_pull_of_all_profiles_leaves_no_other(workspace: cs.Workspace, tmp_path: Path) -> None:
    profiles = write(tmp_path / "p.json", [{"$distinct_id": who, "$properties": {"plan": "solo"}}
                                           for who in ("ada", "ben")])
    workspace.load(profiles=[profiles])
    fewer = write(tmp_path / "q.json", [{"$distinct_id": "ben", "$properties": {"plan": "solo"}}])
    load.load(workspace.home, profiles=[fewer], project_id="local", pulled=Pulled(all_profiles=True))
    workspace.refresh()
    assert workspace.sql("select distinct_id from profiles")["distinct_id"].tolist() == ["ben"]


rows = st.builds(event, st.sampled_from(["Paid", "Seen"]), st.sampled_from(["ada", "ben", "cem"]),
                 st.sampled_from([0, 1]), st.sampled_from([None, "a", "b"]), st.just(0), st.integers(0, 3))
histories = st.lists(st.tuples(st.booleans(), st.lists(rows, max_size=5)), min_size=1, max_size=5)


@pytest.mark.law
@settings(max_examples=examples(5), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(histories)
def test_pulls_and_files_in_any_order_leave_the_files_and_the_latest_pulls(
        tmp_path_factory: pytest.TempPathFactory, history: list[tuple[bool, list[dict[str, Any]]]]) -> None:
    """As if only the files and each day's latest pull had ever been loaded, in the order they came."""
    place = tmp_path_factory.mktemp("history")
    one, plain = (cs.open(place / name) for name in ("one", "plain"))
    for workspace in (one, plain):
        workspace.init("UTC", "simplified")
    latest: dict[int, int] = {}
    for step, (pulled, found) in enumerate(history):
        if pulled:
            days = {day: [row for row in found if row["properties"]["time"] == SECONDS + 86400 * day]
                    for day in (0, 1)}
            pull(one, place, days)
            latest |= dict.fromkeys(days, step)
        elif found:
            load.load(one.home, [write(place / f"{step}.hand", [*found, event("Step", str(step))])])
            one.refresh()
    for step, (pulled, found) in enumerate(history):
        kept = [row for row in found if not pulled or latest[(row["properties"]["time"] - SECONDS) // 86400] == step]
        if kept:
            extra = [] if pulled else [event("Step", str(step))]
            load.load(plain.home, [write(place / f"{step}.plain", [*kept, *extra])])
            plain.refresh()
    assert counted(one) == counted(plain)
    assert there(one) == there(plain)
