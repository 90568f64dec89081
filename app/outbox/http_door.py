"""POSTs messages of the outbox to a server's /send, on connections that stay open. Knows no SQL."""

import asyncio
from collections.abc import Mapping
from functools import partial
from urllib.parse import quote

from app.backends.exact_pool import default_context
from app.backends.exchange import BackendError, Header, cause_of
from app.backends.lean_wire import LeanWire
from app.backends.lean_wires import Addresses, LeanWires, connect, head_of
from app.backends.sender import RunningServer
from app.outbox.row import CommittedMessage, SendReply

#: For the whole of a request; the server itself gives up earlier.
POST_SECONDS = 15.0
#: The part of an answer that is read.
MAX_ANSWER_BYTES = 4_096
_KEEPALIVE_SECONDS = 30.0
#: The longest time that a server may ask for.
LONGEST_RETRY_AFTER_SECONDS = 60.0
_HEADERS = [(b"accept", b"application/json"), (b"content-type", b"application/json"), (b"user-agent", b"recado")]


class SendDoor:
    """The way to a server. Lives until `close`."""

    def __init__(self, server: RunningServer, api_keys: Mapping[str, str]) -> None:
        """`api_keys` has the key of each site. Raises BackendError."""
        origin, self._target, host = server.origin("/send")
        trust = server.trust()
        context = default_context() if isinstance(trust, bool) else trust
        self._wires = LeanWires(
            partial(connect, Addresses(origin), partial(LeanWire, MAX_ANSWER_BYTES), context), _KEEPALIVE_SECONDS
        )
        own = [(b"host", host), *_HEADERS]
        self._headers = {site: [*own, (b"x-api-key", key.encode())] for site, key in api_keys.items()}

    async def post(self, message: CommittedMessage, outbox: str, body: bytes) -> SendReply:
        """The answer to a message, whose number in its outbox is its idempotency key; never raises for what a server
        does, or does not."""
        request = self._head_of(message, outbox, body) + body
        try:
            async with asyncio.timeout(POST_SECONDS):
                # The idempotency key allows a second try.
                answer = await self._wires.ask(request, may_repeat=True)
        except BackendError as error:
            return SendReply(0, f"no answer from the server: {error} ({error.cause})")
        except (OSError, UnicodeError, TimeoutError) as error:
            return SendReply(0, f"no answer from the server: {cause_of(error)}")
        headers = {name.lower(): value for name, value in answer.headers}
        text = answer.body[:MAX_ANSWER_BYTES].decode("utf-8", "replace")
        return SendReply(
            answer.status, text, _seconds(headers.get(b"retry-after", b"")), b"idempotent-replayed" in headers
        )

    def close(self) -> None:
        """Closes every connection."""
        self._wires.close()

    def _head_of(self, message: CommittedMessage, outbox: str, body: bytes) -> bytes:
        resync = "&resync=true" if message.resync else ""
        target = self._target + f"?site={quote(message.site, safe='')}{resync}".encode()
        headers: list[Header] = [
            *self._headers[message.site],
            (b"idempotency-key", f"outbox-{outbox}-{message.id}".encode()),
            (b"content-length", b"%d" % len(body)),
        ]
        return head_of(b"POST", target, headers)


def _seconds(value: bytes) -> float:
    """The value of Retry-After where it is a number of seconds."""
    return min(float(value), LONGEST_RETRY_AFTER_SECONDS) if value.isdigit() and len(value) < 10 else 0.0
