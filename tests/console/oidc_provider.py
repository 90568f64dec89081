"""A small provider of identities: discovery, keys, an authorization endpoint that lets everybody in, and tokens."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

CLIENT = ("recado", "the client's secret")
KEY = rsa.generate_private_key(65537, 2048)


class Provider:
    """The provider, on a port of its own. Lives as long as `running_provider`. Tests change its fields."""

    def __init__(self, url: str) -> None:
        """Nobody has logged in yet."""
        self.url = url
        self.key = KEY
        self.key_id = "first"
        #: The claims of the person who logs in, beside those that each token has.
        self.person: dict[str, Any] = {"sub": "248289761001", "preferred_username": "ana", "groups": ["admins"]}
        #: Makes other claims, or a whole token, of those of a token.
        self.spoil: Callable[[dict[str, Any]], dict[str, Any] | str] = lambda claims: claims
        #: Path -> status and body of another answer.
        self.answers: dict[str, tuple[int, bytes]] = {}
        self.auth_time: float | None = None
        self.redeems_without_secret = False
        self.requests: list[str] = []
        self._codes: dict[str, dict[str, str]] = {}

    def sign(self, claims: dict[str, Any], algorithm: str = "RS256", key: Any = None) -> str:
        """A token."""
        return jwt.encode(claims, key or self.key, algorithm, {"kid": self.key_id})

    def authorize(self, url: str) -> str:
        """The browser is at the provider, and the person proves who it is. Return the URL that it is sent back to."""
        query = dict(parse_qsl(urlsplit(url).query))
        assert query["response_type"] == "code"
        assert query["code_challenge_method"] == "S256"
        assert query["client_id"] == CLIENT[0]
        code = secrets.token_urlsafe(16)
        self._codes[code] = query
        return f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state'], 'iss': self.url})}"

    def answer(self, path: str, form: dict[str, str], authorization: str) -> tuple[int, bytes]:
        """Status and body of an answer."""
        self.requests.append(path)
        if path in self.answers:
            return self.answers[path]
        if path == "/.well-known/openid-configuration":
            names = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "keys"}
            found = {"issuer": self.url, **{name: f"{self.url}/{place}" for name, place in names.items()}}
            return 200, json.dumps(found).encode()
        if path == "/keys":
            public = jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
            return 200, json.dumps({"keys": [{**public, "kid": self.key_id, "use": "sig"}]}).encode()
        if path == "/token":
            return self._redeem(form, authorization)
        return 404, b"{}"

    def _redeem(self, form: dict[str, str], authorization: str) -> tuple[int, bytes]:
        query = self._codes.pop(form.get("code", ""), None)
        expected = "Basic " + base64.b64encode(":".join(CLIENT).encode()).decode()
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        if (
            query is None
            or not (authorization == expected or (self.redeems_without_secret and form.get("client_id") == CLIENT[0]))
            or form.get("redirect_uri") != query["redirect_uri"]
            or challenge.rstrip(b"=").decode() != query["code_challenge"]
        ):
            return 400, b'{"error": "invalid_grant"}'
        now = int(time.time())
        claims = {"iss": self.url, "aud": CLIENT[0], "iat": now, "exp": now + 300, "nonce": query["nonce"]}
        proven = now if self.auth_time is None else int(self.auth_time)
        made = self.spoil({**claims, "auth_time": proven, **self.person})
        token = made if isinstance(made, str) else self.sign(made)
        return 200, json.dumps({"access_token": "x", "token_type": "Bearer", "id_token": token}).encode()


@contextmanager
def running_provider(host: str = "127.0.0.1") -> Iterator[Provider]:
    """A provider that listens; the name of its host may differ from the console's."""

    class Handler(BaseHTTPRequestHandler):
        """Handles one request, for which it lives."""

        def do_GET(self) -> None:
            """A browser at the authorization endpoint, or a server that asks."""
            path = urlsplit(self.path).path
            if path == "/authorize":
                self.send_response(303)
                self.send_header("Location", provider.authorize(self.path))
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self._answer(*provider.answer(path, {}, ""))

        def do_POST(self) -> None:
            """A server that redeems a code."""
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            answer = provider.answer(self.path, dict(parse_qsl(body)), self.headers.get("Authorization", ""))
            self._answer(*answer)

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", body.decode())
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing on the tests' output."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider = Provider(f"http://{host}:{server.server_port}")
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
