"""Topics as the only application of Recado's own server: streams, slow and leaving clients, failing dependencies."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs

from app.errors import AuthRefused, StoreError, StoreUnavailable
from app.ids import FlakeIds
from app.observe import counted_lines
from app.protocols.reading import new_reading_pool
from app.protocols.topics.exchange import MAX_FIELDS
from app.protocols.topics.http_bind_directory import HttpBindDirectory
from app.protocols.topics.redis_topics import RedisTopics
from app.protocols.topics.server import TopicsParts, TopicsServer
from app.protocols.topics.settings import Topics
from tests.protocols.topics.conftest import topics_site
from tests.support.store import StoreNode
from tests.support.topic_frames import FrameReader
from tests.support.valkey import Valkey
from tests.support.waiting import until
from tests.transport.serving import Peer, Served, serving

SITE = topics_site(topics=Topics(bind_url="http://127.0.0.1:9/", max_levels_per_address=10), outbox_limit_bytes=20_000)


class Exchanged:
    """One request and the received part of its answer. Lives for one test."""

    def __init__(self, http: aiohttp.ClientSession, method: str, url: str, body: bytes = b"") -> None:
        """Begin the request."""
        self.response: aiohttp.ClientResponse
        self.body = b""
        self.is_whole = False
        self.left = asyncio.Event()
        self.task = asyncio.create_task(self._exchange(http, method, url, body))

    async def _exchange(self, http: aiohttp.ClientSession, method: str, url: str, body: bytes) -> None:
        async with http.request(method, url, data=body, headers={"x-api-key": "secret"}) as self.response:
            reading = asyncio.create_task(self._read())
            leaving = asyncio.create_task(self.left.wait())
            await asyncio.wait((reading, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                self.response.close()
            leaving.cancel()
            await asyncio.gather(reading, leaving, return_exceptions=True)

    async def _read(self) -> None:
        async for piece in self.response.content.iter_any():
            self.body += piece
        # aiohttp raises before this line where the last chunk is missing.
        self.is_whole = True

    @property
    def status(self) -> int:
        """The status of the answer."""
        return self.response.status

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events received so far."""
        reader = FrameReader()
        reader.feed(self.body.decode())
        return reader.events


