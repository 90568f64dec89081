"""A device as light as possible: Socket.IO 4 over a WebSocket, with reconnects, for tests with hundreds of devices.

It reads only what it needs, acknowledges as configured, and passes received messages to its `Receipts`.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from bench.generator.frames import CLOSE, PING, PONG, TEXT, client_frame, cut_frame, upgrade_request
from tests.support.receipts import Receipts

_UPGRADE = {"EIO": "4", "transport": "websocket"}
_ACK_SUFFIX = b"[]"
#: The clients' reconnectionDelay, shortened.
RETRY_SECONDS = 0.1
_OPENING_SECONDS = 20.0


@dataclass(frozen=True)
class Identity:
    """The identity of a device: the contents of its CONNECT."""

    site: str
    token: str
    device: str


class SwarmClient:
    """One device from its creation to `leave`, over all its connections. Used on one event loop only."""

    def __init__(self, identity: Identity, node_url: Callable[[], str], receipts: Receipts) -> None:
        """`node_url` is called before each attempt to connect."""
        self.identity = identity
        self.receipts = receipts
        #: Whether `_settings` has arrived on the present connection.
        self.is_ready = False
        self.connects = 0
        #: The reason of the last refusal or failed attempt.
        self.refusal = ""
        #: Seconds from a successful attempt to `_settings`, and to the last message answered before the attempt.
        self.ready_seconds: list[float] = []
        self.complete_seconds: list[float] = []
        #: The random share of live messages that it does not acknowledge; it always acknowledges batches.
        self.unacknowledged_share = 0.0
        #: Whether it reconnects when the connection is lost.
        self.returns = True
        self._node_url = node_url
        self._chance = random.Random(identity.token)
        self._wire: Wire | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._attempt: asyncio.Task[None] | None = None
        self._began_at = 0.0
        self._is_complete = True

    def connect(self) -> None:
        """Begin to connect, with retries."""
        self._timer = None
        self._attempt = asyncio.ensure_future(self._connect())

    def cut(self, away_seconds: float) -> None:
        """Break the connection without a close frame and reconnect after this time."""
        self._drop()
        self._come_back(away_seconds)

    def leave(self) -> None:
        """Break the connection, if any, and do not reconnect."""
        self.returns = False
        self._drop()

    def pause_reading(self) -> None:
        """Stop reading from the socket."""
        assert self._wire
        self._wire.pause_reading()

    def resume_reading(self) -> None:
        """Read from the socket again."""
        assert self._wire
        self._wire.resume_reading()

    def lost(self, wire: Wire, reason: str) -> None:
        """Called by the wire: the connection has ended."""
        if wire is self._wire:
            self.refusal = reason
            self._drop()
            if self.returns:
                self._come_back(RETRY_SECONDS)

    def opened(self) -> None:
        """Called by the wire: the Engine.IO session is open."""
        assert self._wire
        identity = {"token": self.identity.token, "deviceId": self.identity.device}
        self._wire.write(f"40/{self.identity.site},{json.dumps(identity)}".encode())

    def packet_received(self, packet: bytes) -> None:
        """Called by the wire with a Socket.IO packet of the site's namespace, without
        its prefix `42/<site>,` or `44/<site>,`."""
        assert self._wire
        array_at = packet.index(b"[")
        event, *arguments = json.loads(packet[array_at:])
        ack_id = packet[:array_at]
        if event == "_settings":
            self._become_ready()
        elif event == "_batch":
            self.receipts.receive_batch(arguments[0])
        elif event == "_resync":
            self.receipts.receive_resync()
        else:
            self.receipts.receive(int(ack_id or 0), [event, *arguments])
        if ack_id and (event == "_batch" or self._chance.random() >= self.unacknowledged_share):
            self._wire.write(b"43/" + self.identity.site.encode() + b"," + ack_id + _ACK_SUFFIX)
        if not self._is_complete:
            self._check_complete()

    def _become_ready(self) -> None:
        self.is_ready = True
        self.refusal = ""
        self.connects += 1
        self.ready_seconds.append(time.monotonic() - self._began_at)
        self._is_complete = False

    def _check_complete(self) -> None:
        if self.receipts.is_past_mark():
            self._is_complete = True
            self.complete_seconds.append(time.monotonic() - self._began_at)

    async def _connect(self) -> None:
        self._began_at = time.monotonic()
        self.receipts.mark()
        self.receipts.begin_connection()
        try:
            async with asyncio.timeout(_OPENING_SECONDS):
                address = urlsplit(self._node_url())
                assert address.hostname
                assert address.port
                wire = self._wire = Wire(self, address.netloc)
                await asyncio.get_running_loop().create_connection(lambda: wire, address.hostname, address.port)
        except (OSError, TimeoutError) as error:
            self.refusal = f"no connection: {error}"
            self._wire = None
            self._come_back(RETRY_SECONDS)

    def _come_back(self, seconds: float) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self.connect)

    def _drop(self) -> None:
        self.is_ready = False
        self._is_complete = True
        for pending in (self._timer, self._attempt):
            if pending:
                pending.cancel()
        self._timer = None
        wire, self._wire = self._wire, None
        if wire:
            wire.abort()


class Wire(asyncio.Protocol):
    """One WebSocket of a device; ends with its socket."""

    def __init__(self, client: SwarmClient, host: str) -> None:
        self._client = client
        self._host = host
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._is_upgraded = False
        self._namespace = f"/{client.identity.site},".encode()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(upgrade_request(self._host, f"/socket.io/?{urlencode(_UPGRADE)}"))

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        start = 0
        if not self._is_upgraded:
            start = data.find(b"\r\n\r\n") + 4
            if start < 4:
                self._rest = data
                return
            if not data.startswith(b"HTTP/1.1 101"):
                self._end(f"upgrade refused: {data[:100]!r}")
                return
            self._is_upgraded = True
        begin, end = cut_frame(data, start)
        while end:
            self._read(data[start] & 0xF, data[begin:end])
            start = end
            begin, end = cut_frame(data, start)
        self._rest = data[start:]

    def connection_lost(self, exception: Exception | None) -> None:
        self._client.lost(self, f"connection lost: {exception}")

    def write(self, packet: bytes, opcode: int = TEXT) -> None:
        assert self._transport
        self._transport.write(client_frame(packet, opcode))

    def pause_reading(self) -> None:
        assert self._transport
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        assert self._transport
        self._transport.resume_reading()

    def abort(self) -> None:
        if self._transport:
            self._transport.abort()

    def _read(self, opcode: int, packet: bytes) -> None:
        if opcode == CLOSE:
            self._end(f"closed: {packet!r}")
        elif opcode == PING:
            self.write(packet, PONG)
        elif packet.startswith(b"42" + self._namespace):
            self._client.packet_received(packet[2 + len(self._namespace) :])
        elif packet == b"2":
            self.write(b"3")
        elif packet.startswith(b"0"):
            self._client.opened()
        elif packet.startswith((b"44", b"41", b"1")):
            self._end(f"refused or told to leave: {packet!r}")

    def _end(self, reason: str) -> None:
        self._client.lost(self, reason)
        self.abort()
