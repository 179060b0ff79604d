"""What happens on Mailchimp's side of a test, seen and changed as its owner would."""

from __future__ import annotations

from conftest import OWNER_KEY

from cohortsync import mailchimp as mc

COHORT = "power-users"


class Side:
    """The Mailchimp side as its owner sees it."""

    def __init__(self, url: str) -> None:
        self.client = mc.open_client(OWNER_KEY, url)
        self.client.http.auth = ("the owner", OWNER_KEY)
        self.audience_id = mc.fetch_audiences(self.client)[0]["audience_id"]

    def statuses(self) -> dict[str, str]:
        frames = [mc.fetch_members(self.client, self.audience_id, status) for status in (None, "archived")]
        return {row.member_hash: row.status for frame in frames for row in frame.itertuples()}

    def tags(self) -> dict[str, list[int]]:
        return {row.member_hash: row.tags for row in mc.fetch_members(self.client, self.audience_id).itertuples()}

    def segments(self) -> dict[str, int]:
        return {s["name"]: s["segment_id"] for s in mc.fetch_segments(self.client, self.audience_id)}

    def on_segment(self, name: str = f"mixpanel_{COHORT}") -> set[str]:
        return set(mc.fetch_segment_members(self.client, self.audience_id, self.segments()[name])["member_hash"])

    def move(self, name: str, add: list[str], remove: list[str]) -> None:
        self.client.send(mc.build_segment_update(self.audience_id, self.segments()[name], add, remove))
