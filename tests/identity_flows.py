"""The flows by which Mixpanel's pages explain ID merge, as raw export rows with the answer beside them.

One flow = the rows of one month (2026-09, UTC), the sets of ids that must come out as one user each, and
how many monthly tracked users that makes. The ids and events are our own; the flows are the pages'.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]

PAGES = "https://docs.mixpanel.com/docs/tracking-methods/id-management"
SIMPLIFIED = f"{PAGES}/identifying-users-simplified"
ORIGINAL = f"{PAGES}/identifying-users-original"
MIGRATING = f"{PAGES}/migrating-to-simplified-id-merge-system"
REFERENCE = "https://docs.mixpanel.com/reference"

FIRST_SECOND = 1788868800  # 2026-09-08 12:00 UTC
# Anonymous ids as the libraries make them: version 4 UUIDs, and the browser library's older five groups.
PHONE = "5f0c8a52-6c1e-4f7b-9d23-1b7a90c4e6d1"
TABLET = "c2b7e9d4-08fa-4b16-8e55-73d0f1a2b3c4"
LAPTOP = "18f2ab34cd56ef7-0a1b2c3d4e5f607-1a2b3c4d-13c680-18f2ab34cd56ef8"


@dataclass(frozen=True)
class Flow:
    name: str
    id_merge: str
    source: str
    rows: list[Row]
    users: list[set[str]]
    mtu: int


def in_order(*rows: Row) -> list[Row]:
    """The rows with times: one a minute, each received half a second after it happened."""
    timed = []
    for number, row in enumerate(rows):
        time = FIRST_SECOND + 60 * number
        stamps = {"time": time, "$insert_id": f"flow{number:012d}", "$mp_api_timestamp_ms": time * 1000 + 500}
        timed.append({"event": row["event"], "properties": stamps | row["properties"]})
    return timed


def seen(device: str | None = None, user: str | None = None, **props: Any) -> Row:
    """An event of a simplified project, with the distinct_id that Mixpanel gives it."""
    ids = {"distinct_id": user or f"$device:{device}", "$device_id": device, "$user_id": user}
    given = {key: value for key, value in ids.items() if value is not None}
    return {"event": "Page viewed", "properties": given | props}


def rekeyed(device: str, user: str) -> Row:
    """An anonymous event as a later export shows it, moved to the device's user."""
    ids = {"distinct_id": user, "$distinct_id_before_identity": f"$device:{device}", "$device_id": device}
    return {"event": "Page viewed", "properties": ids}


def bare(distinct_id: str, **props: Any) -> Row:
    """An event that carries a distinct_id alone, as every event of an original project may."""
    return {"event": "Page viewed", "properties": {"distinct_id": distinct_id} | props}


def identify(user: str, anonymous: str, **props: Any) -> Row:
    ids = {"distinct_id": user, "$identified_id": user, "$anon_id": anonymous}
    return {"event": "$identify", "properties": ids | props}


def create_alias(alias: str, distinct_id: str, **props: Any) -> Row:
    return {"event": "$create_alias", "properties": {"distinct_id": distinct_id, "alias": alias} | props}


def merge(one: str, other: str, **props: Any) -> Row:
    return {"event": "$merge", "properties": {"distinct_id": one, "$distinct_ids": [one, other]} | props}


def simplified(name: str, section: str, rows: list[Row], users: list[set[str]], mtu: int) -> Flow:
    return Flow(name, "simplified", section, in_order(*rows), users, mtu)


def original(name: str, section: str, rows: list[Row], users: list[set[str]], mtu: int) -> Flow:
    return Flow(name, "original", section, in_order(*rows), users, mtu)


ASSIGNED = {"$identity_failure_reason": "errAnonDistinctIdAssignedAlready"}
FIRST_RECEIVED = {"$mp_api_timestamp_ms": FIRST_SECOND * 1000 - 1}

