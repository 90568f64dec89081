"""The WebSocket protocol class given to uvicorn: checks the upgrade request and calls the ASGI application on it.

An application that says that it answers a request at once (`serves_at_once`) is called without a task. After the answer
nothing of this object is left: the socket belongs to the WebSocketConnection. Knows nothing of an application's
messages. The names of uvicorn that this module uses are listed in `internals`.
"""

import asyncio
import contextvars
import logging
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.utils import get_local_addr, is_ssl
from uvicorn.server import ServerState

from app.transport import handshake, tls_text
from app.transport.asgi import AsgiSession, application_failed, application_returned
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
        self._client: tuple[str, int] | None = None
        self._session: AsgiSession | None = None
        self._transport: asyncio.Transport
        self._connection: WebSocketConnection

    # Called by the HTTP protocol

    def take_over(self, transport: asyncio.Transport, is_slow: bool, early: bytes) -> None:
        """Own the socket. `is_slow`: the peer has not read the answers to its earlier requests, as asyncio has told the
        socket's last owner; `early`: the bytes behind its request."""
        self._transport = transport
        self._share.connections.add(self)
        self._connection = WebSocketConnection(transport, self._share, self)
        if is_slow:
            self._connection.begin_slow()
        if early:
            self.data_received(early)

    def receive_request(self, method: bytes, target: bytes, headers: list[Header], client: Any) -> None:
        """Answer the request, or begin the task that does."""
        try:
            request = handshake.read_request(method, target, headers)
        except handshake.BadHandshake as error:
            self._connection.reject(error.status, str(error).encode(), error.headers)
            return
        self._request, self._client = request, client
        if self._is_over_limit():
            logger.warning("Exceeded concurrency limit.")
            self._connection.reject(503, b"Service Unavailable")
        elif _serves_at_once(self._config.app, request):
            self._serve_at_once(request)
        else:
            self._begin(request)

    # Called by the event loop

    def data_received(self, data: bytes) -> None:
        """Keep the bytes that the peer sends too early."""
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

    def _is_over_limit(self) -> bool:
        limit = self._config.limit_concurrency
        # This connection is among the connections, its task is not yet among the tasks; as uvicorn counts for HTTP.
        return limit is not None and (len(self._share.connections) >= limit or len(self._server_state.tasks) >= limit)

    def _serve_at_once(self, request: handshake.Request) -> None:
        call = self._config.loaded_app(self._scope(request), _receive_nothing, _send_nothing)
        try:
            call.send(None)
            # It waits for something: what it has begun ends with it.
            call.close()
            raise RuntimeError("expected an answer at once")
        except StopIteration:
            application_returned(self._connection)
        except Exception as error:
            application_failed(self._connection, error)

    def _begin(self, request: handshake.Request) -> None:
        self._session = AsgiSession(self._connection, self._config.ws_max_size)
        context = contextvars.Context() if self._config.reset_contextvars else None
        task = asyncio.get_running_loop().create_task(self._run(request, self._session), context=context)
        self._server_state.tasks.add(task)
        task.add_done_callback(self._server_state.tasks.discard)

    async def _run(self, request: handshake.Request, session: AsgiSession) -> None:
        try:
            scope = self._scope(request)
            scope["server"] = get_local_addr(self._transport)
            await self._config.loaded_app(scope, session.receive, session.send)
        except Exception as error:
            session.application_failed(error)
        except BaseException:
            # Cancelled: uvicorn does not wait any longer.
            self._connection.abort()
            raise
        else:
            session.application_returned()

    def _scope(self, request: handshake.Request) -> dict[str, Any]:
        root_path, transport = self._config.root_path, self._transport
        has_tls = is_ssl(transport)
        return {
            "type": "websocket",
            "asgi": {"version": self._config.asgi_version, "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "wss" if has_tls else "ws",
            "client": self._client,
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
                **(tls_text.entry(transport) if has_tls else {}),
            },
        }

    # Called by the connection

    def accept(self, subprotocol: str | None, headers: list[Header]) -> bytes:
        """Return the 101; the connection writes it."""
        assert self._request is not None
        answer = handshake.acceptance(self._request, subprotocol, [*self._server_state.default_headers, *headers])
        self._log_answer("[accepted]")
        self._share.connections.discard(self)
        return answer

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
            address = f"{self._client[0]}:{self._client[1]}" if self._client else ""
            logger.info('%s - "WebSocket %s" %s', address, self._config.root_path + self._request.path, answer)


def _serves_at_once(application: Any, request: handshake.Request) -> bool:
    """Whether an application ends its call for a WebSocket without waiting, receiving or sending."""
    serves_at_once = getattr(application, "serves_at_once", None)
    return serves_at_once is not None and bool(serves_at_once(request.path, request.query))


async def _receive_nothing() -> Any:
    raise RuntimeError("expected an answer at once")


async def _send_nothing(_message: Any) -> None:
    raise RuntimeError("expected an answer at once")
