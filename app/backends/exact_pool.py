"""Exchanges through httpx. It sends the bytes of a header as they are: old backends read a Latin-1 header as Latin-1.

Every connection has a transport of its own. A transport of many connections goes over all of them for every request:
measured, a request costs 1.1 ms of CPU with 20 in flight, and 26 ms with 200.
"""

import asyncio
import ssl
from collections import deque
from functools import cache
from time import monotonic

import httpx

from app.backends import exchange
from app.backends.exchange import BackendAnswer, BackendError, Header, read_within_bound, reason_of

REASONS: exchange.Reasons = {
    **exchange.REASONS,
    httpx.TimeoutException: "timed out",
    httpx.NetworkError: "connection failed",
    httpx.ProxyError: "connection failed",
    httpx.ProtocolError: "not an HTTP answer",
    httpx.DecodingError: "answer could not be decoded",
    httpx.UnsupportedProtocol: "the URL is not usable",
    httpx.InvalidURL: "the URL is not usable",
}

_LIMITS = httpx.Limits(max_connections=1, keepalive_expiry=exchange.KEEPALIVE_SECONDS)
#: A second try of one of these does no harm (RFC 9110, 9.2.2).
_IDEMPOTENT = frozenset(("GET", "PUT"))
#: The texts of httpx and h11 for a connection that the backend closed; the class of error also means "not HTTP".
_CUT = ("Server disconnected", "peer closed connection")


class ExactPool:
    """A `BackendPool` for any header. Lives until `close`."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._places = asyncio.Semaphore(exchange.MAX_CONNECTIONS_PER_SITE)
        self._open: set[httpx.AsyncHTTPTransport] = set()
        #: With the time since which each is idle. The latest one is used first, so that the others can expire.
        self._idle: deque[tuple[float, httpx.AsyncHTTPTransport]] = deque()

    async def exchange(self, method: str, url: str, headers: list[Header], content: bytes) -> BackendAnswer:
        """See `BackendPool`."""
        try:
            request = httpx.Request(method, url, headers=headers, content=content or None)
            async with self._places:
                return await self._send(request)
        except tuple(REASONS) as error:
            # The class of the error behind httpx's says more.
            named = error.__cause__ if error.__cause__ and isinstance(error, httpx.HTTPError) else error
            raise BackendError(_reason_of(error), exchange.cause_of(named), was_answered=False) from None

    async def close(self) -> None:
        """See `BackendPool`."""
        self._idle.clear()
        while self._open:
            await self._open.pop().aclose()

    async def _send(self, request: httpx.Request) -> BackendAnswer:
        if self._idle:
            _, transport = self._idle.pop()
            try:
                return await self._send_through(transport, request)
            except (httpx.NetworkError, httpx.RemoteProtocolError):
                # The backend may have closed the idle connection at this moment.
                if request.method not in _IDEMPOTENT:
                    raise
        transport = httpx.AsyncHTTPTransport(verify=self._context, limits=_LIMITS)
        self._open.add(transport)
        return await self._send_through(transport, request)

    async def _send_through(self, transport: httpx.AsyncHTTPTransport, request: httpx.Request) -> BackendAnswer:
        try:
            answer = await _answer_of(transport, request)
        except BaseException:
            await self._discard(transport)
            raise
        await self._keep(transport)
        return answer

    async def _keep(self, transport: httpx.AsyncHTTPTransport) -> None:
        if transport not in self._open:
            # The pool was closed meanwhile.
            return
        now = monotonic()
        self._idle.append((now, transport))
        # Looked at again after each one: other requests may have taken all of them meanwhile.
        while self._idle and self._idle[0][0] < now - exchange.KEEPALIVE_SECONDS:
            await self._discard(self._idle.popleft()[1])

    async def _discard(self, transport: httpx.AsyncHTTPTransport) -> None:
        self._open.discard(transport)
        await transport.aclose()


@cache
def default_context() -> ssl.SSLContext:
    """The authorities that httpx trusts. Cached: making it takes milliseconds."""
    return httpx.create_ssl_context()


async def _answer_of(transport: httpx.AsyncHTTPTransport, request: httpx.Request) -> BackendAnswer:
    response = await transport.handle_async_request(request)
    try:
        is_read = response.status_code == 200
        body = await read_within_bound(response.aiter_bytes()) if is_read else b""
        return BackendAnswer(response.status_code, body)
    finally:
        await response.aclose()


def _reason_of(error: Exception) -> str:
    is_cut = isinstance(error, httpx.RemoteProtocolError) and str(error).startswith(_CUT)
    return reason_of(httpx.ReadError("") if is_cut else error, REASONS)
