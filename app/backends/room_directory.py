"""Asks a site's authUrl for the rooms of the user whom a token names."""

import asyncio
from time import monotonic

import msgspec
import structlog

from app.backends.http import BackendError, SitePools, authorization, header_value
from app.errors import AuthRefused
from app.observe.counts import Counts
from app.settings import Site

log = structlog.get_logger(__name__)

_rooms_decoder = msgspec.json.Decoder(list[str])
_Question = tuple[str, str | None, str | None]


class HttpRoomDirectory:
    """The port RoomDirectory over HTTP. Lives as long as the server, which calls `aclose`."""

    def __init__(self, timeout_seconds: float, counts: Counts | None = None) -> None:
        self._pools = SitePools(timeout_seconds)
        self._counts = counts or Counts()
        self._in_flight: dict[_Question, asyncio.Task[list[str] | AuthRefused]] = {}

    async def fetch_rooms(self, site: Site, token: str | None, meta: str | None) -> list[str]:
        """The user's rooms as authUrl names them; an empty token or meta counts as none.

        Equal questions asked at the same moment share one request, which outlives a caller that is cancelled.
        Raises AuthRefused with the contract's texts.
        """
        question = (site.name, token, meta)
        task = self._in_flight.get(question)
        if task is None:
            task = self._in_flight[question] = asyncio.create_task(self._ask(site, token, meta))
            task.add_done_callback(lambda _: self._in_flight.pop(question))
        answer = await asyncio.shield(task)
        if isinstance(answer, AuthRefused):
            # A new one for each caller: they would share one traceback.
            raise AuthRefused(str(answer))
        return answer.copy()

    async def aclose(self) -> None:
        """Ends the requests in flight and closes the connections."""
        tasks = list(self._in_flight.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._pools.aclose()

    async def _ask(self, site: Site, token: str | None, meta: str | None) -> list[str] | AuthRefused:
        asked_at = monotonic()
        try:
            return await self._exchange(site, token, meta)
        finally:
            self._counts.of(site.name).auth_seconds.observe(monotonic() - asked_at)

    async def _exchange(self, site: Site, token: str | None, meta: str | None) -> list[str] | AuthRefused:
        results = self._counts.of(site.name).auths
        try:
            headers = authorization(site, token) + ([(b"x-meta", header_value(meta, "meta"))] if meta else [])
            assert site.auth_url, "without one nobody connects to the site's rooms"
            answer = await self._pools.exchange(site.name, "GET", site.auth_url, headers)
            if answer.status == 200:
                rooms = _rooms_decoder.decode(answer.body)
                results["known"] += 1
                return rooms
        except BackendError as error:
            results["failed"] += 1
            log.warning("auth failed", site=site.name, reason=str(error), error=error.cause)
            return AuthRefused(f"Auth error: {error}")
        except (msgspec.MsgspecError, UnicodeDecodeError):
            results["malformed"] += 1
            log.warning("auth failed", site=site.name, reason="no JSON array of strings")
            return AuthRefused("Auth error: expected a JSON array of strings")
        if answer.status == 401:
            results["refused"] += 1
            return AuthRefused("Authentication failed")
        results["unexpected status"] += 1
        log.warning("auth failed", site=site.name, reason="unexpected status", status=answer.status)
        return AuthRefused(f"Auth {answer.status} error")
