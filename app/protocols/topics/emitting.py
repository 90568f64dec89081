"""POST /event: a backend emits an event to topics; POST /alive: a client extends its stream."""

import secrets
from functools import partial

import structlog

from app.core.binds import bound_together
from app.core.delivery import Delivery
from app.core.message import Message
from app.digests import digest
from app.errors import BadRequest, LimitReached, StoreUnavailable
from app.ids import FlakeIds
from app.protocols.fair_pool import FairPool
from app.protocols.reading import read_aside
from app.protocols.topics.exchange import Exchange
from app.protocols.topics.identity import Identities
from app.protocols.topics.notice import Emitted, audience, is_bindable
from app.protocols.topics.permissions import Permissions
from app.protocols.topics.requests import Emission, read_emission, read_proof
from app.protocols.topics.site_topics import SiteTopics, lifetime_ms, rules_of
from app.protocols.topics.topic import has_wildcard
from app.protocols.topics.topic_store import Extension, TopicStore

_log = structlog.get_logger(__name__)
#: es-web-notify's words.
INVALID_DATA = "Invalid data"
_EXTENSION_ERRORS = {
    Extension.UNKNOWN: (404, "connid: there is no such connection.", INVALID_DATA),
    Extension.WRONG: (403, "secret: not the secret of this connection.", INVALID_DATA),
    Extension.EXHAUSTED: (429, "This connection was extended as often as it may be.", "Max alive reached"),
}


class Emitting:
    """The endpoint of POST /event for all sites. Lives as long as the server; keeps nothing of a request."""

    def __init__(
        self,
        delivery: Delivery,
        permissions: Permissions,
        identities: Identities,
        ids: FlakeIds,
        max_body_bytes: int,
        reading: FairPool,
    ) -> None:
        self._delivery = delivery
        self._permissions = permissions
        self._identities = identities
        self._ids = ids
        self._max_body_bytes = max_body_bytes
        self._reading = reading

    async def post(self, exchange: Exchange, topics: SiteTopics) -> None:
        """Emits one event to all of its topics or to none. Raises BadRequest, StoreError."""
        result = "failed"
        try:
            body = await exchange.read_body(self._max_body_bytes, may_be_compressed=True)
            rules = rules_of(topics, exchange.is_mounted)
            read = partial(read_emission, rules=rules)
            emission = await read_aside(self._reading, topics.site.name, read, body)
            await self._emit(topics, emission)
            result = "accepted"
        except BadRequest as error:
            result = "refused"
            _log.info("event refused", site=topics.site.name, status=error.status, reason=str(error))
            raise
        except LimitReached as error:
            result = "refused"
            # The server logs the refusal.
            _log.debug("event refused", site=topics.site.name, status=error.status, limit=error.limit)
            raise
        except StoreUnavailable as error:
            result = "unavailable"
            _log.error("event failed", site=topics.site.name, reason=str(error))
            raise
        finally:
            topics.figures.events[result] += 1
        await exchange.answer(200)

    async def _emit(self, topics: SiteTopics, emission: Emission) -> None:
        user = await self._identities.of_emitter(topics.site, emission.bind_key)
        to = await self._permissions.emitted(topics.site, emission.targets, user)
        if not to:
            return
        # A binded event or a whisper has restricted listeners, so it is not sent to a room.
        bound = [
            target.topic
            for target in emission.targets
            if not target.is_binded and target.whisper is None and not has_wildcard(target.topic)
        ]
        together = bound_together(topics.site, bound)
        # Topics bound to one room act as one: an event to one of them is emitted to all of them, in one message.
        to += [Emitted(topic) for topic in together if topic not in bound and is_bindable(topic)]
        whom = audience(to, topics.settings.history, together)
        body, id_ = emission.body, self._ids.next_id()
        await self._delivery.publish(Message(topics.site, id_, (), emission.type, body, audiences=(whom,)))


class Extending:
    """The endpoint of POST /alive for all sites. Lives as long as the server; keeps nothing of a request."""

    def __init__(self, store: TopicStore, max_body_bytes: int) -> None:
        self._store = store
        self._max_body_bytes = max_body_bytes

    async def post(self, exchange: Exchange, topics: SiteTopics) -> None:
        """Extends a stream of any node by another time-out. Raises BadRequest, StoreError."""
        proof = read_proof(await exchange.read_body(self._max_body_bytes))
        secret = secrets.token_urlsafe(24)
        extension = await self._store.extend(
            topics.site,
            proof.connection,
            digest(proof.secret),
            digest(secret),
            lifetime_ms(topics),
            topics.settings.max_alive_count,
        )
        if extension is not Extension.EXTENDED:
            status, reason, phrase = _EXTENSION_ERRORS[extension]
            raise BadRequest(reason, status, phrase)
        timeout_ms = int(topics.settings.connection_timeout_seconds * 1000)
        await exchange.answer_json({"connid": proof.connection, "secret": secret, "timeout": timeout_ms})
