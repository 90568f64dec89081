"""The attempts of each address that lead to nothing: past a number of them, answers to further ones are late.

Some clients try again at once, for ever: socket.io-client 1.0 to 1.3 shakes hands some 300 times a second when a proxy
changes the type of the answers, and a page may connect in its listener of `error`. Knows no sessions.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from time import monotonic

import structlog

from app.core.network import network_of

FREE = 200
"""Attempts that lead to nothing before answers are late. An office reconnects at once after a restart."""
FREE_A_SECOND = 5.0
PAUSE_SECONDS = 1.0
MAX_HELD = 1_000
"""The late answers of an address; past them attempts are refused at once."""
_MOST_OWED = 300
"""The attempts past the free ones that are remembered: a minute without any forgives them."""
_MAX_ADDRESSES = 10_000
"""Past it all are forgotten: an address of which nothing is known is slowed down a moment later."""

_log = structlog.get_logger(__name__)


class Repeats:
    """The counts of one server; lives as long as that. An unknown address ("") counts nowhere."""

    def __init__(
        self, free: float = FREE, a_second: float = FREE_A_SECOND, pause_seconds: float = PAUSE_SECONDS
    ) -> None:
        """Take the attempts that an address has at once and in each second, and the delay of answers past them."""
        self._free = free
        self._a_second = a_second
        self._pause_seconds = pause_seconds
        self._until: dict[str, float] = {}
        """The time at which the attempts of a network are all forgiven."""
        self._held: Counter[str] = Counter()
        self._told: str | None = None

    def count(self, address: str, by: int = 1) -> None:
        """Count an attempt that has led to nothing yet, or take it back."""
        if not address:
            return
        network, now = network_of(address), monotonic()
        if len(self._until) >= _MAX_ADDRESSES:
            self._until.clear()
        until = max(self._until.get(network, now), now) + by / self._a_second
        until = min(until, now + (self._free + _MOST_OWED) / self._a_second)
        if until > now:
            self._until[network] = until
        else:
            self._until.pop(network, None)

    def are_too_many(self, address: str) -> bool:
        """Whether the answer to a further attempt has to be late."""
        if not self._until or not address:
            return False
        network = network_of(address)
        if self._until.get(network, 0.0) - monotonic() <= self._free / self._a_second:
            return False
        if network != self._told:
            self._told = network
            _log.warning(
                "client slowed down",
                address=network,
                reason="it connects again and again; if this is a proxy, name it in trusted_proxies",
            )
        return True

    @property
    def held(self) -> int:
        """The answers that are held."""
        return self._held.total()

    async def hold(self, address: str, gone: Callable[[], Awaitable[None]]) -> bool | None:
        """Wait as long as the answer has to be late. False: too many wait; None: the client left (`gone` returned)."""
        network = network_of(address)
        if self._held[network] >= MAX_HELD:
            return False
        self._held[network] += 1
        try:
            await asyncio.wait_for(gone(), self._pause_seconds)
        except TimeoutError:
            return True
        finally:
            self._let_go(network)
        return None

    def refuse(self, address: str, answer: Callable[[], None]) -> None:
        """Count a refusal and give it: at once, or late as long as not too many are held."""
        self.count(address)
        network = network_of(address)
        if self._held[network] < MAX_HELD and self.are_too_many(address):
            self._held[network] += 1
            asyncio.get_running_loop().call_later(self._pause_seconds, self._refuse_late, network, answer)
        else:
            answer()

    def _refuse_late(self, network: str, answer: Callable[[], None]) -> None:
        self._let_go(network)
        answer()

    def _let_go(self, network: str) -> None:
        self._held[network] -= 1
        if not self._held[network]:
            del self._held[network]
