"""The HTTP request, as all protocols read it: the body within bounds, the site's key, the path as segments. Knows no
protocol and no site."""

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any

from app.errors import BadRequest
from app.transport.query import MAX_FIELDS, fields_of, unescaped
from app.transport.refusals import BODY_TOO_SLOW, refused
from app.transport.request_body import BODY_TIMEOUT_SECONDS, BodyTooLarge, ClientGone, read_whole_body
from app.transport.streaming import EXTENSION, Shortcut

#: The encodings of a body that senders with a key may use, and zlib's number for each.
_INFLATED = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


#: The characters of an origin that a log line holds.
_SHOWN_ORIGIN = 200


def shown_origin(origin: str) -> str:
    """Returns the origin for a log line. A stranger chooses its text, so it is cut."""
    return origin[:_SHOWN_ORIGIN]


def fields_in(scope: Scope, most: int = MAX_FIELDS) -> list[tuple[str, str]]:
    """Returns the parameters of the query in their order, at most so many."""
    return fields_of(scope["query_string"], most)


def query_of(scope: Scope) -> dict[str, str]:
    """Returns the parameters of the query. If one is given twice, the first value wins, as in Engine.IO's query."""
    return first_values(fields_in(scope))


def first_values(parameters: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Returns the parameters by name; of equal names the first value. Every door reads its query so."""
    return dict(reversed(parameters))


def is_mounted(scope: Scope) -> bool:
    """Whether the request came to a path of the server that the protocol replaces: see `Dispatcher.mount`."""
    return bool(scope.get("is_mounted"))


def segments_of(scope: Scope) -> list[str]:
    """Returns the parts of the path between its slashes, each decoded by itself: `%2F` in a site's name is no slash."""
    raw_path: bytes | None = scope.get("raw_path")
    if raw_path is None:
        return list(scope["path"].strip("/").split("/"))
    return [unescaped(segment) for segment in raw_path.partition(b"?")[0].strip(b"/").split(b"/")]


def key_in(query: dict[str, str], headers: dict[bytes, bytes]) -> str:
    """Returns the API key in `apiKey=`, `X-API-Key` or `Authorization: Bearer`; "" if there is none."""
    key = headers.get(b"x-api-key", b"")
    scheme, _, rest = headers.get(b"authorization", b"").partition(b" ")
    if not key and scheme.lower() == b"bearer":
        key = rest.strip()
    return query.get("apiKey") or key.decode("utf-8", "surrogateescape")


def shortcut_of(scope: Scope) -> Shortcut | None:
    """The way past the messages of ASGI; None where the server has none."""
    extensions: dict[str, Any] = scope.get("extensions") or {}
    return extensions.get(EXTENSION)


def body_at_hand(scope: Scope, headers: Mapping[bytes, bytes], max_bytes: int) -> bytes | None:
    """The whole body as `read_body` gives it; None where that is to be asked."""
    shortcut = shortcut_of(scope)
    length = headers.get(b"content-length", b"")
    # A longer one is refused before any of it is read.
    if shortcut is None or b"content-encoding" in headers or not length.isdigit() or int(length) > max_bytes:
        return None
    body = shortcut.take_body()
    return None if body is None else body.removeprefix(_BYTE_ORDER_MARK)


async def read_body(
    headers: dict[bytes, bytes], receive: Receive, max_bytes: int, *, may_be_compressed: bool = False
) -> bytes:
    """The whole body, inflated and without a byte order mark.

    A caller without a key must not send compressed bodies: a few bytes of them cost as much as a large body. Raises
    BadRequest: 413 when the body is longer, 408 when it takes too long, 400 when it breaks off, 415 for its encoding.
    """
    encoding = headers.get(b"content-encoding", b"").strip().lower()
    if encoding not in (b"", b"identity") and not (may_be_compressed and encoding in _INFLATED):
        expected = "gzip, deflate or none" if may_be_compressed else "none"
        raise BadRequest(f"Content-Encoding: expected {expected}.", status=415)
    body = await _read(headers, receive, max_bytes)
    if encoding in _INFLATED:
        body = _inflate(body, _INFLATED[encoding], max_bytes)
    return body.removeprefix(_BYTE_ORDER_MARK)


async def _read(headers: dict[bytes, bytes], receive: Receive, max_bytes: int) -> bytes:
    length = headers.get(b"content-length", b"")
    try:
        if length.isdigit() and int(length) > max_bytes:
            raise BodyTooLarge
        async with asyncio.timeout(BODY_TIMEOUT_SECONDS):
            return await read_whole_body(receive, max_bytes)
    except BodyTooLarge:
        raise _too_large(max_bytes) from None
    except TimeoutError:
        refused[BODY_TOO_SLOW] += 1
        raise BadRequest(f"Body: expected all of it within {BODY_TIMEOUT_SECONDS:.0f} seconds.", status=408) from None
    except ClientGone:
        raise BadRequest("Body: the request broke off.") from None


def _inflate(body: bytes, window_bits: int, max_bytes: int) -> bytes:
    inflater = zlib.decompressobj(window_bits)
    try:
        inflated = inflater.decompress(body, max_bytes + 1)
    except zlib.error:
        raise BadRequest("Body: it is not compressed as Content-Encoding says.") from None
    if len(inflated) > max_bytes:
        raise _too_large(max_bytes)
    if not inflater.eof or inflater.unused_data:
        raise BadRequest("Body: expected exactly one whole compressed body.")
    return inflated


def _too_large(max_bytes: int) -> BadRequest:
    return BadRequest(f"Body: expected at most {max_bytes} bytes.", status=413)
