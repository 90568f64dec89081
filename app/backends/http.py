"""One HTTP exchange with a tenant's backend: pooled, bounded in time and bytes, its failures mapped once.

Knows nothing of rooms or users.
"""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from functools import cache, lru_cache
from typing import Protocol

import aiohttp
import httpx
from msgspec import Struct
from yarl import URL

from app.config.settings import Site
from app.errors import RecadoError

# A tenant's share of sockets, as many as `auth_concurrency` may be; who asks beyond it waits, in his time-out.
MAX_CONNECTIONS_PER_SITE = 1000
MAX_ANSWER_BYTES = 1_000_000

# Most backends drop an idle connection after 60 s or more; one that does so earlier costs a silent second try.
_KEEPALIVE_SECONDS = 60.0
_HEADERS = [(b"accept", b"application/json"), (b"user-agent", b"recado")]

_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

#: Library error -> the reason a client may read. The nearest base class counts.
REASONS: dict[type[Exception], str] = {
    TimeoutError: "timed out",
    OSError: "connection failed",
    # A host name that IDNA cannot encode, found when it is resolved.
    UnicodeError: "the URL is not usable",
    aiohttp.ClientConnectionError: "connection failed",
    aiohttp.ClientPayloadError: "connection failed",
    aiohttp.ClientHttpProxyError: "connection failed",
    aiohttp.ClientError: "not an HTTP answer",
    aiohttp.http_exceptions.ContentEncodingError: "answer could not be decoded",
    aiohttp.InvalidURL: "the URL is not usable",
    aiohttp.NonHttpUrlClientError: "the URL is not usable",
    httpx.TimeoutException: "timed out",
    httpx.NetworkError: "connection failed",
    httpx.ProxyError: "connection failed",
    httpx.ProtocolError: "not an HTTP answer",
    httpx.DecodingError: "answer could not be decoded",
    httpx.UnsupportedProtocol: "the URL is not usable",
    httpx.InvalidURL: "the URL is not usable",
}

Header = tuple[bytes, bytes]


class BackendError(RecadoError):
    """A tenant's backend gave no usable answer"""

    def __init__(self, reason: str, cause: str, was_answered: bool = True) -> None:
        super().__init__(reason)
        #: The library's class of error, for the log.
        self.cause = cause
        #: False when the backend is not to be reached, or did not end its answer in time.
        self.was_answered = was_answered


class BackendAnswer(Struct, frozen=True):
    """A backend's answer. `body` is b"" unless the status is 200."""

    status: int
    body: bytes


class _BackendPool(Protocol):
    """Connections of one site. Lives until `close`."""

    async def exchange(self, method: str, url: str, headers: list[Header], content: bytes) -> BackendAnswer:
        """Sends a request and reads its answer. Raises what its library raises."""

    async def close(self) -> None:
        """Closes every connection."""


class _FastPool:
    """Through aiohttp, at half the price of httpx. It would send a Latin-1 header as UTF-8."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=MAX_CONNECTIONS_PER_SITE, keepalive_timeout=_KEEPALIVE_SECONDS, ssl=context
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("accept", "accept-encoding", "user-agent", "content-type"),
        )

    async def exchange(self, method: str, url: str, headers: list[Header], content: bytes) -> BackendAnswer:
        """See `_BackendPool`."""
        texts = [(name.decode(), value.decode()) for name, value in headers]
        async with self._session.request(
            method, _parsed(url), headers=texts, data=content or None, allow_redirects=False
        ) as response:
            is_read = response.status == 200
            return BackendAnswer(response.status, await _read(response.content.iter_any()) if is_read else b"")

    async def close(self) -> None:
        """See `_BackendPool`."""
        await self._session.close()


class _ExactPool:
    """Through httpx, which sends the bytes of a header as they are: old backends know a Latin-1 header as Latin-1."""

    def __init__(self, context: ssl.SSLContext) -> None:
        limits = httpx.Limits(max_connections=MAX_CONNECTIONS_PER_SITE, keepalive_expiry=_KEEPALIVE_SECONDS)
        self._transport = httpx.AsyncHTTPTransport(verify=context, limits=limits)

    async def exchange(self, method: str, url: str, headers: list[Header], content: bytes) -> BackendAnswer:
        """See `_BackendPool`."""
        request = httpx.Request(method, url, headers=headers, content=content or None)
        response = await self._transport.handle_async_request(request)
        try:
            is_read = response.status_code == 200
            return BackendAnswer(response.status_code, await _read(response.aiter_bytes()) if is_read else b"")
        finally:
            await response.aclose()

    async def close(self) -> None:
        """See `_BackendPool`."""
        await self._transport.aclose()


class SitePools:
    """Connections to the backends, a pool for each site, so that a slow backend holds up its own site alone.

    Lives as long as the adapter that owns it, which calls `aclose`.
    """

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._pools: dict[tuple[str, bool], _BackendPool] = {}

    async def exchange(
        self, site: str, method: str, url: str, headers: list[Header], content: bytes = b""
    ) -> BackendAnswer:
        """Sends the request and reads the answer; redirects are answers like any other. Raises BackendError."""
        is_ascii = all(value.isascii() for _, value in headers)
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._pool(site, is_ascii).exchange(method, url, [*_HEADERS, *headers], content)
        except tuple(REASONS) as error:
            cause = error.__cause__
            if isinstance(cause, aiohttp.http_exceptions.ContentEncodingError):
                error = cause
            # httpx's errors name little, what is behind them more.
            named = cause if cause and isinstance(error, httpx.HTTPError) else error
            raise BackendError(reason_of(error), type(named).__name__, was_answered=False) from None

    async def aclose(self) -> None:
        """Closes every connection."""
        pools, self._pools = self._pools, {}
        for pool in pools.values():
            await pool.close()

    def _pool(self, site: str, is_ascii: bool) -> _BackendPool:
        pool = self._pools.get((site, is_ascii))
        if pool is None:
            kind = _FastPool if is_ascii else _ExactPool
            pool = self._pools[site, is_ascii] = kind(_ssl_context())
        return pool


def reason_of(error: BaseException) -> str:
    """What a client may read of a library's error; raises KeyError for one that the table does not know."""
    known = next((base for base in type(error).__mro__ if base in REASONS), None)
    if known is None:
        raise KeyError(type(error).__name__)
    return REASONS[known]


@lru_cache(maxsize=1024)
def _parsed(url: str) -> URL:
    try:
        return URL(url)
    except ValueError as error:
        raise aiohttp.InvalidURL(url) from error


@cache
def _ssl_context() -> ssl.SSLContext:
    return httpx.create_ssl_context()


def authorization(site: Site, token: str | None) -> list[Header]:
    """The header that shows a user's token to the site's backend; none without a token. Raises BackendError."""
    return [(b"authorization", header_value(f"{site.auth_scheme} {token}", "token"))] if token else []


def header_value(text: str, name: str) -> bytes:
    """The text as a header carries it, in Latin-1; raises BackendError naming what cannot be sent, never its value."""
    try:
        value = text.encode("latin-1")
    except UnicodeEncodeError:
        value = b"\0"
    if _CONTROL.search(value):
        raise BackendError(f"{name} cannot be sent in an HTTP header", "UnsendableHeader")
    return value


async def _read(chunks: AsyncIterator[bytes]) -> bytes:
    body = b""
    async for chunk in chunks:
        body = body + chunk if body else chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise BackendError(f"answer longer than {MAX_ANSWER_BYTES} bytes", "AnswerTooLong")
    return body
