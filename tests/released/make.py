"""Makes the workspace of a release, for the tests that bring it to the present formats.

Run in that release's own checkout: python make.py FOLDER. It leaves FOLDER/home and FOLDER/files, whose people are
invented.
"""

import json
import sys
from pathlib import Path

import cohortsync as cs
from cohortsync import sandbox

SEPTEMBER, OCTOBER = 1788220800, 1790812800  # the first of each, 2026, midnight UTC


def event(name: str, time: int, who: str, number: int, **more: object) -> dict[str, object]:
    return {"event": name, "properties": {"time": time, "distinct_id": who, "$insert_id": f"insert-{number:06d}",
                                          "mp_processing_time_ms": (time + 60) * 1000, **more}}


def events(month: int) -> list[dict[str, object]]:
    found = []
    for person in range(8):
        who, device = f"user-{person}", f"device-{person}"
        found += [event("Page viewed", month + 3600 * person, f"$device:{device}", month + 10 * person,
                        **{"$device_id": device}),
                  event("Signed in", month + 3600 * person + 60, who, month + 10 * person + 1,
                        **{"$device_id": device, "$user_id": who}),
                  event("Campaign Opened" if person % 2 else "$campaign_open", month + 86400 * person, who,
                        month + 10 * person + 2, **{"$source": "mailchimp"} if person % 3 else {})]
    return [*found, found[0]]  # a duplicate


def write(path: Path, rows: list[object]) -> Path:
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))
    return path


def main(folder: Path) -> None:
    files, home = folder / "files", folder / "home"
    files.mkdir(parents=True)
    profiles = [{"$distinct_id": f"user-{n}", "$properties": {
        "$email": f"Person{n}@mail.example" if n else "none", "$first_name": f"Person {n}",
        "$last_seen": "2026-10-05T10:00:00"}} for n in range(7)]
    ws = cs.open(home)
    ws.init("America/New_York", "simplified")
    ws.load([write(files / "events-2026-09.ndjson", [*events(SEPTEMBER), "no event\n"])],
            [write(files / "profiles.ndjson", profiles)],
            {"readers": write(files / "readers-1.csv", ["distinct_id\n", *(f"user-{n}\n" for n in range(6))])})
    ws.load([write(files / "events-2026-10.ndjson", events(OCTOBER))], [],
            {"readers": write(files / "readers-2.csv", ["distinct_id\n", *(f"user-{n}\n" for n in range(1, 8))])})
    with sandbox.start(home / "sandbox") as running:
        connection = ws.connect_mailchimp("0" * 32 + "-us6", "subscribed", running.mailchimp_url)
        ws.sync("readers", connection["audiences"][0]["audience_id"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
