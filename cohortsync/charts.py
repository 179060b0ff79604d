"""Plotly figures from what the workspace answers: no reading, no reckoning, nothing shown that was not given.

Colours are those of Okabe and Ito, told apart by colour-blind people; every bar also carries its number.
Backgrounds are transparent and the text is a grey that reads on white and on black.
Source: https://jfly.uni-koeln.de/color/
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape, unescape
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from cohortsync.audience import EXPLAINED
from cohortsync.forecast import MonthToDate

BLUE, ORANGE, GREEN, VERMILION, PURPLE, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#7F7F7F"
DASHES = ("dot", "dash", "dashdot", "longdash", "solid")
SERIES = (BLUE, ORANGE, GREEN, VERMILION, PURPLE)
INK, GRID = "#767676", "rgba(127, 127, 127, 0.25)"
WORDS = {
    "add_new": ("new to the audience: added to it", BLUE),
    "add_existing": ("in the audience: put on the segment", GREEN),
    "keep": ("on the segment already: kept", GREY),
    "refuse": ("refused: never added", ORANGE),
    "remove": ("not in the cohort any more: off the segment", VERMILION),
}
STATUSES = {
    "not in it": ("not in the audience: would be new", BLUE), "subscribed": ("subscribed: mailable", GREEN),
    "pending": ("pending: asked, no answer yet", GREY), "transactional": ("transactional: no campaigns", GREY),
    "unsubscribed": ("unsubscribed: refused", ORANGE), "cleaned": ("cleaned, their mail bounces: refused", ORANGE),
    "archived": ("archived: refused", ORANGE),
}
READINGS = {
    "mtu": ("MTU (Mailchimp events exempt)", BLUE),
    "mtu_without_exemption": ("without the exemption", ORANGE),
    "mtu_engagement_counted": ("opens and clicks counted", GREEN),
}


def plain(text: object, limit: int = 48) -> str:
    """Text from outside as a label: no markup, no formula, not longer than ``limit``.

    Plotly reads a subset of HTML in labels, and TeX between dollar signs where a page has MathJax.
    """
    line = " ".join(str(text).split())
    short = line if len(line) <= limit else line[:limit - 1] + "…"
    return escape(short, quote=False).replace("$", "&#36;")


def told(figure: go.Figure) -> str:
    """What a figure shows, in a sentence for those who cannot see it: its title, then each name with its number."""
    title = figure.layout.title.text or ""
    series = [_series(trace, figure.layout.yaxis.ticktext) for trace in figure.data]
    notes = [note.text for note in figure.layout.annotations if not figure.data]
    sentence = ". ".join(filter(None, [title, *series, *notes])).replace("<br>", " ")
    return unescape(re.sub(r"<[^>]+>", "", sentence))


def _series(trace: Any, names: Sequence[str] | None) -> str:
    """One series in words; of a line, where it begins and ends."""
    labels = trace.text if trace.text is not None else [f"{value:,}" for value in trace.y]
    places = names if getattr(trace, "orientation", None) == "h" else trace.x
    pairs = [f"{place}: {label}" for place, label in zip(places or [], labels, strict=False)]
    if trace.type == "scatter" and trace.mode == "lines":
        pairs = [pairs[0], pairs[-1]]
    return f"{trace.name}: {', '.join(pairs)}" if trace.name else ", ".join(pairs)


def reasons(summary: Mapping[str, Any]) -> go.Figure:
    """Who of a cohort is exportable, and how many are not for each reason. Takes ``audience_summary``."""
    if not summary.get("size"):
        return _empty("Nobody is in this cohort.")
    counts = summary["reasons"]
    rows = [("in the cohort", summary["size"], GREY), (EXPLAINED["exportable"], summary["exportable"], BLUE)]
    rows += [(EXPLAINED.get(reason, reason), count, ORANGE) for reason, count in counts.items()
             if reason != "exportable"]
    title = f"{plain(summary['cohort'], 32)}: {summary['exportable']:,} of {summary['size']:,} can be exported"
    return _bars(rows, title, "ids of the cohort", of=summary["size"])


def cohort_sizes(frame: pd.DataFrame) -> go.Figure:
    """Each cohort's size, split into exportable and not. Takes ``cohorts()``."""
    if frame.empty:
        return _empty("No cohort is loaded yet.")
    frame = frame.sort_values("size", ascending=False)
    names = [plain(name) for name in frame["cohort"]]
    exportable, rest = frame["exportable"].tolist(), (frame["size"] - frame["exportable"]).tolist()
    figure = go.Figure([_bar(names, exportable, "exportable", BLUE), _bar(names, rest, "not exportable", ORANGE)])
    figure.update_traces(textposition="auto")
    figure.update_layout(barmode="stack")
    return _rows(figure, names, "Cohorts and who of them can be exported", "ids of the cohort")


