"""The bytes that a request asks for."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.protocols.messenger.files.ranges import ByteSpan, Selection, select_bytes

ETAG = b'"f1"'


@pytest.mark.parametrize(
    ("header", "status", "start", "end"),
    [
        (b"bytes=0-0", 206, 0, 1),
        (b"bytes=2-", 206, 2, 10),
        (b"bytes=-3", 206, 7, 10),
        (b"bytes=-30", 206, 0, 10),
        (b"bytes=5-100", 206, 5, 10),
        (b"BYTES= 5-6 ", 206, 5, 7),
        (b"bytes=10-", 416, 0, 0),
        (b"bytes=-0", 416, 0, 0),
        (b"bytes=99999999999999999999-", 200, 0, 10),
        (b"bytes=5-4", 200, 0, 10),
        (b"bytes=-", 200, 0, 10),
        (b"bytes=0-1,3-4", 200, 0, 10),
        (b"bytes=" + b"0-," * 5_000, 200, 0, 10),
        (b"items=0-1", 200, 0, 10),
        (b"bytes=a-b", 200, 0, 10),
        (b"", 200, 0, 10),
    ],
)
def test_ranges(header: bytes, status: int, start: int, end: int) -> None:
    """One range gets its bytes; one that begins behind the end gets 416; anything else is as no range."""
    assert select_bytes({b"range": header}, ETAG, 10) == Selection(status, ByteSpan(start, end))


def test_empty_file() -> None:
    """A file without bytes has no range."""
    assert select_bytes({}, ETAG, 0) == Selection(200, ByteSpan(0, 0))
    assert select_bytes({b"range": b"bytes=0-"}, ETAG, 0).status == 416


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({b"if-none-match": b'"f1"'}, 304),
        ({b"if-none-match": b'"x", W/"f1"'}, 304),
        ({b"if-none-match": b"*"}, 304),
        ({b"if-none-match": b'"x"'}, 200),
        ({b"if-match": b'"f1"'}, 200),
        ({b"if-match": b'W/"f1"'}, 412),
        ({b"if-match": b'"x"', b"if-none-match": b'"f1"'}, 412),
        ({b"if-range": b'"f1"', b"range": b"bytes=1-"}, 206),
        ({b"if-range": b'W/"f1"', b"range": b"bytes=1-"}, 200),
        ({b"if-range": b"Wed, 21 Oct 2015 07:28:00 GMT", b"range": b"bytes=1-"}, 200),
        ({b"if-none-match": b'"f1"', b"range": b"bytes=1-"}, 304),
    ],
)
def test_conditions(headers: dict[bytes, bytes], status: int) -> None:
    """The conditions count in the order of RFC 9110; a range goes on only with the same file."""
    assert select_bytes(headers, ETAG, 10).status == status


@settings(deadline=None)
@given(st.binary(max_size=60), st.integers(0, 20))
def test_any_range(header: bytes, size: int) -> None:
    """The answer lies within the file, whatever is asked for."""
    found = select_bytes({b"range": b"bytes=" + header}, ETAG, size)
    assert 0 <= found.span.start <= found.span.end <= size
    assert (found.status == 206) == (found.status not in (200, 416))
