"""How several Engine.IO packets share one polling request or response: versions 3 and 4, text, binary and JSONP.

Pure functions over bytes; knows neither HTTP nor sessions. The rules are those of the engine.io-protocol documents;
where these are silent (text encoded twice, JSONP escaping), the behaviour of the 1.x and 2.x JavaScript clients.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Sequence
from urllib.parse import parse_qsl

from app.socketio.engine_packet import BinaryPacket, MalformedPacket, Packet

TEXT_TYPE = b"text/plain; charset=UTF-8"
BINARY_TYPE = b"application/octet-stream"
SCRIPT_TYPE = b"text/javascript; charset=UTF-8"

_SEPARATOR = b"\x1e"
_V3_LENGTH_DIGITS = 10
"""A length with more digits is larger than any accepted payload."""
_ASTRAL = re.compile("[\U00010000-\U0010ffff]")
_FORM_NEWLINE = re.compile(r"(\\)?\\n")

Received = bytes | BinaryPacket
"""A packet of the client: a text packet as UTF-8 bytes with its type digit, or a binary message."""


def encode_payload(packets: Sequence[Packet], version: int, supports_binary: bool) -> tuple[bytes, bytes]:
    """Join packets for one response; returns the body and its content type.

    Version 3 uses binary framing only for a payload with a binary packet, to a client that says it reads binary.
    """
    if version == 4:
        return _SEPARATOR.join(_text_v4(packet) for packet in packets), TEXT_TYPE
    if supports_binary and any(isinstance(packet, BinaryPacket) for packet in packets):
        return b"".join(_binary_v3(packet) for packet in packets), BINARY_TYPE
    return b"".join(_text_v3(packet) for packet in packets), TEXT_TYPE


def encode_script(index: str, payload: bytes) -> bytes:
    """Wrap a payload for JSONP polling: a call of the function `index` with the payload as a string literal."""
    digits = "".join(digit for digit in index if digit in "0123456789")
    return f"___eio[{digits}]({json.dumps(payload.decode())});".encode()


def decode_payload_v4(body: bytes) -> list[Received]:
    """Split a version 4 payload; raises MalformedPacket."""
    _decode_utf8(body)
    return [_from_text(packet, base64_prefix=b"b") for packet in body.split(_SEPARATOR)]


def decode_payload_v3(body: bytes, is_maybe_encoded_twice: bool) -> list[Received]:
    """Split a version 3 text payload; raises MalformedPacket.

    1.x clients encode text as UTF-8 twice when polling, 2.x clients once. While the client's version is unknown
    (`is_maybe_encoded_twice`), text that can be decoded twice is decoded twice.
    """
    packets: list[Received] = []
    if not body:
        raise MalformedPacket
    for chunk in _split_v3(_decode_utf8(body)):
        text = chunk.encode()
        if is_maybe_encoded_twice and not chunk.isascii():
            text = _undo_second_encoding(chunk) or text
        packets.append(_from_text(text, base64_prefix=b"b4"))
    return packets


def decode_payload_v3_binary(body: bytes) -> list[Received]:
    """Split a version 3 binary payload (``00|01 <digits> ff <data>`` repeated); raises MalformedPacket."""
    packets: list[Received] = []
    if not body:
        raise MalformedPacket
    at = 0
    while at < len(body):
        end = body.find(b"\xff", at + 1, at + 2 + _V3_LENGTH_DIGITS)
        digits = body[at + 1 : end]
        if end < 0 or not digits or body[at] > 1 or max(digits) > 9:
            raise MalformedPacket
        length = int("".join(map(str, digits)))
        data = body[end + 1 : end + 1 + length]
        if not data or len(data) != length:
            raise MalformedPacket
        packets.append(_from_binary_v3(data) if body[at] == 1 else _from_text(_checked(data), base64_prefix=b"b4"))
        at = end + 1 + length
    return packets


def payload_from_form(body: bytes) -> bytes:
    """Take the payload out of a JSONP form (field `d`); raises MalformedPacket.

    The clients escape newlines because some browsers rewrite them in form fields: an escaped newline is escaped twice,
    a real one once.
    """
    try:
        fields = dict(parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=16))
        payload = fields["d"]
    except (ValueError, KeyError) as error:
        raise MalformedPacket from error
    payload = _FORM_NEWLINE.sub(lambda match: match[0] if match[1] else "\n", payload)
    return payload.replace("\\\\n", "\\n").encode()


def _text_v4(packet: Packet) -> bytes:
    return b"b" + base64.b64encode(packet.data) if isinstance(packet, BinaryPacket) else packet.packet


def _text_v3(packet: Packet) -> bytes:
    text = b"b4" + base64.b64encode(packet.data) if isinstance(packet, BinaryPacket) else packet.ascii
    return b"%d:%b" % (_utf16_length(text), text)


def _binary_v3(packet: Packet) -> bytes:
    is_binary = isinstance(packet, BinaryPacket)
    data = b"\x04" + packet.data if isinstance(packet, BinaryPacket) else packet.ascii
    return b"%c%b\xff%b" % (is_binary, bytes(map(int, str(len(data)))), data)


def _utf16_length(text: bytes) -> int:
    """Count as JavaScript does; the result differs from the bytes only for a namespace outside ASCII."""
    return len(text) if text.isascii() else len(text.decode().encode("utf-16-le")) // 2


def _from_text(packet: bytes, base64_prefix: bytes) -> Received:
    if packet.startswith(base64_prefix):
        try:
            return BinaryPacket(base64.b64decode(packet[len(base64_prefix) :], validate=True))
        except binascii.Error as error:
            raise MalformedPacket from error
    if not packet:
        raise MalformedPacket
    return packet


def _from_binary_v3(data: bytes) -> BinaryPacket:
    if data[0] != 4:  # only messages may be binary
        raise MalformedPacket
    return BinaryPacket(data[1:])


def _split_v3(text: str) -> Iterator[str]:
    """Yield the packets of ``<length>:<packet>`` repeated; lengths count UTF-16 units as JavaScript does."""
    has_astral = _ASTRAL.search(text) is not None
    if has_astral:
        text = _ASTRAL.sub(_as_surrogates, text)
    at = 0
    while at < len(text):
        colon = text.find(":", at, at + 1 + _V3_LENGTH_DIGITS)
        digits = text[at:colon]
        if colon < 0 or not (digits.isascii() and digits.isdigit()):
            raise MalformedPacket
        chunk = text[colon + 1 : colon + 1 + int(digits)]
        if not chunk or len(chunk) != int(digits):
            raise MalformedPacket
        at = colon + 1 + len(chunk)
        yield _join_surrogates(chunk) if has_astral else chunk


def _as_surrogates(match: re.Match[str]) -> str:
    code = ord(match[0]) - 0x10000
    return chr(0xD800 + (code >> 10)) + chr(0xDC00 + (code & 0x3FF))


def _join_surrogates(chunk: str) -> str:
    try:
        return chunk.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except UnicodeError as error:
        raise MalformedPacket from error


def _undo_second_encoding(chunk: str) -> bytes | None:
    """Return the text's UTF-8 if each character is one byte of it, None if it cannot be."""
    try:
        once = chunk.encode("latin-1")
        once.decode()
    except UnicodeError:
        return None
    return once


def _decode_utf8(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise MalformedPacket from error


def _checked(data: bytes) -> bytes:
    _decode_utf8(data)
    return data
