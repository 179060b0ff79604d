"""MTU measured: the workspace's answer, and ``count(distinct)`` over its event files in DuckDB and in polars.

The rivals get the identities as a ready table, the classes of the exempt events and the months' bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

from bench.data import TIMEZONE
from bench.fresh import in_turns

Reading = list[tuple[str, int, int, int]]
READINGS = ("mtu", "mtu_without_exemption", "mtu_engagement_counted")
CLASSES = [("Mailchimp Campaign - Sent", "delivery"), ("Mailchimp Campaign - Open", "engagement"),
           ("Mailchimp - Clicked Campaign Url", "engagement"), ("Mailchimp - Opened Campaign", "engagement"),
           ("$mp_session_record", "system"), ("$campaign_delivery", "system"), ("$experiment_started", "system")]
COUNT_DISTINCT = """
    select month, count(distinct id) filter (class is null), count(distinct id),
           count(distinct id) filter (class is null or class = 'engagement')
    from (select m.month, coalesce(i.canonical_id, e.distinct_id) as id, c.class
          from read_parquet($events) e
          join months m on e.time_s >= m.starts_s and e.time_s < m.ends_s
          left join classes c on c.event = e.event
          left join read_parquet($identities) i on i.distinct_id = e.distinct_id
          where e.distinct_id <> '' and c.class is distinct from 'system')
    group by month order by month"""


@dataclass(frozen=True)
class Tables:
    """What the rivals read."""

    events: list[str]
    identities: str
    months: list[tuple[str, int, int]]


def tables(home: Path, folder: Path) -> Tables:
    """The event files as they are; identities as a Parquet file in ``folder``."""
    import cohortsync as cs

    identities = folder / "identities.parquet"
    with cs.open(home).connect() as con:
        con.execute(f"copy (select distinct_id, canonical_id from identities) to '{identities}'")
        paths = [str(home / path) for (path,) in con.execute("select path from event_files").fetchall()]
        first, last = con.execute("select min(first_s), max(last_s) from event_files").fetchall()[0]
    return Tables(paths, str(identities), _months(first, last))


def _months(first_s: int, last_s: int) -> list[tuple[str, int, int]]:
    zone = ZoneInfo(TIMEZONE)
    first, last = (datetime.fromtimestamp(s, UTC).astimezone(zone) for s in (first_s, last_s))
    count = (last.year - first.year) * 12 + last.month - first.month + 1
    numbers = [first.year * 12 + first.month - 1 + k for k in range(count + 1)]
    starts = [datetime(n // 12, n % 12 + 1, 1, tzinfo=zone) for n in numbers]
    return [(f"{start:%Y-%m}", int(start.timestamp()), int(end.timestamp())) for start, end in pairwise(starts)]


def compare(home: Path, folder: Path, repeats: int) -> dict[str, list[float]]:
    """Seconds of each way, taking turns; raises AssertionError when their answers differ."""
    given = tables(home, folder)
    ways: dict[str, Callable[[], Reading]] = {
        "cohortsync": lambda: _cohortsync(home), "duckdb": lambda: _duckdb(given), "polars": lambda: _polars(given)}
    answers = {name: way() for name, way in ways.items()}
    assert answers["cohortsync"] and answers["cohortsync"] == answers["duckdb"] == answers["polars"], answers
    return in_turns(ways, repeats)


def _cohortsync(home: Path) -> Reading:
    import cohortsync as cs

    found = cs.open(home).mtu()
    return [(row["month"], *(row[name] for name in READINGS)) for row in found.to_dict("records") if row["events"]]


def _duckdb(given: Tables) -> Reading:
    import duckdb

    with duckdb.connect() as con:
        con.execute("create table months (month varchar, starts_s bigint, ends_s bigint)")
        con.executemany("insert into months values (?, ?, ?)", given.months)
        con.execute("create table classes (event varchar, class varchar)")
        con.executemany("insert into classes values (?, ?)", CLASSES)
        return con.execute(COUNT_DISTINCT, {"events": given.events, "identities": given.identities}).fetchall()


def _polars(given: Tables) -> Reading:
    import polars as pl

    classes = pl.LazyFrame(CLASSES, schema=["event", "class"], orient="row")
    month = pl.lit(pl.Series([start for _, start, _ in given.months])).search_sorted(pl.col("time_s"), side="right")
    ident, plain = pl.coalesce("canonical_id", "distinct_id"), pl.col("class").is_null()
    counted = (
        pl.scan_parquet(given.events).select("event", "time_s", "distinct_id").filter(pl.col("distinct_id") != "")
        .join(classes, on="event", how="left").filter(pl.col("class").ne_missing("system"))
        .join(pl.scan_parquet(given.identities), on="distinct_id", how="left")
        .select(month.alias("month"), ident.alias("id"), "class")
        .group_by("month").agg(
            pl.col("id").filter(plain).n_unique().alias("a"), pl.col("id").n_unique().alias("b"),
            pl.col("id").filter(plain | (pl.col("class") == "engagement")).n_unique().alias("c"))
        .sort("month"))
    return [(given.months[place - 1][0], *counts) for place, *counts in counted.collect(engine="streaming").rows()]
