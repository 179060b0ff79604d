"""The cohort's own segment in an audience: found by the id that was kept, made where it is missing.

In Mailchimp a static segment is a tag. One that cohortsync did not make for the cohort is never touched.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

from cohortsync import ledger, mailchimp
from cohortsync.errors import ApiFinal, UnsafePlan
from cohortsync.mailchimp import Client
from cohortsync.plan import Plan, Target


def find(home: Path, connection: dict[str, Any], client: Client, project: dict[str, Any], cohort: str,
         audience_id: str) -> Target:
    """Where a sync of the cohort writes. Raises UnsafePlan when the segment's name is taken by one we did not make."""
    name = mailchimp.fetch_audience_name(client, audience_id)
    segments = mailchimp.fetch_segments(client, audience_id)
    key = (connection["account_id"], audience_id, project["project_id"], cohort)
    kept, others = ledger.segment(home, *key), ledger.segments_of_others(home, *key)
    wished = client.settings.segment_prefix + _within_workspace(home, project, cohort)
    segment_id, segment_name = _own_segment(segments, kept, wished, others)
    if segment_id is not None and kept and kept["segment_id"] is None:
        if mailchimp.fetch_segment_members(client, audience_id, segment_id):
            raise _taken(segment_name, segment_id)
        ledger.record_segment(home, {**kept, "segment_id": segment_id})
    return Target(connection["account_id"], connection["account_name"], audience_id, name,
                  bool(connection["rehearsal"]), segment_id, segment_name)


def _within_workspace(home: Path, project: dict[str, Any], cohort: str) -> str:
    """A cohort's name, with the project's before it in all projects but the workspace's first: names may recur."""
    first = min(ledger.projects(home), key=lambda row: (row["created_at"], row["project_id"]))
    return cohort if project["project_id"] == first["project_id"] else f"{project['project_id']}_{cohort}"


def _own_segment(segments: Sequence[dict[str, Any]], kept: dict[str, Any] | None, wished: str,
                 others: Set[int] = frozenset()) -> tuple[int | None, str]:
    """Our segment's id and present name; no id when it is still to be made, or was deleted in Mailchimp.

    A making that was never answered is recognised by its name, which was free when it was sent; the caller
    sees to it that nobody is on it yet. ``others``: segments of other cohorts, which are never ours.
    """
    present = {s["segment_id"]: s["name"] for s in segments}
    if kept and kept["segment_id"] in present:
        return kept["segment_id"], present[kept["segment_id"]]
    same_name = [i for i, name in present.items() if name == wished]
    if kept and kept["segment_id"] is None and len(same_name) == 1 and not others & set(same_name):
        return same_name[0], wished
    if same_name:
        raise _taken(wished, same_name[0])
    return None, wished


def _taken(name: str, segment_id: int) -> UnsafePlan:
    return UnsafePlan(f"The audience already has a segment named {name} (id {segment_id}) that cohortsync did not "
                      "make for this cohort. Rename it in Mailchimp, or choose other names with "
                      "COHORTSYNC_SEGMENT_PREFIX.")


def make(home: Path, client: Client, plan: Plan) -> Plan:
    """The plan with the segment that it lacked, whose id is stored at once."""
    target = plan.target
    row = {"account_id": target.account_id, "audience_id": target.audience_id, "segment_id": None,
           "project_id": plan.project_id, "cohort": plan.cohort, "name": target.segment_name}
    ledger.record_segment(home, row)
    try:
        made = client.send(mailchimp.build_segment(target.audience_id, target.segment_name))
    except ApiFinal:
        ledger.forget_segment(home, target.account_id, target.audience_id, plan.project_id, plan.cohort)
        raise
    ledger.record_segment(home, {**row, "segment_id": int(made["id"])})
    return replace(plan, target=replace(target, segment_id=int(made["id"])))


def name_is_unique(client: Client, target: Target) -> bool:
    """Whether a tag of the segment's name can mean no other segment."""
    segments = mailchimp.fetch_segments(client, target.audience_id)
    return [s["name"] for s in segments].count(target.segment_name) == 1
