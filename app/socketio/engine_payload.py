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
from functools import lru_cache

from app.socketio.engine_packet import BinaryPacket, MalformedPacket, Packet, PacketFlood
from app.transport.refusals import TOO_MANY_PACKETS

TEXT_TYPE = b"text/plain; charset=UTF-8"
BINARY_TYPE = b"application/octet-stream"
SCRIPT_TYPE = b"text/javascript; charset=UTF-8"

MAX_PACKETS = 512
"""The most packets of one payload, beside one for each message that the client has fetched before: a page that fetches
many messages acknowledges them at once. Other packets are some dozens, those written since the last POST."""

_SEPARATOR = b"\x1e"
_V3_LENGTH_DIGITS = 10
"""A length with more digits is larger than any accepted payload."""
_MAX_FIELDS = 16
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_BASE64 = re.compile(rb"[^A-Za-z0-9+/]+")
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_DIGIT_VALUES = bytes.maketrans(b"0123456789", bytes(range(10)))

Received = bytes | BinaryPacket
"""A packet of the client: a text packet as UTF-8 bytes with its type digit, or a binary message."""


def encode_payload(
    packets: Sequence[Packet], version: int, supports_binary: bool, is_encoded_twice: bool = False
) -> tuple[bytes, bytes]:
    """Join packets for one response; returns the body and its content type.

    A version 3 client that reads binary gets every payload in binary framing, as from engine.io 1.x. In browsers,
    clients 1.0 to 1.3 read no text, clients 1.4 to 1.7 no text of more than some 100 KB; clients 2.x read both.
    A client that encodes text as UTF-8 twice decodes it twice, too; in binary framing it decodes once.
    """
    if version == 4:
        return _SEPARATOR.join(_text_v4(packet) for packet in packets), TEXT_TYPE
    if supports_binary:
        return b"".join(_binary_v3(packet) for packet in packets), BINARY_TYPE
    return b"".join(_text_v3(packet, is_encoded_twice) for packet in packets), TEXT_TYPE


def encode_script(index: str, payload: bytes) -> bytes:
    """Wrap a payload for JSONP polling: a call of the function `index` with the payload as a string literal."""
    digits = "".join(digit for digit in index if digit in "0123456789")
    return f"___eio[{digits}]({json.dumps(payload.decode())});".encode()


def decode_payload_v4(body: bytes, max_packets: int = MAX_PACKETS) -> Iterator[Received]:
    """Yield the packets of a version 4 payload; raises MalformedPacket, behind the packets before the mistake."""
    if body.count(_SEPARATOR) >= max_packets:
        raise PacketFlood(TOO_MANY_PACKETS)
    _decode_utf8(body)
    for packet in body.split(_SEPARATOR):
        yield _from_text(packet, base64_prefix=b"b")


def decode_payload_v3(body: bytes, is_maybe_encoded_twice: bool, max_packets: int = MAX_PACKETS) -> Iterator[Received]:
    """Yield the packets of a version 3 text payload; raises MalformedPacket, behind the packets before the mistake.

    1.x clients encode text as UTF-8 twice when polling, 2.x clients once. While the client's version is unknown
    (`is_maybe_encoded_twice`), text that can be decoded twice is decoded twice.
    """
    if not body:
        raise MalformedPacket
    for number, chunk in enumerate(_split_v3(_decode_utf8(body))):
        _check_number(number, max_packets)
        text = chunk.encode()
        if is_maybe_encoded_twice and not chunk.isascii():
            text = _undo_second_encoding(chunk) or text
        # The reference server passes over an empty packet; here it is a noop, so that a reader counts each.
        yield _from_text(text, base64_prefix=b"b4") if text else b"6"


def decode_payload_v3_binary(body: bytes, max_packets: int = MAX_PACKETS) -> Iterator[Received]:
    """Yield the packets of a version 3 binary payload (``00|01 <digits> ff <data>`` repeated); raises MalformedPacket,
    behind the packets before the mistake."""
    if not body:
        raise MalformedPacket
    at = number = 0
    while at < len(body):
        end = body.find(b"\xff", at + 1, at + 2 + _V3_LENGTH_DIGITS)
        digits = body[at + 1 : end]
        if end < 0 or not digits or body[at] > 1 or max(digits) > 9:
            raise MalformedPacket
        length = int("".join(map(str, digits)))
        data = body[end + 1 : end + 1 + length]
        if not data or len(data) != length:
            raise MalformedPacket
        _check_number(number, max_packets)
        yield _from_binary_v3(data) if body[at] == 1 else _from_text(_checked(data), base64_prefix=b"b4")
        number += 1
        at = end + 1 + length


