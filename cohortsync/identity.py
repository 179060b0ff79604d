"""Who is who: which ids belong to one user, under both of Mixpanel's ID merges.

Evidence (device links, identity verbs, re-keyed pairs) is gathered in SQL as files are loaded and kept
across loads; from it the table ``identities`` is derived anew, since merges are retroactive.
Sources: https://docs.mixpanel.com/docs/tracking-methods/id-management/identifying-users-simplified
and …/identifying-users-original
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Set
from dataclasses import dataclass, field

import duckdb
import pyarrow as pa

from cohortsync.warehouse import sql

CAP = 500
ANONYMOUS = re.compile(
    r"\$device:.*"
    r"|[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
    r"|[0-9a-f]{10,16}-[0-9a-f]{10,16}-[0-9a-f]{4,10}-[0-9a-f]{4,10}-[0-9a-f]{10,16}",
    re.IGNORECASE | re.DOTALL)


def is_anonymous_form(identifier: str) -> bool:
    """Whether an id looks like one that Mixpanel's own clients make for an unknown visitor."""
    return ANONYMOUS.fullmatch(identifier) is not None


@dataclass
class Clusters:
    """Ids merged into users by identity verbs, in ingest order, under the rules of original ID merge."""

    cap: int = CAP
    parent: dict[str, str] = field(default_factory=dict)
    members: dict[str, list[str]] = field(default_factory=dict)
    identified: set[str] = field(default_factory=set)
    holds_identified: set[str] = field(default_factory=set)
    aliases: set[str] = field(default_factory=set)

    def root(self, identifier: str) -> str:
        root = identifier
        while (above := self.parent.get(root, root)) != root:
            root = above
        while identifier != root:
            identifier, self.parent[identifier] = self.parent.get(identifier, root), root
        return root

    def of(self, identifier: str) -> list[str]:
        """Every id of the identifier's user, itself included."""
        return self.members.get(self.root(identifier), [identifier])

    def union(self, one: str, other: str) -> None:
        into, gone = self.root(one), self.root(other)
        if into == gone:
            return
        if len(self.of(into)) < len(self.of(gone)):
            into, gone = gone, into
        self.members[into] = self.of(into) + self.members.pop(gone, [gone])
        self.parent[gone] = into
        if gone in self.holds_identified:
            self.holds_identified.add(into)

    def fits(self, one: str, other: str) -> bool:
        return self.root(one) == self.root(other) or len(self.of(one)) + len(self.of(other)) <= self.cap

    def apply(self, verb: str, first: str, second: str) -> str | None:
        """Apply one verb; answers the ``$failure_reason`` Mixpanel would give, None when it is accepted.

        ``first``/``second``: identified/anonymous for ``$identify``, user/alias for ``$create_alias``.
        """
        if refusal := self._refusal(verb, first, second):
            return refusal
        self.union(first, second)
        if verb == "$identify":
            self.identified.add(first)
            self.holds_identified.add(self.root(first))
        if verb == "$create_alias":
            self.aliases.add(second)
        return None

    def _refusal(self, verb: str, first: str, second: str) -> str | None:
        if verb != "$merge" and first == second:
            return "errSameIDs"
        if verb == "$identify" and not is_anonymous_form(second):
            return "errAnonDistinctIdNonGUIDForm"
        if verb == "$identify" and self.root(second) in self.holds_identified:
            return "errAnonDistinctIdAssignedAlready"
        if verb == "$create_alias" and second in self.aliases:
            return "errAliasAlreadyExists"
        return None if self.fits(first, second) else "errManyIDs"


def label(ids: Iterable[str], rekeyed: dict[str, tuple[int, int]], reachable: Set[str],
          identified: Set[str]) -> str:
    """The canonical id of one user.

    Mixpanel's own choice where an export shows it (``rekeyed``: target → latest ingest position); else the
    smallest id with an e-mail in its profile, then of those identified, then not anonymous, then of all.
    """
    ids = sorted(ids)
    shown = [i for i in ids if i in rekeyed]
    if shown:
        return max(reversed(shown), key=lambda i: rekeyed[i])
    groups = ([i for i in ids if i in reachable], [i for i in ids if i in identified],
              [i for i in ids if not is_anonymous_form(i)], ids)
    return next(group[0] for group in groups if group)


def merge_original(verbs: Iterable[tuple[str, str, str]], rekeys: Iterable[tuple[str, str, int, int]],
                   reachable: Set[str], cap: int = CAP) -> dict[str, str]:
    """Id → canonical id, for every id that is not its own canonical id, under original ID merge.

    ``verbs``: (verb, first id, second id) in ingest order; ``rekeys``: (id now, id as sent, ingest ms,
    time s) from exports, beyond question; ``reachable``: ids whose profile has an e-mail.
    """
    clusters = Clusters(cap)
    for verb in verbs:
        clusters.apply(*verb)
    targets: dict[str, tuple[int, int]] = {}
    for target, before, ingest_ms, time_s in rekeys:
        clusters.union(target, before)
        targets[target] = max(targets.get(target, (0, 0)), (ingest_ms, time_s))
    canonical: dict[str, str] = {}
    for ids in clusters.members.values():
        name = label(ids, targets, reachable, clusters.identified)
        canonical.update((i, name) for i in ids if i != name)
    return canonical


def refresh_evidence(con: duckdb.DuckDBPyConnection) -> None:
    """Fold the evidence in the rows just ``staged`` into what earlier loads left."""
    for table in ("device_links", "identity_verbs", "rekeys"):
        con.execute(f"create temp table folded as {sql(table)}")
        con.execute(f"delete from generation.{table}")
        con.execute(f"insert into generation.{table} from folded")
        con.execute("drop table folded")


def derive_identities(con: duckdb.DuckDBPyConnection, project_id: str, id_merge: str) -> None:
    """Fill ``generation.identities`` from the evidence; ``id_merge`` is ``simplified`` or ``original``."""
    con.execute("delete from generation.identities")
    if id_merge == "simplified":
        con.execute(f"insert into generation.identities {sql('identities_simplified')}")
        return
    verbs = con.execute("select verb, first_id, second_id from generation.identity_verbs "
                        "order by ingest_ms, time_s, insert_id, verb, first_id, second_id").fetchall()
    rekeys = con.execute("select distinct_id, before_id, ingest_ms, time_s from generation.rekeys").fetchall()
    reachable = {i for (i,) in con.execute(
        "select distinct_id from generation.profiles where email_kind = 'text'").fetchall()}
    canonical = merge_original(verbs, rekeys, reachable)
    found = pa.table({"distinct_id": list(canonical), "canonical_id": list(canonical.values())},
                     schema=pa.schema([("distinct_id", pa.string()), ("canonical_id", pa.string())]))
    con.register("found", found)
    con.execute("insert into generation.identities select ?, distinct_id, canonical_id from found", (project_id,))
    con.unregister("found")
