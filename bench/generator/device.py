"""One device: an Engine.IO 3 or 4 client over a raw WebSocket, from upgrade request to acknowledgements."""

from __future__ import annotations

import contextlib
import enum
import json
import os
import socket
import ssl
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlencode

from bench.generator.frames import CLOSE, PING, PONG, TEXT, client_frame, cut_frame, upgrade_request
from bench.generator.poller import GeneratorError, Poller
from bench.generator.security import secured

_READ_BYTES = 16384
_PONG_4 = client_frame(b"3")


class State(enum.Enum):
    """The progress of a device; it only moves forward."""

    SECURING = enum.auto()  # the TLS handshake is not over
    UPGRADING = enum.auto()  # the upgrade request is out
    OPENING = enum.auto()  # 101 received, waiting for the Engine.IO handshake
    JOINING = enum.auto()  # CONNECT sent, waiting for `_settings`
    READY = enum.auto()  # `_settings` received
    CLOSED = enum.auto()  # the socket is gone


class Recorder(Protocol):
    """The listener for everything that devices receive. One per generator; its methods are on the hot path."""

    def ready(self, device: Device) -> None:
        """`device` received `_settings`."""

    def message(self, device: Device, payload: bytes, arguments_at: int) -> None:
        """`device` received the event `message`, whose first argument begins at `arguments_at` of `payload`."""

    def batch(self, device: Device, payload: bytes) -> None:
        """`device` received `_batch`; it is acknowledged already."""

    def lost(self, device: Device, reason: str) -> None:
        """`device` was refused or closed by the server."""


@dataclass(frozen=True)
class Target:
    """The address that devices connect to: one per command of the generator."""

    address: tuple[str, int]
    namespace: str
    engine_version: int
    acknowledges: bool
    # Not a device but a subscriber of this channel of the site, over a plain WebSocket.
    channel: str = ""
    is_tls: bool = False


