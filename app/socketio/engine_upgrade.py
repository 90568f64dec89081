"""The WebSocket by which a polling session may go on: the probe, and then the way of the messages."""

from __future__ import annotations

from app.socketio.engine_packet import PONG_PROBE
from app.socketio.engine_ports import FrameSocket
from app.socketio.engine_session import EngineSession


class UpgradeProbe:
    """The listener of a WebSocket that wants to take a polling session over; lives as long as that WebSocket.

    An object of its own, so that a probe that fails late cannot be taken for the one that came after it.
    """

    __slots__ = ("_is_taken", "_session", "socket")

    def __init__(self, session: EngineSession, socket: FrameSocket) -> None:
        """Bind the WebSocket to the session it asks for."""
        self.socket = socket
        self._session = session
        self._is_taken = False

    def text_received(self, payload: bytes) -> None:
        """``2probe`` is answered, ``5`` moves the session; anything else before that refuses the WebSocket."""
        if self._is_taken:
            self._session.text_received(payload)
        elif payload == b"2probe":
            self.socket.write_frame(PONG_PROBE.frame)
            self._session.probe_answered()
        elif payload == b"5":
            self._is_taken = self._session.take_socket(self.socket)
        else:
            self.socket.close()

    def binary_received(self, payload: bytes) -> None:
        """Binary messages are for the session; none may come before the upgrade."""
        if self._is_taken:
            self._session.binary_received(payload)
        else:
            self.socket.close()

    def pong_received(self) -> None:
        """The session's, once it has moved: nobody pings before."""
        self._session.pong_received()

    def writing_resumed(self) -> None:
        """Nothing to do."""

    def connection_lost(self, code: int, reason: str) -> None:
        """The WebSocket is gone: with the session if it had it, else only the offer is withdrawn."""
        if self._is_taken:
            self._session.connection_lost(code, reason)
        else:
            self._session.probe_lost(self.socket)
