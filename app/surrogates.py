"""Any Python text as bytes and back: JSON may hold half a surrogate pair, which strict UTF-8 refuses.

A client may have cut a name in the middle of a pair.
"""

import re

#: Backslashes and the escape of half a pair, or of a pair; an even number of backslashes escapes nothing behind it.
#: Possessive, and from the first of a run on: a run that no `u` follows would cost the square of its length.
_HALVES = re.compile(
    rb"(?<!\\)(\\++)u[dD](?:[89abAB][0-9a-fA-F]{2}(\\u[dD][c-fC-F][0-9a-fA-F]{2})?|[c-fC-F][0-9a-fA-F]{2})"
)
#: Halves and pairs that are looked at. A text with more of them is left as it is behind them, and so refused.
MAX_HALVES = 1_000


def encode_text(text: str) -> bytes:
    """The text in UTF-8, half a pair included; never raises."""
    return text.encode("utf-8", "surrogatepass")


def decode_text(data: bytes) -> str:
    """The text that `encode_text` made the bytes of."""
    return data.decode("utf-8", "surrogatepass")


def replace_half_pairs(json_text: bytes) -> bytes:
    """The JSON text with U+FFFD for each escape of half a pair, as a browser decodes it; the same object if there is
    none.

    Node writes such escapes for a text that was cut in the middle of a pair; strict readers refuse them.
    """
    if rb"\ud" not in json_text and rb"\uD" not in json_text:
        return json_text
    mended, looked_at = _HALVES.subn(_mend, json_text, MAX_HALVES)
    return mended if looked_at and mended != json_text else json_text


def _mend(found: "re.Match[bytes]") -> bytes:
    backslashes, second_half = found[1], found[2]
    if second_half or len(backslashes) % 2 == 0:
        return found[0]
    return backslashes + b"ufffd"