class ServedTopics:
    """The protocol of one node behind an HTTP server, and a client. Lives for one test."""

    def __init__(self, topics: TopicsServer, served: Served, http: aiohttp.ClientSession) -> None:
        self.topics = topics
        self._served = served
        self._base = f"http://127.0.0.1:{served.port}"
        self._http = http

    @property
    def stream_ends(self) -> dict[str, int]:
        """The number of ended streams, by reason."""
        return dict(self.topics.hub.sites["shop"].figures.stream_ends)

    def begin(self, method: str, path: str, body: bytes = b"") -> Exchanged:
        """Begin a request."""
        return Exchanged(self._http, method, self._base + path, body)

    async def silent_peer(self, body: bytes) -> Peer:
        """Subscribe as a client that never reads the answer."""
        peer = await self._served.socket()
        peer.pause_reading()
        peer.writer.write(b"POST /topics/shop/ HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
        return peer

    async def ask(self, method: str, path: str, body: bytes = b"") -> Exchanged:
        """Return a request with its whole answer."""
        exchanged = self.begin(method, path, body)
        await exchanged.task
        return exchanged


@pytest.fixture
async def server(valkey: Valkey) -> AsyncIterator[ServedTopics]:
    """The application of one node behind an HTTP server."""
    node = await StoreNode.start(valkey, [SITE])
    store = RedisTopics(node.redis, node.name)
    directory = HttpBindDirectory(0.5)
    reading = new_reading_pool()
    ids = FlakeIds(0, 1)
    parts = TopicsParts(node.delivery, store, directory, node.limits, ids, node.counts, node.name, 1_000, reading)
    topics = TopicsServer({SITE.name: SITE}, parts)
    await topics.start()
    application: Any = topics
    async with (
        serving(application, interface="asgi3", access_log=False) as served,
        aiohttp.ClientSession() as http,
    ):
        yield ServedTopics(topics, served, http)
        await topics.drain(0)
    await topics.hub.drained()
    await topics.close()
    reading.close()
    await directory.aclose()
    await node.close()


async def test_stream(server: ServedTopics) -> None:
    """A stream brings the events, and ends when the client leaves."""
    stream = server.begin("POST", "/topics/shop/", b'{"ep":["a"]}')
    await until(lambda: stream.events, "the greeting")
    assert (await server.ask("POST", "/topics/shop/event", b'{"ep":["a"],"e":{"type":"t"}}')).status == 200
    await until(lambda: len(stream.events) == 2, "the event")
    assert stream.response.headers["content-type"] == "text/plain;charset=utf-8"
    stream.left.set()
    await stream.task
    await until(lambda: server.stream_ends == {"client left": 1}, "the end")


async def test_levels_of_an_address(server: ServedTopics, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address whose streams hold as many levels as they may is told so; a stream that ends makes room."""
    body = json.dumps({"ep": ["a/b/c/d/e/f"]}).encode()
    stream = server.begin("POST", "/topics/shop/", body)
    await until(lambda: stream.events, "the stream")
    refused = await server.ask("POST", "/topics/shop/", body)
    assert (refused.status, refused.body) == (429, b"Too many levels of topics from this address: expected at most 10")
    monkeypatch.setattr(counted_lines, "WINDOW_SECONDS", 60.0)
    with capture_logs() as lines:
        for _ in range(5):
            await server.begin("POST", "/topics/shop/", body).task
    # The first refusal was written; others are counted.
    assert [line for line in lines if line["event"] == "request refused"] == []
    stream.left.set()
    await until(lambda: server.stream_ends, "its end")
    again = server.begin("POST", "/topics/shop/", body)
    await until(lambda: again.events, "another stream")
    again.left.set()


async def test_drain(server: ServedTopics) -> None:
    """A drain ends the stream as a complete response."""
    stream = server.begin("POST", "/topics/shop/", b'{"ep":["a"]}')
    await until(lambda: stream.events, "the greeting")
    await server.topics.drain(0.1)
    await stream.task
    assert stream.is_whole
    assert (await server.ask("POST", "/topics/shop/", b'{"ep":["a"]}')).status == 503


async def test_slow_reader(server: ServedTopics) -> None:
    """A client that does not read is cut off at the limit."""
    peer = await server.silent_peer(b'{"ep":["a"]}')
    stream = await until(lambda: next(iter(server.topics.hub.sites["shop"]), None), "the stream")
    await until(lambda: stream._response is not None, "its response")
    # More than the kernel's buffers hold.
    while not server.stream_ends and not stream._response.is_slow:
        stream.write_data(b"x" * 10_000)
        await asyncio.sleep(0)
    body = json.dumps({"ep": ["a"], "e": {"type": "t", "detail": "x" * 900}}).encode()
    for _ in range(40):
        assert (await server.ask("POST", "/topics/shop/event", body)).status == 200
    await until(lambda: server.stream_ends == {"outbox full": 1}, "the end")
    peer.close()


@pytest.mark.parametrize(("error", "status"), [(StoreUnavailable(), 503), (StoreError("odd"), 500)])
async def test_store_that_fails(
    server: ServedTopics, monkeypatch: pytest.MonkeyPatch, error: StoreError, status: int
) -> None:
    """The answer is 503 while Redis is away, and 500 when Redis answers another error."""

    async def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(RedisTopics, "open", fail)
    monkeypatch.setattr(RedisTopics, "clients", fail)
    assert (await server.ask("POST", "/topics/shop/", b'{"ep":["a"]}')).status == status
    assert (await server.ask("GET", "/topics/shop/connections")).status == status


async def test_store_that_fails_later(server: ServedTopics, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that fails after its head was sent is ended, so that the client reconnects."""

    async def fail(*_: object) -> None:
        raise StoreUnavailable

    monkeypatch.setattr(RedisTopics, "instances", fail)
    stream = server.begin("POST", "/topics/shop/", b'{"ep":["@CONNECTION@/x"]}')
    await stream.task
    assert stream.is_whole
    assert server.stream_ends == {"message store not available": 1}


async def test_bind_url_that_fails(server: ServedTopics, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure of bindUrl is answered 502 with the reason."""
    answer = await server.ask("POST", "/topics/shop/", b'{"ep":["a"],"bind_key":"k"}')
    assert (answer.status, answer.body) == (502, b"Bind error: connection failed")

    async def refuse(*_: object) -> None:
        raise AuthRefused("Bind error: odd")

    monkeypatch.setattr(HttpBindDirectory, "fetch_user", refuse)
    assert (await server.ask("POST", "/topics/shop/", b'{"ep":["a"],"bind_key":"k"}')).body == b"Bind error: odd"


async def test_body_too_large(server: ServedTopics) -> None:
    """A body over the limit is answered 413 on every path that reads one."""
    for method, path in (("POST", ""), ("POST", "/event"), ("POST", "/alive"), ("PUT", "/registry/a")):
        assert (await server.ask(method, f"/topics/shop{path}", b" " * 1001)).status == 413


async def test_too_many_parameters(server: ServedTopics) -> None:
    """A subscription with more parameters than are read is refused in words: none of its topics is passed over."""
    answer = await server.ask("GET", f"/topics/shop/stream?{'&'.join(['a'] * MAX_FIELDS)}&topic=t")
    assert (answer.status, answer.body) == (400, b"Expected at most 2048 parameters.")
    answer = await server.ask("GET", f"/topics/shop/stream?{'&'.join(['a'] * MAX_FIELDS)}")
    assert (answer.status, answer.body) == (400, b"topic: expected at least one.")


async def test_websocket(server: ServedTopics) -> None:
    """A WebSocket is refused."""
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    await server.topics({"type": "websocket", "path": "/topics/shop/"}, receive, send)
    assert sent == [{"type": "websocket.close"}]
