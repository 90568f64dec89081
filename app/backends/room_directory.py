"""Asks a site's authUrl for the rooms of the user that a token names."""

import asyncio
from collections import Counter
from collections.abc import Callable
from functools import partial
from time import monotonic

import msgspec
import structlog

from app.backends.auth_gate import WAIT_SECONDS, AuthGate, AuthOutcome
from app.backends.exchange import BackendAnswer, BackendError, Header, authorization, header_value
from app.backends.figures import BackendCounts
from app.backends.lean_pool import LeanPool
from app.backends.site_pools import HEADERS, SitePools
from app.config.settings import Site
from app.core.address import MAX_ROOM_BYTES, MAX_ROOMS, Room, are_within_bounds, room_texts
from app.errors import AuthRefused
from app.observe.counts import Counts

log = structlog.get_logger(__name__)

_rooms_decoder = msgspec.json.Decoder(list[Room])
_Question = tuple[str, str | None, str | None]
_Answer = list[str] | AuthRefused


class _Asking:
    """A question in flight and its waiting callers. Lives until the answer, or until no caller waits."""

    __slots__ = ("callers", "has_begun", "stop")

    def __init__(self) -> None:
        self.callers: set[asyncio.Future[_Answer]] = set()
        #: Whether its turn has come. From then on the request goes on to its end, even without a waiting caller.
        self.has_begun = False
        #: Gives the question up.
        self.stop: Callable[[], object]

    def answer(self, answer: _Answer | BaseException | None) -> None:
        """Tells all callers; None: the question was given up."""
        # The function that gives it up knows the question: only a collection would free the two.
        self.stop = _ignore
        for caller in self.callers:
            if caller.done():
                continue
            if answer is None:
                caller.cancel()
            elif isinstance(answer, BaseException) and not isinstance(answer, AuthRefused):
                caller.set_exception(answer)
            else:
                caller.set_result(answer)


def _ignore() -> None:
    """A question that has its answer cannot be given up."""


