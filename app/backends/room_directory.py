"""Asks a site's authUrl for the rooms of the user that a token names."""

import asyncio
from time import monotonic

import msgspec
import structlog

from app.backends.auth_gate import WAIT_SECONDS, AuthGate, AuthOutcome
from app.backends.exchange import BackendError, authorization, header_value
from app.backends.figures import BackendCounts
from app.backends.lean_pool import LeanPool
from app.backends.site_pools import SitePools
from app.config.settings import Site
from app.core.address import MAX_ROOM_BYTES, MAX_ROOMS, Room, are_within_bounds, room_texts
from app.errors import AuthRefused
from app.observe.counts import Counts

log = structlog.get_logger(__name__)

_rooms_decoder = msgspec.json.Decoder(list[Room])
_Question = tuple[str, str | None, str | None]
_Headers = list[tuple[bytes, bytes]]


class _Asking:
    """A question in flight and its waiting callers. Lives until the answer, or until no caller waits."""

    def __init__(self) -> None:
        self.callers = 0
        #: Whether its turn has come. From then on the request goes on to its end, even without a waiting caller.
        self.has_begun = False
        self.task: asyncio.Task[list[str] | AuthRefused]


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

    async def fetch_rooms(self, site: Site, token: str | None, meta: str | None) -> list[str]:
        """The user's rooms as authUrl names them; an empty token or meta counts as none.

        Equal questions at the same moment share one request. A request in flight outlives a cancelled caller; a request
        that waits for its turn is cancelled with its last caller. Raises AuthRefused with the contract's texts.
        """
        question = (site.name, token, meta)
        asking = self._in_flight.get(question) or self._begin(question, site)
        asking.callers += 1
        try:
            answer = await asyncio.shield(asking.task)
        finally:
            asking.callers -= 1
            if not asking.callers and not asking.has_begun:
                self._forget(question, asking)
                asking.task.cancel()
        if isinstance(answer, AuthRefused):
            # A new error for each caller: a shared one would collect the tracebacks of all.
            raise AuthRefused(str(answer))
        return answer.copy()

    def forget(self, site: str) -> None:
        """The next request of a site finds a new gate."""
        self._gates.pop(site, None)

    async def aclose(self) -> None:
        """Ends the requests in flight and closes the connections."""
        tasks = [asking.task for asking in self._in_flight.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._pools.aclose()

    def _begin(self, question: _Question, site: Site) -> _Asking:
        asking = self._in_flight[question] = _Asking()
        asking.task = asyncio.create_task(self._ask(asking, site, *question[1:]))
        asking.task.add_done_callback(lambda _: self._forget(question, asking))
        return asking

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

    async def _ask(self, asking: _Asking, site: Site, token: str | None, meta: str | None) -> list[str] | AuthRefused:
        try:
            headers = authorization(site, token) + ([(b"x-meta", header_value(meta, "meta"))] if meta else [])
            async with self._gate(site).passed() as outcome:
                asking.has_begun = True
                asked_at = monotonic()
                try:
                    return await self._exchange(site, headers, outcome)
                finally:
                    self._counts.of(site.name).part(BackendCounts).auth_seconds.observe(monotonic() - asked_at)
        except AuthRefused as refusal:
            return refusal
        except BackendError as error:
            self._counts.of(site.name).part(BackendCounts).auths["failed"] += 1
            log.warning("auth failed", site=site.name, reason=str(error), error=error.cause)
            return AuthRefused(f"Auth error: {error}")

    async def _exchange(self, site: Site, headers: _Headers, outcome: AuthOutcome) -> list[str] | AuthRefused:
        results = self._counts.of(site.name).part(BackendCounts).auths
        assert site.auth_url is not None, "a namespace exists only where there is an authUrl"
        try:
            answer = await self._pools.exchange(site.name, "GET", site.auth_url, headers)
        except BackendError as error:
            outcome.was_answered = error.was_answered
            raise
        # Any status below 500 is an answer. A 5xx, of the backend or of a proxy before it, counts as no answer.
        outcome.was_answered = answer.status < 500
        if answer.status == 200:
            return self._read_rooms(site, answer.body)
        if answer.status == 401:
            results["refused"] += 1
            return AuthRefused("Authentication failed")
        results["unexpected status"] += 1
        log.warning("auth failed", site=site.name, reason="unexpected status", status=answer.status)
        return AuthRefused(f"Auth {answer.status} error")

    def _read_rooms(self, site: Site, body: bytes) -> list[str] | AuthRefused:
        results = self._counts.of(site.name).part(BackendCounts).auths
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
