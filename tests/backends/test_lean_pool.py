"""The connections to one backend: kept, closed by the backend, of more than one address, over TLS."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from app.backends.exact_pool import default_context
from app.backends.exchange import BackendError
from app.backends.lean_pool import LeanPool
from tests.backends.conftest import Backend, http_answer
from tests.support.certificates import Authority
from tests.support.waiting import until


@pytest.fixture
async def pool() -> AsyncIterator[LeanPool]:
    """A pool, closed when the test ends."""
    made = LeanPool(default_context())
    yield made
    await made.close()


async def ask(pool: LeanPool, url: str, method: str = "GET") -> int:
    """The status of an answer."""
    return (await pool.exchange(method, url, [], b"")).status


async def test_a_connection_is_kept(backend: Backend, pool: LeanPool) -> None:
    """Requests one after another share a connection, those at once do not."""
    for _ in range(3):
        await ask(pool, backend.url)
    assert backend.connections == 1
    backend.gate = asyncio.Event()
    asked = asyncio.gather(*(ask(pool, backend.url) for _ in range(3)))
    await backend.has_requests(6)
    backend.gate.set()
    assert await asked == [200] * 3
    assert backend.connections == 3


async def test_connections_expire(backend: Backend, pool: LeanPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that has been idle for long is closed when another one comes back."""
    backend.gate = asyncio.Event()
    asked = asyncio.gather(ask(pool, backend.url), ask(pool, backend.url))
    await backend.has_requests(2)
    backend.gate.set()
    await asked
    assert pool._wires is not None
    monkeypatch.setattr(pool._wires, "_keepalive_seconds", 0.0)
    await ask(pool, backend.url)
    await until(lambda: backend.open_connections == 1, "the other one to be closed")


@pytest.mark.parametrize(("method", "again"), [("GET", True), ("PUT", True), ("POST", False)])
async def test_a_connection_that_the_backend_closes(backend: Backend, pool: LeanPool, method: str, again: bool) -> None:
    """A request that meets a closing connection is sent again over a new one, where a repeat does no harm."""
    await ask(pool, backend.url)
    backend.cuts = 1
    if again:
        assert await ask(pool, backend.url, method) == 200
    else:
        with pytest.raises(BackendError, match=r"^connection failed$"):
            await ask(pool, backend.url, method)
    assert len(backend.requests) == 2 + again


async def test_a_new_connection_that_fails(backend: Backend, pool: LeanPool) -> None:
    """A request whose own new connection is cut is not sent again."""
    backend.cuts = 5
    with pytest.raises(BackendError, match=r"^connection failed$"):
        await ask(pool, backend.url)
    assert len(backend.requests) == 1


async def test_a_cancelled_request_takes_its_connection_along(backend: Backend, pool: LeanPool) -> None:
    """The answer of a request that was given up reaches nobody: its connection is not used again."""
    backend.gate = asyncio.Event()
    first = asyncio.create_task(ask(pool, backend.url))
    await backend.has_requests(1)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    backend.gate.set()
    assert await ask(pool, backend.url) == 200
    assert backend.connections == 2


async def test_another_url(backend: Backend, pool: LeanPool) -> None:
    """A site that gets another URL leaves the connections to the old one."""
    await ask(pool, backend.url)
    await ask(pool, backend.url.replace("127.0.0.1", "localhost"))
    assert backend.connections == 2
    assert [request.headers["host"] for request in backend.requests] == [
        backend.url.removeprefix("http://").encode(),
        backend.url.removeprefix("http://").replace("127.0.0.1", "localhost").encode(),
    ]


async def test_an_address_that_does_not_answer(
    backend: Backend, pool: LeanPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host of two addresses is asked at the second one when the first one refuses."""
    port = int(backend.url.rpartition(":")[2])

    async def addresses(*_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET6, 1, 6, "", ("::1", port, 0, 0)), (socket.AF_INET, 1, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", addresses)
    assert await ask(pool, f"http://a.test:{port}/") == 200


async def test_one_look_up_at_a_time(backend: Backend, pool: LeanPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host whose name takes long to look up holds one thread, however many wait for it or have given up."""
    url, gate, lookups = f"http://slow.example:{backend.url.rpartition(':')[2]}", asyncio.Event(), 0

    async def addresses(*_: object, **__: object) -> list[Any]:
        nonlocal lookups
        lookups += 1
        await gate.wait()
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 0))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", addresses)
    asked = [asyncio.create_task(ask(pool, url)) for _ in range(20)]
    await until(lambda: lookups > 0, "a look-up")
    for task in asked[:10]:
        task.cancel()
    await asyncio.wait(asked[:10])
    asked[:10] = [asyncio.create_task(ask(pool, url)) for _ in range(10)]
    await asyncio.sleep(0)
    gate.set()
    assert await asyncio.gather(*asked) == [200] * 20
    assert lookups == 1


async def test_close(backend: Backend, pool: LeanPool) -> None:
    """A closed pool has no connection, also not that of a request in flight, which fails."""
    await ask(pool, backend.url)
    backend.gate = asyncio.Event()
    asked = asyncio.create_task(ask(pool, backend.url))
    await backend.has_requests(2)
    await pool.close()
    with pytest.raises(BackendError, match=r"^connection failed$"):
        await asked
    backend.gate.set()
    await until(lambda: backend.open_connections == 0, "the connection to be closed")


async def test_tls(tmp_path: Path) -> None:
    """A backend over TLS is asked by its name; a certificate of another name, or of nobody known, is a failure."""
    authority = Authority(tmp_path)
    pair = authority.sign("backend")
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    served.load_cert_chain(pair.cert, pair.key)
    trusted = ssl.create_default_context(cafile=str(authority.cert))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(http_answer(b"[]"))
        writer.close()

    servers = [await asyncio.start_server(serve, host, 0, ssl=served) for host in ("127.0.0.1", "127.0.0.2")]
    right, wrong = (f":{server.sockets[0].getsockname()[1]}/" for server in servers)
    for context, url, expected in (
        (trusted, f"https://localhost{right}", 200),
        (trusted, f"https://127.0.0.1{right}", 200),
        (trusted, f"https://127.0.0.2{wrong}", "connection failed: SSLCertVerificationError"),
        (default_context(), f"https://localhost{right}", "connection failed: SSLCertVerificationError"),
    ):
        pool = LeanPool(context)
        try:
            got: int | str = await ask(pool, url)
        except BackendError as error:
            got = f"{error}: {error.cause.partition(':')[0]}"
        assert got == expected
        await pool.close()
    for server in servers:
        server.close()
