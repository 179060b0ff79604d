"""The audience as last read: what changed is read again, and everything where that would not do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import faulty
import forked
import pandas as pd
import pyarrow.parquet as pq
import pytest
from conftest import OWNER_KEY, SAMPLE

from cohortsync import mailchimp as mc
from cohortsync import mirror
from cohortsync.emails import member_hash


class Reader:
    """A client behind a proxy, and the reads of members that it makes."""

    def __init__(self, home: Path, proxy: faulty.Proxy) -> None:
        self.home, self.proxy, self.client = home, proxy, mc.open_client(OWNER_KEY, proxy.url)
        self.audience_id = mc.fetch_audiences(self.client)[0]["audience_id"]
        self.owner = mc.open_client(OWNER_KEY, proxy.url)
        self.owner.http.auth = ("the owner", OWNER_KEY)

    def refresh(self, merge_fields: bool = False) -> pd.DataFrame:
        mc.fetch_audience_name(self.client, self.audience_id)
        return mirror.refresh(self.home, self.client, self.audience_id, merge_fields)

    def reads(self, **options: bool) -> list[str]:
        """What one refresh asks for: in full, changed, or a count."""
        before = len(self.proxy.passed)
        self.refresh(**options)
        asked = [path for _, path, _ in self.proxy.passed[before:] if "/members?" in path]
        return ["changed" if "since_last" in path else "count" if "count=1&" in path or path.endswith("count=1")
                else "full" for path in asked]

    def as_read_in_full(self) -> dict[str, str]:
        frames = [mc.fetch_members(self.client, self.audience_id, status) for status in (None, "archived")]
        return {row.member_hash: row.status for frame in frames for row in frame.itertuples()}

    def change(self, method: str, address: str, **body: str) -> None:
        path = f"{mc.audience_path(self.audience_id)}/members/{member_hash(address)}"
        self.owner.send(mc.Request(method, path, body={"email_address": address, **body} if body else None))

    def state(self, **changes: str) -> None:
        """Change what the file says of when it was read."""
        file = self.home / "audiences" / self.audience_id / "members.parquet"
        table = pq.read_table(file)
        state = json.loads(table.schema.metadata[mirror.STATE]) | changes
        pq.write_table(table.replace_schema_metadata({**table.schema.metadata, mirror.STATE: json.dumps(state)}), file)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    (tmp_path / "home").mkdir()
    seed = SAMPLE / "mailchimp_members.ndjson"
    with forked.sandbox(tmp_path / "mailchimp", seed=seed) as running, faulty.before(running.mailchimp_url) as proxy:
        yield Reader(tmp_path / "home", proxy)


def statuses(members: pd.DataFrame) -> dict[str, str]:
    return dict(zip(members["member_hash"], members["status"], strict=True))


def test_the_first_read_is_in_full_and_the_next_asks_for_what_changed(reader: Reader) -> None:
    assert reader.reads() == ["full", "full"]
    assert reader.reads() == ["changed", "changed", "count", "count"]


def test_what_changed_in_mailchimp_is_seen(reader: Reader) -> None:
    members = reader.refresh()
    subscribed = members.loc[members["status"] == "subscribed", "address"].tolist()
    reader.change("PATCH", subscribed[0], status="unsubscribed")
    reader.change("DELETE", subscribed[1])
    reader.change("PUT", "new.one@harbor.example", status_if_new="subscribed")
    found = statuses(reader.refresh())
    assert (found[member_hash(subscribed[0])], found[member_hash(subscribed[1])]) == ("unsubscribed", "archived")
    assert found[member_hash("new.one@harbor.example")] == "subscribed"
    assert found == reader.as_read_in_full()


def test_someone_deleted_for_good_is_missed_in_the_totals_and_all_is_read(reader: Reader) -> None:
    members = reader.refresh()
    gone = members.loc[members["status"] == "subscribed", "member_hash"].iloc[0]
    reader.owner.send(mc.Request(
        "POST", f"{mc.audience_path(reader.audience_id)}/members/{gone}/actions/delete-permanent"))
    assert reader.reads() == ["changed", "changed", "count", "count", "full", "full"]
    assert statuses(reader.refresh()) == reader.as_read_in_full()


def test_all_is_read_once_a_day(reader: Reader) -> None:
    reader.refresh()
    assert reader.client.dated is not None
    reader.state(read_in_full_at=(reader.client.dated - timedelta(hours=25)).isoformat())
    assert reader.reads() == ["full", "full"]


def test_the_next_read_overlaps_the_last_by_ten_minutes_of_the_servers_clock(reader: Reader) -> None:
    reader.refresh()
    began = reader.client.dated
    reader.refresh()
    asked = [path for _, path, _ in reader.proxy.passed if "since_last_changed" in path][-1]
    assert began is not None
    assert f"since_last_changed={(began - timedelta(minutes=10)).isoformat()}"[:34] in asked.replace("%3A", ":")


def test_merge_fields_are_read_once_they_were_asked_for(reader: Reader) -> None:
    reader.refresh()
    assert reader.reads(merge_fields=True) == ["full", "full"]
    assert reader.reads() == ["changed", "changed", "count", "count"]
    assert {"FNAME", "LNAME"} <= set(reader.refresh()["merge_fields"].iloc[0])
