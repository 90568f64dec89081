"""A server whose answers a test decides, and a relay in front of a real Valkey that can go silent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

from app.redis.address import Address
from tests.support.valkey import Valkey
from tests.support.waiting import until


class Served(asyncio.Protocol):
    """One accepted connection; lives until either side ends it."""

    def __init__(self, server: FakeRedis) -> None:
        """From asyncio."""
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """From asyncio."""
        self.transport = cast(asyncio.Transport, transport)
        self._server.accepted.append(self)
        self._server.opened.add(self)

    def data_received(self, data: bytes) -> None:
        """From asyncio."""
        self._server.answer(self, data)

    def connection_lost(self, error: Exception | None) -> None:
        """From asyncio."""
        self._server.opened.discard(self)


class FakeRedis:
    """Lives within `fake_redis`."""

    def __init__(self, answer: Callable[[Served, bytes], None]) -> None:
        """`answer` is called with the bytes of each read; it writes to the connection's transport or closes it."""
        self.answer = answer
        #: All connections ever, in order; and the open ones.
        self.accepted: list[Served] = []
        self.opened: set[Served] = set()


@asynccontextmanager
async def fake_redis(
    path: Path, answer: Callable[[Served, bytes], None], name: str = "s"
) -> AsyncIterator[tuple[FakeRedis, Address]]:
    """A server on a socket of this name in the directory; it ends with its connections after the block."""
    fake = FakeRedis(answer)
    loop = asyncio.get_running_loop()
    server = await loop.create_unix_server(lambda: Served(fake), path / name)
    async with server:
        yield fake, Address(path=str(path / name))
        for served in list(fake.opened):
            served.transport.abort()
        await until(lambda: not fake.opened, "the connections to end")


class Relay(asyncio.Protocol):
    """The way from Valkey back to one client."""

    def __init__(self, served: Served) -> None:
        """From asyncio."""
        self._served = served
        self.is_silent = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """From asyncio."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """From asyncio."""
        if not self.is_silent:
            self._served.transport.write(data)


class RelayedRedis:
    """Passes everything on to a real Valkey; lives within `relayed_redis`."""

    def __init__(self, valkey: Valkey) -> None:
        """Nothing connected yet."""
        self._valkey = valkey
        self._ways: dict[Served, Relay | None] = {}
        self._early: dict[Served, bytes] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def answer(self, served: Served, data: bytes) -> None:
        """Pass on the bytes of a client."""
        way = self._ways.get(served)
        if way:
            way.transport.write(data)
            return
        self._early[served] = self._early.get(served, b"") + data
        if served not in self._ways:
            self._ways[served] = None
            task = asyncio.ensure_future(self._connect(served))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def silence(self, served: Served) -> None:
        """This client hears nothing any more."""
        way = self._ways[served]
        assert way
        way.is_silent = True

    def close(self) -> None:
        """End the connections to Valkey."""
        for way in self._ways.values():
            if way:
                way.transport.abort()

    async def _connect(self, served: Served) -> None:
        loop = asyncio.get_running_loop()
        _, way = await loop.create_unix_connection(lambda: Relay(served), str(self._valkey.socket))
        self._ways[served] = way
        way.transport.write(self._early.pop(served))


@asynccontextmanager
async def relayed_redis(path: Path, valkey: Valkey) -> AsyncIterator[tuple[RelayedRedis, FakeRedis, Address]]:
    """A way to Valkey on a socket in the directory."""
    relayed = RelayedRedis(valkey)
    async with fake_redis(path, relayed.answer) as (fake, address):
        try:
            yield relayed, fake, address
        finally:
            relayed.close()
