"""A plan made from what stands: the cohort here, the audience and its segment there. Reads only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from cohortsync import audience, fields, ledger, mailchimp, mirror, mtu, receipts, segment, undo, warehouse
from cohortsync.errors import BadInput
from cohortsync.mailchimp import Client
from cohortsync.plan import Plan, Target, Terms, moves
from cohortsync.sources import Progress, silent
from cohortsync.words import plan_people


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
        with warehouse.attached(self.home) as con:
            people, as_of = audience.people(con, project, cohort), warehouse.as_of(con)
            named = list(dict.fromkeys([*terms.fields, *filter(None, [terms.consent_property])]))
            users = people.loc[people["reason"] == "exportable", "canonical_id"].tolist()
            values = audience.values(con, project, users, named)
        excluded = {str(r): int(n) for r, n in people["reason"].value_counts().items() if r != "exportable"}
        target = self._target(project, cohort, audience_id, terms)
        if terms.consent_property:
            people["consent"] = fields.consents(people["canonical_id"].map(values[terms.consent_property]))
        filled = self._filled(people, values, audience_id, terms)
        found, first = self._people(project["project_id"], people.assign(**filled.columns), target, terms)
        settings, warning = self.client.settings, audience.id_warning(project, people)
        return self._billed(Plan(
            project["project_id"], cohort, len(people), target, self.connection["new_contacts"], found, excluded,
            (*filter(None, [warning]), *filled.warnings), as_of, ledger.new_run_id(), terms, first,
            self.client.made - made, (settings.guard_share, settings.guard_people),
            {field.tag: field.type for field in filled.new}))

    def _billed(self, plan: Plan) -> Plan:
        """The plan with what a campaign to its segment does to Mixpanel's bill."""
        with warehouse.attached(self.home) as con:
            users = plan.mailable["canonical_id"].fillna("").tolist()
            return replace(plan, mtu=mtu.effect(con, plan.project_id, users))

    def _filled(self, people: pd.DataFrame, values: pd.DataFrame, audience_id: str, terms: Terms) -> fields.Filled:
        """What goes into the audience's merge fields, of exportable people."""
        present = [fields.Field(row["tag"], row["type"], tuple((row.get("options") or {}).get("choices", ())))
                   for row in mailchimp.fetch_merge_fields(self.client, audience_id)]
        known = {"$first_name": people["first_name"].astype("str"), "$last_name": people["last_name"].astype("str")}
        exportable = people["canonical_id"].where(people["reason"] == "exportable")
        known |= {name: fields.parsed(exportable.map(values[name])) for name in terms.fields}
        return fields.fill(known, terms.fields, present, terms.create_fields)

    def again(self, first: Plan) -> Plan:
        """A plan made again for the same people, from fresh reads of Mailchimp; consent is as of now."""
        if first.undoes:
            return self.undo(first.undoes)
        project = warehouse.required_project(self.home, first.project_id)
        target = self._target(project, first.cohort, first.target.audience_id, first.terms)
        people = first.cohort_people()
        people["consent"] &= self._consent(project, people["canonical_id"], first.terms)
        found, _ = self._people(first.project_id, people, target, first.terms)
        return replace(first, target=target, people=found)

    def undo(self, run_id: str) -> Plan:
        """What would take a run back, asking for consent as the run did.

        Raises BadInput for a run that left no outcome, or whose segment is gone.
        """
        made, first = self.client.made, receipts.load_plan(self.home, run_id)
        done = undo.moved(receipts.proven_outcome(self.home, run_id))
        project = warehouse.required_project(self.home, first.project_id)
        target = self._target(project, first.cohort, first.target.audience_id, Terms())
        wrote_to = (ledger.run(self.home, run_id) or {"receipt": {}})["receipt"].get("segment_id")
        if wrote_to is None:
            raise BadInput(f"Run {run_id} put nobody on a segment and took nobody off: nothing to undo.")
        if wrote_to != target.segment_id:
            raise BadInput(f"The segment that run {run_id} wrote to is not the cohort's any more: nothing to undo.")
        members, on_segment, _ = self._standing(target, done["member_hash"], Terms())
        people = undo.undo_people(done, members, on_segment, self._moved_since(first, run_id),
                                  self._consent(project, done["canonical_id"], first.terms),
                                  self._forgotten(first.project_id, done))
        settings, size = self.client.settings, int(people["word"].isin(["add_existing", "refuse"]).sum())
        return Plan(first.project_id, first.cohort, size, target, self.connection["new_contacts"], people, {},
                    tuple(undo.lasting(done, people)), None, ledger.new_run_id(),
                    Terms(consent_property=first.terms.consent_property), False,
                    self.client.made - made, (settings.guard_share, settings.guard_people), undoes=run_id)

    def _moved_since(self, first: Plan, run_id: str) -> set[str]:
        """Hashes of those whom later runs of the cohort put on the segment or took off it.

        Not those whom this very undo moved before it was cut short: where they stand now is all that counts.
        """
        here, found = (first.project_id, first.cohort, first.target.audience_id), set[str]()
        for row in ledger.runs(self.home):  # the latest first
            if row["run_id"] == run_id:
                break
            ours = (row["project_id"], row["cohort"], row["audience_id"]) == here and row["status"] in receipts.WROTE
            unfinished_undo = row["receipt"].get("undoes") == run_id and row["status"] != "completed"
            if ours and not unfinished_undo:
                found |= {key for key, _ in moves(receipts.load_plan(self.home, row["run_id"]))}
        return found

    def _consent(self, project: dict[str, Any], users: pd.Series, terms: Terms) -> pd.Series:
        """Whether each of these users agrees now, where the sync asks for that."""
        if not terms.consent_property:
            return pd.Series(True, index=users.index)
        with warehouse.attached(self.home) as con:
            values = audience.values(con, project, users.dropna().tolist(), [terms.consent_property])
        return fields.consents(users.map(values[terms.consent_property]))

    def _forgotten(self, project_id: str, people: pd.DataFrame) -> set[str]:
        """Hashes of those among these people who were forgotten here, by their address or any id of theirs."""
        ids = [f"{project_id}|" + people[name] for name in people.columns.intersection(["distinct_id", "canonical_id"])]
        theirs = pd.Series(False, index=people.index)
        for keys in [people["member_hash"], *ids]:
            theirs |= keys.isin(ledger.forgotten_among(self.home, keys.dropna()))
        return set(people.loc[theirs, "member_hash"].dropna())

    def _target(self, project: dict[str, Any], cohort: str, audience_id: str, terms: Terms) -> Target:
        return segment.find(self.home, self.connection, self.client, project, cohort, audience_id, terms.adopt)

    def _people(self, project_id: str, people: pd.DataFrame, target: Target,
                terms: Terms) -> tuple[pd.DataFrame, bool]:
        """A plan's people, and whether this is the segment's first export."""
        members, on_segment, last = self._standing(target, people["member_hash"], terms)
        rejects = ledger.rejects(self.home, target.account_id, target.audience_id)
        forgotten = self._forgotten(project_id, people) | self._forgotten(project_id, on_segment)
        found = plan_people(people, members, on_segment, rejects, last, forgotten, terms.keep_hand_edits)
        if terms.update_fields:
            ours = found["word"].isin(["keep", "add_existing"]) & found["canonical_id"].notna()
            found["fields_differ"] = ours & fields.differing(found, members)
        return found, last is None

    def _standing(self, target: Target, hashes: pd.Series, terms: Terms) -> tuple[
            pd.DataFrame, pd.DataFrame, pd.DataFrame | None]:
        """The audience's members, everyone on the segment, and what the last export left there."""
        self.progress("Reading the audience", 0, 1)
        members = mirror.refresh(self.home, self.client, target.audience_id, terms.update_fields)
        if target.segment_id is None:
            return members, mailchimp.parse_segment_members([]), None
        last = mirror.last_export(self.home, target.audience_id, target.segment_id)
        ours = hashes if last is None else pd.concat([hashes, last["member_hash"]])
        return members, self._on_segment(target, members, ours), last

    def _on_segment(self, target: Target, members: pd.DataFrame, ours: pd.Series) -> pd.DataFrame:
        """Everyone on the segment; pending ones, whom it does not list, by their own records read afresh."""
        assert target.segment_id is not None
        listed = mailchimp.fetch_segment_members(self.client, target.audience_id, target.segment_id)
        asked = members["member_hash"].isin(ours) | (members["address"] == "")  # whose address is forgotten here
        if not (asked & (members["status"] == "pending")).any():
            return listed
        pending = mailchimp.fetch_members(self.client, target.audience_id, "pending")
        waiting = mirror.carrying(pending, target.segment_id)
        return pd.concat([listed, waiting[~waiting["member_hash"].isin(listed["member_hash"])]], ignore_index=True)
