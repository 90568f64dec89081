"""The signals that ask a process to end, or to read its configuration."""

import asyncio
import os
import signal

import pytest

from app.node.signals import ignore_hangup, obeyed_signals
from tests.support.waiting import until


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_is_obeyed_on_the_loop(number: int) -> None:
    """Each signal is reported by its number, every time that it arrives, and does not end the process by itself."""
    heard: list[int] = []
    with obeyed_signals(heard.append, lambda: None):
        for count in (1, 2):
            os.kill(os.getpid(), number)
            await until(lambda count=count: len(heard) == count, "the signal")  # type: ignore[misc]
    assert heard == [number, number]


async def test_nothing_is_obeyed_behind_the_block() -> None:
    """After the block the signals have their previous effect."""
    with obeyed_signals(lambda number: None, lambda: None):
        pass
    assert not asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)


async def test_a_hangup_asks_for_a_reload() -> None:
    """SIGHUP is reported each time, apart from the signals that end. Before and behind the block it is ignored."""
    before = signal.getsignal(signal.SIGHUP)
    ignore_hangup()
    heard: list[str] = []
    try:
        os.kill(os.getpid(), signal.SIGHUP)
        with obeyed_signals(lambda number: heard.append("end"), lambda: heard.append("reload")):
            for count in (1, 2):
                os.kill(os.getpid(), signal.SIGHUP)
                await until(lambda count=count: len(heard) == count, "the signal")  # type: ignore[misc]
        os.kill(os.getpid(), signal.SIGHUP)
        assert heard == ["reload", "reload"]
    finally:
        signal.signal(signal.SIGHUP, before)
