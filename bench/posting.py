"""Backends of the scenario `large`: one that posts a message and waits, one that posts at a steady rate meanwhile."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType

from bench.generator.publisher import Endpoint
from bench.processes import BenchError

_TIMEOUT_SECONDS = 60.0


class Poster:
    """One keep-alive connection of a backend. Lives until `close()`."""

    def __init__(self, address: tuple[str, int], site: str, key: str) -> None:
        self._endpoint = Endpoint(address, site, key)
        self._sock = socket.create_connection(address, _TIMEOUT_SECONDS)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def post(self, rooms: list[str], number: int) -> float:
        """Send message `number` to rooms; returns the moment before. Raises BenchError when the answer is not 200."""
        began = time.perf_counter()
        self._sock.sendall(self._endpoint.request(rooms, number))
        answer = b""
        while b"\r\n\r\n" not in answer:
            data = self._sock.recv(65536)
            if not data:
                raise BenchError("the server closed the connection of a backend")
            answer += data
        if not answer.startswith(b"HTTP/1.1 200"):
            raise BenchError(f"POST /send was refused: {answer[:200]!r}")
        return began

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
