"""Finds the user of a request by its bind key, and prevents a second use of the key.

A key may be used once to subscribe, on any node: clients get their keys through browsers, where one may be
observed. To emit, a key that is unique by construction (RSA, or a JWT with `jti`) may be used once. A JWT
without `jti` may be used again while it is young: a backend that emits twice in a second makes the same JWT
twice, and it has presented the API key.
"""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Coroutine, Iterable
from functools import partial

from app.config.settings import Site
from app.errors import BadRequest
from app.observe.counts import Counts
from app.protocols.fair_pool import FairPool
from app.protocols.topics.bind_keys import (
    MAX_AHEAD_SECONDS,
    MAX_JWT_AGE_SECONDS,
    MAX_KEY_BYTES,
    BindKey,
    BindKeyRefused,
    BindKeys,
    bytes_of,
    is_jwt,
    user_of,
)
from app.protocols.topics.figures import TopicsCounts
from app.protocols.topics.ports import BindDirectory
from app.protocols.topics.settings import Topics
from app.protocols.topics.topic_store import TopicStore

#: Longer than the maximum age of a JWT.
_REMEMBERED_SECONDS = MAX_JWT_AGE_SECONDS + MAX_AHEAD_SECONDS + 1
_REFUSED = BindKeyRefused()


class Identities:
    """The users of requests, by the bind keys of all sites. Lives as long as the server."""

    def __init__(
        self, sites: Iterable[Site], directory: BindDirectory, store: TopicStore, counts: Counts, reading: FairPool
    ) -> None:
        """Raises ConfigError for a site whose keys cannot be read."""
        self._keys = {site.name: BindKeys(site) for site in sites if site.section(Topics)}
        self._directory = directory
        self._store = store
        self._counts = counts
        self._reading = reading

    async def add(self, site: Site) -> None:
        """Reads the keys of one more site, in a thread: the check of an RSA key takes a while. Raises ConfigError."""
        self._keys[site.name] = await asyncio.to_thread(BindKeys, site)

    async def of_subscriber(self, site: Site, key: str | None) -> str | None:
        """The user of a subscriber; None without a key. Raises BadRequest (403), AuthRefused, StoreError."""
        if key is None:
            return None
        asks = site.require_section(Topics).bind_url is not None and not is_jwt(key)
        return await self._counted(site, self._asked(site, key) if asks else self._read(site, key), b"sub:", True)

    async def of_emitter(self, site: Site, key: str | None) -> str | None:
        """The user for whom a backend emits; None without a key. Raises BadRequest (403), StoreError."""
        if key is None:
            return None
        return await self._counted(site, self._read(site, key), b"pub:", False)

    async def _counted(self, site: Site, reading: Coroutine[None, None, BindKey], use: bytes, is_once: bool) -> str:
        results = self._counts.of(site.name).part(TopicsCounts).bind_keys
        try:
            key = await reading
            if (is_once or key.is_unique) and not await self._is_first_use(site, use + key.digest):
                results["replayed"] += 1
                raise BindKeyRefused
        except BindKeyRefused:
            results["refused"] += 1
            # The text is the same for every mistake.
            raise BadRequest(str(_REFUSED), status=403) from None
        results["accepted"] += 1
        return key.user

    async def _read(self, site: Site, key: str) -> BindKey:
        keys = self._keys[site.name]
        if is_jwt(key):
            return keys.read_jwt(key, time.time())
        # Anybody may present a key: the site's own bodies have another share of the threads.
        owner = f"{site.name} bind keys"
        return await self._reading.run(owner, partial(keys.read_encrypted, key, time.time()))

    async def _asked(self, site: Site, key: str) -> BindKey:
        if len(key) > MAX_KEY_BYTES:
            raise BindKeyRefused
        user = user_of(await self._directory.fetch_user(site, key))
        # Digest the decoded bytes: base64 can write the same bytes in several ways.
        return BindKey(user, hashlib.sha256(bytes_of(key) or key.encode("utf-8", "replace")).digest(), True)

    def _is_first_use(self, site: Site, mark: bytes) -> Awaitable[bool]:
        ttl_seconds = max(_REMEMBERED_SECONDS, site.require_section(Topics).bind_key_ttl_seconds + 2)
        return self._store.see(site, mark, int(ttl_seconds * 1000))