def cohort_history(frame: pd.DataFrame) -> go.Figure:
    """A cohort's size at each snapshot, who entered above and who left below. Takes ``cohort_history(cohort)``."""
    if frame.empty:
        return _empty("No snapshot of this cohort is kept.")
    figure = go.Figure()
    for column, sign, colour in (("entered", 1, GREEN), ("left", -1, VERMILION)):
        figure.add_bar(x=frame["loaded_at"].tolist(), y=(sign * frame[column]).tolist(), name=column,
                       marker_color=colour, text=_numbers(frame[column]), hovertemplate="%{x}: %{text}")
    figure.add_scatter(x=frame["loaded_at"].tolist(), y=frame["size"].tolist(), name="size", mode="lines+markers",
                       line={"color": BLUE}, text=_numbers(frame["size"]), hovertemplate="%{x}: %{text}")
    figure.update_layout(barmode="relative")
    figure.update_xaxes(title="loaded at (UTC)", showgrid=False, automargin=True)
    figure.update_yaxes(title="ids of the cohort", gridcolor=GRID, zerolinecolor=GRID, tickformat=",d", automargin=True)
    return _dress(figure, f"{plain(frame['cohort'].iloc[0], 32)}: size over time", 420, legend=True)


def cohort_overlap(frame: pd.DataFrame) -> go.Figure:
    """Of each cohort (row), the share of its users who are in each other one (column). Takes ``cohort_overlap()``."""
    if frame.empty:
        return _empty("An overlap needs two cohorts.")
    names = list(dict.fromkeys([*frame["cohort"], *frame["other"]]))
    cells = {(name, name): (1.0, "") for name in names}
    for row in frame.to_dict("records"):
        for pair, share in (((row["cohort"], row["other"]), "share"), ((row["other"], row["cohort"]), "other_share")):
            nobody = row[share] != row[share]
            cells[pair] = row[share], "" if nobody else f"{row[share]:.1%} ({row['users_in_both']:,})"
    table = [[cells[one, other] for other in names] for one in names]
    figure = go.Figure(go.Heatmap(
        z=[[share for share, _ in line] for line in table], text=[[label for _, label in line] for line in table],
        texttemplate="%{text}", hoverinfo="text", zmin=0, zmax=1, showscale=False, xgap=2, ygap=2,
        colorscale=[[0, "rgba(0, 114, 178, 0.05)"], [1, BLUE]]))
    places = {"tickvals": list(range(len(names))), "ticktext": [plain(name, 32) for name in names], "showgrid": False,
              "zeroline": False, "automargin": True}
    figure.update_xaxes(**places, side="bottom").update_yaxes(**places, autorange="reversed")
    return _dress(figure, "Of the users of a row's cohort, how many are in the column's", 180 + 46 * len(names))