SIMPLIFIED_FLOWS = [
    simplified(
        "a visitor who never signs up stays a user of their own",
        f"{SIMPLIFIED}#new-user-signup",
        [seen("D1"), seen("D1")],
        [{"$device:D1"}],
        1,
    ),
    simplified(
        "a visitor signs up: what they did before is theirs",
        f"{SIMPLIFIED}#new-user-signup",
        [seen("D1"), seen("D1"), seen("D1", "ada")],
        [{"$device:D1", "ada"}],
        1,
    ),
    simplified(
        "the same sign-up, exported after Mixpanel has re-keyed the rows",
        f"{SIMPLIFIED}#new-user-signup",
        [rekeyed("D1", "ada"), rekeyed("D1", "ada"), seen("D1", "ada")],
        [{"$device:D1", "ada"}],
        1,
    ),
    simplified(
        "the same sign-up, exported with some rows re-keyed and without the row that linked",
        f"{SIMPLIFIED}#new-user-signup",
        [rekeyed("D1", "ada"), seen("D1")],
        [{"$device:D1", "ada"}],
        1,
    ),
    simplified(
        "a returning user on a new device, not logged in yet",
        f"{SIMPLIFIED}#returning-user",
        [seen("D1"), seen("D1"), seen("D1", "ada"), seen("D2"), seen("D2")],
        [{"$device:D1", "ada"}, {"$device:D2"}],
        2,
    ),
    simplified(
        "a returning user logs in on a new device",
        f"{SIMPLIFIED}#returning-user",
        [seen("D1"), seen("D1"), seen("D1", "ada"), seen("D2"), seen("D2"), seen("D2", "ada")],
        [{"$device:D1", "$device:D2", "ada"}],
        1,
    ),
    simplified(
        "two users of one device with a reset between them, the second not logged in yet",
        f"{SIMPLIFIED}#multiple-users-one-device",
        [seen("D1"), seen("D1", "ada"), seen("D2"), seen("D2")],
        [{"$device:D1", "ada"}, {"$device:D2"}],
        2,
    ),
    simplified(
        "two users of one device with a reset between them",
        f"{SIMPLIFIED}#multiple-users-one-device",
        [seen("D1"), seen("D1", "ada"), seen("D2"), seen("D2"), seen("D2", "ben")],
        [{"$device:D1", "ada"}, {"$device:D2", "ben"}],
        2,
    ),
    simplified(
        "two users of one device without a reset: the first keeps it",
        MIGRATING,
        [seen("D1"), seen("D1", "ada"), seen("D1"), seen("D1", "ben", **ASSIGNED), seen("D1")],
        [{"$device:D1", "ada"}, {"ben"}],
        2,
    ),
    simplified(
        "two users of one device without a reset, where the rows do not say that the link failed",
        MIGRATING,
        [seen("D1"), seen("D1", "ada"), seen("D1", "ben"), seen("D1")],
        [{"$device:D1", "ada"}, {"ben"}],
        2,
    ),
    simplified(
        "after a log-out the same user logs in again",
        MIGRATING,
        [seen("D1"), seen("D1", "ada"), seen("D2"), seen("D2", "ada")],
        [{"$device:D1", "$device:D2", "ada"}],
        1,
    ),
    simplified(
        "after a log-out another user logs in",
        MIGRATING,
        [seen("D1"), seen("D1", "ada"), seen("D2"), seen("D2", "ben")],
        [{"$device:D1", "ada"}, {"$device:D2", "ben"}],
        2,
    ),
    simplified(
        "a telephone number sent as a device is not the user of that number",
        MIGRATING,
        [seen("D1", "ada"), seen("+15550100", "ada"), seen(None, "+15550100")],
        [{"ada", "$device:D1", "$device:+15550100"}, {"+15550100"}],
        2,
    ),
    simplified(
        "rows with a distinct_id alone: the prefix makes a device, anything else a user",
        MIGRATING,
        [bare("$device:D1"), bare("ada"), seen("D1", "ada")],
        [{"$device:D1", "ada"}],
        1,
    ),
    simplified(
        "a server that sends both ids once and the user alone afterwards",
        f"{SIMPLIFIED}#server-side-identity-management",
        [seen("cookie-1"), seen("cookie-1", "ada"), seen(None, "ada")],
        [{"$device:cookie-1", "ada"}],
        1,
    ),
    simplified(
        "a user whose id was an address and who changed it is two users",
        f"{SIMPLIFIED}#faq",
        [seen("D1", "ada@old-post.example"), seen("D2", "ada@new-post.example")],
        [{"$device:D1", "ada@old-post.example"}, {"$device:D2", "ada@new-post.example"}],
        2,
    ),
    simplified(
        "a link that was received first counts, though its event is dated later",
        f"{SIMPLIFIED}#faq",
        [seen("D1", "ben"), seen("D1", "ada", **FIRST_RECEIVED), seen("D1")],
        [{"$device:D1", "ada"}, {"ben"}],
        2,
    ),
    simplified(
        "a user on many devices is one user",
        f"{SIMPLIFIED}#faq",
        [row for n in range(20) for row in (seen(f"D{n}"), seen(f"D{n}", "ada"))],
        [{"ada", *(f"$device:D{n}" for n in range(20))}],
        1,
    ),
    simplified(
        "a device id sent with the prefix is the device without it",
        MIGRATING,
        [seen("D1"), seen("$device:D1", "ada")],
        [{"$device:D1", "ada"}],
        1,
    ),
    simplified(
        "a bare anonymous id without the prefix is a user of its own",
        MIGRATING,
        [bare(PHONE), seen(PHONE, "ada")],
        [{PHONE}, {"ada", f"$device:{PHONE}"}],
        2,
    ),
    simplified(
        "placeholders are no ids: they link nothing and are nobody",
        f"{REFERENCE}/import-events",
        [seen("D1"), seen("D1", "undefined"), seen("undefined", "ada"), seen("D1", "ada"), bare("null")],
        [{"$device:D1", "ada"}],
        1,
    ),
    simplified(
        "two users cannot be merged by any of the verbs",
        f"{SIMPLIFIED}#faq",
        [seen(None, "ada"), seen(None, "ben"), merge("ada", "ben"), create_alias("ben", "ada")],
        [{"ada"}, {"ben"}],
        2,
    ),
]

