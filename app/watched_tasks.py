"""The long-lived tasks of a process, each with a name: a task that ends unasked ends the process.

A node whose beat, subscription or reconnect has died would serve on and lose messages. A new process does not.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from contextvars import ContextVar
from typing import Any

import structlog

from app.errors import RecadoError

_log = structlog.get_logger(__name__)


class WatchedTasks:
    """The tasks of one process. Lives as long as the process serves; the owner of a task cancels it."""

    def __init__(self) -> None:
        #: Called once, with the name of the first task that has ended unasked.
        self.on_end: Callable[[str], None] = lambda name: None
        #: The name of that task.
        self.ended = ""

    @property
    def are_whole(self) -> bool:
        """Whether no task has ended unasked. May be read from any thread."""
        return not self.ended

    def check(self) -> None:
        """Raises RecadoError when a task has ended unasked."""
        if self.ended:
            raise RecadoError(f"The task {self.ended!r} has ended unasked, see the log")

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """Has everything that begins within the `with` start its tasks here."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)

    def start(self, work: Coroutine[Any, Any, None], name: str, *, may_return: bool = False) -> "asyncio.Task[None]":
        """Starts a task that lasts until its owner cancels it, or with `may_return` until its work is done."""
        task = asyncio.create_task(work, name=name)

        def ended(task: "asyncio.Task[None]") -> None:
            failure = None if task.cancelled() else task.exception()
            # A task that nobody has cancelled may end as cancelled: a future that it waited for was.
            if task.cancelling() or (may_return and failure is None and not task.cancelled()):
                return
            _log.error("task ended", task=name, exc_info=failure)
            if not self.ended:
                self.ended = name
                self.on_end(name)

        task.add_done_callback(ended)
        return task


_current: ContextVar[WatchedTasks | None] = ContextVar("watched tasks", default=None)


def current_tasks() -> WatchedTasks:
    """The tasks of this process; outside of a process that serves, tasks that are only logged."""
    return _current.get() or WatchedTasks()


def start_watched(work: Coroutine[Any, Any, None], name: str, *, may_return: bool = False) -> "asyncio.Task[None]":
    """Starts a long-lived task of this process; see `WatchedTasks.start`."""
    return current_tasks().start(work, name, may_return=may_return)


def start_logged(work: Coroutine[Any, Any, None], name: str) -> "asyncio.Task[None]":
    """Starts a task that ends by itself; an error that it does not handle is logged under its name."""
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(_log_failure)
    return task


def _log_failure(task: "asyncio.Task[Any]") -> None:
    if not task.cancelled() and (failure := task.exception()) is not None:
        _log.error("task failed", task=task.get_name(), exc_info=failure)
