"""Cursors: a place that comes back whole, and every other text that is refused."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.protocols.receipts.cursor import read_cursor, write_cursor
from app.protocols.receipts.ports import Scan
from app.protocols.receipts.refusal import ReceiptRefused

PLACE = Scan(after=7, redis="12", left=[1, 2, 3])


def test_a_cursor_comes_back() -> None:
    """A place is read as it was written."""
    assert read_cursor(write_cursor(PLACE, "key", "/devices"), Scan, "key", "/devices") == PLACE
    assert read_cursor(write_cursor(5, "key", "/messages"), int, "key", "/messages") == 5


@pytest.mark.parametrize(("key", "of"), [("other", "/devices"), ("key", "/messages")])
def test_a_cursor_of_another_list_is_refused(key: str, of: str) -> None:
    """A cursor of another site, or of another list, is none of this one."""
    with pytest.raises(ReceiptRefused):
        read_cursor(write_cursor(PLACE, key, of), Scan, "key", "/devices")


def test_a_changed_cursor_is_refused() -> None:
    """No byte of a cursor may be another one."""
    packed = urlsafe_b64decode(write_cursor(PLACE, "key", "/devices") + "==")
    for place in range(len(packed)):
        changed = packed[:place] + bytes([packed[place] ^ 1]) + packed[place + 1 :]
        with pytest.raises(ReceiptRefused):
            read_cursor(urlsafe_b64encode(changed).decode(), Scan, "key", "/devices")


def test_a_cursor_of_another_kind_is_refused() -> None:
    """A signed value that is no place of this list is refused, not raised."""
    with pytest.raises(ReceiptRefused):
        read_cursor(write_cursor("text", "key", "/devices"), Scan, "key", "/devices")


@given(st.text())
def test_no_text_raises_past_its_reader(text: str) -> None:
    """Any other text is refused as a cursor."""
    with pytest.raises(ReceiptRefused):
        read_cursor(text, Scan, "key", "/devices")


def test_a_long_cursor_is_refused() -> None:
    """A cursor beyond its bound is not even decoded."""
    with pytest.raises(ReceiptRefused):
        read_cursor("A" * 20_000, Scan, "key", "/devices")
