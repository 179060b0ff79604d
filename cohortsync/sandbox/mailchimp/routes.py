"""The routes of Mailchimp's Marketing API 3.0: a request comes in, a rule is asked, JSON goes out.

Source: https://mailchimp.com/developer/marketing/api/
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ..state import State
from . import activity, audiences, batches, consent, members, merge_fields, segments, tags
from .door import problem_response
from .fields import select_fields
from .problems import Problem, invalid_resource, method_not_allowed, not_found

Json = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """One request, taken apart: the caller's role and app, path and query parameters, and the JSON body."""

    role: str
    app: str
    path: dict[str, str]
    query: QueryParams
    body: Json

    @property
    def audience(self) -> str:
        return self.path["audience_id"]

    def flag(self, name: str) -> bool:
        return self.query.get(name, "").lower() in ("true", "1")

    def page(self) -> tuple[int, int]:
        """`count` (10 unless given, cut to 1,000 without a word) and `offset`."""
        return min(self.number("count", 10), 1000), self.number("offset", 0)

    def number(self, name: str, default: int) -> int:
        given = self.query.get(name, str(default))
        if not given.isdecimal():
            raise Problem(400, "Bad Request", f"{name} must be a whole number, not {given!r}")
        return min(int(given), 2**31)  # as far as SQLite counts on every machine

    def instant(self, name: str) -> str | None:
        """An ISO 8601 query parameter as the state keeps instants."""
        if not (given := self.query.get(name)):
            return None
        try:
            at = datetime.fromisoformat(given)
        except ValueError as error:
            raise Problem(400, "Bad Request", f"{name} is not a date and time: {given!r}") from error
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC).isoformat(timespec="seconds")


Handler = Callable[[sqlite3.Connection, Call], Json | None]


@dataclass(frozen=True)
class Resource:
    """The methods of one path. A handler returns the JSON of a 200, or None for a 204."""

    state: State
    handlers: dict[str, Handler]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self.respond(request)
        except Problem as problem:
            response = problem_response(problem)
        await response(scope, receive, send)

    async def respond(self, request: Request) -> Response:
        raw = await request.body()
        if request.method == "HEAD":
            raise not_found()
        if request.method not in self.handlers:
            raise method_not_allowed(self.handlers)
        call = Call(request.state.role, request.state.app, request.path_params, request.query_params, parse_body(raw))
        named = f"{request.method} {request.url.path}"
        answer = await run_in_threadpool(self.handle, self.handlers[request.method], call, named)
        if answer is None:
            return Response(status_code=204)
        if request.method != "GET":
            return JSONResponse(answer)
        query = call.query
        return JSONResponse(select_fields(answer, query.get("fields", ""), query.get("exclude_fields", "")))

    def handle(self, handler: Handler, call: Call, named: str) -> Json | None:
        with self.state.transaction() as db, consent.asked_by(db, call.app, named):
            if "audience_id" in call.path:
                audiences.check_audience(db, call.audience)
            return handler(db, call)


def parse_body(raw: bytes) -> Json:
    """The JSON object of a body; none at all counts as an empty one. Raises Problem 400."""
    if not raw.strip():
        return {}
    try:
        body = json.loads(raw)
    except ValueError as error:
        detail = "We encountered an unspecified JSON parsing error."
        raise Problem(400, "JSON Parse Error", detail) from error
    if not isinstance(body, dict):
        raise invalid_resource(("", "Schema describes object, another type found instead"))
    return body


def collection(name: str, found: tuple[list[Json], int], **more: Any) -> Json:
    """A page of things under their name, and how many there are in all."""
    items, total = found
    return {name: items, **more, "total_items": total, "_links": []}


def get_ping(db: sqlite3.Connection, call: Call) -> Json:
    return {"health_status": "Everything's Chimpy!"}


def get_root(db: sqlite3.Connection, call: Call) -> Json:
    return audiences.account_object(db, call.role)


def get_audiences(db: sqlite3.Connection, call: Call) -> Json:
    found = audiences.list_audiences(db, *call.page())
    allowed = {"may_create": True, "max_instances": 100, "current_total_instances": found[1]}
    return collection("lists", found, constraints=allowed)


