"""The TLS door: handshakes of real clients, and the bounds of clients that make none, bad ones, or very many."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from app.transport import tls_door
from app.transport.refusals import (
    HANDSHAKE_FAILED,
    HANDSHAKE_TOO_SLOW,
    NO_TLS,
    NOTHING_SENT,
    TOO_MANY_HANDSHAKES,
    refused,
)
from app.transport.tls_door import DoorSettings, TlsDoor
from app.transport.tls_text import entry, tls_of
from tests.support.waiting import until
from tests.transport.tls import Certificate

DEADLINE_SECONDS = 30.0


class Echo(asyncio.Protocol):
    """Sends everything back. Lives as long as its connection."""

    def __init__(self, made: list[Echo]) -> None:
        self._made = made
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Is listed from here on."""
        self.transport = cast(asyncio.Transport, transport)
        self._made.append(self)

    def data_received(self, data: bytes) -> None:
        """Sends it back."""
        self.transport.write(data)


@dataclass
class Tls:
    """The certificate in use, as the door asks for it."""

    context: ssl.SSLContext
    cost_seconds: float = 0.0005


@dataclass
class Opened:
    """A door on a port of 127.0.0.1. Lives within `opened`."""

    door: TlsDoor
    port: int
    tls: Tls
    made: list[Echo]
    clients: list[socket.socket] = field(default_factory=list)

    async def connect(self, context: ssl.SSLContext | None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A client's connection, behind its handshake."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await asyncio.open_connection("127.0.0.1", self.port, ssl=context)

    def raw(self, data: bytes = b"") -> socket.socket:
        """A client's socket that has sent these bytes and does no more."""
        client = socket.create_connection(("127.0.0.1", self.port))
        self.clients.append(client)
        client.sendall(data)
        client.setblocking(False)
        return client

    async def echoes(self, context: ssl.SSLContext) -> str | None:
        """The TLS of a new connection that works."""
        reader, writer = await self.connect(context)
        async with asyncio.timeout(DEADLINE_SECONDS):
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
        text = tls_of(writer.transport)
        writer.close()
        return text


Open = Callable[..., contextlib.AbstractAsyncContextManager[Opened]]


@pytest.fixture
def open_door(certificate: Certificate) -> Open:
    """Opens doors whose certificate a client of the fixture `certificate` trusts."""

    @contextlib.asynccontextmanager
    async def opened(
        most_of_owner: int = 0, owner_of: Callable[[str], str] = str, **tls: float
    ) -> AsyncIterator[Opened]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.certificate, certificate.key)
        made: list[Echo] = []
        current = Tls(context, **tls)
        door = TlsDoor(lambda: current, DoorSettings(owner_of, most_of_owner), lambda: Echo(made))
        with socket.create_server(("127.0.0.1", 0)) as bound:
            door.listen([bound], 1000)
            one = Opened(door, bound.getsockname()[1], current, made)
            try:
                yield one
            finally:
                for client in one.clients:
                    client.close()
                door.close()
                for connection in made:
                    connection.transport.abort()
                await door.wait_closed()

    return opened


@pytest.fixture(autouse=True)
def _figures() -> Iterator[None]:
    """Begins each test with no refusal."""
    before = refused.copy()
    refused.clear()
    yield
    refused.clear()
    refused.update(before)


@pytest.fixture
def hello(certificate: Certificate) -> bytes:
    """The first message of a client that knows TLS."""
    outgoing = ssl.MemoryBIO()
    client = certificate.client_context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="127.0.0.1")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


async def ended(client: socket.socket) -> bytes:
    """Everything that the server says up to the end of a raw connection; a reset is an end too."""
    loop, said = asyncio.get_running_loop(), b""
    async with asyncio.timeout(DEADLINE_SECONDS):
        with contextlib.suppress(ConnectionResetError):
            while data := await loop.sock_recv(client, 4096):
                said += data
    return said


async def test_a_client_gets_in(open_door: Open, certificate: Certificate) -> None:
    """A client shakes hands, its bytes reach the protocol, and both sides know protocol and cipher."""
    async with open_door() as opened:
        text = await opened.echoes(certificate.client_context)
        assert text is not None
        assert text.startswith("TLSv1.3 TLS_")
        (connection,) = opened.made
        assert tls_of(connection.transport) == text
        assert list(entry(connection.transport).values()) == [text]
        assert opened.door.made == 1
        assert not refused


