"""Settings, where things live, and where keys are kept.

Every setting is an environment variable ``COHORTSYNC_<NAME>``. Keys are kept in the system
keyring when there is one (extra ``keyring``), else in a file only its owner can read; they are
bound to the host they were entered for.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import platformdirs
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from cohortsync.errors import ConfigurationError

KEY_VARIABLE = "MAILCHIMP_API_KEY"


class Settings(BaseSettings):
    """What a user may turn; the defaults suit a real account."""

    model_config = SettingsConfigDict(env_prefix="COHORTSYNC_")

    home: Path = Field(default_factory=lambda: Path(platformdirs.user_data_dir("cohortsync")))
    project: str = Field("", description="which of a workspace's projects; empty: its only one")
    segment_prefix: str = Field("mixpanel_", description="a cohort's segment is named prefix + cohort")
    timeout_seconds: float = Field(150, description="longer than Mailchimp's own 120 s")
    attempts: int = Field(6, description="tries of one request before a transient error is given up")
    backoff_seconds: float = Field(2, description="first wait between tries; doubles, with jitter")
    backoff_max_seconds: float = Field(90, description="longest wait between tries")
    settle_seconds: float = Field(120, description="wait before reading back what was never answered")
    reject_days: int = Field(30, description="how long a person's refusal by Mailchimp is remembered")


def open_home(home: Path | str | None = None) -> Path:
    """The workspace's folder, made if need be and readable by its owner only."""
    path = Path(home or Settings().home).expanduser()
    if "?" in str(path):
        raise ConfigurationError(f"{path} cannot be the workspace: DuckDB opens no path with a question mark in it. "
                                 "Name another folder with --home DIR.")
    try:
        private_folder(path)
        os.scandir(path).close()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be the workspace ({error.strerror}). "
                                 "Name a folder of yours with --home DIR.") from None
    return path.resolve()


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
    """Keep a key for one host; says where it went."""
    if store := _keyring():
        store.set_password("cohortsync", _entry(home, host), key)
        return "the system keyring"
    write_private(_key_file(home), json.dumps(_filed_keys(home) | {host: key}))
    return f"{_key_file(home)} (readable by you alone)"


def load_key(home: Path, host: str) -> str | None:
    """The key kept for this host, else ``MAILCHIMP_API_KEY``; None when there is neither."""
    store = _keyring()
    kept = store.get_password("cohortsync", _entry(home, host)) if store else None
    return kept or _filed_keys(home).get(host) or os.environ.get(KEY_VARIABLE)
