"""The passwords that operators set: given as text, or made here, and turned into keys on a thread."""

import asyncio
import secrets

from msgspec import Struct

from app.config.settings import Site
from app.protocols.messenger.scram import Keys, keys_of
from app.protocols.messenger.settings import Messenger

_RANDOM_BYTES = 18


class FirstPassword(Struct, frozen=True):
    """A password that its user has to change. Lives as long as the request. Its repr shows nothing."""

    keys: Keys
    #: The password, where it was made here: it is told once.
    told: str | None

    def __repr__(self) -> str:
        return "FirstPassword()"


class FirstPasswords:
    """Makes them for one node, one after the other: each costs a tenth of a second and more. Lives as long as the
    node."""

    def __init__(self) -> None:
        self._turn = asyncio.Semaphore(1)

    async def make(self, site: Site, given: str | None) -> FirstPassword:
        """A password as keys. Raises ChatRefusal for one that nobody can type."""
        password = secrets.token_urlsafe(_RANDOM_BYTES) if given is None else given
        async with self._turn:
            keys = await asyncio.to_thread(keys_of, password, site.require_section(Messenger).iterations)
        return FirstPassword(keys, password if given is None else None)
