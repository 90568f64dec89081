"""Any text as bytes and back."""

import json
from time import process_time

from hypothesis import example, given
from hypothesis import strategies as st

from app.surrogates import MAX_HALVES, decode_text, encode_text, replace_half_pairs


@given(st.text(st.characters(exclude_categories=())))
@example("\ud800 \udfff")
def test_any_text_comes_back(text: str) -> None:
    """Half a surrogate pair included."""
    assert decode_text(encode_text(text)) == text


def test_ordinary_text_is_utf_8() -> None:
    """Bytes that other programs read."""
    assert encode_text("día") == "día".encode()


@given(st.text(st.characters(exclude_categories=()) | st.characters(categories=["Cs"]) | st.sampled_from("\\ud8")))
@example("\ud83d")
@example("\udc00\ud83d\ude00\ud800")
@example("\\ud83d")
@example("\\ud83d\udc00")
def test_half_pairs_of_json_are_replaced(text: str) -> None:
    """Escapes of half a pair become U+FFFD, one for one; pairs, other escapes and escaped backslashes stay."""
    given_text = json.dumps(text)
    read = json.loads(replace_half_pairs(given_text.encode()))
    # UTF-16 joins two halves that stand side by side, as a reader of JSON does.
    joined = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert len(read) == len(json.loads(given_text))
    assert [a for a in read if a != "\ufffd"] == [
        a for a in json.loads(given_text) if not "\ud800" <= a <= "\udfff" and a != "\ufffd"
    ]
    assert joined.replace("\ufffd", "") == read.replace("\ufffd", "")


def test_number_of_halves_is_bounded() -> None:
    """Each costs some time, and no honest text holds very many: one that does is left to be refused."""
    text = rb'"' + rb"\ud83d" * (MAX_HALVES + 1) + rb'"'
    assert replace_half_pairs(text).count(rb"\ud83d") == 1
    assert replace_half_pairs(text[:-7] + b'"').count(rb"\ufffd") == MAX_HALVES


def test_text_without_halves_is_the_same_object() -> None:
    """Callers see that there was nothing to do."""
    for text in (rb'"a"', rb'"\ud83d\ude00"', rb'"\\ud83d"', rb'"\\\\uD83d"'):
        assert replace_half_pairs(text) is text


def test_long_runs_of_backslashes_cost_little() -> None:
    """A run that no `u` follows is looked at once: the square of its length would take minutes."""
    began = process_time()
    text = rb'"' + rb"\\" * 250_000 + rb'x\ud800"'
    assert replace_half_pairs(text).endswith(rb'x\ufffd"')
    assert process_time() - began < 5
