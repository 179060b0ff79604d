"""Settings, where things live, and where keys are kept.

Every setting is an environment variable ``COHORTSYNC_<NAME>``. Keys are kept in the system
keyring when there is one (extra ``keyring``), else in a file only its owner can read; they are
bound to the host they were entered for.
"""

from __future__ import annotations

import json
import os
import re
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import platformdirs
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from cohortsync.errors import ConfigurationError

KEY_VARIABLE = "MAILCHIMP_API_KEY"
USERNAME_VARIABLE, SECRET_VARIABLE = "MIXPANEL_USERNAME", "MIXPANEL_SECRET"
PROGRESS_VARIABLE = "COHORTSYNC_PROGRESS_FILE"
MAILCHIMP_KEY = re.compile(r"\b[0-9a-f]{32}-[a-z]+[0-9]+\b")
NOTIFY_VARIABLES = {"webhook": "COHORTSYNC_NOTIFY_WEBHOOK", "email": "COHORTSYNC_NOTIFY_EMAIL",
                    "smtp": "COHORTSYNC_NOTIFY_SMTP", "smtp password": "COHORTSYNC_NOTIFY_SMTP_PASSWORD"}
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Settings(BaseSettings):
    """What a user may turn; the defaults suit a real account."""

    model_config = SettingsConfigDict(env_prefix="COHORTSYNC_")

    home: Path = Field(default_factory=lambda: Path(platformdirs.user_data_dir("cohortsync")))
    admins: str = Field("", description="admins of the app: SHA-256 of addresses, and claim=value, by commas")
    project: str = Field("", description="which of a workspace's projects; empty: its only one")
    segment_prefix: str = Field("mixpanel_", description="a cohort's segment is named prefix + cohort")
    timeout_seconds: float = Field(150, description="longer than Mailchimp's own 120 s")
    attempts: int = Field(6, description="tries of one request before a transient error is given up")
    backoff_seconds: float = Field(2, description="first wait between tries; doubles, with jitter")
    backoff_max_seconds: float = Field(90, description="longest wait between tries")
    settle_seconds: float = Field(120, description="wait before reading back what was never answered")
    reject_days: int = Field(30, description="how long a person's refusal by Mailchimp is remembered")
    connections: int = Field(4, ge=1, le=10, description="requests to Mailchimp at once; the account's limit is 10")
    guard_share: float = Field(0.2, description="the share of a segment from which a plan must be confirmed")
    guard_people: int = Field(500, description="the number of people below which it need not")
    mixpanel_timeout_seconds: float = Field(500, description="longer than Mixpanel's own 488 s for a query")
    mixpanel_queries_per_hour: int = 60
    mixpanel_exports_per_hour: int = 60
    mixpanel_exports_per_second: int = 3
    mixpanel_concurrent: int = Field(5, description="queries at once, of all processes of this machine")
    mixpanel_pages_count: bool = Field(False, description="whether pages after the first are queries of the hour")
    mixpanel_wait_seconds: float = Field(4 * 3600, description="how long to wait for the hour's budget")
    pull_span_days: int = Field(31, description="the most days that one export is asked for")
    pull_late_days: int = Field(5, description="how far back events may still have come in since the last pull")
    overdue_seconds: float = Field(1800, description="how late a sync may be before `status` says so")
    webhook_max_mb: int = Field(32, description="the largest message that is taken from Mixpanel")
    webhook_begin_empty: bool = Field(False, description="whether a cohort may begin with who was added to it")
    role_check_seconds: float = Field(3600, description="how old a look at the role may be before an export")
    interval_seconds: float = Field(7200, description="how often a dynamic sync is due")
    refresh_limit_hours: float = Field(24, description="how old a cohort may be when a dynamic sync sends it")
    retention_days: float = Field(90, description="how long plans and outcomes are kept")
    dynamic_syncs: int = Field(60, description="how many dynamic syncs a project may have")


def impatient() -> Settings:
    """For questions that a person waits for: one more try, not minutes of them."""
    return Settings().model_copy(update={"attempts": 2, "mixpanel_timeout_seconds": 130})


