"""Who is who: which ids belong to one user, under both of Mixpanel's ID merges.

Evidence (device links, identity verbs, re-keyed pairs) is gathered in SQL as files are loaded and kept
across loads; from it and from the warehouse's mappings the table ``identities`` is derived anew, since
merges are retroactive.
Sources: https://docs.mixpanel.com/docs/tracking-methods/id-management/identifying-users-simplified
and …/identifying-users-original
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cohortsync.warehouse import offer, sql

CAP = 500
ANONYMOUS = re.compile(  # in the words that Python and DuckDB share
    r"\$device:(?s:.*)"
    r"|(?i:[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
    r"|[0-9a-f]{10,16}-[0-9a-f]{10,16}-[0-9a-f]{4,10}-[0-9a-f]{4,10}-[0-9a-f]{10,16})")
IDENTIFIED = 3  # the precedence that identities_original_ids.sql leaves free
KEYS = {"device_links": "project_id, device_id, verdict", "identity_verbs": "project_id, verb, first_id, second_id",
        "rekeys": "project_id, distinct_id, before_id"}
SUPERSEDES = {
    "device_links": "(n.ingest_ms, n.time_s, n.insert_id, n.user_id) < (o.ingest_ms, o.time_s, o.insert_id, o.user_id)",
    "identity_verbs": "(n.ingest_ms, n.time_s, n.insert_id) < (o.ingest_ms, o.time_s, o.insert_id)",
    "rekeys": "(n.ingest_ms, n.time_s) > (o.ingest_ms, o.time_s)"}

Numbers = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]



def is_anonymous_form(identifier: str) -> bool:
    """Whether an id looks like one that Mixpanel's own clients make for an unknown visitor."""
    return ANONYMOUS.fullmatch(identifier) is not None


@dataclass
class Clusters:
    """Ids merged into users by identity verbs, in ingest order, under the rules of original ID merge.

    An id is text, or whatever stands for it, if ``is_anonymous`` can tell its form.
    """

    cap: int = CAP
    is_anonymous: Callable[[Any], bool] = is_anonymous_form
    parent: dict[Any, Any] = field(default_factory=dict)
    members: dict[Any, list[Any]] = field(default_factory=dict)
    identified: set[Any] = field(default_factory=set)
    holds_identified: set[Any] = field(default_factory=set)
    aliases: set[Any] = field(default_factory=set)

    def root(self, identifier: Any) -> Any:
        root = identifier
        while (above := self.parent.get(root, root)) != root:
            root = above
        while identifier != root:
            identifier, self.parent[identifier] = self.parent.get(identifier, root), root
        return root

    def of(self, identifier: Any) -> list[Any]:
        """Every id of the identifier's user, itself included."""
        return self.members.get(self.root(identifier), [identifier])

    def union(self, one: Any, other: Any) -> None:
        into, gone = self.root(one), self.root(other)
        if into == gone:
            return
        if len(self.of(into)) < len(self.of(gone)):
            into, gone = gone, into
        self.members[into] = self.of(into) + self.members.pop(gone, [gone])
        self.parent[gone] = into
        if gone in self.holds_identified:
            self.holds_identified.add(into)

    def fits(self, one: Any, other: Any) -> bool:
        return self.root(one) == self.root(other) or len(self.of(one)) + len(self.of(other)) <= self.cap

    def apply(self, verb: str, first: Any, second: Any) -> str | None:
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

    def _refusal(self, verb: str, first: Any, second: Any) -> str | None:
        if verb != "$merge" and first == second:
            return "errSameIDs"
        if verb == "$identify" and not self.is_anonymous(second):
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
        return max(shown, key=lambda i: rekeyed[i])  # of equals the first, which is the smallest
    groups = ([i for i in ids if i in reachable], [i for i in ids if i in identified],
              [i for i in ids if not is_anonymous_form(i)], ids)
    return next(group[0] for group in groups if group)


def components(size: int, first: Numbers, second: Numbers) -> Numbers:
    """The smallest number that each of ``size`` numbers is connected to by the pairs.

    Every number hooks onto the smallest one it is paired with, chains are cut short, and the pairs go on
    between what they now hang on, until none joins anything.
    """
    root = np.arange(size, dtype=np.int32)
    while len(first):
        np.minimum.at(root, np.maximum(first, second), np.minimum(first, second))
        while not np.array_equal(above := root[root], root):
            root = above
        first, second = root[first], root[second]
        apart = first != second
        first, second = first[apart], second[apart]
    return root


def ambiguous(size: int, keys: Numbers, values: Numbers) -> Mask:
    """Which of ``size`` keys occur with more than one value."""
    one, found = np.zeros(size, np.int32), np.zeros(size, np.bool_)
    one[keys] = values
    found[keys[one[keys] != values]] = True
    return found


