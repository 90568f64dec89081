"""Any Python text as bytes and back: JSON may hold half a surrogate pair, which strict UTF-8 refuses.

A client may have cut a name in the middle of a pair.
"""

import contextlib
import json
import re
from typing import Any

import msgspec

#: The escape of half a pair, or of a pair. It begins with a constant, for which a search takes the least time.
_HALVES = re.compile(rb"\\u[dD](?:[89abAB][0-9a-fA-F]{2}(\\u[dD][c-fC-F][0-9a-fA-F]{2})?|[c-fC-F][0-9a-fA-F]{2})")
_ESCAPE_BYTES = len(rb"\ud800")
#: Halves and pairs that are looked at. A text with more of them is left as it is behind them, and so refused.
MAX_HALVES = 1_000


def encode_text(text: str) -> bytes:
    """The text in UTF-8, half a pair included; never raises."""
    return text.encode("utf-8", "surrogatepass")


def decode_text(data: bytes) -> str:
    """The text that `encode_text` made the bytes of."""
    return data.decode("utf-8", "surrogatepass")


def encode_json(value: Any) -> bytes:
    """The value as JSON that every reader takes: `?` for half a pair, and the text of what JSON does not know."""
    with contextlib.suppress(UnicodeError):
        return msgspec.json.encode(value, enc_hook=str)
    known = msgspec.to_builtins(value, enc_hook=str)
    return json.dumps(known, ensure_ascii=False, default=str).encode("utf-8", "replace")


def replace_half_pairs(json_text: bytes) -> bytes:
    """The JSON text with U+FFFD for each escape of half a pair, as a browser decodes it; the same object if there is
    none.

    Node writes such escapes for a text that was cut in the middle of a pair; strict readers refuse them.
    """
    parts: list[bytes] = []
    kept_to = looked_to = 0
    for _ in range(MAX_HALVES):
        found = _HALVES.search(json_text, looked_to)
        if found is None:
            break
        between, looked_to = json_text[looked_to : found.start()], found.end()
        if (len(between) - len(between.rstrip(b"\\"))) % 2:
            # The backslash is itself escaped: its `u` is a letter, and what follows may be an escape.
            looked_to = found.start() + _ESCAPE_BYTES
        elif found[1] is None:
            parts += (json_text[kept_to : found.start()], rb"\ufffd")
            kept_to = looked_to
    if not parts:
        return json_text
    return b"".join((*parts, json_text[kept_to:]))
