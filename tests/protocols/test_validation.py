"""JSON from outside: mended where half a pair stands, counted before it is built."""

from __future__ import annotations

import msgspec
import pytest

from app.protocols.validation import decode_json, explain, has_many_items


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
