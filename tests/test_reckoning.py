"""The reckoning by itself, on cases small enough to count by hand, and the generator by itself."""

from __future__ import annotations

import gzip
import importlib.util
import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from datetime import datetime
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from identity_flows import FLOWS, Flow
from reckoning import (
    DEVICE,
    MAILCHIMP,
    SYSTEM,
    VERBS,
    Reckoning,
    Row,
    Simplified,
    email_reason,
    epoch_seconds,
    prop,
    read_events,
    read_profiles,
    reckon,
    reckon_mtu,
    valid,
)

DATA = Path(__file__).parent.parent / "data"
NEW_YORK = "America/New_York"


def load_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DATA / "generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


generator = load_generator()


def at(text: str, timezone: str = "UTC") -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(timezone)).timestamp())


def event(name: str, time: Any, distinct_id: Any = "ada", **props: Any) -> dict[str, Any]:
    return {"event": name, "properties": {"time": time, "distinct_id": distinct_id} | props}


def lines(records: list[Any]) -> str:
    return "".join(f"{json.dumps(record)}\n" for record in records)


class Project:
    """Files of one small project in a folder, and their reckoning."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def reckon(
        self,
        *files: list[dict[str, Any]],
        profiles: list[Any] | None = None,
        cohort: list[str] | None = None,
        timezone: str = "UTC",
        id_merge: str = "simplified",
    ) -> Reckoning:
        events = [self.write(f"events-{number}.ndjson", lines(rows)) for number, rows in enumerate(files)]
        known = self.write("profiles.ndjson", lines(profiles or []))
        ids = self.write("cohort.txt", "\n".join(cohort or []))
        return reckon(events, [known], {"c": ids}, timezone, id_merge)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def month(reckoning: Reckoning, name: str = "2026-09") -> dict[str, Any]:
    return next(line for line in reckoning.mtu if line["month"] == name)


def profile(distinct_id: Any, **props: Any) -> dict[str, Any]:
    return {"$distinct_id": distinct_id, "$properties": props}


SEPTEMBER = at("2026-09-10T12:00:00")


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: f"{flow.id_merge}: {flow.name}")
def test_a_documented_identity_flow_comes_out_as_documented(project: Project, flow: Flow) -> None:
    reckoning = project.reckon(flow.rows, id_merge=flow.id_merge)
    labels = [{reckoning.canonical(each) for each in ids} for ids in flow.users]
    assert all(len(label) == 1 for label in labels)
    assert len(set.union(*labels)) == len(flow.users)
    assert month(reckoning)["mtu"] == flow.mtu


@pytest.mark.parametrize(
    "time", [1788868800, 1788868800.9, 1788868800999, "1788868800", "1788868800123", "2026-09-08T12:00:00",
             "2026-09-08T12:00:00.750Z", "2026-09-08T08:00:00-04:00"]
)  # fmt: skip
def test_a_time_may_be_seconds_milliseconds_digits_or_iso(time: Any) -> None:
    assert epoch_seconds(time) == 1788868800


@pytest.mark.parametrize("time", [None, True, "", "soon", [], {}, 1e300, "2026-13-01"])
def test_what_is_no_time_is_none(time: Any) -> None:
    assert epoch_seconds(time) is None


def test_ids_are_text_and_words_for_nobody_are_no_ids() -> None:
    assert [valid(13793), valid("13793"), valid("Ada")] == ["13793", "13793", "Ada"]
    bad = [None, "", "NULL", "Undefined", 0, -1, True, False, [], {}, ["ada"], "lmy47d"]
    assert [valid(each) for each in bad] == [None] * len(bad)


def test_bad_lines_are_counted_and_blank_lines_are_not(tmp_path: Path) -> None:
    good = json.dumps(event("Opened", SEPTEMBER))
    bad = ["{", "terminated early", "[1]", "7", '{"event":"","properties":{"time":1}}', '{"event":"a"}']
    path = tmp_path / "events.ndjson"
    path.write_text("\n".join([good, "", *bad, "  ", '{"event":3,"time":1}', '{"event":"a","time":NaN}', good]))
    rows, quarantined = read_events([path])
    assert (len(rows), quarantined) == (2, 8)


def test_nested_flat_array_gz_and_byte_order_mark_are_read_alike(tmp_path: Path) -> None:
    flat = {"event": "Opened", "time": SEPTEMBER, "distinct_id": "ada", "$insert_id": "a1"}
    nested = event("Opened", SEPTEMBER, **{"$insert_id": "a1"})
    (tmp_path / "flat").write_text(json.dumps(flat))
    (tmp_path / "array").write_text(json.dumps([nested], indent=1))
    (tmp_path / "bom").write_bytes(b"\xef\xbb\xbf" + json.dumps(nested).encode())
    (tmp_path / "gz").write_bytes(gzip.compress(json.dumps(nested).encode()))
    for path in tmp_path.iterdir():
        ((row,), bad) = read_events([path])
        found = row.name, row.seconds, prop(row, "distinct_id"), prop(row, "$insert_id"), bad
        assert found == ("Opened", SEPTEMBER, "ada", "a1", 0)


def test_a_line_separator_inside_a_string_does_not_end_the_line(tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson"
    path.write_text(json.dumps(event("a\u2028b", SEPTEMBER), ensure_ascii=False), encoding="utf-8")
    ((row,), bad) = read_events([path])
    assert (row.name, bad) == ("a\u2028b", 0)


def test_of_the_same_event_sent_twice_the_last_processed_counts(project: Project) -> None:
    first = event("Opened", SEPTEMBER, "x", **{"$insert_id": "a", "$user_id": "ada", "mp_processing_time_ms": 9})
    again = event("Opened", SEPTEMBER, "x", **{"$insert_id": "a", "$user_id": "ben", "mp_processing_time_ms": 5})
    other = event("Opened", SEPTEMBER, "ada", **{"$insert_id": "b"})
    reckoning = project.reckon([first, again, other])
    assert (reckoning.duplicates, month(reckoning)["events"], month(reckoning)["mtu"]) == (1, 2, 1)


def test_at_the_same_processing_time_the_later_file_counts(project: Project) -> None:
    early = event("Opened", SEPTEMBER, "x", **{"$insert_id": "a", "$user_id": "ada"})
    late = event("Opened", SEPTEMBER, "x", **{"$insert_id": "a", "$user_id": "ben"})
    proof = event("Opened", SEPTEMBER, "ben")
    assert month(project.reckon([early], [late, proof]))["mtu"] == 1


def test_rows_without_a_valid_insert_id_are_never_duplicates(project: Project) -> None:
    rows = [event("Opened", SEPTEMBER), event("Opened", SEPTEMBER, **{"$insert_id": "null"})]
    reckoning = project.reckon([*rows, *rows])
    assert (reckoning.duplicates, month(reckoning)["events"]) == (0, 4)


def test_a_row_and_its_rekeyed_copy_are_one_event(project: Project) -> None:
    as_sent = event("Opened", SEPTEMBER, "$device:D", **{"$insert_id": "a"})
    moved = event("Opened", SEPTEMBER, "ada", **{"$insert_id": "a", "$distinct_id_before_identity": "$device:D"})
    assert project.reckon([as_sent, moved]).duplicates == 1


def test_another_second_name_or_insert_id_is_another_event(project: Project) -> None:
    one = {"$insert_id": "a"}
    rows = [event("Opened", SEPTEMBER, **one), event("Closed", SEPTEMBER, **one)]
    rows += [event("Opened", SEPTEMBER + 1, **one), event("Opened", SEPTEMBER, **{"$insert_id": "b"})]
    assert project.reckon(rows).duplicates == 0


def test_a_file_given_twice_adds_nothing(project: Project) -> None:
    rows = [event("Opened", SEPTEMBER)]
    assert month(project.reckon(rows, rows))["events"] == 1


def test_the_first_user_received_owns_the_device_whatever_the_event_time(project: Project) -> None:
    early = event("Opened", SEPTEMBER, "ada", **{"$user_id": "ada", "$device_id": "D", "$mp_api_timestamp_ms": 9})
    late = event("Opened", SEPTEMBER + 99, "ben", **{"$user_id": "ben", "$device_id": "D", "$mp_api_timestamp_ms": 8})
    assert project.reckon([early, late]).canonical("$device:D") == "ben"


def test_mixpanels_own_rekeying_outweighs_the_first_link(project: Project) -> None:
    link = event("Opened", SEPTEMBER, "ada", **{"$user_id": "ada", "$device_id": "D"})
    moved = event("Opened", SEPTEMBER + 9, "ben", **{"$distinct_id_before_identity": "$device:D"})
    assert project.reckon([link, moved]).canonical("$device:D") == "ben"


def test_failed_links_and_verbs_link_nothing(project: Project) -> None:
    ids = {"$user_id": "ada", "$device_id": "D"}
    failed = event("Opened", SEPTEMBER, "ada", **ids, **{"$identity_failure_reason": "err"})
    assert project.reckon([failed, event("$identify", SEPTEMBER, "ada", **ids)]).canonical("$device:D") == "$device:D"


def test_a_duplicate_still_counts_as_evidence(project: Project) -> None:
    linked = event("Opened", SEPTEMBER, "ada", **{"$insert_id": "a", "$user_id": "ada", "$device_id": "D"})
    bare = event("Opened", SEPTEMBER, "ada", **{"$insert_id": "a", "mp_processing_time_ms": 5})
    assert project.reckon([linked, bare]).canonical("$device:D") == "ada"


def test_a_device_prefix_is_stripped_once_and_an_invalid_user_is_absent(project: Project) -> None:
    rows = [
        event("Opened", SEPTEMBER, "ada", **{"$user_id": "ada", "$device_id": "$device:D"}),
        event("Opened", SEPTEMBER, "$device:D", **{"$user_id": "undefined", "$device_id": "D"}),
    ]
    assert month(project.reckon(rows))["mtu"] == 1


def test_events_of_nobody_are_events_but_no_users(project: Project) -> None:
    ids = ["", "null", "$device:", "$device:undefined", None]
    line = month(project.reckon([event("Opened", SEPTEMBER, each) for each in ids]))
    assert (line["events"], line["mtu_without_exemption"]) == (5, 0)


ANON = "5f0c8a52-6c1e-4f7b-9d23-1b7a90c4e6d1"


def label(project: Project, rows: list[dict[str, Any]], asked: str, profiles: list[Any] | None = None) -> str:
    return project.reckon(rows, profiles=profiles, id_merge="original").canonical(asked)


def merged(one: str, other: str, **props: Any) -> dict[str, Any]:
    return event("$merge", SEPTEMBER, one, **{"$distinct_ids": [one, other]}, **props)


def moved(now: str, before: str, time: int) -> dict[str, Any]:
    return event("Opened", time, now, **{"$distinct_id_before_identity": before})


def test_a_clusters_label_is_the_latest_rekeyed_id(project: Project) -> None:
    late, early = moved(ANON, "ada", SEPTEMBER + 5), moved(ANON, "crm", SEPTEMBER)
    between = moved("ada", ANON, SEPTEMBER + 3)
    assert label(project, [early, between], "crm") == "ada"
    assert label(project, [late, early, between], "crm") == ANON
    assert label(project, [moved("b", "c", SEPTEMBER), moved("a", "c", SEPTEMBER)], "c") == "a"


def test_an_id_joined_to_itself_is_not_used_up(project: Project) -> None:
    itself = event("$identify", SEPTEMBER, ANON, **{"$identified_id": ANON, "$anon_id": ANON})
    ada = event("$identify", SEPTEMBER + 1, "ada", **{"$identified_id": "ada", "$anon_id": ANON})
    assert label(project, [itself, ada], ANON) == "ada"
    own_alias = event("$create_alias", SEPTEMBER, "ada", alias="ada")
    assert label(project, [own_alias, event("$create_alias", SEPTEMBER + 1, "ben", alias="ada")], "ben") == "ada"


def test_else_the_smallest_id_with_an_address_then_identified_then_named_then_any(project: Project) -> None:
    rows = [merged("zoe", "ada"), merged("zoe", ANON)]
    identified = event("$identify", SEPTEMBER - 9, "zoe", **{"$identified_id": "zoe", "$anon_id": ANON})
    assert label(project, rows, ANON) == "ada"
    assert label(project, [*rows, identified], ANON) == "zoe"
    assert label(project, [*rows, identified], "zoe", [profile(ANON, **{"$email": "bad"})]) == ANON
    assert label(project, [merged(ANON, f"{DEVICE}x")], ANON) == f"{DEVICE}x"


def test_where_the_canonical_profile_is_empty_another_id_of_the_cluster_serves(project: Project) -> None:
    known = [profile("ada"), profile("crm", **{"$email": "ada@tinpot.example"})]
    rows = [moved("ada", "crm", SEPTEMBER)]
    reckoning = project.reckon(rows, profiles=known, cohort=["ada"], id_merge="original")
    assert reckoning.canonical("crm") == "ada"
    assert reckoning.audience["c"] == {"ada": "exportable"}


def test_merges_with_missing_or_failed_ids_are_skipped(project: Project) -> None:
    rows = [
        merged("ada", "undefined"),
        merged("ada", "ben", **{"$failure_reason": "errManyIDs"}),
        event("$merge", SEPTEMBER, "ada", **{"$distinct_ids": ["ada", "ben", "crm"]}),
    ]
    assert label(project, rows, "ben") == "ben"


@pytest.mark.parametrize(
    ("props", "reason"),
    [
        ({}, "no_profile"),
        ({"plan": "solo"}, "no_email"),
        ({"$email": None}, "no_email"),
        ({"$email": "  "}, "no_email"),
        ({"$email": ["ada@tinpot.example"]}, "email_not_string"),
        ({"$email": 7}, "email_not_string"),
        ({"$email": False}, "email_not_string"),
        ({"$email": "ada at tinpot.example"}, "email_invalid"),
        ({"$email": " ADA@Tinpot.Example "}, "exportable"),
    ],
)
def test_a_profile_is_exportable_or_has_one_reason(props: dict[str, Any], reason: str) -> None:
    assert email_reason(props) == reason


def test_a_cohort_counts_every_id_once_with_one_reason(project: Project) -> None:
    rows = [event("Opened", SEPTEMBER, "ada", **{"$user_id": "ada", "$device_id": each}) for each in "DE"]
    rows.append(event("Opened", SEPTEMBER, "ben", **{"$user_id": "ben", "$device_id": "F"}))
    known = [profile("ada", **{"$email": "ada@tinpot.example"}), profile("ben", plan="solo")]
    members = ["ada", "$device:D", "$device:E", "$device:F", "$device:G", "ada"]
    reckoning = project.reckon(rows, profiles=known, cohort=members)
    assert reckoning.audience["c"] == {
        "ada": "exportable",
        "$device:D": "merged",
        "$device:E": "merged",
        "$device:F": "no_email",
        "$device:G": "no_profile",
    }
    assert reckoning.cohorts["c"] == (5, 1)


def test_where_the_canonical_id_is_no_member_the_smallest_stays(project: Project) -> None:
    rows = [event("Opened", SEPTEMBER, "ada", **{"$user_id": "ada", "$device_id": each}) for each in "DE"]
    known = [profile("ada", **{"$email": "ada@tinpot.example"})]
    reckoning = project.reckon(rows, profiles=known, cohort=["$device:E", "$device:D"])
    assert reckoning.audience["c"] == {"$device:D": "exportable", "$device:E": "merged"}


@pytest.mark.parametrize(
    ("seen", "winner"),
    [
        (["2026-09-01T00:00:00", "2026-09-02T00:00:00", "2026-08-01T00:00:00"], "b"),
        (["2026-09-02T00:00:00", "2026-09-02T00:00:00", None], "a"),
        (["yesterday", "2001-01-01T00:00:00", 1788868800], "b"),
        ([None, "soon", ""], "a"),
        (["2026-09-02T00:00:00", "2026-09-01T23:30:00-02:00", None], "b"),
    ],
)
def test_of_one_address_the_profile_seen_last_then_the_smaller_id_is_exported(
    project: Project, seen: list[Any], winner: str
) -> None:
    addresses = ["ada@tinpot.example", "ADA@tinpot.example", " ada@tinpot.example"]
    known = [
        profile(each, **{"$email": address, "$last_seen": when})
        for each, address, when in zip("abc", addresses, seen, strict=True)
    ]
    reasons = project.reckon([], profiles=known, cohort=["c", "b", "a"]).audience["c"]
    assert Counter(reasons.values()) == {"exportable": 1, "duplicate_email": 2}
    assert reasons[winner] == "exportable"


def test_the_last_word_on_a_profile_holds_even_when_it_is_empty(project: Project) -> None:
    known = [profile("a", **{"$email": "a@tinpot.example"}), profile("a"), profile("b", plan="solo")]
    known.append(profile("b", **{"$email": "b@tinpot.example"}))
    reasons = project.reckon([], profiles=known, cohort=["a", "b"]).audience["c"]
    assert reasons == {"a": "no_profile", "b": "exportable"}


def test_profiles_and_cohorts_are_read_from_csv_pages_and_lists(tmp_path: Path) -> None:
    table = tmp_path / "cohort.csv"
    table.write_text('\ufeffDistinct ID,Email\nada,"a ""b"""\n13793,\n', encoding="utf-8")
    pages = tmp_path / "profiles.json"
    pages.write_text(lines([{"results": [profile(13793, plan="solo")]}, {"results": [profile("ada", a=1)]}]))
    assert read_profiles([pages]) == {"13793": {"plan": "solo"}, "ada": {"a": 1}}
    assert read_profiles([table]) == {"ada": {"Email": 'a "b"'}, "13793": {}}
    reckoning = reckon([], [pages], {"csv": table, "pages": pages}, "UTC", "simplified")
    assert reckoning.cohorts == {"csv": (2, 0), "pages": (2, 0)}


