"""A device whose connections are cut: it comes back as the same one, and presents what socket.io-client presents."""

from __future__ import annotations

import contextlib
import json
import socket
import struct

from bench.generator.device import Device, Recorder, State, Target
from bench.generator.frames import TEXT
from bench.generator.poller import Poller

# SO_LINGER on, with no time: the close sends a reset, and drops what is in the buffers.
_RESET = struct.pack("ii", 1, 0)


class Roamer(Device):
    """A device, which lives as long; between `cut` and the next `connect` it has no connection."""

    __slots__ = ("_left", "_offset", "_session", "is_recovered")

    def __init__(self, number: int, rooms: list[str], target: Target, poller: Poller, recorder: Recorder) -> None:
        super().__init__(number, rooms, target, poller, recorder)
        # Of a server with connection state recovery: the id of the session, and that of its last packet.
        self._session = self._offset = ""
        self.is_recovered = False
        # Sockets that nobody reads, of connections that ended without a word.
        self._left: list[socket.socket] = []

    @property
    def is_cut(self) -> bool:
        """True while there is no connection, not even one that begins."""
        return self._sock is None

    def cut(self, is_silent: bool) -> None:
        """End the connection: with a reset, or so that the server does not hear of it."""
        if self._sock is None:
            return
        self._poller.remove(self.descriptor)
        sock, self._sock, self._state = self._sock, None, State.CLOSED
        if is_silent:
            self._left.append(sock)
            return
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        sock.close()

    def close(self) -> None:
        """Close the connection, and those that ended without a word."""
        super().close()
        while self._left:
            self._left.pop().close()

    @property
    def _identity(self) -> dict[str, str]:
        if not self._session:
            return super()._identity
        return super()._identity | {"pid": self._session} | ({"offset": self._offset} if self._offset else {})

    def _read_frame(self, opcode: int, packet: bytes) -> None:
        if opcode == TEXT and packet.startswith(b"40/"):
            self._joined(packet)
        else:
            super()._read_frame(opcode, packet)

    def _joined(self, packet: bytes) -> None:
        """The server's CONNECT packet: a server with recovery names the session in it, the old one when recovered."""
        session = json.loads(packet[packet.index(b",") + 1 :]).get("pid", "")
        self.is_recovered = bool(session) and session == self._session
        self._session = session

    def _read_event(self, packet: bytes) -> None:
        super()._read_event(packet)
        if self._session:
            with contextlib.suppress(ValueError):
                last = json.loads(packet[packet.index(b"[") :])[-1]
                self._offset = last if isinstance(last, str) else self._offset
