"""The tenant's publisher: POST /send over keep-alive connections, one request at a time on each."""

from __future__ import annotations

import functools
import json
import os
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from bench.generator.poller import GeneratorError, Poller
from bench.generator.security import secured

# Message numbers have one width, so that a body is a template and a device finds the number at a fixed place.
FIRST_NUMBER = 100_000
NUMBER_DIGITS = 6
_TEXT = "Your order has left our house and is on its way to you. "


@dataclass(frozen=True)
class Endpoint:
    """The address to publish to, and the site and its key: one per command of the generator."""

    address: tuple[str, int]
    site: str
    api_key: str
    payload_bytes: int = 100
    # Of the channel that is pushed into instead of the rooms.
    channel_token: str = ""
    is_tls: bool = False

    def request(self, rooms: list[str], number: int) -> bytes:
        """Return the whole request for message `number`: POST /send to `rooms`, or a push into the channel."""
        text = (_TEXT * (self.payload_bytes // len(_TEXT) + 1))[: self.payload_bytes]
        if self.channel_token:
            return self._push(rooms[0], f"{FIRST_NUMBER + number} {text}")
        arguments = [FIRST_NUMBER + number, {"id": number, "kind": "order", "text": text}]
        body = json.dumps({"rooms": rooms, "event": "message", "args": arguments}, separators=(",", ":")).encode()
        return self._post(f"/send?site={self.site}&apiKey={self.api_key}&resync=false", body)

    def _push(self, channel: str, text: str) -> bytes:
        data = {"channel": channel, "channelToken": self.channel_token, "recipients": [], "message": text}
        action = {"messageType": "SERVER_ACTION", "action": "PUSH_MESSAGE", "data": data}
        return self._post(f"/channels/{self.site}/push", json.dumps(action, separators=(",", ":")).encode())

    def _post(self, target: str, body: bytes) -> bytes:
        head = (
            f"POST {target} HTTP/1.1\r\n"
            f"Host: {self.address[0]}:{self.address[1]}\r\nContent-Type: application/json\r\n"
            f"Accept: */*\r\nUser-Agent: recado-bench\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


class Requests(Protocol):
    """The requests that a publisher posts, and their address."""

    @property
    def address(self) -> tuple[str, int]:
        """Where."""

    @property
    def is_tls(self) -> bool:
        """Whether the address speaks TLS."""

    def request(self, rooms: list[str], number: int) -> bytes:
        """Return the whole request for message `number` to these rooms, or topics."""


class Publisher:
    """One keep-alive connection. Lives for one command of the generator, which closes it."""

    def __init__(self, endpoint: Requests, poller: Poller, answered: Callable[[Publisher], None]) -> None:
        self.is_idle = True
        self._sock = socket.create_connection(endpoint.address, timeout=30)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._read: Callable[[int], bytes] = functools.partial(os.read, self._sock.fileno())
        if endpoint.is_tls:
            self._sock = tls = secured(self._sock)
            tls.do_handshake()
            # A ticket of TLS 1.3 makes the socket readable, and brings nothing that a read could wait for.
            tls.setblocking(False)
            self._read = tls.recv
        self._descriptor = self._sock.fileno()
        self._poller = poller
        self._answered = answered
        self._rest = b""
        poller.add(self._descriptor, self._readable)

    def post(self, request: bytes) -> float:
        """Send `request` now and return the moment it began; `answered` is called when its 200 has come."""
        self.is_idle = False
        started = time.perf_counter()
        self._sock.sendall(request)
        return started

    def close(self) -> None:
        """Close the connection."""
        self._poller.remove(self._descriptor)
        self._sock.close()

    def _readable(self) -> None:
        try:
            data = self._read(16384)
        except ssl.SSLWantReadError:
            return
        if not data:
            state = "while it was idle" if self.is_idle else "instead of answering"
            raise GeneratorError(f"the server closed the publisher's connection {state}")
        self._rest += data
        head, separator, body = self._rest.partition(b"\r\n\r\n")
        if not separator or len(body) < _content_length(head):
            return
        if not head.startswith(b"HTTP/1.1 200"):
            raise GeneratorError(f"POST /send was refused: {self._rest[:300]!r}")
        self._rest = b""
        self.is_idle = True
        self._answered(self)


def _content_length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line[15:])
    raise GeneratorError(f"an answer of POST /send without Content-Length: {head!r}")
