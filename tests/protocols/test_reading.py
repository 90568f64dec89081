"""Long bodies are read in another thread."""

from __future__ import annotations

import threading

import pytest

from app.errors import BadRequest
from app.protocols.reading import new_reading_pool, read_aside


async def test_long_text_is_read_aside() -> None:
    """A long text is read in another thread; its result and its errors reach the caller."""

    def read(text: bytes) -> int:
        if text.endswith(b"!"):
            raise BadRequest("no")
        return threading.get_ident()

    pool = new_reading_pool()
    here = threading.get_ident()
    assert await read_aside(pool, "a", read, b"abc", 3) == here
    assert await read_aside(pool, "a", read, b"abcd", 3) != here
    with pytest.raises(BadRequest, match="no"):
        await read_aside(pool, "a", read, b"abcd!", 3)
    pool.close()