def post_audiences(db: sqlite3.Connection, call: Call) -> Json:
    return audiences.post_audience(db, call.body)


def get_audience(db: sqlite3.Connection, call: Call) -> Json:
    return audiences.the_audience(db, call.audience, call.flag("include_total_contacts"))


def post_audience(db: sqlite3.Connection, call: Call) -> Json:
    options = batches.Options(
        update_existing=call.body.get("update_existing") is True,
        sync_tags=call.body.get("sync_tags") is True,
        skip_required=call.flag("skip_merge_validation"),
        skip_duplicates=call.flag("skip_duplicate_check"),
    )
    return batches.batch_subscribe(db, call.audience, call.body.get("members"), options)


def get_merge_fields(db: sqlite3.Connection, call: Call) -> Json:
    found = merge_fields.list_merge_fields(db, call.audience)
    count, offset = call.page()
    return collection("merge_fields", (found[offset : offset + count], len(found)), list_id=call.audience)


def post_merge_fields(db: sqlite3.Connection, call: Call) -> Json:
    return merge_fields.create_merge_field(db, call.audience, call.body)


def get_members(db: sqlite3.Connection, call: Call) -> Json:
    count, offset = call.page()
    found = members.list_members(
        db,
        call.audience,
        count,
        offset,
        status=status_filter(call),
        since_last_changed=call.instant("since_last_changed"),
        before_last_changed=call.instant("before_last_changed"),
    )
    return collection("members", found, list_id=call.audience)


def status_filter(call: Call) -> str | None:
    status = call.query.get("status") or None
    if status and status not in members.STATUSES:
        raise Problem(400, "Bad Request", f"status is none of {', '.join(members.STATUSES)}")
    return status


def post_members(db: sqlite3.Connection, call: Call) -> Json:
    return members.add_member(db, call.audience, call.body, call.flag("skip_merge_validation"))


def get_member(db: sqlite3.Connection, call: Call) -> Json:
    return members.one_object(db, call.audience, call.path["member"])


def put_member(db: sqlite3.Connection, call: Call) -> Json:
    skip = call.flag("skip_merge_validation")
    return members.put_member(db, call.audience, call.path["member"], call.body, skip)


def patch_member(db: sqlite3.Connection, call: Call) -> Json:
    skip = call.flag("skip_merge_validation")
    return members.patch_member(db, call.audience, call.path["member"], call.body, skip)


def delete_member(db: sqlite3.Connection, call: Call) -> None:
    members.archive_member(db, call.audience, call.path["member"])


def post_delete_permanent(db: sqlite3.Connection, call: Call) -> None:
    members.forget_member(db, call.audience, call.path["member"])


def post_as_person(db: sqlite3.Connection, call: Call) -> Json:
    return members.act_as_person(db, call.audience, call.path["member"], call.path["action"])


def get_member_tags(db: sqlite3.Connection, call: Call) -> Json:
    member = members.the_member(db, call.audience, call.path["member"])
    found = tags.list_member_tags(db, member)
    count, offset = call.page()
    return collection("tags", (found[offset : offset + count], len(found)))


def post_member_tags(db: sqlite3.Connection, call: Call) -> None:
    member = members.the_member(db, call.audience, call.path["member"])
    tags.set_tags(db, member, call.body.get("tags"))


def get_tag_search(db: sqlite3.Connection, call: Call) -> Json:
    found = tags.search_tags(db, call.audience, call.query.get("name", ""))
    return {"tags": found, "total_items": len(found)}


def get_segments(db: sqlite3.Connection, call: Call) -> Json:
    found = segments.list_segments(db, call.audience, *call.page(), kind=call.query.get("type") or None)
    return collection("segments", found, list_id=call.audience)


def post_segments(db: sqlite3.Connection, call: Call) -> Json:
    return segments.create_segment(db, call.audience, call.body)


def get_segment(db: sqlite3.Connection, call: Call) -> Json:
    return segments.the_segment(db, call.audience, call.path["segment_id"])


