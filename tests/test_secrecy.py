"""No key and no whole address leaves the files that need them; a key goes to its own host and nowhere else."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import forked
import pytest
import requests
from conftest import OWNER_KEY, SAMPLE
from hypothesis import given
from hypothesis import strategies as st
from terminal import cohortsync

import cohortsync as cs
from cohortsync import mailchimp as mc
from cohortsync.errors import ApiFinal, ApiTransient, ConfigurationError

# From where a word begins: else every letter of a picture's long words is tried as the first.
ADDRESS = re.compile(rb"(?<![0-9a-z._%+-])[0-9a-z._%+-]+@[0-9a-z-]+(?:\.[0-9a-z-]+)*\.example", re.IGNORECASE)
REVOKED = "0" * 32 + "-us3"
COHORT = "power-users"
pytestmark = pytest.mark.timeout(900)  # a dozen processes, one after the other


# one whole run

def needs_addresses(path: Path) -> bool:
    """Whether a file of a workspace is one of those that addresses are kept in, as docs/security.md names them."""
    return path.parts[0] in ("events", "warehouse", "audiences", "sandbox", "backups") or (
        path.parts[0] == "runs" and path.suffix == ".parquet")


class Shell:
    """The command line as people use it: every command a process, all that it says kept."""

    def __init__(self, home: Path) -> None:
        self.home, self.said = home, b""

    def run(self, *words: str, expect: int | None = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        done = cohortsync("--home", self.home, *words, **{"MAILCHIMP_API_KEY": OWNER_KEY} | environment)
        self.said += (done.stdout + done.stderr).encode()
        assert expect is None or done.returncode == expect, done.stderr[-2000:]
        return done


@pytest.fixture(scope="module")
def used(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A workspace after everything that people do with it, much of it gone wrong."""
    place = tmp_path_factory.mktemp("used")
    shell = Shell(Path(shutil.copytree(sample, place / "home")))
    with forked.sandbox(place / "mailchimp", seed=SAMPLE / "mailchimp_members.ndjson") as running, \
            pytest.MonkeyPatch.context() as patch:
        for name, value in {"BACKOFF_SECONDS": "0.01", "BACKOFF_MAX_SECONDS": "0.02", "SETTLE_SECONDS": "0.3"}.items():
            patch.setenv(f"COHORTSYNC_{name}", value)
        patch.setenv("XDG_STATE_HOME", str(place / "state"))
        patch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")
        use(shell, running.mailchimp_url)
        yield shell


def use(shell: Shell, url: str) -> None:
    def fault(**settings: Any) -> None:
        requests.post(f"{url}/sandbox/settings", json=settings, timeout=60).raise_for_status()

    connect = ("connect", "mailchimp", "--new-contacts", "pending", "--base-url", url)
    shell.run(*connect, expect=None, MAILCHIMP_API_KEY=REVOKED)
    shell.run(*connect, expect=None, MAILCHIMP_API_KEY=OWNER_KEY + "/evil.example")
    shell.run(*connect)
    shell.run("audience", COHORT)
    audience = cs.open(shell.home).check_mailchimp()["audiences"][0]["audience_id"]
    shell.run("plan", COHORT, "--audience", audience)
    fault(faults="lost,500,503_html,stirred", fault_rate=0.3, refused_share=0.1)
    shell.run("sync", COHORT, "--audience", audience, "--force", expect=None, COHORTSYNC_ATTEMPTS="2")
    fault(fault_rate=0)
    shell.run("sync", COHORT, "--audience", audience, "--force")
    shell.run("runs", cs.open(shell.home).runs()["run_id"][0])
    for notebook in ("sync_cohort", "audience_preview"):
        shell.run("run", notebook, "-p", f"cohort={COHORT}", "-p", f"audience_id={audience}")
    shell.run("sync", "person@shop.example", "--audience", audience, expect=2)
    # a bug's traceback: something nobody foresaw
    members = shell.home / "audiences" / audience / "members.parquet"
    members.unlink()
    members.mkdir()
    assert "Traceback" in shell.run("plan", COHORT, "--audience", audience, expect=1).stderr


