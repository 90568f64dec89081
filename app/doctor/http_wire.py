"""One HTTP request over a connection of its own, as the doctor makes it: it sees each header, and when bytes arrive.

Nothing is kept alive, no redirect is followed. Every read has a bound; the caller sets the deadline.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httptools
from msgspec import Struct

from app.doctor.target import ProbeTarget

#: The bytes of an answer that are read.
MAX_PAGE_BYTES = 262_144
_READ_BYTES = 16_384


class ProbeError(Exception):
    """The peer has not answered in HTTP, or has closed the connection. The text is for the person who asks."""


class ProbeAnswer(Struct, frozen=True):
    """An answer. Its headers are in their order, names in lower case."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str:
        """The value of a header, the first one; "" without one."""
        return next((value for given, value in self.headers if given == name), "")

    def values(self, name: str) -> list[str]:
        """Each value of a header."""
        return [value for given, value in self.headers if given == name]


class _AnswerParts:
    """The parts of an answer as httptools reads them. Lives as long as the request."""

    def __init__(self) -> None:
        self.headers: list[tuple[str, str]] = []
        self.body = bytearray()
        self.has_head = False
        self.is_whole = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser."""
        self.headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        self.has_head = True

    def on_body(self, piece: bytes) -> None:
        """Called by the parser."""
        self.body += piece

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self.is_whole = True


class ProbeExchange:
    """A request under way. Lives in the `with` of `begun`."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._answer = _AnswerParts()
        self._parser: Any = httptools.HttpResponseParser(self._answer)
        self._received = 0

    async def head(self) -> ProbeAnswer:
        """Waits for the head; the page has no body yet. Raises ProbeError, OSError."""
        while not self._answer.has_head:
            await self._read()
        return self._page()

    async def first_bytes(self) -> bytes:
        """Waits for the first bytes of the body; b"": the body is over. Raises ProbeError, OSError."""
        while not self._answer.body and not self._answer.is_whole:
            await self._read()
        return bytes(self._answer.body)

    async def page(self) -> ProbeAnswer:
        """Waits for the whole answer. Raises ProbeError, OSError."""
        while not self._answer.is_whole:
            await self._read()
        return self._page()

    def _page(self) -> ProbeAnswer:
        return ProbeAnswer(self._parser.get_status_code(), self._answer.headers, bytes(self._answer.body))

    async def _read(self) -> None:
        data = await self._reader.read(_READ_BYTES)
        self._received += len(data)
        if self._received > MAX_PAGE_BYTES:
            raise ProbeError("the answer is longer than one of Recado")
        if not data:
            self._end()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._answer.is_whole = True
        except httptools.HttpParserError:
            raise ProbeError("the answer is no HTTP") from None

    def _end(self) -> None:
        """The peer has closed: the end of an answer without a length, and else a cut."""
        names = {name for name, _ in self._answer.headers}
        if not self._answer.has_head or names & {"content-length", "transfer-encoding"}:
            raise ProbeError("the connection was closed before the answer")
        self._answer.is_whole = True


@asynccontextmanager
async def begun(
    target: ProbeTarget, line: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
) -> AsyncIterator[ProbeExchange]:
    """Sends a request: `line` is its method and its path below the prefix. Raises OSError."""
    method, _, path = line.partition(" ")
    fields = {"Host": target.authority, "User-Agent": "recado-doctor", "Connection": "close", **(headers or {})}
    if body is not None:
        fields["Content-Length"] = str(len(body))
    head = [f"{method} {target.prefix}{path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    reader, writer = await asyncio.open_connection(target.host, target.port, ssl=target.tls)
    try:
        writer.write("\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + (body or b""))
        yield ProbeExchange(reader)
    finally:
        # Without a wait for the close of TLS, which the peer may never answer.
        with contextlib.suppress(OSError):
            writer.transport.abort()


async def fetch(
    target: ProbeTarget, line: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
) -> ProbeAnswer:
    """The whole answer to a request. Raises ProbeError, OSError."""
    async with begun(target, line, headers, body) as exchange:
        return await exchange.page()
