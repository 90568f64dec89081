"""Exchanges through aiohttp, for authUrl: a connect waits for it, and aiohttp costs half as much as httpx."""

import ssl
from functools import lru_cache

import aiohttp
from yarl import URL

from app.backends import exchange
from app.backends.exchange import BackendAnswer, BackendError, Header, read_within_bound, reason_of

REASONS: exchange.Reasons = {
    **exchange.REASONS,
    aiohttp.ClientConnectionError: "connection failed",
    aiohttp.ClientPayloadError: "connection failed",
    aiohttp.ClientHttpProxyError: "connection failed",
    aiohttp.ClientError: "not an HTTP answer",
    aiohttp.http_exceptions.ContentEncodingError: "answer could not be decoded",
    aiohttp.InvalidURL: "the URL is not usable",
    aiohttp.NonHttpUrlClientError: "the URL is not usable",
}


class FastPool:
    """A `BackendPool`, for headers of ASCII alone: aiohttp sends a Latin-1 header as UTF-8. Lives until `close`."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=exchange.MAX_CONNECTIONS_PER_SITE, keepalive_timeout=exchange.KEEPALIVE_SECONDS, ssl=context
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("accept", "accept-encoding", "user-agent", "content-type"),
        )

    async def exchange(self, method: str, url: str, headers: list[Header], content: bytes) -> BackendAnswer:
        """See `BackendPool`."""
        texts = [(name.decode(), value.decode()) for name, value in headers]
        try:
            async with self._session.request(
                method, _parsed(url), headers=texts, data=content or None, allow_redirects=False
            ) as response:
                is_read = response.status == 200
                body = await read_within_bound(response.content.iter_any()) if is_read else b""
                return BackendAnswer(response.status, body)
        except tuple(REASONS) as error:
            # A body that cannot be decoded is hidden behind ClientPayloadError.
            cause = error.__cause__
            named = cause if isinstance(cause, aiohttp.http_exceptions.ContentEncodingError) else error
            raise BackendError(reason_of(named, REASONS), exchange.cause_of(named), was_answered=False) from None

    async def close(self) -> None:
        """See `BackendPool`."""
        await self._session.close()


@lru_cache(maxsize=1024)
def _parsed(url: str) -> URL:
    try:
        return URL(url)
    except ValueError as error:
        raise aiohttp.InvalidURL(url) from error
