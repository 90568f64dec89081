"""The connections to the tenants' backends, apart for each site, with one time-out for a whole exchange."""

import asyncio
import ssl
from collections.abc import Callable

from app.backends.exact_pool import ExactPool, default_context
from app.backends.exchange import BackendAnswer, BackendError, BackendPool, Header

_HEADERS = [(b"accept", b"application/json"), (b"user-agent", b"recado")]

PoolKind = Callable[[ssl.SSLContext], BackendPool]


class SitePools:
    """A pool for each site, so that a slow backend delays its own site alone.

    Lives as long as the adapter that owns it, which calls `aclose`.
    """

    def __init__(self, timeout_seconds: float, kind: PoolKind = ExactPool) -> None:
        self._timeout_seconds = timeout_seconds
        self._kind = kind
        self._pools: dict[str, BackendPool] = {}

    async def exchange(
        self, site: str, method: str, url: str, headers: list[Header], content: bytes = b""
    ) -> BackendAnswer:
        """Sends the request and reads the answer; a redirect is an answer like any other. Raises BackendError."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._pool(site).exchange(method, url, _with_own(headers), content)
        except TimeoutError:
            raise BackendError("timed out", "TimeoutError", was_answered=False) from None

    async def aclose(self) -> None:
        """Closes every connection."""
        pools, self._pools = self._pools, {}
        for pool in pools.values():
            await pool.close()

    def _pool(self, site: str) -> BackendPool:
        pool = self._pools.get(site)
        if pool is None:
            pool = self._pools[site] = self._kind(default_context())
        return pool


def _with_own(headers: list[Header]) -> list[Header]:
    """The headers, and those of ours that are not among them."""
    given = {name for name, _ in headers}
    return [*(one for one in _HEADERS if one[0] not in given), *headers]
