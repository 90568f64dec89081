"""The parts of the balancer and the TCP proxy: the bytes of a peer, and a connection passed on in both directions."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

READ_BYTES = 256 * 1024


class Peer:
    """One end of a TCP connection with its received bytes that are not taken yet. `abort` or the other side ends it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Begin with nothing received."""
        self.received = bytearray()
        self.has_ended = False
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, host: str, port: int) -> Peer:
        """Connect to a server. Raises OSError."""
        return cls(*await asyncio.open_connection(host, port))

    async def fill(self) -> bool:
        """Wait for more bytes; False at the end of the data. Raises OSError when the peer vanished."""
        data = await self._reader.read(READ_BYTES)
        self.received += data
        self.has_ended = not data
        return bool(data)

    def take(self, count: int | None = None) -> bytes:
        """Take the first `count` received bytes, or all of them."""
        count = len(self.received) if count is None else count
        data = bytes(self.received[:count])
        del self.received[:count]
        return data

    async def write(self, data: bytes) -> None:
        """Send bytes; wait while the peer is slow."""
        self._writer.write(data)
        await self._writer.drain()

    def end_writing(self) -> None:
        """Tell the peer that no more bytes follow."""
        with contextlib.suppress(OSError):
            self._writer.write_eof()

    async def close(self) -> None:
        """Close after the written bytes; return when they have been sent."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    def abort(self) -> None:
        """Close at once, as a crash does."""
        self._writer.transport.abort()


async def stop_listening(server: asyncio.Server) -> None:
    """Accept no more connections, then close: asyncio never closes a connection
    that is between the two at that moment."""
    for listening in server.sockets:
        asyncio.get_running_loop().remove_reader(listening.fileno())
    # A socket accepted in this turn becomes a connection in the next turn, and
    # its callback runs in the turn after that.
    for _ in range(3):
        await asyncio.sleep(0)
    server.close()


async def splice(one: Peer, other: Peer, pace: Callable[[], Awaitable[None]] | None = None) -> None:
    """Pass bytes in both directions until both have ended or one has vanished; `pace`
    is awaited before each piece is sent."""
    ways = [asyncio.create_task(_pass(one, other, pace)), asyncio.create_task(_pass(other, one, pace))]
    try:
        await asyncio.gather(*ways)
        await asyncio.gather(one.close(), other.close())
    except BaseException as error:
        one.abort()
        other.abort()
        if not isinstance(error, OSError):
            raise
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


async def _pass(source: Peer, target: Peer, pace: Callable[[], Awaitable[None]] | None) -> None:
    while source.received or (not source.has_ended and await source.fill()):
        if pace:
            await pace()
        await target.write(source.take())
    target.end_writing()
