"""Event classes as data: an edit applies at once, survives, and can be taken back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import cohortsync as cs
from cohortsync import classes, config, mtu, warehouse
from cohortsync.errors import BadInput, ConfigurationError

DAY = 1788600000


def event(name: str, user: str, **more: Any) -> str:
    return json.dumps({"event": name, "properties": {"time": DAY, "$user_id": user, "$insert_id": user, **more}})


def loaded(home: Path, *lines: str, project_id: str | None = None) -> Path:
    workspace = cs.Workspace.at(home, project_id)
    workspace.init("UTC", "simplified")
    (home / "events.ndjson").write_text("\n".join(lines))
    workspace.load([home / "events.ndjson"])
    return home


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A workspace in which ann bought, and Braze wrote to bob (marked) and cy (not marked)."""
    (tmp_path / "home").mkdir()
    return loaded(tmp_path / "home", event("Buy", "ann"), event("Email Send", "bob", **{"$partner_id": "braze"}),
                  event("Email Send", "cy"))


def users(home: Path, **options: Any) -> int:
    with warehouse.reading(home) as con:
        return int(mtu.monthly(con, "local", **options)["mtu"].iloc[0])


def listed(home: Path) -> dict[str, str]:
    with warehouse.reading(home) as con:
        frame = classes.listed(con)
    return dict(zip(frame["event"], frame["class"], strict=True))


def on(home: Path) -> list[str]:
    with warehouse.reading(home) as con:
        return classes.partners(con).query("on")["partner"].tolist()


def test_partners_are_off_until_switched_on(home: Path) -> None:
    assert on(home) == []
    assert users(home) == 3


def test_a_partners_events_are_exempt_with_name_and_mark_or_by_name_alone_when_asked(home: Path) -> None:
    classes.set_partner(home, "braze", on=True)
    assert on(home) == ["braze"]
    assert users(home) == 2
    assert users(home, partners_by_name=True) == 1


def test_exempt_partner_events_are_in_no_reading(home: Path) -> None:
    classes.set_partner(home, "braze", on=True)
    with warehouse.reading(home) as con:
        assert mtu.monthly(con, "local")[[*mtu.READINGS]].values.tolist() == [[2, 2, 2]]


def test_a_partner_switched_off_leaves_nothing_behind(home: Path) -> None:
    before = listed(home)
    classes.set_partner(home, "braze", on=True)
    classes.set_partner(home, "moengage", on=True)
    classes.set_partner(home, "braze", on=False)
    assert on(home) == ["moengage"]
    classes.set_partner(home, "moengage", on=False)
    assert listed(home) == before
    assert users(home) == 3


@pytest.mark.parametrize(("to", "expected"), [("system", 2), ("delivery", 2), ("engagement", 2), ("partner", 3),
                                              ("qualifying", 3)])
def test_an_event_set_by_hand_counts_as_what_it_was_set_to_at_once(home: Path, to: str, expected: int) -> None:
    classes.set_class(home, "Buy", to)
    assert listed(home)["Buy"] == to
    assert users(home) == expected


def test_what_was_set_by_hand_is_stronger_than_a_partners_list(home: Path) -> None:
    classes.set_class(home, "Email Send", "qualifying")
    classes.set_partner(home, "braze", on=True)
    assert users(home) == 3
    classes.set_partner(home, "braze", on=False)
    assert listed(home)["Email Send"] == "qualifying"


def test_what_the_billing_page_excludes_stays_excluded_when_a_partner_lists_it_too(home: Path) -> None:
    classes.set_partner(home, "onesignal", on=True)
    assert listed(home)["$campaign_delivery"] == "system"
    assert listed(home)["$app_open"] == "partner"


def test_reset_takes_every_edit_back(home: Path) -> None:
    before = listed(home)
    classes.set_class(home, "Buy", "system")
    classes.set_class(home, "$opt_in", "qualifying")
    classes.set_partner(home, "braze", on=True)
    classes.reset(home)
    assert listed(home) == before
    assert users(home) == 3


def test_an_edit_is_a_version_of_the_months_it_changes(home: Path) -> None:
    classes.set_class(home, "Email Send", "system")
    with warehouse.reading(home) as con:
        assert mtu.history(con, "local")["mtu"].tolist() == [3, 1]
        loaded_at = con.execute("select loaded_at from loads").fetchall()[0][0]
        assert mtu.monthly(con, "local", as_of=loaded_at)["mtu"].tolist() == [3]


def test_an_edit_applies_to_every_project(home: Path) -> None:
    loaded(home, event("Email Send", "dee"), project_id="q")
    classes.set_class(home, "Email Send", "system")
    with warehouse.reading(home) as con:
        assert mtu.organisation(con)["mtu"].tolist() == [1]
        assert mtu.monthly(con, "q")["mtu"].tolist() == [0]


def test_a_hostile_event_name_is_a_name_like_any_other(home: Path) -> None:
    name = "x'); drop table event_classes; --"
    classes.set_class(home, name, "system")
    assert listed(home)[name] == "system"


def test_what_there_is_not_is_said_with_what_there_is(home: Path) -> None:
    with pytest.raises(BadInput, match="'exempt'.*qualifying, system"):
        classes.set_class(home, "Buy", "exempt")
    with pytest.raises(BadInput, match="'Braze'.*airship, braze"):
        classes.set_partner(home, "Braze", on=True)
    with pytest.raises(BadInput, match="name"):
        classes.set_class(home, " ", "system")


def test_classes_cannot_be_edited_before_there_is_a_project(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="init"):
        classes.set_class(config.open_home(tmp_path / "empty"), "Buy", "system")


def test_no_event_is_on_two_partners_lists_and_every_list_names_its_page() -> None:
    events = [row["event"] for row in classes.partner_events()]
    assert len(events) == len(set(events)) == 99
    assert {row["marker"] for row in classes.partner_events()} == {"$source", "$partner_id"}


def test_the_classes_that_ship_are_listed_before_anything_is_loaded(tmp_path: Path) -> None:
    found = listed(config.open_home(tmp_path / "empty"))
    assert found["$identify"] == "system"
    assert found["Mailchimp - Sent To"] == "delivery"
