"""The fields of a query, and percent signs: as the standard library reads them, at a bounded cost."""

from __future__ import annotations

import time
from urllib.parse import parse_qsl, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.transport.http_head import MAX_ESCAPES
from app.transport.query import MAX_FIELDS, fields_of, unescaped

_pieces = st.sampled_from(["%", "%4", "%41", "%fF", "%C3%A9", "%E2%82", "%zz", "a", "=", "&", "+", "é", "\x00"])
_texts = st.lists(_pieces, max_size=12).map("".join)


@given(_texts)
def test_as_the_library(text: str) -> None:
    """Names and values are those of the standard library's reader."""
    assert unescaped(text.encode()) == unquote(text)
    assert fields_of(text.encode()) == parse_qsl(text, keep_blank_values=True)


def test_fields_are_bounded() -> None:
    """Fields past the bound are not read; bytes that are no UTF-8 are replaced."""
    assert fields_of(b"a=1&" * 100) == [("a", "1")] * MAX_FIELDS
    assert fields_of(b"a=1&&b=2&c", 3) == [("a", "1"), ("b", "2")]
    assert fields_of(b"\xff=%ff") == [("\ufffd", "\ufffd")]


@pytest.mark.parametrize("sign", ["%41", "%", "%zz", "é%41"])
def test_signs_cost_the_same(sign: str) -> None:
    """As many percent signs as a request may have take a few milliseconds, whatever stands behind and beside them."""
    text = sign.encode() * MAX_ESCAPES

    def seconds() -> float:
        before = time.thread_time()
        unescaped(text)
        return time.thread_time() - before

    assert min(seconds() for _ in range(5)) < 0.01


@given(st.binary(max_size=40))
def test_signs_change_nothing_else(query: bytes) -> None:
    """A query without percent signs, read by a shorter way, has the fields that it has beside one with some."""
    assert fields_of(b"a=%41&" + query, 9)[1:] == fields_of(query, 8)
