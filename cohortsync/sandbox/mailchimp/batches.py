"""Batch subscribe: up to 500 members in one call, answered 200 even when every one of them failed.

Source: https://mailchimp.com/developer/marketing/api/lists/batch-subscribe-or-unsubscribe/
"""

from __future__ import annotations

import json
import random
import sqlite3
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from .addresses import address_fault
from .members import (
    change_member,
    checked_status,
    create_member,
    find_member,
    member_objects,
)
from .problems import Problem, in_compliance_state, invalid_resource
from .switches import setting
from .tags import add_to_segment, check_tag_names, create_static_segment, find_tag, replace_tags

LIMIT = 500
TOO_MANY_LISTS = "{} has signed up to a lot of lists very recently; we're not allowing more signups for now"


@dataclass(frozen=True)
class Options:
    """What the caller asked of the whole batch."""

    update_existing: bool
    sync_tags: bool
    skip_required: bool
    skip_duplicates: bool


@dataclass(frozen=True)
class Refusing:
    """Some people are refused for reasons of Mailchimp's own, by a seed always the same ones: a share of them."""

    share: float
    seed: int

    def check(self, address: str) -> None:
        chance = random.Random(f"{self.seed}:{address.lower()}") if self.share else None
        if chance and chance.random() < self.share:
            raise chance.choice([invalid_resource(detail=TOO_MANY_LISTS.format(address)), in_compliance_state(address)])


@dataclass
class Outcome:
    """Hashes of those created and updated, an entry for each refused, and by tag the row ids of who is to wear it."""

    created: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    errors: list[dict[str, str]] = field(default_factory=list)
    tagged: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))


def batch_subscribe(db: sqlite3.Connection, audience_id: str, members: Any, options: Options) -> dict[str, Any]:
    """Subscribe each member on their own. Raises Problem 400 for the whole call: shape, size, duplicates."""
    outcome, refusing = Outcome(), Refusing(setting(db, "refused_share"), setting(db, "fault_seed"))
    for body in checked_members(members, options.skip_duplicates):
        try:
            subscribe(db, audience_id, body, options, outcome, refusing)
        except Problem as problem:
            outcome.errors.append(error_entry(body, problem))
    for name, member_ids in outcome.tagged.items():
        add_to_segment(db, find_tag(db, audience_id, name) or create_static_segment(db, audience_id, name), member_ids)
    created, updated = (objects(db, audience_id, hashes) for hashes in (outcome.created, outcome.updated))
    if setting(db, "batch_tags") == "missing":
        created = [member | {"tags": [], "tags_count": 0} for member in created]
    return {
        "new_members": created,
        "updated_members": updated,
        "errors": outcome.errors,
        "total_created": len(created),
        "total_updated": len(updated),
        "error_count": len(outcome.errors),
        "_links": [],
    }


def checked_members(members: Any, skip_duplicates: bool) -> list[dict[str, Any]]:
    """The bodies to work through; of equal addresses the first, when the caller allows duplicates."""
    if not isinstance(members, list) or not all(is_member_body(body) for body in members):
        raise invalid_resource(("members", "Schema describes an array of objects with an email_address"))
    if not members:
        raise invalid_resource(("members", "This value should not be blank."))
    if len(members) > LIMIT:
        detail = f"Maximum allowed member items exceeded, please provide at most {LIMIT} items in members field"
        raise invalid_resource(detail=detail)
    first: dict[str, dict[str, Any]] = {}
    for body in members:
        first.setdefault(body["email_address"].strip().lower(), body)
    if len(first) < len(members) and not skip_duplicates:
        raise invalid_resource(("members", "Duplicate items found for the same email address in one call"))
    return list(first.values())


def is_member_body(body: Any) -> bool:
    return isinstance(body, dict) and isinstance(body.get("email_address"), str)


def subscribe(db: sqlite3.Connection, audience_id: str, body: dict[str, Any], options: Options, outcome: Outcome,
              refusing: Refusing) -> None:
    """Create or update one member. Raises Problem for what the caller reads in `errors`.

    An archived member counts as new even without `update_existing`: whether Mailchimp leaves such a
    person alone is not known, so here the call brings them back (switch `archived_in_batch`).
    """
    check_batch_address(body["email_address"].strip())
    new_status = checked_status(body, "status_if_new", "status")
    if new_status is None:
        raise invalid_resource(("status", "This value should not be blank."))
    tags = check_tag_names(body.get("tags") or [])
    member = find_member(db, audience_id, body["email_address"].strip())
    if member is None:
        refusing.check(body["email_address"].strip())
        status = setting(db, "batch_status") or new_status
        member = create_member(db, audience_id, body | {"tags": []}, status, options.skip_required)
        for name in tags:
            outcome.tagged[name].append(member["id"])
        outcome.created.append(member["hash"])
    elif member["status"] == "archived" and (options.update_existing or brings_back(db)):
        given = new_status if not options.update_existing else checked_status(body, "status")
        member = change_member(db, member, body, given, options.skip_required)
        (outcome.updated if options.update_existing else outcome.created).append(member["hash"])
    elif options.update_existing or setting(db, "batch_updates"):
        member = change_member(db, member, body, checked_status(body, "status"), options.skip_required)
        outcome.updated.append(member["hash"])
    else:
        raise contact_exists(member["email"])
    if options.sync_tags:
        replace_tags(db, member, tags)


def check_batch_address(address: str) -> None:
    """Unlike the single-member calls, a batch says which part of the address is wrong."""
    if fault := address_fault(address):
        raise invalid_resource(detail=fault)


def brings_back(db: sqlite3.Connection) -> bool:
    return bool(setting(db, "archived_in_batch") == "brought_back")


def contact_exists(email: str) -> Problem:
    return Problem(400, "ERROR_CONTACT_EXISTS", f"{email} is already a list member")


def error_entry(body: dict[str, Any], problem: Problem) -> dict[str, str]:
    """One refused member; everything but "exists" is told apart by the text alone."""
    blamed = problem.errors[0] if problem.errors else {"field": "", "message": ""}
    exists = problem.title == "ERROR_CONTACT_EXISTS"
    return {
        "email_address": body["email_address"],
        "error": problem.detail,
        "error_code": "ERROR_CONTACT_EXISTS" if exists else "ERROR_GENERIC",
        "field": blamed["field"],
        "field_message": blamed["message"],
    }


def objects(db: sqlite3.Connection, audience_id: str, hashes: list[str]) -> list[dict[str, Any]]:
    rows = db.execute(
        "select members.* from json_each(?) as wanted join members indexed by members_by_hash"
        " on audience_id = ? and hash = wanted.value order by wanted.key",
        (json.dumps(hashes), audience_id),
    ).fetchall()
    return member_objects(db, audience_id, rows)
