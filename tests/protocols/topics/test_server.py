"""Topics as a bare ASGI application, as servers without our extension see it; and the failures of what it needs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.config.settings import Topics
from app.errors import AuthRefused, StoreError, StoreUnavailable
from app.ids import FlakeIds
from app.protocols.topics.http_bind_directory import HttpBindDirectory
from app.protocols.topics.redis_topics import RedisTopics
from app.protocols.topics.server import TopicsParts, TopicsServer
from tests.protocols.topics.conftest import topics_site
from tests.support.store import StoreNode
from tests.support.topic_frames import FrameReader
from tests.support.valkey import Valkey
from tests.support.waiting import until

SITE = topics_site(topics=Topics(bind_url="http://127.0.0.1:9/"), outbox_limit_bytes=20_000)


class Exchanged:
    """One request to the application, and what it answers. Lives for one test."""

    def __init__(self, server: TopicsServer, method: str, path: str, body: bytes = b"", query: bytes = b"") -> None:
        """Begin it."""
        self.sent: list[dict[str, Any]] = []
        self.left = asyncio.Event()
        self.reads = asyncio.Event()
        self.reads.set()
        self._body: bytes | None = body
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query,
            "headers": [(b"x-api-key", b"secret")],
            "http_version": "1.1",
        }
        self.task = asyncio.create_task(server(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body}
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        await self.reads.wait()
        self.sent.append(dict(message))

    @property
    def status(self) -> int:
        """Of the answer."""
        return int(self.sent[0]["status"])

    @property
    def body(self) -> bytes:
        """What has come of it."""
        return b"".join(message.get("body", b"") for message in self.sent)

    @property
    def events(self) -> list[dict[str, Any]]:
        """The frames in it."""
        reader = FrameReader()
        reader.feed(self.body.decode())
        return reader.events


@pytest.fixture
async def server(valkey: Valkey) -> AsyncIterator[TopicsServer]:
    """The application on a node without HTTP."""
    node = await StoreNode.start(valkey, [SITE])
    store = RedisTopics(node.redis, node.name)
    directory = HttpBindDirectory(0.5)
    parts = TopicsParts(node.delivery, store, directory, node.limits, FlakeIds(0, 1), node.counts, node.name, 1_000)
    topics = TopicsServer({SITE.name: SITE}, parts)
    await topics.start()
    yield topics
    await topics.hub.drained()
    await topics.close()
    await directory.aclose()
    await node.close()


async def ask(server: TopicsServer, method: str, path: str, body: bytes = b"") -> Exchanged:
    """A request with its whole answer."""
    exchanged = Exchanged(server, method, path, body)
    await exchanged.task
    return exchanged


async def test_stream(server: TopicsServer) -> None:
    """A stream goes over `send`, and ends when the client leaves."""
    stream = Exchanged(server, "POST", "/topics/shop/", b'{"ep":["a"]}')
    await until(lambda: stream.events, "the greeting")
    assert (await ask(server, "POST", "/topics/shop/event", b'{"ep":["a"],"e":{"type":"t"}}')).status == 200
    await until(lambda: len(stream.events) == 2, "the event")
    assert dict(stream.sent[0]["headers"])[b"content-type"] == b"text/plain;charset=utf-8"
    stream.left.set()
    await stream.task
    assert server.hub.sites["shop"].counts.stream_ends == {"client left": 1}


async def test_drain(server: TopicsServer) -> None:
    """A drain ends it as a complete response."""
    stream = Exchanged(server, "POST", "/topics/shop/", b'{"ep":["a"]}')
    await until(lambda: stream.events, "the greeting")
    await server.drain(0.1)
    await stream.task
    assert stream.sent[-1] == {"type": "http.response.body", "body": b""}
    assert (await ask(server, "POST", "/topics/shop/", b'{"ep":["a"]}')).status == 503


async def test_slow_reader(server: TopicsServer) -> None:
    """A client that does not read is cut off at the bound."""
    stream = Exchanged(server, "POST", "/topics/shop/", b'{"ep":["a"]}')
    await until(lambda: stream.events, "the greeting")
    stream.reads.clear()
    body = json.dumps({"ep": ["a"], "e": {"type": "t", "detail": "x" * 900}}).encode()
    for _ in range(40):
        assert (await ask(server, "POST", "/topics/shop/event", body)).status == 200
    await until(stream.task.done, "the end")
    assert server.hub.sites["shop"].counts.stream_ends == {"outbox full": 1}


@pytest.mark.parametrize(("error", "status"), [(StoreUnavailable(), 503), (StoreError("odd"), 500)])
async def test_store_that_fails(
    server: TopicsServer, monkeypatch: pytest.MonkeyPatch, error: StoreError, status: int
) -> None:
    """503 while Redis is away, 500 when it says something else."""

    async def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(RedisTopics, "open", fail)
    monkeypatch.setattr(RedisTopics, "clients", fail)
    assert (await ask(server, "POST", "/topics/shop/", b'{"ep":["a"]}')).status == status
    assert (await ask(server, "GET", "/topics/shop/connections")).status == status


async def test_store_that_fails_later(server: TopicsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream whose beginning fails behind its head is ended, so that the client comes back."""

    async def fail(*_: object) -> None:
        raise StoreUnavailable

    monkeypatch.setattr(RedisTopics, "instances", fail)
    stream = Exchanged(server, "POST", "/topics/shop/", b'{"ep":["@CONNECTION@/x"]}')
    await stream.task
    assert server.hub.sites["shop"].counts.stream_ends == {"message store not available": 1}


async def test_bind_url_that_fails(server: TopicsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """502 with the reason."""
    answer = await ask(server, "POST", "/topics/shop/", b'{"ep":["a"],"bind_key":"k"}')
    assert (answer.status, answer.body) == (502, b"Bind error: connection failed")

    async def refuse(*_: object) -> None:
        raise AuthRefused("Bind error: odd")

    monkeypatch.setattr(HttpBindDirectory, "fetch_user", refuse)
    assert (await ask(server, "POST", "/topics/shop/", b'{"ep":["a"],"bind_key":"k"}')).body == b"Bind error: odd"


async def test_body_too_large(server: TopicsServer) -> None:
    """413 for more than the bound, wherever a body is taken."""
    for method, path in (("POST", ""), ("POST", "/event"), ("POST", "/alive"), ("PUT", "/registry/a")):
        assert (await ask(server, method, f"/topics/shop{path}", b" " * 1001)).status == 413


async def test_websocket(server: TopicsServer) -> None:
    """A WebSocket is refused."""
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    await server({"type": "websocket", "path": "/topics/shop/"}, receive, send)
    assert sent == [{"type": "websocket.close"}]
