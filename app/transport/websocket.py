"""The WebSocket protocol class given to uvicorn: reads the upgrade request and runs the ASGI application on it.

After the answer nothing of this object is left: the socket belongs to the WebSocketConnection. Knows nothing of an
application's messages. The names of uvicorn that this module uses are listed in `internals`.
"""

import asyncio
import contextvars
import logging
from typing import Any, cast

from uvicorn.config import Config
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState

from app.transport import handshake, tls_text
from app.transport.asgi import AsgiSession
from app.transport.connection import WebSocketConnection
from app.transport.listener import EXTENSION, Header
from app.transport.share import share_of

__all__ = ["EXTENSION", "WebSocketConnection", "WebSocketProtocol"]

# uvicorn's logger, under which operators look for these lines.
logger = logging.getLogger("uvicorn.error")

# The bytes that a peer may send before its answer; past them it is not read. A client has to wait for the 101
# (RFC 6455, 4.1).
_MAX_EARLY_BYTES = 1 << 16


class WebSocketProtocol(asyncio.Protocol):
    """One upgrade request; lives from uvicorn's upgrade hook to the answer, 101 or not."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._config = config
        self._share = share_of(server_state)
        self._server_state = server_state
        self._app_state = app_state
        self._early = bytearray()
        self._request: handshake.Request | None = None
        self._session: AsgiSession | None = None
        self._transport: asyncio.Transport
        self._connection: WebSocketConnection

    # Called by the event loop and by uvicorn's HTTP protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the socket over from the HTTP protocol."""
        self._transport = cast(asyncio.Transport, transport)
        self._share.connections.add(self)
        self._connection = WebSocketConnection(self._transport, self._share, self)

    def data_received(self, data: bytes) -> None:
        """Take the request, which uvicorn hands over whole, and later the bytes that the peer sends too early."""
        if self._request is None:
            self._receive_request(data)
        else:
            self._early += data
            if len(self._early) > _MAX_EARLY_BYTES:
                self._transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the application, which has not answered yet."""
        self._share.connections.discard(self)
        self._connection.connection_lost(exc)
        if self._session is not None:
            self._session.connection_lost(1006, "")

    def pause_writing(self) -> None:
        """Learn that the peer has not read the answers to its earlier requests."""
        self._connection.begin_slow()

    def resume_writing(self) -> None:
        """Learn that the peer has read them."""
        self._connection.resume_writing()

    def eof_received(self) -> None:
        """Let the transport close: the peer does not wait for the answer."""

    def shutdown(self) -> None:
        """Refuse the request because the server stops."""
        self._connection.reject(503, b"Service Unavailable")

    # The request

    def _receive_request(self, data: bytes) -> None:
        try:
            self._request = request = handshake.read_request(data)
        except handshake.BadHandshake as error:
            self._request = handshake.UNREADABLE
            self._connection.reject(error.status, str(error).encode(), error.headers)
            return
        if self._is_over_limit():
            logger.warning("Exceeded concurrency limit.")
            self._connection.reject(503, b"Service Unavailable")
            return
        self._session = AsgiSession(self._connection, self._config.ws_max_size)
        context = contextvars.Context() if self._config.reset_contextvars else None
        task = asyncio.get_running_loop().create_task(self._run(request, self._session), context=context)
        self._server_state.tasks.add(task)
        task.add_done_callback(self._server_state.tasks.discard)

    def _is_over_limit(self) -> bool:
        limit = self._config.limit_concurrency
        # This connection is among the connections, its task is not yet among the tasks; as uvicorn counts for HTTP.
        return limit is not None and (len(self._share.connections) >= limit or len(self._server_state.tasks) >= limit)

    async def _run(self, request: handshake.Request, session: AsgiSession) -> None:
        try:
            await self._config.loaded_app(self._scope(request), session.receive, session.send)
        except Exception as error:
            session.application_failed(error)
        except BaseException:
            # Cancelled: uvicorn does not wait any longer.
            self._connection.abort()
            raise
        else:
            session.application_returned()

    def _scope(self, request: handshake.Request) -> dict[str, Any]:
        root_path = self._config.root_path
        return {
            "type": "websocket",
            "asgi": {"version": self._config.asgi_version, "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "wss" if is_ssl(self._transport) else "ws",
            "server": get_local_addr(self._transport),
            "client": get_remote_addr(self._transport),
            "root_path": root_path,
            "path": root_path + request.path,
            "raw_path": root_path.encode() + request.raw_path,
            "query_string": request.query,
            "headers": request.headers,
            "subprotocols": request.subprotocols,
            "state": self._app_state.copy(),
            "extensions": {
                "websocket.http.response": {},
                EXTENSION: {"connection": self._connection},
                **tls_text.entry(self._transport),
            },
        }

    # Called by the connection

    def write_accept(self, subprotocol: str | None, headers: list[Header]) -> None:
        """Answer 101."""
        assert self._request is not None
        all_headers = [*self._server_state.default_headers, *headers]
        self._transport.write(handshake.acceptance(self._request, subprotocol, all_headers))
        self._log_answer("[accepted]")
        self._share.connections.discard(self)

    def write_refusal(self, status: int, body: bytes, headers: list[Header]) -> None:
        """Answer with another status; the connection closes the socket."""
        all_headers = [*self._server_state.default_headers, *headers]
        self._transport.write(handshake.refusal(status, body, all_headers))
        self._log_answer(str(status))

    def take_early_bytes(self) -> bytes:
        """Hand over the bytes that the peer has sent behind its request."""
        return bytes(self._early)

    def hand_over(self) -> bytes:
        """Release the socket."""
        self._share.connections.discard(self)
        return bytes(self._early)

    def _log_answer(self, answer: str) -> None:
        # An access log like uvicorn's, under the same setting. Without the query, in which clients send their tokens.
        if self._request is not None and self._config.access_log:
            client = get_remote_addr(self._transport)
            address = f"{client[0]}:{client[1]}" if client else ""
            logger.info('%s - "WebSocket %s" %s', address, self._config.root_path + self._request.path, answer)