async def test_several_ports_and_many_clients(open_door: Open, certificate: Certificate) -> None:
    """A door serves several ports, and clients that come at once all get in."""
    context = certificate.client_context
    async with open_door() as opened:
        with socket.create_server(("127.0.0.1", 0)) as further:
            opened.door.listen([further], 100)
            ports = [opened.port, further.getsockname()[1]] * 20
            clients = [asyncio.open_connection("127.0.0.1", port, ssl=context) for port in ports]
            async with asyncio.timeout(30):
                writers = [writer for _, writer in await asyncio.gather(*clients)]
            await until(lambda: len(opened.made) == len(ports), "all connections")
            for writer in writers:
                writer.close()
            opened.door.close()


async def test_the_certificate_may_change(open_door: Open, certificate: Certificate, hello: bytes) -> None:
    """A handshake takes the certificate of its begin; earlier connections go on."""
    async with open_door() as opened:
        reader, writer = await opened.connect(certificate.client_context)
        opened.tls.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await opened.connect(certificate.client_context)
        writer.write(b"hello")
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert await reader.readexactly(5) == b"hello"
        writer.close()
        assert refused == {HANDSHAKE_FAILED: 1}


async def test_plain_http_is_told_so(open_door: Open) -> None:
    """A client that speaks plain HTTP gets 400 in words; one that speaks neither is closed."""
    async with open_door() as opened:
        said = await ended(opened.raw(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
        assert said.startswith(b"HTTP/1.1 400 ")
        assert said.endswith(b"This port speaks HTTPS.")
        await ended(opened.raw(b"\x00\x01"))
        assert refused == {NO_TLS: 2}


@pytest.mark.parametrize("data", [b"\x16\x03\x01\x00\x05hello", b"\x16" + bytes(300)])
async def test_a_bad_handshake(open_door: Open, certificate: Certificate, data: bytes) -> None:
    """Bytes that only begin like TLS end their connection, and nobody else's."""
    async with open_door() as opened:
        await ended(opened.raw(data))
        await opened.echoes(certificate.client_context)
        assert refused == {HANDSHAKE_FAILED: 1}


async def test_clients_that_leave(open_door: Open, certificate: Certificate, hello: bytes) -> None:
    """Clients that leave before their first byte, or within the handshake, leave nothing behind."""
    async with open_door(most_of_owner=3) as opened:
        for data in (b"", hello, hello[:20], b"", hello[:1]):
            opened.raw(data).close()
            await opened.echoes(certificate.client_context)
        await until(lambda: not opened.door._under_way, "the end of the handshakes")
        assert not opened.door._silent
        assert not opened.door._row._counts


async def test_a_client_that_says_nothing(open_door: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection without a byte costs a socket alone, and is closed at its deadline."""
    monkeypatch.setattr(tls_door, "FIRST_BYTE_SECONDS", 0.1)
    async with open_door() as opened:
        assert await ended(opened.raw()) == b""
        assert refused == {NOTHING_SENT: 1}
        assert not opened.door._under_way


@pytest.mark.parametrize("size", [1, 50, None])
async def test_a_slow_handshake(
    open_door: Open, hello: bytes, monkeypatch: pytest.MonkeyPatch, size: int | None
) -> None:
    """A handshake that does not end is given up at its deadline, wherever it has stopped."""
    monkeypatch.setattr(tls_door, "HANDSHAKE_SECONDS", 0.2)
    async with open_door() as opened:
        await ended(opened.raw(hello[:size]))
        assert refused == {HANDSHAKE_TOO_SLOW: 1}


async def test_one_address_has_a_share(open_door: Open, certificate: Certificate, hello: bytes) -> None:
    """Connections of one owner past its share are closed at once; a place is free again behind each end."""
    async with open_door(most_of_owner=2) as opened:
        silent = opened.raw()
        busy = opened.raw(hello)
        await until(lambda: opened.door._under_way, "a handshake")
        assert await ended(opened.raw(hello)) == b""
        assert refused == {TOO_MANY_HANDSHAKES: 1}
        silent.close()
        await until(lambda: not opened.door._silent, "the end of the silent one")
        await opened.echoes(certificate.client_context)
        busy.close()


async def test_strangers_make_room(open_door: Open, certificate: Certificate, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the number of connections without a handshake an owner with several gets no further one; for a newcomer the
    oldest that is silent is closed."""
    owners: Iterator[str] = iter(["many"] * 6 + ["new"])
    monkeypatch.setattr(tls_door, "MAX_BEFORE_HANDSHAKE", 5)
    async with open_door(owner_of=lambda _: next(owners)) as opened:
        silent = []
        for _ in range(5):
            silent.append(opened.raw())
            await until(lambda: len(opened.door._silent) == len(silent), "the door to know it")
        assert await ended(opened.raw()) == b""
        assert len(opened.door._silent) == 5
        await opened.echoes(certificate.client_context)
        assert await ended(silent[0]) == b""
        assert len(opened.door._silent) == 4
        assert refused == {TOO_MANY_HANDSHAKES: 2}


async def test_handshakes_make_room(
    open_door: Open, certificate: Certificate, hello: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Past the number of handshakes under way the oldest is given up for the next one."""
    monkeypatch.setattr(tls_door, "MAX_HANDSHAKES", 3)
    async with open_door() as opened:
        stuck = []
        for _ in range(3):
            stuck.append(opened.raw(hello))
            await until(lambda: len(opened.door._under_way) == len(stuck), "a handshake")
        await until(lambda: all(has_answer(one) for one in stuck), "the server's part of the handshakes")
        await opened.echoes(certificate.client_context)
        await ended(stuck[0])
        assert len(opened.door._under_way) <= 3
        assert refused == {TOO_MANY_HANDSHAKES: 1}


def has_answer(client: socket.socket) -> bool:
    """Whether the server has written to a raw connection."""
    with contextlib.suppress(BlockingIOError):
        return bool(client.recv(1, socket.MSG_PEEK))
    return False


async def test_a_flood_does_not_hold_others_up(open_door: Open, certificate: Certificate, hello: bytes) -> None:
    """While hundreds of handshakes of one owner wait for their turn, a client of another one gets in before them."""
    owners: Iterator[str] = iter(["flood"] * 300 + ["other"])
    # At this cost the flood takes minutes.
    async with open_door(owner_of=lambda _: next(owners), cost_seconds=0.05) as opened:
        for _ in range(300):
            opened.raw(hello)
        await until(lambda: opened.door._row.waiting > 200, "the flood to wait")
        await opened.echoes(certificate.client_context)
        assert opened.door._row.waiting > 200


async def test_no_more_files(open_door: Open, certificate: Certificate, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without a free descriptor accepts later, and does not spin meanwhile."""
    calls = 0
    accept = socket.socket.accept

    def full(self: socket.socket) -> Any:
        nonlocal calls
        calls += 1
        if calls <= 2:
            raise OSError(24, "Too many open files")
        return accept(self)

    monkeypatch.setattr(tls_door, "_FULL_SECONDS", 0.05)
    async with open_door() as opened:
        monkeypatch.setattr(socket.socket, "accept", full)
        await opened.echoes(certificate.client_context)
        assert 3 <= calls < 10


async def test_handshakes_that_have_not_begun(open_door: Open, hello: bytes) -> None:
    """A handshake that is given up before its first step leaves no socket and no count behind."""
    async with open_door(most_of_owner=5) as opened:
        client = opened.raw(hello)
        shake_hands = opened.door._loop.create_task

        def cancelled(*what: Any, **how: Any) -> asyncio.Task[Any]:
            task: asyncio.Task[Any] = shake_hands(*what, **how)
            task.cancel()
            return task

        opened.door._loop = Loop(opened.door._loop, cancelled)  # type: ignore[assignment]
        await ended(client)
        assert not opened.door._row._counts


class Loop:
    """An event loop with another way to make tasks."""

    def __init__(self, loop: asyncio.AbstractEventLoop, create_task: Callable[..., asyncio.Task[Any]]) -> None:
        self._loop = loop
        self.create_task = create_task

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


async def test_the_end_of_a_door(open_door: Open, certificate: Certificate, hello: bytes) -> None:
    """A door that closes drops what has no handshake, leaves connections alone, and accepts no more."""
    async with open_door() as opened:
        reader, writer = await opened.connect(certificate.client_context)
        waiting = [opened.raw(), opened.raw(hello)]
        await until(lambda: opened.door._under_way and opened.door._silent, "both")
        opened.door.close()
        await opened.door.wait_closed()
        for client in waiting:
            await ended(client)
        writer.write(b"hello")
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert await reader.readexactly(5) == b"hello"
        writer.close()
