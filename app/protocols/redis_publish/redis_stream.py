"""`PublishStream` on the application's Redis: one consumer group, read on its own link because a read blocks."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

from app.errors import StoreError, StoreUnavailable
from app.protocols.redis_publish.mailbox_ports import StreamEntry
from app.protocols.redis_publish.redis_keys import stream_key
from app.protocols.redis_publish.settings import RedisPublish
from app.redis.client import Commands, Redis
from app.redis.link import Link

GROUP = "recado"
_READ_COUNT = 200
_BLOCK_MS = 1_000


class RedisPublishStream:
    """The stream of one site, read by one node. Lives as long as the node holds the lease; `close` ends the link."""

    def __init__(self, redis: Commands, node: str, settings: RedisPublish) -> None:
        self._redis = redis
        self._node = node
        self._key = stream_key(settings.prefix)
        self._link: Link | None = None
        self._client_id = 0
        self._claimed_until = "0-0"

    def close(self) -> None:
        """Stops reading. The next reader claims the entries that were read and not acknowledged."""
        if self._link is not None:
            self._link.abort()

    async def claim(self) -> list[StreamEntry]:
        """Takes over entries that were read and not acknowledged; see `PublishStream`."""
        await self._make_group()
        while True:
            # This node holds the lease, so no other node works on these entries: they need no idle time.
            answer = await self._redis.command(
                "XAUTOCLAIM", self._key, GROUP, self._node, 0, self._claimed_until, "COUNT", _READ_COUNT
            )
            self._claimed_until = answer[0].decode()
            entries = _entries(answer[1])
            if self._claimed_until == "0-0":
                await self._forget_others()
                return entries
            if entries:
                return entries

    async def read(self) -> list[StreamEntry]:
        """Reads new entries; see `PublishStream`."""
        link = self._link
        if link is None or not link.is_open:
            link = self._link = await Link.open(self._shard.address, self._redis.timeout_seconds)
            self._client_id = await link.command("CLIENT", "ID")
        command = ("XREADGROUP", "GROUP", GROUP, self._node, "COUNT", _READ_COUNT, "BLOCK", _BLOCK_MS)
        try:
            async with asyncio.timeout(self._redis.timeout_seconds + _BLOCK_MS / 1000):
                answer = await link.command(*command, "STREAMS", self._key, ">")
        except TimeoutError as error:
            link.abort()
            raise StoreUnavailable("Redis does not answer") from error
        except StoreError as error:
            # The stream was deleted: make the group again.
            if str(error).startswith(("NOGROUP", "UNBLOCKED")):
                await self._make_group()
                return []
            raise
        return _entries(answer[0][1]) if answer else []

    async def acknowledge(self, ids: Sequence[str]) -> None:
        """Removes entries from the stream; see `PublishStream`."""
        acknowledged = self._redis.command("XACK", self._key, GROUP, *ids)
        await self._redis.command("XDEL", self._key, *ids)
        await acknowledged

    @property
    def _shard(self) -> Redis:
        """The shard that holds the stream. Some commands do not begin with the stream's key and cannot be routed by
        it."""
        shard = self._redis.shard_of(self._key)
        if shard is None:
            raise StoreUnavailable()
        return shard

    async def stop(self) -> None:
        """Makes a waiting `read` return; see `PublishStream`."""
        if self._link is not None and self._link.is_open:
            with contextlib.suppress(StoreError):
                await self._shard.command("CLIENT", "UNBLOCK", self._client_id)

    async def _make_group(self) -> None:
        try:
            # The group starts at the first entry: entries from before the first server ever ran count too.
            await self._shard.command("XGROUP", "CREATE", self._key, GROUP, "0", "MKSTREAM")
        except StoreError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    async def _forget_others(self) -> None:
        """Deletes the consumers of other nodes: otherwise nodes that are gone would stay consumers for ever."""
        for consumer in await self._shard.command("XINFO", "CONSUMERS", self._key, GROUP):
            known = dict(zip(consumer[::2], consumer[1::2], strict=True))
            if known[b"name"] != self._node.encode() and known[b"pending"] == 0:
                await self._shard.command("XGROUP", "DELCONSUMER", self._key, GROUP, known[b"name"])


def _entries(answer: Sequence[Any]) -> list[StreamEntry]:
    # An entry that was deleted while it was pending has no fields.
    return [
        StreamEntry(entry[0].decode(), dict(zip(entry[1][::2], entry[1][1::2], strict=True)))
        for entry in answer
        if entry is not None and entry[1] is not None
    ]
