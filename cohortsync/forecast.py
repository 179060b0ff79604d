"""The month to date beside the same day of past months, and what the whole month may come to.

The projection divides the users so far by the share of their month that past months had reached on the same
day: the median over the complete months before. It is made for every past month as it would have been made
then, from the months before that one alone, and the errors of these are said with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

import duckdb
import pandas as pd

from cohortsync import mtu, tables


@dataclass(frozen=True)
class MonthToDate:
    """How far the newest month has come, and where it may end.

    ``through``: the last loaded day; ``mtu``: tracked users so far; ``projection``: for the whole month, None where
    no complete month came before; ``error``: the mean absolute error of the back-tests as a share, ``worst`` the
    largest, ``tests`` how many months they are. ``months``: one row per month (``month, complete, same_day``,
    tracked users up to the same day, ``mtu, share, projection, error``). ``days``: one row per month and day
    (``month, day, users``: those so far).
    """

    project_id: str
    month: str
    through: str
    mtu: int
    projection: int | None
    error: float | None
    worst: float | None
    tests: int
    months: pd.DataFrame
    days: pd.DataFrame

    def sentence(self) -> str:
        """What it comes to, with its error, for people."""
        so_far = f"{self.month} has {self.mtu:,} tracked users up to {self.through}"
        if self.projection is None:
            return f"{so_far}. No complete month came before it, so there is no projection."
        if self.error is None:
            return f"{so_far} and may end near {self.projection:,}; too few months came before to say how near."
        return (f"{so_far} and may end near {self.projection:,}. The same projection was off by {self.error:.1%} on "
                f"average and by {self.worst:.1%} at worst in {self.tests} past month{'s' * (self.tests > 1)}.")

    def _repr_html_(self) -> str:
        title = f"{self.month} up to {self.through}"
        return tables.table({}, title, [self.sentence()]) + self.months.to_html(index=False)

    def summary(self) -> dict[str, Any]:
        """Everything but the tables."""
        return {name: value for name, value in vars(self).items() if name not in ("months", "days")}


def month_to_date(con: duckdb.DuckDBPyConnection, project_id: str, **options: Any) -> MonthToDate | None:
    """The newest month up to its last loaded day; None before events are loaded. Options: see ``mtu.settings``."""
    first_on, last_on = con.execute("select min(day), max(day) from activity where project_id = ?",
                                    [project_id]).fetchall()[0]
    if last_on is None:
        return None
    options = {name: value for name, value in options.items() if name in ("marked_only", "partners_by_name")}
    days = cumulative(mtu.tracked_days(con, project_id, **options), first_on, last_on)
    complete = mtu.monthly(con, project_id, **options).set_index("month")["complete"]
    months = compared(days, complete, last_on.day)
    newest, errors = months.iloc[-1], months["error"].dropna().abs()
    return MonthToDate(
        project_id, newest["month"], last_on.isoformat(), int(newest["same_day"]), _number(newest["projection"]),
        round(float(errors.mean()), 4) if len(errors) else None,
        round(float(errors.max()), 4) if len(errors) else None, len(errors), months, days)


def cumulative(tracked: pd.DataFrame, first_on: date, last_on: date) -> pd.DataFrame:
    """One row per month and day up to the last one loaded: ``month, day, users`` of the month so far.

    ``tracked``: ``day, new_users``, as ``mtu.tracked_days`` answers.
    """
    new = pd.Series(tracked["new_users"].tolist(), index=pd.to_datetime(tracked["day"]), dtype="int64")
    every = pd.date_range(first_on.replace(day=1), last_on)
    month = every.strftime("%Y-%m")
    users = new.reindex(every, fill_value=0).groupby(month).cumsum()
    return pd.DataFrame({"month": month, "day": every.day, "users": users.to_numpy()})


def compared(days: pd.DataFrame, complete: pd.Series, day: int) -> pd.DataFrame:
    """One row per month: where it stood on this day, where it ended, and what would have been projected then.

    A month that is over by that day tells nothing of what is still to come, and is neither a measure nor a test.
    """
    months = days.groupby("month", as_index=False).agg(length=("day", "max"), mtu=("users", "last"))
    same_day = days[days["day"] <= day].groupby("month")["users"].last()
    months["same_day"] = months["month"].map(same_day)
    months["complete"] = months["month"].map(complete).fillna(False).astype(bool)
    measures = months["complete"] & (months["length"] > day) & (months["mtu"] > 0)
    months["share"] = (months["same_day"] / months["mtu"]).where(measures).round(4)
    usual = (months["same_day"] / months["mtu"]).where(measures).shift().expanding().median()
    newest = pd.Series(months.index == months.index[-1])
    projection = (months["same_day"] / usual.where(usual > 0)).where(measures | newest)
    months["projection"] = projection.mask(newest & months["complete"], months["mtu"]).round().astype("Int64")
    months["error"] = (months["projection"] / months["mtu"] - 1).where(measures & ~newest).astype("Float64").round(4)
    return months[["month", "complete", "same_day", "mtu", "share", "projection", "error"]]


def _number(value: Any) -> int | None:
    return None if pd.isna(value) else int(value)
