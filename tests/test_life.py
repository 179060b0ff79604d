"""Time passes in the sandbox: what happens on both sides, and what never does."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest
import requests
from conftest import ADMIN, OWNER_KEY, PROJECT_ID, SAMPLE, sampled
from mixpanel_side import seed_old
from terminal import cohortsync

import cohortsync as cs
from cohortsync.rehearsal import local_services
from cohortsync.sandbox import Sandbox, start
from cohortsync.sandbox.life import WORDS, Passed, advance
from cohortsync.sandbox.server import Services

HOUR = 3600


@pytest.fixture(scope="module")
def sown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sandbox that has the sample, to copy; it is not being served."""
    folder = tmp_path_factory.mktemp("sown")
    Services.at(folder, SAMPLE / "mailchimp_members.ndjson", SAMPLE / "mixpanel.json").close()
    return folder


@pytest.fixture
def own(sown: Path, tmp_path: Path) -> Path:
    return shutil.copytree(sown, tmp_path / "own")


@pytest.fixture(scope="module")
def lived(sown: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Passed]:
    """A sandbox after two days, and what happened."""
    folder = shutil.copytree(sown, tmp_path_factory.mktemp("lived") / "two-days")
    return folder, advance(folder, 48 * HOUR)


def rows(folder: Path, service: str, query: str) -> list[Any]:
    with closing(sqlite3.connect(folder / f"{service}.sqlite")) as db:
        return db.execute(query).fetchall()


def statuses(folder: Path) -> dict[str, str]:
    return dict(rows(folder, "mailchimp", "select hash, status from members"))


def events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for (line,) in rows(folder, "mixpanel", "select line from events order by id")]


def told(folder: Path) -> list[Any]:
    """All that is remembered but the instants."""
    without = ("time", "$mp_api_timestamp_ms", "mp_processing_time_ms")
    return [sorted(statuses(folder).items()),
            rows(folder, "mailchimp", "select segment_id, member_id from segment_members"),
            rows(folder, "mailchimp", "select member_id, action from activity"),
            rows(folder, "mixpanel", "select cohort_id, distinct_id from cohort_members"),
            [{name: value for name, value in event["properties"].items() if name not in without}
             for event in events(folder)]]


def test_in_two_hours_everything_happens_at_least_once(own: Path) -> None:
    passed = advance(own, 2 * HOUR)
    assert {name for happened in (passed.mailchimp, passed.mixpanel) for name, times in happened.items() if not times
            } <= {"late", "rekeyed"}
    assert passed.now.replace(minute=0, second=0, microsecond=0) == datetime(2026, 11, 21, 7, tzinfo=UTC)


def test_short_times_pass_too_and_add_up(own: Path) -> None:
    passed = [advance(own, seconds) for seconds in (1, 60, 1800, 1800, 3600)]
    assert sum(each.mixpanel["events"] for each in passed) > 0
    assert (passed[-1].now - passed[0].now).total_seconds() == 2 * HOUR + 60


def test_in_two_days_everything_has_happened_and_is_counted(lived: tuple[Path, Passed]) -> None:
    _, passed = lived
    assert all(passed.mailchimp.values()) and all(passed.mixpanel.values())
    assert list(passed.mailchimp) == list(WORDS["mailchimp"])


def test_the_same_happens_by_the_same_seed_and_something_else_by_another(sown: Path, tmp_path: Path) -> None:
    folders = [shutil.copytree(sown, tmp_path / name) for name in ("one", "same", "other")]
    for folder, seed in zip(folders, (3, 3, 4), strict=True):
        advance(folder, 2 * HOUR, seed)
        advance(folder, 2 * HOUR, seed)
    one, same, other = map(told, folders)
    assert one == same
    assert all(mine != theirs for mine, theirs in zip(one, other, strict=True))


