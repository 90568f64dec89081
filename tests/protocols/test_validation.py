"""JSON from outside: read aside when it is long, mended where half a pair stands, counted before it is built."""

from __future__ import annotations

import threading

import msgspec
import pytest

from app.errors import BadRequest
from app.protocols.validation import decode_json, explain, has_many_items, read_aside


async def test_long_text_is_read_aside() -> None:
    """A long text is read in another thread; its result and its errors reach the caller."""

    def read(text: bytes) -> int:
        if text.endswith(b"!"):
            raise BadRequest("no")
        return threading.get_ident()

    here = threading.get_ident()
    assert await read_aside(read, b"abc", 3) == here
    assert await read_aside(read, b"abcd", 3) != here
    with pytest.raises(BadRequest, match="no"):
        await read_aside(read, b"abcd!", 3)


def test_half_a_pair_is_mended() -> None:
    """Only half a pair is; any other mistake stays one."""
    decoder = msgspec.json.Decoder(list[str])
    assert decode_json(decoder, rb'["a\ud83d"]') == ["a\ufffd"]
    for wrong in (rb'["a\ud83d"', rb'["a\u12"]', b"["):
        with pytest.raises(msgspec.DecodeError):
            decode_json(decoder, wrong)
    with pytest.raises(UnicodeDecodeError):
        decode_json(decoder, b'["\xff"]')


def test_items_are_counted_generously() -> None:
    """No text with more values than allowed passes; signs within texts count too."""
    assert not has_many_items(b'["a",{"b":1}]', 4)
    assert has_many_items(b'["a",{"b":1}]', 2)
    assert has_many_items(b'",,,"', 2)


def test_explanation() -> None:
    """The key stands in front."""
    assert explain("Expected `str`, got `int` - at `$.event`") == "event: Expected `str`, got `int`."
    assert explain("Expected `object`") == "Expected `object`."
