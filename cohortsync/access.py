"""A project's connection to Mixpanel: who asks there, with which role, and whether that role may export.

As in Mixpanel's own integration, an export to Mailchimp is for a project's owners and admins. What cannot be looked
up is asked for, never guessed. Source: https://docs.mixpanel.com/docs/cohort-sync/integrations/mailchimp
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cohortsync import config, ledger, mixpanel, projects
from cohortsync.client import Client, fetch_cohorts, fetch_own_role, fetch_project, open_client, probe_region
from cohortsync.config import Settings
from cohortsync.errors import ApiFinal, BadInput, ConfigurationError
from cohortsync.mixpanel import EXPORTING_ROLES, Account

CONNECTED, PAUSED, ATTENTION = "Connected", "Paused", "Needs attention"
REGION_OF = {"mixpanel.com": "us", "eu.mixpanel.com": "eu", "in.mixpanel.com": "in"}
WHERE_ROLES_ARE = "Mixpanel: Project Settings, Service Accounts"


class NotTold(BadInput):
    """Mixpanel does not tell a ``setting`` (timezone, id_merge) of the project; its ``question`` is for a person."""

    def __init__(self, message: str, setting: str, question: str) -> None:
        super().__init__(message)
        self.setting, self.question = setting, question


@dataclass(frozen=True)
class Found:
    """What was looked up of a project; blank where Mixpanel does not tell this account."""

    project_id: str
    name: str
    role: str
    region: str
    timezone: str


def connect(home: Path, username: str, secret: str, project_id: str, *, region: str | None = None,
            base_url: str | None = None, timezone: str | None = None, id_merge: str | None = None,
            keep_secret: bool = True, assume_admin: bool = False) -> dict[str, Any]:
    """Check a service account, set its project up here, and remember the connection; answers it.

    Answers ``account_name, role, host, region, status, reason, may_export, timezone, notes, …``. ``region`` (us, eu,
    in) and ``timezone`` are looked up, ``id_merge`` must be given the first time; ``assume_admin``: whoever connects
    vouches for being one, where the role cannot be looked up. Raises NotTold (BadInput) for what can neither be
    looked up nor was given, ApiFinal when Mixpanel refuses the account.
    """
    account = Account(username.strip(), secret.strip())
    found = look_up(account, project_id.strip(), region, base_url)
    before = {row["project_id"]: row for row in ledger.projects(home)}
    known = before.get(found.project_id, {})
    timezone = settled_timezone(found, timezone, known.get("timezone"))
    projects.set_up(home, timezone, settled_id_merge(id_merge, known.get("id_merge")), found.project_id)
    if assume_admin:
        vouch(home, found.project_id)
    return record(home, account, found, base_url, keep_secret) | {
        "timezone": timezone, "notes": notes(found.project_id, timezone, before)}


def look_up(account: Account, project_id: str, region: str | None = None, local: str | None = None) -> Found:
    """Ask Mixpanel who the account is in the project; the region is found by trying where none is given.

    Raises ApiFinal when the account is refused, BadInput for a project id that is none or an account left blank.
    """
    project_id = mixpanel.project_number(project_id)
    if not (account.username and account.secret):
        raise BadInput(f"A service account is needed, its username and its secret. Make one in {WHERE_ROLES_ARE}.")
    region = region or ("us" if local else probe_region(account, project_id, config.impatient()))
    return _look_up(open_client(account, project_id, region, local, config.impatient()), account.username, region)


def _look_up(client: Client, username: str, region: str) -> Found:
    seen = fetch_project(client)
    role = seen.role if seen and seen.role else fetch_own_role(client, username)
    if not role:
        fetch_cohorts(client)  # raises ApiFinal where the project is none of the account's
    if seen and seen.region and seen.region != region and not config.is_rehearsal(client.hosts.query):
        raise BadInput(f"Project {client.project_id} is kept in the region {seen.region}, not {region}. "
                       f"Connect it with --region {seen.region}.")
    return Found(client.project_id, seen.name if seen else "", role, region, seen.timezone if seen else "")


def settled_timezone(found: Found, given: str | None, known: str | None) -> str:
    """The project's time zone: Mixpanel's, else the one given, else the one set up here before.

    Raises BadInput when what is given is not what Mixpanel says, NotTold when nobody says anything.
    """
    if given and found.timezone and given != found.timezone:
        raise BadInput(f"Mixpanel says that the project's time zone is {found.timezone}, not {given}. Leave "
                       "--timezone out, or change it in Mixpanel: Project Settings.")
    if timezone := found.timezone or given or known:
        return timezone
    raise NotTold("Mixpanel does not tell this account the project's time zone. Give it with --timezone (Mixpanel: "
                  "Project Settings, Overview).", "timezone", "Time zone, such as Europe/Berlin (Mixpanel: Project "
                  "Settings, Overview)")


def settled_id_merge(given: str | None, known: str | None) -> str:
    """The ID merge given, else the one set up here before; no API of Mixpanel's tells it. Raises NotTold."""
    if id_merge := given or known:
        return id_merge
    raise NotTold("Mixpanel tells nobody by which ID merge a project works. Give it with --id-merge simplified or "
                  "--id-merge original (Mixpanel: Project Settings, Identity Merge).", "id_merge",
                  "ID merge, simplified or original (Mixpanel: Project Settings, Identity Merge)")


