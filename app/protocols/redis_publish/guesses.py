"""How many wrong keys an address may try: a bucket for each site and network that fills up again. No I/O."""

from collections import OrderedDict
from time import monotonic

from app.core.network import network_of

WRONG_AT_ONCE = 30
WRONG_A_SECOND = 0.2
#: The buckets of networks that guessed longest ago are forgotten.
MAX_REMEMBERED = 10_000

_Guesser = tuple[str, str]


class Guesses:
    """The wrong keys that a node has seen. Lives as long as the node. An unknown address ("") is not braked."""

    def __init__(self) -> None:
        #: Site and network -> how many wrong keys count at which moment, the newest last.
        self._wrong: OrderedDict[_Guesser, tuple[float, float]] = OrderedDict()

    def may_guess(self, site: str, address: str) -> bool:
        """Whether a key from this address is looked at."""
        return not address or self._counting((site, network_of(address)), monotonic()) <= WRONG_AT_ONCE - 1

    def count_wrong(self, site: str, address: str) -> None:
        """A key from this address was wrong."""
        if not address:
            return
        guesser, now = (site, network_of(address)), monotonic()
        self._wrong[guesser] = (self._counting(guesser, now) + 1, now)
        self._wrong.move_to_end(guesser)
        if len(self._wrong) > MAX_REMEMBERED:
            self._wrong.popitem(last=False)

    def _counting(self, guesser: _Guesser, now: float) -> float:
        wrong, at = self._wrong.get(guesser, (0.0, now))
        return max(0.0, wrong - (now - at) * WRONG_A_SECOND)
