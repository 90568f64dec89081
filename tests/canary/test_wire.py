"""The canary's own HTTP and WebSocket: over TCP and TLS, within bounds, and never past a peer that misbehaves."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app.canary.wire import MAX_ANSWER_BYTES, OwnPort, Wire, WireError
from tests.transport.tls import make_certificate

_UPGRADED = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def wire_to(serve: Serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[Wire]:
    """A connection to a peer that behaves like this."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    client_tls = None
    if tls is not None:
        client_tls = ssl.create_default_context()
        client_tls.check_hostname, client_tls.verify_mode = False, ssl.CERT_NONE
    wire = await Wire.open(OwnPort("127.0.0.1", server.sockets[0].getsockname()[1], client_tls))
    try:
        yield wire
    finally:
        wire.close()
        server.close()


def answering(answer: bytes) -> Serve:
    """A peer that answers a request with these bytes and closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    return serve


@pytest.mark.parametrize("has_tls", [False, True], ids=["tcp", "tls"])
async def test_a_request_and_its_answer(has_tls: bool, tmp_path: Path) -> None:
    """Status, headers and body are read, behind TLS too, whatever name the certificate has."""
    tls = None
    if has_tls:
        made = make_certificate(tmp_path)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(made.certificate, made.key)
    async with wire_to(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"), tls) as wire:
        head = await wire.request("POST /send", {}, b"x")
        assert (head.status, await wire.body(head)) == (200, b"{}")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "no answer"),
        (b"HTTP/1.1 2", "no answer"),
        (b"x" * 40_000, "no answer"),
        (b"SSH-2.0\r\n\r\n", "no HTTP"),
        (b"HTTP/1.1 \xc2\xb200 x\r\n\r\n", "no HTTP"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n", "length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", "closed"),
    ],
)
async def test_a_wrong_answer(answer: bytes, reason: str) -> None:
    """Anything but an answer of a known length is an error with its reason."""
    async with wire_to(answering(answer)) as wire:
        with pytest.raises(WireError, match=reason):
            await wire.body(await wire.request("GET /", {}))


async def test_texts_of_any_length() -> None:
    """Texts are read whole, also long ones; a ping is answered and is no text."""
    texts = ["", "short", "m" * 300, "l" * 70_000]
    frames = b"\x89\x01p" + b"\x81\x00\x81\x05short\x81\x7e\x01\x2c" + b"m" * 300
    frames += b"\x81\x7f" + (70_000).to_bytes(8, "big") + b"l" * 70_000
    async with wire_to(answering(_UPGRADED + frames)) as wire:
        await wire.upgrade("/")
        assert [await wire.read_text() for _ in texts] == texts
        with pytest.raises(WireError, match="closed"):
            await wire.read_text()


@pytest.mark.parametrize(
    "frames",
    [b"\x88\x00", b"\x01\x01a", b"\x82\x01a", b"\x81\x7f" + (MAX_ANSWER_BYTES + 1).to_bytes(8, "big")],
    ids=["close", "fragment", "binary", "too long"],
)
async def test_other_frames_end_it(frames: bytes) -> None:
    """A close, and a frame that this server never writes, end the session."""
    async with wire_to(answering(_UPGRADED + frames)) as wire:
        await wire.upgrade("/")
        with pytest.raises(WireError):
            await wire.read_text()


async def test_a_refused_upgrade() -> None:
    """A server that drains answers 503: no session."""
    async with wire_to(answering(b"HTTP/1.1 503 x\r\n\r\n")) as wire:
        with pytest.raises(WireError, match="answered 503"):
            await wire.upgrade("/")


def test_an_address_of_version_6_has_brackets() -> None:
    """The header Host has an IPv6 address in brackets."""
    assert OwnPort("::1", 80).authority == "[::1]:80"
    assert OwnPort("127.0.0.1", 80).authority == "127.0.0.1:80"
