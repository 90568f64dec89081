"""Backends of the scenario `large`: one that posts a message and waits, one that posts at a steady rate meanwhile."""

from __future__ import annotations

import re
import select
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType

from bench.generator.publisher import Endpoint
from bench.processes import BenchError

_TIMEOUT_SECONDS = 60.0
_RETRY_SECONDS = 0.2


class Poster:
    """One keep-alive connection of a backend. Lives until `close()`."""

    def __init__(self, address: tuple[str, int], site: str, key: str) -> None:
        self.refused = 0
        self._endpoint = Endpoint(address, site, key)
        self._address = address
        self._sock = self._connected()

    def post(self, rooms: list[str], number: int) -> float:
        """Send message `number` to rooms, again after each 503, which says that it is not stored; returns the moment
        before. Raises BenchError at any other answer but 200."""
        began = time.perf_counter()
        while self._status(rooms, number) == 503:
            self.refused += 1
            if time.perf_counter() - began > _TIMEOUT_SECONDS:
                raise BenchError("POST /send was answered 503 for a minute")
            time.sleep(_RETRY_SECONDS)
        return began

    @property
    def is_closed(self) -> bool:
        """Whether the server has closed the connection, as it does after a minute without a request."""
        return bool(select.select([self._sock], [], [], 0)[0])

    def _connected(self) -> socket.socket:
        sock = socket.create_connection(self._address, _TIMEOUT_SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def _status(self, rooms: list[str], number: int) -> int:
        if self.is_closed:
            self._sock.close()
            self._sock = self._connected()
        self._sock.sendall(self._endpoint.request(rooms, number))
        answer = b""
        while not _is_whole(answer):
            data = self._sock.recv(65536)
            if not data:
                raise BenchError("the server closed the connection of a backend")
            answer += data
        status = int(answer[9:12])
        if status not in (200, 503):
            raise BenchError(f"POST /send was refused: {answer[:200]!r}")
        return status

    def close(self) -> None:
        """Close the connection."""
        self._sock.close()


class Bystander:
    """The backend of another site: posts at fixed moments, on several connections in turn, within a `with` block.

    `delays_seconds` count from the moment at which a post was due: a late answer delays the next post, and this counts.
    """

    def __init__(self, new_poster: Callable[[], Poster], connections: int, per_second: float) -> None:
        self.delays_seconds: list[float] = []
        self._posters = [new_poster() for _ in range(connections)]
        self._pause_seconds = connections / per_second
        self._is_over = threading.Event()
        self._errors: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._send, args=(poster, number * self._pause_seconds / connections), daemon=True)
            for number, poster in enumerate(self._posters)
        ]

    def __enter__(self) -> Bystander:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join(_TIMEOUT_SECONDS)
        for poster in self._posters:
            poster.close()
        if self._errors and error is None:
            raise BenchError(f"a bystander's send failed: {self._errors[0]}")

    @property
    def has_failed(self) -> bool:
        """True when a send was answered otherwise than 200."""
        return bool(self._errors)

    def percentile_ms(self, share: float) -> float:
        """Return a percentile (0 to 100) of the delays; 0 when nothing was sent."""
        ranked = sorted(self.delays_seconds)
        return 1000 * ranked[min(len(ranked) - 1, int(len(ranked) * share / 100))] if ranked else 0.0

    def _send(self, poster: Poster, first_in: float) -> None:
        due = time.perf_counter() + first_in
        try:
            while not self._is_over.wait(max(0.0, due - time.perf_counter())):
                poster.post(["nobody"], 0)
                self.delays_seconds.append(time.perf_counter() - due)
                due += self._pause_seconds
        except (OSError, BenchError) as error:
            self._errors.append(error)


def _is_whole(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: *(\d+)", head.lower())
    return bool(end) and len(body) >= int(length.group(1) if length else 0)
