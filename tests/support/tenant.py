"""A tenant's backend: answers authUrl by token as each test configures, and records every request with its headers."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.support.background import BackgroundLoop
from tests.support.waiting import DEFAULT_TIMEOUT_SECONDS, Recording, lag

# Every token and key of the tests contains this text, so that one search of the log finds any leak.
SECRET = "s3cr3t"


@dataclass(frozen=True)
class Answer:
    """The answer of authUrl or updateUserUrl to one token."""

    status: int = 200
    body: bytes = b"[]"
    delay_seconds: float = 0.0
    #: Cut the connection instead of answering.
    is_cut: bool = False
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class User:
    """One user of a website: the token that names it, its private room and the rooms which authUrl answers."""

    token: str
    id: str
    room: str
    rooms: tuple[str, ...]


@dataclass(frozen=True)
class TenantRequest:
    """One received request; header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any

    @property
    def token(self) -> str | None:
        """The token after the scheme in the Authorization header; None without this header."""
        _, _, token = self.headers.get("authorization", "").partition(" ")
        return token or None


class Tenant:
    """The backend, on the background loop. Lives for the test session; `close` ends its listener."""

    def __init__(self, background: BackgroundLoop) -> None:
        """Start listening on a free port."""
        self.requests: Recording[TenantRequest] = Recording()
        #: The peak number of concurrent requests that are answered with a delay, since a test set it to 0.
        self.most_at_once = 0
        self._at_once = 0
        self._background = background
        self._answers: dict[str | None, Answer] = {}
        self._update_answers: dict[str | None, Answer] = {}
        self._numbers = itertools.count(1000)
        application = web.Application()
        application.router.add_route("*", "/{rest:.*}", self._handle)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        self.url = background.run(self._start())

    def close(self) -> None:
        """Stop listening."""
        self._background.run(self._runner.cleanup())

    def unique(self, kind: str) -> str:
        """Return a name that no other test uses."""
        return f"{kind}{next(self._numbers)}"

    def user(self, *rooms: str, room: str | None = None) -> User:
        """Create a user whose authUrl answer is its private room (`user_<id>` unless given) and `rooms`."""
        number = str(next(self._numbers))
        room = room or f"user_{number}"
        user = User(f"{SECRET}-token-{number}", number, room, (room, *rooms))
        self.set_rooms(user.token, *user.rooms)
        return user

    def set_rooms(self, token: str | None, *rooms: str) -> None:
        """Answer this token (None: no token at all) with these rooms from now on."""
        self.answer(token, Answer(body=json.dumps(rooms).encode()))

    def answer(self, token: str | None, answer: Answer) -> None:
        """Give this answer of authUrl to this token from now on."""
        self._answers[token] = answer

    def answer_updates(self, token: str | None, answer: Answer) -> None:
        """Give this answer of updateUserUrl to this token from now on."""
        self._update_answers[token] = answer

    def token(self, answer: Answer) -> str:
        """Return a fresh token that gets this answer from authUrl."""
        token = f"{SECRET}-token-{next(self._numbers)}"
        self.answer(token, answer)
        return token

    def requests_of(self, token: str | None, method: str = "GET") -> list[TenantRequest]:
        """List the requests with this token."""
        return [request for request in self.requests.snapshot() if (request.token, request.method) == (token, method)]

    def wait_for_update(
        self, token: str, key: str, nth: int = 1, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    ) -> TenantRequest:
        """Block until the `nth` PUT of `key` (last_connected, last_disconnected) with this token has arrived."""
        return self.requests.wait_for(
            lambda request: request.method == "PUT" and request.token == token and key in request.body["user"],
            f"PUT {key} number {nth}",
            timeout_seconds,
            nth,
        )

    async def _start(self) -> str:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, backlog=1024)
        await site.start()
        host, port = self._runner.addresses[0]
        return f"http://{host}:{port}"

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        body = json.loads(raw) if raw else None
        headers = {name.lower(): value for name, value in request.headers.items()}
        seen = TenantRequest(request.method, request.path_qs, headers, body)
        self.requests.add(seen)
        answers = self._update_answers if request.method == "PUT" else self._answers
        default = Answer() if request.method == "PUT" else Answer(status=401, body=b"unknown token")
        answer = answers.get(seen.token, default)
        if answer.delay_seconds:
            await self._delay(answer.delay_seconds)
        if answer.is_cut and request.transport:
            request.transport.abort()
        return web.Response(
            status=answer.status, body=answer.body, headers={"Content-Type": "application/json", **answer.headers}
        )

    async def _delay(self, seconds: float) -> None:
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            await lag(seconds)
        finally:
            self._at_once -= 1
