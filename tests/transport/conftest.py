"""Runs the transport's tests on both event loops: uvloop as in production, asyncio's own for where there is none."""

import asyncio
from collections.abc import Callable

import uvloop


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Name the loops (a hook of pytest-asyncio)."""
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
