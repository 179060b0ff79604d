"""Days and months by the project's clocks: time zones, changes of the clocks, and exports that tell local time."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cohortsync as cs
from cohortsync import clock, events
from cohortsync.intake import LoadReport

NEW_YORK = "America/New_York"
HOUR = 3600
DAYS = [date(2026, 10, 1) + timedelta(days) for days in range(61)]  # clocks change in America on 1 November
ZONES = sorted(zone for zone in available_timezones() if "/" in zone and not zone.startswith("Etc/"))


def lags(timezone: str, days: list[date], late_s: int = 0, events: int = 10) -> dict[tuple[date, int], int]:
    """What an export of local times shows that was processed ``late_s`` after it happened."""
    return {(day, late_s - offset): events for day, offset, _, _ in clock.day_offsets(days, ZoneInfo(timezone))}


def wall_s(text: str) -> int:
    """The seconds that a clock showing this exports when it takes its own time for UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def true_s(text: str, timezone: str, fold: int = 0) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(timezone), fold=fold).timestamp())


def event(number: int, at: int, processed_s: int | None = None, user: str = "ann", **more: Any) -> dict[str, Any]:
    more = more if processed_s is None else {"mp_processing_time_ms": processed_s * 1000, **more}
    return {"event": "Opened", "properties": {"time": at, "distinct_id": user, "$user_id": user,
                                              "$insert_id": f"insert-{number}", **more}}


def old_export(*walls: str, timezone: str = NEW_YORK, start: int = 0) -> list[dict[str, Any]]:
    """Rows of a project made before 2023: times of its own clocks, processed some seconds later, in truth."""
    return [event(n, wall_s(wall), true_s(wall, timezone) + 20, f"user-{n}") for n, wall in enumerate(walls, start)]


def new_project(home: Path, timezone: str = NEW_YORK, **settings: Any) -> cs.Workspace:
    workspace = cs.open(home)
    workspace.init(timezone, "simplified", **settings)
    return workspace


def load(project: cs.Workspace, *rows: dict[str, Any], name: str = "events.ndjson") -> LoadReport:
    file = project.home.parent / name
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return project.load(events=[file])


def users(project: cs.Workspace) -> dict[str, int]:
    return dict(project.mtu()[["month", "mtu"]].itertuples(index=False, name=None))


def instants(project: cs.Workspace) -> list[str]:
    with project.connect() as con:
        return [f"{at:%Y-%m-%d %H:%M}" for (at,) in con.execute(
            "select occurred_at from events order by insert_id").fetchall()]


def times_are(project: cs.Workspace) -> str:
    return str(project.projects()["times_are"][0])


# days

@given(st.sampled_from(ZONES), st.integers(0, 24836), st.integers(0, clock.DAY_S - 1))
def test_a_days_offsets_give_every_second_its_local_day(timezone: str, day_number: int, second: int) -> None:
    where, day = ZoneInfo(timezone), date(1970, 1, 1) + timedelta(day_number)
    ((_, before, changes_at_s, later),) = clock.day_offsets([day], where)
    last_s = (day_number + 1) * clock.DAY_S - 1
    for time_s in {day_number * clock.DAY_S + second, changes_at_s - 1, min(changes_at_s, last_s)}:
        local = datetime.fromtimestamp(time_s, where)
        assert time_s + (before if time_s < changes_at_s else later) == wall_s(local.isoformat()[:19])


@pytest.mark.parametrize(("timezone", "day", "before", "changes_at", "later"), [
    (NEW_YORK, date(2026, 3, 8), -5, "2026-03-08 07:00", -4), (NEW_YORK, date(2026, 11, 1), -4, "2026-11-01 06:00", -5),
    ("Europe/London", date(2026, 3, 29), 0, "2026-03-29 01:00", 1), ("Asia/Kolkata", date(2026, 3, 29), 5.5, None, 5.5),
    ("Australia/Lord_Howe", date(2026, 4, 4), 11, "2026-04-04 15:00", 10.5),
    ("Pacific/Apia", date(2011, 12, 30), -10, "2011-12-30 10:00", 14)])
