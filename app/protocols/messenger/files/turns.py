"""The requests for files that are under way, with a bound for each user, each site and the node."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from app.errors import RequestRefused
from app.transport.refusals import TOO_MANY_FILE_REQUESTS, refused

#: Requests under way: browsers open six connections to a server, and a user may have several devices.
MAX_REQUESTS_OF_USER = 24
MAX_REQUESTS_OF_SITE = 256
MAX_REQUESTS = 512


class FileTurns:
    """Lives as long as the node."""

    def __init__(self) -> None:
        self._under_way: Counter[tuple[str, int | None]] = Counter()
        self._total = 0

    @contextmanager
    def of_site(self, site: str) -> Iterator[None]:
        """A request to a site, from a user that is not known yet. Raises RequestRefused."""
        if self._total >= MAX_REQUESTS:
            raise _refusal()
        with self._turn((site, None), MAX_REQUESTS_OF_SITE):
            self._total += 1
            try:
                yield
            finally:
                self._total -= 1

    @contextmanager
    def of_user(self, site: str, user: int) -> Iterator[None]:
        """A request of a user. Raises RequestRefused."""
        with self._turn((site, user), MAX_REQUESTS_OF_USER):
            yield

    @contextmanager
    def _turn(self, asker: tuple[str, int | None], most: int) -> Iterator[None]:
        if self._under_way[asker] >= most:
            raise _refusal()
        self._under_way[asker] += 1
        try:
            yield
        finally:
            self._under_way[asker] -= 1
            if not self._under_way[asker]:
                del self._under_way[asker]


def _refusal() -> RequestRefused:
    """503, not 429: clients of tus repeat a request only after a status of the server."""
    refused[TOO_MANY_FILE_REQUESTS] += 1
    return RequestRefused("Too many requests for files are under way, try again.", "too_many", 503)
