"""POST /event: a backend emits an event to topics; POST /alive: a client extends its stream."""

import asyncio
import secrets
from collections import OrderedDict

import structlog

from app.core.binds import bound_together
from app.core.delivery import Delivery
from app.core.message import Message
from app.digests import digest
from app.errors import BadRequest, LimitReached, StoreUnavailable
from app.ids import FlakeIds
from app.protocols.topics.exchange import Exchange
from app.protocols.topics.identity import Identities
from app.protocols.topics.notice import Emitted, Listeners, audience, is_bindable
from app.protocols.topics.registry import TopicRegistration, is_password, unpack
from app.protocols.topics.requests import Emission, Target, read_emission, read_proof
from app.protocols.topics.site_topics import SiteTopics, lifetime_ms, rules_of
from app.protocols.topics.topic import has_wildcard
from app.protocols.topics.topic_store import Extension, TopicStore
from app.protocols.validation import read_aside

_MAX_KNOWN_PASSWORDS = 1_000

_log = structlog.get_logger(__name__)
#: es-web-notify's words.
INVALID_DATA = "Invalid data"
_EXTENSION_ERRORS = {
    Extension.UNKNOWN: (404, "connid: there is no such connection.", INVALID_DATA),
    Extension.WRONG: (403, "secret: not the secret of this connection.", INVALID_DATA),
    Extension.EXHAUSTED: (429, "This connection was extended as often as it may be.", "Max alive reached"),
}


class Passwords:
    """Checks passwords of registered topics in a thread. Lives as long as the server.

    A right password is remembered by its digest, because a hash that is slow to guess is also slow to check.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, bytes], None] = OrderedDict()

    async def is_right(self, registration: TopicRegistration, password: str | None) -> bool:
        """Whether this is the topic's password; always true for a topic without one."""
        if registration.password_hash is None:
            return True
        if password is None:
            return False
        known = (registration.password_hash, digest(registration.password_hash + password))
        if known not in self._known:
            if not await asyncio.to_thread(is_password, password, registration.password_hash):
                return False
            self._known[known] = None
            if len(self._known) > _MAX_KNOWN_PASSWORDS:
                self._known.popitem(last=False)
        return True


class Emitting:
    """The endpoint of POST /event for all sites. Lives as long as the server; keeps nothing of a request."""

    def __init__(
        self, delivery: Delivery, store: TopicStore, identities: Identities, ids: FlakeIds, max_body_bytes: int
    ) -> None:
        self._delivery = delivery
        self._store = store
        self._identities = identities
        self._ids = ids
        self._max_body_bytes = max_body_bytes
        self._passwords = Passwords()

    async def post(self, exchange: Exchange, topics: SiteTopics) -> None:
        """Emits one event to all of its topics or to none. Raises BadRequest, StoreError."""
        result = "failed"
        try:
            body = await exchange.read_body(self._max_body_bytes, may_be_compressed=True)
            rules = rules_of(topics, exchange.is_mounted)
            emission = await read_aside(lambda text: read_emission(text, rules), body)
            await self._emit(topics, emission)
            result = "accepted"
        except BadRequest as error:
            result = "refused"
            _log.info("event refused", site=topics.site.name, status=error.status, reason=str(error))
            raise
        except LimitReached as error:
            result = "refused"
            _log.info("event refused", site=topics.site.name, status=error.status, limit=error.limit)
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
        registrations = await self._registrations(topics, emission, user)
        to = [_emitted(target, registrations) for target in emission.targets]
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

    async def _registrations(
        self, topics: SiteTopics, emission: Emission, user: str | None
    ) -> dict[str, TopicRegistration]:
        """The registrations of all binded targets. Raises BadRequest (403) when
        the user may not emit to one of them."""
        names = list(dict.fromkeys(target.topic for target in emission.targets if target.is_binded))
        if not names:
            return {}
        packed = await self._store.registrations(topics.site, names)
        found = {name: unpack(value) for name, value in zip(names, packed, strict=True) if value is not None}
        for target in emission.targets:
            if not target.is_binded:
                continue
            registration = found.get(target.topic)
            # The answer is the same in all three cases: a user who may not publish learns neither whether the topic
            # exists nor whether the password is right.
            if (
                registration is None
                or not registration.may_publish(user)
                or not await self._passwords.is_right(registration, target.password)
            ):
                raise BadRequest(f"Topic {target.topic!r}: not allowed to publish.", status=403)
        return found


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


def _emitted(target: Target, registrations: dict[str, TopicRegistration]) -> Emitted:
    if not target.is_binded:
        return Emitted(target.topic, target.whisper)
    return Emitted(target.topic, target.whisper, Listeners.of(registrations[target.topic].subscribers))
