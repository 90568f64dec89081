"""Reading a request's body whole, within a bound."""

import pytest

from app.transport.request_body import BodyTooLarge, ClientGone, read_whole_body
from tests.transport.receiving import chunk, receiving


async def test_body() -> None:
    """A body in pieces is read whole."""
    assert await read_whole_body(receiving(chunk(b"ab"), chunk(b"c", more_body=False)), 3) == b"abc"


async def test_body_too_large() -> None:
    """A body over the limit is given up in its middle."""
    with pytest.raises(BodyTooLarge):
        await read_whole_body(receiving(chunk(b"ab"), chunk(b"cd")), 3)


async def test_client_gone() -> None:
    """A client that goes away is no body."""
    with pytest.raises(ClientGone):
        await read_whole_body(receiving(chunk(b"ab"), {"type": "http.disconnect"}), 3)
