"""The routes of Mixpanel's APIs at one address: a question comes in, a rule is asked, an answer goes out.

Source: https://developer.mixpanel.com/reference/overview
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request

from . import accounts, engage, ingestion
from .state import keep_settings

Json = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """One request, taken apart: where, who says so, what was asked (query, form or JSON body), and the raw body."""

    path: str
    authorization: str
    asked: Json
    raw: bytes
    headers: dict[str, str]
    project_id: str

    @classmethod
    async def of(cls, request: Request) -> Call:
        raw = await request.body()
        asked = dict(request.query_params) | body_parameters(raw, request.headers.get("content-type", ""))
        project_id = str(request.path_params.get("project_id") or asked.get("project_id") or "")
        path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return cls(path, request.headers.get("authorization", ""), asked, raw, dict(request.headers), project_id)


Handler = Callable[[sqlite3.Connection, Call], Any]


def body_parameters(raw: bytes, content_type: str) -> Json:
    """The parameters of a form or of a JSON object; of anything else none."""
    if "json" in content_type and raw.strip()[:1] == b"{":
        try:
            return dict(json.loads(raw))
        except ValueError:
            return {}
    if "form-urlencoded" in content_type:
        return dict(parse_qsl(raw.decode("utf-8", "replace")))
    return {}


def get_me(db: sqlite3.Connection, call: Call) -> Json:
    return {"status": "ok", "results": accounts.me(db, accounts.of_the_app(db, call.authorization))}


def get_accounts(db: sqlite3.Connection, call: Call) -> Json:
    account = accounts.of_the_app(db, call.authorization)
    accounts.check_project(db, call.project_id, call.path)
    return {"status": "ok", "results": accounts.service_accounts(db, account)}


def get_cohorts(db: sqlite3.Connection, call: Call) -> Any:
    return engage.list_cohorts(db)


def get_engage(db: sqlite3.Connection, call: Call) -> str:
    engage.no_group(call.asked)
    return engage.page_of_profiles(db, call.asked)


def post_import(db: sqlite3.Connection, call: Call) -> Any:
    if "data" in call.asked:  # as the vendor's own library for Python sends it
        return post_track(db, call)
    accounts.check_importer(db, call.authorization, call.project_id)
    raw = ingestion.unzipped(call.raw, call.headers.get("content-encoding", ""))
    ingestion.refuse_too_large(db, raw)
    events = ingestion.body_events(raw)
    imported = ingestion.import_events(db, events, strict=str(call.asked.get("strict", "1")) != "0")
    return {"code": 200, "num_records_imported": imported, "status": "OK"}


def post_track(db: sqlite3.Connection, call: Call) -> Any:
    def keep() -> None:
        events = ingestion.form_data(str(call.asked.get("data", "")))
        ingestion.keep_events(db, [each for each in events if isinstance(each, dict) and "properties" in each],
                              imported=call.path.startswith("/import"))  # fmt: skip

    return outcome(call, keep)


def post_profiles(db: sqlite3.Connection, call: Call) -> Any:
    def change() -> None:
        ingestion.update_profiles(db, ingestion.form_data(str(call.asked["data"])) if "data" in call.asked
                                  else ingestion.body_updates(call.raw))  # fmt: skip

    return outcome(call, change)


def outcome(call: Call, work: Callable[[], None]) -> Json | int:
    """1 when it went well and 0 when not, in both cases answered 200; with the reason to who asks for it."""
    error = None
    try:
        work()
    except ingestion.Invalid as invalid:
        error = str(invalid)
    told = {"status": int(error is None), "error": error}
    return told if {"verbose", "strict"} & set(call.asked) else int(error is None)


def post_settings(db: sqlite3.Connection, call: Call) -> Json:
    keep_settings(db, call.asked)
    return {"status": "ok"}


# Those of the query API are held to its limits; a slash at the end makes no difference to any.
QUERIES: dict[str, Handler] = {
    "/api/query/cohorts/list": get_cohorts,
    "/api/2.0/cohorts/list": get_cohorts,
    "/api/query/engage": get_engage,
    "/api/2.0/engage": get_engage,
}
LOOKUPS: dict[str, Handler] = {
    "/api/app/me": get_me,
    "/api/app/projects/{project_id}/service-accounts": get_accounts,
}
WRITES: dict[str, Handler] = {
    "/import": post_import,
    "/track": post_track,
    "/engage": post_profiles,
}
SWITCHES: dict[str, Handler] = {
    # Not Mixpanel's: faults, limits and other behaviour, on request.
    "/sandbox/settings": post_settings,
}
