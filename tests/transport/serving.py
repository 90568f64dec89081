"""uvicorn with our protocol classes in the test's own loop, and a peer that sends any bytes, right or wrong."""

import asyncio
import contextlib
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any, cast

import uvicorn

from app.transport.http import HttpProtocol
from app.transport.websocket import EXTENSION, WebSocketConnection, WebSocketProtocol
from tests.support.waiting import until

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

DEADLINE_SECONDS = 30.0
MASK = b"\x11\x82\x53\xa4"

TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10


class Served:
    """A running uvicorn; ends with `serving`."""

    def __init__(self, server: uvicorn.Server) -> None:
        self.server = server
        self.port: int = server.servers[0].sockets[0].getsockname()[1]
        self._peers: list[Peer] = []

    @property
    def connections(self) -> set[Any]:
        """The connections uvicorn counts."""
        return self.server.server_state.connections

    @property
    def unanswered(self) -> list[WebSocketProtocol]:
        """The upgrade requests that have no answer yet."""
        return [connection for connection in self.connections if isinstance(connection, WebSocketProtocol)]

    async def socket(self, context: ssl.SSLContext | None = None) -> "Peer":
        """Return a peer that has sent nothing yet."""
        peer = Peer(*await asyncio.open_connection("127.0.0.1", self.port, ssl=context))
        self._peers.append(peer)
        return peer

    async def peer(self, path: str = "/", *, context: ssl.SSLContext | None = None, **options: Any) -> "Peer":
        """Return a peer whose upgrade request was accepted."""
        peer = await self.socket(context)
        peer.request(path, **options)
        status, _ = await peer.response()
        assert status == 101
        return peer

    async def close_peers(self) -> None:
        """Close the peers that a test has left open."""
        for peer in self._peers:
            # Aborted, so that unsent bytes of a peer are not waited for.
            cast(asyncio.Transport, peer.writer.transport).abort()
            with contextlib.suppress(OSError):
                await peer.writer.wait_closed()


@contextlib.asynccontextmanager
async def serving(application: Application, **settings: Any) -> AsyncIterator[Served]:
    """Serve the application on a free port of 127.0.0.1 for the length of a `with`."""
    config = uvicorn.Config(
        application,
        **{
            "host": "127.0.0.1",
            "port": 0,
            "http": HttpProtocol,
            "ws": WebSocketProtocol,
            "lifespan": "off",
            "log_config": None,
            "timeout_graceful_shutdown": 4,
            **settings,
        },
    )
    server = uvicorn.Server(config)
    # Not serve(): it would take the process's signal handlers.
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    await server.on_tick(0)
    served = Served(server)
    try:
        yield served
    finally:
        # Connections that a test has left open. server.shutdown() would close them too, in a tenth of a second.
        for listening in server.servers:
            listening.close()
        for connection in list(served.connections):
            if isinstance(connection, WebSocketConnection | WebSocketProtocol):
                connection._transport.abort()
        await served.close_peers()
        await until(lambda: not served.connections, "the end of all connections")


class Recorder:
    """A listener on the fast lane that remembers; one per connection."""

    def __init__(self) -> None:
        self.connection: WebSocketConnection
        self.received: list[bytes | tuple[str, bytes]] = []
        self.resumed_count = 0
        self.pong_count = 0
        self.lost: list[tuple[int, str]] = []
        self.on_text: Callable[[bytes], None] = lambda _payload: None

    def text_received(self, payload: bytes) -> None:
        """Remember a text message."""
        self.received.append(payload)
        self.on_text(payload)

    def binary_received(self, payload: bytes) -> None:
        """Remember a binary message."""
        self.received.append(("binary", payload))

    def pong_received(self) -> None:
        """Count."""
        self.pong_count += 1

    def writing_resumed(self) -> None:
        """Count."""
        self.resumed_count += 1

    def connection_lost(self, code: int, reason: str) -> None:
        """Remember the end."""
        self.lost.append((code, reason))

    async def until_received(self, count: int) -> list[bytes | tuple[str, bytes]]:
        """Return the received messages once there are `count`."""
        await until(lambda: len(self.received) >= count, f"{count} messages")
        return self.received

    async def until_lost(self) -> tuple[int, str]:
        """Return code and reason of the end, which must have come once."""
        await until(lambda: bool(self.lost), "connection_lost")
        await asyncio.sleep(0)
        assert len(self.lost) == 1
        return self.lost[0]


