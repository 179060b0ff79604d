"""Parts that tests share: the sample workspace, loaded once, and real local services."""

from __future__ import annotations

import functools
import importlib
import os
import shutil
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing import forkserver
from pathlib import Path
from typing import TYPE_CHECKING, Any

import forked
import pytest
from hypothesis import settings

import cohortsync as cs
from cohortsync.mixpanel import Account
from cohortsync.sandbox.mailchimp import consent

if TYPE_CHECKING:
    from faulty import Proxy
    from mailchimp_side import Side

SAMPLE = Path(__file__).parent.parent / "data" / "sample"
MEMBERS = SAMPLE / "mailchimp_members.ndjson"
OWNER_KEY = "0" * 32 + "-us6"
VIEWER_KEY = "0" * 32 + "-us2"
REVOKED_KEY = "0" * 32 + "-us3"
ADMIN = Account("admin.0a1b2c.mp-service-account", "rehearsal-secret")
PROJECT_ID = "2195193"


settings.register_profile("sweep", max_examples=5 * settings.default.max_examples)


def examples(few: int) -> int:
    """On how many examples a law of whole loads is tried: a few always, five times as many in a sweep."""
    return few * settings.default.max_examples // 100


def sampled(values: Sequence[Any], every_time: int) -> list[Any]:
    """The parameters of a test that costs seconds: the first few every time, all of them in a sweep."""
    return [pytest.param(value, marks=pytest.mark.sample if number < every_time else pytest.mark.sweep)
            for number, value in enumerate(values)]


def interruptible() -> None:
    """Run in a process before its program: Ctrl-C ends it, also where the tests themselves run in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def sample_files() -> dict[str, Any]:
    """The sample's files as ``Workspace.load`` takes them."""
    cohorts = {path.name.split(".")[0].removeprefix("cohort-"): path for path in sorted(SAMPLE.glob("cohort-*"))}
    return {"events": sorted(SAMPLE.glob("events-*")), "profiles": [SAMPLE / "profiles.ndjson.gz"],
            "cohorts": cohorts}


@pytest.fixture(scope="session", autouse=True)
def _processes_begin_at_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Those that tests start neither import nor compile again what others did before them."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with pytest.MonkeyPatch.context() as patch:
        keep_apart(patch, tmp_path_factory.mktemp("place"))
        forked.PROCESSES.set_forkserver_preload(forked.MODULES)
        forkserver.ensure_running()
        yield


@pytest.fixture(scope="session", autouse=True)
def _installed_packages_are_looked_through_once() -> Iterator[None]:
    """Streamlit reads what each of them says of itself whenever an app begins; none comes or goes meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        if "streamlit.testing.v1" in sys.modules:  # in the other tests' stead it is not imported
            scanner = importlib.import_module("streamlit.components.v2.manifest_scanner")
            patch.setattr(scanner, "scan_component_manifests", functools.cache(scanner.scan_component_manifests))
        yield


@pytest.fixture(autouse=True)
def _own_place(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_apart(monkeypatch, tmp_path_factory.mktemp("place"))


def keep_apart(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    """No test sees the user's workspace, keys or leases, or waits as long as a real account needs."""
    for name in [name for name in os.environ if name.startswith("COHORTSYNC_") and name != "COHORTSYNC_CONTRACTS"]:
        monkeypatch.delenv(name)
    for name in ("MAILCHIMP_API_KEY", "MIXPANEL_USERNAME", "MIXPANEL_SECRET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COHORTSYNC_HOME", str(place / "home"))
    monkeypatch.setenv("XDG_STATE_HOME", str(place / "state"))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")
    for name, value in {"BACKOFF_SECONDS": "0.01", "BACKOFF_MAX_SECONDS": "0.05", "SETTLE_SECONDS": "0.2",
                        "TIMEOUT_SECONDS": "20"}.items():
        monkeypatch.setenv(f"COHORTSYNC_{name}", value)


@pytest.fixture(scope="module", autouse=True)
def _consent_was_kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No request of any test of a module changed anyone's status, wiped tags or brought anyone back."""
    base = tmp_path_factory.getbasetemp()
    before = set(base.iterdir())
    yield
    assert not breaches(set(base.iterdir()) - before)


def breaches(folders: Iterable[Path]) -> dict[Path, list[str]]:
    """What requests did below these folders that none may do, by the local Mailchimp that was asked."""
    found = {path: consent.breaches(path) for folder in folders for path in local_mailchimps(folder)}
    return {path: lines for path, lines in found.items() if lines}


def local_mailchimps(place: Path) -> Iterator[Path]:
    """The state files of every local Mailchimp that ran below a folder."""
    for folder, inner, files in os.walk(place):
        inner[:] = [name for name in inner if name not in ("events", "warehouse", "runs", "audiences", "stage")]
        if "mailchimp.sqlite" in files:
            yield Path(folder, "mailchimp.sqlite")


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a workspace with the sample loaded; copy it before changing anything."""
    home = tmp_path_factory.mktemp("sample") / "home"
    workspace = cs.open(home)
    workspace.init("America/New_York", "simplified")
    workspace.load(**sample_files())
    return home


@pytest.fixture
def workspace(sample: Path, tmp_path: Path) -> cs.Workspace:
    """The sample workspace, one's own."""
    shutil.copytree(sample, tmp_path / "home")
    return cs.open(tmp_path / "home")


@pytest.fixture(scope="module")
def mailchimp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A running local Mailchimp that knows the sample's contacts."""
    with forked.sandbox(tmp_path_factory.mktemp("mailchimp"), seed=MEMBERS) as running:
        yield running


@pytest.fixture(scope="module")
def mixpanel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A running local Mixpanel that has the sample's project."""
    with forked.sandbox(tmp_path_factory.mktemp("mixpanel"), mixpanel_seed=SAMPLE / "mixpanel.json") as running:
        yield running


@pytest.fixture
def connected(workspace: cs.Workspace, tmp_path: Path) -> Iterator[cs.Workspace]:
    """The sample workspace connected to a local Mailchimp of its own."""
    with forked.sandbox(tmp_path / "mailchimp", seed=MEMBERS) as running:
        workspace.connect_mailchimp(OWNER_KEY, "subscribed", running.mailchimp_url)
        yield workspace


@pytest.fixture
def proxied(workspace: cs.Workspace, tmp_path: Path) -> Iterator[tuple[cs.Workspace, Proxy, Side]]:
    """The same, connected by way of a proxy that counts what passes and can go wrong; and Mailchimp's side of it."""
    from faulty import before
    from mailchimp_side import Side

    with forked.sandbox(tmp_path / "mailchimp", seed=MEMBERS) as running, before(running.mailchimp_url) as proxy:
        workspace.connect_mailchimp(OWNER_KEY, "subscribed", proxy.url)
        yield workspace, proxy, Side(running.mailchimp_url)
