"""Checks and hashes passwords of registered topics in threads: a hash that is slow to guess is also slow to check."""

import asyncio
from collections import OrderedDict
from functools import partial

from app.config.settings import Site
from app.digests import digest
from app.protocols.fair_pool import FairPool, PoolBounds
from app.protocols.topics.registry import hash_password, is_password
from app.transport.refusals import TOO_MANY_PASSWORDS

_MAX_KNOWN_PASSWORDS = 1_000
#: Wrong passwords that are remembered, and for how long: whoever tries again at once is refused at once.
_MAX_WRONG_PASSWORDS = 1_000
WRONG_SECONDS = 10.0
#: The threads that check passwords, with 16 MB each; those of one site at a time; and its passwords that wait, some 50
#: ms each.
THREADS = 2
THREADS_OF_SITE = 1
MOST_WAITING = 20
_BOUNDS = PoolBounds(
    threads=THREADS,
    threads_of_owner=THREADS_OF_SITE,
    waiting_of_owner=MOST_WAITING,
    reason=TOO_MANY_PASSWORDS,
    text="Too many passwords of this site wait on this server, try again.",
)


class Passwords:
    """The passwords of the registered topics of all sites. Lives as long as the server, which calls `close`.

    A right password is remembered by its digest, a wrong one for some seconds.
    """

    def __init__(self) -> None:
        self._pool = FairPool("passwords", _BOUNDS)
        self._known: OrderedDict[tuple[str, bytes], None] = OrderedDict()
        #: With the time at which each is forgotten.
        self._wrong: OrderedDict[tuple[str, bytes], float] = OrderedDict()

    def close(self) -> None:
        """Ends the threads."""
        self._pool.close()

    async def hash(self, site: Site, password: str) -> str:
        """The hash to keep of a password. Raises LimitReached."""
        return await self._pool.run(site.name, partial(hash_password, password))

    async def is_right(self, site: Site, password_hash: str | None, password: str | None) -> bool:
        """Whether this is the topic's password; always true for a topic without one. Raises LimitReached."""
        if password_hash is None:
            return True
        if password is None:
            return False
        asked = (password_hash, digest(password_hash + password))
        if asked in self._known:
            return True
        if self._is_known_as_wrong(asked):
            return False
        is_right = await self._pool.run(site.name, partial(is_password, password, password_hash))
        if is_right:
            self._known[asked] = None
            if len(self._known) > _MAX_KNOWN_PASSWORDS:
                self._known.popitem(last=False)
        else:
            self._wrong[asked] = asyncio.get_running_loop().time() + WRONG_SECONDS
            if len(self._wrong) > _MAX_WRONG_PASSWORDS:
                self._wrong.popitem(last=False)
        return is_right

    def _is_known_as_wrong(self, asked: tuple[str, bytes]) -> bool:
        return self._wrong.get(asked, 0.0) > asyncio.get_running_loop().time()