def test_mailchimps_events_make_the_difference_between_the_readings(project: Project) -> None:
    rows = [
        event("Opened", SEPTEMBER, "a"),
        event("Mailchimp - Sent To", SEPTEMBER, "a"),
        event("Mailchimp - Sent To", SEPTEMBER, "b"),
        event("Mailchimp Campaign - Bounce", SEPTEMBER, "c"),
        event("Mailchimp Campaign - Click", SEPTEMBER, "d"),
        event("Mailchimp - Opened Campaign", SEPTEMBER, "d"),
        event("$opt_in", SEPTEMBER, "e"),
        event("$campaign_delivery", SEPTEMBER, "f"),
    ]
    line = month(project.reckon(rows))
    assert (line["mtu"], line["mtu_without_exemption"], line["mtu_engagement_counted"]) == (1, 4, 2)
    assert (line["exempt_users"], line["events"]) == (3, 8)


def test_by_the_marker_an_unmarked_mailchimp_event_qualifies(project: Project) -> None:
    name = "Mailchimp - Sent To"
    sources = [
        {"$source": "mailchimp"},
        {"$source": "MailChimp"},
        {"$source": " mailchimp"},
        {"$source": 7},
        {},
    ]
    rows = [event(name, SEPTEMBER, f"u{number}", **source) for number, source in enumerate(sources)]
    reckoning = project.reckon(rows)
    (marked,) = reckoning.mtu_marked
    assert (month(reckoning)["mtu"], marked["mtu"], marked["exempt_users"]) == (0, 3, 2)


