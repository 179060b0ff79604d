"""E-mail addresses: one spelling, Mailchimp's hash, a mask for people's eyes, and what is valid."""

from __future__ import annotations

import hashlib
import re

import pandas as pd
from email_validator import EmailNotValidError, validate_email

ADDRESS = re.compile(r"[^\s@<>\"'(),;:]+@[^\s@<>\"'(),;:]+\.[^\s@<>\"'(),;:.]+")


def normalise(address: str) -> str:
    """The spelling every comparison uses: trimmed and lower-cased, no dot or plus folding."""
    return address.strip().lower()


def member_hash(address: str) -> str:
    """Mailchimp's ``subscriber_hash``: the MD5 of the lower-cased address, in hex.

    Source: https://mailchimp.com/developer/marketing/docs/methods-parameters/
    """
    return hashlib.md5(normalise(address).encode(), usedforsecurity=False).hexdigest()


def mask(address: str) -> str:
    """The address as logs, pages and notebooks may show it: ``m•••@h•••.example``."""
    local, at, domain = address.strip().rpartition("@")
    if not at:
        return "•••"
    return f"{local[:1]}•••@{domain[:1]}•••.{domain.rpartition('.')[2]}"


def scrub(text: str) -> str:
    """Any text from outside with every address in it masked, fit for an error or a log."""
    return ADDRESS.sub(lambda found: mask(found.group()), text)


def masked(people: pd.DataFrame) -> pd.DataFrame:
    """A table of people as it may be shown: ``address`` becomes a masked ``email``, ids that are addresses too."""
    shown = people.rename(columns={"address": "email"})
    shown["email"] = shown["email"].map(mask, na_action="ignore").astype("str")
    for column in shown.columns.intersection(["distinct_id", "canonical_id"]):
        shown[column] = shown[column].map(scrub, na_action="ignore").astype("str")
    return shown


def is_valid(address: str) -> bool:
    """Whether the address is well-formed; its domain is not looked up."""
    try:
        validate_email(address, check_deliverability=False)
    except EmailNotValidError:
        return False
    return True
