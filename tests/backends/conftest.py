"""A tenant's backend that answers with prepared bytes and records what it was asked, on the test's own loop."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import structlog
from structlog.testing import LogCapture

from app.config.settings import Site
from tests.support.waiting import lag


def http_answer(body: bytes = b"[]", status: str = "200 OK", *headers: str) -> bytes:
    """A whole HTTP answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def errors_of(module: object) -> set[type[Exception]]:
    """The exceptions that a library offers."""
    names = (getattr(module, name) for name in dir(module))
    return {item for item in names if isinstance(item, type) and issubclass(item, Exception)}


class Request:
    """One request as it came in, header names in lower case, values as bytes."""

    def __init__(self, head: bytes, body: bytes) -> None:
        first, *lines = head.rstrip(b"\r\n").split(b"\r\n")
        self.method, self.target, _ = first.decode().split(" ")
        self.headers = {name.lower().decode(): value for name, _, value in (line.partition(b": ") for line in lines)}
        self.body = body


class Backend:
    """Lives for one test; `close` ends its connections."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.answer = http_answer()
        #: When set, answers wait for it.
        self.gate: asyncio.Event | None = None
        self.delay_seconds = 0.0
        self.connections = 0
        #: How many of the next requests cut their connection instead of an answer.
        self.cuts = 0
        self.most_at_once = 0
        self._at_once = 0
        self._changed = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listens on a free port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024)

    @property
    def url(self) -> str:
        """Where it listens."""
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    @property
    def open_connections(self) -> int:
        """How many neither side has closed."""
        return sum(not task.done() for task in self._tasks)

    async def has_requests(self, count: int) -> list[Request]:
        """Waits until this many requests have come in."""
        async with asyncio.timeout(30), self._changed:
            await self._changed.wait_for(lambda: len(self.requests) >= count)
        return self.requests

    async def close(self) -> None:
        """Stops listening and ends every connection."""
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            while True:
                await self._answer_one(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = Request(await reader.readuntil(b"\r\n\r\n"), b"")
        request.body = await reader.readexactly(int(request.headers.get("content-length", b"0")))
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        async with self._changed:
            self.requests.append(request)
            self._changed.notify_all()
        if self.gate is not None:
            await self.gate.wait()
        await lag(self.delay_seconds)
        self._at_once -= 1
        if self.cuts:
            self.cuts -= 1
            raise ConnectionError("the test asked for a connection that is cut")
        if not self.answer:
            raise ConnectionError("the test asked for a connection that is cut")
        writer.write(self.answer)
        await writer.drain()


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    """A running backend."""
    server = Backend()
    await server.start()
    yield server
    await server.close()


@pytest.fixture
def make_site(backend: Backend) -> Callable[..., Site]:
    """Makes a site whose URLs lead to the backend."""

    def make(name: str = "newsite", **settings: Any) -> Site:
        given: dict[str, Any] = {
            "auth_url": f"{backend.url}/rooms",
            "auth_scheme": "Token",
            "api_key": "54321",
            "update_user_url": f"{backend.url}/users/:id.json",
        }
        return Site(name=name, **(given | settings))

    return make


@pytest.fixture
def logged() -> list[dict[str, object]]:
    """The log lines of the test."""
    capture = LogCapture()
    structlog.configure(processors=[capture], cache_logger_on_first_use=False)
    return capture.entries  # type: ignore[return-value]  # a list of mutable mappings
