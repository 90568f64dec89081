"""The builder: which path goes where, what a start needs and what an end leaves."""

from __future__ import annotations

import socket
from collections.abc import Iterator, MutableMapping
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec import structs
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from app import server
from app.errors import ConfigError, StoreUnavailable
from app.server import Application, Services
from app.settings import Config
from tests.support.store import make_site, running_valkey
from tests.support.valkey import Valkey

SITE = make_site()


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    """A Redis for this module."""
    with running_valkey() as running:
        yield running


@pytest.fixture
def config(valkey: Valkey) -> Config:
    """A server on it."""
    return Config(redis_url=valkey.url, sites={"shop": SITE})


class Endpoint:
    """An ASGI application that remembers the paths that reached it."""

    def __init__(self) -> None:
        """None yet."""
        self.paths: list[str] = []

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        """Remember."""
        self.paths.append(scope["path"])


async def ask(application: Application, path: str, kind: str = "http", method: str = "GET") -> tuple[int, bytes] | None:
    """Status and body that a path is answered with; None when it went to an endpoint that does not answer."""
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(event: MutableMapping[str, Any]) -> None:
        sent.append(event)

    scope = {"type": kind, "path": path, "method": method, "headers": [], "query_string": b"", "root_path": ""}
    await application(scope, receive, send)
    return (sent[0]["status"], sent[1]["body"]) if len(sent) > 1 else None


async def test_paths() -> None:
    """/send and the Socket.IO path go straight to their endpoints, pages below the latter's path to the pages."""
    send, sockets = Endpoint(), Endpoint()
    services = SimpleNamespace(send=send, socket_server=SimpleNamespace(asgi=sockets))
    page = Route("/socket.io/socket.io.js", lambda request: PlainTextResponse("bundle"))
    application = Application(cast(Services, services), [page])
    assert await ask(application, "/healthcheck") == (200, b"ok")
    assert await ask(application, "/socket.io/socket.io.js") == (200, b"bundle")
    for path in ("/", "/nothing", "/send/", "/sockets"):
        answer = await ask(application, path)
        assert answer
        assert answer[0] == 404
    assert [await ask(application, path) for path in ("/send", "/socket.io/", "/socket.io")] == [None] * 3
    await ask(application, "/socket.io/", "websocket")
    assert (send.paths, sockets.paths) == (["/send"], ["/socket.io/", "/socket.io", "/socket.io/"])


async def test_start_and_end_leave_nothing(config: Config, valkey: Valkey) -> None:
    """A node that was started and ended in order has left Redis as it was, worker ids included."""
    valkey.client.flushall()
    async with AsyncExitStack() as stack:
        services = await Services.start(config, stack)
        assert valkey.client.zcard("recado:nodes") == 1
        assert len(valkey.client.keys("recado:worker:*")) == 1
        assert services.bus.is_hearing
        await services.drain()
    assert valkey.client.keys("*") == []


async def test_start_without_redis(config: Config, tmp_path: Path) -> None:
    """A start without Redis fails with what does not answer, and leaves nothing running."""
    away = structs.replace(config, redis_url=f"unix://{tmp_path}/nowhere")
    async with AsyncExitStack() as stack:
        with pytest.raises(StoreUnavailable, match="nowhere"):
            await Services.start(away, stack)


async def test_embedded_store_is_the_default(config: Config, tmp_path: Path, valkey: Valkey) -> None:
    """Without a URL the server runs a Valkey of its own on the data directory, and ends it."""
    alone = structs.replace(config, redis_url=None, data_dir=tmp_path / "data")
    async with AsyncExitStack() as stack:
        services = await Services.start(alone, stack)
        assert services.redis.is_available
        assert str(tmp_path) in str(services.redis.address)
    assert not services.redis.is_available


def test_port_in_use() -> None:
    """A port that is taken is a ConfigError that names the setting and the address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port: expected a free port to listen on, 127.0.0.1:{port} is not"):
            server._listen("127.0.0.1", port)


def test_port_zero_is_any_free_port() -> None:
    """Port 0 picks one."""
    with server._listen("127.0.0.1", 0) as listening:
        assert listening.getsockname()[1] > 0
