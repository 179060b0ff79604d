"""The rules of original ID merge, verb by verb, and laws that every merge keeps."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Set

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cohortsync.identity import CAP, Clusters, is_anonymous_form, label

ANON = [f"00000000-0000-4000-8000-{n:012d}" for n in range(6)]
USERS = [f"user-{n}" for n in range(6)]


def merge_original(verbs: Iterable[tuple[str, str, str]], rekeys: Iterable[tuple[str, str, int, int]],
                   reachable: Set[str], cap: int = CAP,
                   mappings: Iterable[tuple[str, str]] = ()) -> dict[str, str]:
    """Id → canonical id, for every id that is not its own canonical id: one verb after the other, slow and plain.

    ``verbs``: (verb, first id, second id) in ingest order; ``rekeys``: (id now, id as sent, ingest ms, time s);
    ``reachable``: ids whose profile has an e-mail; ``mappings``: (id, the id Mixpanel resolves it to).
    """
    clusters = Clusters(cap)
    for verb in verbs:
        clusters.apply(*verb)
    targets: dict[str, tuple[int, int]] = {}
    for target, before, ingest_ms, time_s in rekeys:
        clusters.union(target, before)
        targets[target] = max(targets.get(target, (ingest_ms, time_s)), (ingest_ms, time_s))
    for one, resolved in mappings:
        clusters.union(one, resolved)
    heads = {resolved for _, resolved in mappings}
    canonical: dict[str, str] = {}
    for ids in clusters.members.values():
        name = min(heads & set(ids), default=None) or label(ids, targets, reachable, clusters.identified)
        canonical.update((i, name) for i in ids if i != name)
    return canonical


def test_identify_joins_a_visitor_to_a_user() -> None:
    assert merge_original([("$identify", "ann", ANON[0])], [], set()) == {ANON[0]: "ann"}


def test_a_visitor_who_belongs_to_a_user_is_not_given_to_another() -> None:
    clusters = Clusters()
    assert clusters.apply("$identify", "ann", ANON[0]) is None
    assert clusters.apply("$identify", "bob", ANON[0]) == "errAnonDistinctIdAssignedAlready"
    assert clusters.of("bob") == ["bob"]


def test_a_user_may_have_many_visitors() -> None:
    clusters = Clusters()
    assert [clusters.apply("$identify", "ann", anon) for anon in ANON] == [None] * 6
    assert set(clusters.of("ann")) == {"ann", *ANON}


def test_only_an_anonymous_id_can_be_identified() -> None:
    assert Clusters().apply("$identify", "ann", "bob") == "errAnonDistinctIdNonGUIDForm"
    assert Clusters().apply("$identify", "ann", "ann") == "errSameIDs"


def test_an_alias_is_used_once() -> None:
    clusters = Clusters()
    assert clusters.apply("$create_alias", "ann", "a@x") is None
    assert clusters.apply("$create_alias", "bob", "a@x") == "errAliasAlreadyExists"


def test_a_user_never_grows_beyond_the_cap() -> None:
    clusters = Clusters(cap=3)
    assert [clusters.apply("$merge", "ann", f"id{n}") for n in range(3)] == [None, None, "errManyIDs"]
    assert clusters.of("id2") == ["id2"]


@pytest.mark.parametrize(("cap", "outside"), [(499, 2), (500, 1), (501, 0)])
def test_of_five_hundred_and_one_ids_those_beyond_the_cap_stay_outside(cap: int, outside: int) -> None:
    clusters = Clusters(cap)
    answers = [clusters.apply("$merge", "till", f"id{n}") for n in range(500)]
    assert answers == [None] * (500 - outside) + ["errManyIDs"] * outside


def test_an_id_of_a_full_user_can_be_merged_with_its_own_again() -> None:
    clusters = Clusters(cap=2)
    assert [clusters.apply("$merge", "ann", "zoe"), clusters.apply("$merge", "zoe", "ann")] == [None, None]


def test_refused_verbs_use_nothing_up() -> None:
    clusters = Clusters()
    assert clusters.apply("$identify", ANON[0], ANON[0]) == "errSameIDs"
    assert clusters.apply("$create_alias", "ann", "ann") == "errSameIDs"
    assert clusters.apply("$identify", "ann", ANON[0]) is None
    assert clusters.apply("$create_alias", "bob", "ann") is None


def test_a_visitor_merged_with_a_user_belongs_to_nobody_until_somebody_is_identified() -> None:
    clusters = Clusters()
    assert clusters.apply("$merge", "ann", ANON[0]) is None
    assert clusters.apply("$identify", "bob", ANON[0]) is None
    assert set(clusters.of("ann")) == {"ann", "bob", ANON[0]}


def test_what_an_export_shows_rewritten_is_beyond_question_and_names_the_user() -> None:
    assert merge_original([], [("chosen", "sent", 5, 1), ("older", "sent", 4, 1)], set()) == {
        "sent": "chosen", "older": "chosen"}


def test_of_two_names_shown_at_once_the_smaller_names_the_user() -> None:
    assert merge_original([], [("zoe", "ann", 5, 1), ("ann", "zoe", 5, 1)], set()) == {"zoe": "ann"}


def test_a_user_is_named_by_the_id_that_has_an_address() -> None:
    verbs = [("$merge", "ann", "zoe"), ("$identify", "ann", ANON[0])]
    assert merge_original(verbs, [], {"zoe"}) == {"ann": "zoe", ANON[0]: "zoe"}
    assert merge_original(verbs, [], set()) == {"zoe": "ann", ANON[0]: "ann"}


def test_mixpanels_own_anonymous_ids_are_known_by_their_form() -> None:
    assert is_anonymous_form(str(uuid.uuid4()).upper())
    assert is_anonymous_form("$device:anything\nat all")
    assert not is_anonymous_form("$DEVICE:anything")
    assert is_anonymous_form("17f0d5e3a5b1c2-0a1b2c3d4e5f6-1f3b6b57-1fa400-17f0d5e3a5c3d4")
    assert not is_anonymous_form(str(uuid.uuid1()))
    assert not is_anonymous_form("ann@harbor.example")


verbs = st.lists(st.tuples(st.sampled_from(["$identify", "$create_alias", "$merge"]),
                           st.sampled_from(USERS + ANON), st.sampled_from(USERS + ANON)), max_size=30)
rekeys = st.lists(st.tuples(st.sampled_from(USERS + ANON), st.sampled_from(USERS + ANON),
                            st.integers(0, 9), st.integers(0, 9)), max_size=5)


@given(verbs, rekeys, st.sets(st.sampled_from(USERS)))
def test_resolving_a_resolved_id_changes_nothing(verbs: list, rekeys: list, reachable: set) -> None:
    canonical = merge_original(verbs, rekeys, reachable)
    assert all(name not in canonical for name in canonical.values())


@given(verbs, st.integers(1, 5))
def test_no_run_of_verbs_makes_a_user_larger_than_the_cap(verbs: list, cap: int) -> None:
    clusters = Clusters(cap)
    for verb in verbs:
        clusters.apply(*verb)
    assert all(len(ids) <= max(cap, 1) for ids in clusters.members.values())


@given(verbs)
def test_repeating_a_verb_at_once_changes_nothing(verbs: list) -> None:
    twice = [again for verb in verbs for again in (verb, verb)]
    assert merge_original(verbs, [], set()) == merge_original(twice, [], set())


@given(verbs)
def test_repeating_a_verb_at_any_later_time_changes_nothing(verbs: list) -> None:
    assert merge_original(verbs, [], set(), cap=3) == merge_original([*verbs, *verbs], [], set(), cap=3)
