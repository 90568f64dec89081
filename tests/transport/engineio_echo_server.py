"""An Engine.IO server that sends back every message, for the protocol's official suites.

``python tests/transport/engineio_echo_server.py PORT`` serves /engine.io/ on 127.0.0.1 through our WebSocket class.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvicorn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from app.socketio.engine_packet import EncodedPacket
from app.socketio.engine_ports import EngineSettings
from app.socketio.engine_request import Handshake, Refusal, Response, Scope
from app.socketio.engine_server import EngineServer
from app.socketio.engine_session import EngineSession
from app.transport.http import HttpProtocol
from app.transport.websocket import WebSocketProtocol

SETTINGS = EngineSettings(ping_interval_seconds=0.3, ping_timeout_seconds=0.2, max_payload_bytes=1_000_000)
#: Pings as often, for clients that answer them, however late.
BEATING = replace(SETTINGS, ping_timeout_seconds=30)
#: No pings.
QUIET = replace(SETTINGS, ping_interval_seconds=30, ping_timeout_seconds=30)
PAUSE_SECONDS = 0.01


class EchoSession:
    """Sends back the messages of one session; lives as long as that."""

    def __init__(self, session: EngineSession) -> None:
        """Bind to the session."""
        self._session = session

    def session_started(self) -> None:
        """Nothing to say."""

    def message_received(self, packet: bytes) -> None:
        """Send the text back."""
        self._session.send_encoded(EncodedPacket(packet))

    def binary_received(self, data: bytes) -> None:
        """Send the bytes back."""
        self._session.send_binary(data)

    def sender_changed(self) -> None:
        """Nothing to do."""

    def session_closed(self, reason: str) -> None:
        """Nothing to clean up."""


class PausingEngineServer(EngineServer):
    """Greets a moment after the WebSocket is open.

    The suite of version 3 waits for the opening and then for a message, and misses one that comes in the same read.
    """

    def start_on_socket(self, session: EngineSession, connection: Any, scope: Scope) -> None:
        """Greet later."""
        asyncio.get_running_loop().call_later(PAUSE_SECONDS, super().start_on_socket, session, connection, scope)


class EngineEcho:
    """The ASGI application; lives as long as the server."""

    def __init__(self, settings: EngineSettings = SETTINGS) -> None:
        """Make the Engine.IO server."""
        #: All that were opened, in order.
        self.sessions: list[EngineSession] = []
        self.server = PausingEngineServer(self._open_session, settings)

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Serve /engine.io/ and nothing else."""
        if scope["type"] == "lifespan":
            await serve_lifespan(receive, send)
        elif scope["path"].rstrip("/") == "/engine.io":
            await self.server.asgi(scope, receive, send)
        elif scope["type"] == "http":
            await Response.refusing(Refusal.BAD_REQUEST).send(send)

    def _open_session(self, session: EngineSession, handshake: Handshake) -> EchoSession:
        self.sessions.append(session)
        return EchoSession(session)


async def serve_lifespan(receive: Any, send: Any) -> None:
    """Agree to start and to stop."""
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


def serve(application: Any, port: int) -> None:
    """Serve the application until the process is told to end."""
    uvicorn.run(
        application,
        host="127.0.0.1",
        port=port,
        http=HttpProtocol,
        ws=WebSocketProtocol,
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    serve(EngineEcho(), int(sys.argv[1]))