@cache
def addresses() -> set[bytes]:
    """Every address of the sample, of profiles and of members, lower-cased."""
    text = gzip.decompress((SAMPLE / "profiles.ndjson.gz").read_bytes())
    found = set(ADDRESS.findall(text.lower() + (SAMPLE / "mailchimp_members.ndjson").read_bytes().lower()))
    assert len(found) > 1500
    return found


def whole_addresses(text: bytes) -> list[bytes]:
    return sorted(set(ADDRESS.findall(text.lower())) & addresses())


def test_nothing_that_was_said_holds_a_key_or_a_whole_address(used: Shell) -> None:
    assert len(used.said) > 5000
    assert whole_addresses(used.said) == []
    assert OWNER_KEY.encode() not in used.said
    assert REVOKED.encode() not in used.said


def test_no_file_holds_a_whole_address_but_those_that_need_them(used: Shell) -> None:
    found = {path.relative_to(used.home): path.read_bytes() for path in used.home.rglob("*") if path.is_file()}
    kinds = {path.suffix for path in found}
    assert {".sqlite", ".ipynb", ".html", ".json", ".parquet"} <= kinds
    assert [path for path, content in found.items() if not needs_addresses(path) and whole_addresses(content)] == []
    assert any(path.parts[0] == "audiences" for path in found)


def test_no_file_holds_a_key_but_the_one_for_keys(used: Shell) -> None:
    files = [path for folder in (used.home, used.home.parent / "state") for path in folder.rglob("*") if path.is_file()]
    holding = [path.relative_to(used.home) for path in files if OWNER_KEY.encode() in path.read_bytes()]
    assert holding == [Path("keys.json")]


def test_no_file_of_a_run_can_be_read_by_others(used: Shell) -> None:
    assert [path for path in used.home.rglob("*") if path.is_file() and path.stat().st_mode & 0o077] == []


# where a key goes

@given(st.text(max_size=80) | st.from_regex(r"[0-9a-f]{32}-.{1,40}", fullmatch=True))
def test_no_key_whatsoever_chooses_the_host(key: str) -> None:
    try:
        url = mc.base_url(key)
    except ConfigurationError:
        return
    assert re.fullmatch(r"https://[a-z]+[0-9]+\.api\.mailchimp\.com/3\.0", url)


class Elsewhere(BaseHTTPRequestHandler):
    """Sends everybody on, and remembers who asked."""

    def do_GET(self) -> None:
        self.server.asked.append(dict(self.headers))  # type: ignore[attr-defined]
        self.send_response(302)
        self.send_header("Location", self.server.location)  # type: ignore[attr-defined]
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(location: str = "", context: ssl.SSLContext | None = None) -> Iterator[Any]:
    server: Any = HTTPServer(("127.0.0.1", 0), Elsewhere)
    server.asked, server.location = [], location
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_redirect_is_not_followed_with_the_key(method: str) -> None:
    with served() as other, served(f"http://127.0.0.1:{other.server_port}/3.0/") as first:
        client = mc.open_client(OWNER_KEY, f"http://127.0.0.1:{first.server_port}")
        with pytest.raises(ApiFinal, match="302"):
            client.send(mc.Request(method, "/ping"))
        assert [len(first.asked), len(other.asked)] == [1, 0]


@pytest.mark.skipif(not shutil.which("openssl"), reason="makes a certificate with openssl")
@pytest.mark.parametrize("variable", ["", "CURL_CA_BUNDLE", "PYTHONHTTPSVERIFY"])
def test_a_host_with_a_wrong_certificate_never_sees_the_key(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1", "-days", "2",
                    "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
                   check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    if variable:
        monkeypatch.setenv(variable, "" if variable == "CURL_CA_BUNDLE" else "0")
    monkeypatch.setenv("COHORTSYNC_ATTEMPTS", "1")
    with served(context=context) as impostor:
        client = mc.open_client(OWNER_KEY)
        client.url = f"https://127.0.0.1:{impostor.server_port}/3.0"
        with pytest.raises(ApiTransient, match="SSLError"):
            client.send(mc.Request("GET", "/ping"))
        assert impostor.asked == []


def test_the_parts_of_a_request_that_failed_show_no_key() -> None:
    client = mc.open_client(OWNER_KEY)
    for shown in (repr(client), repr(client.http), json.dumps(client.settings.model_dump(mode="json"))):
        assert OWNER_KEY not in shown
