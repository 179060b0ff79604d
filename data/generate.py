"""Make the sample project: three months of Tally, an invoicing app that does not exist.

    python data/generate.py --out DIR [--users 3000] [--seed 7] [--id-merge simplified|original]

The same arguments give the same bytes. Every person is invented; every address ends in `.example`.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import random
import uuid
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

ZONE = ZoneInfo("America/New_York")
MONTHS = ("2026-09", "2026-10", "2026-11")
DAY = 86400


def local(year: int, month: int, day: int, hour: int = 0, minute: int = 0, fold: int = 0) -> int:
    return int(datetime(year, month, day, hour, minute, fold=fold, tzinfo=ZONE).timestamp())


START, END = local(2026, 9, 1), local(2026, 11, 21)
# The first second of each export file and the first after it: UTC days, the next month's first included.
FILES = {
    "2026-09": (datetime(2026, 9, 1, tzinfo=UTC), datetime(2026, 10, 2, tzinfo=UTC)),
    "2026-10": (datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC)),
    "2026-11": (datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 22, tzinfo=UTC)),
}

CITIES = [
    ("New York", "US"), ("Boston", "US"), ("Austin", "US"), ("Toronto", "CA"), ("Lisbon", "PT"),
    ("Leeds", "GB"), ("Lyon", "FR"), ("Kraków", "PL"), ("Osaka", "JP"), ("Recife", "BR"),
]  # fmt: skip
FIRST_NAMES = [
    "Ada", "Ben", "Carmen", "Dev", "Elif", "Farah", "Goran", "Hana", "Imre", "Joana", "Kofi", "Lena",
    "Milo", "Nadia", "Omar", "Priya", "Quinn", "Rosa", "Sami", "Tess", "Uma", "Viktor", "Wren", "Yusuf",
    "Zoë", "Łukasz", "José", "Anaïs", "直美", "Сергей", "Noor", "Björn",
]  # fmt: skip
LAST_NAMES = [
    "Abbott", "Brandt", "Castillo", "Dorsey", "Eriksen", "Fontaine", "Greco", "Haddad", "Ivers",
    "Jansen", "Kaplan", "Lindqvist", "Moreau", "Novák", "Okafor", "Pereira", "Quist", "Romero",
    "Söderberg", "Tanaka", "Underhill", "Vasquez", "Winslow", "Yamada", "Zieliński", "O'Rourke",
]  # fmt: skip
HOSTILE_NAMES = ["=1+1", "<b>Bold</b>", "@SUM(A1:A9)", "</style><script>alert(1)</script>", "-2+3"]
DOMAINS = ["harbor-mail", "north-post", "tinpot", "ledgerly", "quillbox", "fern-and-co"]
SYSTEMS = [("iOS", "swift"), ("Android", "android"), ("Windows", "web"), ("Mac OS X", "web")]
WORK = [
    ("Invoice created", 30), ("Invoice sent", 24), ("Client added", 10), ("Report viewed", 10),
    ("Reminder sent", 7), ("Settings changed", 4), ("Invoice exported", 6), ("Expense logged", 9),
]  # fmt: skip
PLANS = ["free", "free", "trial", "solo", "solo", "team"]
BILLING_NAMES = {
    "sent": "Mailchimp Campaign - Sent", "open": "Mailchimp Campaign - Open",
    "click": "Mailchimp Campaign - Click", "unsubscribe": "Mailchimp Campaign - Unsubscribed",
    "bounce": "Mailchimp Campaign - Bounce",
}  # fmt: skip
INTEGRATION_NAMES = {
    "sent": "Mailchimp - Sent To", "open": "Mailchimp - Opened Campaign",
    "click": "Mailchimp - Clicked Campaign Url", "unsubscribe": "Mailchimp - Unsubscribed",
    "bounce": "Mailchimp - Bounced",
}  # fmt: skip
# What is wrong with a customer's address, and how many in a thousand have it.
TROUBLES = {
    "absent": 40, "null": 12, "blank": 12, "untidy": 50, "list": 12, "number": 8, "invalid": 25,
    "twin": 60, "no_profile": 50, "empty_profile": 15,
}  # fmt: skip


@dataclass
class Person:
    """A visitor (no `user_id`) or a customer; `shared` is the device borrowed from another customer."""

    number: int
    user_id: str | None
    devices: list[str]
    joined: int
    busy: int
    plan: str
    first: str
    last: str
    city: tuple[str, str]
    trouble: str = ""
    address: str = ""
    shared: str = ""


@dataclass
class Moment:
    """Something somebody did, before it is written in the terms of either ID merge."""

    time: int
    name: str
    person: Person
    device: str | None
    logged_in: bool
    insert_id: str
    received_ms: int
    processed_ms: int
    extra: dict[str, Any] = field(default_factory=dict)


Row = dict[str, Any]


def uuid4(rng: random.Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def browser_id(rng: random.Random) -> str:
    """The five-group hex form of Mixpanel's older browser library."""
    return "-".join(f"{rng.getrandbits(4 * size):0{size}x}" for size in (15, 15, 8, 6, 15))


