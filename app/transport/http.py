"""uvicorn's HTTP protocol with one thing mended: bytes behind an upgrade request are not lost.

Given to uvicorn as `http=` class beside WebSocketProtocol; knows nothing of WebSockets.
"""

import asyncio
import sys
from typing import cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class HttpProtocol(HttpToolsProtocol):
    """One HTTP connection of uvicorn; lives until it is closed or upgraded."""

    _received = b""

    def data_received(self, data: bytes) -> None:
        """Read requests, remembering what the socket gave in case it holds more than an upgrade request."""
        self._received = data
        super().data_received(data)
        self._received = b""

    def handle_websocket_upgrade(self) -> None:
        """Hand the socket over, with the frames that a hasty client has sent behind its request."""
        # uvicorn calls this where it handles the exception that says where the request ended.
        upgrade = sys.exception()
        super().handle_websocket_upgrade()
        if isinstance(upgrade, httptools.HttpParserUpgrade):
            early = self._received[upgrade.args[0] :]
            if early:
                cast(asyncio.Protocol, self.transport.get_protocol()).data_received(early)
        # It refers to this object: without the cycle both are freed now, not at some garbage collection.
        self.parser = None  # type: ignore[assignment]  # as uvicorn itself does at the connection's end
