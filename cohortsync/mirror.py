"""The Mailchimp audience as it was last read, kept in ``audiences/<id>/``, and how the last run left each segment.

What changed since the last read is read again, by the server's own clock; all of it when the totals disagree, and
once a day. Source: https://mailchimp.com/developer/marketing/api/list-members/ (since_last_changed)
"""

from __future__ import annotations

import io
import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cohortsync import config, ledger, mailchimp
from cohortsync.mailchimp import Client

OVERLAP = timedelta(minutes=10)
DAILY = timedelta(days=1)
STATE = b"cohortsync"


def refresh(home: Path, client: Client, audience_id: str, merge_fields: bool = False) -> pd.DataFrame:
    """Every member as they stand now, archived ones included; kept in the workspace.

    Columns: ``member_hash, address, status, last_changed, tags`` (a list of tag ids, which may be stale: a tag need
    not count as a change of its member), and ``merge_fields`` (dicts) where they are asked for or were before.
    """
    kept, state = _kept(home, audience_id)
    began, merge_fields = client.dated, merge_fields or bool(state.get("merge_fields"))
    members = None
    if kept is not None and _may_add_to(state, began, merge_fields):
        members = _brought_up_to_date(client, audience_id, kept, state["since"], merge_fields)
    if members is None:
        members = _both(client, audience_id, merge_fields=merge_fields)
        state = {"read_in_full_at": began and began.isoformat()}
    since = began and (began - OVERLAP).isoformat()
    forgotten = ledger.forgotten_among(home, members["member_hash"])
    members.loc[members["member_hash"].isin(forgotten), "address"] = ""  # the hash has to do
    _keep(home, audience_id, members, {**state, "since": since, "merge_fields": merge_fields})
    return members


def read_at(home: Path, audience_id: str) -> datetime | None:
    """When an audience was last read, by Mailchimp's clock; None before that, or where the clock was not told."""
    since = _state(_file(home, audience_id)).get("since")
    return datetime.fromisoformat(since) + OVERLAP if since else None


def archived(home: Path, client: Client, audience_id: str) -> set[str]:
    """Hashes of the archived: as last kept, by whomever, and those who were archived since, read now."""
    kept, state = _kept(home, audience_id)
    since = mailchimp.fetch_members(client, audience_id, "archived", since=state.get("since"))["member_hash"]
    return {*since, *([] if kept is None else kept.loc[kept["status"] == "archived", "member_hash"])}


def _may_add_to(state: dict[str, Any], began: datetime | None, merge_fields: bool) -> bool:
    if began is None or not state.get("since") or not state.get("read_in_full_at"):
        return False
    today = began - datetime.fromisoformat(state["read_in_full_at"]) < DAILY
    return today and bool(state["merge_fields"]) >= merge_fields


def _brought_up_to_date(client: Client, audience_id: str, kept: pd.DataFrame, since: str,
                        merge_fields: bool) -> pd.DataFrame | None:
    """What was kept with what changed since; None when Mailchimp counts other people than that."""
    changed = _both(client, audience_id, since=since, merge_fields=merge_fields)
    members = pd.concat([kept, changed], ignore_index=True) if len(changed) else kept
    members = members.drop_duplicates("member_hash", keep="last", ignore_index=True)
    archived = int((members["status"] == "archived").sum())
    counted = mailchimp.count_members(client, audience_id), mailchimp.count_members(client, audience_id, "archived")
    return members if counted == (len(members) - archived, archived) else None


def _both(client: Client, audience_id: str, **options: Any) -> pd.DataFrame:
    """The default listing and, read after it, the archived; who is in both was archived meanwhile."""
    read = [mailchimp.fetch_members(client, audience_id, status, **options) for status in (None, "archived")]
    members = pd.concat([frame for frame in read if len(frame)] or read[:1], ignore_index=True)
    return members.drop_duplicates("member_hash", keep="last", ignore_index=True)


def _file(home: Path, audience_id: str) -> Path:
    return home / "audiences" / audience_id / "members.parquet"


def _kept(home: Path, audience_id: str) -> tuple[pd.DataFrame | None, dict[str, Any]]:
    """What was read last, and when; nothing for one kept by an older release."""
    file = _file(home, audience_id)
    if not (state := _state(file)):
        return None, {}
    members = pd.read_parquet(file).drop(columns="audience_id")
    for column in members.columns.intersection(["tags", "merge_fields"]):
        members[column] = members[column].map(json.loads).astype("object")
    return members, state


def _state(file: Path) -> dict[str, Any]:
    metadata = (pq.read_schema(file).metadata or {}) if file.exists() else {}
    return json.loads(metadata.get(STATE, b"{}"))


def _keep(home: Path, audience_id: str, members: pd.DataFrame, state: dict[str, Any]) -> None:
    """One file holds the members and when they were read, so that the two never disagree."""
    written = {name: members[name].map(json.dumps) for name in members.columns.intersection(["tags", "merge_fields"])}
    frame = members.assign(**written, audience_id=audience_id).astype("str")
    table = pa.Table.from_pandas(frame, preserve_index=False)
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), STATE: json.dumps(state).encode()})
    content = io.BytesIO()
    pq.write_table(table, content)
    config.private_folder(_file(home, audience_id).parent)
    config.write_private(_file(home, audience_id), content.getvalue())


def carrying(members: pd.DataFrame, segment_id: int) -> pd.DataFrame:
    """``member_hash, address, status`` of members whose own record carries the tag, be they on its list or not."""
    ours = members["tags"].map(lambda tags: segment_id in tags).astype(bool)
    return members.loc[ours, ["member_hash", "address", "status"]]


def last_export(home: Path, audience_id: str, segment_id: int) -> pd.DataFrame | None:
    """Who was on a segment when the last run had ended (``plan.EXPORT_COLUMNS``); None before the first."""
    file = _export_file(home, audience_id, segment_id)
    return pd.read_parquet(file) if file.exists() else None


def keep_export(home: Path, audience_id: str, segment_id: int, people: pd.DataFrame) -> None:
    """Remember how a run leaves a segment, or is about to."""
    config.private_folder(home / "audiences" / audience_id)
    config.write_private(_export_file(home, audience_id, segment_id), people.astype("str").to_parquet(index=False))


def _export_file(home: Path, audience_id: str, segment_id: int) -> Path:
    return home / "audiences" / audience_id / f"export-{segment_id}.parquet"
