"""The HTTP request, as all protocols read it: the body within bounds, the site's key, the path as segments. Knows no
protocol and no site."""

import asyncio
import hashlib
import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qsl, unquote

from app.errors import BadRequest

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

#: The deadline from the request's head to the last byte of its body: no slow caller holds a connection longer.
BODY_TIMEOUT_SECONDS = 30.0


def query_of(scope: Scope) -> dict[str, str]:
    """Returns the parameters of the query. If one is given twice, the last value wins."""
    return dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))


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


def digest(secret: str) -> bytes:
    """Returns a digest, of equal length for any secret, so that a comparison takes equal time."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def is_same_secret(given: str, expected: bytes) -> bool:
    """Whether `given` has the expected digest. The time of the comparison reveals nothing."""
    return hmac.compare_digest(digest(given), expected)


async def read_body(headers: dict[bytes, bytes], receive: Receive, max_bytes: int) -> bytes:
    """Returns the whole body. Raises BadRequest: 413 when it is too long, 408 when it takes too long, 400 when it
    breaks off."""
    too_large = BadRequest(f"Body: expected at most {max_bytes} bytes.", status=413)
    length = headers.get(b"content-length", b"")
    if length.isdigit() and int(length) > max_bytes:
        raise too_large
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT_SECONDS):
            more_body = True
            while more_body:
                event = await receive()
                parts.append(event.get("body", b""))
                size += len(parts[-1])
                more_body = event.get("more_body", False)
                if size > max_bytes:
                    raise too_large
    except TimeoutError:
        raise BadRequest(f"Body: expected all of it within {BODY_TIMEOUT_SECONDS:.0f} seconds.", status=408) from None
    if event["type"] == "http.disconnect":
        raise BadRequest("Body: the request broke off.")
    return b"".join(parts)
