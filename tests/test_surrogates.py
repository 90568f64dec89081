"""Any text as bytes and back."""

from hypothesis import example, given
from hypothesis import strategies as st

from app.surrogates import decode_text, encode_text


@given(st.text(st.characters(exclude_categories=())))
@example("\ud800 \udfff")
def test_any_text_comes_back(text: str) -> None:
    """Half a surrogate pair included."""
    assert decode_text(encode_text(text)) == text


def test_ordinary_text_is_utf_8() -> None:
    """Bytes that other programs read."""
    assert encode_text("día") == "día".encode()
