"""On which calendar day an event happened: the project's zone, and projects whose exports tell local time.

Source: https://developer.mixpanel.com/reference/raw-event-export (projects made before 2023 export the
seconds of their own zone's clocks).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import duckdb

EVENT_TIMES = ("auto", "utc", "local")
DAY_S = 86400
QUARTER_S = 900
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def zone(project: Mapping[str, Any]) -> ZoneInfo:
    """The zone by which ``time_s`` becomes a calendar day: the project's, or UTC where times are local already."""
    return ZoneInfo("UTC" if project["event_times"] == "local" else project["timezone"])


def as_found(con: duckdb.DuckDBPyConnection, project: Mapping[str, Any]) -> dict[str, Any]:
    """The project with its events' times as the generation found them: ``utc`` or ``local`` in place of ``auto``."""
    found = con.execute("select event_times from generation.clocks where project_id = ?",
                        [project["project_id"]]).fetchall()
    return {**project, "event_times": found[0][0] if found else project["event_times"]}


def offset_s(time_s: int, where: ZoneInfo) -> int:
    """Seconds that the zone's clocks are ahead of UTC at an instant."""
    offset = (EPOCH + timedelta(seconds=time_s)).astimezone(where).utcoffset()
    return round(offset.total_seconds()) if offset else 0


def day_offsets(days: Iterable[date], where: ZoneInfo) -> Iterator[tuple[date, int, int, int]]:
    """For each UTC day ``(day, offset_s, changes_at_s, later_offset_s)``: the offset, and since when it is another."""
    for day in days:
        starts_s = (day - EPOCH.date()).days * DAY_S
        before, after = offset_s(starts_s, where), offset_s(starts_s + DAY_S, where)
        yield day, before, _change(starts_s, where) if before != after else starts_s + DAY_S, after


def _change(starts_s: int, where: ZoneInfo) -> int:
    """The second of this day from which on the zone has another offset than at its start."""
    same, other = starts_s, starts_s + DAY_S
    while other - same > 1:
        middle = (same + other) // 2
        same, other = (middle, other) if offset_s(middle, where) == offset_s(starts_s, where) else (same, middle)
    return other


def guess(lags: Mapping[tuple[date, int], int], timezone: str) -> str:
    """``utc`` or ``local``, by how long after their time events were processed.

    ``lags``: (day, seconds to the quarter of an hour) → events, imported ones left out. Local times show as the
    zone's distance from UTC on that day, for instance +28800 where clocks are eight hours behind, or a quarter of
    an hour more where processing took that long. Days on which the zone is at no distance tell nothing.
    """
    distances = _distances(lags, timezone)
    telling = {key: events for key, events in lags.items() if 0 not in distances[key[0]]}
    local = sum(events for (day, lag), events in telling.items() if {lag, lag - QUARTER_S} & distances[day])
    return "local" if 2 * local > sum(telling.values()) else "utc"


def strange_lag(lags: Mapping[tuple[date, int], int], timezone: str) -> int | None:
    """By how long most events were processed after their time, if that is whole or half hours and not the zone's.

    Then the times are probably those of another zone's clocks. Two lags may share the events, as where the clocks
    changed in between.
    """
    distances = _distances(lags, timezone)
    strange: Counter[int] = Counter()
    for (day, lag), events in lags.items():
        if abs(lag) >= 4 * QUARTER_S and lag % (2 * QUARTER_S) == 0 and lag not in distances[day]:
            strange[lag] += events
    most = strange.most_common(2)
    return most[0][0] if 2 * sum(events for _, events in most) > sum(lags.values()) else None


def _distances(lags: Mapping[tuple[date, int], int], timezone: str) -> dict[date, set[int]]:
    days = {day for day, _ in lags}
    return {day: {-first, -later} for day, first, _, later in day_offsets(days, ZoneInfo(timezone))}
