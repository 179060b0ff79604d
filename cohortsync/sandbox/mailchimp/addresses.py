"""E-mail addresses: how Mailchimp hashes them, and which ones it refuses."""

from __future__ import annotations

import hashlib
import re

FAKE_DOMAINS = (".example.com", ".example.net", ".example.org")
USERNAME = re.compile(r"(?!\.)(?!.*\.\.)[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}(?<!\.)")
DOMAIN = re.compile(r"(?=.{4,253}$)([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z][A-Za-z0-9-]*[A-Za-z0-9]")


def subscriber_hash(address: str) -> str:
    """The MD5 hex digest of the lower-cased address, the API's key of a member."""
    return hashlib.md5(address.strip().lower().encode(), usedforsecurity=False).hexdigest()


def address_fault(address: str) -> str | None:
    """What the API says against an address, or None when it takes it."""
    username, _, domain = address.partition("@")
    if address.count("@") != 1:
        return "An email address must contain a single @."
    if not USERNAME.fullmatch(username):
        return f"The username portion of the email address is invalid (the portion before the @: {username})"
    if not DOMAIN.fullmatch(domain):
        return f"The domain portion of the email address is invalid (the portion after the @: {domain})"
    if looks_fake(username.lower(), domain.lower()):
        return f"{address} looks fake or invalid, please enter a real email address."
    return None


def looks_fake(username: str, domain: str) -> bool:
    """Documentation domains, and what people type to get past a form."""
    return f".{domain}".endswith(FAKE_DOMAINS) or (username == "test" and domain.startswith("test."))


def masked(address: str) -> str:
    """An address as the page may show it: `a***@***.example`."""
    username, _, domain = address.partition("@")
    return f"{username[:1]}***@***.{domain.rpartition('.')[2]}"
