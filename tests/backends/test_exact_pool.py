"""Exchanges through httpx: a reason for each of its errors, connections kept, tried again, bounded and closed."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from time import monotonic

import httpx
import pytest

from app.backends import exact_pool, exchange
from app.backends.exact_pool import REASONS, ExactPool, default_context
from app.backends.exchange import BackendError, reason_of
from tests.backends.conftest import Backend, errors_of, http_answer

# Raised by parts of httpx that are not used here: redirects, cookies and raise_for_status of its client, the reading of
# a stream out of turn.
NOT_RAISED = {
    httpx.HTTPError,
    httpx.RequestError,
    httpx.TransportError,
    httpx.HTTPStatusError,
    httpx.TooManyRedirects,
    httpx.CookieConflict,
    httpx.StreamError,
    httpx.StreamConsumed,
    httpx.StreamClosed,
    httpx.ResponseNotRead,
    httpx.RequestNotRead,
}


@pytest.mark.parametrize("error", sorted(errors_of(httpx) - NOT_RAISED, key=str))
def test_every_error_of_httpx_has_a_reason(error: type[Exception]) -> None:
    """An exception that httpx gains fails this test until the table has it."""
    assert reason_of(error.__new__(error), REASONS)


class OneAnswer:
    """A backend that answers the first request of a connection and cuts it at the second. For one test."""

    def __init__(self) -> None:
        """Not yet listening."""
        self.url = ""
        self.answered = 0
        self.cut = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        await reader.readuntil(b"\r\n\r\n")
        writer.write(http_answer(b"ok"))
        self.answered += 1
        try:
            await reader.readuntil(b"\r\n\r\n")
            self.cut += 1
        except asyncio.IncompleteReadError:
            pass
        writer.close()


@pytest.fixture
async def one_answer() -> AsyncIterator[OneAnswer]:
    """A running one."""
    backend = OneAnswer()
    server = await asyncio.start_server(backend.serve, "127.0.0.1", 0)
    backend.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    yield backend
    server.close()


@pytest.fixture
async def pool() -> AsyncIterator[ExactPool]:
    """A pool, closed when the test ends."""
    made = ExactPool(default_context())
    yield made
    await made.close()


@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_a_connection_that_the_backend_closed(one_answer: OneAnswer, pool: ExactPool, method: str) -> None:
    """A request that meets the end of an idle connection is retried silently on another."""
    for _ in range(2):
        assert (await pool.exchange(method, one_answer.url, [], b"")).body == b"ok"
    assert (one_answer.answered, one_answer.cut) == (2, 1)


async def test_a_post_is_not_made_twice(one_answer: OneAnswer, pool: ExactPool) -> None:
    """The backend may have acted on a POST: it fails, and the next one uses another connection."""
    await pool.exchange("POST", one_answer.url, [], b"")
    with pytest.raises(BackendError, match=r"^connection failed$"):
        await pool.exchange("POST", one_answer.url, [], b"")
    assert (await pool.exchange("POST", one_answer.url, [], b"")).body == b"ok"


async def test_connections_are_kept_and_bounded(backend: Backend, pool: ExactPool) -> None:
    """Requests one after the other share a connection; at most the bound are open; those idle for long are closed."""
    pool._places = asyncio.Semaphore(3)
    for _ in range(3):
        await pool.exchange("GET", backend.url, [], b"")
    assert len(pool._open) == 1
    backend.gate = asyncio.Event()
    requests = [asyncio.create_task(pool.exchange("GET", backend.url, [], b"")) for _ in range(20)]
    await backend.has_requests(3 + 3)
    backend.gate.set()
    await asyncio.gather(*requests)
    assert backend.most_at_once == 3
    assert len(pool._open) == len(pool._idle) == 3
    pool._idle = deque((monotonic() - exchange.KEEPALIVE_SECONDS - 1, transport) for _, transport in pool._idle)
    await pool.exchange("GET", backend.url, [], b"")
    assert len(pool._open) == len(pool._idle) == 1


async def test_idle_connections_are_taken_while_old_ones_close(
    backend: Backend, pool: ExactPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that another request takes while an expired one is closed is missed by nobody."""
    # Every idle connection counts as expired at once, so that none is left.
    monkeypatch.setattr(exchange, "KEEPALIVE_SECONDS", -1.0)
    answers = await asyncio.gather(*(pool.exchange("GET", backend.url, [], b"") for _ in range(20)))
    assert [answer.status for answer in answers] == [200] * 20
    assert not pool._idle


async def test_a_request_that_is_given_up(backend: Backend, pool: ExactPool) -> None:
    """Its connection is closed and its place is free again."""
    backend.gate = asyncio.Event()
    request = asyncio.create_task(pool.exchange("GET", backend.url, [], b""))
    await backend.has_requests(1)
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)
    assert not pool._open
    backend.gate.set()
    assert (await pool.exchange("GET", backend.url, [], b"")).status == 200


async def test_close_ends_requests(backend: Backend, pool: ExactPool) -> None:
    """A request in flight fails when the pool is closed, and leaves no connection behind."""
    backend.gate = asyncio.Event()
    request = asyncio.create_task(pool.exchange("POST", backend.url, [], b""))
    await backend.has_requests(1)
    await pool.close()
    with pytest.raises(BackendError, match=r"^connection failed$"):
        await request
    assert not pool._open
    assert not pool._idle


def test_one_connection_a_transport() -> None:
    """A transport of many connections would go over all of them for each request."""
    assert exact_pool._LIMITS.max_connections == 1