def test_a_day_has_another_offset_from_the_second_on_that_clocks_change(
        timezone: str, day: date, before: float, changes_at: str | None, later: float) -> None:
    ((_, first, changes_at_s, second),) = clock.day_offsets([day], ZoneInfo(timezone))
    assert (first, second) == (before * HOUR, later * HOUR)
    assert changes_at_s == wall_s(changes_at or str(day + timedelta(1)))


# finding out

@given(st.sampled_from(ZONES), st.integers(0, 40), st.sampled_from([0, clock.QUARTER_S]))
def test_times_of_a_zones_own_clocks_are_told_wherever_it_is_not_at_utc(timezone: str, weeks: int, late_s: int) -> None:
    days = [day + timedelta(weeks=weeks) for day in DAYS]
    found = lags(timezone, days, late_s)
    away = any(first and later for _, first, _, later in clock.day_offsets(days, ZoneInfo(timezone)))
    assert clock.guess(found, timezone) == ("local" if away else "utc")


@given(st.sampled_from(ZONES), st.integers(0, 3))
def test_events_processed_within_the_hour_are_utc_in_every_zone(timezone: str, quarters: int) -> None:
    found = {(day, quarters * clock.QUARTER_S): 10 for day in DAYS}
    assert clock.guess(found, timezone) == "utc"
    assert clock.strange_lag(found, timezone) is None


def test_nothing_processed_is_utc() -> None:
    assert clock.guess({}, NEW_YORK) == "utc"
    assert clock.strange_lag({}, NEW_YORK) is None


def test_one_event_is_enough_to_tell() -> None:
    assert clock.guess({(date(2026, 10, 1), 4 * HOUR): 1}, NEW_YORK) == "local"


def test_late_events_do_not_hide_what_most_tell() -> None:
    late = {(DAYS[0], hours * HOUR): 5 for hours in range(5, 24)}
    assert clock.guess({(DAYS[0], 4 * HOUR): 100, **late}, NEW_YORK) == "local"
    assert clock.guess({(DAYS[0], 0): 100, **late}, NEW_YORK) == "utc"


def test_a_nightly_batch_that_hits_the_zones_distance_now_and_then_is_utc() -> None:
    batch = {(DAYS[0], quarter * clock.QUARTER_S): 10 for quarter in range(96)}
    assert clock.guess(batch, NEW_YORK) == "utc"
    assert clock.strange_lag(batch, NEW_YORK) is None


def test_a_zone_at_utc_in_winter_is_told_by_its_summer_however_short() -> None:
    winter, summer = [date(2026, 1, 1) + timedelta(days) for days in range(60)], [date(2026, 7, 1)]
    assert clock.guess(lags("Europe/London", winter), "Europe/London") == "utc"
    assert clock.guess(lags("Europe/London", winter + summer), "Europe/London") == "local"


def test_another_zones_clocks_are_a_strange_lag() -> None:
    assert clock.strange_lag(lags("America/Los_Angeles", DAYS), "UTC") == 7 * HOUR
    assert clock.strange_lag(lags("Asia/Kolkata", DAYS), NEW_YORK) == -5.5 * HOUR
    assert clock.strange_lag(lags(NEW_YORK, DAYS), NEW_YORK) is None


# loading an old project's export

AUTUMN = ("2026-10-30T12:00:00", "2026-10-31T19:30:00", "2026-10-31T20:30:00", "2026-10-31T23:59:59",
          "2026-11-01T00:00:00", "2026-11-01T23:59:59", "2026-11-15T12:00:00", "2026-11-30T23:30:00")


def test_local_times_are_found_and_said(tmp_path: Path) -> None:
    project = new_project(tmp_path / "home")
    report = load(project, *old_export(*AUTUMN))
    assert [note for note in report.notes if "clocks of America/New_York" in note and "--event-times utc" in note]
    assert times_are(project) == "local"
    assert project.project is not None
    assert project.project["event_times"] == "auto"


