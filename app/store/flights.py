"""Whether messages fly: see `lua/_flights.lua`. And the words of acks.

A node of an earlier version finds no message in flight in the queues that it reads. So messages fly while every living
node is one that lands them: each notes itself in a set before its first beat, and compares the set with the nodes at
each beat.
"""

import contextlib
from collections.abc import Sequence
from time import monotonic

from app.config.settings import Site
from app.core.message import Message
from app.core.options import NO_OPTIONS
from app.core.ports import AckGroup
from app.errors import StoreError
from app.redis.client import Commands
from app.redis.link import Word
from app.store.keys import LANDING_NODES, NODES

#: A message with a longer body goes into the queues at once: what is read of flights has a bound.
MAX_FLIGHT_BYTES = 4_096
#: After this time messages in flight are due to land: MOST_FLIGHT_MS of lua/expire.lua.
FLIGHT_SECONDS = 1.5
#: For this time after a look at the nodes messages fly: two beats, and some more.
_OPEN_SECONDS = 5.0


class FlightGate:
    """Whether the messages of this node fly. Lives as long as its store; closed until every node is known to land
    messages, and again when nobody has renewed it for a while."""

    def __init__(self, max_message_bytes: int) -> None:
        self._largest = min(MAX_FLIGHT_BYTES, max_message_bytes)
        self._open_until = 0.0
        #: Whether this node is noted among those that land messages.
        self.is_noted = False

    async def note(self, redis: Commands, node: str) -> None:
        """Notes this node. In a full Redis, which takes no note, it seems to be of an earlier version: no message
        flies."""
        with contextlib.suppress(StoreError):
            await redis.command("SADD", LANDING_NODES, node)
            self.is_noted = True

    async def look(self, redis: Commands, node: str) -> bool:
        """Opens or closes the gate, by the nodes that are there. Answers whether it has been closed: then what is in
        flight has to land. Raises StoreUnavailable."""
        was_open = self._open_until > 0
        nodes = {name for name in await redis.command("ZRANGE", NODES, 0, -1) if not name.startswith(b"~")}
        landing = set(await redis.command("SMEMBERS", LANDING_NODES))
        self.is_noted = node.encode() in landing
        if nodes <= landing:
            self.open(_OPEN_SECONDS)
            # A node that has noted itself and has not beaten yet does so again.
            gone = landing - nodes
            if gone:
                await redis.command("SREM", LANDING_NODES, *gone)
            return False
        self.close()
        return was_open

    def open(self, seconds: float) -> None:
        """Messages fly for this time from now on."""
        self._open_until = monotonic() + seconds

    def close(self) -> None:
        """No message flies any more."""
        self._open_until = 0.0

    @property
    def is_open(self) -> bool:
        """Whether messages fly."""
        return monotonic() < self._open_until

    def most_of(self, site: Site) -> int:
        """The most messages in flight that a queue of the site holds, whatever their size; 0: they do not fly."""
        if site.limits.stored_messages or site.limits.stored_bytes or not self.is_open:
            return 0
        return min(site.queue_limit.messages, site.queue_limit.bytes // self._largest)

    def most_beside(self, message: Message) -> int:
        """The same for a message: 0 for one that does not fly."""
        if message.options is not NO_OPTIONS or message.resync or len(message.body) > self._largest:
            return 0
        return self.most_of(message.site)

    def most_beside_all(self, messages: Sequence[Message]) -> int:
        """The same for messages of a site that fly, or do not, together."""
        return min(map(self.most_beside, messages))


def words_of_acks(node: str, groups: Sequence[AckGroup]) -> list[Word]:
    """The acks as lua/ack.lua reads them."""
    words: list[Word] = [node]
    for group in groups:
        kind = "batch" if group.is_batch else "one"
        handles = b",".join(group.handles)
        words += (kind, group.seq, group.written_ms, group.acked_ms, len(group.handles), group.places, handles)
    return words