def is_local(url: str) -> bool:
    """Whether this is plain HTTP to this very machine, and nothing more than a host and a port."""
    try:
        parts = urlsplit(url)
        bare = parts.port != 0 and not parts.username and parts.path in ("", "/") and not parts.query
    except ValueError:  # a port or an IPv6 address that is none
        return False
    return bare and parts.scheme == "http" and parts.hostname in LOOPBACK


def is_rehearsal(url: str) -> bool:
    """Whether an address is of this very machine, where nobody real is reached."""
    return urlsplit(url).hostname in LOOPBACK


def state_folder(name: str) -> Path:
    """A private folder of this user and machine, whatever the workspace."""
    return private_folder(Path(platformdirs.user_state_dir("cohortsync")) / name)


def open_home(home: Path | str | None = None) -> Path:
    """The workspace's folder, made if need be and readable by its owner only."""
    path = Path(home or Settings().home).expanduser()
    if "?" in str(path):
        raise ConfigurationError(f"{path} cannot be the workspace: DuckDB opens no path with a question mark in it. "
                                 "Name another folder with --home DIR.")
    try:
        _make_own(private_folder(path))
        os.scandir(path).close()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be the workspace ({error.strerror}). "
                                 "Name a folder of yours with --home DIR.") from None
    return path.resolve()


def _make_own(path: Path) -> None:
    """Close a workspace's folder to others; one that holds other things, or is not ours alone, is left as it is."""
    mode, workspace = path.stat().st_mode, (path / "state.sqlite").exists() or not any(path.iterdir())
    if mode & 0o077 and workspace and not mode & stat.S_ISVTX:
        with suppress(OSError):  # somebody else's, or a disk that is only read
            path.chmod(0o700)


def private_folder(path: Path) -> Path:
    """A folder, and those above it that are missing, readable by their owner only."""
    if not path.exists():
        private_folder(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)
    return path


def write_private(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all, readable by its owner only."""
    data = content.encode() if isinstance(content, str) else content
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)


def bundled(name: str) -> Path:
    """A folder or file that ships with cohortsync (``notebooks``, ``data``, ``app.py``)."""
    package = Path(__file__).parent
    installed = package / "bundled" / name
    return installed if installed.exists() else package.parent / name


def _keyring() -> Any:
    """The system's keyring, or None where there is none."""
    try:
        import keyring
        from keyring.backends.fail import Keyring as NoKeyring
    except ImportError:
        return None
    return None if isinstance(keyring.get_keyring(), NoKeyring) else keyring


def _entry(home: Path, host: str) -> str:
    return f"{home}|{host}"


def _key_file(home: Path) -> Path:
    return home / "keys.json"


def _filed_keys(home: Path) -> dict[str, str]:
    file = _key_file(home)
    return json.loads(file.read_text()) if file.exists() else {}


def save_key(home: Path, host: str, key: str) -> str:
    """Keep a key for one host (``account@host`` where a host has several); says where it went."""
    if store := _keyring():
        store.set_password("cohortsync", _entry(home, host), key)
        return "the system keyring"
    write_private(_key_file(home), json.dumps(_filed_keys(home) | {host: key}))
    return f"{_key_file(home)} (readable by you alone)"


def load_key(home: Path, host: str, variable: str = KEY_VARIABLE) -> str | None:
    """The key kept for this host, else that of the environment's variable; None when there is neither."""
    store = _keyring()
    kept = store.get_password("cohortsync", _entry(home, host)) if store else None
    return kept or _filed_keys(home).get(host) or os.environ.get(variable)


def is_secret(home: Path, text: str) -> bool:
    """Whether a text has the form of a Mailchimp key, or holds a key or secret of this workspace or the environment."""
    variables = (KEY_VARIABLE, SECRET_VARIABLE, *NOTIFY_VARIABLES.values())
    kept = {*_filed_keys(home).values(), *map(os.environ.get, variables)}
    return bool(MAILCHIMP_KEY.search(text)) or any(key in text for key in kept if key)
