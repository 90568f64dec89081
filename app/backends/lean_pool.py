"""Exchanges with a backend over `LeanWires`, for authUrl: a connect waits for each of them."""

import asyncio
import ssl
import zlib
from functools import partial

import httpx

from app.backends import exchange
from app.backends.exchange import MAX_ANSWER_BYTES, BackendAnswer, BackendError, Header, reason_of
from app.backends.lean_wire import LeanWire, WireAnswer
from app.backends.lean_wires import Addresses, LeanWires, Origin, connect, head_of, parse

#: A second try of one of these does no harm (RFC 9110, 9.2.2).
_IDEMPOTENT = frozenset(("GET", "PUT"))
#: The encodings that a backend may use unasked, which zlib reads (RFC 9110, 8.4.1).
_ZLIB = frozenset((b"gzip", b"x-gzip", b"deflate"))

_REASONS: exchange.Reasons = {**exchange.REASONS, httpx.InvalidURL: "the URL is not usable"}
_new_wire = partial(LeanWire, MAX_ANSWER_BYTES)


class LeanPool:
    """A `BackendPool` for the one URL of a site. Lives until `close`."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._places = asyncio.Semaphore(exchange.MAX_CONNECTIONS_PER_SITE)
        self._origin: Origin | None = None
        self._wires: LeanWires | None = None

    async def exchange(self, method: str, url: str, headers: list[Header], content: bytes) -> BackendAnswer:
        """See `BackendPool`."""
        try:
            origin, target, host = parse(url)
            headers = [(b"host", host), *headers]
            if content or method != "GET":
                headers.append((b"content-length", b"%d" % len(content)))
            request = head_of(method.encode(), target, headers) + content
            async with self._places:
                answer = await self._wires_to(origin).ask(request, method in _IDEMPOTENT)
            return BackendAnswer(answer.status, body_of(answer) if answer.status == 200 else b"")
        except tuple(_REASONS) as error:
            raise BackendError(reason_of(error, _REASONS), exchange.cause_of(error), was_answered=False) from None

    async def close(self) -> None:
        """See `BackendPool`."""
        if self._wires is not None:
            self._wires.close()

    def _wires_to(self, origin: Origin) -> LeanWires:
        if self._wires is None or origin != self._origin:
            if self._wires is not None:
                # The site has got another URL.
                self._wires.close()
            self._origin, self._wires = origin, LeanWires(partial(connect, Addresses(origin), _new_wire, self._context))
        return self._wires


def body_of(answer: WireAnswer) -> bytes:
    """The body without its Content-Encoding. Raises BackendError."""
    encoding = next(
        (value.strip().lower() for name, value in answer.headers if name.lower() == b"content-encoding"), b""
    )
    body = answer.body
    if not answer.is_whole:
        raise BackendError(f"answer longer than {MAX_ANSWER_BYTES} bytes", "AnswerTooLong")
    return body if encoding in (b"", b"identity") or not body else _decoded(body, encoding)


def _decoded(body: bytes, encoding: bytes) -> bytes:
    # Some backends call deflate what has no head of zlib.
    is_raw = encoding == b"deflate" and body[0] & 0x0F != zlib.DEFLATED
    inflater = zlib.decompressobj(-zlib.MAX_WBITS if is_raw else zlib.MAX_WBITS | 32)
    try:
        decoded = inflater.decompress(body, MAX_ANSWER_BYTES + 1) if encoding in _ZLIB else b""
    except zlib.error:
        decoded = b""
    if len(decoded) > MAX_ANSWER_BYTES:
        raise BackendError(f"answer longer than {MAX_ANSWER_BYTES} bytes", "AnswerTooLong")
    if not inflater.eof:
        raise BackendError("answer could not be decoded", "ContentEncoding", was_answered=False)
    return decoded