def notes(project_id: str, timezone: str, before: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What connecting means for a workspace that held the projects ``before`` (settings by id), in words."""
    said = []
    if (known := before.get(project_id)) and known["timezone"] != timezone:
        said.append(f"The time zone of project {project_id} was {known['timezone']} here; everything was reckoned anew "
                    f"in {timezone}.")
    if others := sorted(set(before) - {project_id}):
        said.append(f"The workspace also holds project {', '.join(others)}, which stays as it is. Say which one you "
                    "mean with --project ID; in the app, choose it at the side.")
    return said


def record(home: Path, account: Account, found: Found, local: str | None, keep_secret: bool) -> dict[str, Any]:
    """Remember the connection, its secret in the key store alone; answers the connection."""
    url = mixpanel.hosts(found.region, local).query
    host = urlsplit(url).netloc
    if keep_secret:
        config.save_key(home, f"{account.username}@{host}", account.secret)
    status, reason = _standing(home, found.project_id, found.role)
    ledger.record_connection(home, {
        "kind": "mixpanel", "project_id": found.project_id, "account_id": account.username,
        "account_name": found.name or f"project {found.project_id}", "role": found.role, "host": host,
        "base_url": url, "rehearsal": int(config.is_rehearsal(url)), "new_contacts": "", "status": status,
        "reason": reason})
    return shown(required_connection(home, found.project_id))


def shown(connection: Mapping[str, Any]) -> dict[str, Any]:
    """A connection with its ``region``, blank in a rehearsal, and whether its project ``may_export``."""
    return {**connection, "region": REGION_OF.get(connection["host"], ""),
            "may_export": connection["status"] == CONNECTED}


def _standing(home: Path, project_id: str, role: str) -> tuple[str, str]:
    """Status and reason of a connection, by the role that was found."""
    if role in EXPORTING_ROLES or (not role and assumed_at(home, project_id)):
        return CONNECTED, ""
    if role:
        return PAUSED, (f"Exports wait: the service account's role was found to be {role} on "
                        f"{datetime.now(UTC):%Y-%m-%d %H:%M UTC}, and an export needs an admin or owner. Change it in "
                        f"{WHERE_ROLES_ARE}.")
    return ATTENTION, ("Mixpanel does not tell this account its role, and an export needs an admin or owner. If it is "
                       "one, say so once with --assume-admin, or on the app's Connect page.")


def required_connection(home: Path, project_id: str) -> dict[str, Any]:
    """The project's connection to Mixpanel. Raises ConfigurationError before there is one."""
    if connection := ledger.connection(home, "mixpanel", project_id):
        return connection
    raise ConfigurationError(f"Project {project_id} is not connected to Mixpanel. Connect it first: cohortsync connect "
                             "mixpanel --project-id N")


def client(home: Path, project_id: str, settings: Settings | None = None) -> Client:
    """A client for a connected project. Raises ConfigurationError when it is not connected or its secret not kept."""
    connection = required_connection(home, project_id)
    host, username = connection["host"], connection["account_id"]
    secret = config.load_key(home, f"{username}@{host}", config.SECRET_VARIABLE)
    if not secret:
        raise ConfigurationError(f"The secret of {username} is not kept here. Set {config.SECRET_VARIABLE}, or connect "
                                 "again: cohortsync connect mixpanel")
    local = f"http://{host}" if connection["rehearsal"] else None
    return open_client(Account(username, secret), project_id, REGION_OF.get(host, "us"), local, settings)


def check(home: Path, project_id: str) -> dict[str, Any]:
    """Look the role up again and note how the connection stands; answers the connection.

    An account that is refused stands as Needs attention, one whose role was taken away as Paused. Raises
    ApiTransient when Mixpanel cannot be reached; what stood before stands then.
    """
    connection = required_connection(home, project_id)
    try:
        found = _look_up(client(home, project_id, config.impatient()), connection["account_id"],
                         REGION_OF.get(connection["host"], "us"))
    except ApiFinal as error:
        ledger.record_connection_status(home, ATTENTION, str(error), "mixpanel", project_id)
    else:
        status, reason = _standing(home, project_id, found.role)
        if (status, found.role) == (connection["status"], connection["role"]):
            reason = connection["reason"]  # since when it has been so
        name = found.name or connection["account_name"]
        ledger.record_connection(home, {**connection, "account_name": name, "role": found.role, "status": status,
                                        "reason": reason})
    return required_connection(home, project_id)


def require_exporter(home: Path, project_id: str, rehearsal: bool) -> None:
    """Raise ConfigurationError unless an owner or admin stands behind an export of the project.

    The role is looked up again when that was too long ago, or did not allow it. Of a project fed by files someone
    must have vouched, but for a rehearsal, where nobody is mailed.
    """
    connection = ledger.connection(home, "mixpanel", project_id)
    if connection is None:
        if not rehearsal and needs_vouching(home, project_id):
            raise ConfigurationError("An export to Mailchimp needs an admin or owner of the Mixpanel project, and "
                                     "files do not tell who you are. If you are one, say so once with --assume-admin, "
                                     "or on the app's Connect page.")
        return
    age = datetime.now(UTC) - datetime.fromisoformat(connection["checked_at"])
    if connection["status"] != CONNECTED or age.total_seconds() > Settings().role_check_seconds:
        connection = check(home, project_id)
    if connection["status"] != CONNECTED:
        raise ConfigurationError(f"{connection['account_name']} cannot be exported: {connection['status']}. "
                                 f"{connection['reason']}")


def needs_vouching(home: Path, project_id: str) -> bool:
    """Whether nobody knows yet if an admin stands behind the project: its role was not looked up, nor vouched for."""
    connection = ledger.connection(home, "mixpanel", project_id)
    return not (connection and connection["role"]) and not assumed_at(home, project_id)


def vouch(home: Path, project_id: str) -> None:
    """Record that whoever runs this vouched for being an admin or owner of the project."""
    ledger.record_assumed_admin(home, project_id)
    connection = ledger.connection(home, "mixpanel", project_id)
    if connection and not connection["role"]:
        ledger.record_connection_status(home, CONNECTED, "", "mixpanel", project_id)


def assumed_at(home: Path, project_id: str) -> str | None:
    """When someone vouched, ISO; None when nobody did."""
    found = {row["project_id"]: row["admin_assumed_at"] for row in ledger.projects(home)}
    return found.get(project_id)
