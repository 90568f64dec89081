"""The part of a file that a request asks for: Range, If-Range and the conditions by ETag (RFC 9110). Pure."""

import re
from collections.abc import Mapping

from msgspec import Struct

_ONE_RANGE = re.compile(rb"bytes=[ \t]*(\d{0,19})-(\d{0,19})[ \t]*", re.IGNORECASE)


class ByteSpan(Struct, frozen=True):
    """Bytes of a file, the end excluded. Lives as long as the request."""

    start: int
    end: int

    @property
    def length(self) -> int:
        """How many they are."""
        return self.end - self.start


class Selection(Struct, frozen=True):
    """The answer's status, 200, 206, 304, 412 or 416, and the bytes of its body. Lives as long as the request."""

    status: int
    span: ByteSpan


def select_bytes(headers: Mapping[bytes, bytes], etag: bytes, size: int) -> Selection:
    """The bytes that a GET asks for. Several ranges at once get the whole file, as RFC 9110 allows: an answer in parts
    would cost more than it saves."""
    whole, nothing = ByteSpan(0, size), ByteSpan(0, 0)
    if (wanted := headers.get(b"if-match")) is not None and not _names(wanted, etag, is_strong=True):
        return Selection(412, nothing)
    if (known := headers.get(b"if-none-match")) is not None and _names(known, etag, is_strong=False):
        return Selection(304, nothing)
    asked = headers.get(b"range")
    # A date, or the ETag of another file: the client has bytes of something else.
    if asked is None or headers.get(b"if-range", etag).strip() != etag:
        return Selection(200, whole)
    found = _ONE_RANGE.fullmatch(asked.strip())
    if found is None or not (found[1] or found[2]) or (found[1] and found[2] and int(found[1]) > int(found[2])):
        return Selection(200, whole)
    span = _span_of(found[1], found[2], size)
    return Selection(416, nothing) if span is None else Selection(206, span)


def _span_of(first: bytes, last: bytes, size: int) -> ByteSpan | None:
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
    return ByteSpan(start, end) if start < end else None


def _names(listed: bytes, etag: bytes, *, is_strong: bool) -> bool:
    """Whether a list of ETags names this one. A weak one counts only where the comparison is weak."""
    tags = [tag.strip() for tag in listed.split(b",")]
    return b"*" in tags or etag in (tags if is_strong else [tag.removeprefix(b"W/") for tag in tags])
