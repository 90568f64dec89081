"""The queues and the bus of a node with tracing, on a real Redis: a node knows the trace before the message, on one
server and in a Cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest

from app.config.settings import Site
from app.core.delivery import Delivery
from app.core.traced_listener import TracedListener
from app.errors import StoreError
from app.observe.counts import Counts
from app.redis.client import Redis
from app.store.bus import Bus
from app.store.queues import RedisQueues
from app.store.traced import new_bus, new_queues
from app.tracing.counts import TracingCounts
from app.tracing.send_request import SendRequest, current_request
from app.tracing.tracing import Tracing
from tests.support.spans import KeptSpans
from tests.support.store import MAX_MESSAGE_BYTES, StoreNode, make_site
from tests.support.topologies import valkey_cluster
from tests.support.valkey import Valkey
from tests.support.waiting import until

SITE = make_site("shop")
PLAIN = make_site("plain", user_room_prefix=None)
SITES = [SITE, PLAIN]


class TracedNode(StoreNode):
    """A node with tracing, whose spans the test sees."""

    def __init__(self, server: Valkey | str, sites: Sequence[Site]) -> None:
        """Put the traced parts in place of the plain ones."""
        super().__init__(server, sites)
        self.spans = KeptSpans()
        self.tracing = Tracing(1.0, self.spans, TracingCounts())
        queues = new_queues(self.redis, self.name, MAX_MESSAGE_BYTES, False, self.tracing)
        self.delivery = Delivery(sites, queues, self.counts)
        listener = TracedListener(self.delivery, self.tracing)
        self.queues = queues
        self.bus = new_bus(self.redis, self.name, listener, self.counts, sites, self.tracing)
        self.bus.on_seq = queues.note_seq


@pytest.fixture
async def nodes(valkey: Valkey) -> AsyncIterator[list[TracedNode]]:
    """Two nodes."""
    found = [await TracedNode.start(valkey, SITES) for _ in range(2)]
    token = current_request.set(SendRequest("/send", []))
    yield [node for node in found if isinstance(node, TracedNode)]
    current_request.reset(token)
    for node in found:
        await node.close()


async def acked(a: TracedNode, b: TracedNode) -> None:
    """A message that is sent at `a` is acknowledged at `b`."""
    receiver = await b.open(SITE, "user_1")
    await a.publish(SITE, "user_1")
    await until(lambda: receiver.seqs, "the message")
    assert receiver.connection
    receiver.connection.receive_ack(receiver.seqs[0])
    await until(lambda: b.spans.all and not b.spans.open, "the end of its spans")


async def test_a_message_is_traced_from_store_to_ack(nodes: list[TracedNode]) -> None:
    """The node that hears the message knows its trace by then, and its spans hang on that of the store."""
    a, b = nodes
    await acked(a, b)
    [sent] = a.spans.named("send shop")
    [delivered] = b.spans.named("deliver shop")
    assert delivered.begun.parent == sent.context
    assert sent.attributes["recado.recipients"] == 1
    assert b.spans.counted() == {"deliver shop": 1, "device": 1}
    assert b.spans.named("device")[0].attributes == {"recado.device": "1", "recado.written": True, "recado.acked": True}


async def test_in_a_cluster() -> None:
    """In a Cluster the announcements go by sharded pub/sub, on the shard of the site, and come before the message."""
    with valkey_cluster(2) as servers:
        a, b = [await TracedNode.start(servers.url, SITES) for _ in range(2)]
        assert isinstance(a, TracedNode)
        assert isinstance(b, TracedNode)
        token = current_request.set(SendRequest("/send", []))
        try:
            await acked(a, b)
            assert b.spans.counted() == {"deliver shop": 1, "device": 1}
        finally:
            current_request.reset(token)
            await a.close()
            await b.close()


async def test_a_site_without_queues(nodes: list[TracedNode]) -> None:
    """A message to the connections of a site without queues has its span at each node, without acks."""
    a, b = nodes
    receiver = await b.open(PLAIN, "news")
    await a.publish(PLAIN, "news")
    await until(lambda: receiver.seqs, "the message")
    assert b.spans.counted() == {"deliver plain": 1}
    assert b.spans.open == []


async def test_a_message_that_nobody_stores(nodes: list[TracedNode], valkey: Valkey) -> None:
    """A send that fails ends its span with the error, and the caller gets the error as ever."""
    a, _ = nodes
    valkey.client.set("recado:{shop}:user:user_1", "no hash")
    with pytest.raises(StoreError):
        await a.publish(SITE, "user_1", once=None)
    [sent] = a.spans.named("send shop")
    assert (sent.error, a.spans.open) == ("WrongType", ["POST /send"])


async def test_other_doors_are_not_traced(nodes: list[TracedNode]) -> None:
    """A message that is sent outside of a request to /send leaves no span anywhere."""
    a, b = nodes
    receiver = await b.open(SITE, "user_1")
    current_request.set(None)
    await a.publish(SITE, "user_1")
    await until(lambda: receiver.seqs, "the message")
    assert [*a.spans.all, *b.spans.all] == []


async def test_a_node_without_tracing_has_the_plain_parts(redis: Redis) -> None:
    """Off, store and bus are those of every node: nothing is added, not even the test of an attribute."""
    queues = new_queues(redis, "n", MAX_MESSAGE_BYTES, False, None)
    delivery = Delivery(SITES, queues)
    assert type(queues) is RedisQueues
    assert type(new_bus(redis, "n", delivery, Counts(), SITES, None)) is Bus