def make_device(rng: random.Random) -> str:
    return browser_id(rng) if rng.random() < 0.1 else uuid4(rng)


def make_people(rng: random.Random, users: int) -> list[Person]:
    people = [make_person(rng, number, customer=number % 20 < 11) for number in range(users)]
    customers = [person for person in people if person.user_id]
    for number, person in enumerate(customers):
        person.trouble = pick_trouble(rng)
        person.address = make_address(person)
        if person.trouble in ("", "untidy") and number % 5 < 2:
            person.user_id = person.address
        elif number % 250 == 7:
            person.user_id = str(13700 + number)
    for number, name in enumerate(HOSTILE_NAMES):
        customers[number * 20 + 4].first = name
    active = [person for person in customers if person.busy > 1]
    for owner, borrower in zip(active[::20], active[11::20], strict=False):
        borrower.shared = owner.devices[0]
    pair_twins([person for person in customers if person.trouble == "twin"])
    return people


def make_person(rng: random.Random, number: int, *, customer: bool) -> Person:
    devices = 1 + (rng.random() < 0.4) + (rng.random() < 0.12) if customer else 1
    old = rng.random() < 0.6
    return Person(
        number=number,
        user_id=f"tly_{rng.getrandbits(40):010x}" if customer else None,
        devices=[make_device(rng) for _ in range(devices)],
        joined=START - rng.randrange(400 * DAY) if old else rng.randrange(START + DAY, END - 3 * DAY),
        busy=min(9, int(rng.paretovariate(1.1))) if rng.random() < 0.85 else 0,
        plan=rng.choice(PLANS),
        first=rng.choice(FIRST_NAMES),
        last=rng.choice(LAST_NAMES),
        city=rng.choice(CITIES),
    )


def pick_trouble(rng: random.Random) -> str:
    names = [*TROUBLES, ""]
    return rng.choices(names, [*TROUBLES.values(), 1000 - sum(TROUBLES.values())])[0]


def make_address(person: Person) -> str:
    plain = f"{person.first}.{person.last}".lower().encode("ascii", "ignore").decode()
    name = "".join(letter for letter in plain if letter.isalpha() or letter == ".").strip(".")
    return f"{name or 'hello'}.{person.number}@{DOMAINS[person.number % len(DOMAINS)]}.example"


def pair_twins(twins: list[Person]) -> None:
    """Give neighbours one address; people on trial first meet each other."""
    twins = sorted(twins, key=lambda person: (person.plan != "trial", person.number))
    for one, other in zip(twins[::2], twins[1::2], strict=False):
        other.address = one.address