def payload_from_form(body: bytes) -> bytes:
    """Take the payload out of a JSONP form (field `d`); raises MalformedPacket.

    The clients escape newlines because some browsers rewrite them in form fields: an escaped newline is escaped twice,
    a real one once.
    """
    fields = body.split(b"&", _MAX_FIELDS)
    given = [field[2:] for field in fields if field.startswith(b"d=")]
    if len(fields) > _MAX_FIELDS or not given or not body.isascii():
        raise MalformedPacket
    payload = _decode_utf8(_unquote(given[-1]))
    return "\\n".join(part.replace("\\n", "\n") for part in payload.split("\\\\n")).encode()


def read_base64(packet: bytes, version: int) -> Received:
    """Read a packet that begins with ``b``, of a client that sends base64 over its WebSocket, too (`forceBase64`).

    Raises MalformedPacket. In version 3 the type follows the ``b``; types that mean nothing here become a noop.
    """
    kind = b"4" if version == 4 else packet[1:2]
    if kind in (b"0", b"5", b"6"):
        return b"6"
    if kind != b"4":
        raise MalformedPacket
    return BinaryPacket(decode_base64(packet[1 if version == 4 else 2 :]))


def decode_base64(text: bytes) -> bytes:
    """Decode as the reference server does: nothing is malformed, what is no base64 is left out."""
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        digits = _BASE64.sub(b"", text.translate(_URL_SAFE).partition(b"=")[0])
        digits = digits[: len(digits) - (len(digits) % 4 == 1)]
        return base64.b64decode(digits + b"=" * (-len(digits) % 4))


def _unquote(value: bytes) -> bytes:
    """Decode a value of a form. The reader of quoted-printable text takes a hundredth of the time of urllib's."""
    value = _BAD_ESCAPE.sub(b"%25", value.replace(b"+", b" "))
    return binascii.a2b_qp(value.replace(b"=", b"%3D").replace(b"%", b"="))


def _check_number(packets: int, max_packets: int) -> None:
    if packets >= max_packets:
        raise PacketFlood(TOO_MANY_PACKETS)


def _text_v4(packet: Packet) -> bytes:
    return b"b" + base64.b64encode(packet.data) if isinstance(packet, BinaryPacket) else packet.packet


def _text_v3(packet: Packet, is_encoded_twice: bool) -> bytes:
    text = b"b4" + base64.b64encode(packet.data) if isinstance(packet, BinaryPacket) else packet.ascii
    if is_encoded_twice and not text.isascii():
        # Only a namespace is outside ASCII here. Its bytes are the characters of the second encoding.
        return b"%d:%b" % (len(text), text.decode("latin-1").encode())
    return b"%d:%b" % (_utf16_length(text), text)


def _binary_v3(packet: Packet) -> bytes:
    if isinstance(packet, BinaryPacket):
        return b"\x01" + _binary_length(len(packet.data) + 1) + b"\x04" + packet.data
    return b"\x00" + _binary_length(len(packet.ascii)) + packet.ascii


@lru_cache(4096)
def _binary_length(length: int) -> bytes:
    return (b"%d\xff" % length).translate(_DIGIT_VALUES)


def _utf16_length(text: bytes) -> int:
    """Count as JavaScript does; the result differs from the bytes only for a namespace outside ASCII."""
    return len(text) if text.isascii() else len(text.decode().encode("utf-16-le")) // 2


def _from_text(packet: bytes, base64_prefix: bytes) -> Received:
    if packet.startswith(base64_prefix):
        return BinaryPacket(decode_base64(packet[len(base64_prefix) :]))
    if not packet:
        raise MalformedPacket
    return packet


def _from_binary_v3(data: bytes) -> BinaryPacket:
    if data[0] != 4:  # only messages may be binary
        raise MalformedPacket
    return BinaryPacket(data[1:])


def _split_v3(text: str) -> Iterator[str]:
    """Yield the packets of ``<length>:<packet>`` repeated; lengths count UTF-16 units as JavaScript does."""
    units = text.encode("utf-16-le")
    at = 0
    while at < len(units):
        digits, colon, _ = units[at : at + 2 * (_V3_LENGTH_DIGITS + 1)].decode("utf-16-le", "replace").partition(":")
        if not colon or not (digits.isascii() and digits.isdigit()):
            raise MalformedPacket
        start = at + 2 * (len(digits) + 1)
        at = start + 2 * int(digits)
        if at > len(units):
            raise MalformedPacket
        yield _from_utf16(units[start:at])


def _from_utf16(units: bytes) -> str:
    try:
        return units.decode("utf-16-le")
    except UnicodeDecodeError as error:
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
