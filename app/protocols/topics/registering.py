"""PUT, GET and DELETE /registry/<topic>: the users who may publish to a topic, and the users who may listen."""

import structlog
from msgspec import structs

from app.errors import BadRequest, StoreError, StoreUnavailable
from app.protocols.fair_pool import FairPool
from app.protocols.reading import read_aside
from app.protocols.topics.exchange import JSON, Exchange
from app.protocols.topics.passwords import Passwords
from app.protocols.topics.registry import (
    check_registrable,
    pack,
    read_registration,
    show,
    unpack,
)
from app.protocols.topics.site_topics import SiteTopics
from app.protocols.topics.topic_store import TopicStore

_log = structlog.get_logger(__name__)


class Registering:
    """The endpoint of /registry for all sites. Lives as long as the server; keeps nothing of a request."""

    def __init__(self, store: TopicStore, passwords: Passwords, reading: FairPool, max_body_bytes: int) -> None:
        self._store = store
        self._passwords = passwords
        self._reading = reading
        self._max_body_bytes = max_body_bytes

    async def put(self, exchange: Exchange, topics: SiteTopics, topic: str) -> None:
        """Registers the topic, or replaces its registration. Raises BadRequest, StoreError."""
        check_registrable(topic)
        body = await exchange.read_body(self._max_body_bytes, may_be_compressed=True)
        registration, password = await read_aside(self._reading, topics.site.name, read_registration, body)
        if password is not None:
            password_hash = await self._passwords.hash(topics.site, password)
            registration = structs.replace(registration, password_hash=password_hash)
        try:
            is_new = await self._store.register(topics.site, topic, pack(registration))
        except StoreUnavailable:
            raise
        except StoreError as error:
            raise BadRequest(str(error), status=507) from None
        _log.info("topic registered", site=topics.site.name, topic=topic, is_new=is_new)
        await exchange.answer(201 if is_new else 200, show(topic, registration), JSON)

    async def get(self, exchange: Exchange, topics: SiteTopics, topic: str) -> None:
        """Answers the registration. Raises BadRequest, StoreError."""
        (found,) = await self._store.registrations(topics.site, [topic])
        if found is None:
            raise _unregistered(topic)
        shown = await read_aside(self._reading, topics.site.name, lambda packed: show(topic, unpack(packed)), found)
        await exchange.answer(200, shown, JSON)

    async def delete(self, exchange: Exchange, topics: SiteTopics, topic: str) -> None:
        """Deletes the registration. Raises BadRequest, StoreError."""
        if not await self._store.unregister(topics.site, topic):
            raise _unregistered(topic)
        _log.info("topic unregistered", site=topics.site.name, topic=topic)
        await exchange.answer(204)


def _unregistered(topic: str) -> BadRequest:
    return BadRequest(f"Topic {topic!r} is not registered.", status=404)
