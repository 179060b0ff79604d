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
