"""The levels of topics that streams of one address, and of the whole node, may hold: some 300 bytes each. No I/O."""

from collections import Counter

from app.core.network import network_of
from app.errors import LimitReached
from app.transport.refusals import TOO_MANY_LEVELS, refused

#: Over all sites. A node has some 300 MB for them then.
MAX_LEVELS_OF_NODE = 1_000_000
TOO_MANY_OF_ADDRESS = "Too many levels of topics from this address"
TOO_MANY_OF_NODE = "Too many levels of topics on this server"
_LIMIT = "max_levels_per_address"

_Holder = tuple[str, str]


class LevelBudget:
    """The levels that a node's streams hold. Lives as long as the node. An unknown address ("") has no own bound."""

    def __init__(self, max_levels_of_node: int = MAX_LEVELS_OF_NODE) -> None:
        self._max_levels_of_node = max_levels_of_node
        self._all = 0
        self._of_address: Counter[_Holder] = Counter()

    def take(self, site: str, address: str, levels: int, most: int) -> None:
        """Counts the levels of a new stream; an address may hold `most` of them in a site. Raises LimitReached; then
        nothing is counted."""
        holder = (site, network_of(address))
        if address and self._of_address[holder] + levels > most:
            self._clear(holder)
            refused[TOO_MANY_LEVELS] += 1
            raise LimitReached(f"{TOO_MANY_OF_ADDRESS}: expected at most {most}", _LIMIT)
        if self._all + levels > self._max_levels_of_node:
            refused[TOO_MANY_LEVELS] += 1
            raise LimitReached(TOO_MANY_OF_NODE, _LIMIT)
        self._all += levels
        self._of_address[holder] += levels

    def give(self, site: str, address: str, levels: int) -> None:
        """The stream has ended."""
        holder = (site, network_of(address))
        self._all -= levels
        self._of_address[holder] -= levels
        self._clear(holder)

    def _clear(self, holder: _Holder) -> None:
        if not self._of_address[holder]:
            del self._of_address[holder]