def mtu(frame: pd.DataFrame) -> go.Figure:
    """Monthly tracked users in the three readings, the guardrail beside them. Takes ``mtu()``."""
    if frame.empty:
        return _empty("No events are loaded yet, so there is no month to count.")
    figure = go.Figure([_column(frame, column, name, colour) for column, (name, colour) in READINGS.items()])
    figure.add_scatter(x=_months(frame), y=frame["guardrail"].tolist(), name="guardrail",
                       mode="markers", marker={"symbol": "line-ew", "size": 60, "color": VERMILION,
                                               "line": {"width": 3, "color": VERMILION}},
                       text=_numbers(frame["guardrail"]), hovertemplate="%{x}: %{text}")
    figure.update_layout(barmode="group")
    return _columns(figure, "Monthly tracked users", "users per month")


def exempt(frame: pd.DataFrame) -> go.Figure:
    """Users a month whom the Mailchimp exemption keeps off the bill. Takes ``mtu()``."""
    if frame.empty:
        return _empty("No events are loaded yet, so nobody is exempt.")
    figure = go.Figure(_column(frame, "exempt_users", "exempt users", PURPLE))
    return _columns(figure, "Users tracked only by exempt Mailchimp events", "users per month")


def marginal(frame: pd.DataFrame, limit: int = 10) -> go.Figure:
    """Users whose only qualifying event of a month each event is: the newest month. Takes ``marginal_mtu()``."""
    newest = frame[frame["month"] == frame["month"].max()].nlargest(limit, "sole_users").query("sole_users > 0")
    if newest.empty:
        return _empty("No user has one event alone to thank for being counted.")
    rows = [(row.event, row.sole_users, BLUE) for row in newest.itertuples()]
    month, mtu = newest.iloc[0][["month", "mtu"]]
    return _bars(rows, f"{plain(month)}: users who would leave MTU without one event", "users", of=int(mtu))


def month_to_date(found: MonthToDate | None) -> go.Figure:
    """Tracked users so far, day by day, beside past months, and the projection. Takes ``month_to_date()``."""
    if found is None:
        return _empty("No events are loaded yet, so there is no month to follow.")
    figure = go.Figure()
    for place, (month, days) in enumerate(found.days.groupby("month")):
        now = month == found.month
        figure.add_scatter(x=days["day"].tolist(), y=days["users"].tolist(), name=plain(month), mode="lines",
                           line={"color": BLUE if now else GREY, "width": 4 if now else 1.5,
                                 "dash": "solid" if now else DASHES[place % len(DASHES)]},
                           hovertemplate="day %{x}: %{y:,}")
    if found.projection is not None:
        figure.add_scatter(x=[int(found.days["day"].max())], y=[found.projection], name="projection",
                           mode="markers+text", marker={"color": VERMILION, "size": 12, "symbol": "diamond"},
                           text=[f"{found.projection:,}"], textposition="bottom center")
    figure.update_xaxes(title="day of the month", gridcolor=GRID, zeroline=False)
    figure.update_yaxes(title="tracked users so far", rangemode="tozero", gridcolor=GRID, zerolinecolor=GRID,
                        tickformat=",d", automargin=True)
    return _dress(figure, f"{plain(found.month)} up to {plain(found.through)} beside past months", 420, legend=True)


