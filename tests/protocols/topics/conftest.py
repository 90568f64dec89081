"""Hubs of topics on real nodes and a real Valkey, with streams that write into memory."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from app.config.settings import Site
from app.core.message import Message
from app.core.seat import NO_SEAT
from app.ids import FlakeIds
from app.protocols.topics.frames import Encoding
from app.protocols.topics.hub import TopicHub
from app.protocols.topics.notice import Emitted, audience
from app.protocols.topics.redis_topics import RedisTopics
from app.protocols.topics.requests import RequestedTopic, TopicSubscription
from app.protocols.topics.site_topics import SiteTopics
from app.protocols.topics.stream import Caller, Stream
from app.protocols.topics.topic import levels_of
from tests.support.store import StoreNode, make_site
from tests.support.topic_frames import FrameReader
from tests.support.valkey import Valkey

_ids = itertools.count(1)


def topics_site(name: str = "shop", **settings: Any) -> Site:
    """A site with topics and nothing else."""
    return make_site(name, user_room_prefix=None, **settings)


def caller(*topics: str, client: str = "me", user: str | None = None, encoding: Encoding = Encoding.FRAMES) -> Caller:
    """A subscriber to these topics; `!` before a topic asks for binded events."""
    wishes = [
        RequestedTopic(topic.lstrip("!"), levels_of(topic.lstrip("!")), topic.startswith("!")) for topic in topics
    ]
    return Caller(TopicSubscription(wishes, client, None), user, encoding, NO_SEAT, b"host: x")


class MemoryResponse:
    """A response that is kept in memory. Lives for one test."""

    is_chunked = False

    def __init__(self) -> None:
        """Start with nothing written, for a client that reads."""
        self.stream: Stream
        self.is_slow = False
        self.reason: str | None = None
        self._written: list[bytes] = []

    def write_frame(self, frame: bytes) -> None:
        """Keep the frame."""
        self._written.append(frame)

    def end(self, reason: str) -> None:
        """End the stream, as a socket does."""
        self.reason = reason
        self.stream.stream_ended(reason)

    @property
    def text(self) -> str:
        """Everything written, as text."""
        return b"".join(self._written).decode()

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events in the text, from frames or SSE."""
        if not self.text.startswith("''"):
            return [json.loads(line[6:]) for line in self.text.splitlines() if line.startswith("data: ")]
        reader = FrameReader()
        reader.feed(self.text)
        return reader.events

    @property
    def details(self) -> list[Any]:
        """The details of the events from backends, and the types of the events
        from the server, without the greeting."""
        return [
            event["e"]["type"] if event["ep"]["emitted"].startswith("@") else event["e"].get("detail")
            for event in self.events[1:]
        ]


class HubNode:
    """One node with its hub. Lives for one test."""

    def __init__(self, node: StoreNode, site: Site) -> None:
        """Called by `start_hub`."""
        self.node = node
        self.site = site
        self.store = RedisTopics(node.redis, node.name)
        self.hub = TopicHub([site], node.delivery, self.store, FlakeIds(0, 1), node.counts)
        node.node.burials.append(self.hub.bury)

    @property
    def topics(self) -> SiteTopics:
        """The streams of the site."""
        return self.hub.sites[self.site.name]

    async def open(self, who: Caller, after_seq: int | None = None) -> MemoryResponse:
        """A live stream."""
        stream, secret = await self.hub.join(self.topics, who)
        return await self.begin(stream, secret, after_seq)

    async def begin(
        self, stream: Stream, secret: str, after_seq: int | None = None, is_slow: bool = False
    ) -> MemoryResponse:
        """Give a joined stream its response, to a client that reads or to a slow one."""
        response = MemoryResponse()
        response.is_slow = is_slow
        response.stream = stream
        await self.hub.begin(stream, secret, response, after_seq)  # type: ignore[arg-type]
        return response

    async def emit(self, detail: object, *to: Emitted | str, is_kept: bool = True) -> int:
        """Emit an event; return its seq."""
        targets = [Emitted(target) if isinstance(target, str) else target for target in to]
        whom = audience(targets, self.topics.settings.history if is_kept else None)
        body = json.dumps(["t", detail]).encode()
        stored = await self.node.delivery.publish(Message(self.site, next(_ids), (), "t", body, audiences=(whom,)))
        return stored.seq


StartHub = Callable[..., Any]


@pytest.fixture
async def start_hub(valkey: Valkey) -> AsyncIterator[StartHub]:
    """Starts nodes with a hub for one site."""
    async with AsyncExitStack() as stack:

        async def start(site: Site) -> HubNode:
            node = await StoreNode.start(valkey, [site])
            stack.push_async_callback(node.close)
            started = HubNode(node, site)
            await started.hub.start()
            stack.push_async_callback(started.hub.drained)
            stack.push_async_callback(started.hub.close)
            return started

        yield start
