"""Profiles and cohorts as the query API shows them: pages of a session.

Source: https://developer.mixpanel.com/reference/engage-query and …/cohorts-list
"""

from __future__ import annotations

import json
import re
import sqlite3
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from .refusals import Refusal, refused
from .state import now_s, setting

PATH = "/api/query/engage"
PAGE_SIZE = 1000
DEFINED = re.compile(r'defined\(\s*(?:properties|user)\["([^"]+)"\]\s*\)')
COMPARED = re.compile(r'(?:properties|user)\["([^"]+)"\]\s*(==|!=|>=|<=|>|<)\s*("(?:[^"\\]|\\.)*"|[\d.]+)')
COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    ">=": lambda a, b: type(a) is type(b) and a >= b,
    "<=": lambda a, b: type(a) is type(b) and a <= b,
    ">": lambda a, b: type(a) is type(b) and a > b,
    "<": lambda a, b: type(a) is type(b) and a < b,
}


def list_cohorts(db: sqlite3.Connection) -> list[dict[str, Any]]:
    """Every cohort with the size it was last counted at."""
    project_id = db.execute("select project_id from project").fetchone()["project_id"]
    rows = db.execute("select * from cohorts order by id").fetchall()
    return [{**dict(row), "project_id": project_id} for row in rows]


def page_of_profiles(db: sqlite3.Connection, asked: Mapping[str, Any]) -> str:
    """One page as JSON text. Raises Refusal 400 for a question that cannot be answered."""
    page = whole(asked.get("page") or 0, "page")
    size, total = min(whole(asked.get("page_size") or setting(db, "page_size", str(PAGE_SIZE)), "page_size"), 40000), ""
    if page:
        session_id = str(asked.get("session_id") or "")
        ids, size = session(db, session_id)
    else:
        ids = matching(db, asked)
        session_id = keep_session(db, ids, size)
        total = f', "total": {len(ids)}'
    wanted = listed(asked.get("output_properties"), "output_properties")
    results = ", ".join(rows(db, ids[page * size : (page + 1) * size], wanted))
    return (
        f'{{"page": {page}, "page_size": {size}, "results": [{results}], '
        f'"session_id": {json.dumps(session_id)}, "status": "ok"{total}}}'
    )


def whole(value: Any, name: str) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError):
        raise refused(400, PATH, f"{name} must be a whole number") from None
    if number < 0:
        raise refused(400, PATH, f"{name} must not be negative")
    return number


def parsed(value: Any, name: str) -> Any:
    """A parameter that is JSON, whether it came as text or was part of a JSON body."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value) if value else None
    except ValueError:
        raise refused(400, PATH, f"{name} is not valid JSON") from None


def listed(value: Any, name: str) -> list[str] | None:
    found = parsed(value, name)
    if found is None:
        return None
    if not isinstance(found, list):
        raise refused(400, PATH, f"{name} must be a list")
    return [str(each) for each in found]


def keep_session(db: sqlite3.Connection, ids: list[str], size: int) -> str:
    """What the first page found is what the others show, whatever changes meanwhile."""
    now = now_s(db)
    session_id = f"{int(now)}-{uuid.uuid4().hex[:8].upper()}"
    lifetime = float(setting(db, "session_seconds", "3600"))
    db.execute("delete from sessions where created_s < ?", (now - lifetime,))
    if len(ids) > size:
        db.execute("insert into sessions values (?, ?, ?, ?)", (session_id, json.dumps(ids), size, now))
    return session_id


def session(db: sqlite3.Connection, session_id: str) -> tuple[list[str], int]:
    """The ids of a session and its page size; none at all of one that had a single page."""
    if not session_id:
        raise refused(400, PATH, "session_id is required for page > 0")
    row = db.execute("select * from sessions where session_id = ?", (session_id,)).fetchone()
    lifetime = float(setting(db, "session_seconds", "3600"))
    started = session_id.partition("-")[0]
    if row is None and started.isdecimal() and int(started) > now_s(db) - lifetime:
        return [], PAGE_SIZE
    if row is None or row["created_s"] < now_s(db) - lifetime:
        raise refused(400, PATH, "session_id is invalid or has expired")
    return json.loads(row["ids"]), row["page_size"]


def matching(db: sqlite3.Connection, asked: Mapping[str, Any]) -> list[str]:
    """The ids that a question is about, in order."""
    cohort = parsed(asked.get("filter_by_cohort"), "filter_by_cohort")
    one = [str(asked["distinct_id"])] if asked.get("distinct_id") else None
    some = one or listed(asked.get("distinct_ids"), "distinct_ids")
    if cohort:
        ids = members(db, cohort, str(asked.get("include_all_users", "true")).lower() != "false")
    else:
        ids = [row[0] for row in db.execute("select distinct_id from profiles order by distinct_id")]
    if some is not None:
        wanted = set(some)
        ids = [each for each in ids if each in wanted]
    return [each for each in ids if keep(db, each)] if (keep := condition(asked.get("where"))) else ids


def members(db: sqlite3.Connection, cohort: Any, everyone: bool) -> list[str]:
    """A cohort's members; those without a profile only when everyone is asked for."""
    cohort_id = whole(cohort.get("id") if isinstance(cohort, dict) else None, "filter_by_cohort.id")
    if not db.execute("select 1 from cohorts where id = ?", (cohort_id,)).fetchone():
        raise refused(400, PATH, f"Cohort {cohort_id} does not exist")
    among = "" if everyone else "and distinct_id in (select distinct_id from profiles)"
    query = f"select distinct_id from cohort_members where cohort_id = ? {among} order by distinct_id"
    return [row[0] for row in db.execute(query, (cohort_id,))]


def condition(where: Any) -> Callable[[sqlite3.Connection, str], bool] | None:
    """The test that a `where` puts to a profile; the plainest forms only. Raises Refusal 400 for others."""
    if not where:
        return None
    text = str(where).strip()
    if defined := DEFINED.fullmatch(text):
        return lambda db, who: properties(db, who).get(defined[1]) is not None
    if compared := COMPARED.fullmatch(text):
        name, compare, value = compared[1], COMPARISONS[compared[2]], json.loads(compared[3])
        return lambda db, who: compare(properties(db, who).get(name), value)
    raise refused(400, PATH, "the local Mixpanel understands defined(…) and one comparison in where")


def properties(db: sqlite3.Connection, distinct_id: str) -> dict[str, Any]:
    row = db.execute("select properties from profiles where distinct_id = ?", (distinct_id,)).fetchone()
    return json.loads(row[0]) if row else {}


def rows(db: sqlite3.Connection, ids: list[str], wanted: list[str] | None) -> list[str]:
    """Profiles as JSON text; a member without one has no properties."""
    marks = ", ".join("?" * len(ids))
    found = dict(db.execute(f"select distinct_id, properties from profiles where distinct_id in ({marks})", ids)
                 .fetchall())  # fmt: skip
    return [
        f'{{"$distinct_id": {json.dumps(each)}, "$properties": {cut(found.get(each, "{}"), wanted)}}}' for each in ids
    ]


def cut(text: str, wanted: list[str] | None) -> str:
    if wanted is None:
        return text
    return json.dumps({name: value for name, value in json.loads(text).items() if name in wanted})


def no_group(asked: Mapping[str, Any]) -> None:
    """Groups are kept elsewhere; there are none here."""
    if asked.get("data_group_id"):
        raise Refusal(400, {"request": PATH, "error": "there are no groups in this rehearsal"})
