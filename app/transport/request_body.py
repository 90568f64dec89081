"""The body of an ASGI request, read whole within a bound. Has no deadline: the caller cancels it."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from app.errors import RecadoError

#: The deadline from the request's head to the last byte of its body: no slow caller holds a connection longer.
BODY_TIMEOUT_SECONDS = 30.0


class BodyTooLarge(RecadoError):
    """The request's body is larger than allowed."""


class ClientGone(RecadoError):
    """The client went away in the middle of its request."""


async def read_whole_body(receive: Callable[[], Awaitable[MutableMapping[str, Any]]], max_bytes: int) -> bytes:
    """The body; raises BodyTooLarge as soon as it is over the bound, ClientGone."""
    chunks: list[bytes] = []
    size = 0
    has_more = True
    while has_more:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise ClientGone
        chunks.append(event.get("body", b""))
        size += len(chunks[-1])
        if size > max_bytes:
            raise BodyTooLarge
        has_more = event.get("more_body", False)
    return b"".join(chunks)
