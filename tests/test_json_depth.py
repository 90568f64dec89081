"""How deep JSON is nested."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import json_depth
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
    nests = (b"[" * 17 + b"]" * 17 + b",") * 28_000
    for text in (b"[" * 1_000_000, b"[" * 300 + b'"' + b"\\\\" * 500_000, b"[" * 300 + b'"a' * 300_000, nests):
        began = time.perf_counter()
        is_too_deep(text)
        assert time.perf_counter() - began < 1


def levels_of(value: object) -> int:
    """The levels, counted on the value."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(levels_of, inner), default=0)


@given(st.recursive(st.text('[]{}"\\\\,:', max_size=5), lambda v: st.lists(v) | st.dictionaries(st.text('[{"\\\\'), v)))
def test_levels_are_counted(value: object) -> None:
    """The levels of any JSON, with any signs in its texts, whichever way they are counted."""
    text = json.dumps([value, *[[]] * 300]).encode()
    levels = levels_of([value, []])
    with pytest.MonkeyPatch.context() as patch:
        for few in (0, 30_000):
            patch.setattr(json_depth, "_FEW", few)
            patch.setattr(json_depth, "MAX_LEVELS", levels)
            assert not is_too_deep(text)
            patch.setattr(json_depth, "MAX_LEVELS", levels - 1)
            assert is_too_deep(text)