def test_nobody_is_brought_back(sown: Path, lived: tuple[Path, Passed]) -> None:
    folder, passed = lived
    before, after = statuses(sown), statuses(folder)
    changed = {(before[key], after[key]) for key in before if before[key] != after[key]}
    assert changed == {("subscribed", "unsubscribed"), ("subscribed", "cleaned")}
    left = [key for key in before if (before[key], after[key]) == ("subscribed", "unsubscribed")]
    assert passed.mailchimp["unsub"] == len(left)


def test_events_lie_in_the_time_that_passed_but_for_those_that_are_late(lived: tuple[Path, Passed]) -> None:
    folder, passed = lived
    end = passed.now.timestamp()
    new = [event["properties"] for event in events(folder)][-passed.mixpanel["events"]:]
    assert all(end - passed.seconds - 1 <= p["$mp_api_timestamp_ms"] / 1000 <= end for p in new)
    late = [p for p in new if p["time"] < end - passed.seconds - 1]
    assert 0 < len(late) <= passed.mixpanel["late"]
    assert len({p["$insert_id"] for p in new}) == len(new)


def test_mail_comes_into_mixpanel_marked_and_under_the_user_who_has_the_address(
        lived: tuple[Path, Passed]) -> None:
    folder, passed = lived
    mails = [event for event in events(folder)[-passed.mixpanel["events"]:] if event["event"].startswith("Mailchimp")]
    assert len(mails) == passed.mixpanel["mail_events"]
    assert {event["properties"]["$source"] for event in mails} == {"mailchimp"}
    assert {event["properties"]["distinct_id"] for event in mails} <= {
        who for (who,) in rows(folder, "mixpanel", "select distinct_id from profiles")}


def test_a_row_shown_re_keyed_keeps_the_id_it_came_with(sown: Path, lived: tuple[Path, Passed]) -> None:
    both = [(then["properties"], now["properties"])
            for then, now in zip(events(sown), events(lived[0]), strict=False)]
    moved = [(then, now) for then, now in both if then["distinct_id"] != now["distinct_id"]]
    assert moved
    assert all(now["$distinct_id_before_identity"] == then["distinct_id"] for then, now in moved)


def test_a_cohort_announces_the_members_it_has(lived: tuple[Path, Passed]) -> None:
    found = rows(lived[0], "mixpanel", "select count, (select count(*) from cohort_members where cohort_id = id) "
                                       "from cohorts")
    assert all(announced == members for announced, members in found)


def test_whoever_enters_or_leaves_a_cohort_has_a_profile_that_says_why(sown: Path, lived: tuple[Path, Passed]) -> None:
    query = "select cohort_id, distinct_id from cohort_members"
    before, after = set(rows(sown, "mixpanel", query)), set(rows(lived[0], "mixpanel", query))
    days = dict(rows(lived[0], "mixpanel", "select distinct_id, properties ->> '$.active_days_of_30' from profiles"))
    merged = {who for who, in rows(lived[0], "mixpanel", "select distinct_id from events where event = 'Logged in'")}
    for moved, likely in ((after - before, range(15, 29)), (before - after, range(5))):
        ways = [days[who] in likely for _, who in moved if days.get(who) is not None and who not in merged]
        assert len(ways) > 10 and sum(ways) > 0.9 * len(ways)  # a few moved in two cohorts


# while it is being served

@pytest.fixture
def served(own: Path) -> Iterator[tuple[Path, Sandbox]]:
    with start(own) as running:
        yield own, running


def ask(running: Sandbox, path: str, **query: Any) -> requests.Response:
    return requests.get(f"{running.mailchimp_url}/3.0{path}", query, auth=("any", OWNER_KEY), timeout=30)


def clocks(running: Sandbox) -> list[datetime]:
    me = requests.get(f"{running.mixpanel_url}/api/app/me", auth=(ADMIN.username, ADMIN.secret), timeout=30)
    return [parsedate_to_datetime(answer.headers["Date"]) for answer in (ask(running, "/ping"), me)]


