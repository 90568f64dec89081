"""Audiences as the scripts, the bus and the histories write them: see `read_audiences` in lua/_audiences.lua."""

from collections.abc import Sequence

import msgspec
from msgspec import Raw, Struct

from app.core.message import Audience, Guard, LiveMessage
from app.redis.link import Word


class _Head(Struct, array_like=True):
    """The part of an audience that travels with a message. Lives while it is written or read."""

    protocol: str
    names: list[str]
    detail: Raw


_decoder = msgspec.json.Decoder(_Head)


def audience_head(audience: Audience) -> bytes:
    """The part of an audience that travels with a message."""
    return msgspec.json.encode(_Head(audience.protocol, list(audience.names), Raw(audience.detail)))


def audience_words(audiences: Sequence[Audience]) -> list[Word]:
    """The words of a command that name the audiences of a message."""
    words: list[Word] = [len(audiences)]
    for audience in audiences:
        head = audience_head(audience)
        history = audience.history
        bounds = (history.messages, history.bytes, history.seconds) if history and history.seconds else (0, 0, 0)
        words += (audience.protocol, head, *bounds, len(audience.names), *audience.names)
    return words


def guard_words(guard: Guard | None) -> list[Word]:
    """The words of a command that state the condition of a message: see `check_guard` in lua/_guard.lua."""
    return [0] if guard is None else [1, guard.hash, guard.field, guard.digest, int(guard.is_removed)]


def parse_head(head: bytes) -> Audience:
    """The audience of a message from the bus or a history."""
    read = _decoder.decode(head)
    return Audience(read.protocol, read.names, bytes(read.detail))


def to_remembered(seq: bytes, at_ms: bytes, head: bytes, id: bytes, body: bytes) -> LiveMessage:
    """A message of a history; one whose head nobody can read is for no name of no protocol."""
    message = LiveMessage(int(seq), id.decode("utf-8", "replace"), body)
    message.at_ms = int(at_ms)
    try:
        message.audience = parse_head(head)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        message.audience = Audience("", [], b"{}")
    return message
