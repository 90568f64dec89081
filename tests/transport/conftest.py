"""Runs the transport's tests on both event loops: uvloop as in production, asyncio's own for where there is none."""

import asyncio
from collections.abc import Callable

import pytest
import uvloop

from tests.transport.tls import Certificate, make_certificate


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Name the loops (a hook of pytest-asyncio)."""
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A certificate for TLS on 127.0.0.1."""
    return make_certificate(tmp_path_factory.mktemp("tls"))
