"""Server-to-client WebSocket frames as bytes, and the rules for close codes (RFC 6455, sections 5 and 7.4).

Pure functions: knows neither sockets nor connections.
"""

import struct
from functools import lru_cache

OPCODE_CONTINUATION = 0x0
OPCODE_TEXT = 0x1
OPCODE_BINARY = 0x2
OPCODE_CLOSE = 0x8
OPCODE_PING = 0x9
OPCODE_PONG = 0xA

CLOSE_NORMAL = 1000
CLOSE_PROTOCOL_ERROR = 1002
CLOSE_NO_STATUS = 1005
CLOSE_ABNORMAL = 1006
CLOSE_INVALID_TEXT = 1007
CLOSE_POLICY_VIOLATION = 1008
CLOSE_TOO_BIG = 1009
CLOSE_INTERNAL_ERROR = 1011
CLOSE_SERVICE_RESTART = 1012

_NEVER_ON_THE_WIRE = {CLOSE_NO_STATUS, CLOSE_ABNORMAL, 1015}
# A control frame holds at most 125 bytes (5.5), two of which are the code.
_MAX_REASON_BYTES = 123
_FIN = 0x80
_MASKED = 0x80
_WHOLE_TEXT = _FIN | OPCODE_TEXT
_HEAD_BYTES = 2
_MASK_BYTES = 4
_SHORT_HEADER_BYTES = _HEAD_BYTES + _MASK_BYTES
# Up to here a frame's length stands in its second byte (5.2).
MAX_SHORT_PAYLOAD_BYTES = 125
_LENGTH_16_BITS = 126
_LENGTH_64_BITS = 127
# The longest head of a client's frame: two bytes, the length and the mask.
MAX_HEAD_BYTES = 14
# As many masks as cover the longest short frame.
_MASKS = 1 + (MAX_SHORT_PAYLOAD_BYTES + _MASK_BYTES - 1) // _MASK_BYTES
# The short texts that are remembered. Few: a client may send such as have one hash.
_MOST_REMEMBERED = 16
_number = int.from_bytes


def _head(opcode: int, size: int) -> bytes:
    if size <= MAX_SHORT_PAYLOAD_BYTES:
        return bytes((_FIN | opcode, size))
    if size < 1 << 16:
        return struct.pack("!BBH", _FIN | opcode, _LENGTH_16_BITS, size)
    return struct.pack("!BBQ", _FIN | opcode, _LENGTH_64_BITS, size)


def _frame(opcode: int, payload: bytes) -> bytes:
    size = len(payload)
    if size <= MAX_SHORT_PAYLOAD_BYTES:
        return bytes((_FIN | opcode, size)) + payload
    return _head(opcode, size) + payload


def text_frame_head(size: int) -> bytes:
    """Return the bytes in front of a whole text message of `size` bytes; together they are its frame."""
    return _head(OPCODE_TEXT, size)


def text_frame(payload: bytes) -> bytes:
    """Return the frame of one whole text message; `payload` is valid UTF-8."""
    return _frame(OPCODE_TEXT, payload)


def binary_frame(payload: bytes) -> bytes:
    """Return the frame of one whole binary message."""
    return _frame(OPCODE_BINARY, payload)


def ping_frame() -> bytes:
    """Return a ping without payload (5.5.2)."""
    return _frame(OPCODE_PING, b"")


def pong_frame(payload: bytes) -> bytes:
    """Return the answer to a ping, which carries the ping's payload (5.5.3)."""
    return _frame(OPCODE_PONG, payload)


def close_frame(code: int, reason: str) -> bytes:
    """Return the frame that closes with this code and reason; a code that means "no code" is left out (7.4.1)."""
    if code in _NEVER_ON_THE_WIRE:
        return _frame(OPCODE_CLOSE, b"")
    text = reason.encode("utf-8", "replace")[:_MAX_REASON_BYTES]
    # The cut may have split a character, and the reason must be valid UTF-8.
    text = text.decode("utf-8", "ignore").encode()
    return _frame(OPCODE_CLOSE, struct.pack("!H", code) + text)


def may_be_received(close_code: int) -> bool:
    """Tell whether a peer may put this code into a close frame (7.4)."""
    return 1000 <= close_code <= 1003 or 1007 <= close_code <= 1014 or 3000 <= close_code <= 4999


def payload_of_short_text(data: bytes) -> bytes | None:
    """Return the payload if `data` is exactly one whole text message of 1 to 125 ASCII characters in a masked frame.

    Acks, and the pongs of Engine.IO, arrive in this form; this function costs a quarter of picows. Many clients send
    one text, each under a mask of its own: the same object is returned for all of them.
    """
    size = len(data) - _HEAD_BYTES
    if not _MASK_BYTES < size <= _MASK_BYTES + MAX_SHORT_PAYLOAD_BYTES or data[0] != _WHOLE_TEXT:
        return None
    # The mask is unmasked too, and is zero then: one number stands for a head and its payload.
    mask = (data[_HEAD_BYTES:_SHORT_HEADER_BYTES] * _MASKS)[:size]
    return _payload_of(_number(data, "big") ^ _number(mask, "big"))


@lru_cache(maxsize=_MOST_REMEMBERED)
def _payload_of(unmasked: int) -> bytes | None:
    """The payload of a frame that begins with a whole text's first byte, as a number, with a zero mask."""
    frame = unmasked.to_bytes((unmasked.bit_length() + 7) // 8, "big")
    payload = frame[_SHORT_HEADER_BYTES:]
    return payload if frame[1] == _MASKED | len(payload) and payload.isascii() else None


def frame_length(data: bytes | bytearray, start: int) -> int:
    """Return the length of the client's frame whose head begins at `start`; 0 while `data` does not tell it."""
    if len(data) < start + 2:
        return 0
    size = data[start + 1] & ~_MASKED
    if size <= MAX_SHORT_PAYLOAD_BYTES:
        return _SHORT_HEADER_BYTES + size
    length_bytes = 2 if size == _LENGTH_16_BITS else 8
    if len(data) < start + 2 + length_bytes:
        return 0
    return _SHORT_HEADER_BYTES + length_bytes + int.from_bytes(data[start + 2 : start + 2 + length_bytes], "big")


def end_of_frames(data: bytes | bytearray, start: int, count: int, max_bytes: int) -> int:
    """Return where the `count` frames that begin at `start` end, or the end of `data` if they reach beyond it.

    With more than `max_bytes` there are fewer of them, but one at least.
    """
    end = len(data)
    enough = start + max_bytes
    for _ in range(count):
        # The length of a short frame, as in `frame_length`, whose call costs more than this loop.
        size = data[start + 1] & ~_MASKED if start + 1 < end else _LENGTH_64_BITS
        length = _SHORT_HEADER_BYTES + size if size <= MAX_SHORT_PAYLOAD_BYTES else frame_length(data, start)
        start += length
        if length == 0 or start >= end:
            return end
        if start >= enough:
            break
    return start


def is_utf8(payload: bytes) -> bool:
    """Tell whether the bytes are valid UTF-8, as a text message must be (8.1)."""
    if payload.isascii():
        return True
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True
