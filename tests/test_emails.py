"""Addresses: one spelling, one hash, and never whole where people look."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cohortsync import emails


def test_the_hash_is_mailchimps_of_the_lower_cased_address() -> None:
    assert emails.member_hash(" Ann@Harbor.example ") == "43d8b9f07ef9f5e73af21934753216b0"


@pytest.mark.parametrize(("address", "shown"), [
    ("ann.lee@harbor.example", "a•••@h•••.example"), ("a@b", "a•••@b•••.b"), ("not an address", "•••"), ("", "•••")])
def test_a_mask_keeps_only_first_letters_and_the_top_level_domain(address: str, shown: str) -> None:
    assert emails.mask(address) == shown


def test_every_address_in_a_text_is_masked() -> None:
    text = "Both <ann.lee@harbor.example> and 'bob@quill.example', said x."
    assert emails.scrub(text) == "Both <a•••@h•••.example> and 'b•••@q•••.example', said x."


@pytest.mark.parametrize("address", ["ann@harbor.example", "o'neil+x@a-b.example", "josé@harbor.example"])
def test_well_formed_addresses_are_valid(address: str) -> None:
    assert emails.is_valid(address)


@pytest.mark.parametrize("address", ["", "ann", "ann@", "@harbor.example", "ann@@harbor.example", "a..b@harbor.example",
                                     "ann@harbor", "ann lee@harbor.example", "ann@harbor.example, bob@harbor.example"])
def test_malformed_addresses_are_not(address: str) -> None:
    assert not emails.is_valid(address)


@given(st.text(), st.text())
def test_a_table_of_people_shows_no_malformed_address_either(local: str, domain: str) -> None:
    people = pd.DataFrame({"distinct_id": ["u1"], "address": [f"{local}@@{domain}"]})
    assert emails.masked(people)["email"][0] == emails.mask(f"{local}@@{domain}")
