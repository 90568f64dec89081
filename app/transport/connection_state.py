"""The state of a WebSocket connection: where its life stands, and the message that it has half received."""

import enum


class State(enum.Enum):
    """The life of a connection."""

    # The upgrade request is not answered yet.
    UPGRADING = enum.auto()
    # Messages pass.
    OPEN = enum.auto()
    # A close frame or a refusal was written; under a time-out, the peer has to answer it or to read it.
    CLOSING = enum.auto()
    # As CLOSING, but the peer is not read any more: it has sent its close frame, or has broken the protocol.
    SHUT = enum.auto()
    # The socket is gone.
    CLOSED = enum.auto()


class Fragments:
    """The beginning of a message that comes in several frames; lives until its last frame."""

    __slots__ = ("is_text", "payload")

    def __init__(self, is_text: bool, payload: bytes) -> None:
        self.is_text = is_text
        self.payload = bytearray(payload)