class Device:
    """One device. Lives from `connect()` to `close()`, which the generator calls for each device that it made."""

    __slots__ = (
        "_poller",
        "_prefix",
        "_recorder",
        "_rest",
        "_sock",
        "_state",
        "descriptor",
        "number",
        "received",
        "rooms",
        "target",
    )

    def __init__(self, number: int, rooms: list[str], target: Target, poller: Poller, recorder: Recorder) -> None:
        self.number = number
        self.rooms = rooms
        self.target = target
        self.received = 0
        self.descriptor = -1
        self._poller = poller
        self._recorder = recorder
        self._state = State.CLOSED
        self._rest = b""
        self._sock: socket.socket | None = None
        self._prefix = f"42/{target.namespace},".encode()

    @property
    def token(self) -> str:
        """The token that the tenant backend turns back into this device's rooms."""
        return "~".join(self.rooms)

    @property
    def _identity(self) -> dict[str, str]:
        return {"token": self.token, "deviceId": f"device{self.number}"}

    @property
    def _path(self) -> str:
        return f"/socket.io/?{urlencode({'EIO': self.target.engine_version, 'transport': 'websocket'})}"

    @property
    def is_ready(self) -> bool:
        """True once `_settings` has arrived."""
        return self._state is State.READY

    def connect(self, source_address: str, receive_buffer_bytes: int | None = None) -> None:
        """Open the socket and send the upgrade request; `Recorder.ready` or `Recorder.lost` follows."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receive_buffer_bytes is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        # Several source addresses: 10,000 connections, and the closed ones before them, need more ports than one has.
        sock.setsockopt(socket.IPPROTO_IP, getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24), 1)
        sock.bind((source_address, 0))
        sock.settimeout(30)
        sock.connect(self.target.address)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        self.descriptor, self._rest, self.received = sock.fileno(), b"", 0
        if self.target.is_tls:
            self._sock = tls = secured(sock)
            self._state = State.SECURING
            self._poller.add(self.descriptor, lambda: self._readable_over_tls(tls), tls.send)
            self._readable_over_tls(tls)
        else:
            self._sock = sock
            self._poller.add(self.descriptor, self._readable)
            self._upgrade(sock)

    def close(self) -> None:
        """Close the socket without a goodbye."""
        if self._sock is None:
            return
        self._poller.remove(self.descriptor)
        self._sock.close()
        self._sock, self._state = None, State.CLOSED

    def pause(self) -> None:
        """Stop reading for good."""
        self._poller.pause(self.descriptor)

    def write(self, packet: bytes) -> None:
        """Send one Engine.IO packet at the end of this turn."""
        self._poller.write_later(self.descriptor, client_frame(packet))

    def _readable(self) -> None:
        data = b""
        with contextlib.suppress(ConnectionError):
            data = os.read(self.descriptor, _READ_BYTES)
        self._receive(data)

    def _readable_over_tls(self, tls: ssl.SSLSocket) -> None:
        """Go on with the handshake, or read; epoll tells again while records are left, as none is above the read."""
        data = b""
        try:
            if self._state is State.SECURING:
                tls.do_handshake()
                self._upgrade(tls)
                return
            data = tls.recv(_READ_BYTES)
        except ssl.SSLWantReadError:
            return
        except OSError:
            pass
        self._receive(data)

    def _upgrade(self, sock: socket.socket) -> None:
        host, port = self.target.address
        sock.sendall(upgrade_request(f"{host}:{port}", self._path))
        self._state = State.UPGRADING

    def _receive(self, data: bytes) -> None:
        if not data:
            self._lose("closed by the server")
            return
        if self._rest:
            data = self._rest + data
        start = 0
        if self._state is State.UPGRADING:
            start = data.find(b"\r\n\r\n") + 4
            if start < 4:
                self._rest = data
                return
            self._check_upgrade(data)
        begin, end = cut_frame(data, start)
        while end:
            self._read_frame(data[start] & 0xF, data[begin:end])
            start = end
            begin, end = cut_frame(data, start)
        self._rest = data[start:]

    def _check_upgrade(self, answer: bytes) -> None:
        if not answer.startswith(b"HTTP/1.1 101"):
            raise GeneratorError(f"upgrade refused: {answer[:200]!r}")
        self._state = State.OPENING

    def _read_frame(self, opcode: int, packet: bytes) -> None:
        if opcode != TEXT:
            self._read_control_frame(opcode, packet)
        elif packet.startswith(self._prefix):
            self._read_event(packet)
        elif packet == b"2":
            self._poller.write_later(self.descriptor, _PONG_4)
        elif packet.startswith(b"0"):
            self._join()
        elif packet.startswith(b"44"):
            self._lose(f"refused: {packet!r}")

    def _read_control_frame(self, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            self._poller.write_later(self.descriptor, client_frame(payload, PONG))
        elif opcode == CLOSE:
            self._lose(f"close frame {payload!r}")

    def _join(self) -> None:
        self._state = State.JOINING
        identity = self._identity
        if self.target.engine_version == 3:
            self.write(f"40/{self.target.namespace}?{urlencode(identity)},".encode())
        else:
            self.write(f"40/{self.target.namespace},{json.dumps(identity)}".encode())

    def ping(self) -> None:
        """Send the ping that an Engine.IO 3 client owes the server."""
        self.write(b"2")

    def _read_event(self, packet: bytes) -> None:
        id_at = len(self._prefix)
        array_at = packet.index(b"[", id_at)
        if packet.startswith(b'["message",', array_at):
            self._recorder.message(self, packet, array_at + 11)
        elif packet.startswith(b'["_settings"', array_at):
            self._state = State.READY
            self._recorder.ready(self)
        elif packet.startswith(b'["_batch"', array_at):
            self._recorder.batch(self, packet)
        if array_at > id_at and self.target.acknowledges:
            # The acknowledgement of a socket.io-client whose callback is called without arguments.
            self.write(b"43" + packet[2:array_at] + b"[]")

    def _lose(self, reason: str) -> None:
        self.close()
        self._recorder.lost(self, reason)
