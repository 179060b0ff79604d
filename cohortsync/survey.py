"""A plan made from what stands: the cohort here, the audience and its segment there. Reads only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from cohortsync import audience, emails, ledger, mailchimp, mirror, receipts, segment, warehouse
from cohortsync.mailchimp import Client
from cohortsync.plan import NO_EXPORT, Plan, Target, Terms, plan_people, within
from cohortsync.sources import Progress, silent


@dataclass(frozen=True)
class Survey:
    """Where plans are made from: a workspace and a connected account."""

    home: Path
    connection: dict[str, Any]
    client: Client
    progress: Progress = silent

    def cohort(self, project: dict[str, Any], cohort: str, audience_id: str, terms: Terms) -> Plan:
        """What a sync of the cohort would do now, from the newest generation and fresh reads of Mailchimp."""
        made = self.client.made
        with warehouse.reading(self.home) as con:
            people, as_of = audience.people(con, project, cohort), warehouse.as_of(con)
        excluded = {str(r): int(n) for r, n in people["reason"].value_counts().items() if r != "exportable"}
        warning = audience.id_warning(project, people)
        target = self._target(project, cohort, audience_id, terms)
        found, first = self._people(people, target, terms)
        settings = self.client.settings
        return Plan(project["project_id"], cohort, len(people), target, self.connection["new_contacts"], found,
                    excluded, (warning,) if warning else (), as_of, receipts.new_run_id(), terms, first,
                    self.client.made - made, (settings.guard_share, settings.guard_people))

    def again(self, first: Plan) -> Plan:
        """What is left of a plan: the same people, fresh reads of Mailchimp, and nothing that the plan did not say."""
        project = warehouse.required_project(self.home, first.project_id)
        target = self._target(project, first.cohort, first.target.audience_id, first.terms)
        found, _ = self._people(first.cohort_people(), target, first.terms)
        return within(first, replace(first, target=target, people=found))

    def _target(self, project: dict[str, Any], cohort: str, audience_id: str, terms: Terms) -> Target:
        return segment.find(self.home, self.connection, self.client, project, cohort, audience_id, terms.adopt)

    def _people(self, people: pd.DataFrame, target: Target, terms: Terms) -> tuple[pd.DataFrame, bool]:
        """A plan's people, and whether this is the segment's first export."""
        self.progress("Reading the audience", 0, 1)
        members = mirror.refresh(self.home, self.client, target.audience_id)
        people = people.assign(member_hash=people["address"].map(emails.member_hash, na_action="ignore").astype("str"))
        on_segment, last = mailchimp.parse_segment_members([]), None
        if target.segment_id is not None:
            last = mirror.last_export(self.home, target.audience_id, target.segment_id)
            ours = pd.concat([people["member_hash"], NO_EXPORT["member_hash"] if last is None
                              else last["member_hash"]])
            on_segment = self._on_segment(target, members, ours)
        rejects = ledger.rejects(self.home, target.account_id, target.audience_id)
        found = plan_people(people, members, on_segment, rejects, last, keep_hand_edits=terms.keep_hand_edits)
        return found, last is None

    def _on_segment(self, target: Target, members: pd.DataFrame, ours: pd.Series) -> pd.DataFrame:
        """Everyone on the segment; pending ones, whom it does not list, by their own records read afresh."""
        assert target.segment_id is not None
        listed = mailchimp.fetch_segment_members(self.client, target.audience_id, target.segment_id)
        if not ((members["status"] == "pending") & members["member_hash"].isin(ours)).any():
            return listed
        pending = mailchimp.fetch_members(self.client, target.audience_id, "pending")
        waiting = mirror.carrying(pending, target.segment_id)
        return pd.concat([listed, waiting[~waiting["member_hash"].isin(listed["member_hash"])]], ignore_index=True)
