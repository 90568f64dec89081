"""The answers of /send and /send/batch, as text or JSON."""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from app.core.message import Message
from app.core.ports import Outcome
from app.protocols.http_request import Send
from app.transport.streaming import Shortcut

Header = tuple[bytes, bytes]

_REPLAYED = (b"idempotent-replayed", b"true")
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
    text = b"OK"

    @property
    def headers(self) -> list[Header]:
        """Its own headers."""
        id = (b"x-message-id", self.id.encode())
        return [id, _REPLAYED] if self.is_replayed else [id]


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

    @property
    def text(self) -> bytes:
        """The answer as text."""
        return self.reason.encode()

    @property
    def headers(self) -> list[Header]:
        """Its own headers."""
        headers = [(b"allow", b"POST")] if self.status == 405 else []
        if self.retry_after_seconds is not None:
            headers.append((b"retry-after", b"%d" % self.retry_after_seconds))
        return headers


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
    def headers(self) -> list[Header]:
        """Its own headers: whether an earlier request had stored all of it."""
        accepted = [one for one in self.answers if isinstance(one, Accepted)]
        return [_REPLAYED] if accepted and all(one.is_replayed for one in accepted) else []


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


async def write(shortcut: Shortcut | None, send: Send, answer: Answer, as_json: bool) -> None:
    """Writes an answer, as JSON where the caller accepts it. That of a batch is always JSON."""
    if as_json or isinstance(answer, BatchAnswer):
        body, kind = msgspec.json.encode(answer.body), _JSON
    else:
        body, kind = answer.text, _TEXT
    headers = [*answer.headers, kind]
    lines = b"".join([b"%b: %b\r\n" % header for header in headers])
    if shortcut is not None and answer.status == 200 and shortcut.answer(lines, body):
        return
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
