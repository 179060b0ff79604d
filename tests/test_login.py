"""Logging in, with a real provider and a real browser: viewers look, admins act."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import served
from provider import provider
from served import CHROMIUM, FLAGS

import cohortsync as cs

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytest.importorskip("authlib", reason="the extra auth is not installed")
APP = ["app", "--address", "0.0.0.0"]
ADDRESS = "ann@harbor.example"
needs_browser = pytest.mark.skipif(not CHROMIUM, reason="no Chromium found; `make browser` installs Debian's")


@contextmanager
def serving(folder: Path, home: Path, issuer: str) -> Iterator[str]:
    """The app open to every address of this machine, as ``cohortsync app`` serves it, with this login."""
    port = served.free_port()
    (folder / ".streamlit").mkdir()
    (folder / ".streamlit" / "secrets.toml").write_text(f"""[auth]
redirect_uri = "http://127.0.0.1:{port}/oauth2callback"
cookie_secret = "{'c' * 40}"
client_id = "cohortsync"
client_secret = "s"
server_metadata_url = "{issuer}/.well-known/openid-configuration"
""")
    admins = hashlib.sha256(ADDRESS.encode()).hexdigest()
    with served.serving(folder / "app.log", "-m", "cohortsync", "--home", home, *APP, "--port", port=port,
                        folder=folder, COHORTSYNC_ADMINS=admins) as url:
        yield url


@pytest.mark.browser
@needs_browser
def test_whoever_logs_in_is_what_the_provider_vouches_for(workspace: cs.Workspace, tmp_path: Path) -> None:
    who: dict[str, Any] = {"email": ADDRESS}
    with provider(who) as issuer, serving(tmp_path, workspace.home, issuer) as url, playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page()
        page.set_default_timeout(60_000)
        page.goto(url)
        for verified, role, forms in ((True, "admin", 1), (False, "viewer", 0)):
            who["email_verified"] = verified
            page.get_by_role("button", name="Log in").click()
            page.get_by_text(f"Logged in as {role}").wait_for()
            page.get_by_role("heading", name="Mailchimp").wait_for()
            playwright.expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")
            playwright.expect(page.get_by_label("API key", exact=True)).to_have_count(forms, timeout=60_000)
            page.get_by_role("button", name="Log out").click()
            page.get_by_role("button", name="Log in").wait_for()
        browser.close()


def test_the_app_is_not_opened_to_a_network_without_a_login(workspace: cs.Workspace, tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-m", "cohortsync", "--home", workspace.home, *APP], cwd=tmp_path,
                           capture_output=True, text=True, env={**os.environ, "HOME": str(tmp_path)}, timeout=60)
    assert ended.returncode == 2
    assert "nobody would have to log in" in ended.stderr
