"""Any Python text as bytes and back: JSON may hold half a surrogate pair, which strict UTF-8 refuses.

A client may have cut a name in the middle of a pair.
"""

import re

#: Every escape of a JSON text: a whole pair, half of one, or any other.
_ESCAPES = re.compile(
    rb"(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\.", re.DOTALL
)
_HALF_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")


def encode_text(text: str) -> bytes:
    """The text in UTF-8, half a pair included; never raises."""
    return text.encode("utf-8", "surrogatepass")


def decode_text(data: bytes) -> str:
    """The text that `encode_text` made the bytes of."""
    return data.decode("utf-8", "surrogatepass")


def replace_half_pairs(json_text: bytes) -> bytes:
    """The JSON text with U+FFFD for each escape of half a pair, as a browser decodes it; linear, and cheap without one.

    Node writes such escapes for a text that was cut in the middle of a pair; strict readers refuse them.
    """
    if _HALF_PAIR.search(json_text) is None:
        return json_text
    return _ESCAPES.sub(lambda found: rb"\ufffd" if found[2] else found[0], json_text)
