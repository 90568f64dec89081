"""The client for programs with an event loop: asyncio, or trio."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Self, TypeVar, Unpack

import anyio
import httpx

from recado_client import calls
from recado_client.attempts import Attempts
from recado_client.calls import UNSET, Answer, Call
from recado_client.client import Offline
from recado_client.errors import RecadoError, Unreachable
from recado_client.exchanges import Arriving, request_of
from recado_client.messages import BatchAnswer, BatchMessage, Receipt, Rooms, SendOptions, Sent
from recado_client.settings import ClientOptions

T = TypeVar("T")


class AsyncClient(Offline):
    """A site's backend on one event loop. Tasks may share it; `aclose` ends its connections."""

    def __init__(
        self,
        url: str,
        site: str,
        api_key: str,
        *,
        http: httpx.AsyncClient | None = None,
        **options: Unpack[ClientOptions],
    ) -> None:
        """`http` brings certificates or a proxy of one's own, and is closed by its owner."""
        super().__init__(url, site, api_key, **options)
        self._given = http
        self._opened: httpx.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        """Use it as a context, which closes it."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""
        await self.aclose()

    async def aclose(self) -> None:
        """End its connections; a later call opens new ones."""
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.aclose()

    async def send(self, rooms: Rooms, event: str, args: object = UNSET, **options: Unpack[SendOptions]) -> Sent:
        """Send an event to rooms. It is stored for every addressed device when this returns, and stored once."""
        return await self._run(calls.send(rooms, event, args, options))

    async def send_batch(
        self, messages: Sequence[BatchMessage], *, idempotency_key: str | None = None
    ) -> list[BatchAnswer]:
        """Send at most 100 messages in their order; the answers say of each whether it is stored."""
        return await self._run(calls.send_batch(messages, idempotency_key))

    async def message(
        self, id: str, *, limit: int | None = None, cursor: str | None = None, bodies: bool = False
    ) -> Receipt:
        """The fate of a message at each device."""
        return await self._run(calls.message(id, limit, cursor, bodies))

    receipt = message

    async def withdraw(self, id: str) -> int:
        """Take a message out of every queue; the number of devices that had it. A repeat may find it gone: 0."""
        return await self._run(calls.withdraw(id))

    async def disconnect(
        self,
        *,
        user: str | None = None,
        device: str | None = None,
        room: str | None = None,
        text: str | None = None,
        reconnect: bool = False,
    ) -> int:
        """End the connections of a user, of a device, or in a room; the number of connections."""
        return await self._run(calls.disconnect(user=user, device=device, room=room, text=text, reconnect=reconnect))

    async def move_rooms(self, user: str, *, join: Sequence[str | int] = (), leave: Sequence[str | int] = ()) -> int:
        """Let a user join and leave rooms while connected; the number of the user's devices."""
        return await self._run(calls.move_rooms(user, join, leave))

    async def _run(self, call: Call[T]) -> T:
        attempts = Attempts(self.settings, call.wait_seconds, time.monotonic())
        while True:
            try:
                answer = await self._exchange(call, attempts.seconds_left(time.monotonic()))
                return call.read(answer, attempts.has_repeated)
            except RecadoError as error:
                pause = attempts.pause_behind(error, time.monotonic())
                if pause is None:
                    raise
            await anyio.sleep(pause)

    async def _exchange(self, call: Call[T], seconds: float) -> Answer:
        http = self._http()
        arriving = Arriving(time.monotonic() + seconds)
        try:
            with anyio.fail_after(seconds):
                request = request_of(http, self.settings, call, seconds)
                answer = await http.send(request, stream=True, follow_redirects=False)
                try:
                    # The transport of a test may have read it already.
                    if answer.is_stream_consumed:
                        arriving.take(answer.content, time.monotonic())
                    else:
                        async for part in answer.aiter_raw():
                            arriving.take(part, time.monotonic())
                finally:
                    await answer.aclose()
        except (httpx.HTTPError, httpx.StreamError, OSError) as error:
            raise Unreachable(f"{call.method} {call.path}: {type(error).__name__}") from error
        return arriving.whole(answer)

    def _http(self) -> httpx.AsyncClient:
        if self._given is not None:
            return self._given
        if self._opened is None:
            self._opened = httpx.AsyncClient()
        return self._opened
