"""Subscribers of topics over plain HTTP, and the emitter to them: the pair of devices and /send for Socket.IO."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass

from bench.generator.burst import Receipts
from bench.generator.poller import GeneratorError, Poller
from bench.generator.publisher import FIRST_NUMBER, NUMBER_DIGITS

_READ_BYTES = 16384
_GREETING = b'"type":"connected"'
_MESSAGE = re.compile(rb'"type":"message","detail":\[(?=\d{%d})' % NUMBER_DIGITS)
# The end of the received bytes that is kept: a message may begin in it.
_TAIL_BYTES = 64
_TEXT = "Your order has left our house and is on its way to you. "


@dataclass(frozen=True)
class EventEndpoint:
    """The address to emit to, and the site and its key: one per command of the generator."""

    address: tuple[str, int]
    site: str
    api_key: str
    payload_bytes: int = 100
    is_tls: bool = False

    def request(self, topics: list[str], number: int) -> bytes:
        """Return the whole POST /event request for message `number` to `topics`."""
        text = (_TEXT * (self.payload_bytes // len(_TEXT) + 1))[: self.payload_bytes]
        detail = [FIRST_NUMBER + number, {"id": number, "kind": "order", "text": text}]
        value = {"ep": topics, "e": {"type": "message", "detail": detail}}
        body = json.dumps(value, separators=(",", ":")).encode()
        head = (
            f"POST /topics/{self.site}/event?token={self.api_key} HTTP/1.1\r\n"
            f"Host: {self.address[0]}:{self.address[1]}\r\nContent-Type: application/json\r\n"
            f"Accept: */*\r\nUser-Agent: recado-bench\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


class Stream:
    """One subscription. Lives from its making to `close()`, which the generator calls."""

    __slots__ = ("_burst", "_poller", "_rest", "_sock", "is_ready", "received")

    def __init__(self, address: tuple[str, int], request: bytes, poller: Poller, burst: Callable[[], Receipts]) -> None:
        """Send the request; `burst` tells which burst is running."""
        self.received = -1
        self.is_ready = False
        self._rest = b""
        self._poller = poller
        self._burst = burst
        self._sock = socket.create_connection(address, timeout=30)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock.sendall(request)
        poller.add(self._sock.fileno(), self._readable)

    def close(self) -> None:
        """Close the socket."""
        self._poller.remove(self._sock.fileno())
        self._sock.close()

    def _readable(self) -> None:
        data = os.read(self._sock.fileno(), _READ_BYTES)
        if not data:
            raise GeneratorError("a stream was closed by the server")
        data = self._rest + data
        taken = 0
        if not self.is_ready and _GREETING in data:
            self.is_ready = True
            taken = data.index(_GREETING) + len(_GREETING)
        for match in _MESSAGE.finditer(data, taken):
            taken = match.end()
            self.received = self._burst().receive(data, taken, self.received)
        self._rest = data[max(taken, len(data) - _TAIL_BYTES) :] if self.is_ready else data


def subscription(address: tuple[str, int], site: str, topics: list[str]) -> bytes:
    """Return the whole request of one subscriber."""
    body = json.dumps({"ep": topics}).encode()
    head = (
        f"POST /topics/{site}/ HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\n"
        f"Accept: */*\r\nUser-Agent: recado-bench\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
