"""Checks passwords of registered topics in a thread: a hash that is slow to guess is also slow to check."""

import asyncio
from collections import OrderedDict

from app.config.settings import Site
from app.digests import digest
from app.protocols.topics.registry import is_password

_MAX_KNOWN_PASSWORDS = 1_000


class Passwords:
    """The passwords of the registered topics of all sites. Lives as long as the server.

    A right password is remembered by its digest.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, bytes], None] = OrderedDict()

    async def is_right(self, site: Site, password_hash: str | None, password: str | None) -> bool:
        """Whether this is the topic's password; always true for a topic without one."""
        if password_hash is None:
            return True
        if password is None:
            return False
        known = (password_hash, digest(password_hash + password))
        if known not in self._known:
            if not await asyncio.to_thread(is_password, password, password_hash):
                return False
            self._known[known] = None
            if len(self._known) > _MAX_KNOWN_PASSWORDS:
                self._known.popitem(last=False)
        return True
