"""The registrations of an event's binded topics: whether its user may emit to all of them, and who may listen.

The lists of users may be long. They are read in parts, decoded in slices, and bounded for one event.
"""

from collections.abc import Sequence

from app.config.settings import Site
from app.errors import BadRequest
from app.protocols.topics.notice import Emitted, Listeners
from app.protocols.topics.passwords import Passwords
from app.protocols.topics.registry import unpack
from app.protocols.topics.requests import Target
from app.protocols.topics.slices import Slices, Steps
from app.protocols.topics.topic_store import TopicStore

#: The bytes of the registrations that are read for an event of several topics, and of the listeners that it names to
#: the nodes.
MAX_BYTES = 4_000_000
#: The registrations that one command reads.
_TOPICS_AT_ONCE = 8
#: The bytes of a registration that are decoded at the cost of one unit of `Slices`.
_BYTES_OF_UNIT = 150


class Permissions:
    """The permissions of events on all sites. Lives as long as the server; keeps nothing of an event."""

    def __init__(self, store: TopicStore, slices: Slices, passwords: Passwords) -> None:
        self._store = store
        self._slices = slices
        self._passwords = passwords

    async def emitted(self, site: Site, targets: Sequence[Target], user: str | None) -> list[Emitted]:
        """The topics of an event with their listeners. Raises BadRequest (403) when the user may not emit to one of
        them, BadRequest, LimitReached, StoreError."""
        binded = [target for target in targets if target.is_binded]
        listeners = await self._listeners(site, binded, user)
        if len(binded) > 1 and sum(len(listeners[target.topic].packed) for target in binded) > MAX_BYTES:
            raise _too_many_users()
        return [
            Emitted(target.topic, target.whisper, listeners[target.topic] if target.is_binded else None)
            for target in targets
        ]

    async def _listeners(self, site: Site, binded: Sequence[Target], user: str | None) -> dict[str, Listeners]:
        names = list(dict.fromkeys(target.topic for target in binded))
        reading = _Reading(user)
        for start in range(0, len(names), _TOPICS_AT_ONCE):
            part = names[start : start + _TOPICS_AT_ONCE]
            for name, packed in zip(part, await self._store.registrations(site, part), strict=True):
                await self._slices.finish(site.name, reading.take(name, packed))
        for target in binded:
            if not await self._passwords.is_right(site, reading.password_hashes[target.topic], target.password):
                raise _not_allowed(target.topic)
        return reading.listeners


class _Reading:
    """The registrations of one event. Lives as long as its permission is looked for."""

    def __init__(self, user: str | None) -> None:
        self.listeners: dict[str, Listeners] = {}
        self.password_hashes: dict[str, str | None] = {}
        self._user = user
        self._bytes = 0

    def take(self, name: str, packed: bytes | None) -> Steps:
        """Decodes one registration. Raises BadRequest."""
        registration = None if packed is None else unpack(packed)
        if packed is None or registration is None or not registration.may_publish(self._user):
            raise _not_allowed(name)
        self._bytes += len(packed)
        if self._bytes > MAX_BYTES and self.listeners:
            raise _too_many_users()
        self.listeners[name] = Listeners.of(registration.subscribers)
        self.password_hashes[name] = registration.password_hash
        yield len(packed) // _BYTES_OF_UNIT


def _not_allowed(topic: str) -> BadRequest:
    # The answer is the same in all three cases: a user who may not publish learns neither whether the topic exists nor
    # whether the password is right.
    return BadRequest(f"Topic {topic!r}: not allowed to publish.", status=403)


def _too_many_users() -> BadRequest:
    return BadRequest(
        f"ep: the binded topics have too many users, expected at most {MAX_BYTES} bytes of names together."
    )
