"""The queues and the bus of a node whose tracing is on: they tell tracing of messages on their way, and other nodes of
the traces. A node without tracing has neither, and pays nothing.

The announcements go over a channel of their own: nodes without tracing, and those of older versions, do not hear it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from app.config.settings import Site
from app.core.message import Message
from app.core.ports import AckGroup, BusListener, Stored
from app.observe.counts import Counts
from app.redis.client import Commands, Redis
from app.store.bus import Bus
from app.store.keys import prefix, traces_channel
from app.store.queues import RedisQueues
from app.tracing.context import TRACE
from app.tracing.sends import MessageTrace
from app.tracing.tracing import Tracing


class TracedQueues(RedisQueues):
    """`RedisQueues` with spans of the store's step. Lives as long as the node."""

    tracing: Tracing

    def send(self, message: Message) -> Awaitable[Stored]:
        """See `QueueStore`."""
        return self._traced(message, super().send)

    def publish(self, message: Message) -> Awaitable[Stored]:
        """See `QueueStore`."""
        return self._traced(message, super().publish)

    def ack(self, site: Site, groups: Sequence[AckGroup]) -> Awaitable[list[bytes]]:
        """See `QueueStore`."""
        applied = super().ack(site, groups)
        return self._acked(site, groups, applied) if self.tracing.knows_any else applied

    def _traced(self, message: Message, store: Callable[[Message], Awaitable[Stored]]) -> Awaitable[Stored]:
        trace = None
        if not message.site.is_hidden:
            trace = self.tracing.sends.begin(message.site.name, str(message.id), _attributes(message))
        if trace is None:
            return store(message)
        # On the same link before the script: a node hears of the trace before it hears the message.
        self._announce(trace.site, trace.announcement())
        return self._stored_with(trace, store(message))

    async def _stored_with(self, trace: MessageTrace, answer: Awaitable[Stored]) -> Stored:
        try:
            stored = await answer
        except BaseException as error:
            trace.end(error=type(error).__name__)
            raise
        trace.end({"recado.recipients": stored.recipients, "recado.nodes": stored.tells, "recado.seq": stored.seq})
        if not stored.earlier_id:
            self._announce(trace.site, trace.announcement(stored.seq))
        return stored

    def _announce(self, site: str, text: bytes) -> None:
        publish = "SPUBLISH" if self._redis.is_sharded else "PUBLISH"
        self._redis.command(publish, traces_channel(site, self._redis.is_sharded), text).add_done_callback(_ignore)

    async def _acked(self, site: Site, groups: Sequence[AckGroup], applied: Awaitable[list[bytes]]) -> list[bytes]:
        calls = await applied
        self.tracing.acked(site.name, groups)
        return calls


class TracedBus(Bus):
    """`Bus` that hears of traces, too. Lives as long as the node."""

    tracing: Tracing

    def channels_of(self, shard: Redis) -> list[str]:
        """The channels of this node at a primary, and those of traces."""
        own = super().channels_of(shard)
        if not self._redis.is_sharded:
            return [*own, traces_channel("", False)]
        sites = [site for site in self._sites if self._redis.shard_of(prefix(site)) is shard]
        return [*own, *(traces_channel(site, True) for site in sites)]

    def receive(self, data: bytes) -> None:
        """From a subscription."""
        if data.startswith(TRACE):
            self.tracing.announced(data)
        else:
            super().receive(data)


def new_queues(redis: Commands, node: str, max_bytes: int, has_journal: bool, tracing: Tracing | None) -> RedisQueues:
    """The queues of a node, traced where tracing is on."""
    if tracing is None:
        return RedisQueues(redis, node, max_bytes, has_journal)
    queues = TracedQueues(redis, node, max_bytes, has_journal)
    queues.tracing = tracing
    return queues


def new_bus(
    redis: Commands, node: str, listener: BusListener, counts: Counts, sites: Iterable[Site], tracing: Tracing | None
) -> Bus:
    """The bus of a node, which hears of traces where tracing is on."""
    if tracing is None:
        return Bus(redis, node, listener, counts.probe_seconds, sites)
    bus = TracedBus(redis, node, listener, counts.probe_seconds, sites)
    bus.tracing = tracing
    return bus


def _attributes(message: Message) -> dict[str, str | int | bool]:
    return {
        "messaging.message.body.size": len(message.body),
        "recado.event": message.event,
        "recado.rooms": len(message.rooms),
    }


def _ignore(answer: "asyncio.Future[Any]") -> None:
    """An announcement that is lost costs spans, and nothing else."""
    if not answer.cancelled():
        answer.exception()
