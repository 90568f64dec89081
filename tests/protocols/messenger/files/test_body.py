"""The bytes of an upload as they arrive."""

from __future__ import annotations

import asyncio
from typing import Any

from app.protocols.messenger.files.body import BodyEnd, UploadBody


def body_of(*events: dict[str, Any], seconds: float = 30) -> UploadBody:
    """A body that has these events, and waits behind them."""
    waiting = list(events)

    async def receive() -> dict[str, Any]:
        if not waiting:
            await asyncio.Event().wait()
        return waiting.pop(0)

    return UploadBody(receive, seconds)


def piece(data: bytes, *, more: bool = True) -> dict[str, Any]:
    """A piece of a body."""
    return {"type": "http.request", "body": data, "more_body": more}


async def test_a_whole_body() -> None:
    """Empty pieces are passed over, and the end comes behind the last bytes."""
    body = body_of(piece(b"12"), piece(b""), piece(b"3", more=False))
    assert [await body.next(), await body.next(), await body.next()] == [b"12", b"3", b""]
    assert body.end is BodyEnd.WHOLE


async def test_a_client_that_leaves() -> None:
    """The bytes before the client left are there."""
    body = body_of(piece(b"12"), {"type": "http.disconnect"})
    assert [await body.next(), await body.next()] == [b"12", b""]
    assert body.end is BodyEnd.GONE


async def test_a_slow_client() -> None:
    """The deadline is one for all bytes."""
    body = body_of(piece(b"12"), seconds=0.01)
    assert [await body.next(), await body.next()] == [b"12", b""]
    assert body.end is BodyEnd.SLOW


async def test_another_request() -> None:
    """Another request ends a body that waits, and one that does not."""
    body = body_of(piece(b"12"))
    assert await body.next() == b"12"
    waiting = asyncio.ensure_future(body.next())
    await asyncio.sleep(0)
    body.interrupt()
    assert await waiting == b""
    assert body.end is BodyEnd.INTERRUPTED
    idle = body_of()
    idle.interrupt()
    assert await idle.next() == b""
    assert idle.end is BodyEnd.INTERRUPTED
