"""Time passes in the sandbox, and things happen on both sides: the same by the same seed.

It works on what the services remember, so it does not matter whether they are being served.
"""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from .mailchimp import life as mailchimp
from .mailchimp import state as mailchimp_state
from .mixpanel import life as mixpanel
from .mixpanel import state as mixpanel_state
from .state import State

WORDS = {
    "mailchimp": {
        "campaigns": "campaigns sent to a segment",
        "sent": "mails sent",
        "open": "mails opened",
        "click": "links clicked",
        "unsub": "people unsubscribed",
        "bounce": "addresses bounced",
        "taken_off": "taken off a segment by hand",
        "put_on": "put on a segment by hand",
        "tagged": "tagged by hand",
    },
    "mixpanel": {
        "signed_up": "people signed up",
        "joined": "joined a cohort",
        "left": "left a cohort",
        "merged": "devices turned out to be a user's",
        "address_changed": "addresses changed",
        "events": "new events",
        "late": "of them late by days",
        "mail_events": "of them Mailchimp's",
        "rekeyed": "rows shown re-keyed",
    },
}


@dataclass(frozen=True)
class Passed:
    """What happened while `seconds` passed: how often, by the keys of WORDS. `now`: the time it is there since."""

    seconds: float
    now: datetime
    mailchimp: dict[str, int]
    mixpanel: dict[str, int]


def advance(folder: Path, seconds: float, seed: int = 1) -> Passed:
    """Let time pass for what the sandbox in `folder` remembers. Raises FileNotFoundError where there is none."""
    if not (folder / "mailchimp.sqlite").exists():
        raise FileNotFoundError(folder / "mailchimp.sqlite")
    with remembered(folder / "mailchimp.sqlite") as mails:
        rng = random.Random(f"{seed}:{mailchimp_state.ahead_s(mails)}")
        done, mailed = mailchimp.live(mails, rng, seconds)
        if not (folder / "mixpanel.sqlite").exists():
            return Passed(seconds, mailchimp_state.instant(mails), counts(done, "mailchimp"), {})
        with remembered(folder / "mixpanel.sqlite") as events:
            happened = mixpanel.live(events, rng, seconds, mailed)
            now = mixpanel_state.now(events)
    return Passed(seconds, now, counts(done, "mailchimp"), counts(happened, "mixpanel"))


@contextmanager
def remembered(path: Path) -> Iterator[sqlite3.Connection]:
    state = State(path)
    try:
        with state.transaction() as db:
            yield db
    finally:
        state.close()


def counts(done: Counter[str], service: str) -> dict[str, int]:
    return {name: done[name] for name in WORDS[service]}
