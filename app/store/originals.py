"""The waiting lists that socket.io-webservice has left in this Redis: finds them, and notes them for connect.lua.

A list's name does not tell where the room, the device and the event in it end. So the names of a site's lists are kept
in order, and a device that connects finds its own by their beginning (`lua/_originals.lua`).
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import structlog

from app.config.settings import Site
from app.errors import StoreError, StoreUnavailable
from app.redis.client import Commands
from app.store.keys import prefix
from app.watched_tasks import start_watched

_MARK = b":socket.io:"
_KEYS_A_STEP = 1_000
#: How long a start waits for the names of all keys; the look-up goes on after it.
_START_SECONDS = 10.0
_RETRY_SECONDS = 1.0

_log = structlog.get_logger(__name__)


class Originals:
    """The look-up of one node. Lives as long as the node: `start` begins it, `close` ends it.

    socket.io-webservice works on one Redis: in a Cluster there is nothing to find.
    """

    def __init__(self, redis: Commands, sites: Iterable[Site]) -> None:
        self._redis = redis
        self._sites = _with_lists(sites)
        self._looking: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Looks through the names of all keys. Returns when it is done, or takes long."""
        await self._look_for(self._sites)

    async def add(self, sites: Iterable[Site]) -> None:
        """The same for more sites, before their first devices connect."""
        await self._look_for(_with_lists(sites))

    async def _look_for(self, sites: Mapping[bytes, Site]) -> None:
        if not sites or self._redis.is_sharded:
            return
        looking = start_watched(self._look(sites), "lists of socket.io-webservice", may_return=True)
        self._looking = [*(one for one in self._looking if not one.done()), looking]
        _, unfinished = await asyncio.wait([looking], timeout=_START_SECONDS)
        if unfinished:
            _log.warning("lists of socket.io-webservice are still being looked for")

    async def close(self) -> None:
        """Ends the look-up."""
        for looking in self._looking:
            looking.cancel()
        await asyncio.gather(*self._looking, return_exceptions=True)

    async def _look(self, sites: Mapping[bytes, Site]) -> None:
        found: dict[str, int] = defaultdict(int)
        cursor = b"0"
        while True:
            try:
                cursor, keys = await self._redis.command(
                    "SCAN", cursor, "MATCH", "/*:socket.io:*", "COUNT", _KEYS_A_STEP, "TYPE", "list"
                )
                await self._note(sites, keys, found)
            except StoreUnavailable:
                await asyncio.sleep(_RETRY_SECONDS)
                cursor = b"0"
                continue
            except StoreError as error:
                # Such as: the server's user may only touch its own keys.
                _log.error("lists of socket.io-webservice cannot be taken over", reason=str(error))
                return
            if cursor == b"0":
                break
        for site, lists in found.items():
            _log.info("lists of socket.io-webservice found", site=site, lists=lists)

    async def _note(self, sites: Mapping[bytes, Site], keys: Sequence[bytes], found: dict[str, int]) -> None:
        for key in keys:
            name, _, rest = key[1:].partition(_MARK)
            site = sites.get(name)
            if site is not None:
                found[site.name] += 1
                await self._redis.run("note_original", prefix(site.name), key, rest, site.device_ttl_seconds)


def _with_lists(sites: Iterable[Site]) -> dict[bytes, Site]:
    """The sites that take over lists, by their names."""
    return {site.name.encode(): site for site in sites if site.has_queues and site.import_originals}
