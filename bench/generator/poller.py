"""The generator's only loop: one epoll over device and publisher sockets. It writes acknowledgements after reads.

Plain epoll and `os.read` cost about half as much as an asyncio protocol for frames this small. So the generator is
faster than every server that it measures.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Callable

_EVENTS_PER_POLL = 64
# So many acknowledgements at most wait for reads to pause: a few milliseconds, less than a network takes.
_MAX_WRITES_PER_TURN = 1024


class GeneratorError(Exception):
    """The load generator met an error that makes its figures worthless."""


class Poller:
    """The loop. Lives as long as the generator's process; `handlers` has the callback of each descriptor."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[], None]] = {}
        self._writes: list[tuple[int, bytes]] = []
        self._writers: dict[int, Callable[[bytes], int]] = {}

    def add(self, descriptor: int, readable: Callable[[], None], write: Callable[[bytes], int] | None = None) -> None:
        """Call `readable` whenever `descriptor` is readable; `write` writes to it in place of `os.write`."""
        self._handlers[descriptor] = readable
        if write is not None:
            self._writers[descriptor] = write
        self._epoll.register(descriptor, select.EPOLLIN)

    def add_connecting(self, descriptor: int, decided: Callable[[], None]) -> None:
        """Call `decided` when the connect of `descriptor` has succeeded or failed; it removes the descriptor."""
        self._handlers[descriptor] = decided
        self._epoll.register(descriptor, select.EPOLLOUT)

    def remove(self, descriptor: int) -> None:
        """Forget `descriptor`; must come before it is closed."""
        if self._handlers.pop(descriptor, None) is not None:
            self._writers.pop(descriptor, None)
            self._epoll.unregister(descriptor)

    def pause(self, descriptor: int) -> None:
        """Stop reading `descriptor`: this makes a slow reader."""
        self._epoll.modify(descriptor, 0)

    def write_later(self, descriptor: int, data: bytes) -> None:
        """Write `data` at the end of this turn, after every readable socket has been read and its time noted."""
        self._writes.append((descriptor, data))

    def turn(self, timeout_seconds: float) -> None:
        """Serve the readable sockets, waiting at most `timeout_seconds` for one; then write the data of `write_later`.

        Data that arrives meanwhile is read first. A thousand real devices do not wait for each other's
        acknowledgements, so the noted time of a receipt must not include them either.
        """
        handlers = self._handlers
        events = self._epoll.poll(timeout_seconds, _EVENTS_PER_POLL)
        while events:
            for descriptor, _ in events:
                handler = handlers.get(descriptor)
                if handler is not None:
                    handler()
            events = self._epoll.poll(0, _EVENTS_PER_POLL) if len(self._writes) < _MAX_WRITES_PER_TURN else []
        if self._writes:
            self._write_all()

    def run_until(self, is_done: Callable[[], bool], timeout_seconds: float, what: str) -> None:
        """Turn until `is_done()`; raises GeneratorError naming `what` after `timeout_seconds`."""
        deadline = time.monotonic() + timeout_seconds
        while not is_done():
            self.turn(0.05)
            if time.monotonic() > deadline:
                raise GeneratorError(f"time-out after {timeout_seconds:g} s: {what}")

    def _write_all(self) -> None:
        writes, self._writes = self._writes, []
        for descriptor, data in writes:
            # A socket that died in this turn has removed its handler; one that dies now shows it at its next read.
            with contextlib.suppress(ConnectionError):
                if descriptor in self._handlers and self._write(descriptor, data) != len(data):
                    raise GeneratorError("the server has stopped reading: a short write of an acknowledgement")

    def _write(self, descriptor: int, data: bytes) -> int:
        write = self._writers.get(descriptor) if self._writers else None
        return os.write(descriptor, data) if write is None else write(data)