def test_a_month_is_the_project_zones_own_across_the_clock_change(project: Project) -> None:
    last = at("2026-10-31T23:59:59", NEW_YORK)
    twice = [at("2026-11-01T01:30:00", NEW_YORK), at("2026-11-01T01:30:00", NEW_YORK) + 3600]
    rows = [event("Opened", time) for time in (last, last + 1, *twice)]
    reckoning = project.reckon(rows, timezone=NEW_YORK)
    assert [(line["month"], line["events"]) for line in reckoning.mtu] == [("2026-10", 1), ("2026-11", 3)]


def test_a_month_is_complete_when_the_events_reach_from_its_first_day_to_its_last(project: Project) -> None:
    days = ["2026-09-01T03:59:59", "2026-09-30T12:00:00", "2026-10-31T20:00:00"]
    rows = [event("Opened", at(day)) for day in days]
    complete = [(line["month"], line["complete"]) for line in project.reckon(rows).mtu]
    assert complete == [("2026-09", True), ("2026-10", True)]
    in_new_york = project.reckon(rows[1:], timezone=NEW_YORK).mtu
    assert [(line["month"], line["complete"]) for line in in_new_york] == [
        ("2026-09", False),
        ("2026-10", True),
    ]


def test_many_events_of_few_users_are_billed_by_the_guardrail(project: Project) -> None:
    line = month(project.reckon([event("$opt_in", SEPTEMBER + number) for number in range(2001)]))
    assert (line["mtu"], line["guardrail"], line["billable"]) == (0, 3, 3)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("samples")
    for id_merge in ("simplified", "original"):
        generator.generate(folder / id_merge, id_merge=id_merge)
    return {each.name: each for each in folder.iterdir()}


