"""The texts of the contract: where a message goes, how it is kept and sent, who a client says it is."""

import re
from typing import Any, Literal

import msgspec
from msgspec import Struct

#: A user or channel: a line of its own in what nodes tell each other, and part of a key.
_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,512}\Z")
#: How an entry of ours begins; every other is taken apart.
_OURS = re.compile(rb'\{"source":"[^"\\]*(?:\\.[^"\\]*)*","timestamp":\d+,"bubble":true,"payload":"')
_BUBBLE = b'"bubble":true'
_NO_BUBBLE = b'"bubble":false'


class Destination(Struct, frozen=True):
    """Whom a message is for."""

    kind: Literal["users", "channels"]
    name: str

    def __str__(self) -> str:
        return f"{self.kind}.{self.name}"


def read_destination(text: str) -> Destination | None:
    """`users.<uid>`, no `:` in the uid, or `channels.<cid>`; None for anything else."""
    kind, _, name = text.partition(".")
    if _NAME.match(name) is None:
        return None
    if kind == "users":
        # What a client identifies itself with ends at the first `:`, so nobody could ever get it.
        return Destination("users", name) if ":" not in name else None
    return Destination("channels", name) if kind == "channels" else None


def read_identifier(argument: object) -> tuple[str, str] | None:
    """User and key from `"<uid>"` or `"<uid>:<key>"`, the key as it is, with all its `:`; None for anything else."""
    if not isinstance(argument, str):
        return None
    user, _, key = argument.partition(":")
    return (user, key) if _NAME.match(user) else None


class Envelopes:
    """Makes the entries of mailboxes, no two of which are equal; lives as long as its reader of messages.

    What was published twice within a millisecond gets timestamps a millisecond apart: then an ack means one of them.
    """

    def __init__(self) -> None:
        self._at_ms = 0
        #: The newest timestamp of a text, where it may meet the next.
        self._last: dict[tuple[str, bytes], int] = {}

    def seal(self, source: str, at_ms: int, payload: bytes) -> bytes:
        """`{"source", "timestamp", "bubble": true, "payload"}` as JSON; U+FFFD for what is no text."""
        if at_ms > self._at_ms:
            self._at_ms = at_ms
            self._last = {text: last_ms for text, last_ms in self._last.items() if last_ms >= at_ms}
        last_ms = self._last.get((source, payload), 0)
        at_ms = last_ms + 1 if last_ms >= at_ms else at_ms
        self._last[source, payload] = at_ms
        text = payload.decode("utf-8", "replace")
        return msgspec.json.encode({"source": source, "timestamp": at_ms, "bubble": True, "payload": text})


def event_of(entry: bytes, is_first: bool) -> bytes:
    """`["message",{...}]` for a client, with the `bubble` of its connection. An entry that is not ours is a payload."""
    if _OURS.match(entry) is None or not entry.endswith(b'"}'):
        entry = _rebuild(entry)
    if not is_first:
        # Inside a text its quotes would be escaped: the first is the key.
        entry = entry.replace(_BUBBLE, _NO_BUBBLE, 1)
    return b'["message",' + entry + b"]"


def _rebuild(entry: bytes) -> bytes:
    """An entry that another program has put into the list."""
    try:
        given: Any = msgspec.json.decode(entry)
    except (msgspec.DecodeError, UnicodeDecodeError):
        given = None
    if not isinstance(given, dict) or "payload" not in given:
        given = {"payload": entry.decode("utf-8", "replace")}
    ours = {"source": given.get("source", ""), "timestamp": given.get("timestamp", 0), "bubble": True}
    return msgspec.json.encode({**ours, "payload": given["payload"]})
