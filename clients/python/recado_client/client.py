"""The client for programs without an event loop."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, Self, TypeVar, Unpack

import httpx

from recado_client import calls
from recado_client.attempts import Attempts
from recado_client.auth_url import AuthAnswer, auth_answer
from recado_client.calls import UNSET, Answer, Call
from recado_client.errors import RecadoError, Unreachable
from recado_client.exchanges import Arriving, request_of
from recado_client.messages import BatchAnswer, BatchMessage, Receipt, Rooms, SendOptions, Sent
from recado_client.settings import ClientOptions, Settings
from recado_client.tokens import EXPIRES_IN_SECONDS, sign_token
from recado_client.webhooks import verify_webhook

T = TypeVar("T")


class Offline:
    """The part of a client that makes no request and needs only the secrets in its settings."""

    def __init__(self, url: str, site: str, api_key: str, **options: Unpack[ClientOptions]) -> None:
        """Check the settings; `BadInput` names a wrong one."""
        self.settings = Settings(url, site, api_key, **options)

    def __repr__(self) -> str:
        """Name the site and the server, and no secret."""
        return f"<{type(self).__name__} of {self.settings.site!r} at {self.settings.url}>"

    def verify_webhook(self, body: bytes | str, headers: Mapping[str, str]) -> list[dict[str, Any]]:
        """The events of a request to the site's webhook, from its body as it came and its headers.

        `BadWebhook` when the site's server has not made it, or not in the last five minutes: answer 400.
        """
        return verify_webhook(body, headers, self.settings.webhook_secret)

    def sign_token(
        self,
        user: str | int,
        rooms: Sequence[str | int] = (),
        *,
        expires_in: int = EXPIRES_IN_SECONDS,
        claims: Mapping[str, Any] | None = None,
    ) -> str:
        """A token with which a page of this user connects, into these rooms, for so many seconds."""
        return sign_token(self.settings, user, rooms, expires_in, claims)

    def auth_answer(self, rooms: Sequence[str | int] | None) -> AuthAnswer:
        """The answer of the site's `authUrl`: these rooms, or None for a user who is not let in."""
        return auth_answer(rooms)


class Client(Offline):
    """A site's backend. Threads may share it; a process that forks may too. `close` ends its connections."""

    def __init__(
        self, url: str, site: str, api_key: str, *, http: httpx.Client | None = None, **options: Unpack[ClientOptions]
    ) -> None:
        """`http` brings certificates or a proxy of one's own, and is closed by its owner."""
        super().__init__(url, site, api_key, **options)
        self._given = http
        self._opened: tuple[int, httpx.Client] | None = None

    def __enter__(self) -> Self:
        """Use it as a context, which closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """End its connections; a later call opens new ones."""
        opened, self._opened = self._opened, None
        if opened is not None and opened[0] == os.getpid():
            opened[1].close()

    def send(self, rooms: Rooms, event: str, args: object = UNSET, **options: Unpack[SendOptions]) -> Sent:
        """Send an event to rooms. It is stored for every addressed device when this returns, and stored once."""
        return self._run(calls.send(rooms, event, args, options))

    def send_batch(self, messages: Sequence[BatchMessage], *, idempotency_key: str | None = None) -> list[BatchAnswer]:
        """Send at most 100 messages in their order; the answers say of each whether it is stored."""
        return self._run(calls.send_batch(messages, idempotency_key))

    def message(self, id: str, *, limit: int | None = None, cursor: str | None = None, bodies: bool = False) -> Receipt:
        """The fate of a message at each device."""
        return self._run(calls.message(id, limit, cursor, bodies))

    receipt = message

    def withdraw(self, id: str) -> int:
        """Take a message out of every queue; the number of devices that had it. A repeat may find it gone: 0."""
        return self._run(calls.withdraw(id))

    def disconnect(
        self,
        *,
        user: str | None = None,
        device: str | None = None,
        room: str | None = None,
        text: str | None = None,
        reconnect: bool = False,
    ) -> int:
        """End the connections of a user, of a device, or in a room; the number of connections."""
        return self._run(calls.disconnect(user=user, device=device, room=room, text=text, reconnect=reconnect))

    def move_rooms(self, user: str, *, join: Sequence[str | int] = (), leave: Sequence[str | int] = ()) -> int:
        """Let a user join and leave rooms while connected; the number of the user's devices."""
        return self._run(calls.move_rooms(user, join, leave))

    def _run(self, call: Call[T]) -> T:
        attempts = Attempts(self.settings, call.wait_seconds, time.monotonic())
        while True:
            try:
                answer = self._exchange(call, attempts.seconds_left(time.monotonic()))
                return call.read(answer, attempts.has_repeated)
            except RecadoError as error:
                pause = attempts.pause_behind(error, time.monotonic())
                if pause is None:
                    raise
            time.sleep(pause)

    def _exchange(self, call: Call[T], seconds: float) -> Answer:
        http = self._http()
        arriving = Arriving(time.monotonic() + seconds)
        try:
            answer = http.send(request_of(http, self.settings, call, seconds), stream=True, follow_redirects=False)
            try:
                # The transport of a test may have read it already.
                for part in (answer.content,) if answer.is_stream_consumed else answer.iter_raw():
                    arriving.take(part, time.monotonic())
            finally:
                answer.close()
        except (httpx.HTTPError, httpx.StreamError, OSError) as error:
            raise Unreachable(f"{call.method} {call.path}: {type(error).__name__}") from error
        return arriving.whole(answer)

    def _http(self) -> httpx.Client:
        """The connections of this process: those of a parent that has forked stay the parent's."""
        if self._given is not None:
            return self._given
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = os.getpid(), httpx.Client()
        return self._opened[1]
