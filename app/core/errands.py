"""Errands: work for the store that nobody waits for. It is retried until Redis has taken it, and awaited at the end."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Coroutine
from typing import TypeVar

import structlog

from app.errors import StoreError, StoreUnavailable

_RETRY_SECONDS = (0.1, 0.25, 0.5, 1.0)

_T = TypeVar("_T")

_log = structlog.get_logger(__name__)


class Errands:
    """The tasks of one node. Lives as long as the node; `drain` waits for the tasks."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[None, None, object]) -> None:
        """Starts a task for the work; returns at once. A refusal of the store is logged."""
        task = asyncio.ensure_future(self._run(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def until_stored(self, attempt: Callable[[], Awaitable[_T]]) -> _T:
        """Retries an idempotent command until Redis has taken it; answers its result."""
        for seconds in itertools.chain(_RETRY_SECONDS, itertools.repeat(_RETRY_SECONDS[-1])):
            try:
                return await attempt()
            except StoreUnavailable:
                await asyncio.sleep(seconds)
        raise AssertionError("the retries are endless")

    async def drain(self) -> None:
        """Waits until all tasks have ended. Called at the end, with a time-out."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _run(self, work: Coroutine[None, None, object]) -> None:
        try:
            await work
        except StoreError as error:
            _log.error("store refused", reason=str(error))