def test_months_of_local_times_are_right_over_a_change_of_the_clocks(tmp_path: Path) -> None:
    project = new_project(tmp_path / "home")
    load(project, *old_export(*AUTUMN))
    assert users(project) == {"2026-10": 4, "2026-11": 4}


def test_local_times_occurred_when_they_did(tmp_path: Path) -> None:
    project = new_project(tmp_path / "home")
    load(project, *old_export(*AUTUMN))
    assert instants(project) == ["2026-10-30 16:00", "2026-10-31 23:30", "2026-11-01 00:30", "2026-11-01 03:59",
                                 "2026-11-01 04:00", "2026-11-02 04:59", "2026-11-15 17:00", "2026-12-01 04:30"]


def test_an_hour_that_clocks_show_twice_is_taken_for_the_later_one(tmp_path: Path) -> None:
    project = new_project(tmp_path / "home", event_times="local")
    load(project, event(1, wall_s("2026-11-01T01:30:00")))
    assert true_s("2026-11-01T01:30:00", NEW_YORK, fold=1) == wall_s("2026-11-01T06:30:00")
    assert instants(project) == ["2026-11-01 06:30"]


def test_utc_times_are_left_as_they_are(tmp_path: Path) -> None:
    project = new_project(tmp_path / "home")
    at = [true_s(wall, NEW_YORK) for wall in AUTUMN]
    report = load(project, *(event(n, time_s, time_s + 20, f"user-{n}") for n, time_s in enumerate(at)))
    assert (report.notes, times_are(project)) == ([], "utc")
    assert users(project) == {"2026-10": 4, "2026-11": 4}
    assert instants(project)[0] == "2026-10-30 16:00"


def everything(project: cs.Workspace) -> dict[str, Any]:
    """The numbers, and the rows they are counted from."""
    with project.connect() as con:
        tables = {name: sorted(con.execute(f"from {name}").fetchall(), key=repr)
                  for name in ("activity", "months", "user_months", "clocks")}
        tables["events"] = con.execute("select insert_id, occurred_at from events order by all").fetchall()
    return tables | {"mtu": project.mtu().drop(columns="as_of", errors="ignore").to_dict("records")}


def test_forcing_utc_equals_a_load_that_never_guessed(tmp_path: Path) -> None:
    found, forced = new_project(tmp_path / "a"), new_project(tmp_path / "b", event_times="utc")
    for project in (found, forced):
        load(project, *old_export(*AUTUMN))
    assert users(found) != users(forced)
    found.init(NEW_YORK, "simplified", event_times="utc")
    assert everything(found) == everything(forced)


def test_forcing_local_equals_finding_it(tmp_path: Path) -> None:
    found, forced = new_project(tmp_path / "a"), new_project(tmp_path / "b", event_times="local")
    for project in (found, forced):
        load(project, *old_export(*AUTUMN))
    assert everything(found) == everything(forced)
    found.init(NEW_YORK, "simplified", event_times="local")
    assert everything(found) == everything(forced)


def test_what_was_forced_stays_when_the_zone_is_changed(tmp_path: Path) -> None:
    project = new_project(tmp_path / "home", event_times="utc")
    project.init("Europe/Berlin", "simplified")
    assert project.project is not None
    assert project.project["event_times"] == "utc"


def test_a_later_load_that_tells_more_counts_the_earlier_one_anew(tmp_path: Path) -> None:
    unsure, sure = new_project(tmp_path / "a"), new_project(tmp_path / "b")
    silent = [event(n, wall_s(wall), user=f"user-{n}") for n, wall in enumerate(AUTUMN[:4])]
    load(unsure, *silent, name="silent.ndjson")
    assert times_are(unsure) == "utc"
    load(unsure, *old_export(*AUTUMN[4:], start=4), name="telling.ndjson")
    load(sure, *silent, *old_export(*AUTUMN[4:], start=4), name="both.ndjson")
    assert times_are(unsure) == "local"
    assert users(unsure) == users(sure) == {"2026-10": 4, "2026-11": 4}
    assert instants(unsure) == instants(sure)


