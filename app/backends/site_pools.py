"""The connections to the tenants' backends, apart for each site, with one time-out for a whole exchange."""

import asyncio
import ssl
from collections.abc import Callable
from typing import Generic, TypeVar

from app.backends.exact_pool import default_context
from app.backends.exchange import BackendAnswer, BackendError, BackendPool, Header

#: The headers of ours, where a caller does not set them.
HEADERS = [(b"accept", b"application/json"), (b"user-agent", b"recado")]

_Pool = TypeVar("_Pool", bound=BackendPool)


class SitePools(Generic[_Pool]):
    """A pool for each site, so that a slow backend delays its own site alone.

    Lives as long as the adapter that owns it, which calls `aclose`.
    """

    def __init__(self, timeout_seconds: float, kind: Callable[[ssl.SSLContext], _Pool]) -> None:
        self.timeout_seconds = timeout_seconds
        self._kind = kind
        self._pools: dict[str, _Pool] = {}

    async def exchange(
        self, site: str, method: str, url: str, headers: list[Header], content: bytes = b""
    ) -> BackendAnswer:
        """Sends the request and reads the answer; a redirect is an answer like any other. Raises BackendError."""
        try:
            async with asyncio.timeout(self.timeout_seconds):
                return await self.of(site).exchange(method, url, _with_own(headers), content)
        except TimeoutError:
            raise BackendError("timed out", "TimeoutError", was_answered=False) from None

    async def aclose(self) -> None:
        """Closes every connection."""
        pools, self._pools = self._pools, {}
        for pool in pools.values():
            await pool.close()

    def of(self, site: str) -> _Pool:
        """The pool of a site."""
        pool = self._pools.get(site)
        if pool is None:
            pool = self._pools[site] = self._kind(default_context())
        return pool


def _with_own(headers: list[Header]) -> list[Header]:
    """The headers, and those of ours that are not among them."""
    given = {name for name, _ in headers}
    return [*(one for one in HEADERS if one[0] not in given), *headers]
