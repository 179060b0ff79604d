"""A second, slow and obvious reckoning of every number, straight from the raw lines.

It shares no code with the package, so that the two can be compared: plain dicts and loops, no SQL.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from email_validator import EmailNotValidError, validate_email

DEVICE = "$device:"
INVALID_IDS = {
    "00000000-0000-0000-0000-000000000000", "anon", "anonymous", "nil", "none", "null", "n/a", "na",
    "undefined", "unknown", "<nil>", "0", "-1", "true", "false", "[]", "{}", "lmy47d",
}  # fmt: skip
VERBS = {"$identify", "$create_alias", "$merge"}
SYSTEM = VERBS | {
    "$opt_in", "$mp_session_record", "$experiment_started",
    "$campaign_delivery", "$campaign_received", "$campaign_bounced", "$campaign_marked_spam",
    "$message_suppressed", "$unsubscribe", "$journey_entered",
}  # fmt: skip
ENGAGEMENT = {
    "Mailchimp Campaign - Open", "Mailchimp Campaign - Click",
    "Mailchimp - Opened Campaign", "Mailchimp - Clicked Campaign Url",
}  # fmt: skip
MAILCHIMP = ENGAGEMENT | {
    "Mailchimp Campaign - Sent", "Mailchimp Campaign - Unsubscribed", "Mailchimp Campaign - Bounce",
    "Mailchimp - Sent To", "Mailchimp - Unsubscribed", "Mailchimp - Bounced",
}  # fmt: skip
ANONYMOUS_FORMS = (
    re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.IGNORECASE),
    re.compile(
        r"[0-9a-f]{10,16}-[0-9a-f]{10,16}-[0-9a-f]{4,10}-[0-9a-f]{4,10}-[0-9a-f]{10,16}", re.IGNORECASE
    ),
)
MAX_CLUSTER = 500
NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Row:
    """One good event line; `position` is its (file, line) in load order."""

    name: str
    seconds: int
    props: dict[str, Any]
    position: tuple[int, int]


@dataclass(frozen=True)
class Reckoning:
    mtu: list[dict[str, Any]]
    mtu_marked: list[dict[str, Any]]
    audience: dict[str, dict[str, str]]
    cohorts: dict[str, tuple[int, int]]
    canonical: Callable[[str], str]
    quarantined: int
    duplicates: int


def reckon(
    events: list[Path],
    profiles: list[Path],
    cohorts: dict[str, Path],
    timezone: str,
    id_merge: str,
    mappings: Iterable[tuple[str, str]] = (),
) -> Reckoning:
    """Reckon MTU and audiences from raw files, given in load order; `id_merge` simplified or original.

    `mappings`: (id, the id it is resolved to) of the warehouse export's own table.
    """
    rows, quarantined = read_events(events)
    known = read_profiles(profiles)
    if id_merge == "simplified":
        identity: Simplified | Original = Simplified(rows, mappings)
    else:
        identity = Original(rows, known, mappings)
    counted = without_duplicates(rows)
    zone = ZoneInfo(timezone)
    audience = {name: reckon_audience(read_cohort(path), known, identity) for name, path in cohorts.items()}
    return Reckoning(
        mtu=reckon_mtu(rows, counted, identity, zone, marker=False),
        mtu_marked=reckon_mtu(rows, counted, identity, zone, marker=True),
        audience=audience,
        cohorts={
            name: (len(reasons), sum(reason == "exportable" for reason in reasons.values()))
            for name, reasons in audience.items()
        },
        canonical=identity.canonical,
        quarantined=quarantined,
        duplicates=len(rows) - len(counted),
    )


def raw_bytes(path: Path) -> bytes:
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    return data.removeprefix(b"\xef\xbb\xbf")


def no_constant(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


def parse_json(data: bytes) -> Any:
    """What the bytes say, or ValueError (also for NaN and Infinity, which are not JSON)."""
    return json.loads(data.decode(), parse_constant=no_constant)


def read_records(data: bytes) -> Iterator[tuple[int, Any]]:
    """(line number, value) of each element of an array or each line that is not blank; bad lines: None."""
    if data.lstrip()[:1] == b"[":
        yield from enumerate(parse_json(data), 1)
        return
    for number, line in enumerate(data.split(b"\n"), 1):
        if line.strip():
            try:
                yield number, parse_json(line)
            except ValueError:
                yield number, None


def read_events(paths: list[Path]) -> tuple[list[Row], int]:
    """The good rows of all files, and the count of bad lines; a file seen before adds nothing."""
    rows: list[Row] = []
    bad = 0
    seen: set[str] = set()
    for number, path in enumerate(paths):
        data = raw_bytes(path)
        digest = hashlib.sha256(data).hexdigest()
        if digest in seen:
            continue
        seen.add(digest)
        for line, record in read_records(data):
            row = parse_event(record, (number, line))
            if row is None:
                bad += 1
            else:
                rows.append(row)
    return rows, bad


def parse_event(record: Any, position: tuple[int, int]) -> Row | None:
    if not isinstance(record, dict):
        return None
    name = record.get("event")
    props = record.get("properties")
    props = props if isinstance(props, dict) else record
    seconds = epoch_seconds(props.get("time"))
    if not isinstance(name, str) or not name or seconds is None:
        return None
    return Row(name, seconds, props, position)


def epoch_seconds(value: Any) -> int | None:
    """Whole epoch seconds of a number or digits (seconds below 1e11, else milliseconds) or an ISO time."""
    number = as_number(value)
    if number is not None:
        seconds = math.floor(number if number < 1e11 else number / 1000)
        return seconds if -62135596800 <= seconds <= 253402300799 else None
    instant = iso_instant(value)
    return None if instant is None else math.floor(instant.timestamp())


def as_number(value: Any) -> int | float | None:
    if isinstance(value, str) and re.fullmatch("[0-9]+", value):
        return int(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    return None


def iso_instant(value: Any) -> datetime | None:
    """The aware instant an ISO 8601 string names (naive = UTC), else None."""
    if not isinstance(value, str):
        return None
    try:
        instant = datetime.fromisoformat(value)
    except ValueError:
        return None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def read_profiles(paths: list[Path]) -> dict[str, dict[str, Any]]:
    """distinct_id -> properties; the last one said wins."""
    known: dict[str, dict[str, Any]] = {}
    for path in paths:
        for record in entries(path):
            distinct_id = valid(distinct_id_of(record))
            if distinct_id is not None:
                known[distinct_id] = profile_properties(record)
    return known


def profile_properties(record: dict[str, Any]) -> dict[str, Any]:
    nested = record.get("$properties")
    if isinstance(nested, dict):
        return nested
    return {key: value for key, value in record.items() if key not in ID_HEADERS and key != "$properties"}


def read_cohort(path: Path) -> list[str]:
    """The cohort's distinct ids, each once, in the file's order."""
    ids = (valid(distinct_id_of(record)) for record in entries(path))
    return list(dict.fromkeys(each for each in ids if each is not None))


ID_HEADERS = ("$distinct_id", "distinct_id", "Distinct ID")


def distinct_id_of(record: Any) -> Any:
    if not isinstance(record, dict):
        return record
    return next((record[key] for key in ID_HEADERS if key in record), None)


def entries(path: Path) -> Iterable[Any]:
    """Records of a profile or cohort file: engage pages, an array, NDJSON, CSV, or one id a line."""
    data = raw_bytes(path)
    if path.name.removesuffix(".gz").endswith(".csv"):
        table = csv.DictReader(io.StringIO(data.decode(), newline=""))
        return [{key: cell for key, cell in line.items() if cell != ""} for line in table]
    if data.lstrip()[:1] not in (b"{", b"["):
        return [line.strip() for line in data.decode().split("\n") if line.strip()]
    try:
        return list(flatten(parse_json(data)))
    except ValueError:
        return list(flatten([record for _, record in read_records(data)]))


def flatten(document: Any) -> Iterator[Any]:
    if isinstance(document, list):
        for each in document:
            yield from flatten(each)
    elif isinstance(document, dict) and isinstance(document.get("results"), list):
        yield from flatten(document["results"])
    else:
        yield document


def text(value: Any) -> str | None:
    """A JSON scalar as text; null, lists and objects are no id."""
    if value is None or isinstance(value, (list, dict)):
        return None
    return value if isinstance(value, str) else json.dumps(value)


def valid(value: Any) -> str | None:
    """The id as text if Mixpanel would take it as an id, else None."""
    given = text(value)
    return given if given and given.lower() not in INVALID_IDS else None


def prop(row: Row, key: str) -> str | None:
    return valid(row.props.get(key))


def milliseconds(row: Row, *keys: str) -> int | None:
    numbers = (as_number(row.props.get(key)) for key in keys)
    return next((math.floor(number) for number in numbers if number is not None), None)


def ingest_order(row: Row) -> tuple[int, int, str]:
    """Sort key: when Mixpanel took the row in, then its time, then its `$insert_id`."""
    received = milliseconds(row, "$mp_api_timestamp_ms", "mp_processing_time_ms")
    at = row.seconds * 1000 if received is None else received
    return at, row.seconds, prop(row, "$insert_id") or ""


def without_duplicates(rows: list[Row]) -> list[Row]:
    """The rows to count: of each four-part key the last processed; without `$insert_id` every row."""
    kept: dict[tuple[str, int, str, str], Row] = {}
    single: list[Row] = []
    for row in rows:
        insert_id = prop(row, "$insert_id")
        if insert_id is None:
            single.append(row)
            continue
        before, distinct_id = (
            text(row.props.get("$distinct_id_before_identity")),
            text(row.props.get("distinct_id")),
        )
        key = (row.name, row.seconds, before if before is not None else distinct_id or "", insert_id)
        if key not in kept or processing_order(row) > processing_order(kept[key]):
            kept[key] = row
    return single + list(kept.values())


def processing_order(row: Row) -> tuple[int, tuple[int, int]]:
    return milliseconds(row, "mp_processing_time_ms", "$mp_api_timestamp_ms") or 0, row.position


class Simplified:
    """Device to user by Mixpanel's own word, else by the first row that carries both.

    Source: https://docs.mixpanel.com/docs/tracking-methods/id-management/identifying-users-simplified
    """

    def __init__(self, rows: list[Row], mappings: Iterable[tuple[str, str]] = ()) -> None:
        pairs = sorted(mappings, reverse=True)
        self.heads = {resolved for _, resolved in pairs}
        self.mapped = {each: resolved for each, resolved in pairs if each not in self.heads}
        said, linked = [], []
        for row in rows:
            before, distinct_id = prop(row, "$distinct_id_before_identity"), prop(row, "distinct_id")
            rekeyed = valid(before.removeprefix(DEVICE)) if before and before.startswith(DEVICE) else None
            if rekeyed and distinct_id and not distinct_id.startswith(DEVICE):
                said.append((ingest_order(row), distinct_id, rekeyed))
            user, device = self.user_and_device(row)
            if user and device and links(row):
                linked.append((ingest_order(row), user, device))
        self.user_of: dict[str, str] = {}
        for _, user, device in [*sorted(said), *sorted(linked)]:
            self.user_of.setdefault(device, user)

    @staticmethod
    def user_and_device(row: Row) -> tuple[str | None, str | None]:
        user = prop(row, "$user_id")
        device = valid((prop(row, "$device_id") or "").removeprefix(DEVICE))
        if user or device:
            return user, device
        given = prop(row, "$distinct_id_before_identity") or prop(row, "distinct_id")
        if given and given.startswith(DEVICE):
            return None, valid(given.removeprefix(DEVICE))
        return given, None

    def of_row(self, row: Row) -> str | None:
        user, device = self.user_and_device(row)
        if user:
            return self.canonical(user)
        return self.canonical(DEVICE + device) if device else None

    def canonical(self, distinct_id: str) -> str:
        if distinct_id in self.heads or distinct_id in self.mapped:
            return self.mapped.get(distinct_id, distinct_id)
        if distinct_id.startswith(DEVICE):
            distinct_id = self.user_of.get(distinct_id.removeprefix(DEVICE), distinct_id)
        return self.mapped.get(distinct_id, distinct_id)

    def profile(self, canonical_id: str, profiles: dict[str, dict[str, Any]]) -> dict[str, Any]:
        return profiles.get(canonical_id, {})


def links(row: Row) -> bool:
    return row.props.get("$identity_failure_reason") is None and row.name not in VERBS


class Original:
    """Clusters of ids made by the three verbs, under their refusals, and by Mixpanel's own re-keying.

    Source: https://docs.mixpanel.com/docs/tracking-methods/id-management/identifying-users-original
    """

    def __init__(
        self, rows: list[Row], profiles: dict[str, dict[str, Any]], mappings: Iterable[tuple[str, str]] = ()
    ) -> None:
        self.cluster: dict[str, set[str]] = {}
        self.identified: set[str] = set()
        self.aliases: set[str] = set()
        for _, verb, first, second in sorted(read_verbs(rows)):
            self.apply(verb, first, second)
        self.rekeyed: dict[str, tuple[int, int]] = {}
        for row in rows:
            self.rekey(row)
        self.heads = {resolved for _, resolved in mappings}
        for each, resolved in mappings:
            self.join(each, resolved)
        self.mailable = {each for each, known in profiles.items() if non_blank(known.get("$email"))}

    def members(self, distinct_id: str) -> set[str]:
        return self.cluster.get(distinct_id, {distinct_id})

    def join(self, first: str, second: str) -> None:
        together = self.members(first) | self.members(second)
        for each in together:
            self.cluster[each] = together

    def apply(self, verb: str, first: str, second: str) -> None:
        if self.refuses(verb, first, second):
            return
        self.join(first, second)
        if verb == "$identify":
            self.identified.add(first)
        if verb == "$create_alias":
            self.aliases.add(first)

    def refuses(self, verb: str, first: str, second: str) -> bool:
        """Whether Mixpanel refuses it: (identified, anonymous), (alias, other) or the two ids of a merge."""
        if verb != "$merge" and first == second:
            return True
        if verb == "$identify" and not is_anonymous(second):
            return True
        if verb == "$identify" and self.members(second) & self.identified:
            return True
        if verb == "$create_alias" and first in self.aliases:
            return True
        return len(self.members(first) | self.members(second)) > MAX_CLUSTER and (
            second not in self.members(first)
        )

    def rekey(self, row: Row) -> None:
        before, now = prop(row, "$distinct_id_before_identity"), prop(row, "distinct_id")
        if before and now and before != now:
            self.join(before, now)
            order = ingest_order(row)[:2]
            self.rekeyed[now] = max(order, self.rekeyed.get(now, order))

    def of_row(self, row: Row) -> str | None:
        distinct_id = prop(row, "distinct_id")
        return self.canonical(distinct_id) if distinct_id else None

    def canonical(self, distinct_id: str) -> str:
        cluster = self.members(distinct_id)
        if cluster & self.heads:
            return min(cluster & self.heads)
        targets = cluster & self.rekeyed.keys()
        if targets:
            latest = max(self.rekeyed[each] for each in targets)
            return min(each for each in targets if self.rekeyed[each] == latest)
        known = {each for each in cluster if not is_anonymous(each)}
        return min(cluster & self.mailable or cluster & self.identified or known or cluster)

    def profile(self, canonical_id: str, profiles: dict[str, dict[str, Any]]) -> dict[str, Any]:
        in_order = [canonical_id, *sorted(self.members(canonical_id))]
        return next((profiles[each] for each in in_order if profiles.get(each)), {})


def read_verbs(rows: list[Row]) -> Iterator[tuple[tuple[int, int, str], str, str, str]]:
    """(ingest order, verb, first id, second id) of each verb row that Mixpanel did not mark as failed."""
    for row in rows:
        if row.name not in VERBS or row.props.get("$failure_reason") is not None:
            continue
        inferred = prop(row, "$distinct_id_before_identity") or prop(row, "distinct_id")
        ids: list[str | None] = []
        if row.name == "$identify":
            ids = [prop(row, "$identified_id") or inferred, prop(row, "$anon_id")]
        elif row.name == "$create_alias":
            ids = [prop(row, "alias"), inferred]
        elif isinstance(row.props.get("$distinct_ids"), list):
            ids = [valid(each) for each in row.props["$distinct_ids"]]
        found = [each for each in ids if each]
        if len(found) == 2:
            yield ingest_order(row), row.name, found[0], found[1]


def is_anonymous(distinct_id: str) -> bool:
    return distinct_id.startswith(DEVICE) or any(form.fullmatch(distinct_id) for form in ANONYMOUS_FORMS)


def non_blank(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def reckon_audience(
    members: list[str], profiles: dict[str, dict[str, Any]], identity: Simplified | Original
) -> dict[str, str]:
    """distinct_id -> the one reason why it is exportable or not."""
    users: dict[str, list[str]] = defaultdict(list)
    for member in members:
        users[identity.canonical(member)].append(member)
    reasons: dict[str, str] = {}
    by_address: dict[str, list[tuple[str, str, datetime]]] = defaultdict(list)
    for user, ids in users.items():
        stays = user if user in ids else min(ids)
        reasons.update(dict.fromkeys(ids, "merged"))
        profile = identity.profile(user, profiles)
        reasons[stays] = email_reason(profile)
        if reasons[stays] == "exportable":
            seen = iso_instant(profile.get("$last_seen")) or NEVER
            by_address[address(profile)].append((user, stays, seen))
    for rivals in by_address.values():
        for _, stays, _ in sorted(rivals, key=newest_then_smallest)[1:]:
            reasons[stays] = "duplicate_email"
    return reasons


def newest_then_smallest(rival: tuple[str, str, datetime]) -> tuple[timedelta, str]:
    user, _, seen = rival
    return NEVER - seen, user


def address(profile: dict[str, Any]) -> str:
    return str(profile["$email"]).strip().lower()


def email_reason(profile: dict[str, Any]) -> str:
    if not profile:
        return "no_profile"
    email = profile.get("$email")
    if email is None or (isinstance(email, str) and not email.strip()):
        return "no_email"
    if not isinstance(email, str):
        return "email_not_string"
    try:
        validate_email(address(profile), check_deliverability=False)
    except EmailNotValidError:
        return "email_invalid"
    return "exportable"


def reckon_mtu(
    rows: list[Row], counted: list[Row], identity: Simplified | Original, zone: ZoneInfo, *, marker: bool
) -> list[dict[str, Any]]:
    """One dict a month with an event; with `marker`, Mailchimp's names are exempt only when so marked."""
    events: Counter[str] = Counter()
    users: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in counted:
        month = local_day(row, zone).strftime("%Y-%m")
        events[month] += 1
        user = identity.of_row(row)
        if user is not None:
            for reading in readings(row, marker):
                users[month, reading].add(user)
    days = [local_day(row, zone) for row in rows]
    return [
        month_line(month, events[month], {name: users[month, name] for name in READINGS}, days)
        for month in sorted(events)
    ]


