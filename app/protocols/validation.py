"""JSON from outside, as all protocols read it, and msgspec's words for a value of the wrong type."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from app.surrogates import replace_half_pairs

#: A longer text is read in a thread, so that reading it holds up no other request.
LARGE_BYTES = 65_536

T = TypeVar("T")


async def read_aside(read: Callable[[bytes], T], text: bytes, large_bytes: int = LARGE_BYTES) -> T:
    """The result of `read` for the text, in a thread if the text is long. Raises the errors of `read`."""
    return read(text) if len(text) <= large_bytes else await asyncio.to_thread(read, text)


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
