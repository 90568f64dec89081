"""Tells a site's updateUserUrl when its users connect and disconnect. Best effort: nobody waits for it."""

import asyncio
from collections import deque
from datetime import UTC, datetime
from typing import cast
from urllib.parse import quote

import msgspec
import structlog
from msgspec import Struct

from app.backends.exact_pool import ExactPool
from app.backends.exchange import BackendError, authorization
from app.backends.figures import BackendCounts
from app.backends.site_pools import SitePools
from app.config.settings import Site
from app.observe.counts import Counts

# A tenant's requests in flight, and its updates that wait for their turn. Past both, an update is dropped and logged.
MAX_IN_FLIGHT_PER_SITE = 20
MAX_WAITING_PER_SITE = 20_000
# Ids that change the path of a URL, in any spelling: no HTTP client sends them as they stand (RFC 3986, 5.2.4).
_DOT_SEGMENTS = (".", "..")

log = structlog.get_logger(__name__)


class _Update(Struct, frozen=True):
    """One PUT to be made. Lives until it is made or dropped."""

    site: Site
    user_id: str
    token: str | None
    connected: bool
    at: datetime


class HttpUserUpdates:
    """The port UserUpdates over HTTP. Lives as long as the server, which calls `aclose`."""

    def __init__(self, timeout_seconds: float, counts: Counts | None = None) -> None:
        self._pools = SitePools(timeout_seconds, ExactPool)
        self._counts = counts or Counts()
        self._waiting: dict[str, deque[_Update]] = {}
        self._workers: dict[str, set[asyncio.Task[None]]] = {}
        self._is_closed = False

    def update_user(self, site: Site, user_id: str, token: str | None, connected: bool, at: datetime) -> None:
        """Queues the news that the user has connected or disconnected; returns at once, never raises.

        Does nothing for a site without updateUserUrl, for an empty id (the URL would name all users) or once closed.
        """
        if not site.update_user_url or not user_id or self._is_closed:
            return
        if user_id in _DOT_SEGMENTS or not _is_unicode(user_id):
            self._counts.of(site.name).part(BackendCounts).user_updates["refused"] += 1
            log.warning(
                "user update refused", site=site.name, reason="the id is none that a URL can name", user=user_id
            )
            return
        waiting = self._waiting.setdefault(site.name, deque())
        if len(waiting) >= MAX_WAITING_PER_SITE:
            self._counts.of(site.name).part(BackendCounts).user_updates["dropped"] += 1
            log.warning("user update dropped", site=site.name, waiting=len(waiting))
            return
        waiting.append(_Update(site, user_id, token, connected, at))
        workers = self._workers.setdefault(site.name, set())
        if len(workers) < MAX_IN_FLIGHT_PER_SITE:
            workers.add(asyncio.create_task(self._work(waiting, workers)))

    async def aclose(self, grace_seconds: float = 2.0) -> None:
        """Waits `grace_seconds` for the requests in flight, drops the rest and closes the connections."""
        self._is_closed = True
        workers = [worker for of_site in self._workers.values() for worker in of_site]
        if workers:
            _, late = await asyncio.wait(workers, timeout=grace_seconds)
            for worker in late:
                worker.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        dropped = sum(map(len, self._waiting.values()))
        if dropped:
            log.warning("user updates dropped", count=dropped)
        await self._pools.aclose()

    async def _work(self, waiting: deque[_Update], workers: set[asyncio.Task[None]]) -> None:
        try:
            while waiting:
                await self._put(waiting.popleft())
        finally:
            # Here and not in a callback: an update that arrives before the callback would find no free place, and wait.
            workers.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    async def _put(self, update: _Update) -> None:
        site = update.site
        results = self._counts.of(site.name).part(BackendCounts).user_updates
        url = (site.update_user_url or "").replace(":id", quote(update.user_id, safe=""))
        try:
            headers = [(b"content-type", b"application/json"), *authorization(site, update.token)]
            answer = await self._pools.exchange(site.name, "PUT", url, headers, _body(update))
        except BackendError as error:
            results["failed"] += 1
            log.warning("user update failed", site=site.name, reason=str(error), error=error.cause)
            return
        except Exception:
            results["failed"] += 1
            # An error must not end the worker: the site's other updates would wait for ever.
            log.exception("user update failed", site=site.name)
            return
        results["failed" if answer.status >= 300 else "done"] += 1
        if answer.status >= 300:
            log.warning("user update failed", site=site.name, reason="unexpected status", status=answer.status)


def _is_unicode(text: str) -> bool:
    """Whether the text can be written in UTF-8: half a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _body(update: _Update) -> bytes:
    moment = update.at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    field = "last_connected" if update.connected else "last_disconnected"
    return msgspec.json.encode({"id": update.user_id, "user": {field: moment}})
