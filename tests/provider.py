"""A login provider on this machine: OpenID Connect as far as a web app needs it, with whoever the test names."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey


class Provider(BaseHTTPRequestHandler):
    """Signs in ``who`` without asking."""

    key = RSAKey.generate_key(2048, {"kid": "test", "use": "sig", "alg": "RS256"})
    who: dict[str, Any]
    nonces: dict[str, str]

    def log_message(self, *_: Any) -> None:
        pass

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"  # type: ignore[attr-defined]

    def _answer(self, body: Any) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def do_GET(self) -> None:
        place, asked = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
        if place == "/authorize":
            code = secrets.token_hex(8)
            self.nonces[code] = asked.get("nonce", [""])[0]
            self.send_response(302)
            self.send_header("Location", f"{asked['redirect_uri'][0]}?"
                                         + urlencode({"code": code, "state": asked["state"][0]}))
            self.end_headers()
        elif place == "/keys":
            self._answer({"keys": [self.key.as_dict(private=False)]})
        else:
            self._answer({"issuer": self.issuer, "authorization_endpoint": f"{self.issuer}/authorize",
                          "token_endpoint": f"{self.issuer}/token", "jwks_uri": f"{self.issuer}/keys",
                          "response_types_supported": ["code"], "subject_types_supported": ["public"],
                          "id_token_signing_alg_values_supported": ["RS256"]})

    def do_POST(self) -> None:
        given = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        now = int(time.time())
        claims = {"iss": self.issuer, "sub": "1", "aud": "cohortsync", "iat": now, "exp": now + 600,
                  "nonce": self.nonces[given["code"][0]], **self.who}
        token = jwt.encode({"alg": "RS256", "kid": "test"}, claims, self.key)
        self._answer({"access_token": "x", "token_type": "Bearer", "expires_in": 600, "id_token": token})


@contextmanager
def provider(who: dict[str, Any]) -> Iterator[str]:
    """The address of a running provider that says whoever logs in has these claims, as they are by then."""
    handler = type("Named", (Provider,), {"who": who, "nonces": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