def followup(frame: pd.DataFrame, cohorts: Sequence[str] = (), limit: int = 5) -> go.Figure:
    """Of those who were sent a mail, the share who opened, clicked, bounced, unsubscribed. Takes ``followup()``.

    ``cohorts``: only these, beside everyone; none: the ``limit`` cohorts who were sent most.
    """
    sent = frame[(frame["action"] == "sent") & frame["cohort"].notna()]
    chosen = list(cohorts or sent.nlargest(limit, "users")["cohort"])[:len(SERIES)]
    figure = go.Figure()
    for cohort, colour in zip([*chosen, None], [*SERIES[:len(chosen)], GREY], strict=True):
        rows = frame[frame["cohort"].isna() if cohort is None else frame["cohort"] == cohort]
        rows = rows[(rows["action"] != "sent") & rows["share_of_sent"].notna()]
        if len(rows):
            figure.add_bar(x=rows["action"].tolist(), y=rows["share_of_sent"].tolist(), marker_color=colour,
                           name=plain(cohort or "everyone", 32), textposition="outside", cliponaxis=False,
                           text=[f"{share:.1%}" for share in rows["share_of_sent"]],
                           hovertext=[f"{users:,} users" for users in rows["users"]],
                           hovertemplate="%{x}: %{text} (%{hovertext})")
    if not figure.data:
        return _empty("No mail of Mailchimp's is among the events, so there is nothing to follow up.")
    figure.update_layout(barmode="group")
    figure.update_xaxes(type="category", showgrid=False)
    figure.update_yaxes(title="share of the users who were sent a mail", rangemode="tozero", gridcolor=GRID,
                        zerolinecolor=GRID, tickformat=".0%", automargin=True)
    return _dress(figure, "What the mails led to", 420, legend=True)


def funnel(summary: Mapping[str, Any], counts: Mapping[str, int]) -> go.Figure:
    """From the cohort to the people on its segment. Takes ``audience_summary`` and ``Plan.counts``."""
    if not (size := summary.get("size", 0)):
        return _empty("Nobody is in this cohort.")
    there = counts["add_existing"] + counts["keep"]
    rows = [("in the cohort", size, GREY), ("can be exported", summary["exportable"], GREEN),
            ("not refused: on the segment", counts["add_new"] + there, BLUE),
            ("of these new to the audience", counts["add_new"], BLUE), ("of these in it already", there, BLUE)]
    return _bars(rows, f"{plain(summary['cohort'], 32)}: from the cohort to Mailchimp", "ids of the cohort", of=size)


def standing(frame: pd.DataFrame) -> go.Figure:
    """People by status in a Mailchimp audience. Takes ``standing(cohort)`` of one audience, or ``member_counts()``."""
    if frame.empty:
        return _empty("Nobody to place: the audience was not read yet, or no one can be exported.")
    known = [STATUSES.get(status, (status, GREY)) for status in frame["status"].astype(str)]
    rows = [(name, int(people), colour) for (name, colour), people in zip(known, frame["people"], strict=True)]
    return _bars(rows, "How they stand in the audience", "people", of=int(frame["people"].sum()))


def plan(counts: Mapping[str, int]) -> go.Figure:
    """How many people a plan adds, keeps, refuses and removes. Takes ``Plan.counts``."""
    if not sum(counts.values()):
        return _empty("The plan concerns nobody.")
    rows = [(name, counts.get(word, 0), colour) for word, (name, colour) in WORDS.items()]
    return _bars(rows, "What the sync does to people", "people")


def proof(receipt: Mapping[str, Any]) -> go.Figure:
    """What became of every id of the cohort, the unproven last. Takes a run's receipt."""
    size = receipt.get("size", 0)
    if not size:
        return _empty("Nobody is in this cohort.")
    planned = receipt["status"] == "planned"
    would = "would be " if planned else ""
    rows = [(f"{would}added", receipt["added"], BLUE), (f"{would}kept", receipt["kept"], GREEN),
            (f"{would}refused", receipt["refused"], ORANGE)]
    rows += [(f"not exported: {EXPLAINED.get(reason, reason)}", count, GREY)
             for reason, count in receipt["excluded"].items()]
    if not planned:
        rows.append(("unproven", size - sum(count for _, count, _ in rows), VERMILION))
    return _bars(rows, _proof_title(receipt), "ids of the cohort", of=size)


def _proof_title(receipt: Mapping[str, Any]) -> str:
    cohort, size = plain(receipt["cohort"], 32), receipt["size"]
    if receipt["status"] == "planned":
        return f"{cohort}: planned for {size:,} ids, nothing was written"
    return f"{cohort}: {receipt['accounted']:,} of {size:,} ids accounted for ({plain(receipt['status'])})"


