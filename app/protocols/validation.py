"""JSON from outside, as all protocols read it, and msgspec's words for a value of the wrong type."""

from typing import Any

import msgspec

from app.surrogates import replace_half_pairs


def explain(reason: str) -> str:
    """The reason with the key in front: "Expected `str`, got `int` - at `$.event`" as "event: Expected ..."."""
    expected, _, path = reason.partition(" - at ")
    key = path.strip("`").removeprefix("$").lstrip(".")
    return f"{key}: {expected}." if key else f"{expected}."


def decode_json(decoder: msgspec.json.Decoder[Any], text: bytes) -> Any:
    """Decodes JSON in UTF-8, in which half a surrogate pair is U+FFFD. Raises UnicodeDecodeError, RecursionError and
    the errors of msgspec."""
    if not text.isascii():
        text.decode()
    try:
        return decoder.decode(text)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        mended = replace_half_pairs(text)
        if mended is text:
            raise
        return decoder.decode(mended)


def has_many_items(text: bytes, at_most: int) -> bool:
    """Whether JSON may hold more values than this, brackets and commas within its texts included.

    Asked before values are built of a stranger's text: half a million empty lists in 1 MB cost a quarter of a second.
    """
    return text.count(b",") + text.count(b"[") + text.count(b"{") > at_most
