"""The gate in front of one site's authUrl: it bounds the requests in flight, queues the others, and lets none pass
while the backend is down.

Knows nothing of HTTP: the caller that passes reports the outcome of its request.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

import structlog
from msgspec import Struct

from app.backends.breaker import Breaker, BreakerState, Passage
from app.backends.figures import BackendCounts
from app.config.settings import Site
from app.errors import AuthRefused

#: A connect waits this long for its turn. Clients wait longer; a session without a namespace is closed after 45 s.
WAIT_SECONDS = 30.0
#: Connects of one site that wait for their turn on one node. The last ones of a longer queue would wait too long.
MAX_WAITING = 20_000

BUSY = "Auth error: too many are connecting, try again later"
DOWN = "Auth error: the site's backend does not answer, try again later"

_SHOWN_AS = {BreakerState.CLOSED: 0, BreakerState.HALF_OPEN: 1, BreakerState.OPEN: 2}

_log = structlog.get_logger(__name__)


class AuthOutcome(Struct):
    """The outcome of a request that passed. Lives as long as the request, which sets it."""

    #: None: the caller gave up before an answer came.
    was_answered: bool | None = None


class AuthGate:
    """The gate of one site. Lives as long as the adapter that asks."""

    def __init__(
        self, site: Site, counts: BackendCounts, breaker: Breaker | None = None, wait_seconds: float = WAIT_SECONDS
    ) -> None:
        self._site = site.name
        self.counts = counts
        self._breaker = breaker or Breaker()
        self._wait_seconds = wait_seconds
        self.concurrency = site.auth_concurrency
        self._free = self.concurrency
        #: The callers that wait for a place, the longest first.
        self._row: OrderedDict[asyncio.Future[None], None] = OrderedDict()

    @property
    def is_open(self) -> bool:
        """Whether a caller may pass without a wait, and would be no probe."""
        return self._free > 0 and not self._row and self._breaker.state is BreakerState.CLOSED

    def enter(self) -> None:
        """Passes the open gate; `leave` ends that."""
        self._free -= 1
        self.counts.auths_in_flight += 1

    def leave(self, outcome: AuthOutcome) -> None:
        """Ends the passage of `enter`."""
        self.counts.auths_in_flight -= 1
        self._report(Passage.ORDINARY, outcome)
        self._give_place()

    @asynccontextmanager
    async def passed(self) -> AsyncIterator[AuthOutcome]:
        """The context in which a caller asks and sets the outcome. Raises AuthRefused with the text for the client."""
        self._refuse_while_down()
        await self._wait_for_turn()
        try:
            passage = self._admit()
            outcome = AuthOutcome()
            self.counts.auths_in_flight += 1
            try:
                yield outcome
            finally:
                self.counts.auths_in_flight -= 1
                self._report(passage, outcome)
        finally:
            self._give_place()

    def _refuse_while_down(self) -> None:
        """Refuses now, instead of when the turn comes."""
        if self._breaker.refuses(monotonic()):
            self.counts.auths["not asked"] += 1
            raise AuthRefused(DOWN)

    async def _wait_for_turn(self) -> None:
        if self._free > 0 and not self._row:
            self._free -= 1
            return
        if self.counts.auths_waiting >= MAX_WAITING:
            self.counts.auths["too many"] += 1
            raise AuthRefused(BUSY)
        began_at = monotonic()
        self.counts.auths_waiting += 1
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._place()
        except TimeoutError:
            self.counts.auths["too many"] += 1
            raise AuthRefused(BUSY) from None
        finally:
            self.counts.auths_waiting -= 1
            self.counts.auth_wait_seconds.observe(monotonic() - began_at)

    async def _place(self) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._row[turn] = None
        try:
            await turn
        except asyncio.CancelledError:
            self._row.pop(turn, None)
            if not turn.cancelled():
                # The place came at the same moment.
                self._give_place()
            raise

    def _give_place(self) -> None:
        """Hands a place to the caller that has waited longest."""
        while self._row:
            turn, _ = self._row.popitem(last=False)
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def _admit(self) -> Passage:
        before = self._breaker.state
        passage = self._breaker.admit(monotonic())
        self._tell_change(before)
        if passage is Passage.REFUSED:
            self.counts.auths["not asked"] += 1
            raise AuthRefused(DOWN)
        return passage

    def _report(self, passage: Passage, outcome: AuthOutcome) -> None:
        before = self._breaker.state
        if outcome.was_answered is None:
            self._breaker.abandoned(passage)
        elif outcome.was_answered:
            self._breaker.answered()
        else:
            self._breaker.failed(passage, monotonic())
        self._tell_change(before)

    def _tell_change(self, before: BreakerState) -> None:
        state = self._breaker.state
        if state is not before:
            self.counts.auth_breaker = _SHOWN_AS[state]
            pause = self._breaker.pause_seconds if state is BreakerState.OPEN else None
            # A warning, not an error: the tenant's backend is down, not this server.
            _log.warning("auth breaker", site=self._site, state=state.value, pause_seconds=pause)
