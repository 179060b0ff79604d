"""The app's pages, used as a user uses them, on real workspaces and a real local Mailchimp."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import forked
import pandas as pd
import pytest
from conftest import ADMIN, OWNER_KEY, PROJECT_ID, REVOKED_KEY, SAMPLE, VIEWER_KEY
from streamlit import config as st_config
from streamlit.testing.v1 import AppTest

import cohortsync as cs
from cohortsync import account, config, ledger, mailchimp, receipts, work
from cohortsync.pages import frame, login, shown
from cohortsync.plan import Plan
from cohortsync.words import why

ROOT = Path(__file__).parent.parent
OTHER_PAGES = ("cohorts", "export", "syncs", "audience", "mtu", "runs")
Visit = Callable[..., AppTest]
WORDS_ON_A_PAGE = ("title", "header", "caption", "markdown", "info", "warning", "error", "success")


@pytest.fixture
def visit(monkeypatch: pytest.MonkeyPatch) -> Visit:
    """Open the app on a workspace, at one of its pages."""
    def open_at(page: str, home: Path, **query: str) -> AppTest:
        monkeypatch.setenv("COHORTSYNC_HOME", str(home))
        app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60).run()
        if page != "connect":
            app.switch_page(f"cohortsync/pages/{page}.py")
        app.query_params.update(query)
        return app.run()
    return open_at


def read(app: AppTest) -> str:
    """Everything on the page that is words, as it reads."""
    assert not app.exception, app.exception
    return "\n".join(str(e.value) for kind in WORDS_ON_A_PAGE for e in getattr(app, kind)).replace("\\", "")


def metrics(app: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in app.metric}


def press(app: AppTest, label: str) -> AppTest:
    return next(button for button in app.button if button.label == label).click().run()


def ended(app: AppTest, home: Path) -> AppTest:
    """The page after what it started has ended."""
    deadline = time.monotonic() + 120
    while work.under_way(home):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return app.run()


def field(fields: Any, label: str) -> Any:
    return next(f for f in fields if f.label.startswith(label))


def planned(app: AppTest, cohort: str = "power-users") -> AppTest:
    field(app.selectbox, "Cohort").set_value(cohort).run()
    return ended(press(app, "Plan"), Path(os.environ["COHORTSYNC_HOME"]))


def synced(app: AppTest) -> AppTest:
    return ended(press(app, "Sync now"), Path(os.environ["COHORTSYNC_HOME"]))


def change_kept_plan(home: Path, change: Callable[[Plan], Plan]) -> Plan:
    """Put a changed plan in the place of the only one that is kept."""
    plan = receipts.load_plan(home, next((home / "runs").iterdir()).name)
    receipts.keep_plan(home, change(plan))
    return plan


def test_what_a_page_started_shows_to_whoever_opens_the_app_next(tmp_path: Path, visit: Visit) -> None:
    cs.open(tmp_path).init("UTC", "simplified")
    app = visit("connect", tmp_path)
    field(app.file_uploader, "Profiles").set_value([("people.ndjson", b'{"$distinct_id": "a", "$properties": {}}\n',
                                                     "application/json")]).run()
    press(app, "Load")
    ended(app, tmp_path)
    other = visit("connect", tmp_path)
    assert "Loaded 1 files" in read(other)
    assert "Loaded" not in read(press(other, "Dismiss"))
    assert not list((tmp_path / "work").glob("*/files/*/*"))


def test_the_app_is_refused_to_a_network_where_nobody_has_to_log_in(
        workspace: cs.Workspace, visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    before = st_config.get_option("server.address")
    st_config.set_option("server.address", "0.0.0.0")
    try:
        app = visit("connect", workspace.home)
    finally:
        st_config.set_option("server.address", before)
    assert "Refused" in app.error[0].value
    assert not app.button


def test_nobody_sees_anything_before_logging_in(workspace: cs.Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COHORTSYNC_HOME", str(workspace.home))
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    app.secrets["auth"] = {"redirect_uri": "http://127.0.0.1/oauth2callback"}
    app.run()
    assert [button.label for button in app.button] == ["Log in"]
    assert "power-users" not in read(app)


HASH = hashlib.sha256(b"ann@harbor.example").hexdigest()


@pytest.mark.parametrize(("claims", "role"), [
    ({"email": "Ann@Harbor.example ", "email_verified": True}, "admin"),
    ({"email": "ann@harbor.example", "email_verified": False}, "viewer"),
    ({"email": "ann@harbor.example"}, "viewer"),
    ({"email": "bob@harbor.example", "email_verified": True}, "viewer"),
    ({"groups": ["all", "growth"]}, "admin"), ({"groups": "growth"}, "admin"), ({"groups": ["all"]}, "viewer"),
    ({"email": f"x,{HASH}", "email_verified": True}, "viewer"), ({"": ""}, "viewer"), ({}, "viewer")])
def test_an_admin_is_known_by_a_verified_address_or_a_claim(claims: dict[str, Any], role: str) -> None:
    assert login.role_of(claims, f"{HASH}, groups=growth") == role


def test_without_admins_everyone_who_logs_in_is_a_viewer() -> None:
    assert login.role_of({"email": "ann@harbor.example", "email_verified": True, "": ""}, "") == "viewer"


@pytest.mark.parametrize("page", OTHER_PAGES)
def test_an_empty_workspace_says_what_to_do_next(page: str, tmp_path: Path, visit: Visit) -> None:
    app = visit(page, tmp_path)
    assert "Not connected" in read(app)
    assert app.info[1].value.startswith(("Nothing to show yet", "To export, connect", "No run yet", "No sync stands"))
    assert len(app.page_link) == 1


def test_the_bill_needs_events_and_no_cohort(tmp_path: Path, visit: Visit) -> None:
    workspace = cs.open(tmp_path)
    workspace.init("America/New_York", "simplified")
    workspace.load(cohorts={"trial-ending": next(SAMPLE.glob("cohort-trial-ending*"))})
    assert "no events are loaded" in visit("mtu", tmp_path).info[-1].value
    workspace.load(sorted(SAMPLE.glob("events-*"))[:1])
    assert "Billable" in read(visit("mtu", tmp_path))


def test_a_new_user_says_what_the_project_is_and_loads_files(tmp_path: Path, visit: Visit) -> None:
    app = visit("connect", tmp_path)
    assert "Start here" in read(app)
    field(app.radio, "How to begin").set_value("files").run()
    field(app.selectbox, "Time zone").set_value("America/New_York")
    press(app, "Save the project")
    assert "**Time zone** America/New_York" in read(app)
    cohort = SAMPLE / "cohort-trial-ending.csv"
    field(app.file_uploader, "Profiles").set_value([("profiles.ndjson.gz", (SAMPLE / "profiles.ndjson.gz").read_bytes(),
                                                     "application/gzip")])
    field(app.file_uploader, "Cohorts").set_value([(cohort.name, cohort.read_bytes(), "text/csv")]).run()
    assert field(app.text_input, "Name of the cohort").value == "trial-ending"
    assert "It goes on when you look elsewhere" in read(press(app, "Load"))
    assert "Loaded 2 files" in read(ended(app, tmp_path))
    assert cs.open(tmp_path).cohorts()["cohort"].tolist() == ["trial-ending"]


def test_a_file_that_is_not_what_it_says_is_one_clear_message(workspace: cs.Workspace, visit: Visit) -> None:
    app = visit("connect", workspace.home)
    field(app.file_uploader, "Events").set_value([("notes.gz", b"\x1f\x8bnot really", "application/gzip")]).run()
    app = ended(press(app, "Load"), workspace.home)
    assert app.error[0].value.replace("\\", "").startswith("**Loading files:** notes.gz ")
    assert metrics(app)["Cohorts"] == "3"


def test_cohorts_shows_who_is_exportable_and_why_the_rest_is_not(workspace: cs.Workspace, visit: Visit) -> None:
    app = visit("cohorts", workspace.home)
    field(app.selectbox, "Cohort").set_value("power-users").run()
    summary = workspace.audience_summary("power-users")
    assert metrics(app)["In the cohort"] == f"{summary['size']:,}"
    assert metrics(app)["Exportable"] == f"{summary['exportable']:,}"
    assert summary["warning"] in read(app)
    assert app.dataframe[1].value["Ids"].sum() == summary["size"]


def test_people_can_be_narrowed_to_a_reason(workspace: cs.Workspace, visit: Visit) -> None:
    app = visit("cohorts", workspace.home)
    app.multiselect[0].set_value(["no_profile"]).run()
    assert set(app.dataframe[0].value["Why"]) == {"anonymous: no profile with a property"}


def test_whole_addresses_are_shown_only_when_asked_for(workspace: cs.Workspace, visit: Visit) -> None:
    app = visit("cohorts", workspace.home, cohort="power-users")
    assert not app.dataframe[0].value["E-mail"].str.contains("@harbor-mail.example").any()
    field(app.toggle, "Show whole addresses").set_value(True).run()
    assert app.dataframe[0].value["E-mail"].str.contains("@harbor-mail.example").any()
    assert "addresses whole" in read(app)


def test_cohorts_shows_how_its_people_stand_in_the_audience_as_last_read(
        connected: cs.Workspace, visit: Visit) -> None:
    audience = connected.chosen_audience()
    assert "as last read" not in read(visit("cohorts", connected.home))
    connected.plan("power-users", audience)
    assert f"In the audience {audience}, as last read" in read(visit("cohorts", connected.home))


def test_the_audience_is_shown_as_it_was_last_read(connected: cs.Workspace, visit: Visit) -> None:
    assert "A plan reads it" in read(visit("audience", connected.home))
    audience = connected.chosen_audience()
    connected.plan("power-users", audience)
    app = visit("audience", connected.home)
    counts = connected.member_counts(audience).set_index("status")["people"]
    assert metrics(app) == {"Contacts": f"{counts.sum():,}", "Mailable": f"{counts['subscribed']:,}"}
    field(app.selectbox, "Status").set_value("cleaned").run()
    assert set(app.dataframe[1].value["Status"]) == {"cleaned"}


def test_a_link_can_name_the_cohort(workspace: cs.Workspace, visit: Visit) -> None:
    app = visit("cohorts", workspace.home, cohort="trial-ending")
    assert field(app.selectbox, "Cohort").value == "trial-ending"


def test_no_page_shows_a_whole_address(connected: cs.Workspace, visit: Visit) -> None:
    with connected.connect() as con:
        known = {address.lower() for (address,) in con.execute("select address from addresses").fetchall()
                 if "@" in address or " at " in address}
    export = synced(planned(visit("export", connected.home)))
    pages = [visit("cohorts", connected.home), planned(visit("export", connected.home), "trial-ending"), export,
             visit("runs", connected.home)]
    shown = " ".join(read(app) + " ".join(d.value.to_csv() for d in app.dataframe) for app in pages).lower()
    assert len(known) > 1000
    assert not [address for address in known if address in shown]


def test_mtu_shows_the_readings_and_says_which_month_is_incomplete(workspace: cs.Workspace, visit: Visit) -> None:
    app = visit("mtu", workspace.home)
    table = app.dataframe[0].value
    assert table["MTU"].tolist() == workspace.mtu()["mtu"].tolist()
    assert "Incomplete: 2026-11" in read(app)


def test_mtu_follows_the_month_day_by_day_and_says_where_it_may_end(workspace: cs.Workspace, visit: Visit) -> None:
    found = workspace.month_to_date()
    assert found and found.sentence() in read(visit("mtu", workspace.home, view="days"))


def test_mtu_lists_the_events_that_the_bill_hangs_on(workspace: cs.Workspace, visit: Visit) -> None:
    app = visit("mtu", workspace.home, view="events", month="2026-10")
    table = app.dataframe[0].value
    assert table["Only event of"].tolist() == workspace.marginal_mtu("2026-10")["sole_users"].tolist()


def test_the_marker_option_counts_more_people(workspace: cs.Workspace, visit: Visit) -> None:
    app = visit("mtu", workspace.home)
    before = app.dataframe[0].value["MTU"].sum()
    app.toggle[0].set_value(True).run()
    assert app.dataframe[0].value["MTU"].sum() == workspace.mtu(marked_only=True)["mtu"].sum() > before


def test_a_key_connects_and_is_forgotten_by_the_page(workspace: cs.Workspace, mailchimp: Any, visit: Visit) -> None:
    app = visit("connect", workspace.home)
    field(app.text_input, "API key").set_value(OWNER_KEY)
    field(app.text_input, "Local address").set_value(mailchimp.mailchimp_url)
    field(app.radio, "People who are new").set_value("pending")
    press(app, "Connect")
    assert "LOCAL REHEARSAL" in read(app)
    assert "new contacts become **pending**" in read(app)
    assert app.dataframe[0].value["Audience"].tolist()
    assert OWNER_KEY not in str(app.session_state)
    assert field(app.text_input, "API key").value == ""


def connect_mixpanel(app: AppTest, url: str, username: str = ADMIN.username, secret: str = ADMIN.secret) -> AppTest:
    field(app.text_input, "Mixpanel's project id").set_value(PROJECT_ID)
    field(app.text_input, "Service account's username").set_value(username)
    field(app.text_input, "Service account's secret").set_value(secret)
    field(app.text_input, "Address of a local Mixpanel").set_value(url)
    field(app.radio, "ID merge of the project").set_value("simplified")
    return press(app, "Connect the project")


def test_a_service_account_sets_the_project_up_and_its_secret_is_forgotten_by_the_page(
        mixpanel: Any, tmp_path: Path, visit: Visit) -> None:
    app = connect_mixpanel(visit("connect", tmp_path), mixpanel.mixpanel_url)
    assert "**Tally** at 127.0.0.1" in read(app)
    assert "its role: admin · last check just now" in read(app)
    assert f"**Project** {PROJECT_ID}" in read(app)
    assert "**Time zone** America/New_York" in read(app)
    assert ADMIN.secret not in str(app.session_state)
    assert field(app.text_input, "Service account's secret").value == ""
    assert "its role: admin" in read(press(app, "Check the role"))


def test_a_secret_that_is_wrong_is_refused_with_what_to_do(mixpanel: Any, tmp_path: Path, visit: Visit) -> None:
    app = connect_mixpanel(visit("connect", tmp_path), mixpanel.mixpanel_url, secret="mistaken-secret")
    assert "Check the service account's username and secret" in read(app)
    assert "mistaken-secret" not in read(app) + str(app.session_state)
    assert cs.open(tmp_path).project is None


def test_the_time_zone_is_asked_for_only_where_mixpanel_does_not_tell_it(
        mixpanel: Any, tmp_path: Path, visit: Visit) -> None:
    app = visit("connect", tmp_path)
    assert "Time zone of the project" not in [box.label for box in app.selectbox]
    app = connect_mixpanel(app, mixpanel.mixpanel_url, "unseen.0a1b2c.mp-service-account")
    assert "does not tell this account the project's time zone" in read(app)
    field(app.selectbox, "Time zone of the project").set_value("America/New_York")
    field(app.text_input, "Service account's secret").set_value(ADMIN.secret)
    press(app, "Connect the project")
    assert "its role: admin" in read(app)


def test_an_analysts_account_shows_as_paused_and_why(mixpanel: Any, tmp_path: Path, visit: Visit) -> None:
    app = connect_mixpanel(visit("connect", tmp_path), mixpanel.mixpanel_url, "analyst.0a1b2c.mp-service-account")
    assert "Paused" in read(app)
    assert "role was found to be analyst" in read(app)


def test_connecting_beside_a_project_of_files_keeps_both(
        workspace: cs.Workspace, mixpanel: Any, visit: Visit) -> None:
    app = connect_mixpanel(visit("connect", workspace.home), mixpanel.mixpanel_url)
    assert "The workspace also holds project local, which stays as it is" in read(app)
    assert field(app.selectbox, "Project").value == PROJECT_ID


def test_whoever_exports_files_to_a_real_account_vouches_once(workspace: cs.Workspace, visit: Visit) -> None:
    record_real_account(workspace.home)
    app = press(visit("connect", workspace.home), "I am an admin or owner of this project")
    assert "I am an admin" not in str([button.label for button in app.button])
    assert not workspace.needs_vouching


def test_what_new_contacts_become_has_to_be_chosen(workspace: cs.Workspace, mailchimp: Any, visit: Visit) -> None:
    app = visit("connect", workspace.home)
    field(app.text_input, "API key").set_value(OWNER_KEY)
    field(app.text_input, "Local address").set_value(mailchimp.mailchimp_url)
    press(app, "Connect")
    assert "Choose what people who are new" in read(app)
    assert workspace.connection is None


def test_a_viewers_key_is_refused_with_what_to_do(workspace: cs.Workspace, mailchimp: Any, visit: Visit) -> None:
    app = visit("connect", workspace.home)
    field(app.text_input, "API key").set_value(VIEWER_KEY)
    field(app.text_input, "Local address").set_value(mailchimp.mailchimp_url)
    field(app.radio, "People who are new").set_value("subscribed")
    press(app, "Connect")
    assert "The key belongs to a viewer" in read(app)
    assert "Not connected" in read(app)


def test_a_key_revoked_since_shows_as_needs_attention_on_every_page(connected: cs.Workspace, visit: Visit) -> None:
    config.save_key(connected.home, connected.connection["host"], REVOKED_KEY)
    assert "Needs attention" in read(press(visit("connect", connected.home), "Check again"))
    assert "Needs attention" in read(visit("mtu", connected.home))


def test_a_plan_is_shown_before_anything_is_sent(connected: cs.Workspace, visit: Visit) -> None:
    app = planned(visit("export", connected.home))
    counts = metrics(app)
    exportable = connected.audience_summary("power-users")["exportable"]
    assert sum(int(counts[w].replace(",", "")) for w in ("Add new", "Add existing", "Keep", "Refuse")) == exportable
    assert "LOCAL REHEARSAL" in read(app)
    assert connected.runs().empty


def test_sync_now_ends_in_a_proof(connected: cs.Workspace, visit: Visit) -> None:
    app = synced(planned(visit("export", connected.home)))
    run = connected.runs().iloc[0]
    assert "Proven by reading back" in read(app)
    assert metrics(app)["Added"] == f"{run['added']:,}"
    assert metrics(app)["Accounted"] == f"{run['size']:,}"


def test_each_cohort_has_a_plan_of_its_own_that_outlives_the_page(connected: cs.Workspace, visit: Visit) -> None:
    app = planned(visit("export", connected.home))
    field(app.selectbox, "Cohort").set_value("trial-ending").run()
    assert "Sync now" not in [button.label for button in app.button]
    later = visit("export", connected.home, cohort="power-users")
    assert "Sync now" in [button.label for button in later.button]
    assert "Sync now" not in [button.label for button in press(later, "Drop this plan").button]


def test_a_real_audience_is_written_only_after_its_name_was_typed(connected: cs.Workspace, visit: Visit) -> None:
    app = planned(visit("export", connected.home))
    plan = change_kept_plan(connected.home, lambda plan: dataclasses.replace(
        plan, target=dataclasses.replace(plan.target, rehearsal=False)))
    app.run()
    assert field(app.button, "Sync now").disabled
    field(app.text_input, "This changes a real audience").set_value("something else").run()
    assert field(app.button, "Sync now").disabled
    field(app.text_input, "This changes a real audience").set_value(plan.target.audience_name).run()
    assert not field(app.button, "Sync now").disabled


def test_what_a_guard_stops_takes_the_number_of_people(connected: cs.Workspace, visit: Visit) -> None:
    app = planned(visit("export", connected.home))
    plan = change_kept_plan(connected.home, lambda plan: dataclasses.replace(plan, limits=(0.0, 10)))
    app.run()
    assert f"adds {plan.additions} people" in read(app)
    assert field(app.button, "Sync now").disabled
    field(app.text_input, "Type how many people").set_value(str(plan.changes)).run()
    assert "Proven by reading back" in read(synced(app))


def test_a_sync_chosen_as_dynamic_stands_from_then_on(connected: cs.Workspace, visit: Visit) -> None:
    app = planned(visit("export", connected.home))
    field(app.radio, "How often").set_value("dynamic")
    assert "Proven by reading back" in read(synced(app))
    app = visit("syncs", connected.home)
    assert app.dataframe[0].value[["Cohort", "How often", "Status"]].values.tolist() == [
        ["power-users", "dynamic", "Active"]]
    app = press(app, "Pause")
    assert "Paused in the app." in read(app)
    assert connected.syncs()["status"].tolist() == ["Paused"]
    press(app, "Let it go on")
    app = ended(press(app, "Run now"), connected.home)
    assert connected.sync_history("power-users")["status"].tolist() == ["completed"]
    assert app.dataframe[1].value["How it ended"].tolist() == ["Completed"]
    press(app, "Delete")
    assert connected.syncs().empty


def test_a_dynamic_sync_stands_on_the_terms_of_its_plan(connected: cs.Workspace, visit: Visit) -> None:
    app = visit("export", connected.home)
    field(app.toggle, "Keep what people did").set_value(True).run()
    app = planned(app)
    field(app.toggle, "Keep what people did").set_value(False)
    field(app.radio, "How often").set_value("dynamic")
    synced(app)
    assert connected.find_sync("power-users")["terms"].count('"keep_hand_edits": true') == 1


def test_properties_go_into_merge_fields_and_a_dynamic_sync_keeps_that(connected: cs.Workspace, visit: Visit) -> None:
    app = visit("export", connected.home)
    app = field(app.toggle, "Send properties into merge fields").set_value(True).run()
    choice = field(app.multiselect, "Properties to send")
    assert {"$city", "plan"} <= set(choice.options)
    assert not {"$email", "$first_name"} & set(choice.options)
    choice.set_value(["$city", "plan"]).run()
    assert field(app.selectbox, "plan goes into").value == "PLAN"
    assert "has no merge field" in read(planned(app))
    app = field(press(app, "Dismiss").toggle, "Make ").set_value(True).run()
    app = planned(app)
    assert "$city → CITY, plan → PLAN · missing merge fields are made" in read(app)
    field(app.radio, "How often").set_value("dynamic")
    assert "Proven by reading back" in read(synced(app))
    assert connected.merge_fields(connected.chosen_audience())["PLAN"] == "text"
    assert "$city → CITY, plan → PLAN" in read(visit("syncs", connected.home))
    assert '"PLAN"' in connected.find_sync("power-users")["terms"]


def test_a_property_can_be_asked_to_say_yes(connected: cs.Workspace, visit: Visit) -> None:
    app = visit("export", connected.home)
    app = field(app.toggle, "Only people who agreed").set_value(True).run()
    assert field(app.button, "Plan").disabled
    app = planned(field(app.selectbox, "Property that must say yes").set_value("plan").run())
    assert metrics(app)["Refuse"] == metrics(app)["Exportable"]
    assert "only people whose plan says yes" in read(app)


def test_a_plan_that_waits_is_approved_where_it_is_shown(
        connected: cs.Workspace, visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COHORTSYNC_GUARD_PEOPLE", "10")
    sync = connected.create_sync("power-users", connected.chosen_audience())
    connected.run_sync(sync["sync_id"])
    app = visit("syncs", connected.home)
    assert "A guard stops this plan" in read(app)
    assert "--confirm" not in read(app)
    assert metrics(app)["Add new"] == f"{connected.waiting_plan(sync['sync_id']).counts['add_new']:,}"
    ended(press(app, "Approve this plan"), connected.home)
    assert connected.syncs()["status"].tolist() == ["Active"]
    assert connected.runs()["status"].tolist()[0] == "completed"


def test_the_plan_shows_three_numbers_and_the_bill_of_both_sides(connected: cs.Workspace, visit: Visit) -> None:
    app = planned(visit("export", connected.home))
    plan = connected.kept_plan(next((connected.home / "runs").iterdir()).name)
    shown_numbers = {name: metrics(app)[name.replace("_", " ").capitalize()] for name in plan.numbers}
    assert shown_numbers == {name: f"{number:,}" for name, number in plan.numbers.items()}
    assert metrics(app)["Mailchimp: new billed contacts"] == f"{plan.new_billed_contacts:,}"
    assert metrics(app)["Mixpanel: users added to MTU"] == "0"
    assert str(plan.mtu) in read(app)


def test_a_segment_that_others_made_is_taken_over_when_that_was_asked_for(
        connected: cs.Workspace, visit: Visit) -> None:
    audience = connected.chosen_audience()
    with account.connected(connected.home) as (_, client):
        made = client.send(mailchimp.build_segment(audience, "mixpanel_power-users"))
    app = planned(visit("export", connected.home))
    assert "already has a segment named mixpanel_power-users" in read(app)
    field(press(app, "Dismiss").toggle, "Take over a segment").set_value(True).run()
    assert "Proven by reading back" in read(synced(planned(app)))
    assert connected.segments(audience)["segment_id"].tolist() == [made["id"]]
    assert connected.runs()["added"].tolist()[0] > 0


def record_real_account(home: Path) -> None:
    ledger.record_connection(home, {
        "kind": "mailchimp", "account_id": "a1", "account_name": "Tally *Ltd*", "role": "owner", "rehearsal": 0,
        "host": "us6.api.mailchimp.com", "base_url": "https://us6.api.mailchimp.com/3.0",
        "new_contacts": "pending", "status": "Connected", "reason": ""})


def test_the_banner_names_a_real_account(workspace: cs.Workspace, visit: Visit) -> None:
    record_real_account(workspace.home)
    app = visit("cohorts", workspace.home)
    assert "REAL ACCOUNT · Tally *Ltd*" in read(app)
    assert r"Tally \*Ltd\*" in app.error[0].value


def test_more_than_was_approved_is_not_done(connected: cs.Workspace, visit: Visit) -> None:
    app = planned(visit("export", connected.home))
    change_kept_plan(connected.home, lambda plan: dataclasses.replace(plan, people=plan.people.head(10)))
    assert "more changes became due" in read(synced(app))
    assert connected.runs()["status"].tolist() != ["completed"]


def test_a_mailchimp_that_is_down_is_said_in_words(workspace: cs.Workspace, tmp_path: Path, visit: Visit) -> None:
    with forked.sandbox(tmp_path / "mailchimp", seed=SAMPLE / "mailchimp_members.ndjson") as running:
        workspace.connect_mailchimp(OWNER_KEY, "subscribed", running.mailchimp_url)
        workspace.create_sync("power-users", workspace.chosen_audience())
    for page in ("export", "audience"):
        assert "Mailchimp did not answer" in read(visit(page, workspace.home))
    assert "Mailchimp did not answer" in read(press(visit("connect", workspace.home), "Check again"))
    for page in ("cohorts", "syncs", "mtu", "runs"):
        assert not visit(page, workspace.home).exception
    ran = ended(press(visit("syncs", workspace.home), "Run now"), workspace.home)
    assert "Mailchimp did not answer" in read(ran)


def test_a_mixpanel_that_is_down_is_said_in_words(tmp_path: Path, visit: Visit) -> None:
    with forked.sandbox(tmp_path / "mixpanel", mixpanel_seed=SAMPLE / "mixpanel.json") as running:
        connect_mixpanel(visit("connect", tmp_path / "home"), str(running.mixpanel_url))
    app = visit("connect", tmp_path / "home")
    assert "Mixpanel could not be reached" in read(press(app, "Check the role"))
    assert "Mixpanel could not be reached" in read(ended(press(app, "Pull from Mixpanel"), tmp_path / "home"))


def test_the_audience_says_when_it_was_read_and_times_to_the_minute(connected: cs.Workspace, visit: Visit) -> None:
    audience_id = connected.chosen_audience()
    connected.sync("trial-ending", audience_id)
    app = visit("audience", connected.home)
    assert f"Last read {connected.audience_read_at(audience_id):%Y-%m-%d %H:%M} UTC" in read(app)
    assert app.dataframe[-1].value["Last changed (UTC)"].str.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d").all()


def test_reasons_read_as_words() -> None:
    assert why("cleaned, in_segment_not_mailable") == "cleaned, still on the segment"
    assert why("") == ""


def test_runs_tells_each_run_in_a_line_and_shows_its_proof(connected: cs.Workspace, visit: Visit) -> None:
    audience_id = connected.check_mailchimp()["audiences"][0]["audience_id"]
    receipt = connected.sync("trial-ending", audience_id)
    app = visit("runs", connected.home)
    line = app.dataframe[0].value["Run"][0]
    assert line == f"Completed · just now · {receipt['added']} added · 0 removed"
    chooser = field(app.selectbox, "Look at")
    assert chooser.options == [f"trial-ending · {line} · begun {receipt['started_at'][:19].replace('T', ' ')} UTC"]
    assert "Proven by reading back" in read(app)


def test_a_run_is_undone_by_a_plan_of_its_own(connected: cs.Workspace, visit: Visit) -> None:
    receipt = connected.sync("trial-ending", connected.chosen_audience())
    app = ended(press(visit("runs", connected.home), "Plan the undoing"), connected.home)
    assert metrics(app)["Remove"] == f"{receipt['added']:,}"
    synced(field(app.text_input, "Type how many people").set_value(str(receipt["added"])).run())
    assert connected.runs().iloc[0][["status", "removed"]].tolist() == ["completed", receipt["added"]]


def test_no_page_reads_an_event(connected: cs.Workspace, visit: Visit) -> None:
    connected.sync("power-users", connected.chosen_audience())
    events = connected.sql("select count(*) from events").iat[0, 0]
    assert blank_events(connected.home) > 80
    with pytest.raises(duckdb.Error), connected.connect() as con:
        con.execute("select max(time_s) from events").fetchall()
    pages = [visit(page, connected.home) for page in ("connect", *OTHER_PAGES)]
    pages += [visit("mtu", connected.home, view=view) for view in ("days", "events")]
    assert not [app.exception for app in pages if app.exception]
    assert metrics(pages[0])["Events"] == f"{events:,}"


def blank_events(home: Path) -> int:
    """Zeros in place of every event, the footers left, so that whoever reads one fails; how many files there are."""
    files = list((home / "events").rglob("*.parquet"))
    for file in files:
        content = file.read_bytes()
        footer = int.from_bytes(content[-8:-4], "little") + 8
        file.write_bytes(content[:4] + bytes(len(content) - 4 - footer) + content[-footer:])
    return len(files)


def test_a_run_that_was_cut_off_is_told_as_such(workspace: cs.Workspace, visit: Visit) -> None:
    ledger.record_run(workspace.home, {
        "run_id": "20261101T000000Z-abc123", "project_id": "local", "cohort": "power-users", "account_id": "a1",
        "audience_id": "abc", "audience_name": "Newsletter", "rehearsal": 1, "status": "interrupted",
        "started_at": ledger.now(), "finished_at": None, "receipt": {}})
    assert "this run has no proof" in read(visit("runs", workspace.home))


def test_names_from_outside_stay_text(tmp_path: Path, visit: Visit) -> None:
    workspace = cs.open(tmp_path / "home")
    workspace.init("UTC", "simplified")
    ids, hostile = tmp_path / "ids.txt", "**bold** <script>alert(1)</script> [x](http://evil.example) :red[y] $z$"
    ids.write_text("nobody\n")
    workspace.load(cohorts={hostile: ids})
    app = visit("cohorts", workspace.home)
    assert field(app.selectbox, "Cohort").value == hostile
    read(app)
    assert frame.plain("**b** <i> [x](y) $z$") == r"\*\*b\*\* \<i\> \[x\]\(y\) \$z\$"
    assert "www." not in frame.plain("www.evil.example") + frame.plain("http://www.evil.example")


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1+2", "@SUM(A1)", "\t=1", " =1"])
def test_a_csv_holds_no_formula(cell: str) -> None:
    assert f"'{cell}" in shown.csv(pd.DataFrame({"name": [cell]})).decode()


@pytest.mark.parametrize(("seconds", "words"), [(5, "just now"), (60, "1 minute ago"), (7300, "2 hours ago"),
                                                (90000, "1 day ago")])
def test_an_instant_is_told_as_how_long_ago(seconds: int, words: str) -> None:
    instant = pd.Timestamp.now("UTC") - pd.Timedelta(seconds=seconds)
    assert frame.ago(instant.isoformat()) == words
