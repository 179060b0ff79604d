"""The Mailchimp audience as it was last read, kept in ``audiences/<id>/`` for planning and for looking at."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from cohortsync import config, mailchimp
from cohortsync.mailchimp import Client


def refresh(home: Path, client: Client, audience_id: str) -> pd.DataFrame:
    """Every member as they stand now, the archived by a read of their own; kept in the workspace.

    Columns: ``member_hash, address, status, last_changed, tags`` (a list of tag ids).
    """
    standing = [mailchimp.fetch_members(client, audience_id), mailchimp.fetch_members(client, audience_id, "archived")]
    members = pd.concat([frame for frame in standing if len(frame)] or standing[:1], ignore_index=True)
    folder = config.private_folder(home / "audiences" / audience_id)
    kept = members.assign(tags=members["tags"].map(json.dumps).astype("str"), audience_id=audience_id)
    config.write_private(folder / "members.parquet", kept.astype("str").to_parquet(index=False))
    return members


def pending_on(members: pd.DataFrame, segment_id: int) -> dict[str, str]:
    """Member hash → address of pending people whose own record carries the tag: the segment does not list them."""
    ours = members["tags"].map(lambda tags: segment_id in tags).astype(bool)
    tagged = members[ours & (members["status"] == "pending")]
    return dict(zip(tagged["member_hash"], tagged["address"], strict=True))
