"""Watched tasks: a task that ends unasked is logged, known by its name, and told once."""

import asyncio
from collections.abc import Callable, Coroutine

import pytest
from structlog.testing import capture_logs

from app.errors import RecadoError
from app.watched_tasks import WatchedTasks, start_logged, start_watched


async def _fail() -> None:
    raise ValueError("a mistake")


async def _return() -> None:
    pass


async def _wait_for_cancelled() -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


async def _wait(is_past_timeout: asyncio.Event) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await asyncio.Event().wait()
    is_past_timeout.set()
    await asyncio.Event().wait()


@pytest.mark.parametrize("work", [_fail, _return, _wait_for_cancelled])
async def test_an_end_that_nobody_asked_for(work: Callable[[], Coroutine[None, None, None]]) -> None:
    """An error, a return and a foreign cancellation are ends: logged with the name and told once."""
    told: list[str] = []
    tasks = WatchedTasks()
    tasks.on_end = told.append
    with capture_logs() as logs, tasks.current():
        for name in ("first", "second"):
            await asyncio.wait([start_watched(work(), name)])
    assert told == ["first"]
    assert [(line["event"], line["task"]) for line in logs] == [("task ended", "first"), ("task ended", "second")]
    assert not tasks.are_whole
    with pytest.raises(RecadoError, match="'first' has ended unasked"):
        tasks.check()


async def test_an_end_that_was_asked_for() -> None:
    """Its owner cancels a task, also one that had a time-out before; work that may return returns."""
    tasks = WatchedTasks()
    is_past_timeout = asyncio.Event()
    task = tasks.start(_wait(is_past_timeout), "waits")
    await is_past_timeout.wait()
    task.cancel()
    await asyncio.wait([task, tasks.start(_return(), "returns", may_return=True)])
    assert tasks.are_whole
    tasks.check()


async def test_work_that_may_return_may_not_fail() -> None:
    """An error ends the process also where a return is an end like any other."""
    tasks = WatchedTasks()
    await asyncio.wait([tasks.start(_fail(), "fails", may_return=True)])
    assert tasks.ended == "fails"


async def test_short_work_is_logged() -> None:
    """An error of a short task is logged under its name, and ends nothing."""
    tasks = WatchedTasks()
    with capture_logs() as logs, tasks.current():
        await asyncio.wait([start_logged(_fail(), "burial"), start_logged(_return(), "restore")])
    assert [(line["event"], line["task"]) for line in logs] == [("task failed", "burial")]
    assert tasks.are_whole