class HttpRoomDirectory:
    """The port RoomDirectory over HTTP. Lives as long as the server, which calls `aclose`."""

    def __init__(
        self, timeout_seconds: float, counts: Counts | None = None, wait_seconds: float = WAIT_SECONDS
    ) -> None:
        """`timeout_seconds` is the backend's time to answer; before it, a request waits `wait_seconds` for its turn."""
        self._pools = SitePools(timeout_seconds, LeanPool)
        self._counts = counts or Counts()
        self._wait_seconds = wait_seconds
        self._gates: dict[str, AuthGate] = {}
        self._in_flight: dict[_Question, _Asking] = {}
        self._tasks: set[asyncio.Task[_Answer]] = set()

    async def fetch_rooms(self, site: Site, token: str | None, meta: str | None) -> list[str]:
        """The user's rooms as authUrl names them; an empty token or meta counts as none.

        Equal questions at the same moment share one request. A request in flight outlives a cancelled caller; a request
        that waits for its turn is cancelled with its last caller. Raises AuthRefused with the contract's texts.
        """
        question = (site.name, token, meta)
        asking = self._in_flight.get(question)
        caller: asyncio.Future[_Answer] = asyncio.get_running_loop().create_future()
        if asking is None:
            asking = self._in_flight[question] = _Asking()
            asking.callers.add(caller)
            self._begin(asking, question, site)
        else:
            asking.callers.add(caller)
        try:
            answer = await caller
        finally:
            asking.callers.discard(caller)
            if not asking.callers and not asking.has_begun:
                self._forget(question, asking)
                asking.stop()
        if isinstance(answer, AuthRefused):
            # A new error for each caller: a shared one would collect the tracebacks of all.
            raise AuthRefused(str(answer))
        return answer.copy()

    def forget(self, site: str) -> None:
        """The next request of a site finds a new gate."""
        self._gates.pop(site, None)

    async def aclose(self) -> None:
        """Ends the requests in flight and closes the connections."""
        for asking in list(self._in_flight.values()):
            asking.stop()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._pools.aclose()

    def _begin(self, asking: _Asking, question: _Question, site: Site) -> None:
        """Asks now, where a place and a connection are free, or else in a task."""
        gate = self._gate(site)
        if not gate.is_open or not self._ask_at_once(asking, question, site, gate):
            self._ask_in_turn(asking, question, site)

    def _ask_at_once(self, asking: _Asking, question: _Question, site: Site, gate: AuthGate) -> bool:
        try:
            headers = [*HEADERS, *_headers_of(site, *question[1:])]
        except BackendError:
            return False
        outcome, asked_at = AuthOutcome(), monotonic()

        def leave() -> None:
            gate.leave(outcome)
            gate.counts.auth_seconds.observe(monotonic() - asked_at)

        def end(answer: BackendAnswer | BackendError | None) -> None:
            if answer is None:
                gate.leave(outcome)
                self._ask_in_turn(asking, question, site)
                return
            rooms = self._judge(site, answer, outcome)
            leave()
            self._end(asking, question, rooms)

        pools = self._pools
        gate.enter()
        exchange = pools.of(site.name).exchange_at_once(site.auth_url or "", headers, pools.timeout_seconds, end)
        if exchange is None:
            gate.leave(outcome)
            return False

        def stop() -> None:
            exchange.stop()
            leave()
            self._end(asking, question, None)

        asking.has_begun, asking.stop = True, stop
        return True

    def _ask_in_turn(self, asking: _Asking, question: _Question, site: Site) -> None:
        task = asyncio.create_task(self._ask(asking, site, *question[1:]))
        asking.stop = task.cancel
        self._tasks.add(task)
        task.add_done_callback(partial(self._task_ended, asking, question))

    def _task_ended(self, asking: _Asking, question: _Question, task: "asyncio.Task[_Answer]") -> None:
        self._tasks.discard(task)
        self._end(asking, question, None if task.cancelled() else task.exception() or task.result())

    def _end(self, asking: _Asking, question: _Question, answer: _Answer | BaseException | None) -> None:
        self._forget(question, asking)
        asking.answer(answer)

    def _forget(self, question: _Question, asking: _Asking) -> None:
        if self._in_flight.get(question) is asking:
            del self._in_flight[question]

    def _gate(self, site: Site) -> AuthGate:
        gate = self._gates.get(site.name)
        if gate is None or gate.concurrency != site.auth_concurrency:
            # The requests in flight end at the gate that they have passed.
            counts = self._counts.of(site.name).part(BackendCounts)
            gate = self._gates[site.name] = AuthGate(site, counts, wait_seconds=self._wait_seconds)
        return gate

    async def _ask(self, asking: _Asking, site: Site, token: str | None, meta: str | None) -> _Answer:
        outcome = AuthOutcome()
        try:
            headers = _headers_of(site, token, meta)
            gate = self._gate(site)
            async with gate.passed() as outcome:
                asking.has_begun = True
                asked_at = monotonic()
                try:
                    return self._judge(site, await self._exchange(site, headers), outcome)
                finally:
                    gate.counts.auth_seconds.observe(monotonic() - asked_at)
        except AuthRefused as refusal:
            return refusal
        except BackendError as error:
            # Nothing was asked.
            return self._judge(site, error, outcome)

    async def _exchange(self, site: Site, headers: list[Header]) -> BackendAnswer | BackendError:
        assert site.auth_url is not None, "a namespace exists only where there is an authUrl"
        try:
            return await self._pools.exchange(site.name, "GET", site.auth_url, headers)
        except BackendError as error:
            return error

    def _judge(self, site: Site, answer: BackendAnswer | BackendError, outcome: AuthOutcome) -> _Answer:
        results = self._counts.of(site.name).part(BackendCounts).auths
        if isinstance(answer, BackendError):
            outcome.was_answered = answer.was_answered
            results["failed"] += 1
            log.warning("auth failed", site=site.name, reason=str(answer), error=answer.cause)
            return AuthRefused(f"Auth error: {answer}")
        # Any status below 500 is an answer. A 5xx, of the backend or of a proxy before it, counts as no answer.
        outcome.was_answered = answer.status < 500
        if answer.status == 200:
            return _read_rooms(site, answer.body, results)
        if answer.status == 401:
            results["refused"] += 1
            return AuthRefused("Authentication failed")
        results["unexpected status"] += 1
        log.warning("auth failed", site=site.name, reason="unexpected status", status=answer.status)
        return AuthRefused(f"Auth {answer.status} error")


def _read_rooms(site: Site, body: bytes, results: Counter[str]) -> _Answer:
    try:
        rooms = room_texts(_rooms_decoder.decode(body))
    except (msgspec.MsgspecError, UnicodeDecodeError):
        results["malformed"] += 1
        log.warning("auth failed", site=site.name, reason="no JSON array of strings")
        return AuthRefused("Auth error: expected a JSON array of strings")
    if not are_within_bounds(rooms):
        results["malformed"] += 1
        log.warning("auth failed", site=site.name, reason="too many or too long rooms", rooms=len(rooms))
        return AuthRefused(f"Auth error: expected at most {MAX_ROOMS} rooms of {MAX_ROOM_BYTES} bytes each")
    results["known"] += 1
    return rooms


def _headers_of(site: Site, token: str | None, meta: str | None) -> list[Header]:
    """Raises BackendError."""
    return authorization(site, token) + ([(b"x-meta", header_value(meta, "meta"))] if meta else [])
