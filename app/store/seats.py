"""`SeatStore` on Redis: how many connections a site has on all nodes, for sites with a limit of connections."""

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any

from app.config.settings import Site
from app.redis.client import Commands
from app.redis.link import Word
from app.store.keys import NODES, prefix


class RedisSeats:
    """The counted connections of all sites, for one node. Holds no state; lives as long as the node."""

    def __init__(self, redis: Commands, node: str) -> None:
        self._redis = redis
        self._node = node

    def take_seat(self, site: Site, bounds: Sequence[tuple[str, int]]) -> Awaitable[int]:
        """Counts a connection unless a bound is reached; see `SeatStore`."""
        words = [word for bound in bounds for word in bound]
        return self._run("take_seat", site, self._redis.deadline_ms(prefix(site.name)), *words)

    def give_seat(self, site: Site, names: Sequence[str]) -> Awaitable[None]:
        """Takes a connection out of the counts; see `SeatStore`."""
        return self._run("give_seat", site, *names)

    def set_seats(self, site: Site, counts: Mapping[str, int], is_first: bool) -> Awaitable[None]:
        """Sets the counts of this node; see `SeatStore`."""
        words = [word for count in counts.items() for word in count]
        return self._run("set_seats", site, int(is_first), *words)

    async def silence_seconds(self, site: Site) -> float:
        """How long the quietest node with counted connections has not beaten; see `SeatStore`."""
        # Two commands, because in a Cluster the nodes' beats are in another slot.
        nodes = await self._redis.command("SMEMBERS", prefix(site.name) + "seats")
        return int(await self._redis.run("silence", NODES, *nodes)) / 1000

    def _run(self, script: str, site: Site, *words: Word) -> Awaitable[Any]:
        return self._redis.run(script, prefix(site.name), self._node, *words)