def post_segment(db: sqlite3.Connection, call: Call) -> Json:
    return segments.add_and_remove(db, call.audience, call.path["segment_id"], call.body)


def patch_segment(db: sqlite3.Connection, call: Call) -> Json:
    return segments.change_segment(db, call.audience, call.path["segment_id"], call.body)


def delete_segment(db: sqlite3.Connection, call: Call) -> None:
    segments.delete_segment(db, call.audience, call.path["segment_id"])


def get_segment_members(db: sqlite3.Connection, call: Call) -> Json:
    others = ("unsubscribed", "cleaned", "transactional")
    statuses = ["subscribed", *(status for status in others if call.flag(f"include_{status}"))]
    found = segments.list_segment_members(db, call.audience, call.path["segment_id"], *call.page(), statuses=statuses)
    return collection("members", found)


def get_reports(db: sqlite3.Connection, call: Call) -> Json:
    return collection("reports", activity.list_reports(db, call.instant("since_send_time") or "", *call.page()))


def get_report(db: sqlite3.Connection, call: Call) -> Json:
    return activity.the_report(db, call.path["campaign_id"])


def get_email_activity(db: sqlite3.Connection, call: Call) -> Json:
    campaign_id = call.path["campaign_id"]
    found = activity.list_email_activity(db, campaign_id, call.instant("since") or "", *call.page())
    return collection("emails", found, campaign_id=campaign_id)


def get_sent_to(db: sqlite3.Connection, call: Call) -> Json:
    campaign_id = call.path["campaign_id"]
    return collection("sent_to", activity.list_sent_to(db, campaign_id, *call.page()), campaign_id=campaign_id)


def get_unsubscribed(db: sqlite3.Connection, call: Call) -> Json:
    campaign_id = call.path["campaign_id"]
    found = activity.list_unsubscribed(db, campaign_id, *call.page())
    return collection("unsubscribes", found, campaign_id=campaign_id)


AUDIENCE = "/3.0/lists/{audience_id}"
MEMBER = AUDIENCE + "/members/{member}"
SEGMENT = AUDIENCE + "/segments/{segment_id}"
REPORT = "/3.0/reports/{campaign_id}"
PATHS: dict[str, dict[str, Handler]] = {
    "/3.0/ping": {"GET": get_ping},
    "/3.0/": {"GET": get_root},
    "/3.0": {"GET": get_root},
    "/3.0/lists": {"GET": get_audiences, "POST": post_audiences},
    AUDIENCE: {"GET": get_audience, "POST": post_audience},
    AUDIENCE + "/merge-fields": {"GET": get_merge_fields, "POST": post_merge_fields},
    AUDIENCE + "/members": {"GET": get_members, "POST": post_members},
    MEMBER: {"GET": get_member, "PUT": put_member, "PATCH": patch_member, "DELETE": delete_member},
    MEMBER + "/actions/delete-permanent": {"POST": post_delete_permanent},
    MEMBER + "/tags": {"GET": get_member_tags, "POST": post_member_tags},
    AUDIENCE + "/tag-search": {"GET": get_tag_search},
    AUDIENCE + "/segments": {"GET": get_segments, "POST": post_segments},
    SEGMENT: {"GET": get_segment, "POST": post_segment, "PATCH": patch_segment, "DELETE": delete_segment},
    SEGMENT + "/members": {"GET": get_segment_members},
    "/3.0/reports": {"GET": get_reports},
    REPORT: {"GET": get_report},
    REPORT + "/email-activity": {"GET": get_email_activity},
    REPORT + "/sent-to": {"GET": get_sent_to},
    REPORT + "/unsubscribed": {"GET": get_unsubscribed},
    # Not Mailchimp's: what a person does with a mail in hand, so that a rehearsal can have it happen.
    "/people/{audience_id}/{member}/{action}": {"POST": post_as_person},
}


def build_routes(state: State) -> list[Route]:
    """Every path of the API on one state."""
    return [Route(path, Resource(state, handlers)) for path, handlers in PATHS.items()]
