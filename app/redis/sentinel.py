"""Asks Sentinels where the primary is. Does not know what the primary is used for.

redis-py's client is not used here: it asks one Sentinel after the other and takes the first answer. A Sentinel that is
cut off from the others still names the old primary; so all are asked at once, and the newest configuration wins.
"""

import asyncio

from app.errors import StoreError, StoreUnavailable
from app.redis.address import Address, SentinelGroup
from app.redis.link import Link


class Sentinels:
    """Lives as long as the node; `close` ends its links."""

    def __init__(self, group: SentinelGroup, timeout_seconds: float) -> None:
        self._group = group
        self._timeout_seconds = timeout_seconds
        self._links: dict[Address, Link] = {}

    async def locate(self) -> Address:
        """The address of the primary. Raises StoreUnavailable when no Sentinel names it within the time-out."""
        answers = await asyncio.gather(*map(self._ask, self._group.sentinels), return_exceptions=True)
        known = [answer for answer in answers if not isinstance(answer, BaseException)]
        if not known:
            reasons = {str(answer) or "no answer in time" for answer in answers}
            raise StoreUnavailable(f"No Sentinel knows {self._group.name!r} ({'; '.join(sorted(reasons))})")
        _, host, port = max(known)
        return self._group.login.at(host, port)

    def close(self) -> None:
        """Ends the links."""
        for link in self._links.values():
            link.abort()

    async def _ask(self, sentinel: Address) -> tuple[int, str, int]:
        """The number of the newest configuration that one Sentinel knows, with the primary's host and port."""
        async with asyncio.timeout(self._timeout_seconds):
            link = self._links.get(sentinel)
            if link is None or not link.is_open:
                link = self._links[sentinel] = await Link.open(sentinel, self._timeout_seconds)
            try:
                words = await link.command("SENTINEL", "MASTER", self._group.name)
            except asyncio.CancelledError:
                # The Sentinel has not answered in time: the next question goes over a new connection.
                link.abort()
                raise
        texts = [word.decode() for word in words]
        fields = dict(zip(texts[::2], texts[1::2], strict=True))
        try:
            return int(fields["config-epoch"]), fields["ip"], int(fields["port"])
        except (KeyError, ValueError):
            raise StoreError(f"Sentinel at {sentinel} does not say where the primary is") from None
