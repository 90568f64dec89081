"""The texts of the contract: a message's destination, its stored and sent form, and a client's identifier."""

import re
from typing import Any, Literal

import msgspec
from msgspec import Struct

#: The name of a user or channel: one line of a message between nodes, and part of a key.
_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,512}\Z")
#: The beginning of an entry that this server made. Any other entry is decoded and rebuilt.
_OURS = re.compile(rb'\{"source":"[^"\\]*(?:\\.[^"\\]*)*","timestamp":\d+,"bubble":true,"payload":"')
_BUBBLE = b'"bubble":true'
_NO_BUBBLE = b'"bubble":false'


class Destination(Struct, frozen=True):
    """The user or channel that a message is for."""

    kind: Literal["users", "channels"]
    name: str

    def __str__(self) -> str:
        return f"{self.kind}.{self.name}"


def read_destination(text: str) -> Destination | None:
    """Reads `users.<uid>`, without `:` in the uid, or `channels.<cid>`. Returns None for any other text."""
    kind, _, name = text.partition(".")
    if _NAME.match(name) is None:
        return None
    if kind == "users":
        # The user id in a client's identifier ends at the first `:`, so no client could ever get the message.
        return Destination("users", name) if ":" not in name else None
    return Destination("channels", name) if kind == "channels" else None


def read_identifier(argument: object) -> tuple[str, str] | None:
    """Returns user and key from `"<uid>"` or `"<uid>:<key>"`; None for anything else. The key keeps all its `:`."""
    if not isinstance(argument, str):
        return None
    user, _, key = argument.partition(":")
    return (user, key) if _NAME.match(user) else None


class Envelopes:
    """Makes the entries of mailboxes, no two of them equal. Lives as long as its reader of messages.

    A message that is published twice within a millisecond gets two timestamps, a millisecond apart: an ack then means
    exactly one of the two entries.
    """

    def __init__(self) -> None:
        self._at_ms = 0
        #: The newest timestamp of each source and payload, kept while the next timestamp could be the same.
        self._last: dict[tuple[str, bytes], int] = {}

    def seal(self, source: str, at_ms: int, payload: bytes) -> bytes:
        """Returns `{"source", "timestamp", "bubble": true, "payload"}` as JSON. U+FFFD replaces bytes that are not
        UTF-8."""
        if at_ms > self._at_ms:
            self._at_ms = at_ms
            self._last = {text: last_ms for text, last_ms in self._last.items() if last_ms >= at_ms}
        last_ms = self._last.get((source, payload), 0)
        at_ms = last_ms + 1 if last_ms >= at_ms else at_ms
        self._last[source, payload] = at_ms
        text = payload.decode("utf-8", "replace")
        return msgspec.json.encode({"source": source, "timestamp": at_ms, "bubble": True, "payload": text})


def event_of(entry: bytes, is_first: bool) -> bytes:
    """Returns `["message",{...}]` for a client, with the `bubble` of its connection. An entry of another program is
    rebuilt first."""
    if _OURS.match(entry) is None or not entry.endswith(b'"}'):
        entry = _rebuild(entry)
    if not is_first:
        # Quotes inside a text are escaped, so the first match is the key itself.
        entry = entry.replace(_BUBBLE, _NO_BUBBLE, 1)
    return b'["message",' + entry + b"]"


def _rebuild(entry: bytes) -> bytes:
    """Rebuilds an entry that another program has put into the list. A text of any other form becomes the payload."""
    try:
        given: Any = msgspec.json.decode(entry)
    except (msgspec.DecodeError, UnicodeDecodeError):
        given = None
    if not isinstance(given, dict) or "payload" not in given:
        given = {"payload": entry.decode("utf-8", "replace")}
    ours = {"source": given.get("source", ""), "timestamp": given.get("timestamp", 0), "bubble": True}
    return msgspec.json.encode({**ours, "payload": given["payload"]})
