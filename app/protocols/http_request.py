"""The HTTP request, as all protocols read it: the body within bounds, the site's key, the path as segments. Knows no
protocol and no site."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qsl, unquote

from app.errors import BadRequest
from app.transport.refusals import BODY_TOO_SLOW, refused
from app.transport.request_body import BODY_TIMEOUT_SECONDS, BodyTooLarge, ClientGone, read_whole_body

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


def query_of(scope: Scope) -> dict[str, str]:
    """Returns the parameters of the query. If one is given twice, the last value wins."""
    return dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))


def is_mounted(scope: Scope) -> bool:
    """Whether the request came to a path of the server that the protocol replaces: see `Dispatcher.mount`."""
    return bool(scope.get("is_mounted"))


def segments_of(scope: Scope) -> list[str]:
    """Returns the parts of the path between its slashes, each decoded by itself: `%2F` in a site's name is no slash."""
    raw_path: bytes | None = scope.get("raw_path")
    if raw_path is None:
        return list(scope["path"].strip("/").split("/"))
    path = raw_path.partition(b"?")[0].decode("latin-1")
    return [unquote(segment) for segment in path.strip("/").split("/")]


def key_in(query: dict[str, str], headers: dict[bytes, bytes]) -> str:
    """Returns the API key in `apiKey=`, `X-API-Key` or `Authorization: Bearer`; "" if there is none."""
    key = headers.get(b"x-api-key", b"")
    scheme, _, rest = headers.get(b"authorization", b"").partition(b" ")
    if not key and scheme.lower() == b"bearer":
        key = rest.strip()
    return query.get("apiKey") or key.decode("utf-8", "surrogateescape")


async def read_body(headers: dict[bytes, bytes], receive: Receive, max_bytes: int) -> bytes:
    """The whole body. Raises BadRequest: 413 when it is longer, 408 when it takes too long, 400 when it breaks off."""
    length = headers.get(b"content-length", b"")
    try:
        if length.isdigit() and int(length) > max_bytes:
            raise BodyTooLarge
        async with asyncio.timeout(BODY_TIMEOUT_SECONDS):
            return await read_whole_body(receive, max_bytes)
    except BodyTooLarge:
        raise BadRequest(f"Body: expected at most {max_bytes} bytes.", status=413) from None
    except TimeoutError:
        refused[BODY_TOO_SLOW] += 1
        raise BadRequest(f"Body: expected all of it within {BODY_TIMEOUT_SECONDS:.0f} seconds.", status=408) from None
    except ClientGone:
        raise BadRequest("Body: the request broke off.") from None
