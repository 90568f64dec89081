"""Exchanges with a backend over `LeanWires`, for authUrl: a connect waits for each of them."""

import asyncio
import ssl
import zlib
from collections.abc import Callable
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


#: Gets the end of an exchange; see `LeanPool.exchange_at_once`.
End = Callable[[BackendAnswer | BackendError | None], None]


class IdleExchange:
    """An exchange on a connection that was idle: without a task. Lives until its end."""

    __slots__ = ("_end", "_timer", "_wire", "_wires")

    def __init__(self, wires: LeanWires, wire: LeanWire, request: bytes, seconds: float, end: End) -> None:
        self._wires, self._wire = wires, wire
        self._end: End | None = end
        self._timer = asyncio.get_running_loop().call_later(seconds, self._time_out)
        wire.ask_for(request, self._receive)

    def stop(self) -> End | None:
        """Gives the exchange up; `end` is not called any more."""
        end, self._end = self._end, None
        self._timer.cancel()
        self._wires.drop(self._wire)
        return end

    def _time_out(self) -> None:
        end = self.stop()
        if end is not None:
            end(BackendError("timed out", "TimeoutError", was_answered=False))

    def _receive(self, outcome: WireAnswer | BackendError) -> None:
        end, self._end = self._end, None
        if end is None:
            return
        self._timer.cancel()
        if isinstance(outcome, BackendError):
            self._wires.drop(self._wire)
            end(outcome if self._wire.has_read else None)
            return
        self._wires.keep(self._wire)
        try:
            answer = _answer_of(outcome)
        except BackendError as error:
            end(error)
        else:
            end(answer)


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
            return _answer_of(answer)
        except tuple(_REASONS) as error:
            raise BackendError(reason_of(error, _REASONS), exchange.cause_of(error), was_answered=False) from None

    def exchange_at_once(self, url: str, headers: list[Header], seconds: float, end: End) -> "IdleExchange | None":
        """Sends a GET on an idle connection; None when there is none. `end` is called with the answer or the error, or
        with None when the other side had closed the connection: then the request may be sent again. After so many
        seconds the exchange has failed."""
        try:
            origin, target, host = parse(url)
        except httpx.InvalidURL:
            return None
        wires = self._wires if origin == self._origin else None
        wire = None if wires is None else wires.take()
        if wires is None or wire is None:
            return None
        return IdleExchange(wires, wire, head_of(b"GET", target, [(b"host", host), *headers]), seconds, end)

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


def _answer_of(answer: WireAnswer) -> BackendAnswer:
    """Raises BackendError."""
    return BackendAnswer(answer.status, body_of(answer) if answer.status == 200 else b"")


def body_of(answer: WireAnswer) -> bytes:
    """The body without its Content-Encoding. Raises BackendError."""
    encodings = [value for name, value in answer.headers if name.lower() == b"content-encoding"]
    encoding = encodings[0].strip().lower() if encodings else b""
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