class Diary:
    """Collects moments; gives each its ids and its times of receipt."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.moments: list[Moment] = []

    def note(
        self, time: int, name: str, person: Person, device: str | None, *, logged_in: bool, **extra: Any
    ) -> None:
        if not START <= time < END:
            return
        received = time * 1000 + self.rng.randrange(200, 9000)
        self.moments.append(
            Moment(
                time,
                name,
                person,
                device,
                logged_in,
                insert_id=f"{self.rng.getrandbits(64):016x}",
                received_ms=received,
                processed_ms=received + self.rng.randrange(150, 2500),
                extra=extra,
            )
        )


def waking_hour(rng: random.Random, start: int, end: int) -> int:
    """A moment between two instants, nearly always by day in New York."""
    while True:
        at = rng.randrange(start, end)
        if 7 <= datetime.fromtimestamp(at, ZONE).hour < 23 or rng.random() < 0.1:
            return at


def live(diary: Diary, people: list[Person]) -> None:
    for person in people:
        if person.user_id is None:
            browse(diary, person, person.devices[0], waking_hour(diary.rng, START, END - 9 * DAY), 8)
        else:
            work(diary, person)


def browse(diary: Diary, person: Person, device: str, first: int, days: int) -> None:
    """One to three anonymous visits within `days` of the first."""
    rng = diary.rng
    for at in sorted([first, *(first + rng.randrange(days * DAY) for _ in range(rng.randrange(3)))]):
        for page in range(rng.randrange(1, 4)):
            diary.note(at + 40 * page, "Page viewed", person, device, logged_in=False, **campaign_tags(rng))


def campaign_tags(rng: random.Random) -> dict[str, str]:
    chance = rng.random()
    if chance < 0.1:
        return {"utm_medium": rng.choice(["cpc", "email"])}
    return {"UTM_Medium": "Print"} if chance < 0.12 else {}


def work(diary: Diary, person: Person) -> None:
    rng = diary.rng
    if person.joined >= START:
        weeks = rng.choice([1, 2, 3, 6])
        browse(diary, person, person.devices[0], max(START, person.joined - weeks * 7 * DAY), weeks * 7 - 1)
        diary.note(person.joined, "Signed up", person, person.devices[0], logged_in=True)
    if rng.random() < 0.05:
        # A second device, used for weeks before its owner logs in there.
        browse(diary, person, person.devices[-1], START + rng.randrange(9 * DAY), 12)
    devices = person.devices + ([person.shared] * 2 if person.shared else [])
    met = {person.devices[0]} if person.joined >= START else set()
    for at in session_times(rng, person):
        device = rng.choice(devices)
        session(diary, person, device, at, new=device not in met)
        met.add(device)


def session_times(rng: random.Random, person: Person) -> list[int]:
    """When a customer works: some months not at all, and the quiet ones never."""
    bounds = [local(2026, 9, 1), local(2026, 10, 1), local(2026, 11, 1), END]
    times = []
    for first, after in pairwise(bounds):
        start = max(first, person.joined + 600)
        if start < after - DAY and rng.random() < 0.7:
            times += [waking_hour(rng, start, after - 3600) for _ in range(rng.randrange(person.busy + 1))]
    return sorted(times)


def session(diary: Diary, person: Person, device: str, at: int, *, new: bool) -> None:
    rng = diary.rng
    if new or rng.random() < 0.15:
        for _ in range(rng.randrange(1, 3)):
            diary.note(at, "Page viewed", person, device, logged_in=False)
            at += rng.randrange(5, 60)
        diary.note(at, "Logged in", person, device, logged_in=True)
    names, weights = zip(*WORK, strict=True)
    for name in rng.choices(names, weights, k=rng.randrange(2, 9)):
        at += rng.randrange(10, 400)
        diary.note(at, name, person, device, logged_in=True, **invoice(rng, name))
    if rng.random() < 0.3:
        diary.note(at + rng.randrange(DAY), "Invoice paid", person, None, logged_in=True, currency="USD")
    if rng.random() < 0.08:
        diary.note(at, "$mp_session_record", person, device, logged_in=True)


def invoice(rng: random.Random, name: str) -> dict[str, Any]:
    return {"invoice_total": rng.randrange(20, 4000)} if name.startswith("Invoice") else {}


def keep_the_boundary_busy(diary: Diary, people: list[Person]) -> None:
    """Events in the hours where a UTC month, a fixed-offset month and New York's own month differ.

    Clocks go back at 02:00 on 1 November 2026, so the hour from 01:00 comes twice.
    """
    rng = diary.rng
    spans = [
        (local(2026, 9, 30, 20), local(2026, 10, 1)),
        (local(2026, 10, 31, 20), local(2026, 10, 31, 23)),
        (local(2026, 10, 31, 23), local(2026, 11, 1)),
        (local(2026, 11, 1), local(2026, 11, 1, 1)),
        (local(2026, 11, 1, 1), local(2026, 11, 1, 1, fold=1)),
        (local(2026, 11, 1, 1, fold=1), local(2026, 11, 1, 2)),
    ]
    for start, end in spans:
        for person in rng.sample(people, 30):
            device = person.devices[0]
            diary.note(rng.randrange(start, end), "Page viewed", person, device, logged_in=False)
    edges = [START, local(2026, 11, 1) - 1, local(2026, 11, 1), local(2026, 10, 1) - 1, END - 1]
    for at, person in zip(edges, people, strict=False):
        diary.note(at, "Page viewed", person, person.devices[0], logged_in=False)


def run_campaigns(diary: Diary, customers: list[Person]) -> None:
    """A newsletter every Tuesday; the integration's names replace the older ones in mid-October."""
    readers = [person for person in customers if person.number % 20 in (0, 1, 2, 3, 4)]
    for week in range(12):
        at = local(2026, 9, 1, 10) + week * 7 * DAY
        for person in diary.rng.sample(readers, len(readers) * 2 // 5):
            if person.joined < at:
                names = INTEGRATION_NAMES if week > 6 or (week == 6 and person.number % 2) else BILLING_NAMES
                mail(diary, person, at, week, names)


def mail(diary: Diary, person: Person, at: int, week: int, names: dict[str, str]) -> None:
    rng = diary.rng
    marker = {} if rng.random() < 0.03 else {"$source": "mailchimp"}

    def note(what: str, seconds: int) -> None:
        time = at + seconds
        diary.note(time, names[what], person, None, logged_in=True, campaign=f"Weekly {week + 1}", **marker)

    if rng.random() > 0.06:
        note("sent", rng.randrange(900))
    if rng.random() < 0.02:
        note("bounce", rng.randrange(900, 1800))
        return
    if rng.random() < 0.35:
        opened = rng.randrange(1000, 3 * DAY)
        note("open", opened)
        if rng.random() < 0.3:
            note("click", opened + rng.randrange(2, 90))
        if rng.random() < 0.04:
            note("unsubscribe", opened + rng.randrange(90, 200))


def add_system_events(diary: Diary, people: list[Person]) -> None:
    rng = diary.rng
    names = [
        "$opt_in", "$experiment_started", "$campaign_delivery", "$campaign_received", "$campaign_bounced",
        "$message_suppressed", "$unsubscribe", "$journey_entered", "$campaign_marked_spam",
    ]  # fmt: skip
    for person in rng.sample(people, len(people) // 8):
        known = person.user_id is not None
        at = waking_hour(rng, max(START, person.joined if known else START), END)
        diary.note(at, rng.choice(names), person, person.devices[0], logged_in=known)


def delay_some(moments: list[Moment], people: list[Person]) -> None:
    """Phones that were offline for weeks: early events that are received after later ones."""
    back_online = local(2026, 11, 12)
    shared = {person.shared for person in people if is_kept_offline(person)}
    for moment in moments:
        if not moment.logged_in or not moment.device:
            continue
        late = 0
        if moment.device in shared and moment.person.devices[0] == moment.device:
            late = max(0, back_online - moment.time) * 1000
        elif moment.person.number % 97 == 3 and moment.time < START + 30 * DAY:
            late = 35 * DAY * 1000
        moment.received_ms += late
        moment.processed_ms += late


def is_kept_offline(borrower: Person) -> bool:
    """Whether the owner of the borrowed device is heard of only after its borrower."""
    return bool(borrower.shared) and 0 < borrower.number % 7 < 5


def common_properties(moment: Moment) -> Row:
    person = moment.person
    system, library = SYSTEMS[hash_of(moment.device or person.devices[0]) % len(SYSTEMS)]
    props: Row = {"time": moment.time, "distinct_id": "", "$insert_id": moment.insert_id}
    if moment.device:
        props |= {
            "$city": person.city[0],
            "$os": system,
            "mp_country_code": person.city[1],
            "mp_lib": library,
        }
        props["$app_build_number"] = "2.14.0" if library == "swift" else 4213
    else:
        props |= {"$import": True, "mp_lib": "python"} if "$source" not in moment.extra else {"$import": True}
    if person.user_id and moment.logged_in:
        props["plan"] = person.plan
    return props | moment.extra


def hash_of(text: str) -> int:
    """A small number from an id, the same on every run (unlike `hash`)."""
    return sum(text.encode())


def receipt(moment: Moment) -> Row:
    return {
        "$mp_api_endpoint": "api.mixpanel.com",
        "$mp_api_timestamp_ms": moment.received_ms,
        "mp_processing_time_ms": moment.processed_ms,
    }


def owners_of(moments: list[Moment]) -> dict[str, str]:
    """Device -> the user of the first row received with both."""
    owner: dict[str, str] = {}
    for moment in sorted(moments, key=lambda each: (each.received_ms, each.time, each.insert_id)):
        if moment.logged_in and moment.device and moment.person.user_id:
            owner.setdefault(moment.device, moment.person.user_id)
    return owner


def rekeying(rng: random.Random, devices: Iterable[str]) -> dict[str, float]:
    """Device -> the share of its anonymous rows that the export shows re-keyed."""
    return {device: rng.choice([0.0, 0.0, 0.5, 0.5, 1.0]) for device in devices}


def simplified_rows(rng: random.Random, moments: list[Moment]) -> list[Row]:
    owner = owners_of(moments)
    share = rekeying(rng, owner)
    for borrower in {moment.person.number: moment.person for moment in moments}.values():
        device, user = borrower.shared, borrower.user_id
        if device in owner and user and borrower.number % 7 == 0:
            # Mixpanel knows an earlier link than this export: its re-keyed rows outweigh the first one seen.
            owner[device], share[device] = user, 0.5
        elif device in owner and is_kept_offline(borrower):
            # Nothing but the order of receipt says whose the device is.
            share[device] = 0.0
    return [simplified_row(rng, moment, owner, share) for moment in moments]


def is_unlinked(device: str, share: dict[str, float]) -> bool:
    """Whether the linking rows fell outside this export, so that only re-keyed rows tell the user."""
    return share.get(device, 0.0) > 0 and hash_of(device) % 30 == 0


def simplified_row(rng: random.Random, moment: Moment, owner: dict[str, str], share: dict[str, float]) -> Row:
    props = common_properties(moment)
    device, user = moment.device, moment.person.user_id if moment.logged_in else None
    props["distinct_id"] = user or f"$device:{device}"
    if device and not (user and is_unlinked(device, share)):
        props["$device_id"] = device if rng.random() > 0.01 else f"$device:{device}"
    if user and (device or rng.random() < 0.6):
        props["$user_id"] = int(user) if user.isdigit() else user
    elif user and user.isdigit():
        props["distinct_id"] = int(user)
    if user and device and owner[device] != user and rng.random() < 0.6:
        props["$identity_failure_reason"] = "errAnonDistinctIdAssignedAlready"
    if device and not user and device in owner and rng.random() < share[device]:
        props |= {
            "distinct_id": owner[device],
            "$distinct_id_before_identity": f"$device:{device}",
            "$is_reshuffled": True,
        }
        if rng.random() < 0.3:
            del props["$device_id"]
    return {"event": moment.name, "properties": props | receipt(moment)}


def original_rows(rng: random.Random, moments: list[Moment]) -> list[Row]:
    owner = owners_of(moments)
    share = rekeying(rng, owner)
    head = {user: user for user in set(owner.values())}
    for device, user in owner.items():
        if hash_of(device) % 5 == 0:
            head[user] = device
    rows = []
    for moment in moments:
        if moment.name in ("Signed up", "Logged in") and moment.device:
            rows.append(identify_row(rng, moment, owner))
        rows.append(original_row(rng, moment, owner, share, head))
    return rows


def original_row(
    rng: random.Random, moment: Moment, owner: dict[str, str], share: dict[str, float], head: dict[str, str]
) -> Row:
    props = common_properties(moment)
    device, user = moment.device, moment.person.user_id if moment.logged_in else None
    given = user or device or ""
    props["distinct_id"] = given
    if device:
        props["$device_id"] = device
    if user and device:
        props["$user_id"] = user
    cluster = user or owner.get(device or "")
    rekeyed = head.get(cluster or "", given)
    if device and rekeyed != given and rng.random() < share.get(device, 0.0) / (3 if user else 1):
        props |= {"distinct_id": rekeyed, "$distinct_id_before_identity": given}
    return {"event": moment.name, "properties": props | receipt(moment)}


def identify_row(rng: random.Random, moment: Moment, owner: dict[str, str]) -> Row:
    """The `$identify` of a log-in; refused on another's device, mostly without saying so."""
    props = common_properties(moment)
    props |= {
        "distinct_id": moment.person.user_id,
        "$insert_id": f"{rng.getrandbits(64):016x}",
        "$identified_id": moment.person.user_id,
        "$anon_id": moment.device,
    }
    if owner[moment.device or ""] != moment.person.user_id and rng.random() < 0.4:
        props["$failure_reason"] = "errAnonDistinctIdAssignedAlready"
    times = receipt(moment)
    times = {key: value - 120 if isinstance(value, int) else value for key, value in times.items()}
    return {"event": "$identify", "properties": props | times}


def server_row(rng: random.Random, name: str, at: int, distinct_id: Any, **props: Any) -> Row:
    received = at * 1000 + rng.randrange(300, 4000)
    head = {"time": at, "distinct_id": distinct_id, "$insert_id": f"{rng.getrandbits(64):016x}"}
    tail = {"$mp_api_timestamp_ms": received, "mp_processing_time_ms": received + 700}
    return {"event": name, "properties": head | {"$import": True} | props | tail}


def other_verbs(rng: random.Random, people: list[Person]) -> list[Row]:
    """Aliases, merges, refused verbs and a kiosk past the cap of 500 ids (original ID merge only)."""
    customers = [str(person.user_id) for person in people if person.user_id]
    visitors = [person.devices[0] for person in people if not person.user_id]
    rows = []

    def verb(name: str, distinct_id: str, **props: Any) -> None:
        rows.append(server_row(rng, name, rng.randrange(START, END), distinct_id, **props))

    for number, user in enumerate(customers[5::45]):
        verb("$create_alias", user, alias=f"crm-{number}")
    verb("$create_alias", customers[11], alias="crm-0")
    verb("$create_alias", customers[12], alias="crm-1", **{"$failure_reason": "errAliasAlreadyExists"})
    verb("$create_alias", customers[13], alias=customers[13])
    for one, other in zip(customers[20::150], customers[21::150], strict=False):
        verb("$merge", one, **{"$distinct_ids": [one, other]})
    for one, other in zip(visitors[3::90], visitors[4::90], strict=False):
        verb("$merge", one, **{"$distinct_ids": [one, other]})
    verb("$merge", customers[30], **{"$distinct_ids": [customers[30], "undefined"]})
    verb("$merge", customers[31], **{"$distinct_ids": [customers[31]]})
    for user, anon in zip(customers[40:52], ["visitor-17", customers[41], *visitors[:8]], strict=False):
        verb("$identify", user, **{"$identified_id": user, "$anon_id": anon})
    verb("$identify", customers[60], **{"$identified_id": customers[60], "$anon_id": customers[60]})
    refused = {"$anon_id": "visitor-18", "$failure_reason": "errAnonDistinctIdNonGUIDForm"}
    verb("$identify", customers[61], **{"$identified_id": customers[61]}, **refused)
    return rows + kiosk(rng)


def kiosk(rng: random.Random) -> list[Row]:
    """A shop counter that resets after every customer: 506 anonymous ids for one user."""
    rows = []
    for number in range(506):
        anon = uuid4(rng)
        at = local(2026, 9, 5, 9) + number * 9000
        rows.append(
            server_row(rng, "$identify", at, "kiosk", **{"$identified_id": "kiosk", "$anon_id": anon})
        )
        if number % 25 == 0 or number >= 490:
            rows.append(server_row(rng, "Page viewed", at + 60, anon))
    return rows


def add_userless(rng: random.Random, people: list[Person], id_merge: str) -> list[Row]:
    rows = []
    for bad in ["", "", "undefined", "null", "Anonymous", "0", "{}", "00000000-0000-0000-0000-000000000000"]:
        for _ in range(8):
            rows.append(server_row(rng, "Webhook received", rng.randrange(START, END), bad))
    for person in rng.sample(people, 40):
        # A well-known bug: the page sends the word "undefined" for a user it does not know.
        device = person.devices[0]
        given = f"$device:{device}" if id_merge == "simplified" else device
        props = {"$device_id": device, "$user_id": "undefined"}
        rows.append(server_row(rng, "Page viewed", rng.randrange(START, END), given, **props))
    for _ in range(6):
        zero = "00000000-0000-0000-0000-000000000000"
        ids: Row = {"$device_id": zero}
        rows.append(server_row(rng, "Page viewed", rng.randrange(START, END), f"$device:{zero}", **ids))
    rows.append(server_row(rng, "$hotshard_events", local(2026, 10, 9, 9), "", mp_original_distinct_id="bot"))
    return rows


def stray_identifies(rng: random.Random, people: list[Person]) -> list[Row]:
    """`$identify` rows in a simplified project: they link nothing, whatever ids they carry."""
    visitors = [person for person in people if not person.user_id][5:200:20]
    customers = [person for person in people if person.user_id][5:200:20]
    rows = []
    for visitor, customer in zip(visitors, customers, strict=False):
        ids = {"$device_id": visitor.devices[0], "$user_id": customer.user_id}
        at = rng.randrange(max(START, customer.joined), END)
        rows.append(server_row(rng, "$identify", at, customer.user_id, **ids))
    return rows


def spoil_insert_ids(rng: random.Random, rows: list[Row]) -> None:
    for row in rows:
        if rng.random() < (0.15 if row["event"] == "Invoice paid" else 0.006):
            del row["properties"]["$insert_id"]
    for row in rng.sample(rows, 12):
        row["properties"]["$insert_id"] = rng.choice(["null", "undefined", ""])


def retries(rng: random.Random, rows: list[Row]) -> list[Row]:
    """The same events sent again some minutes or days later, where the network dropped the answer."""
    again = []
    for row in rng.sample(rows, len(rows) // 70):
        props = dict(row["properties"])
        late = rng.choice([40_000, 600_000, 2 * DAY * 1000])
        if "$mp_api_timestamp_ms" in props:
            props["$mp_api_timestamp_ms"] += late
            props["mp_processing_time_ms"] += late
        if rng.random() < 0.3:
            props["$city"] = "Albany"
        again.append({"event": row["event"], "properties": props})
    return again


def as_first_exported(row: Row, id_merge: str) -> Row:
    """The row as an earlier export showed it: not yet re-keyed."""
    props = dict(row["properties"])
    before = props.pop("$distinct_id_before_identity", None)
    if before is not None and id_merge == "simplified":
        props.pop("$is_reshuffled", None)
        props["distinct_id"] = before
        return {"event": row["event"], "properties": props}
    return row


def split_files(rows: list[Row], id_merge: str) -> dict[str, list[str]]:
    """Month -> lines. The first UTC day of a month also ends the previous month's file."""
    rows = sorted(rows, key=lambda row: (row["properties"]["time"], row["properties"].get("$insert_id", "")))
    files: dict[str, list[str]] = {}
    for month, (start, end) in FILES.items():
        next_month = int((end - timedelta(days=1)).timestamp())
        lines = []
        for row in rows:
            if start.timestamp() <= row["properties"]["time"] < end.timestamp():
                overlap = month != MONTHS[-1] and row["properties"]["time"] >= next_month
                lines.append(dump(as_first_exported(row, id_merge) if overlap else row))
        files[month] = lines
    return files


def add_bad_lines(files: dict[str, list[str]]) -> None:
    """One line cut short, one that is no JSON and one without a time."""
    cut = files["2026-09"][100]
    files["2026-09"].insert(101, cut[: len(cut) // 2])
    files["2026-10"].insert(70, "<html><body><h1>502 Bad Gateway</h1></body></html>")
    files["2026-11"].insert(40, '{"event":"Invoice sent","properties":{"distinct_id":"tly_0","plan":"solo"}}')


def make_profiles(rng: random.Random, people: list[Person], id_merge: str) -> list[Row]:
    profiles = []
    for person in people:
        if person.user_id is None:
            if rng.random() < 0.06:
                profiles.append(visitor_profile(rng, person, id_merge))
        elif person.trouble == "empty_profile":
            profiles.append({"$distinct_id": person.user_id, "$properties": {}})
        elif person.trouble != "no_profile":
            props = customer_properties(rng, person)
            if person.number % 40 == 1:
                # Said twice: the later line holds.
                profiles.append({"$distinct_id": person.user_id, "$properties": props | {"$email": "old"}})
            profiles.append({"$distinct_id": profile_id(person, id_merge), "$properties": props})
    return profiles


def profile_id(person: Person, id_merge: str) -> str | int | None:
    """Some libraries write numbers; in an original project some set the profile before the log-in."""
    if id_merge == "original" and person.number % 60 == 4:
        return person.devices[0]
    user = person.user_id or ""
    return int(user) if user.isdigit() and person.number % 2 else user


def visitor_profile(rng: random.Random, person: Person, id_merge: str) -> Row:
    device = person.devices[0]
    props: Row = {"$city": person.city[0], "$last_seen": last_seen(rng)}
    if rng.random() < 0.3:
        props["$email"] = make_address(person)
    return {"$distinct_id": f"$device:{device}" if id_merge == "simplified" else device, "$properties": props}


def last_seen(rng: random.Random) -> str:
    return datetime.fromtimestamp(rng.randrange(START, END), UTC).strftime("%Y-%m-%dT%H:%M:%S")


def customer_properties(rng: random.Random, person: Person) -> Row:
    props: Row = {"$first_name": person.first, "$last_name": person.last, "plan": person.plan}
    props |= {"$city": person.city[0], "$country_code": person.city[1], "$last_seen": last_seen(rng)}
    if person.trouble == "twin":
        props["$last_seen"] = rng.choice([props["$last_seen"], "2026-11-01T12:00:00", "last Tuesday", None])
        if props["$last_seen"] is None:
            del props["$last_seen"]
    return props | email_property(rng, person)


def email_property(rng: random.Random, person: Person) -> Row:
    address = person.address
    given: dict[str, list[Any]] = {
        "null": [None],
        "blank": ["", "   "],
        "untidy": [f" {address}", f"{address} ", address.upper(), address.title()],
        "list": [[address], [address, f"old.{address}"], []],
        "number": [5550100 + person.number, True],
        "invalid": [
            address.replace("@", " at "),
            f"{address}@",
            "n/a",
            "@harbor-mail.example",
            "a..b@x.example",
        ],
        "twin": [address, address.upper(), f" {address.capitalize()} "],
    }
    if person.trouble == "absent":
        return {}
    return {"$email": rng.choice(given.get(person.trouble, [address]))}


def make_cohorts(
    rng: random.Random, people: list[Person], rows: list[Row], id_merge: str
) -> dict[str, list[str]]:
    """The three cohorts' distinct ids, people with every kind of trouble among them."""
    made = Counter(
        str(row["properties"].get("$user_id")) for row in rows if row["event"] == "Invoice created"
    )
    customers = [person for person in people if person.user_id]
    visitors = [person for person in people if not person.user_id]
    busiest = sorted(customers, key=lambda person: (-made[str(person.user_id)], person.number))
    trials = [person for person in customers if person.plan == "trial"]
    readers = [person for person in customers if person.number % 20 in (0, 1, 2, 3, 4, 9)]
    scale = len(people) / 3000
    sizes = {"power-users": (540, 45, 15), "trial-ending": (170, 15, 15), "newsletter-readers": (835, 40, 25)}
    chosen = zip(sizes.items(), (busiest, trials, readers), strict=True)
    cohorts = {}
    for (name, numbers), group in chosen:
        known, merged, anonymous = (round(number * scale) for number in numbers)
        users = group[:known]
        # Half of these devices' owners are listed themselves, half are not.
        owners = group[known // 2 : known][:: max(1, known // max(1, merged))][: merged // 2]
        owners += group[known:][: merged - len(owners)] or customers[-(merged - len(owners)) :]
        ids = [str(person.user_id) for person in users]
        ids += [bare_device(person, id_merge) for person in [*owners, *rng.sample(visitors, anonymous)]]
        cohorts[name] = list(dict.fromkeys(ids))
    cohorts["newsletter-readers"] += [f"tly_gone{number:02}" for number in range(6)]
    for ids in cohorts.values():
        rng.shuffle(ids)
    return cohorts


def bare_device(person: Person, id_merge: str) -> str:
    return f"$device:{person.devices[0]}" if id_merge == "simplified" else person.devices[0]


def engage_page(ids: list[str], profiles: list[Row]) -> Row:
    """One page as the query API answers it, profiles included where there are any."""
    known = {str(profile["$distinct_id"]): profile["$properties"] for profile in profiles}
    results = [{"$distinct_id": each, "$properties": known.get(each, {})} for each in ids]
    head = {"page": 0, "page_size": 1000, "session_id": "1795212000-SAMPLE", "status": "ok"}
    return head | {"total": len(results), "results": results}


def make_members(
    rng: random.Random, people: list[Person], cohorts: dict[str, list[str]], users: int
) -> list[Row]:
    """The Mailchimp audience before any sync: some of Tally's customers and some strangers."""
    wanted = set(cohorts["newsletter-readers"]) | set(cohorts["power-users"])
    mailable = {
        person.address: person
        for person in people
        if person.user_id in wanted and person.trouble in ("", "untidy", "twin")
    }
    ours = rng.sample(sorted(mailable), min(len(mailable), users * 2 // 15))
    members = [make_member(rng, each, mailable[each].first, mailable[each].last) for each in ours]
    for number in range(users // 10):
        first, last = rng.choice(FIRST_NAMES[:20]), rng.choice(LAST_NAMES[:12])
        address = f"{first}.{last}.s{number}@{rng.choice(['lantern-post', 'elmtree'])}.example".lower()
        members.append(make_member(rng, address, first, last))
    rng.shuffle(members)
    return members


def make_member(rng: random.Random, address: str, first: str, last: str) -> Row:
    statuses = {
        "subscribed": 76,
        "unsubscribed": 10,
        "cleaned": 4,
        "pending": 4,
        "transactional": 3,
        "archived": 3,
    }
    return {
        "email_address": address.title() if rng.random() < 0.05 else address,
        "status": rng.choices([*statuses], [*statuses.values()])[0],
        "merge_fields": {"FNAME": first, "LNAME": last} if rng.random() < 0.8 else {"FNAME": "", "LNAME": ""},
        "tags": ["Customers"] if rng.random() < 0.2 else [],
    }


def dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def write_gz(path: Path, lines: list[str]) -> None:
    buffer = io.BytesIO()
    with gzip.GzipFile("", "wb", 9, buffer, mtime=0) as packed:
        packed.write("".join(f"{line}\n" for line in lines).encode())
    path.write_bytes(buffer.getvalue())


def write_csv(path: Path, ids: list[str], people: list[Person]) -> None:
    by_id = {str(person.user_id): person for person in people if person.user_id}
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    table.writerow(["$distinct_id", "$first_name", "plan", "trial_ends_on"])
    for number, each in enumerate(ids):
        person = by_id.get(each)
        ends = f"2026-11-{21 + number % 9}" if person else ""
        table.writerow([each, person.first if person else "", person.plan if person else "", ends])
    path.write_text(buffer.getvalue(), encoding="utf-8", newline="")


def write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="")


def make_events(rng: random.Random, people: list[Person], id_merge: str) -> list[Row]:
    diary = Diary(rng)
    live(diary, people)
    keep_the_boundary_busy(diary, people)
    run_campaigns(diary, [person for person in people if person.user_id])
    add_system_events(diary, people)
    delay_some(diary.moments, people)
    if id_merge == "simplified":
        rows = simplified_rows(rng, diary.moments) + stray_identifies(rng, people)
    else:
        rows = original_rows(rng, diary.moments) + other_verbs(rng, people)
    rows += add_userless(rng, people, id_merge)
    spoil_insert_ids(rng, rows)
    return rows + retries(rng, rows)


def generate(out: Path, users: int = 3000, seed: int = 7, id_merge: str = "simplified") -> None:
    """Write the sample project into the folder `out` (made if need be); ValueError below 200 users."""
    if users < 200:
        raise ValueError(f"{users} users are too few for every kind of trouble; ask for 200 or more")
    rng = random.Random(seed)
    people = make_people(rng, users)
    rows = make_events(rng, people, id_merge)
    files = split_files(rows, id_merge)
    add_bad_lines(files)
    profiles = make_profiles(rng, people, id_merge)
    cohorts = make_cohorts(rng, people, rows, id_merge)
    members = make_members(rng, people, cohorts, users)
    out.mkdir(parents=True, exist_ok=True)
    for month, lines in files.items():
        write_gz(out / f"events-{month}.ndjson.gz", lines)
    write_gz(out / "profiles.ndjson.gz", [dump(profile) for profile in profiles])
    write_lines(out / "cohort-power-users.json", [dump(engage_page(cohorts["power-users"], profiles))])
    write_csv(out / "cohort-trial-ending.csv", cohorts["trial-ending"], people)
    write_lines(out / "cohort-newsletter-readers.txt", cohorts["newsletter-readers"])
    write_lines(out / "mailchimp_members.ndjson", [dump(member) for member in members])


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the sample project.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--users", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--id-merge", choices=["simplified", "original"], default="simplified")
    options = parser.parse_args()
    generate(options.out, options.users, options.seed, options.id_merge)


if __name__ == "__main__":
    main()
