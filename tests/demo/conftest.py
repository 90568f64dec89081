"""A server with its demo site, a Chromium, and pages of it that must end without a complaint."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.browser import Browser, Page
from tests.support.ports import free_port
from tests.support.server import Server

OpenPage = Callable[..., Page]


class DemoServer:
    """`recado serve --demo` with data of its own, as a newcomer starts it; whoever makes it calls `end`."""

    def __init__(self) -> None:
        """Start it on a free port, which it keeps."""
        # A short path: a unix socket's may have 107 characters.
        self._directory = Path(tempfile.mkdtemp(prefix="recado-"))
        self._port = free_port()
        self.start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it, or start it again on the same data and port."""
        data = str(self._directory / "data")
        self._process = Server(self._directory, "--demo", "--port", str(self._port), "--data-dir", data)

    def stop(self) -> None:
        """End the process; `start` brings it back."""
        self._process.end()

    def end(self) -> None:
        """End the process and remove its data."""
        self.stop()
        shutil.rmtree(self._directory, ignore_errors=True)


@pytest.fixture(scope="module")
def demo() -> Iterator[DemoServer]:
    """The server of one module; its users and queues are shared by the tests, so each has a device of its own."""
    server = DemoServer()
    yield server
    server.end()


@pytest.fixture
def open_page(demo: DemoServer, browser: Browser) -> Iterator[OpenPage]:
    """Opens the demo's page, with the options of `Browser.open`; its pages are closed when the test ends."""
    pages: list[Page] = []

    def open_page(**options: Any) -> Page:
        pages.append(browser.open(f"{demo.url}/demo", **options))
        return pages[-1]

    yield open_page
    for page in pages:
        page.close()
