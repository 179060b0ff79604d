"""Files that come one after the other leave what they would have left together."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from conftest import sampled

import cohortsync as cs

DEVICES = [f"b22d6231-0000-4000-8000-{n:012d}" for n in range(12)]
NAMES = ["Opened", "Bought", "Mailchimp - Sent To", "Mailchimp - Opened Campaign", "$identify"]


def any_event(draw: random.Random, id_merge: str) -> dict[str, Any]:
    """An event of one of five users or twelve devices, at any time of three months, perhaps sent twice."""
    time_s, device, user = 1788220800 + draw.randrange(90 * 86400), draw.choice(DEVICES), f"u{draw.randrange(5)}"
    name = draw.choice(NAMES)
    properties = {"time": time_s, "$insert_id": str(draw.randrange(150)),
                  "mp_processing_time_ms": (time_s + draw.randrange(10**6)) * 1000}
    if name == "$identify":
        properties |= {"$identified_id": user, "$anon_id": device, "distinct_id": device}
    elif draw.random() < 0.5:
        properties |= {"$device_id": device, "distinct_id": device if id_merge == "original" else f"$device:{device}"}
    else:
        properties |= {"$user_id": user, "distinct_id": user} | ({"$device_id": device} if draw.random() < 0.6 else {})
    return {"event": name, "properties": properties}


@pytest.mark.parametrize("id_merge", ["simplified", "original"])
@pytest.mark.parametrize("seed", sampled([1, 2], 1))
def test_files_loaded_one_by_one_leave_the_tables_of_all_at_once(tmp_path: Path, id_merge: str, seed: int) -> None:
    draw, files = random.Random(seed), [tmp_path / f"{n}.ndjson" for n in range(4)]
    for file in files:
        file.write_text("\n".join(json.dumps(any_event(draw, id_merge)) for _ in range(60)))
    at_once, one_by_one = cs.open(tmp_path / "at-once"), cs.open(tmp_path / "one-by-one")
    for workspace in (at_once, one_by_one):
        workspace.init("America/New_York", id_merge)
    at_once.load(files)
    for file in files:
        one_by_one.load([file])
    for table in ("activity", "user_months", "identities", "months"):
        question = f"select * from {table} order by all"
        assert one_by_one.sql(question).to_dict("records") == at_once.sql(question).to_dict("records"), table
    assert (one_by_one.mtu().drop(columns="as_of").to_dict("records")
            == at_once.mtu().drop(columns="as_of").to_dict("records"))