READINGS = ("mtu", "mtu_without_exemption", "mtu_engagement_counted")


def readings(row: Row, marker: bool) -> tuple[str, ...]:
    """In which of the three readings this event makes its user a tracked user."""
    if row.name in SYSTEM:
        return ()
    if row.name not in MAILCHIMP or (marker and not marked(row)):
        return READINGS
    if row.name in ENGAGEMENT:
        return ("mtu_without_exemption", "mtu_engagement_counted")
    return ("mtu_without_exemption",)


def marked(row: Row) -> bool:
    source = row.props.get("$source")
    return isinstance(source, str) and source.lower() == "mailchimp"


def local_day(row: Row, zone: ZoneInfo) -> date:
    return datetime.fromtimestamp(row.seconds, zone).date()


def month_line(month: str, events: int, users: dict[str, set[str]], days: list[date]) -> dict[str, Any]:
    first = date.fromisoformat(f"{month}-01")
    last = (first + timedelta(days=31)).replace(day=1) - timedelta(days=1)
    counts = {name: len(who) for name, who in users.items()}
    guardrail = math.ceil(events / 1000)
    return {
        "month": month,
        **counts,
        "exempt_users": counts["mtu_without_exemption"] - counts["mtu"],
        "events": events,
        "guardrail": guardrail,
        "billable": max(counts["mtu"], guardrail),
        "complete": min(days) <= first and last <= max(days),
    }
