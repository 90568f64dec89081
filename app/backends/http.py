"""One HTTP exchange with a tenant's backend: pooled, bounded in time and bytes, its failures mapped once.

Knows nothing of rooms or users.
"""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from functools import lru_cache

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport
from msgspec import Struct

from app.errors import RecadoError
from app.settings import Site

# A tenant's share of sockets, as many as `auth_concurrency` may be; who asks beyond it waits, in his time-out.
MAX_CONNECTIONS_PER_SITE = 1000
MAX_ANSWER_BYTES = 1_000_000

# Most backends drop an idle connection after 60 s or more; one that does so earlier costs a silent second try.
_KEEPALIVE_SECONDS = 60.0
_HEADERS = [(b"accept", b"application/json"), (b"user-agent", b"recado")]

_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

#: Library error -> the reason a client may read. The nearest base class counts.
REASONS: dict[type[Exception], str] = {
    httpx.TimeoutException: "timed out",
    # httpx-aiohttp's name for any connection that aiohttp lost or did not get; time-outs proper are ours.
    httpx.ConnectTimeout: "connection failed",
    httpx.NetworkError: "connection failed",
    httpx.ProxyError: "connection failed",
    httpx.ProtocolError: "not an HTTP answer",
    httpx.DecodingError: "answer could not be decoded",
    httpx.UnsupportedProtocol: "the URL is not usable",
    httpx.InvalidURL: "the URL is not usable",
    # What httpx-aiohttp lets through as it is.
    aiohttp.ClientError: "not an HTTP answer",
    OSError: "connection failed",
    TimeoutError: "timed out",
    # A host name that IDNA cannot encode, found when it is resolved.
    UnicodeError: "the URL is not usable",
}


class BackendError(RecadoError):
    """A tenant's backend gave no usable answer"""

    def __init__(self, reason: str, cause: str, was_answered: bool = True) -> None:
        super().__init__(reason)
        #: The library's class of error, for the log.
        self.cause = cause
        #: False when the backend is not to be reached, or did not end its answer in time.
        self.was_answered = was_answered


class Answer(Struct, frozen=True):
    """A backend's answer. `body` is b"" unless the status is 200."""

    status: int
    body: bytes


class SitePools:
    """Connections to the backends, a pool for each site, so that a slow backend holds up its own site alone.

    Lives as long as the adapter that owns it, which calls `aclose`.
    """

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._ssl_context: ssl.SSLContext | None = None
        self._pools: dict[tuple[str, bool], httpx.AsyncBaseTransport] = {}

    async def exchange(
        self, site: str, method: str, url: str, headers: list[tuple[bytes, bytes]], content: bytes = b""
    ) -> Answer:
        """Sends the request and reads the answer; redirects are answers like any other. Raises BackendError."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                # The transport is called directly: httpx's client (redirects, cookies, auth, hooks) doubles the cost.
                # The encoding named spares httpx guessing it from every value.
                target = _parsed(url)
                length = [(b"content-length", b"%d" % len(content))] if content else []
                sent = httpx.Headers([(b"host", target.netloc), *_HEADERS, *headers, *length], encoding="latin-1")
                # Given as a stream, httpx leaves the content and these headers as they are, which is half the work.
                request = httpx.Request(method, target, headers=sent, stream=httpx.ByteStream(content))
                request.read()
                is_ascii = all(value.isascii() for _, value in headers)
                response = await self._pool(site, is_ascii).handle_async_request(request)
                try:
                    return Answer(response.status_code, await _read(response) if response.status_code == 200 else b"")
                finally:
                    await response.aclose()
        except tuple(REASONS) as error:
            # A transport's error names little, the one behind it more; behind a time-out is only our own cancelling.
            cause = error if isinstance(error, TimeoutError) else error.__cause__ or error
            raise BackendError(reason_of(error), type(cause).__name__, was_answered=False) from None

    async def aclose(self) -> None:
        """Closes every connection."""
        pools, self._pools = self._pools, {}
        for pool in pools.values():
            await pool.aclose()

    def _pool(self, site: str, is_ascii: bool) -> httpx.AsyncBaseTransport:
        pool = self._pools.get((site, is_ascii))
        if pool is None:
            pool = self._pools[site, is_ascii] = self._fast_pool() if is_ascii else self._exact_pool()
        return pool

    def _fast_pool(self) -> httpx.AsyncBaseTransport:
        return AiohttpTransport(verify=self._ssl(), client=self._session)

    def _exact_pool(self) -> httpx.AsyncBaseTransport:
        # aiohttp would send a Latin-1 header as UTF-8; backends of socket.io-webservice know it as Latin-1.
        limits = httpx.Limits(max_connections=MAX_CONNECTIONS_PER_SITE, keepalive_expiry=_KEEPALIVE_SECONDS)
        return httpx.AsyncHTTPTransport(verify=self._ssl(), limits=limits)

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=MAX_CONNECTIONS_PER_SITE, keepalive_timeout=_KEEPALIVE_SECONDS, ssl=self._ssl()
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("accept", "accept-encoding", "user-agent", "content-type"),
        )

    def _ssl(self) -> ssl.SSLContext:
        if self._ssl_context is None:
            self._ssl_context = httpx.create_ssl_context()
        return self._ssl_context


def reason_of(error: BaseException) -> str:
    """What a client may read of a library's error; raises KeyError for one that the table does not know."""
    known = next((base for base in type(error).__mro__ if base in REASONS), None)
    if known is None:
        raise KeyError(type(error).__name__)
    return REASONS[known]


@lru_cache(maxsize=1024)
def _parsed(url: str) -> httpx.URL:
    return httpx.URL(url)


def authorization(site: Site, token: str | None) -> list[tuple[bytes, bytes]]:
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


async def _read(response: httpx.Response) -> bytes:
    # We ask for no compression; a backend that compresses all the same is understood, at httpx's price.
    is_encoded = any(name.lower() == b"content-encoding" for name, _ in response.headers.raw)
    chunks: AsyncIterator[bytes] = response.aiter_bytes() if is_encoded else response.stream.__aiter__()  # type: ignore[union-attr]
    body = b""
    async for chunk in chunks:
        body = body + chunk if body else chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise BackendError(f"answer longer than {MAX_ANSWER_BYTES} bytes", "AnswerTooLong")
    return body
