"""Profiles, and members of cohorts, from Mixpanel into a file: page by page, as many as were announced."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from cohortsync.client import Client
from cohortsync.errors import ApiTransient
from cohortsync.mixpanel import Interrupted, Request, SessionExpired, build_engage, parse_body

READERS = 4
Watch = Callable[[int, int], None]


def fetch_profiles(client: Client, path: Path, cohort_id: str = "", everyone: bool = True,
                   properties: list[str] | None = None, watch: Watch = lambda _came, _announced: None) -> int:
    """Write every page of profiles, or of a cohort's members, to a file, a page a line; how many people those are.

    ``everyone``: the members without a profile too; ``properties``: only these, None for all. Read anew when the pages
    together are not as many as were announced, or Mixpanel has forgotten the query.
    """
    path.touch(mode=0o600)
    for _ in range(client.settings.attempts):
        try:
            announced, written = _fetch_pages(client, path, partial(
                build_engage, client.project_id, cohort_id=cohort_id, everyone=everyone, properties=properties,
                pages_count=client.settings.mixpanel_pages_count), watch)
        except SessionExpired:
            client.notice("Reading people anew: Mixpanel has forgotten the query")
            continue
        if announced == written:
            return written
        client.notice(f"Reading people anew: {announced:,} were announced, and {written:,} came")
    raise ApiTransient("The pages of profiles kept changing while they were read. Try again later.")


def _fetch_pages(client: Client, path: Path, build: Callable[[int, str], Request], watch: Watch) -> tuple[int, int]:
    """How many people were announced, and how many came."""
    def ask(page: int, session_id: str = "") -> tuple[dict[str, Any], bytes]:
        return client.retrying(lambda: _page(client, build(page, session_id)))

    first, line = ask(0)
    size, total = max(int(first.get("page_size") or 1000), 1), int(first.get("total") or 0)
    with path.open("wb") as file, ThreadPoolExecutor(READERS) as pool:
        file.write(line)
        came = len(first["results"])
        # A few at a time: what waits to be written is held in memory.
        pages = range(1, -(-total // size))
        for start in range(0, len(pages), 2 * READERS):
            watch(came, total)
            some = pages[start:start + 2 * READERS]
            try:
                for page, line in pool.map(ask, some, [str(first.get("session_id") or "")] * len(some)):
                    file.write(line)
                    came += len(page["results"])
            except KeyboardInterrupt:
                client.stopped.set()  # or the threads would wait on, and this one for them
                raise
    return total, came


def _page(client: Client, request: Request) -> tuple[dict[str, Any], bytes]:
    """A page, and the same as a line of a file; without its session, so that the same people are the same file."""
    body = client.fetch(request).strip()
    page = parse_body(body)
    if not isinstance(page, dict) or not isinstance(page.get("results"), list):
        raise Interrupted("Mixpanel's page of profiles has no results. Try again later.")
    line = json.dumps(page).encode() if b"\n" in body else body
    session = re.escape(json.dumps(page.get("session_id")).encode())
    return page, re.sub(rb'"session_id"\s*:\s*' + session, b'"session_id": ""', line, count=1) + b"\n"
