"""The text of JavaScript's `encodeURI`, in which RedMessenger keeps payloads that wait.

Every step is one pass in C: a payload may have a megabyte, and must not hold up the event loop.
"""

import codecs
import string

import msgspec

_KEPT = string.ascii_letters + string.digits + ";,/?:@&=+$-_.!~*'()#"
_URI_BYTES = _KEPT.encode() + b"%"
_HEX_LETTERS = "abcdef"
#: A byte as the character that stands for it until the end: itself; for a letter that is also a digit of hex, a control
#: character; for a byte to be escaped, a private character whose escape in Python ends with its hex.
_STAND_INS = "".join(
    chr(_HEX_LETTERS.index(chr(byte)) + 1)
    if chr(byte) in _HEX_LETTERS
    else chr(byte if chr(byte) in _KEPT else 0xE000 + byte)
    for byte in range(256)
)
_PRIVATE_ESCAPE = b"\\ue0"
_BACK = bytes.maketrans(b"abcdef\x01\x02\x03\x04\x05\x06", b"ABCDEFabcdef")
#: The escapes that `decodeURI` leaves as they are: `encodeURI` never makes them.
_LEFT_ESCAPED = [b"%%%02X" % byte for byte in b";/?:@&=+$,#"]
_LEFT_ESCAPED += [escape.lower() for escape in _LEFT_ESCAPED if escape.lower() != escape]


def encode_uri(text: str) -> str:
    """Returns what `encodeURI` returns. Half surrogate pairs are none of this text's characters."""
    stand_ins, _ = codecs.charmap_decode(text.encode(), "strict", _STAND_INS)
    escaped = stand_ins.encode("ascii", "backslashreplace").replace(_PRIVATE_ESCAPE, b"%")
    return escaped.translate(_BACK).decode()


def decode_uri(text: str) -> str | None:
    """Returns what `decodeURI` returns; None for a text that `encodeURI` cannot have made."""
    if not text.isascii():
        return None
    octets = text.encode()
    if octets.translate(None, _URI_BYTES):
        return None
    for escape in _LEFT_ESCAPED:
        octets = octets.replace(escape, b"%25" + escape[1:])
    try:
        decoded: str = msgspec.json.decode(b'"' + octets.replace(b"%", b"\\u00") + b'"', type=str)
        return decoded.encode("latin-1").decode()
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
