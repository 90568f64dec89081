"""How deep JSON is nested."""

import time

import pytest

from app.json_depth import MAX_LEVELS, is_too_deep


@pytest.mark.parametrize("pair", [b"[]", b"{}"])
def test_the_bound(pair: bytes) -> None:
    """MAX_LEVELS levels are fine and one more is too deep, of lists and of objects, wherever they are."""
    for levels, expected in ((MAX_LEVELS, False), (MAX_LEVELS + 1, True), (100_000, True)):
        text = pair[:1] * levels + pair[1:] * levels
        assert is_too_deep(text) is expected
        assert is_too_deep(b'"[[", ' + b"[]," * 300 + text) is expected


def test_texts_do_not_count() -> None:
    """Brackets in texts, also behind escaped quotes, and many lists side by side are no depth."""
    assert not is_too_deep(b'["' + b"[" * 1000 + b'\\\\", "\\"' + b"{" * 1000 + b'"]')
    assert not is_too_deep(b"[" + b"[{}]," * 10_000 + b"[]]")


def test_a_long_text_is_read_in_linear_time() -> None:
    """A megabyte of brackets, or of a text with escapes, takes a fraction of a second."""
    for text in (b"[" * 1_000_000, b"[" * 300 + b'"' + b"\\\\" * 500_000, b"[" * 300 + b'"a' * 300_000):
        began = time.perf_counter()
        is_too_deep(text)
        assert time.perf_counter() - began < 1