def test_imported_events_tell_nothing_of_the_times(tmp_path: Path) -> None:
    project = new_project(tmp_path / "home")
    load(project, *(event(n, wall_s(wall), true_s(wall, NEW_YORK), f"user-{n}", **{"$import": True})
                    for n, wall in enumerate(AUTUMN)))
    assert times_are(project) == "utc"


def test_old_exports_of_many_zones_count_by_the_day_their_clocks_showed(tmp_path: Path) -> None:
    for zone in ("Asia/Kolkata", "Pacific/Auckland", "America/St_Johns", "Pacific/Honolulu", "Europe/Berlin"):
        project = new_project(tmp_path / zone.replace("/", "-"), zone)
        load(project, *old_export(*AUTUMN, timezone=zone))
        assert (times_are(project), users(project)) == ("local", {"2026-10": 4, "2026-11": 4})


def test_a_project_at_utc_reads_the_same_either_way(tmp_path: Path) -> None:
    found, forced = new_project(tmp_path / "a", "UTC"), new_project(tmp_path / "b", "UTC", event_times="local")
    for project in (found, forced):
        load(project, *old_export(*AUTUMN, timezone="UTC"))
    assert users(found) == users(forced)
    assert instants(found) == instants(forced)


def test_times_of_another_zones_clocks_are_said(tmp_path: Path) -> None:
    project = new_project(tmp_path / "home", "UTC")
    report = load(project, *old_export(*AUTUMN[:4]))
    assert [note for note in report.notes if note.startswith("Most events were processed 4 hours after their time")]
    assert not load(new_project(tmp_path / "b", "UTC", event_times="utc"), *old_export(*AUTUMN[:4])).notes


def test_the_last_days_of_an_event_are_the_clocks_own(tmp_path: Path) -> None:
    project = new_project(tmp_path / "home")
    load(project, *old_export("2026-10-30T23:30:00", "2026-10-31T00:30:00", "2026-10-31T23:30:00"))
    assert len(project.events("Opened", days=1)) == 2


@pytest.mark.parametrize(("zone", "times"), [("Pacific/Kiritimati", "utc"), ("America/New_York", "utc"),
                                             ("Pacific/Pago_Pago", "utc"), ("America/New_York", "local")])
@pytest.mark.parametrize("rows", [1, 40])
def test_days_are_counted_the_same_however_many_are_counted_together(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zone: str, times: str, rows: int) -> None:
    together, apart = (new_project(tmp_path / name, zone, event_times=times) for name in ("a", "b"))
    starts = [wall_s("1999-12-31T12:00:00"), wall_s("2026-10-28T00:30:00")]
    hours = [event(n, starts[n > 30] + n * HOUR, user=f"user-{n % 5}") for n in range(8 * 24)]
    load(together, *hours, *hours[::7])
    monkeypatch.setattr(events, "ROWS_AT_ONCE", rows)
    load(apart, *hours, *hours[::7])
    assert everything(apart) == everything(together)
    assert sum(row[-1] for row in everything(apart)["activity"]) == len(hours)


# late events

def test_events_that_come_late_count_in_the_month_they_belong_to(tmp_path: Path) -> None:
    project = new_project(tmp_path / "home")
    october, november, december = (true_s(f"2026-{month}-15T12:00:00", NEW_YORK) for month in (10, 11, 12))
    load(project, event(1, october, october), event(2, november, november))
    before = project.mtu().set_index("month")["mtu"].to_dict()
    load(project, event(3, october, december, "bo"), event(4, october + 60, december, "cy", **{"$import": True}),
         name="late.ndjson")
    assert (before, users(project)) == ({"2026-10": 1, "2026-11": 1}, {"2026-10": 3, "2026-11": 1})


def test_an_order_of_loading_changes_no_month(tmp_path: Path) -> None:
    first, second = new_project(tmp_path / "a"), new_project(tmp_path / "b")
    files = [(str(n), old_export(*AUTUMN[n::3], start=n * 10)) for n in range(3)]
    for name, rows in files:
        load(first, *rows, name=name)
    for name, rows in reversed(files):
        load(second, *rows, name=name)
    assert users(first) == users(second)
    assert instants(first) == instants(second)
