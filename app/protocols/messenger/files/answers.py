"""The answers of files in HTTP: heads, errors, and what pages of other origins may read. Bare ASGI."""

from collections.abc import Iterable, Mapping

import msgspec
from msgspec import Struct

from app.config.settings import Site
from app.errors import RequestRefused
from app.protocols.http_request import Send
from app.protocols.messenger.files.names import disposition, served_type
from app.protocols.messenger.files.ranges import Selection
from app.protocols.messenger.files.records import FileRecord
from app.protocols.messenger.files.tus_headers import ALGORITHMS, EXTENSIONS, VERSION, expires_text

Headers = list[tuple[bytes, bytes]]

_RETRY_AFTER_SECONDS = b"1"
#: No browser may make a page with scripts of a file, or anything else than its type says.
_HARMLESS: Headers = [
    (b"x-content-type-options", b"nosniff"),
    (
        b"content-security-policy",
        b"sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; media-src 'self'",
    ),
    (b"referrer-policy", b"no-referrer"),
]
_METHODS = b"OPTIONS, GET, HEAD, POST, PATCH, DELETE"
_ALLOWED_HEADERS = (
    b"Authorization, Content-Type, If-Match, If-None-Match, If-Range, Range, Tus-Resumable, Upload-Checksum, "
    b"Upload-Length, Upload-Metadata, Upload-Offset, X-HTTP-Method-Override, X-Requested-With"
)
_EXPOSED_HEADERS = (
    b"Accept-Ranges, Content-Disposition, Content-Range, ETag, Location, Retry-After, Tus-Checksum-Algorithm, "
    b"Tus-Extension, Tus-Max-Size, Tus-Resumable, Tus-Version, Upload-Expires, Upload-Length, Upload-Metadata, "
    b"Upload-Offset"
)
_PREFLIGHT_SECONDS = b"600"


class Answer(Struct, frozen=True):
    """A whole answer. Lives as long as the request."""

    status: int
    headers: Headers = []
    body: bytes = b""


def etag_of(file: FileRecord) -> bytes:
    """The ETag of a finished file: its bytes never change."""
    return f'"{file.id}"'.encode()


def tus_headers(file: FileRecord | None = None) -> Headers:
    """The headers of every answer of tus, about an upload where there is one."""
    found: Headers = [(b"tus-resumable", VERSION)]
    if file is not None:
        found.append((b"upload-offset", str(file.received).encode()))
        if file.expires_at is not None:
            found.append((b"upload-expires", expires_text(file.expires_at).encode()))
    return found


def options_headers(max_bytes: int) -> Headers:
    """The abilities of the server."""
    return [
        *tus_headers(),
        (b"tus-version", VERSION),
        (b"tus-max-size", str(max_bytes).encode()),
        (b"tus-extension", EXTENSIONS),
        (b"tus-checksum-algorithm", b",".join(ALGORITHMS)),
    ]


def file_headers(file: FileRecord, selection: Selection) -> Headers:
    """The head of a download."""
    found: Headers = [(b"accept-ranges", b"bytes"), (b"etag", etag_of(file)), (b"cache-control", b"private, no-cache")]
    if selection.status == 416:
        found.append((b"content-range", b"bytes */%d" % file.size))
    elif selection.status in (200, 206):
        kind, way = served_type(file.type), disposition(file.name, file.type)
        found += [(b"content-type", kind.encode()), (b"content-disposition", way.encode("ascii"))]
        if selection.status == 206:
            span = selection.span
            found.append((b"content-range", b"bytes %d-%d/%d" % (span.start, span.end - 1, file.size)))
    return found


def refusal_answer(refusal: RequestRefused) -> Answer:
    """The answer to a refused request."""
    body = msgspec.json.encode({"ok": False, "error": {"code": refusal.code, "message": str(refusal)}})
    more: Headers = [(b"content-type", b"application/json")]
    if refusal.status in (423, 503):
        more.append((b"retry-after", _RETRY_AFTER_SECONDS))
    if refusal.status == 401:
        more.append((b"www-authenticate", b"Bearer"))
    if refusal.status == 405:
        more.append((b"allow", _METHODS))
    if refusal.status == 412:
        more.append((b"tus-version", VERSION))
    return Answer(refusal.status, [*tus_headers(), *more], body)


class Sharing(Struct, frozen=True):
    """The rights of a page of another origin to read an answer. Lives as long as the request."""

    origin: bytes | None

    def headers(self, *, is_preflight: bool = False) -> Headers:
        """The headers for that page; none for pages that may read nothing."""
        if self.origin is None:
            return [(b"vary", b"Origin")]
        found = [
            (b"vary", b"Origin"),
            (b"access-control-allow-origin", self.origin),
            (b"access-control-expose-headers", _EXPOSED_HEADERS),
        ]
        if is_preflight:
            found += [
                (b"access-control-allow-methods", _METHODS),
                (b"access-control-allow-headers", _ALLOWED_HEADERS),
                (b"access-control-max-age", _PREFLIGHT_SECONDS),
            ]
        return found


def sharing_of(site: Site | None, headers: Mapping[bytes, bytes]) -> Sharing:
    """The rights of the page that asks: those that it has at the site's namespace."""
    origin = headers.get(b"origin")
    if site is None or not origin:
        return Sharing(None)
    is_listed = site.origins is None or origin.decode("latin-1") in site.origins
    return Sharing(origin if is_listed else None)


async def send_head(send: Send, status: int, length: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Begins an answer. `length` is that of its body, or of the body that a HEAD leaves out."""
    counted = [] if status in (204, 304) else [(b"content-length", str(length).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*counted, *_HARMLESS, *headers]})


async def send_answer(send: Send, answer: Answer, sharing: Sharing, *, is_preflight: bool = False) -> None:
    """Sends a whole answer, which nobody keeps."""
    more = [(b"cache-control", b"no-store"), *sharing.headers(is_preflight=is_preflight)]
    await send_head(send, answer.status, len(answer.body), [*answer.headers, *more])
    await send({"type": "http.response.body", "body": answer.body})
