"""Telling people that a sync needs them: by a webhook in Slack's shape, and by e-mail.

Each event is told once on each channel. Where to tell is kept as keys are, and stands in no text, log or error.
Sources: https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks/ and
https://docs.python.org/3/library/smtplib.html
"""

from __future__ import annotations

import smtplib
import ssl
from email.message import EmailMessage
from pathlib import Path
from urllib.parse import unquote, urlsplit

import requests

from cohortsync import config, emails, ledger
from cohortsync.errors import ApiFinal, BadInput, CohortsyncError, ConfigurationError

WEBHOOK, EMAIL = "webhook", "email"
CHANNELS = (WEBHOOK, EMAIL)
SERVER, PASSWORD = "smtp", "smtp password"
TIMEOUT_SECONDS = 20


def set_webhook(home: Path, url: str) -> str:
    """Keep where to post to; answers where that is kept. Raises BadInput for what is not https."""
    _check(url, ["https"], "The webhook's address", "https://hooks.slack.com/services/…")
    return _keep(home, WEBHOOK, url)


def set_email(home: Path, address: str, server: str, password: str = "") -> str:
    """Keep whom to write to, and the server to hand it to, as ``smtps://user@host:465`` or ``smtp://user@host:587``.

    Both are encrypted, and the server's name is verified; plain text goes to this very machine alone.
    """
    if not emails.is_valid(address):
        raise BadInput(f"{emails.mask(address)} is not an e-mail address.")
    _check(server, ["smtp", "smtps"], "The mail server", "smtps://user@mail.example:465")
    _keep(home, SERVER, server)
    _keep(home, PASSWORD, password)
    return _keep(home, EMAIL, address)


def turn_off(home: Path, channel: str) -> None:
    """Tell nothing on a channel any more."""
    _keep(home, channel, "")


def channels(home: Path) -> list[str]:
    """The channels on which anything is told."""
    return [channel for channel in CHANNELS if _kept(home, channel)]


def _keep(home: Path, name: str, secret: str) -> str:
    return config.save_key(home, f"notify {name}", secret)


def _kept(home: Path, name: str) -> str:
    return config.load_key(home, f"notify {name}", config.NOTIFY_VARIABLES[name]) or ""


def _check(url: str, schemes: list[str], what: str, example: str) -> None:
    """Raise BadInput for an address of another kind; what was given is a secret, and not shown."""
    try:
        parts = urlsplit(url)
        fits = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0 and not parts.password
    except ValueError:
        fits = False
    if not fits and not (schemes == ["https"] and config.is_rehearsal(url)):
        raise BadInput(f"{what} cannot be used. Give one like {example}, without a password in it.")


def record(home: Path, event: str, subject: str, text: str) -> None:
    """Note what is to be told; an event that was noted before is not told again.

    ``event`` names it; ``subject`` and ``text`` lose what is an address or a key.
    """
    words = [" ".join("(a key)" if config.is_secret(home, word) else word for word in emails.scrub(part).split(" "))
             for part in (" ".join(subject.split()), text)]
    with ledger.state(home) as con, ledger.transaction(con):
        con.executemany("insert or ignore into notices values (?, ?, ?, ?, ?, null)",
                        [(event, channel, *words, ledger.now()) for channel in channels(home)])


def deliver(home: Path) -> list[str]:
    """Tell what was noted and not told yet; answers why what could not be told could not: it is tried next time.

    A notice is marked before it leaves, so that it is never told twice.
    """
    with ledger.state(home) as con:
        waiting = [dict(row) for row in con.execute("select * from notices where told_at is null order by created_at")]
    problems = [_deliver_one(home, notice) for notice in waiting]
    return list(dict.fromkeys(problem for problem in problems if problem))


def _deliver_one(home: Path, notice: dict[str, str]) -> str | None:
    key = (notice["event"], notice["channel"])
    with ledger.state(home) as con:
        ours = con.execute("update notices set told_at = ? where event = ? and channel = ? and told_at is null",
                           (ledger.now(), *key)).rowcount
    if not ours:
        return None
    try:
        send(home, notice["channel"], notice["subject"], notice["text"])
    except CohortsyncError as error:
        with ledger.state(home) as con:
            con.execute("update notices set told_at = null where event = ? and channel = ?", key)
        return str(error)
    return None


def send(home: Path, channel: str, subject: str, text: str) -> None:
    """Tell something on a channel now. Raises ConfigurationError where it is not set up, ApiFinal when it failed."""
    where = _kept(home, channel)
    if not where:
        raise ConfigurationError(f"Nothing is told by {channel} yet. Set it up: cohortsync notify {channel}")
    if channel == WEBHOOK:
        _post(where, subject, text)
    else:
        _mail(where, _kept(home, SERVER), _kept(home, PASSWORD), subject, text)


def _post(url: str, subject: str, text: str) -> None:
    host = urlsplit(url).hostname
    try:
        answer = requests.post(url, json={"text": f"*{_as_text(subject)}*\n{_as_text(text)}"}, timeout=TIMEOUT_SECONDS,
                               allow_redirects=False)
    except requests.RequestException as error:
        raise ApiFinal(f"The webhook at {host} could not be reached ({type(error).__name__}).") from None
    if not 200 <= answer.status_code < 300:
        raise ApiFinal(f"The webhook at {host} answered {answer.status_code}. Set it anew: cohortsync notify webhook",
                       status=answer.status_code)


def _as_text(text: str) -> str:
    """Names from outside ping nobody and link nowhere. Source: https://docs.slack.dev/messaging/formatting-message-text"""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _mail(address: str, server: str, password: str, subject: str, text: str) -> None:
    parts = urlsplit(server)
    if not parts.hostname:
        raise ConfigurationError("There is no mail server to hand notices to. Set it up: cohortsync notify email")
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = address, address, f"cohortsync: {subject}"
    message.set_content(text)
    try:
        with _session(parts.scheme, parts.hostname, parts.port) as session:
            if parts.username:
                session.login(unquote(parts.username), password)
            session.send_message(message)
    except (OSError, smtplib.SMTPException) as error:
        raise ApiFinal(f"The mail server {parts.hostname} took no notice ({type(error).__name__}). Look at its "
                       "address and password: cohortsync notify email") from None


def _session(scheme: str, host: str, port: int | None) -> smtplib.SMTP:
    """An encrypted session with a server whose name is verified; with this machine itself, a plain one."""
    verified = ssl.create_default_context()
    if scheme == "smtps":
        return smtplib.SMTP_SSL(host, port or 465, timeout=TIMEOUT_SECONDS, context=verified)
    session = smtplib.SMTP(host, port or 587, timeout=TIMEOUT_SECONDS)
    if host not in config.LOOPBACK:
        session.starttls(context=verified)
    return session
