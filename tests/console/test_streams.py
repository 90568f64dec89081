"""Live pages: events when something has changed, ends with the session, bounds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec import json
from sqlalchemy import insert

from app.console.streams import MAX_OF_SESSION, MAX_STREAMS, LiveStreams, LiveView
from app.errors import RequestRefused, StoreUnavailable
from app.journal.tables import log, sites
from app.protocols.operations import Call, Operation, Role
from tests.console.visitor import ConsoleNode, Visitor
from tests.support.valkey import Valkey
from tests.support.waiting import until

_SECONDS = 0.001


class Looks:
    """A page that a stream looks at. Lives for one test."""

    def __init__(self) -> None:
        """The page has a text."""
        self.text = "first"
        self.error: Exception | None = None
        self.lives = True
        self.count = 0
        self.drawn = 0

    async def is_alive(self) -> bool:
        """Whether the session lasts."""
        return self.lives

    async def look(self) -> str:
        """The text."""
        self.count += 1
        if self.error is not None:
            raise self.error
        return self.text

    def draw(self, text: str) -> str:
        """The text as it is."""
        self.drawn += 1
        return text

    def view(self, key: str) -> LiveView:
        """The page as somebody looks at it."""
        return LiveView((key,), _SECONDS, self.look, self.draw, "PLACE")


def begin(streams: LiveStreams, looks: Looks, session: str = "one") -> AsyncIterator[bytes]:
    """A stream of this session."""
    return streams.begin(session, looks.view("page"), looks.is_alive)


async def test_an_event_for_each_change() -> None:
    """The first look and each change are told, as JSON; what stays the same is not."""
    streams, looks = LiveStreams(), Looks()
    events = begin(streams, looks)
    assert await anext(events) == b'event: live\ndata: "first"\n\n'
    following = asyncio.ensure_future(anext(events))
    await until(lambda: looks.count > 3, "some looks")
    assert not following.done()
    looks.text = "second\nline"
    assert await following == b'event: live\ndata: "second\\nline"\n\n'
    streams.close()
    assert [event async for event in events] == []


async def test_one_look_for_all() -> None:
    """Streams of one view share each look, and what has changed is drawn once; each has the token of its own session,
    and one that comes later has the same text at once. A stream that ends takes nothing from the others."""
    streams, looks = LiveStreams(), Looks()
    looks.text = "a form with PLACE"
    first = streams.begin("one", looks.view("page"), looks.is_alive, "token-1")
    second = streams.begin("two", looks.view("page"), looks.is_alive, "token-2")
    assert await anext(first) == b'event: live\ndata: "a form with token-1"\n\n'
    assert await anext(second) == b'event: live\ndata: "a form with token-2"\n\n'
    following = [asyncio.ensure_future(anext(events)) for events in (first, second)]
    before = looks.count
    await until(lambda: looks.count > before + 5, "some looks")
    assert looks.drawn == 1
    looks.text = "changed"
    assert await asyncio.gather(*following) == [b'event: live\ndata: "changed"\n\n'] * 2
    assert looks.drawn == 2
    other = streams.begin("one", looks.view("another page"), looks.is_alive)
    assert await anext(other) == b'event: live\ndata: "changed"\n\n'
    assert looks.drawn == 3
    streams.close()
    for events in (first, second, other):
        assert [event async for event in events] == []


async def test_the_end_of_a_session() -> None:
    """A stream ends with its session, with a word for the page."""
    streams, looks = LiveStreams(), Looks()
    events = begin(streams, looks)
    await anext(events)
    looks.lives = False
    async with asyncio.timeout(30):
        assert [event async for event in events] == [b"event: over\ndata:\n\n"]


@pytest.mark.parametrize("status", [403, 404])
async def test_a_page_that_is_gone(status: int) -> None:
    """A stream ends when its operator may not see the page any more, or its site is gone."""
    streams, looks = LiveStreams(), Looks()
    looks.error = RequestRefused("gone", "gone", status)
    async with asyncio.timeout(30):
        assert [event async for event in begin(streams, looks)] == [b"event: over\ndata:\n\n"]


@pytest.mark.parametrize("error", [StoreUnavailable(), RequestRefused("slow", "too_slow", 503)])
async def test_an_outage(error: Exception) -> None:
    """While Redis or SQL is away the page stays as it is, and the stream goes on afterwards."""
    streams, looks = LiveStreams(), Looks()
    looks.error = error
    events = begin(streams, looks)
    following = asyncio.ensure_future(anext(events))
    await until(lambda: looks.count > 2, "some looks")
    looks.error = None
    assert b"first" in await following
    streams.close()
    assert [event async for event in events] == []


async def test_bounds() -> None:
    """A session, and a node, have a bounded number of streams; those that ended count no more."""
    streams, looks = LiveStreams(), Looks()
    opened = []
    for session in range(MAX_STREAMS // MAX_OF_SESSION):
        for _ in range(MAX_OF_SESSION):
            opened.append(begin(streams, looks, str(session)))
            await anext(opened[-1])
        with pytest.raises(RequestRefused, match="Too many"):
            begin(streams, looks, str(session))
    with pytest.raises(RequestRefused, match="Too many"):
        begin(streams, looks, "another")
    streams.close()
    for events in opened:
        assert [event async for event in events] == []
    begin(streams, looks, "another")


class StreamReader:
    """A browser that reads the stream of a page, as ASGI has it. The code that opens it calls `close`."""

    def __init__(self, visitor: Visitor, node: ConsoleNode, path: str) -> None:
        """Begin to read."""
        self.events: list[Any] = []
        self.status = 0
        self._gone = asyncio.Event()
        cookie = f"recado_console={visitor.client.cookies['recado_console']}".encode()
        self._scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(b"cookie", cookie), (b"host", b"console")],
            "client": ("192.0.2.7", 1),
            "server": ("console", 80),
        }
        application: Any = node.console.application
        self.task = asyncio.ensure_future(application(self._scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        elif message.get("body", b"").startswith(b"event: live"):
            self.events.append(json.decode(message["body"].partition(b"data: ")[2]))

    async def close(self) -> None:
        """Go away."""
        self._gone.set()
        await self.task


async def test_a_page_lives(node: ConsoleNode) -> None:
    """A row that is added while a page is open comes over its stream, with the looks of the page; and the stream ends
    when the browser goes away."""
    visitor = await node.visitor("ana")
    reader = StreamReader(visitor, node, "/console/live/log")
    await until(lambda: len(reader.events) == 1, "the first look")
    assert "No warning and no error" in reader.events[0]
    async with node.engine.begin() as sql:
        await sql.execute(insert(log).values(at=1, level="error", event="<b>it broke</b>"))
    await until(lambda: len(reader.events) == 2, "the row")
    assert "&lt;b&gt;it broke" in reader.events[1]
    assert 'id="log-1"' in reader.events[1]
    assert "<nav" not in reader.events[1]
    await reader.close()


async def test_a_stream_keeps_no_session(node: ConsoleNode) -> None:
    """A logout ends the streams of the session."""
    visitor = await node.visitor("ana")
    csrf = await visitor.csrf()
    reader = StreamReader(visitor, node, "/console/live/log")
    await until(lambda: len(reader.events) == 1, "the first look")
    await visitor.client.post("/console/logout", data={"_csrf": csrf})
    await asyncio.wait_for(reader.task, 30)


async def test_a_drain_ends_streams(node: ConsoleNode) -> None:
    """A node that drains ends its live pages at once."""
    visitor = await node.visitor("ana")
    reader = StreamReader(visitor, node, "/console/live/audit")
    await until(lambda: len(reader.events) == 1, "the first look")
    await node.console.drain(0)
    await asyncio.wait_for(reader.task, 30)


async def test_what_streams_share(node: ConsoleNode) -> None:
    """Operators of the same sites share what they see, each with the token of its own session; an operator of other
    sites shares nothing of it."""
    async with node.engine.begin() as sql:
        await sql.execute(insert(sites), [{"id": 1, "name": "shop"}, {"id": 2, "name": "news"}])
        lines = [
            {"at": 1, "level": "error", "event": f"broke {name}", "site_id": id} for id, name in ((1, "a"), (2, "b"))
        ]
        await sql.execute(insert(log), lines)
    everywhere = [await node.visitor(name, "viewer") for name in ("ana", "ben")]
    of_shop = await node.visitor("eve", "viewer", ("shop",))
    readers = [StreamReader(visitor, node, "/console/live/log") for visitor in (*everywhere, of_shop)]
    await until(lambda: all(len(reader.events) == 1 for reader in readers), "the first looks")
    assert readers[0].events == readers[1].events
    assert "broke b" in readers[0].events[0]
    assert "broke a" in readers[2].events[0]
    assert "broke b" not in readers[2].events[0]
    for reader in readers:
        await reader.close()


async def test_tokens_in_shared_forms(valkey: Valkey, database: str) -> None:
    """The forms of a page that several operators share work for each: they have the token of the own session."""
    row: dict[str, Any] = dict.fromkeys(
        ("connect_ms", "authorise_ms", "sync_ms", "messages", "replay", "outbox_bytes"), 0
    )
    row |= dict.fromkeys(("user", "transport", "tls", "bytes_read", "bytes_written"), None)
    row |= dict.fromkeys(("device", "version", "address", "user_agent", "protocol", "id"), "1")
    row |= {"node": "abc", "site": "shop", "connected_at": "2026-01-31T12:00:00Z"}

    async def answer(call: Call) -> dict[str, Any]:
        return {"items": [row], "cursor": None, "silent": []}

    path = "/sites/{site}/connections"
    operations = [
        Operation("connections.list", "List", "GET", path, Role.VIEWER, answer),
        Operation("connections.disconnect", "End", "POST", path + "/end", Role.OPERATOR, answer),
    ]
    node = await ConsoleNode.start(valkey, database, operations)
    visitors = [await node.visitor(name) for name in ("ana", "ben")]
    tokens = [await visitor.csrf() for visitor in visitors]
    readers = [StreamReader(visitor, node, "/console/live/sites/shop/connections") for visitor in visitors]
    await until(lambda: all(len(reader.events) == 1 for reader in readers), "the first looks")
    for reader, token, other in zip(readers, tokens, tokens[::-1], strict=True):
        assert f'name="_csrf" value="{token}"' in reader.events[0]
        assert other not in reader.events[0]
        await reader.close()
    await node.close()
