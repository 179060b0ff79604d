"""Connecting a Mailchimp account: whose key it is, whether it may write, and a client for it.

The account is remembered in the ledger; its key never is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cohortsync import config, ledger, mailchimp
from cohortsync.config import Settings
from cohortsync.errors import ApiFinal, BadInput, ConfigurationError
from cohortsync.mailchimp import Client

NEW_CONTACTS = ("subscribed", "pending", "transactional")


def connect(home: Path, key: str, new_contacts: str, local: str | None = None, keep_key: bool = True) -> dict[str, Any]:
    """Check a key, its role and its audiences, and remember the account (never the key) in the ledger.

    ``new_contacts``: the status of people who are new to the audience. Answers the connection with
    ``audiences`` (``audience_id, name``). Raises ConfigurationError when the key may not write.
    """
    if new_contacts not in NEW_CONTACTS:
        raise BadInput(f"New contacts cannot be {new_contacts!r}; choose one of {', '.join(NEW_CONTACTS)}.")
    client = mailchimp.open_client(key.strip(), local, config.impatient())
    account = mailchimp.fetch_account(client)
    if account["role"] not in mailchimp.WRITING_ROLES:
        raise ConfigurationError(f"The key belongs to a {account['role'] or 'user without a role'} of "
                                 f"{account['account_name']}; a sync needs {', '.join(mailchimp.WRITING_ROLES)}. "
                                 "Ask one of these for a key.")
    audiences = mailchimp.fetch_audiences(client)
    if not audiences:
        raise ConfigurationError(f"{account['account_name']} has no audience yet. Make one in Mailchimp first.")
    if keep_key:
        config.save_key(home, _host(client.url), key.strip())
    ledger.record_connection(home, {
        "kind": "mailchimp", **account, "host": _host(client.url), "base_url": client.url,
        "rehearsal": int(config.is_rehearsal(client.url)), "new_contacts": new_contacts,
        "status": "Connected", "reason": ""})
    return {**required_connection(home), "audiences": audiences}


def required_connection(home: Path) -> dict[str, Any]:
    """The connected Mailchimp account. Raises ConfigurationError before there is one."""
    if connection := ledger.connection(home):
        return connection
    raise ConfigurationError("Mailchimp is not connected. Connect it first: cohortsync connect mailchimp "
                             "--new-contacts subscribed|pending|transactional")


def check_connection(home: Path) -> dict[str, Any]:
    """Ask the connected account whether it still answers; the connection with its ``audiences``.

    A no (revoked key, lost role) is recorded as Needs attention and raised.
    """
    with connected(home, config.impatient()) as (connection, client):
        return {**connection, "audiences": mailchimp.fetch_audiences(client)}


def merge_fields(home: Path, audience_id: str) -> dict[str, str]:
    """The audience's merge fields: tag → type."""
    with connected(home, config.impatient()) as (_, client):
        return {row["tag"]: row["type"] for row in mailchimp.fetch_merge_fields(client, audience_id)}


def chosen_audience(home: Path, audience_id: str = "") -> str:
    """The audience asked for, else the account's only one; raises BadInput with the choices."""
    audiences = {found["audience_id"]: found["name"] for found in check_connection(home)["audiences"]}
    chosen = audience_id or (next(iter(audiences)) if len(audiences) == 1 else "")
    if chosen in audiences:
        return chosen
    choices = ", ".join(f"{found} ({name})" for found, name in audiences.items())
    raise BadInput((f"The account has no audience {audience_id!r}. " if audience_id else "No audience is named. ")
                   + f"Choose one by its id: {choices}.")


def _host(url: str) -> str:
    return url.split("/")[2]


@contextmanager
def connected(home: Path, settings: Settings | None = None,
              app: str = "cohortsync") -> Iterator[tuple[dict[str, Any], Client]]:
    """The connection and a client for it; what the other side refuses for good is recorded on it."""
    connection = required_connection(home)
    key = config.load_key(home, connection["host"])
    if not key:
        raise ConfigurationError(f"The key for {connection['account_name']} is not kept here. Set "
                                 f"{config.KEY_VARIABLE}, or connect again: cohortsync connect mailchimp")
    local = f"http://{connection['host']}" if connection["rehearsal"] else None
    client = mailchimp.open_client(key, local, settings, app)
    if _host(client.url) != connection["host"]:
        raise ConfigurationError(f"The key at hand belongs to {_host(client.url)}, the connection to "
                                 f"{connection['host']}. Connect again: cohortsync connect mailchimp")
    try:
        yield connection, client
    except ApiFinal as error:
        if error.status in (401, 403):
            ledger.record_connection_status(home, "Needs attention", str(error))
        raise
    else:
        ledger.record_connection_status(home, "Connected")
