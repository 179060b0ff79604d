"""Figures carry the numbers they were given, and show names from outside as plain text."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
import pytest

from cohortsync import charts

HOSTILE = '<b>x</b><a href="javascript:alert(1)">$\\sqrt{2}$ %{x}</a>'
SUMMARY = {"cohort": "power-users", "size": 10, "exportable": 6,
           "reasons": {"exportable": 6, "merged": 1, "no_profile": 0, "no_email": 3}}
RECEIPT = {"cohort": "power-users", "status": "incomplete", "size": 10, "added": 3, "kept": 1, "removed": 5,
           "refused": 1, "accounted": 8, "excluded": {"no_email": 3}}
MONTHS = pd.DataFrame({"month": ["2026-09", "2026-10"], "mtu": [10, 20], "mtu_without_exemption": [14, 25],
                       "mtu_engagement_counted": [12, 22], "exempt_users": [4, 5], "guardrail": [3, 1200],
                       "complete": [True, False]})


def bars(figure: go.Figure) -> dict[str, int]:
    """Tick label → length of a figure's only row of horizontal bars."""
    return dict(zip(figure.layout.yaxis.ticktext, figure.data[0].x, strict=True))


def test_reasons_go_from_the_cohorts_size_through_exportable_to_each_reason() -> None:
    figure = charts.reasons(SUMMARY)
    assert list(figure.data[0].x) == [10, 6, 1, 0, 3]
    assert bars(figure)["the profile has no &#36;email"] == 3
    assert figure.data[0].text[1] == "6 (60.0%)"


def test_a_figure_is_told_in_words_to_those_who_cannot_see_it() -> None:
    assert charts.told(charts.reasons(SUMMARY)).startswith(
        "power-users: 6 of 10 can be exported. ids of the cohort: in the cohort: 10 (100.0%), can be exported: 6 (60")
    told = charts.told(charts.mtu(MONTHS))
    assert "without the exemption: 2026-09: 14, 2026-10 incomplete: 25" in told
    assert "guardrail: 2026-09: 3" in told
    assert charts.told(charts.mtu(MONTHS.head(0))) == "No events are loaded yet, so there is no month to count."


def test_the_funnel_goes_from_the_cohort_to_those_on_the_segment() -> None:
    counts = {"add_new": 2, "add_existing": 1, "keep": 1, "refuse": 2, "remove": 7}
    assert list(charts.funnel(SUMMARY, counts).data[0].x) == [10, 6, 4, 2, 2]


def test_cohort_sizes_are_split_into_exportable_and_not_the_largest_first() -> None:
    figure = charts.cohort_sizes(pd.DataFrame({"cohort": ["a", "b"], "size": [5, 9], "exportable": [5, 2]}))
    assert list(figure.layout.yaxis.ticktext) == ["b", "a"]
    assert [list(trace.x) for trace in figure.data] == [[2, 5], [7, 0]]


def test_two_cohorts_whose_names_shorten_to_the_same_label_stay_two_bars() -> None:
    names = ["n" * 80 + "1", "n" * 80 + "2"]
    figure = charts.cohort_sizes(pd.DataFrame({"cohort": names, "size": [5, 9], "exportable": [5, 2]}))
    assert len(set(figure.data[0].y)) == 2


def test_mtu_shows_three_readings_and_the_guardrail() -> None:
    shown = {trace.name: list(trace.y) for trace in charts.mtu(MONTHS).data}
    assert list(shown.values()) == [[10, 20], [14, 25], [12, 22], [3, 1200]]
    assert charts.mtu(MONTHS).data[1].text == ("14", "25")


def test_an_incomplete_month_is_named_and_hatched() -> None:
    bar = charts.mtu(MONTHS).data[0]
    assert "incomplete" in bar.x[1]
    assert "incomplete" not in bar.x[0]
    assert bar.marker.pattern.shape == ("", "/")


def test_exempt_users_are_one_bar_a_month() -> None:
    assert list(charts.exempt(MONTHS).data[0].y) == [4, 5]


def test_a_plan_shows_every_word_even_where_nobody_is_concerned() -> None:
    assert list(charts.plan({"add_new": 2, "refuse": 1}).data[0].x) == [2, 0, 0, 1, 0]


def test_the_proof_ends_with_who_is_unproven_and_adds_up_to_the_size() -> None:
    figure = charts.proof(RECEIPT)
    assert list(bars(figure))[-1] == "unproven"
    assert list(figure.data[0].x) == [3, 1, 1, 3, 2]
    assert "8 of 10" in figure.layout.title.text


def test_a_dry_run_claims_no_proof() -> None:
    figure = charts.proof({**RECEIPT, "status": "planned", "accounted": 0})
    assert "nothing was written" in figure.layout.title.text
    assert "unproven" not in bars(figure)


@pytest.mark.parametrize("figure", [
    charts.reasons({**SUMMARY, "cohort": HOSTILE}), charts.proof({**RECEIPT, "cohort": HOSTILE}),
    charts.cohort_sizes(pd.DataFrame({"cohort": [HOSTILE], "size": [5], "exportable": [5]}))])
def test_a_hostile_cohort_name_is_shown_as_text(figure: go.Figure) -> None:
    shown = figure.to_json()
    assert "lt;b" in shown
    for markup in ("<a", "<b>x", "$"):
        assert markup not in shown.replace("&#36;", "").replace("\\u003c", "<")


@pytest.mark.parametrize("figure", [
    charts.reasons({"size": 0}), charts.cohort_sizes(pd.DataFrame({"cohort": []})), charts.mtu(MONTHS[:0]),
    charts.exempt(MONTHS[:0]), charts.plan({}), charts.proof({"size": 0})])
def test_nothing_to_draw_is_said(figure: go.Figure) -> None:
    assert not figure.data
    assert figure.layout.annotations[0].text


def test_figures_bring_no_background_of_their_own() -> None:
    layout = charts.mtu(MONTHS).layout
    assert layout.paper_bgcolor == layout.plot_bgcolor == "rgba(0,0,0,0)"