def test_time_moves_for_services_that_are_up(served: tuple[Path, Sandbox]) -> None:
    folder, running = served
    before = clocks(running)
    advance(folder, 2 * HOUR)
    moved = [(after - then).total_seconds() for then, after in zip(before, clocks(running), strict=True)]
    assert all(2 * HOUR <= seconds < 2 * HOUR + 120 for seconds in moved)


def test_what_happened_can_be_asked_for_at_once(served: tuple[Path, Sandbox]) -> None:
    folder, running = served
    before = clocks(running)[0]
    passed = advance(folder, 2 * HOUR)
    audience = ask(running, "/lists").json()["lists"][0]["id"]
    changed = ask(running, f"/lists/{audience}/members", since_last_changed=before.isoformat(), count=1000).json()
    assert changed["total_items"] == passed.mailchimp["unsub"] + passed.mailchimp["bounce"]
    exported = requests.get(f"{running.mixpanel_url}/api/2.0/export", {
        "project_id": PROJECT_ID, "from_date": "2026-11-15", "to_date": "2026-11-21"},
        auth=(ADMIN.username, ADMIN.secret), timeout=30).text
    assert exported.count('"new_') > passed.mixpanel["signed_up"]


def test_a_campaigns_report_tells_what_became_of_its_mails(served: tuple[Path, Sandbox]) -> None:
    folder, running = served
    passed = advance(folder, 2 * HOUR).mailchimp
    (report,) = ask(running, "/reports", since_send_time="2020-01-01T00:00:00Z").json()["reports"]
    path = f"/reports/{report['id']}"
    assert (report["emails_sent"], report["opens"]["opens_total"]) == (passed["sent"], passed["open"])
    emails = ask(running, f"{path}/email-activity", count=1000).json()
    done = [action["action"] for email in emails["emails"] for action in email["activity"]]
    assert (emails["total_items"], done.count("click")) == (passed["sent"], passed["click"])
    sent_to = ask(running, f"{path}/sent-to", count=1000).json()["sent_to"]
    assert {each["status"] for each in sent_to} == {"sent", "hard"}
    assert ask(running, f"{path}/unsubscribed").json()["total_items"] == report["unsubscribed"] > 0
    assert ask(running, "/reports/0000000000").status_code == 404


def test_a_sandbox_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        advance(tmp_path, HOUR)
    assert not list(tmp_path.iterdir())


# in older projects

@pytest.mark.parametrize("id_merge", sampled(["original", "simplified"], 1))
def test_an_older_project_lives_by_its_own_clock_and_its_own_merges(tmp_path: Path, id_merge: str) -> None:
    workspace, seed = cs.open(tmp_path / "home"), seed_old(tmp_path, id_merge)
    with local_services(workspace, mixpanel_seed=seed) as local:
        workspace.connect_mixpanel(ADMIN.username, ADMIN.secret, PROJECT_ID, base_url=local.mixpanel_url,
                                   id_merge=id_merge)
        workspace.pull(since=date(2026, 11, 13))
        said = cohortsync("--home", workspace.home, "sandbox", "advance", "1d")
        workspace.pull()
        assert "It is 2026-11-22 05:00 UTC there now." in said.stderr
        assert workspace.projects()["times_are"].tolist() == ["local"]
    new = workspace.sql("from events where load_id = 2 and event in ('Signed up', 'Logged in')")
    assert set(new["event"]) == {"Signed up", "Logged in"}
    assert ((new["processed_ms"] / 1000 - new["time_s"]) // 3600 == 5).all()
    linked = workspace.sql("select distinct_id, canonical_id from identities").set_index("distinct_id")["canonical_id"]
    mark = "$device:" if id_merge == "simplified" else ""
    for who, device in zip(new["distinct_id"], new["device_id"], strict=True):
        assert linked[f"{mark}{device}"] == linked.get(who, who)
