"""Events on the wire: es-web-notify's frames, Server-Sent Events, and the chunks of HTTP around them.

A frame is `''<length>''<json>`. The original counts with JavaScript's `length` (UTF-16 units); a reader in another
language may count characters or bytes. Every character beyond ASCII is written as `\\uXXXX`, so that all counts agree.
"""

import re
from enum import Enum
from json.encoder import encode_basestring_ascii

import msgspec
from msgspec import Raw, Struct

KEEP_ALIVE_FRAME = b"''0''"
KEEP_ALIVE_COMMENT = b":\n\n"
RESYNC = "_resync"

# From a character beyond ASCII to the end of its string, so that a long run is escaped at once.
_BEYOND_ASCII = re.compile('[^\x00-\x7f][^"\\\\\x00-\x1f]*')
# Each of these ends an `event:` line, and EventSource has no way to quote them.
_LINE_BREAKS = re.compile("[\r\n\0]")
_parts_decoder = msgspec.json.Decoder(list[Raw])


class Encoding(Enum):
    """The format of a stream's events."""

    #: es-web-notify's frames.
    FRAMES = "frames"
    #: Server-Sent Events.
    SSE = "sse"


class Event(Struct, frozen=True):
    """An event on its way to streams: the JSON text that all streams share."""

    #: Milliseconds since the epoch at which it was emitted.
    at_ms: int
    #: The name, for the `event:` line of SSE.
    type: str
    #: `{"type":...,"detail":...}`
    packed: bytes
    #: The position after which a returning reader continues; 0: none.
    seq: int = 0

    @classmethod
    def from_body(cls, body: bytes, at_ms: int, seq: int) -> "Event":
        """Builds an event from the `["type",detail]` of the bus: no detail, the single one, or the list of several."""
        name, *details = _parts_decoder.decode(body)
        packed = b'{"type":' + to_ascii(bytes(name))
        if details:
            detail = bytes(details[0]) if len(details) == 1 else b"[" + b",".join(map(bytes, details)) + b"]"
            packed += b',"detail":' + to_ascii(detail)
        return cls(at_ms, msgspec.json.decode(name, type=str), packed + b"}", seq)

    @property
    def id_line(self) -> bytes:
        """The SSE line with the position after which a returning reader continues."""
        return b"id: %d\n" % self.seq

    def encode(self, requested: str, emitted: str, encoding: Encoding, *, with_id: bool) -> bytes:
        """The event for a subscription to `requested`; SSE contains its `id` only with `with_id`."""
        topics = b'"requested":' + quote(requested) + b',"emitted":' + quote(emitted)
        text = b'{"iat":%d,"ep":{%s},"e":%s}' % (self.at_ms, topics, self.packed)
        if encoding is Encoding.FRAMES:
            return to_frame(text)
        name = _LINE_BREAKS.sub(" ", self.type).encode("utf-8", "replace")
        return (self.id_line if with_id else b"") + b"event: " + name + b"\ndata: " + text + b"\n\n"


def event_of_server(type_: str, at_ms: int, detail: object = None) -> Event:
    """An event of the server for one stream; None means no detail."""
    return Event.from_body(msgspec.json.encode([type_] if detail is None else [type_, detail]), at_ms, 0)


def to_frame(text: bytes) -> bytes:
    """Wraps JSON text, ASCII without `'`, in a frame of es-web-notify."""
    return b"''%d''%s" % (len(text), text)


def to_chunk(data: bytes) -> bytes:
    """Wraps bytes in a chunk of HTTP/1.1."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def quote(text: str) -> bytes:
    """The text as a JSON string that may stand in a frame."""
    return to_ascii(msgspec.json.encode(text))


def to_ascii(text: bytes) -> bytes:
    """The same JSON with every character beyond ASCII, and `'`, as `\\uXXXX`: outside of strings JSON has none of them.

    Line breaks between tokens, which SSE would read as the end of the data, become spaces.
    """
    if not text.isascii():
        text = _BEYOND_ASCII.sub(lambda run: encode_basestring_ascii(run[0])[1:-1], text.decode()).encode()
    return text.replace(b"'", b"\\u0027").replace(b"\n", b" ").replace(b"\r", b" ")
