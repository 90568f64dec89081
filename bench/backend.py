"""The tenant's backend (authUrl) in a process of its own, so lean that no server waits for it. Loopback only.

The token is the list of the user's rooms joined by `~`; the answer is that list as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import cast

import uvloop


class AuthProtocol(asyncio.Protocol):
    """One keep-alive connection, for which it lives; answers one GET after the other."""

    def __init__(self) -> None:
        self._rest = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport for the answers."""
        # uvloop's transports are no subclass of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Answer each whole request in `data`."""
        self._rest += data
        while b"\r\n\r\n" in self._rest:
            head, _, self._rest = self._rest.partition(b"\r\n\r\n")
            assert self._transport is not None
            self._transport.write(answer(head))


def answer(head: bytes) -> bytes:
    """Return the response to a request with these header lines: the token's rooms, or 401 without a token."""
    for line in head.split(b"\r\n"):
        if line[:14].lower() == b"authorization:":
            token = line.split(b" ")[-1].decode()
            return _response("200 OK", json.dumps(token.split("~")))
    return _response("401 Unauthorized", "{}")


def _response(status: str, body: str) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return (head + "Connection: keep-alive\r\n\r\n" + body).encode()


async def serve() -> None:
    """Listen on a free port, print it, serve until stdin is closed."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(AuthProtocol, "127.0.0.1", 0, backlog=1024)
    print(f"listening {server.sockets[0].getsockname()[1]}", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    uvloop.run(serve())