class FastLane:
    """An application that accepts on the fast lane and returns; keeps its recorders in order of their connecting."""

    def __init__(self, max_message_bytes: int = 1 << 20, max_outbox_bytes: int = 1 << 20) -> None:
        self.max_message_bytes = max_message_bytes
        self.max_outbox_bytes = max_outbox_bytes
        self.recorders: list[Recorder] = []

    async def __call__(self, scope: Message, _receive: Receive, _send: Send) -> None:
        recorder = Recorder()
        recorder.connection = scope["extensions"][EXTENSION]["connection"]
        recorder.connection.accept(
            recorder, max_message_bytes=self.max_message_bytes, max_outbox_bytes=self.max_outbox_bytes
        )
        self.recorders.append(recorder)


async def echo(_scope: Message, receive: Receive, send: Send) -> None:
    """Send back every message: an application that knows ASGI only."""
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


def client_frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, masked: bool = True) -> bytes:
    """Return a frame as a client sends it, or as it must not."""
    size = len(payload)
    mask_bit = 0x80 if masked else 0
    head = bytes([fin << 7 | rsv << 4 | opcode])
    if size < 126:
        head += bytes([mask_bit | size])
    elif size < 1 << 16:
        head += struct.pack("!BH", mask_bit | 126, size)
    else:
        head += struct.pack("!BQ", mask_bit | 127, size)
    if not masked:
        return head + payload
    stream = (MASK * (size // 4 + 1))[:size]
    masked_payload = (int.from_bytes(payload, "big") ^ int.from_bytes(stream, "big")).to_bytes(size, "big")
    return head + MASK + masked_payload


def close_payload(code: int, reason: str = "") -> bytes:
    """Return the payload of a close frame."""
    return struct.pack("!H", code) + reason.encode()


class Peer:
    """A client that speaks bytes; ends with its socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def request(self, path: str = "/", *, without: str = "", behind: bytes = b"", **headers: str) -> None:
        """Send an upgrade request; `headers` replace or add (underscores for hyphens), `behind` follows at once."""
        lines = {
            "host": "localhost",
            "connection": "Upgrade",
            "upgrade": "websocket",
            "sec-websocket-version": "13",
            "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        lines.pop(without, None)
        text = f"GET {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self.writer.write(text.encode() + b"\r\n" + behind)

    async def response(self) -> tuple[int, dict[str, str]]:
        """Return status and headers of the answer."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        status_line, *lines = head.strip().split("\r\n")
        return int(status_line.split()[1]), dict(line.lower().split(": ", 1) for line in lines)

    def send(self, opcode: int, payload: bytes = b"", **options: Any) -> None:
        """Send one frame; options as of `client_frame`."""
        self.writer.write(client_frame(opcode, payload, **options))

    async def frame(self) -> tuple[int, bytes]:
        """Return opcode and payload of the server's next frame, which must be whole and unmasked."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            first, size = await self.reader.readexactly(2)
            assert first & 0xF0 == 0x80, "FIN and no reserved bit"
            if size == 126:
                size = int.from_bytes(await self.reader.readexactly(2), "big")
            elif size == 127:
                size = int.from_bytes(await self.reader.readexactly(8), "big")
            return first & 0x0F, await self.reader.readexactly(size)

    async def end(self) -> bytes:
        """Return the last bytes of the server, up to the end of the socket."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await self.reader.read()

    async def closing(self) -> tuple[int, str]:
        """Return code and reason of the server's close frame, behind which the socket must end."""
        opcode, payload = await self.frame()
        assert opcode == CLOSE, f"not a close frame but {opcode}: {payload[:50]!r}"
        if self.writer.get_extra_info("ssl_object") is None:
            assert await self.end() == b""
        self.close()
        return (int.from_bytes(payload[:2], "big"), payload[2:].decode()) if payload else (1005, "")

    def pause_reading(self) -> None:
        """Leave everything in the kernel, as a peer that has stopped reading."""
        cast(asyncio.Transport, self.writer.transport).pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        cast(asyncio.Transport, self.writer.transport).resume_reading()

    def close(self) -> None:
        """Close the socket without a word."""
        self.writer.close()
