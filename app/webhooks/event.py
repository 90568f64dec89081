"""Events of the outbox, and the POST that carries some of them. Knows neither Redis nor HTTP."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from app.clock import rfc3339
from app.surrogates import decode_text


class OutboxEvent(Struct, frozen=True):
    """An event as the outbox holds it. Lives until a post has it."""

    #: Its place in the stream.
    entry: bytes
    seq: int
    #: The users whose events stay in order with this one.
    users: frozenset[str]
    type: str
    #: The event as JSON.
    text: bytes


class HookPost(Struct):
    """Events that go in one POST, which is repeated until it was answered. Its body is in Redis alone."""

    id: str
    users: frozenset[str]
    seqs: tuple[int, ...]
    #: The types of its events, in order of the alphabet.
    types: str
    #: When it is to be sent, in ms of Redis's clock.
    due_ms: int
    #: The attempts that have failed.
    tries: int = 0
    is_under_way: bool = False


class _Named(Struct):
    user: str = ""


class _Users(Struct):
    users: list[_Named] = []


_users_decoder = msgspec.json.Decoder(_Users)


def read_event(entry: bytes, fields: Sequence[bytes]) -> OutboxEvent:
    """The event of an entry that `emit` has written, see lua/_emit.lua."""
    held = dict(zip(fields[::2], fields[1::2], strict=True))
    # A client may have cut a name in the middle of a pair: JSON holds the half as an escape.
    data = decode_text(held[b"data"]).encode("utf-8", "backslashreplace")
    kind, user = held[b"type"], decode_text(held[b"user"])
    begin = b'{"type":"%b","seq":%b,"at":"%b"' % (kind, held[b"seq"], rfc3339(int(held[b"at"])).encode())
    rest = data.strip()[1:].lstrip()
    users = [user] if user else _users_of(data)
    return OutboxEvent(
        entry, int(held[b"seq"]), frozenset(users), kind.decode(), begin + (b"," if rest != b"}" else b"") + rest
    )


def _users_of(data: bytes) -> Iterable[str]:
    try:
        return (named.user for named in _users_decoder.decode(data).users)
    except msgspec.DecodeError:
        return ()


def post_body(events: Sequence[OutboxEvent], now_ms: int) -> bytes:
    """The body of a POST with these events."""
    texts = b",".join(event.text for event in events)
    return b'{"type":"events","timestamp":"%b","data":{"events":[%b]}}' % (rfc3339(now_ms).encode(), texts)


def read_post(post: str, due_ms: int, held: Sequence[Any]) -> HookPost:
    """The post of a hash with the fields users, seqs, types and tries."""
    users, seqs, types, tries = held
    named, numbers = frozenset(msgspec.json.decode(users)), tuple(msgspec.json.decode(seqs))
    return HookPost(post, named, numbers, (types or b"").decode(), due_ms, int(tries or 0))


def new_post(post: str, events: Sequence[OutboxEvent], now_ms: int) -> HookPost:
    """The post that carries these events."""
    users = frozenset[str]().union(*(event.users for event in events))
    types = ",".join(sorted({event.type for event in events}))
    return HookPost(post, users, tuple(event.seq for event in events), types, now_ms)
