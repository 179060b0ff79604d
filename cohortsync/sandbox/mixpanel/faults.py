"""What goes wrong on request: drawn by a seed, one request after the other.

Settings: `faults` (a comma list of the names below), `fault_rate` (0 to 1), `fault_seed`.
"""

from __future__ import annotations

import random
import sqlite3

from .refusals import Refusal, refused, refused_import
from .state import keep_settings, setting

EVERYWHERE = ("429", "429_retry_after", "500", "502", "cut")
EXPORTS = ("terminated_early", "split_record", "duplicate_rows")
PAGES = ("expired_session",)
WORDS = {500: "Internal Server Error", 502: "Bad Gateway"}


def draw(db: sqlite3.Connection, kind: str, later_page: bool) -> str:
    """The fault that this request meets; blank for none."""
    rate = float(setting(db, "fault_rate", "0"))
    if not rate:
        return ""
    number = int(setting(db, "fault_count", "0")) + 1
    keep_settings(db, {"fault_count": str(number)})
    chance = random.Random(f"{setting(db, 'fault_seed', '0')}:{number}")
    possible = EVERYWHERE + (EXPORTS if kind == "export" else ()) + (PAGES if later_page else ())
    wanted = [name for name in setting(db, "faults").split(",") if name in possible]
    return chance.choice(wanted) if wanted and chance.random() < rate else ""


def refusal(fault: str, path: str) -> Refusal | None:
    """The Refusal of a fault that is one."""
    if fault in ("429", "429_retry_after"):
        return refused(429, path, "Query rate limit exceeded. Please retry the request with exponential backoff.",
                       {"Retry-After": "1"} if fault == "429_retry_after" else None)  # fmt: skip
    if fault in ("500", "502"):
        return Refusal(int(fault), {"error": "Internal server error", "status": "error"})
    if fault == "expired_session":
        return refused(400, path, "session_id is invalid or has expired")
    return None


def refusal_of_data(fault: str) -> Refusal | None:
    """The Refusal of a fault that is one, as the ingestion API words it."""
    if fault in ("429", "429_retry_after"):
        later = {"Retry-After": "1"} if fault == "429_retry_after" else None
        error = "Project exceeded rate limits. Please retry the request with exponential backoff."
        return refused_import(429, error, "Too Many Requests", later)
    if fault in ("500", "502"):
        return refused_import(int(fault), "Internal server error", WORDS[int(fault)])
    return None