def contested(size: int, verbs: Mapping[str, Any], cap: int) -> Mask:
    """Which of ``size`` ids are in a group whose outcome may hang on the order of its verbs.

    In any other group no refusal can matter, so that all of it is one user. There no union passes the cap; an
    alias used again has been joined to its only user already; and an anonymous id that already belongs to an
    identified one belongs to the only one there is, which the verb would join it to.
    """
    group = components(size, verbs["first"], verbs["second"])
    first, second, identifies, aliases = (verbs[name] for name in ("first", "second", "identifies", "aliases"))
    disputed = np.bincount(group, minlength=size) > cap
    disputed |= ambiguous(size, group[first[identifies]], first[identifies])
    disputed[group[ambiguous(size, second[aliases], first[aliases])]] = True
    return disputed[group]


def refresh_evidence(con: duckdb.DuckDBPyConnection) -> None:
    """Fold the evidence in the rows just ``staged`` into what earlier loads left; only what changes is written."""
    con.execute(f"create temp table rewritten as {sql('rewritten')}")
    for table, keys in KEYS.items():
        if con.execute(f"select 1 from generation.{table} limit 1").fetchall():
            _merge(con, table, keys)
        else:
            con.execute(f"insert into generation.{table} by name {sql(table)}")
    con.execute("drop table rewritten")


def _merge(con: duckdb.DuckDBPyConnection, table: str, keys: str) -> None:
    con.execute(f"create temp table fresh as {sql(table)}")
    con.execute(f"""merge into generation.{table} o using fresh n using ({keys})
        when matched and {SUPERSEDES[table]} then update when not matched then insert by name""")
    con.execute("drop table fresh")


def derive_identities(con: duckdb.DuckDBPyConnection, project: Mapping[str, Any], cap: int = CAP) -> None:
    """Fill ``generation.identities`` of one project from its evidence, by its ``id_merge``.

    ``cap``: how many ids original ID merge lets a user have.
    """
    values = {"project_id": project["project_id"]}
    con.execute("delete from generation.identities where project_id = $project_id", values)
    if project["id_merge"] == "simplified":
        con.execute(f"insert into generation.identities {sql('identities_simplified')}", values)
    else:
        _derive_original(con, values, cap)


def _derive_original(con: duckdb.DuckDBPyConnection, values: dict[str, Any], cap: int) -> None:
    """Number the ids, take what the verbs join and what Mixpanel shows, name every group by its best id."""
    con.execute(f"create temp table ids as {sql('identities_original_ids')}", values | {"anonymous": ANONYMOUS.pattern})
    ids = _columns(con, "select precedence, ingest_ms, time_s from ids order by number")
    size = len(ids["precedence"])
    joined = _accepted(con, values, size, cap)
    shown = _columns(con, sql("identities_original_shown"), values)
    identified = joined["first"][joined["identifies"]]
    ids["precedence"][identified] = np.minimum(ids["precedence"][identified], IDENTIFIED)
    by_place = np.lexsort((-ids["time_s"], -ids["ingest_ms"], ids["precedence"]))  # ties stay by code point
    place: Numbers = np.empty(size, np.int32)
    place[by_place] = np.arange(size, dtype=np.int32)
    best = components(size, *(place[np.concatenate([joined[end], shown[end]])] for end in ("first", "second")))
    _write_identities(con, values, by_place[best[place]])
    con.execute("drop table ids")


def _accepted(con: duckdb.DuckDBPyConnection, values: dict[str, Any], size: int, cap: int) -> dict[str, Any]:
    """The verbs that join their ids (``first, second, identifies``), the contested ones judged one by one."""
    verbs = _columns(con, sql("identities_original_verbs"), values)
    doubtful = contested(size, verbs, cap)[verbs["first"]]
    offer(con, "contested", pa.table({name: verbs[name][doubtful] for name in ("row", "first", "second")}))
    judged = dict.fromkeys(con.execute(sql("identities_original_contested")).fetchall())  # a repeat is void
    con.execute("drop table contested")
    clusters = Clusters(cap, is_anonymous=lambda _: True)  # other forms are left out already
    accepted = [(first, second, verb == "$identify") for verb, first, second in judged
                if clusters.apply(verb, first, second) is None]
    columns = zip(*accepted, strict=True) if accepted else [()] * 3
    return {name: np.concatenate([verbs[name][~doubtful], np.array(column, verbs[name].dtype)])
            for name, column in zip(("first", "second", "identifies"), columns, strict=True)}


def _write_identities(con: duckdb.DuckDBPyConnection, values: dict[str, Any],
                      canonical: npt.NDArray[np.signedinteger]) -> None:
    """Write who is not their own canonical id; ``canonical``: the number of each numbered id's canonical id."""
    moved = np.flatnonzero(canonical != np.arange(len(canonical)))
    offer(con, "moved", pa.table({"number": moved, "canonical": canonical[moved]}))
    con.execute("""insert into generation.identities select $project_id, i.id, c.id from moved
        join ids i on i.number = moved.number join ids c on c.number = moved.canonical""", values)
    con.execute("drop table moved")


def _columns(con: duckdb.DuckDBPyConnection, query: str, values: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return dict(con.execute(query, values or {}).fetchnumpy())
