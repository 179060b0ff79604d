"""The cohort's own segment in an audience: found by the id that was kept, made where it is missing.

In Mailchimp a static segment is a tag. One that cohortsync did not make for the cohort is not touched, unless it is
adopted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

from cohortsync import ledger, mailchimp
from cohortsync.errors import ApiFinal, UnsafePlan
from cohortsync.mailchimp import Client
from cohortsync.plan import Plan, Target


def find(home: Path, connection: dict[str, Any], client: Client, project: dict[str, Any], cohort: str,
         audience_id: str, adopt: bool = False) -> Target:
    """Where a sync of the cohort writes; reads only.

    Raises UnsafePlan when the segment's name is taken by one we did not make and it is not to be adopted.
    """
    audience_name = mailchimp.fetch_audience_name(client, audience_id)
    present = {s["segment_id"]: s["name"] for s in mailchimp.fetch_segments(client, audience_id)}
    key = (connection["account_id"], audience_id, project["project_id"], cohort)
    kept, others = ledger.segment(home, *key), ledger.segments_of_others(home, *key)
    wished = client.settings.segment_prefix + _within_workspace(home, project, cohort)
    segment_id, name = _own(present, kept, wished)
    adopted = False
    if segment_id is None and (taken := sorted(i for i, other in present.items() if other == wished)):
        free = not others & set(taken)
        unanswered = kept is not None and kept["segment_id"] is None
        segment_id = _never_answered(client, audience_id, taken) if unanswered and free else None
        if segment_id is None and adopt and free and len(taken) == 1:
            segment_id, adopted = taken[0], True
        if segment_id is None:
            raise _taken(wished, taken[0], others)
    return Target(connection["account_id"], connection["account_name"], audience_id, audience_name,
                  bool(connection["rehearsal"]), segment_id, name, list(present.values()).count(name) <= 1, adopted)


def _never_answered(client: Client, audience_id: str, taken: Sequence[int]) -> int | None:
    """The segment whose making was noted and never answered: nobody is on it. Tried twice, it may be there twice."""
    return next((i for i in taken if mailchimp.fetch_segment_members(client, audience_id, i).empty), None)


def _own(present: Mapping[int, str], kept: dict[str, Any] | None, wished: str) -> tuple[int | None, str]:
    """Our segment's id and present name; no id when it is still to be made, or was deleted in Mailchimp."""
    if kept and kept["segment_id"] in present:
        return kept["segment_id"], present[kept["segment_id"]]
    return None, wished


def _within_workspace(home: Path, project: dict[str, Any], cohort: str) -> str:
    """A cohort's name, with the project's before it in all projects but the workspace's first: names may recur."""
    first = min(ledger.projects(home), key=lambda row: (row["created_at"], row["project_id"]))
    return cohort if project["project_id"] == first["project_id"] else f"{project['project_id']}_{cohort}"


def _taken(name: str, segment_id: int, others: Set[int]) -> UnsafePlan:
    adopting = ", or take this one over with --adopt (in the app: Terms of the next plan)"
    way_out = "" if segment_id in others else adopting
    return UnsafePlan(f"The audience already has a segment named {name} (id {segment_id}) that cohortsync did not "
                      "make for this cohort. Rename it in Mailchimp, choose other names with "
                      f"COHORTSYNC_SEGMENT_PREFIX{way_out}.", guard="adopt", numbers={"segment_id": segment_id})


def keep(home: Path, plan: Plan) -> None:
    """Remember the segment that a plan found, made or taken over, as the cohort's from now on."""
    kept = ledger.segment(home, *_key(plan))
    if plan.target.segment_id is not None and (kept is None or kept["segment_id"] != plan.target.segment_id):
        _record(home, plan)


def secure(home: Path, client: Client, plan: Plan) -> Plan:
    """The plan with a segment of its own, made if need be; its id is stored at once."""
    target = plan.target
    if target.segment_id is None:
        _record(home, plan)
        try:
            made = client.send(mailchimp.build_segment(target.audience_id, target.segment_name),
                               lambda which_try: _require_unmade(client, target, which_try))
        except ApiFinal:
            ledger.forget_segment(home, *_key(plan))
            raise
        plan = replace(plan, target=replace(target, segment_id=int(made["id"])))
    keep(home, plan)
    return plan


def _require_unmade(client: Client, target: Target, which_try: int) -> None:
    """Do not make a segment twice: a try that was answered with an error may have made it all the same."""
    present = mailchimp.fetch_segments(client, target.audience_id) if which_try > 1 else []
    if target.segment_name in {segment["name"] for segment in present}:
        raise mailchimp.Unanswered(f"Mailchimp answered with an error, and may have made the segment "
                                   f"{target.segment_name} all the same. Sync again: it is found then.")


def _key(plan: Plan) -> tuple[str, str, str, str]:
    return plan.target.account_id, plan.target.audience_id, plan.project_id, plan.cohort


def _record(home: Path, plan: Plan) -> None:
    target = plan.target
    ledger.record_segment(home, {
        "account_id": target.account_id, "audience_id": target.audience_id, "segment_id": target.segment_id,
        "project_id": plan.project_id, "cohort": plan.cohort, "name": target.segment_name})
