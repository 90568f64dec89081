"""Message ids: flake ids, 64 bits that grow with time and never repeat while worker ids are not shared.

Layout, from the high end: 42 bits milliseconds since the Unix epoch, 5 bits datacenter, 5 bits worker, 12 bits
counter. This is the layout of socket.io-webservice, whose ids stand in its logs; no maintained package has it.
"""

from collections.abc import Callable

from app.clock import now_ms

MAX_DATACENTER = 31
MAX_WORKER = 31
_COUNTER_BITS = 12
_COUNTER_MASK = (1 << _COUNTER_BITS) - 1
_WORKER_BITS = 10


def _place(datacenter: int, worker: int) -> int:
    if not 0 <= datacenter <= MAX_DATACENTER or not 0 <= worker <= MAX_WORKER:
        raise ValueError(f"datacenter and worker must be 0-31, got {datacenter} and {worker}")
    return (datacenter << 5 | worker) << _COUNTER_BITS


class FlakeIds:
    """Makes the message ids of one node. Lives as long as the node, and holds its worker id.

    A clock that steps back does not repeat an id: the last millisecond stays in use until the clock has caught up. Ids
    beyond 4,096 in a millisecond take the next one.
    """

    def __init__(self, datacenter: int, worker: int, now_ms: Callable[[], int] = now_ms) -> None:
        self._place = _place(datacenter, worker)
        self._now_ms = now_ms
        self._last_ms = 0
        self._counter = 0

    def move(self, datacenter: int, worker: int) -> None:
        """Later ids name this place: another node has taken the old one."""
        self._place = _place(datacenter, worker)
        # Skip the rest of this millisecond: in it an id with a lower place would not be greater.
        self._counter = _COUNTER_MASK

    def next_id(self) -> int:
        """The next id, greater than every one before it."""
        now_ms = self._now_ms()
        if now_ms > self._last_ms:
            self._last_ms = now_ms
            self._counter = 0
        else:
            self._counter += 1
            if self._counter > _COUNTER_MASK:
                self._last_ms += 1
                self._counter = 0
        return self._last_ms << (_WORKER_BITS + _COUNTER_BITS) | self._place | self._counter
