"""Pulling from Mixpanel: what comes, what it costs, and what happens when something goes wrong."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from conftest import SAMPLE
from mixpanel_side import change, connect, differences, load_as_files

import cohortsync as cs
from cohortsync import sandbox
from cohortsync.errors import BadInput

SINCE = date(2026, 9, 1)
TODAY = date(2026, 11, 21)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Any]:
    """A local Mixpanel whose settings and data a test may change."""
    with sandbox.start(tmp_path / "mixpanel", mixpanel_seed=SAMPLE / "mixpanel.json") as running:
        yield running


@pytest.fixture
def workspace(own: Any, tmp_path: Path) -> cs.Workspace:
    """An empty workspace, connected to it."""
    return connect(own, tmp_path / "home")


def profiles(workspace: cs.Workspace) -> dict[str, str]:
    """Each profile's first name."""
    return dict(workspace.sql("select distinct_id, first_name from profiles").itertuples(index=False, name=None))


# what comes

def test_a_pull_loads_what_the_same_data_from_files_loads(own: Any, workspace: cs.Workspace, tmp_path: Path) -> None:
    report = workspace.pull(since=SINCE)
    files = load_as_files(own, tmp_path / "files", tmp_path, "2026-09-01", "2026-11-21")
    assert differences(workspace, files) == {}
    assert report.events == len(workspace.sql("from events")) + report.loaded.duplicates > 30_000


def test_the_gap_between_a_cohort_and_who_has_a_profile_is_explained(workspace: cs.Workspace) -> None:
    rows = workspace.pull(events=False, profiles=False).cohorts.set_index("cohort")
    assert rows.loc["newsletter-readers", ["announced", "members", "with_profile", "without_profile"]].tolist() == [
        906, 906, 808, 98]


# one cohort

def test_one_cohort_is_refreshed_alone_with_the_profiles_of_its_members(own: Any, workspace: cs.Workspace,
                                                                        tmp_path: Path) -> None:
    workspace.pull(since=date(2026, 11, 1))
    before, names = workspace.cohorts().set_index("cohort")["size"], profiles(workspace)
    member, gone = workspace.sql("""select distinct_id from cohort_members semi join profiles using (distinct_id)
        where cohort = 'power-users' order by all limit 2""")["distinct_id"]
    stranger = workspace.sql("""select distinct_id from profiles where distinct_id not in
        (select distinct_id from cohort_members where cohort = 'power-users') order by all limit 1""").iloc[0, 0]
    change(tmp_path / "mixpanel",
           "insert into cohort_members values (4411001, 'someone-new')",
           f"delete from profiles where distinct_id = '{gone}'",
           f"update profiles set properties = json_set(properties, '$.\"$first_name\"', 'Renamed') "
           f"where distinct_id in ('{member}', '{stranger}')",
           "insert into cohort_members values (4411002, 'someone-else')")
    report = workspace.pull(cohorts=["power-users"], events=False)
    assert report.requests == {"query": 3, "page": 0, "export": 0, "app": 0}
    assert workspace.cohorts().set_index("cohort")["size"].to_dict() == {**before, "power-users": 601}
    assert profiles(workspace) == {who: name for who, name in (names | {member: "Renamed"}).items() if who != gone}


def test_a_cohort_that_did_not_change_makes_no_new_generation(workspace: cs.Workspace) -> None:
    workspace.pull(cohorts=["power-users"], events=False)
    as_of = workspace.as_of
    assert workspace.pull(cohorts=["power-users"], events=False).loaded.unchanged
    assert workspace.as_of == as_of


def test_refreshing_one_cohort_after_another_leaves_what_everything_at_once_brought(workspace: cs.Workspace,
                                                                                    tmp_path: Path) -> None:
    workspace.pull(since=date(2026, 11, 1))
    profiles_there = workspace.sql("from profiles order by distinct_id")
    for cohort in ("power-users", "trial-ending"):
        workspace.pull(cohorts=[cohort], events=False)
    assert workspace.sql("from profiles order by distinct_id").equals(profiles_there)


def test_a_cohort_is_found_by_its_name_here_also_once_it_is_renamed(workspace: cs.Workspace, tmp_path: Path) -> None:
    workspace.pull(cohorts=["power-users"], events=False)
    change(tmp_path / "mixpanel", "update cohorts set name = 'Stars' where id = 4411001")
    for name in ("power-users", "4411001", "Stars"):
        report = workspace.pull(cohorts=[name], events=False)
        assert report.cohorts["cohort"].tolist() == ["power-users"]
        assert report.notes == ["The cohort 'power-users' is now called 'Stars' in Mixpanel; here it keeps its name."]


def test_a_cohort_that_is_not_there_is_one_clear_error(workspace: cs.Workspace) -> None:
    with pytest.raises(BadInput, match="has no cohort 'nobody'. It has: power-users, trial-ending, newsletter-readers"):
        workspace.pull(cohorts=["nobody"], events=False)