FAILED = {"$failure_reason": "errAnonDistinctIdAssignedAlready"}
CROWD = [f"till-{number:03d}" for number in range(500)]

ORIGINAL_FLOWS = [
    original(
        "a visitor who never signs up stays a user of their own",
        f"{ORIGINAL}#new-user-signup",
        [bare(PHONE), bare(PHONE)],
        [{PHONE}],
        1,
    ),
    original(
        "a visitor signs up: what they did before is theirs",
        f"{ORIGINAL}#new-user-signup",
        [bare(PHONE), bare(PHONE), identify("ada", PHONE), bare("ada")],
        [{PHONE, "ada"}],
        1,
    ),
    original(
        "the same sign-up, where Mixpanel chose the anonymous id and re-keyed the user's rows",
        f"{ORIGINAL}#new-user-signup",
        [bare(PHONE), identify("ada", PHONE), bare(PHONE, **{"$distinct_id_before_identity": "ada"})],
        [{PHONE, "ada"}],
        1,
    ),
    original(
        "the same sign-up, exported without the $identify row",
        f"{ORIGINAL}#new-user-signup",
        [bare(PHONE), bare("ada", **{"$distinct_id_before_identity": PHONE}), bare("ada")],
        [{PHONE, "ada"}],
        1,
    ),
    original(
        "a returning user on a new device, not logged in yet",
        f"{ORIGINAL}#returning-user",
        [bare(PHONE), identify("ada", PHONE), bare("ada"), bare(TABLET)],
        [{PHONE, "ada"}, {TABLET}],
        2,
    ),
    original(
        "a returning user logs in on a new device",
        f"{ORIGINAL}#returning-user",
        [bare(PHONE), identify("ada", PHONE), bare("ada"), bare(LAPTOP), identify("ada", LAPTOP)],
        [{PHONE, LAPTOP, "ada"}],
        1,
    ),
    original(
        "two users of one device with a reset between them",
        f"{ORIGINAL}#multiple-users-one-device",
        [
            bare(PHONE),
            identify("ada", PHONE),
            bare("ada"),
            bare(TABLET),
            identify("ben", TABLET),
            bare("ben"),
        ],
        [{PHONE, "ada"}, {TABLET, "ben"}],
        2,
    ),
    original(
        "two users of one device without a reset: the second identify fails and says so",
        f"{ORIGINAL}#identify",
        [bare(PHONE), identify("ada", PHONE), bare("ada"), identify("ben", PHONE, **FAILED), bare("ben")],
        [{PHONE, "ada"}, {"ben"}],
        2,
    ),
    original(
        "two users of one device without a reset, where the failed row does not say so",
        f"{ORIGINAL}#identify",
        [bare(PHONE), identify("ada", PHONE), bare("ada"), identify("ben", PHONE), bare("ben")],
        [{PHONE, "ada"}, {"ben"}],
        2,
    ),
    original(
        "a user who logs in many times on one device stays one user",
        f"{ORIGINAL}#client-side-identity-management",
        [bare(PHONE), identify("ada", PHONE), bare("ada"), identify("ada", PHONE), bare("ada")],
        [{PHONE, "ada"}],
        1,
    ),
    original(
        "an anonymous id that is not a version 4 UUID is not identified",
        f"{REFERENCE}/create-identity",
        [bare("visitor-1"), identify("ada", "visitor-1"), bare("ada")],
        [{"visitor-1"}, {"ada"}],
        2,
    ),
    original(
        "a UUID of another version is not identified",
        f"{REFERENCE}/create-identity",
        [
            bare("5f0c8a52-6c1e-1f7b-9d23-1b7a90c4e6d1"),
            identify("ada", "5f0c8a52-6c1e-1f7b-9d23-1b7a90c4e6d1"),
            bare("ada"),
        ],
        [{"5f0c8a52-6c1e-1f7b-9d23-1b7a90c4e6d1"}, {"ada"}],
        2,
    ),
    original(
        "an id identified with itself changes nothing",
        f"{REFERENCE}/create-identity",
        [bare("ada"), identify("ada", "ada"), bare(PHONE)],
        [{"ada"}, {PHONE}],
        2,
    ),
    original(
        "a server identifies by $identified_id and $anon_id alone",
        f"{ORIGINAL}#server-side-identity-management",
        [
            bare(PHONE),
            {"event": "$identify", "properties": {"$identified_id": "ada", "$anon_id": PHONE}},
            bare("ada"),
        ],
        [{PHONE, "ada"}],
        1,
    ),
    original(
        "an alias joins two ids whatever their form",
        f"{REFERENCE}/identity-create-alias",
        [bare("visitor-1"), create_alias("ada", "visitor-1"), bare("ada")],
        [{"visitor-1", "ada"}],
        1,
    ),
    original(
        "an alias is good for one id only",
        f"{REFERENCE}/identity-create-alias",
        [bare("ada"), bare("ben"), create_alias("crm-1", "ada"), create_alias("crm-1", "ben")],
        [{"ada", "crm-1"}, {"ben"}],
        2,
    ),
    original(
        "aliases make a chain",
        f"{REFERENCE}/identity-create-alias",
        [bare("ada"), create_alias("crm-1", "ada"), create_alias("till-1", "crm-1"), bare("till-1")],
        [{"ada", "crm-1", "till-1"}],
        1,
    ),
    original(
        "a merge joins two identified users",
        f"{REFERENCE}/identity-merge",
        [bare("ada"), bare("ada@harbor-mail.example"), merge("ada", "ada@harbor-mail.example")],
        [{"ada", "ada@harbor-mail.example"}],
        1,
    ),
    original(
        "a merge joins two anonymous ids",
        f"{REFERENCE}/identity-merge",
        [bare(PHONE), bare(TABLET), merge(PHONE, TABLET)],
        [{PHONE, TABLET}],
        1,
    ),
    original(
        "a merge does what the second identify on a shared device may not",
        f"{REFERENCE}/identity-merge",
        [bare(PHONE), identify("ada", PHONE), identify("ben", PHONE), merge("ben", PHONE), bare("ben")],
        [{PHONE, "ada", "ben"}],
        1,
    ),
    original(
        "a cluster holds 500 ids: the next stays outside",
        f"{ORIGINAL}#merge",
        [bare("till"), *(merge("till", each) for each in CROWD), bare(CROWD[498]), bare(CROWD[499])],
        [{"till", *CROWD[:499]}, {CROWD[499]}],
        2,
    ),
    original(
        "after an identify failed for the size of the user, the id is an orphan that another may take",
        f"{ORIGINAL}#merge",
        [bare("till"), *(merge("till", each) for each in CROWD), identify("till", PHONE), identify("ada", PHONE),
         bare(PHONE)],
        [{"till", *CROWD[:499]}, {CROWD[499]}, {"ada", PHONE}],
        2,
    ),
    original(
        "the order received decides between two users of a device, not the order of their times",
        f"{ORIGINAL}#identify",
        [bare(PHONE), identify("ben", PHONE), identify("ada", PHONE, **FIRST_RECEIVED), bare("ben")],
        [{PHONE, "ada"}, {"ben"}],
        2,
    ),
    original(
        "a verb that names a placeholder links nothing",
        f"{REFERENCE}/import-events",
        [bare(PHONE), merge(PHONE, "undefined"), create_alias("null", "ada"), merge("ada", "undefined"), bare("ada")],
        [{PHONE}, {"ada"}],
        2,
    ),
    original(
        "events that carry a device and a user link nothing by themselves",
        f"{ORIGINAL}#mechanism",
        [bare(PHONE), bare("ada", **{"$device_id": PHONE, "$user_id": "ada"})],
        [{PHONE}, {"ada"}],
        2,
    ),
]

FLOWS = [*SIMPLIFIED_FLOWS, *ORIGINAL_FLOWS]
