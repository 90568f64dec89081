"""The signals that ask a process to end."""

import asyncio
import os
import signal

import pytest
from structlog.testing import capture_logs

from app.node.signals import end_signals, ignore_hangup
from tests.support.waiting import until


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_is_obeyed_on_the_loop(number: int) -> None:
    """Each signal is reported by its number, every time that it arrives, and does not end the process by itself."""
    heard: list[int] = []
    with end_signals(heard.append):
        for count in (1, 2):
            os.kill(os.getpid(), number)
            await until(lambda count=count: len(heard) == count, "the signal")  # type: ignore[misc]
    assert heard == [number, number]


async def test_nothing_is_obeyed_behind_the_block() -> None:
    """After the block the signals have their previous effect."""
    with end_signals(lambda number: None):
        pass
    assert not asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)


async def test_a_hangup_is_logged_and_ends_nothing() -> None:
    """SIGHUP is no reason to end: the log says that it does nothing, each time. Behind the block it is ignored."""
    before = signal.getsignal(signal.SIGHUP)
    ignore_hangup()
    try:
        with capture_logs() as logs, end_signals(lambda number: None):
            for count in (1, 2):
                os.kill(os.getpid(), signal.SIGHUP)
                await until(lambda count=count: len(logs) == count, "the signal")  # type: ignore[misc]
        os.kill(os.getpid(), signal.SIGHUP)
        assert {line["event"] for line in logs} == {"SIGHUP ignored"}
    finally:
        signal.signal(signal.SIGHUP, before)