def content(path: Path) -> bytes:
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data


def test_the_committed_sample_is_what_the_generator_makes(samples: dict[str, Path]) -> None:
    made = {path.name: content(path) for path in samples["simplified"].iterdir()}
    by_hand = "mixpanel.json"
    committed = {path.name: content(path) for path in (DATA / "sample").iterdir() if path.name != by_hand}
    assert made == committed


def test_the_same_seed_gives_the_same_bytes_in_any_process_and_another_seed_others(tmp_path: Path) -> None:
    made = {}
    for name, seed, hash_seed in (("one", "3", "1"), ("two", "3", "2"), ("three", "4", "1")):
        command = [
            sys.executable,
            DATA / "generate.py",
            "--out",
            tmp_path / name,
            "--users",
            "200",
            "--seed",
            seed,
        ]
        subprocess.run(command, check=True, timeout=60, env={"PYTHONHASHSEED": hash_seed})
        made[name] = {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
    assert made["one"] == made["two"]
    assert not made["one"].items() & made["three"].items()


def test_the_sample_is_small_and_its_people_are_invented(samples: dict[str, Path]) -> None:
    files = [path for folder in samples.values() for path in folder.iterdir()]
    assert sum(path.stat().st_size for path in samples["simplified"].iterdir()) < 4_000_000
    for path in files:
        words = content(path).decode().replace('"', " ").replace(",", " ").split()
        assert all(word.lower().endswith((".example", "@")) for word in words if "@" in word and "SUM" not in word)


def events_of(folder: Path) -> list[Row]:
    return read_events(sorted(folder.glob("events-*")))[0]


@pytest.mark.parametrize("id_merge", ["simplified", "original"])
def test_every_sample_has_the_troubles_of_real_exports(samples: dict[str, Path], id_merge: str) -> None:
    rows = events_of(samples[id_merge])
    names = Counter(row.name for row in rows)
    assert all(names[name] > 5 for name in MAILCHIMP)
    assert {name for name in SYSTEM - VERBS if names[name] == 0} == set()
    assert sum(prop(row, "$insert_id") is None for row in rows) > 100
    assert sum("$distinct_id_before_identity" in row.props for row in rows) > 100
    assert sum(row.name in MAILCHIMP and "$source" not in row.props for row in rows) > 20
    reckoning = reckon_sample(samples[id_merge], id_merge)
    assert reckoning.quarantined == 3
    assert reckoning.duplicates > 500
    assert [line["complete"] for line in reckoning.mtu] == [True, True, False]
    assert all(0 < line["mtu_engagement_counted"] - line["mtu"] < line["exempt_users"] for line in reckoning.mtu)
    for reasons in reckoning.audience.values():
        assert set(reasons.values()) == {
            "exportable", "merged", "no_profile", "no_email", "email_not_string", "email_invalid",
            "duplicate_email",
        }  # fmt: skip


@cache
def reckon_sample(folder: Path, id_merge: str, timezone: str = NEW_YORK) -> Reckoning:
    cohorts = {path.stem.removeprefix("cohort-"): path for path in folder.glob("cohort-*")}
    events = sorted(folder.glob("events-*"))
    return reckon(events, [folder / "profiles.ndjson.gz"], cohorts, timezone, id_merge)


def test_the_samples_months_differ_by_utc_by_a_fixed_offset_and_by_new_york(samples: dict[str, Path]) -> None:
    rows = events_of(samples["simplified"])
    identity = Simplified(rows)
    zones = [ZoneInfo(name) for name in (NEW_YORK, "UTC", "Etc/GMT+5")]
    readings = [reckon_mtu(rows, rows, identity, zone, marker=False) for zone in zones]
    october = [next(line for line in reading if line["month"] == "2026-10") for reading in readings]
    assert len({line["mtu"] for line in october}) == 3
    assert len({line["events"] for line in october}) == 3


def test_the_simplified_sample_has_shared_devices_and_late_links(samples: dict[str, Path]) -> None:
    rows = events_of(samples["simplified"])
    users: dict[str, set[str]] = {}
    for row in rows:
        device, user = prop(row, "$device_id"), prop(row, "$user_id")
        if device and user and row.name not in VERBS:
            users.setdefault(device.removeprefix(DEVICE), set()).add(user)
    assert sum(len(each) > 1 for each in users.values()) > 10
    assert sum("$identity_failure_reason" in row.props for row in rows) > 10
    identity = Simplified(rows)
    first_link = Simplified([row for row in rows if "$distinct_id_before_identity" not in row.props])
    assert any(identity.user_of[device] != user for device, user in first_link.user_of.items())
    assert identity.user_of.keys() - first_link.user_of.keys()
    at_once = [replace(row, props={**row.props, "$mp_api_timestamp_ms": row.seconds * 1000}) for row in rows]
    assert any(identity.user_of[device] != user for device, user in Simplified(at_once).user_of.items())
    late = [row for row in rows if row.props["$mp_api_timestamp_ms"] / 1000 - row.seconds > 30 * 86400]
    assert len(late) > 20


def test_the_original_sample_has_every_verb_and_refusals_said_and_unsaid(samples: dict[str, Path]) -> None:
    rows = events_of(samples["original"])
    verbs = Counter(row.name for row in rows if row.name in VERBS)
    assert set(verbs) == VERBS
    reasons = {row.props.get("$failure_reason") for row in rows}
    assert {
        "errAnonDistinctIdAssignedAlready",
        "errAliasAlreadyExists",
        "errAnonDistinctIdNonGUIDForm",
    } <= reasons
    canonical = reckon_sample(samples["original"], "original").canonical
    unsaid = [
        row
        for row in rows
        if row.name == "$identify"
        and "$failure_reason" not in row.props
        and canonical(row.props["$identified_id"]) != canonical(row.props["$anon_id"])
    ]
    assert len(unsaid) > 10
    kiosk = [row for row in rows if row.props.get("$identified_id") == "kiosk"]
    assert len({row.props["$anon_id"] for row in kiosk}) == 506
    assert len({row.props["$anon_id"] for row in kiosk if row in unsaid}) == 7


def test_fewer_than_two_hundred_users_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="200 or more"):
        generator.generate(tmp_path, users=199)
