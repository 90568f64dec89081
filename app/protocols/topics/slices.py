"""Work on events in slices over the turns of the loop: each turn has a budget, and sites take turns within it.

Work is a generator that yields the cost of each step behind it: of a step that is still to be done, the cost would be
counted in an earlier turn. Knows neither streams nor topics.
"""

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Generator
from typing import TypeAlias

import structlog

#: The cost of all work in one turn of the loop. A unit is about a microsecond: the visit of one node of a trie.
UNITS_A_TURN = 1_000
#: The cost after which the next site has its turn.
_UNITS_AT_ONCE = 250
#: The events of one site that wait, and their bytes. Past either bound its waiting events are lost.
MAX_EVENTS = 5_000
MAX_BYTES = 16_000_000
#: The bytes of the events of all sites that wait. Past the bound the site with most of them loses its events.
MAX_BYTES_OF_NODE = 64_000_000

Steps: TypeAlias = Generator[int, None, None]

_log = structlog.get_logger(__name__)


class _Live:
    """Work in the order of a site's events. Lives until it is done or lost."""

    __slots__ = ("is_event", "size", "steps")

    def __init__(self, steps: Steps, size: int, *, is_event: bool) -> None:
        self.steps = steps
        self.size = size
        self.is_event = is_event


class _Joining:
    """Work for one stream that is not live yet; the stream waits for it. Lives until it is done."""

    __slots__ = ("done", "steps")

    def __init__(self, steps: Steps, done: asyncio.Future[None]) -> None:
        self.steps = steps
        self.done = done

    def end(self, failure: Exception | None) -> None:
        if failure is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(failure)


class _Site:
    """The work of one site that waits. Lives while there is any."""

    __slots__ = ("events", "is_joining_next", "joining", "live", "size")

    def __init__(self) -> None:
        self.live: deque[_Live] = deque()
        self.joining: deque[_Joining] = deque()
        self.events = 0
        self.size = 0
        #: Live events and joining streams take turns.
        self.is_joining_next = False


class Slices:
    """The work on events of one node. Lives as long as the node; a turn of the loop with work has one call."""

    def __init__(self, on_lost: Callable[[str], None], faults: Counter[str]) -> None:
        """`on_lost` is called when the waiting events of a site are lost; `faults` counts work that has failed."""
        self._on_lost = on_lost
        self._faults = faults
        #: In the order in which they have their turns.
        self._sites: OrderedDict[str, _Site] = OrderedDict()
        self._units = UNITS_A_TURN
        self._size = 0
        self._is_awake = False

    def write(self, site: str, steps: Steps, size: int) -> None:
        """Does the work on an event of so many bytes, at once as far as the budget goes, behind the site's earlier
        ones."""
        if site not in self._sites and self._units > 0 and self._advance(steps, self._units):
            return
        self._append(site, _Live(steps, size, is_event=True))
        waiting = self._sites[site]
        if waiting.events > MAX_EVENTS or waiting.size > MAX_BYTES:
            self._lose(site)
        elif self._size > MAX_BYTES_OF_NODE:
            self._lose(max(self._sites, key=lambda name: self._sites[name].size))

    def follow(self, site: str, steps: Steps) -> None:
        """Does work behind the site's events that wait. It is not lost with them."""
        if site in self._sites or self._units <= 0 or not self._advance(steps, self._units):
            self._append(site, _Live(steps, 0, is_event=False))

    async def written(self, site: str) -> None:
        """Waits until the site's events that wait now are written, or lost."""
        done = asyncio.get_running_loop().create_future()

        def reach() -> Steps:
            if not done.done():
                done.set_result(None)
            yield 0

        self.follow(site, reach())
        await done

    async def finish(self, site: str, steps: Steps) -> None:
        """Does work that belongs to one stream, beside the site's events, and waits for its end. Raises its errors."""
        done = asyncio.get_running_loop().create_future()
        joining = _Joining(steps, done)
        if site in self._sites or self._units <= 0 or not self._join_on(joining, min(self._units, _UNITS_AT_ONCE)):
            self._sites.setdefault(site, _Site()).joining.append(joining)
            self._wake()
        try:
            await done
        finally:
            # An error holds this frame, and the future holds the error.
            del done, joining

    def _append(self, site: str, work: _Live) -> None:
        waiting = self._sites.setdefault(site, _Site())
        waiting.live.append(work)
        self._count(waiting, work, 1)
        self._wake()

    def _lose(self, site: str) -> None:
        waiting = self._sites[site]
        _log.warning("events lost", site=site, events=waiting.events, bytes=waiting.size)
        for work in waiting.live:
            if work.is_event:
                work.steps.close()
                self._count(waiting, work, -1)
        waiting.live = deque(work for work in waiting.live if not work.is_event)
        self._on_lost(site)

    def _count(self, waiting: _Site, work: _Live, sign: int) -> None:
        waiting.events += sign * work.is_event
        waiting.size += sign * work.size
        self._size += sign * work.size

    def _wake(self) -> None:
        if not self._is_awake:
            self._is_awake = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._is_awake = False
        self._units = UNITS_A_TURN
        while self._sites and self._units > 0:
            site, waiting = next(iter(self._sites.items()))
            self._serve(waiting, min(self._units, _UNITS_AT_ONCE))
            if waiting.live or waiting.joining:
                self._sites.move_to_end(site)
            else:
                del self._sites[site]
        if self._sites:
            self._wake()

    def _serve(self, waiting: _Site, units: int) -> None:
        if waiting.joining and (waiting.is_joining_next or not waiting.live):
            waiting.is_joining_next = False
            # No frame that an error may hold names the work.
            if self._join_on(waiting.joining[0], units):
                waiting.joining.popleft()
            else:
                waiting.joining.rotate(-1)
        elif waiting.live:
            waiting.is_joining_next = True
            work = waiting.live[0]
            if self._advance(work.steps, units):
                waiting.live.popleft()
                self._count(waiting, work, -1)

    def _join_on(self, joining: _Joining, units: int) -> bool:
        if joining.done.cancelled():
            joining.steps.close()
            return True
        failure: Exception | None = None
        try:
            if not self._go_on(joining.steps, units):
                return False
        except Exception as error:
            failure = error
        joining.end(failure)
        # An error holds this frame, and its future holds the error.
        del joining, failure
        return True

    def _advance(self, steps: Steps, units: int) -> bool:
        """Goes on with work that nobody waits for; answers whether it has ended."""
        try:
            return self._go_on(steps, units)
        except Exception:
            # The work behind this one goes on.
            self._faults["events"] += 1
            _log.exception("event failed")
            return True

    def _go_on(self, steps: Steps, units: int) -> bool:
        self._wake()
        spent = 1
        try:
            for cost in steps:
                spent += cost
                if spent >= units:
                    return False
            return True
        finally:
            self._units -= spent
