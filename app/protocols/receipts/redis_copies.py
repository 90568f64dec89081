"""Copies of messages for single devices, on Redis: one run of `lua/send_again.lua` each."""

import msgspec
from msgspec import Struct

from app.config.settings import Site
from app.ids import FlakeIds
from app.observe.counts import Counts
from app.redis.client import Commands
from app.store.keys import prefix
from app.store.terms import limit_reached, terms_of
from app.surrogates import encode_text


class Original(Struct, frozen=True):
    """A message of which a copy is to be sent."""

    seq: int
    event: str
    #: `["event", ...]` as the journal has kept it; "": only a queue may have it.
    body: str


class RedisCopies:
    """The copies of one node. Holds no state but the link; lives as long as the node."""

    def __init__(self, redis: Commands, ids: FlakeIds, counts: Counts, max_message_bytes: int) -> None:
        """`max_message_bytes` bounds the body of every message that is sent."""
        self._counts = counts
        self._redis = redis
        self._ids = ids
        self._max_message_bytes = max_message_bytes

    async def send(self, site: Site, original: Original, user: str, device: str) -> tuple[str, int]:
        """Sends a copy, which counts as a send of the site. Answers the outcome in a word of the script, and the copy's
        id. Raises StoreUnavailable, LimitReached."""
        id, limit, key = self._ids.next_id(), site.queue_limit, prefix(site.name)
        outcome = await self._redis.run(
            "send_again",
            key,
            "",
            site.name,
            id,
            original.seq,
            encode_text(original.event),
            encode_text(original.body),
            encode_text(user),
            encode_text(device),
            msgspec.json.encode([user]),
            limit.messages,
            limit.bytes,
            self._max_message_bytes,
            int(site.journal_bodies),
            terms_of(site, self._redis.deadline_ms(key)),
        )
        counts = self._counts.of(site.name)
        if isinstance(outcome, list):
            reached = limit_reached(site, *outcome[1:])
            counts.limited[reached.limit] += 1
            raise reached
        counts.sends += outcome in (b"stored", b"overflowed")
        counts.stored += outcome == b"stored"
        counts.overflows += outcome == b"overflowed"
        return outcome.decode(), id
