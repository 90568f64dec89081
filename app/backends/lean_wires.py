"""`LeanWires`: connections to one place over HTTP/1.1, kept for a while when they are idle."""

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from functools import lru_cache
from time import monotonic

import httpx
from msgspec import Struct

from app.backends import exchange
from app.backends.exchange import BackendError, Header
from app.backends.lean_wire import LeanWire, WireAnswer

#: An address that does not answer has this long, where the host has another one.
_ADDRESS_SECONDS = 3.0
_MAX_ADDRESSES = 8
_PORTS = {"http": 80, "https": 443}

NewWire = Callable[[], LeanWire]


class Origin(Struct, frozen=True):
    """Where a connection leads."""

    host: str
    port: int
    is_tls: bool


class LeanWires:
    """The connections to one place. Lives until `close`."""

    def __init__(
        self, connect: Callable[[], Awaitable[LeanWire]], keepalive_seconds: float = exchange.KEEPALIVE_SECONDS
    ) -> None:
        """`connect` makes one more."""
        self._connect = connect
        self._keepalive_seconds = keepalive_seconds
        self._all: set[LeanWire] = set()
        #: The latest one is used first, so that the others can expire.
        self._idle: deque[LeanWire] = deque()
        self._is_closed = False

    async def ask(self, request: bytes, may_repeat: bool) -> WireAnswer:
        """Sends a whole request and reads its answer. With `may_repeat` a second try is allowed.

        Raises BackendError, and what `connect` raises. Has no time-out: the caller cancels it.
        """
        wire = self.take()
        if wire is not None:
            try:
                return await self._ask(wire, request)
            except BackendError:
                # The other side may have closed the idle connection at this moment.
                if wire.has_read or not may_repeat:
                    raise
        return await self._ask(await self._make(), request)

    async def open(self) -> LeanWire:
        """A connection for one exchange of the caller's own, behind which it calls `keep` or `drop`."""
        return self.take() or await self._make()

    def keep(self, wire: LeanWire) -> None:
        """Keeps a connection whose exchange has ended, if it is open."""
        if self._is_closed or not wire.is_open:
            self.drop(wire)
            return
        wire.idle_since = now = monotonic()
        self._idle.append(wire)
        while self._idle[0].idle_since < now - self._keepalive_seconds:
            self.drop(self._idle.popleft())

    def drop(self, wire: LeanWire) -> None:
        """Closes a connection at once."""
        self._all.discard(wire)
        wire.close()

    def close(self) -> None:
        """Closes every connection: an exchange under way fails."""
        self._is_closed = True
        self._idle.clear()
        while self._all:
            self._all.pop().close()

    def take(self) -> LeanWire | None:
        """A connection that is idle, for one exchange of the caller's own; see `open`."""
        while self._idle:
            wire = self._idle.pop()
            if wire.is_open:
                return wire
            self.drop(wire)
        return None

    async def _make(self) -> LeanWire:
        wire = await self._connect()
        self._all.add(wire)
        if self._is_closed:
            self.drop(wire)
        return wire

    async def _ask(self, wire: LeanWire, request: bytes) -> WireAnswer:
        try:
            answer = await wire.ask(request)
        except BaseException:
            self.drop(wire)
            raise
        self.keep(wire)
        return answer


class Addresses:
    """The addresses of a place. Its name is looked up once at a time, for all that wait: a look-up holds one of the few
    threads that all sites share, also when its callers have given up. Lives as long as the connections there."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self._under_way: asyncio.Task[list[str]] | None = None

    async def find(self) -> list[str]:
        """The addresses now. Raises OSError, UnicodeError."""
        if self._under_way is None:
            self._under_way = asyncio.create_task(self._look_up())
            self._under_way.add_done_callback(self._end)
        return [*await asyncio.shield(self._under_way)]

    async def _look_up(self) -> list[str]:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(self.origin.host, self.origin.port, type=socket.SOCK_STREAM)
        return [str(one[4][0]) for one in found[:_MAX_ADDRESSES]]

    def _end(self, task: "asyncio.Task[list[str]]") -> None:
        self._under_way = None
        if not task.cancelled():
            # Its callers may all have given up.
            task.exception()


async def connect(place: Addresses, make: NewWire, context: ssl.SSLContext) -> LeanWire:
    """A new connection, over TLS with `context` where the origin has it. Raises OSError, UnicodeError."""
    loop, origin = asyncio.get_running_loop(), place.origin
    addresses = await place.find()
    tls, name = (context, origin.host) if origin.is_tls else (None, None)
    while True:
        address = addresses.pop(0)
        try:
            async with asyncio.timeout(_ADDRESS_SECONDS if addresses else None):
                making = loop.create_connection(make, address, origin.port, ssl=tls, server_hostname=name)
                return (await making)[1]
        except OSError:
            if not addresses:
                raise


@lru_cache(maxsize=1024)
def parse(url: str) -> tuple[Origin, bytes, bytes]:
    """Where a URL leads, the target of a request, and its header Host. Raises httpx.InvalidURL."""
    parsed = httpx.URL(url)
    port = parsed.port or _PORTS.get(parsed.scheme, 0)
    if not parsed.raw_host or parsed.scheme not in _PORTS or not 0 < port < 65_536:
        raise httpx.InvalidURL("expected http or https, a host, and a port")
    return Origin(parsed.raw_host.decode(), port, parsed.scheme == "https"), parsed.raw_path, parsed.netloc


def head_of(method: bytes, target: bytes, headers: list[Header]) -> bytes:
    """The head of a request."""
    lines = [b"%b %b HTTP/1.1" % (method, target), *[b"%b: %b" % header for header in headers], b"", b""]
    return b"\r\n".join(lines)
