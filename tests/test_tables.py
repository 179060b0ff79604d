"""What a notebook shows of an answer: all of it, readable, with nothing acted on and nobody's address."""

from __future__ import annotations

import json

import cohortsync as cs
from cohortsync import tables

HOSTILE = "<img src=x onerror=alert(1)> & maria@harbor.example"


def test_numbers_are_readable_and_what_is_held_by_name_has_rows_of_its_own() -> None:
    shown = tables.Answer({"size": 3014, "reasons": {"no_email": 7, "merged": 0}, "warning": None})._repr_html_()
    assert ">3,014<" in shown and ">reasons · no_email<" in shown and ">7<" in shown
    assert "warning" not in shown


def test_a_text_from_outside_is_text_and_an_address_is_masked() -> None:
    shown = tables.table({HOSTILE: HOSTILE}, HOSTILE, [HOSTILE])
    assert "<img" not in shown and shown.count("&lt;img") == 4
    assert "maria@" not in shown and "m•••@h•••.example" in shown


def test_an_answer_is_still_a_dict_for_a_script() -> None:
    assert json.loads(json.dumps(tables.Answer(a={"b": 1}))) == {"a": {"b": 1}}


def test_audience_plan_proof_and_month_show_themselves(connected: cs.Workspace) -> None:
    summary = connected.audience_summary("power-users")
    plan = connected.plan("power-users", connected.chosen_audience())
    receipt = connected.apply(plan)
    found = connected.month_to_date()
    assert f">{summary['exportable']}<" in summary._repr_html_()
    assert f">{plan.counts['add_new']}<" in plan._repr_html_() and "LOCAL REHEARSAL" in plan._repr_html_()
    assert f">{receipt['accounted']}<" in receipt._repr_html_()
    assert found and found.month in found._repr_html_() and "<table" in found._repr_html_()
