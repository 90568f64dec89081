"""The answers of /send and /send/batch, as text or JSON."""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from app.core.message import Message
from app.core.ports import Outcome
from app.protocols.http_request import Send

_TEXT = (b"content-type", b"text/plain; charset=utf-8")
_JSON = (b"content-type", b"application/json")
_CODES = {
    400: "bad_request",
    401: "unauthorized",
    405: "method_not_allowed",
    408: "too_slow",
    413: "too_large",
    415: "unsupported_media_type",
    500: "not_stored",
}


class Accepted(Struct, frozen=True):
    """The answer to a message that is stored."""

    id: str
    body: dict[str, Any]
    is_replayed: bool = False

    result = "accepted"
    status = 200


class SendFailure(Struct, frozen=True):
    """The answer to a request, or to one message of a batch, that failed. `result` is for the metrics."""

    status: int
    reason: str
    result: str
    code: str = ""
    retry_after_seconds: int | None = None

    @property
    def body(self) -> dict[str, Any]:
        """The answer as JSON."""
        return {"ok": False, "error": self.reason, "code": self.code or _CODES.get(self.status, "failed")}


class BatchAnswer(Struct, frozen=True):
    """The answer to a batch: one for each message, in their order."""

    answers: Sequence[Accepted | SendFailure]

    result = "accepted"
    status = 200

    @property
    def body(self) -> list[dict[str, Any]]:
        """The answer as JSON; an error has its status."""
        return [one.body | ({} if one.status == 200 else {"status": one.status}) for one in self.answers]

    @property
    def is_replayed(self) -> bool:
        """Whether an earlier request had stored all of it."""
        accepted = [one for one in self.answers if isinstance(one, Accepted)]
        return bool(accepted) and all(one.is_replayed for one in accepted)


Answer = Accepted | SendFailure | BatchAnswer


def answer_of(message: Message, outcome: Outcome) -> Accepted:
    """The answer to a message that is stored, by this request or by an earlier one with its idempotency key."""
    stored = outcome.stored
    id = stored.earlier_id or str(message.id)
    # The id is sent as text: it is larger than the numbers that JavaScript represents exactly.
    body: dict[str, Any] = {"ok": True, "id": id, "recipients": stored.recipients}
    if message.options.wait and not stored.earlier_id:
        body |= {"acked": outcome.acked, "waiting": outcome.waiting}
    return Accepted(id, body, bool(stored.earlier_id))


def answer_of_batch(answers: Sequence[Accepted | SendFailure]) -> BatchAnswer:
    """The answer to a batch whose messages have these answers."""
    return BatchAnswer(answers)


async def write(send: Send, answer: Answer, as_json: bool) -> None:
    """Writes an answer, as JSON where the caller accepts it. That of a batch is always JSON."""
    headers = []
    if isinstance(answer, Accepted):
        headers.append((b"x-message-id", answer.id.encode()))
    if not isinstance(answer, SendFailure) and answer.is_replayed:
        headers.append((b"idempotent-replayed", b"true"))
    if as_json or isinstance(answer, BatchAnswer):
        body = msgspec.json.encode(answer.body)
    else:
        body = answer.reason.encode() if isinstance(answer, SendFailure) else b"OK"
    headers.append(_JSON if as_json or isinstance(answer, BatchAnswer) else _TEXT)
    headers.append((b"content-length", b"%d" % len(body)))
    if isinstance(answer, SendFailure) and answer.retry_after_seconds is not None:
        headers.append((b"retry-after", b"%d" % answer.retry_after_seconds))
    if answer.status == 405:
        headers.append((b"allow", b"POST"))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
