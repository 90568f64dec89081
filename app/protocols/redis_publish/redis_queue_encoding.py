"""The encoding of the payloads that wait for a site's users: as the site's settings say, or as its entries show."""

import asyncio

import structlog

from app.config.settings import Site
from app.errors import StoreError, StoreUnavailable
from app.protocols.redis_publish.envelope import is_of_the_original
from app.protocols.redis_publish.redis_keys import encoding_key, waiting_messages
from app.protocols.redis_publish.settings import RedisPublish
from app.redis.client import Commands, Redis
from app.watched_tasks import start_watched

#: The time for reading the names of all keys of a Redis. It may be the application's, with millions of them.
_LOOK_SECONDS = 30.0
_KEYS_A_STEP = 1_000
_RETRY_SECONDS = 1.0

_log = structlog.get_logger(__name__)


class RedisQueueEncoding:
    """The encoding in one site, for one node. Lives as long as the node: `start` begins to look, `close` ends it.

    Without a setting the site's prefix decides: once an entry of RedMessenger was found there, the application reads
    such entries. Redis remembers it, because the entries are gone after the move.
    """

    def __init__(self, redis: Commands, site: Site, settings: RedisPublish) -> None:
        self._redis = redis
        self._site = site.name
        self._prefix = settings.prefix
        #: Whether payloads wait in encodeURI, as in RedMessenger.
        self.is_uri = settings.queue_encoding == "uri"
        self.is_settled = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        if settings.queue_encoding is not None:
            self.is_settled.set()

    def start(self) -> None:
        """Looks for entries of RedMessenger, unless the settings say how payloads wait. Returns at once."""
        if not self.is_settled.is_set():
            self._looking = start_watched(self._look(), "redis publish encoding", may_return=True)

    async def close(self) -> None:
        """Ends the look-up."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def _look(self) -> None:
        while not self.is_settled.is_set():
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._settle()
                self.is_settled.set()
            except StoreUnavailable:
                await asyncio.sleep(_RETRY_SECONDS)
            except (StoreError, TimeoutError) as error:
                expected = "redisPublish.queue_encoding"
                _log.warning("queue encoding not known", site=self._site, expected=expected, reason=str(error))
                self.is_settled.set()

    async def _settle(self) -> None:
        key = encoding_key(self._prefix)
        if await self._redis.command("GET", key) == b"uri":
            self.is_uri = True
        elif await self._has_originals():
            self.is_uri = True
            await self._redis.command("SET", key, "uri")
            _log.info("entries of RedMessenger found", site=self._site, queue_encoding="uri")

    async def _has_originals(self) -> bool:
        for shard in self._redis.shards:
            if await self._shard_has_originals(shard):
                return True
        return False

    async def _shard_has_originals(self, shard: Redis) -> bool:
        pattern, cursor = waiting_messages(self._prefix, "*"), b"0"
        while True:
            cursor, keys = await shard.command("SCAN", cursor, "MATCH", pattern, "COUNT", _KEYS_A_STEP, "TYPE", "list")
            for key in keys:
                # The oldest entry is the one that was there before this server.
                entry = await shard.command("LINDEX", key, 0)
                if entry is not None and is_of_the_original(entry):
                    return True
            if cursor == b"0":
                return False
