"""What people are told: over a real HTTP server and a real mail server, once, and never with an address or a key."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword
from conftest import OWNER_KEY
from served import free_port

import cohortsync as cs
from cohortsync import notify
from cohortsync.errors import ApiFinal, BadInput, ConfigurationError


class Webhook:
    """A server as Slack's: what was posted to it, and what it answers."""

    def __init__(self) -> None:
        self.posted: list[dict[str, Any]] = []
        self.status = 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.posted.append(json.loads(body))
                self.send_response(outer.status)
                self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/services/T0/hidden-part"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class Postbox:
    """A mail server that asks for a password: what was handed to it."""

    def __init__(self) -> None:
        self.taken: list[Any] = []

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        self.taken.append(envelope)
        return "250 OK"


def let_in(_server: Any, _session: Any, _envelope: Any, _mechanism: str, login: LoginPassword) -> AuthResult:
    return AuthResult(success=login.password == b"correct horse", handled=False)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return cs.open(tmp_path / "home").home


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    hook = Webhook()
    yield hook
    hook.server.shutdown()


@pytest.fixture
def postbox() -> Iterator[Any]:
    box = Postbox()
    controller = Controller(box, hostname="127.0.0.1", port=0, authenticator=let_in, auth_require_tls=False)
    controller.port = free_port()
    controller.start()
    yield box, f"smtp://watcher@127.0.0.1:{controller.port}"
    controller.stop()


def test_an_event_is_told_once_on_each_channel(home: Path, webhook: Webhook, postbox: Any) -> None:
    box, server = postbox
    notify.set_webhook(home, webhook.url)
    notify.set_email(home, "oncall@harbor.example", server, "correct horse")
    for _ in range(3):
        notify.record(home, "s-1 paused r-1", "power-users is paused", "Mailchimp answered 401.")
        assert notify.deliver(home) == []
    assert webhook.posted == [{"text": "*power-users is paused*\nMailchimp answered 401."}]
    (envelope,) = box.taken
    assert envelope.rcpt_tos == ["oncall@harbor.example"]
    assert b"Subject: cohortsync: power-users is paused" in envelope.content


def test_a_notice_never_holds_an_address_or_a_key(home: Path, webhook: Webhook) -> None:
    notify.set_webhook(home, webhook.url)
    notify.record(home, "e", "maria@harbor.example", f"The key {OWNER_KEY} of maria@harbor.example, {webhook.url}")
    notify.deliver(home)
    told = json.dumps(webhook.posted, ensure_ascii=False)
    assert "m•••@h•••.example" in told
    assert not [secret for secret in ("maria@", OWNER_KEY, "hidden-part") if secret in told]


def test_where_to_tell_stands_in_no_file_but_the_key_store(home: Path, webhook: Webhook, postbox: Any) -> None:
    notify.set_webhook(home, webhook.url)
    notify.set_email(home, "oncall@harbor.example", postbox[1], "correct horse")
    notify.record(home, "e", "a", "b")
    notify.deliver(home)
    assert (home / "keys.json").stat().st_mode & 0o777 == 0o600
    files = [path for path in home.rglob("*") if path.is_file() and path.name != "keys.json"]
    held = b"".join(path.read_bytes() for path in files)
    assert not [secret for secret in (b"hidden-part", b"oncall", b"correct horse") if secret in held]


def test_what_could_not_be_told_is_told_the_next_time(home: Path, webhook: Webhook) -> None:
    notify.set_webhook(home, webhook.url)
    notify.record(home, "e", "a", "b")
    webhook.status = 503
    (problem,) = notify.deliver(home)
    assert "127.0.0.1 answered 503" in problem and "hidden-part" not in problem
    webhook.status = 200
    assert notify.deliver(home) == []
    assert notify.deliver(home) == []
    assert len(webhook.posted) == 2


def test_a_redirect_is_not_followed(home: Path, webhook: Webhook) -> None:
    notify.set_webhook(home, webhook.url)
    webhook.status = 307
    with pytest.raises(ApiFinal, match="answered 307"):
        notify.send(home, "webhook", "a", "b")
    assert len(webhook.posted) == 1


def test_a_wrong_mail_password_is_said_without_it(home: Path, postbox: Any) -> None:
    notify.set_email(home, "oncall@harbor.example", postbox[1], "battery staple")
    with pytest.raises(ApiFinal, match=r"127.0.0.1 took no notice \(SMTPAuthenticationError\)") as refused:
        notify.send(home, "email", "a", "b")
    assert "battery" not in str(refused.value) and "oncall" not in str(refused.value)


@pytest.mark.parametrize("url", ["http://hooks.slack.com/x", "ftp://a.example", "https://a:b@c.example",
                                 "nonsense", "https://a.example:99999/x"])
def test_an_address_that_is_not_safe_to_post_to_is_refused_and_not_repeated(home: Path, url: str) -> None:
    with pytest.raises(BadInput, match="hooks.slack.com/services") as refused:
        notify.set_webhook(home, url)
    assert url not in str(refused.value)
    assert notify.channels(home) == []


def test_who_is_not_to_be_told_is_not(home: Path, webhook: Webhook) -> None:
    notify.record(home, "before anything is set up", "a", "b")
    notify.set_webhook(home, webhook.url)
    notify.turn_off(home, "webhook")
    notify.record(home, "e", "a", "b")
    assert notify.deliver(home) == [] and webhook.posted == []
    with pytest.raises(ConfigurationError, match="cohortsync notify webhook"):
        notify.send(home, "webhook", "a", "b")


def test_the_environment_says_where_to_tell_as_well(home: Path, webhook: Webhook,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COHORTSYNC_NOTIFY_WEBHOOK", webhook.url)
    assert notify.channels(home) == ["webhook"]
    notify.send(home, "webhook", "a", "b")
    assert webhook.posted == [{"text": "*a*\nb"}]
