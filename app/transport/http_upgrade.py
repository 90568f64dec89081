"""The way from an HTTP connection to a WebSocket: what a request offers, and the handing over of the socket.

The request goes to the WebSocket class as it was read, not as bytes that are read again. Knows nothing of frames. The
names of uvicorn that this module overrides and uses are listed in `internals`.
"""

import asyncio
from typing import Any, Protocol

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl

from app.transport.http_unread import ReadProtocol
from app.transport.listener import Header


class UpgradedProtocol(Protocol):
    """The WebSocket class, as this module sees it."""

    def take_over(self, transport: asyncio.Transport, is_slow: bool, early: bytes) -> None:
        """Own the socket from here on. `is_slow`: the peer has not read the answers to its earlier requests; `early`:
        the bytes behind its request."""

    def receive_request(self, method: bytes, target: bytes, headers: list[Header], client: Any) -> None:
        """Answer the request; its header names are in lower case."""


class UpgradeProtocol(ReadProtocol):
    """uvicorn's HTTP protocol with a way of its own to the WebSocket class. Lives as that does."""

    __slots__ = ()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Own the socket. The address of this side is asked for by the first request that is no upgrade."""
        self.connections.add(self)
        self.transport = transport
        self.flow = FlowControl(transport)
        self.client = get_remote_addr(transport)
        self.scheme = "https" if is_ssl(transport) else "http"

    def on_headers_complete(self) -> None:
        """Serve a request that is no upgrade."""
        if self.server is None:
            self.server = self.scope["server"] = get_local_addr(self.transport)
        super().on_headers_complete()

    def offers_websocket(self) -> bool:
        """Whether the request offers a WebSocket; several lines of a header are one list (RFC 9110, 5.3)."""
        offered: list[bytes] = []
        named: list[bytes] = []
        for name, value in self.headers:
            if name == b"upgrade":
                offered += value.lower().split(b",")
            elif name == b"connection":
                named += value.lower().split(b",")
        return b"websocket" in map(bytes.strip, offered) and b"upgrade" in map(bytes.strip, named)

    def _get_upgrade(self) -> bytes | None:
        return b"websocket" if self.offers_websocket() else None

    def upgrade(self, early: bytes) -> None:
        """Hand the socket over, with the frames that a hasty client has sent behind its request."""
        self.end_watch()
        self.connections.discard(self)
        make: Any = self.ws_protocol_class
        made: Any = make(self.config, self.server_state, self.app_state)
        transport = self.transport
        # The protocol may hand the socket on before it returns.
        transport.set_protocol(made)
        protocol: UpgradedProtocol = made
        protocol.take_over(transport, self.flow.write_paused, early)
        method, target, headers, client = self.parser.get_method(), self.url, self.headers, self.client
        # The parser refers to this object: without the cycle both are freed now, not by a later garbage collection.
        self.parser = None  # type: ignore[assignment]  # as uvicorn itself does at the connection's end
        protocol.receive_request(method, target, headers, client)
