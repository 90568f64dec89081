"""The texts of the contract: a message's destination, its stored and sent form, and a client's identifier.

An entry is JSON with the fields of RedMessenger's entries. A space behind the first brace tells the entries of this
server: JSON.stringify writes none there, and a reader of JSON does not see it. Two spaces tell that the payload is in
encodeURI, as in an entry of RedMessenger.
"""

import re
from typing import Literal

import msgspec
from msgspec import Raw, Struct

from app.json_depth import is_too_deep
from app.protocols.redis_publish.uri_text import decode_uri, encode_uri
from app.surrogates import replace_half_pairs

#: The name of a user or channel: one line of a message between nodes, and part of a key. Half a surrogate pair is in no
#: name, because no application could write it.
_NAME = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,512}\Z")
#: A longer key is none that an application has set: it is not read.
MAX_KEY_CHARACTERS = 1_024
#: The beginning of an entry with the fields of the contract in their order: its mark, and its `bubble`.
_ENTRY = re.compile(rb'\{( ?| {2})"source":"[^"\\]*(?:\\.[^"\\]*)*","timestamp":\d+,"bubble":(true|false),"payload":"')
_PLAIN_MARK, _URI_MARK = b" ", b"  "
#: A client's user and key.
Identifier = tuple[str, str]
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


def read_identifier(argument: object) -> Identifier | None:
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

    def seal(self, source: str, at_ms: int, payload: bytes, as_uri: bool = False) -> bytes:
        """Returns `{"source", "timestamp", "bubble": true, "payload"}` as JSON, with the mark of this server. U+FFFD
        replaces bytes that are not UTF-8. With `as_uri` the payload is in encodeURI."""
        if at_ms > self._at_ms:
            self._at_ms = at_ms
            self._last = {text: last_ms for text, last_ms in self._last.items() if last_ms >= at_ms}
        last_ms = self._last.get((source, payload), 0)
        at_ms = last_ms + 1 if last_ms >= at_ms else at_ms
        self._last[source, payload] = at_ms
        text = payload.decode("utf-8", "replace")
        fields = _Fields(source, at_ms, True, encode_uri(text) if as_uri else text)
        return b"{" + (_URI_MARK if as_uri else _PLAIN_MARK) + msgspec.json.encode(fields)[1:]


class _Fields(Struct, forbid_unknown_fields=True):
    source: str
    timestamp: int
    bubble: bool
    payload: str


class _Foreign(Struct):
    payload: Raw
    source: Raw = Raw(b'""')
    timestamp: Raw = Raw(b"0")


_fields_decoder = msgspec.json.Decoder(_Fields)
_foreign_decoder = msgspec.json.Decoder(_Foreign)


def event_of(entry: bytes, is_first: bool) -> bytes:
    """Returns `["message",{...}]` for a client, with the `bubble` of its connection. An entry of another program is
    rebuilt first. Never raises: an entry that nobody can read must not keep the ones behind it from their user."""
    form = _ENTRY.match(entry)
    mark = form[1] if form else b""
    fields = _read_fields(entry) if form else None
    if fields is None:
        entry = _rebuild(entry, is_first)
    elif mark == _PLAIN_MARK:
        # Quotes inside a text are escaped, so the first match is the key itself.
        entry = b"{" + (entry if is_first else entry.replace(_BUBBLE, _NO_BUBBLE, 1))[2:]
    else:
        # An entry of RedMessenger, or of this server for a reader of RedMessenger's entries.
        fields.bubble = is_first
        payload = decode_uri(fields.payload)
        if payload is not None:
            fields.payload = payload
        entry = msgspec.json.encode(fields)
    return b'["message",' + entry + b"]"


def is_of_the_original(entry: bytes) -> bool:
    """Whether an entry is one of RedMessenger: it has that form without a mark, and its payload is in encodeURI."""
    form = _ENTRY.match(entry)
    fields = _read_fields(entry) if form and not form[1] else None
    return fields is not None and decode_uri(fields.payload) is not None


def _read_fields(entry: bytes) -> _Fields | None:
    try:
        return _fields_decoder.decode(entry)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


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
