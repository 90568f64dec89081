"""Messages as clients get them. Plain code."""

from typing import Any

import msgspec
from msgspec import Raw, Struct


class SeenMessage(Struct, frozen=True, kw_only=True):
    """A message as one user sees it."""

    id: int
    sender: int
    to: dict[str, int | None]
    kind: str
    text: str
    #: JSON, or None.
    data: str | None
    reply_to: int | None
    forward_of: int | None
    #: JSON, or None.
    file: str | None
    at: int
    device: str | None
    app: str | None
    changed_at: int | None
    is_deleted: bool


def shown(message: SeenMessage) -> dict[str, Any]:
    """The message; one that is deleted has no more than its id and its place."""
    if message.is_deleted:
        return {"id": message.id, "to": message.to, "deleted": True}
    fields: dict[str, Any] = {
        "id": message.id,
        "from": message.sender,
        "to": message.to,
        "kind": message.kind,
        "text": message.text,
        "data": _raw(message.data),
        "reply_to": message.reply_to,
        "forward_of": message.forward_of,
        "file": _raw(message.file),
        "at": message.at,
        "info": {"device": message.device, "app": message.app},
    }
    if message.changed_at is not None:
        fields["changed_at"] = message.changed_at
    return fields


def packed(message: SeenMessage) -> bytes:
    """The same as JSON."""
    return _encoder.encode(shown(message))


def event_body(event: str, data: Any) -> str:
    """An event with its data, as the core sends it."""
    return _encoder.encode([event, data]).decode()


def _raw(text: str | None) -> Raw | None:
    return None if text is None else Raw(text.encode())


_encoder = msgspec.json.Encoder()
