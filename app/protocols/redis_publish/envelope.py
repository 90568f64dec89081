"""The texts of the contract: a message's destination, its stored and sent form, and a client's identifier."""

import re
from typing import Literal

import msgspec
from msgspec import Raw, Struct

from app.json_depth import is_too_deep
from app.surrogates import replace_half_pairs

#: The name of a user or channel: one line of a message between nodes, and part of a key. Half a surrogate pair is in no
#: name, because no application could write it.
_NAME = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,512}\Z")
#: A longer key is none that an application has set: it is not read.
MAX_KEY_CHARACTERS = 1_024
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
    return (user, key) if _NAME.match(user) and len(key) <= MAX_KEY_CHARACTERS else None


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


class _Ours(Struct, forbid_unknown_fields=True):
    source: str
    timestamp: int
    bubble: bool
    payload: str


class _Foreign(Struct):
    payload: Raw
    source: Raw = Raw(b'""')
    timestamp: Raw = Raw(b"0")


_ours_decoder = msgspec.json.Decoder(_Ours)
_foreign_decoder = msgspec.json.Decoder(_Foreign)


def event_of(entry: bytes, is_first: bool) -> bytes:
    """Returns `["message",{...}]` for a client, with the `bubble` of its connection. An entry of another program is
    rebuilt first. Never raises: an entry that nobody can read must not keep the ones behind it from their user."""
    if not _is_ours(entry):
        entry = _rebuild(entry, is_first)
    elif not is_first:
        # Quotes inside a text are escaped, so the first match is the key itself.
        entry = entry.replace(_BUBBLE, _NO_BUBBLE, 1)
    return b'["message",' + entry + b"]"


def _is_ours(entry: bytes) -> bool:
    if _OURS.match(entry) is None:
        return False
    try:
        _ours_decoder.decode(entry)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _rebuild(entry: bytes, is_first: bool) -> bytes:
    """Rebuilds an entry that another program has put into the list. A text of any other form becomes the payload."""
    given = _read_foreign(entry)
    parts = (
        b'{"source":',
        bytes(given.source),
        b',"timestamp":',
        bytes(given.timestamp),
        b",",
        _BUBBLE if is_first else _NO_BUBBLE,
        b',"payload":',
        bytes(given.payload),
        b"}",
    )
    return b"".join(parts)


def _read_foreign(entry: bytes) -> _Foreign:
    try:
        entry.decode()
        given = _foreign_decoder.decode(replace_half_pairs(entry))
        if not is_too_deep(entry):
            return given
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    return _Foreign(Raw(msgspec.json.encode(entry.decode("utf-8", "replace"))))