def _bars(rows: Sequence[tuple[str, int, str]], title: str, unit: str, of: int = 0) -> go.Figure:
    """One horizontal bar per (name, count, colour), in the order given; shares where ``of`` is the whole."""
    names, counts, colours = [plain(name, 72) for name, _, _ in rows], [n for _, n, _ in rows], [c for *_, c in rows]
    labels = [f"{n:,} ({n / of:.1%})" if of else f"{n:,}" for n in counts]
    bar = _bar(names, counts, unit, colours, labels).update(textposition="outside")
    return _rows(go.Figure(bar), names, title, unit, legend=False)


def _bar(names: list[str], counts: list[int], series: str, colour: str | list[str],
         labels: list[str] | None = None) -> go.Bar:
    labels = labels or _numbers(counts)
    return go.Bar(x=counts, y=list(range(len(names))), name=series, orientation="h", marker_color=colour,
                  text=labels, hovertext=[f"{name}: {n}" for name, n in zip(names, labels, strict=True)],
                  hoverinfo="text", cliponaxis=False)


def _rows(figure: go.Figure, names: list[str], title: str, unit: str, legend: bool = True) -> go.Figure:
    """Horizontal bars at positions 0, 1, …: names as ticks, so that equal names stay two bars."""
    figure.update_yaxes(tickvals=list(range(len(names))), ticktext=names, autorange="reversed", title="",
                        showgrid=False, zeroline=False, automargin=True, ticklabelstandoff=6)
    figure.update_xaxes(title=unit, rangemode="tozero", gridcolor=GRID, zerolinecolor=GRID, tickformat=",d",
                        automargin=True)
    return _dress(figure, title, 150 + 34 * len(names), legend)


def _column(frame: pd.DataFrame, column: str, name: str, colour: str) -> go.Bar:
    """One bar a month; a month whose events do not reach from its first to its last day is hatched."""
    complete = frame["complete"].tolist()
    return go.Bar(x=_months(frame), y=frame[column].tolist(), name=name, text=_numbers(frame[column]),
                  textposition="outside", cliponaxis=False, hovertemplate="%{x}: %{text}",
                  marker={"color": colour, "opacity": [1.0 if whole else 0.55 for whole in complete],
                          "pattern": {"shape": ["" if whole else "/" for whole in complete]}})


def _months(frame: pd.DataFrame) -> list[str]:
    return [plain(month) + ("" if whole else "<br><b>incomplete</b>")
            for month, whole in zip(frame["month"], frame["complete"], strict=True)]


def _columns(figure: go.Figure, title: str, unit: str) -> go.Figure:
    figure.update_xaxes(type="category", title="month of the project's time zone", showgrid=False)
    figure.update_yaxes(title=unit, rangemode="tozero", gridcolor=GRID, zerolinecolor=GRID, tickformat=",d",
                        automargin=True)
    return _dress(figure, title, 420, legend=len(figure.data) > 1)


def _numbers(counts: Sequence[int] | pd.Series) -> list[str]:
    return [f"{count:,}" for count in counts]


def _dress(figure: go.Figure, title: str, height: int, legend: bool = False) -> go.Figure:
    figure.update_layout(title={"text": title, "x": 0, "pad": {"l": 10}, "font": {"size": 15}}, height=height,
                         legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "traceorder": "normal"},
                         showlegend=legend, font={"color": INK}, paper_bgcolor="rgba(0,0,0,0)",
                         plot_bgcolor="rgba(0,0,0,0)",
                         margin={"l": 10, "r": 70, "t": 90 if legend else 60, "b": 10})
    return figure


def _empty(message: str) -> go.Figure:
    """A figure that says why there is nothing to draw."""
    figure = go.Figure()
    figure.add_annotation(text=message, xref="paper", yref="paper", x=0.5, y=0.5, showarrow=False,
                          font={"size": 16, "color": INK})
    figure.update_xaxes(visible=False).update_yaxes(visible=False)
    return _dress(figure, "", 200)
