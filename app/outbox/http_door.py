"""POSTs messages of the outbox to a server's /send, on connections that stay open. Knows no SQL."""

import asyncio
import ssl
from collections.abc import Mapping
from urllib.parse import quote

import aiohttp
from yarl import URL

from app.backends.exchange import cause_of
from app.outbox.row import Answer, OutboxRow

#: For the whole of a request; the server itself gives up earlier.
POST_SECONDS = 15.0
#: The part of an answer that is read.
MAX_ANSWER_BYTES = 4_096
_KEEPALIVE_SECONDS = 30.0
#: The longest time that a server may ask for.
LONGEST_RETRY_AFTER_SECONDS = 60.0


class SendDoor:
    """The way to a server. Lives until `close`."""

    def __init__(self, url: str, api_keys: Mapping[str, str], trust: ssl.SSLContext | bool, connections: int) -> None:
        """`api_keys` has the key of each site."""
        self._urls = {site: f"{url.rstrip('/')}/send?site={quote(site, safe='')}" for site in api_keys}
        self._api_keys = api_keys
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections, keepalive_timeout=_KEEPALIVE_SECONDS, ssl=trust),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=POST_SECONDS),
            skip_auto_headers=("accept-encoding",),
        )

    async def post(self, row: OutboxRow, outbox: str, body: bytes) -> Answer:
        """The answer to a message, whose number in its outbox is its idempotency key; never raises for what a server
        does, or does not."""
        url = self._urls[row.site] + ("&resync=true" if row.resync else "")
        headers = {
            "Accept": "application/json",
            "Content-Type": "application/json",
            "Idempotency-Key": f"outbox-{outbox}-{row.id}",
            "User-Agent": "recado",
            "X-API-Key": self._api_keys[row.site],
        }
        try:
            async with self._session.post(
                URL(url, encoded=True), data=body, headers=headers, allow_redirects=False
            ) as response:
                text = (await _begin_of(response.content)).decode("utf-8", "replace")
                seconds = _seconds(response.headers.get("Retry-After", ""))
                return Answer(response.status, text, seconds, "Idempotent-Replayed" in response.headers)
        except (aiohttp.ClientError, OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as error:
            return Answer(0, f"no answer from the server: {cause_of(error)}")

    async def close(self) -> None:
        """Closes every connection."""
        await self._session.close()


async def _begin_of(content: aiohttp.StreamReader) -> bytes:
    """The answer's body up to the bound; it may arrive in parts."""
    begin = b""
    while len(begin) < MAX_ANSWER_BYTES and (part := await content.read(MAX_ANSWER_BYTES - len(begin))):
        begin += part
    return begin


def _seconds(text: str) -> float:
    """The value of Retry-After where it is a number of seconds."""
    is_number = text.isascii() and text.isdigit() and len(text) < 10
    return min(float(text), LONGEST_RETRY_AFTER_SECONDS) if is_number else 0.0
