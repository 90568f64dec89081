"""The WebSocket that a polling session may move to: first the probe, then the session's messages."""

from __future__ import annotations

import asyncio

from app.socketio.engine_packet import PONG_PROBE, BinaryPacket
from app.socketio.engine_ports import FrameSocket
from app.socketio.engine_session import EngineSession

UPGRADE_SECONDS = 10.0
"""The time of a WebSocket to take its session over, as of the reference server."""
_MAX_PROBES = 8


class SpareSocket:
    """The listener of a WebSocket that no session takes, closed as soon as it is accepted: hears nothing."""

    __slots__ = ()

    max_message_bytes = 1_000

    def text_received(self, payload: bytes) -> None:
        """Pass over a message."""

    binary_received = text_received

    def pong_received(self) -> None:
        """Pass over a pong."""

    def writing_resumed(self) -> None:
        """Nothing to do."""

    def connection_lost(self, code: int, reason: str) -> None:
        """Nothing to do."""


class UpgradeProbe:
    """The listener of a WebSocket that wants to take a polling session over; lives as long as that WebSocket.

    An object of its own, so that a probe that fails late cannot be mistaken for the next one.
    """

    __slots__ = ("_held", "_is_taken", "_probes", "_session", "_timer", "socket")

    def __init__(self, session: EngineSession, socket: FrameSocket) -> None:
        """Bind the WebSocket to the session that it asks for."""
        self.socket = socket
        self._session = session
        self._is_taken = False
        # Set while the move waits for the packets of a POST: what was read behind the ``5``, at most one turn's frames.
        self._held: list[bytes | BinaryPacket] | None = None
        self._probes = 0
        self._timer = asyncio.get_running_loop().call_later(UPGRADE_SECONDS, socket.close)

    @property
    def max_message_bytes(self) -> int:
        """The largest message that is taken."""
        return self._session.max_message_bytes

    def text_received(self, payload: bytes) -> None:
        """Answer ``2probe``, move the session on ``5``; any other message before the move closes the WebSocket."""
        if self._is_taken:
            self._session.text_received(payload)
        elif self._held is not None:
            self._held.append(payload)
        elif payload == b"2probe" and self._probes < _MAX_PROBES:
            self._probes += 1
            self.socket.write_frame(PONG_PROBE.frame)
            self._session.probe_answered()
        elif payload == b"5":
            self._move_behind_posted()
        else:
            self.socket.close()

    def binary_received(self, payload: bytes) -> None:
        """Pass a binary message to the session; before the move it closes the WebSocket."""
        if self._is_taken:
            self._session.binary_received(payload)
        elif self._held is not None:
            self._held.append(BinaryPacket(payload))
        else:
            self.socket.close()

    def pong_received(self) -> None:
        """Pass a pong to the session, which pings only after its move."""
        self._session.pong_received()

    def writing_resumed(self) -> None:
        """Nothing to do."""

    def connection_lost(self, code: int, reason: str) -> None:
        """End the session if it has moved here; otherwise only withdraw the offer."""
        self._timer.cancel()
        if self._is_taken:
            self._session.connection_lost(code, reason)
        else:
            self._session.probe_lost(self.socket)

    def _move_behind_posted(self) -> None:
        """Move at once, or when the packets of a POST under way are handled: these must not be overtaken."""
        posted = self._session.posted
        if posted is None:
            self._move()
        else:
            self._held = []
            self.socket.pause_reading()
            posted.then(self._move_on)

    def _move(self) -> None:
        self._is_taken = self._session.take_socket(self.socket)
        if self._is_taken:
            self._timer.cancel()

    def _move_on(self) -> None:
        held, self._held = self._held or [], None
        self._move()
        if not self._is_taken:
            return  # the WebSocket is lost, or the session has ended and closed it
        for message in held:
            if isinstance(message, BinaryPacket):
                self._session.binary_received(message.data)
            else:
                self._session.text_received(message)
        self.socket.resume_reading()
