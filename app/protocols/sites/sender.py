"""The messages of a request to /send or /send/batch, from their parts to the store."""

import hashlib
from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Raw

from app.clock import now_ms, rfc3339
from app.config.settings import Site
from app.core.delivery import Delivery
from app.core.message import Message
from app.core.options import Once
from app.core.ports import Outcome
from app.errors import BadRequest, LimitReached, StoreError, StoreUnavailable
from app.ids import FlakeIds
from app.protocols.sites.send_answer import Accepted, SendFailure, answer_of
from app.protocols.sites.send_body import Draft, SendBody, media_type_of, read_send_body
from app.protocols.sites.send_options import read_options
from app.protocols.validation import decode_json

#: The messages of one request.
MAX_MESSAGES = 100
_decoder = msgspec.json.Decoder(list[Raw])
#: The limit that a batch is held to as a whole.
_RATE = "sends_per_second"


#: The longest Idempotency-Key, in characters.
MAX_KEY_CHARACTERS = 128
_FALSE = frozenset(("", "false", "0", "no", "off"))


class Sender:
    """Makes messages of drafts and hands them to the core. Lives as long as the node."""

    def __init__(self, delivery: Delivery, ids: FlakeIds) -> None:
        self._delivery = delivery
        self._ids = ids

    def message(self, site: Site, draft: Draft, once: Once | None, weight: int = 1) -> Message:
        """The message of a draft; it counts as `weight` sends of the site."""
        id, sent = self._ids.next_id(), draft.sent
        packed = _with_id(sent.packed, id) if draft.options.id else sent.packed
        more = (draft.options, once, weight, draft.but)
        return Message(site, id, sent.rooms, sent.event, packed, draft.resync, (), None, *more)

    async def send(self, message: Message) -> Outcome:
        """Stores the message, and waits for acks where it says so; see `Delivery.publish`."""
        if message.options.wait:
            return await self._delivery.follow_up.publish_and_wait(message)
        return Outcome(await self._delivery.publish(message), 0, 0)


def read_draft(site: Site, query: Mapping[str, str], sent: SendBody) -> Draft:
    """The draft of a body with the options of the query. Raises BadRequest."""
    return Draft(sent, read_options(site, query, sent.options), query.get("resync", "").lower() not in _FALSE)


def key_of(headers: Mapping[bytes, bytes]) -> str | None:
    """The Idempotency-Key of a request; None without one. Raises BadRequest."""
    if (value := headers.get(b"idempotency-key")) is None:
        return None
    return checked_key(value.decode("latin-1"))


def checked_key(key: str) -> str:
    """The Idempotency-Key. Raises BadRequest."""
    if not (1 <= len(key) <= MAX_KEY_CHARACTERS and key.isascii() and key.isprintable()):
        raise BadRequest(f"Idempotency-Key: expected 1 to {MAX_KEY_CHARACTERS} printable characters.")
    return key


def once_of(site: Site, key: str | None, drafts: Sequence[Draft]) -> list[Once | None]:
    """The idempotency of each message of a request: its key stands for the whole request."""
    if key is None:
        return [None] * len(drafts)
    request = [(one.sent.rooms, one.sent.event, one.sent.packed, one.options, one.resync) for one in drafts]
    digest = hashlib.sha256(msgspec.msgpack.encode(request)).hexdigest()
    names = [hashlib.sha256(f"{number} {key}".encode()).hexdigest() for number in range(len(drafts))]
    return [Once(name, digest, site.idempotency_ttl_seconds) for name in names]


def _with_id(packed: bytes, id: int) -> bytes:
    """The message with its id as one more argument, for clients that tell repeated messages."""
    return packed[:-1] + b',{"id":"%d","at":"%b"}]' % (id, rfc3339(now_ms()).encode())


def read_batch(site: Site, query: Mapping[str, str], content_type: str, body: bytes) -> list[Draft | BadRequest]:
    """The messages of a body: a JSON array of the bodies of /send. One that is wrong is its error.

    Raises BadRequest when the whole is wrong.
    """
    if media_type_of(content_type) not in ("", "application/json"):
        raise BadRequest("Content-Type: expected application/json.")
    try:
        parts: list[Raw] = decode_json(_decoder, body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadRequest("Body: expected a JSON array of messages in UTF-8.") from None
    if not 1 <= len(parts) <= MAX_MESSAGES:
        status = 413 if parts else 400
        raise BadRequest(f"Body: expected 1 to {MAX_MESSAGES} messages, got {len(parts)}.", status=status)
    return [_read(site, query, bytes(part)) for part in parts]


def _read(site: Site, query: Mapping[str, str], part: bytes) -> Draft | BadRequest:
    try:
        draft = read_draft(site, query, read_send_body("", part))
        if draft.options.wait:
            raise BadRequest("wait: expected no message of a batch to wait.")
    except BadRequest as error:
        return error
    return draft


class BatchSender:
    """Sends the messages of a batch. Lives as long as the node."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender

    async def send(
        self, site: Site, parts: Sequence[Draft | BadRequest], key: str | None
    ) -> list[Accepted | SendFailure]:
        """One answer for each message, in their order.

        Raises LimitReached when the site may not send so many now, and OtherRequest for a key of another request; then
        none is stored.
        """
        drafts = [part for part in parts if isinstance(part, Draft)]
        once = iter(once_of(site, key, drafts))
        # The first message that reaches the store counts for all of them.
        weight = len(drafts)
        answers: list[Accepted | SendFailure] = []
        for part in parts:
            if isinstance(part, BadRequest):
                answers.append(SendFailure(part.status, str(part), "refused"))
                continue
            answer = await self._send_one(self._sender.message(site, part, next(once), weight))
            weight = 0 if answer.status == 200 else weight
            answers.append(answer)
        return answers

    async def _send_one(self, message: Message) -> Accepted | SendFailure:
        try:
            return answer_of(message, await self._sender.send(message))
        except LimitReached as error:
            if error.limit == _RATE:
                raise
            return SendFailure(error.status, str(error), "limited", error.limit)
        except StoreUnavailable:
            return SendFailure(503, "The message is not stored, try again.", "unavailable", "unavailable")
        except StoreError:
            return SendFailure(500, "The message is not stored.", "failed")
