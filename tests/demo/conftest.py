"""A server with its demo site, a Chromium, and its pages, which must end without an error in their log."""

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
    """`recado serve --demo` with data of its own, as a newcomer starts it. The code that makes it calls `end`."""

    def __init__(self, **environment: str) -> None:
        """Start it on a free port, which it keeps over restarts."""
        self._environment = environment
        # The path of a unix socket may have 107 characters, so the directory's path is short.
        self._directory = Path(tempfile.mkdtemp(prefix="recado-"))
        self._port = free_port()
        self.start()

    @property
    def url(self) -> str:
        """The URL on which it listens."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it, or start it again on the same data and port."""
        data = str(self._directory / "data")
        arguments = ("--demo", "--port", str(self._port), "--data-dir", data)
        self._process = Server(self._directory, *arguments, **self._environment)

    def stop(self) -> None:
        """End the process; `start` starts it again."""
        self._process.end()

    def end(self) -> None:
        """End the process and remove its data."""
        self.stop()
        shutil.rmtree(self._directory, ignore_errors=True)


@pytest.fixture(scope="module")
def demo() -> Iterator[DemoServer]:
    """The server of one module. Tests share its users and queues, so each test has a device of its own."""
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
