"""Waiting without blind sleeps: a thread-safe recording that wakes its waiters, and a poll with a deadline."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

import httpx

T = TypeVar("T")

#: Longer than a machine under load stands still. A test that passes waits less.
DEFAULT_TIMEOUT_SECONDS = 60.0


class Recording(Generic[T]):
    """Recorded items, in order. Lives as long as the process or client that feeds
    it; any thread adds, any thread waits."""

    def __init__(self) -> None:
        """Start empty."""
        self._items: list[T] = []
        self._changed = threading.Condition()

    def add(self, item: T) -> None:
        """Append one item and wake the waiting threads."""
        with self._changed:
            self._items.append(item)
            self._changed.notify_all()

    def snapshot(self) -> list[T]:
        """Return a copy of all recorded items."""
        with self._changed:
            return list(self._items)

    def __len__(self) -> int:
        """Count the recorded items."""
        with self._changed:
            return len(self._items)

    def wait_until(
        self,
        holds: Callable[[list[T]], bool],
        what: str,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    ) -> list[T]:
        """Block until `holds` is true of the items and return them; AssertionError naming `what` after the time-out."""
        with self._changed:
            if not self._changed.wait_for(lambda: holds(self._items), timeout_seconds):
                shown = "\n  ".join(repr(item)[:300] for item in self._items[-20:])
                raise AssertionError(f"waited {timeout_seconds} s for {what}; seen so far:\n  {shown or 'nothing'}")
            return list(self._items)

    def wait_for(
        self,
        matches: Callable[[T], bool],
        what: str,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        nth: int = 1,
    ) -> T:
        """Block until `nth` items match and return that one; AssertionError naming `what` after the time-out."""
        items = self.wait_until(lambda seen: sum(map(matches, seen)) >= nth, what, timeout_seconds)
        return [item for item in items if matches(item)][nth - 1]


def eventually(
    check: Callable[[], T],
    what: str,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    interval_seconds: float = 0.02,
) -> T:
    """Poll `check` until its result is true and return it; AssertionError naming `what` after the time-out."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_seconds} s for {what}; last value: {value!r}")
        time.sleep(interval_seconds)


async def until(
    check: Callable[[], Any],
    what: str,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    interval_seconds: float = 0.002,
) -> Any:
    """Poll `check` between turns of the loop until its result is true, and return it; AssertionError naming `what`
    after the time-out."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_seconds
    while not (value := check()):
        assert loop.time() < deadline, f"waited {timeout_seconds} s for {what}; last value: {value!r}"
        await asyncio.sleep(interval_seconds)
    return value


async def until_answer(
    ask: Callable[[], Awaitable[T]],
    what: str,
    refusals: tuple[type[Exception], ...] = (),
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    interval_seconds: float = 0.01,
) -> T:
    """Ask until the answer is true and is none of `refusals`; AssertionError naming `what` after the time-out."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_seconds
    while True:
        last: T | Exception
        try:
            if last := await ask():
                return last
        except refusals as refusal:
            last = refusal
        assert loop.time() < deadline, f"waited {timeout_seconds} s for {what}; last answer: {last!r}"
        await asyncio.sleep(interval_seconds)


async def lag(seconds: float) -> None:
    """Delay a stand-in of a slow network or backend. Only such stand-ins use it, never a test that waits."""
    if seconds:
        await asyncio.sleep(seconds)


def wait_for_answers() -> None:
    """Give each request of httpx that names no time-out the one of the tests; its own is 5 s."""
    default = inspect.signature(httpx.Client).parameters["timeout"].default
    default.connect = default.read = default.write = default.pool = DEFAULT_TIMEOUT_SECONDS
