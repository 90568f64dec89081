"""Messages to very many devices: stored in parts, and accepted for all devices at once. See lua/_large.lua.

One script run for all of them would hold Redis for seconds, so that all tenants wait and nodes give up their links.
"""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any

import msgspec
import structlog

from app.core.address import addresses
from app.core.message import Message
from app.errors import StoreAway, StoreUnavailable
from app.store.audience import audience_words

#: Above so many devices a message is stored in parts.
LARGE_FROM = 5_000
#: Devices of one run: some 6 ms of Redis's time.
_PART = 1_000
#: Of so many rooms it pays to read all devices' states at once.
_MOST_ADDRESSES = 4
_RETRY_SECONDS = 0.05
#: How long a send waits for another message that is being stored in parts.
_PATIENCE_SECONDS = 30.0
#: The lease of a message, without its renewal: see LARGE_LEASE_MS in lua/_large.lua.
LEASE_SECONDS = 3.0

#: Runs a script for a site.
Run = Callable[..., Awaitable[Any]]

_log = structlog.get_logger(__name__)


class LargeSends:
    """The large messages of one node. Lives as long as the node; a message goes on when its caller is cancelled."""

    def __init__(self, run: Run, max_message_bytes: int) -> None:
        self._run = run
        self._max_message_bytes = max_message_bytes
        self._tasks: set[asyncio.Task[Any]] = set()
        #: Milliseconds since the epoch for scripts; see `RedisQueues.now_ms`.
        self.now_ms: int | str = ""
        self.large_from = LARGE_FROM
        self.part = _PART

    async def finish(self, message: Message, answer: Any, send_again: Callable[[], Awaitable[Any]]) -> Any:
        """The final answer of a send: waits while another message is stored in parts, and stores this one in parts if
        it is large. Raises StoreUnavailable when it is not stored."""
        patience = monotonic() + _PATIENCE_SECONDS
        while answer[0] == b"busy":
            if monotonic() > patience:
                raise StoreUnavailable("Another message of this site is being stored.")
            await asyncio.sleep(_RETRY_SECONDS)
            answer = await send_again()
        if answer[0] != b"large":
            return answer
        task = asyncio.create_task(self._fan_out(message), name="large message")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def _fan_out(self, message: Message) -> Any:
        began = monotonic()
        try:
            answer = await self._store(message)
        except StoreUnavailable:
            answer = await self._abort(message)
        if answer is None:
            raise StoreUnavailable("The message was not stored in time.")
        tells = await self._tell(message)
        seconds = round(monotonic() - began, 3)
        _log.info("large message stored", site=message.site.name, message=message.id, seconds=seconds)
        return [*answer[:4], answer[4] + tells, *answer[5:]]

    async def _store(self, message: Message) -> Any:
        """Stores it for all devices and accepts it. None when it was ended by another run."""
        limit, connected = message.site.queue_limit, []
        bounds = (limit.messages, limit.bytes, self._max_message_bytes)
        for address in addresses(message.site, message.rooms):
            cursor = b"0"
            while True:
                words = (self.now_ms, message.id, address, cursor, self.part, *bounds)
                answer = await self._run("fan_out_store", message.site, *words)
                if answer is None:
                    return None
                cursor, waited_for = answer
                connected += [waited_for] if waited_for else []
                if cursor == b"0":
                    break
        audiences = audience_words(message.audiences)
        answer = await self._run("fan_out_commit", message.site, self.now_ms, message.id, *audiences)
        return answer and [*answer, b",".join(connected)]

    async def _abort(self, message: Message) -> Any:
        """Ends it, unless it was accepted: then this is the answer. Raises StoreUnavailable while nobody can say."""
        sent = await self._insist(lambda: self._run("fan_out_abort", message.site, message.id))
        if sent is None:
            return None
        seq, *numbers = msgspec.json.decode(sent)
        return [seq.encode(), *numbers]

    async def _tell(self, message: Message) -> int:
        """Tells the nodes; answers how often a node was handed a part."""
        told = tells = 0
        where = addresses(message.site, message.rooms)
        where = where if len(where) <= _MOST_ADDRESSES else []
        try:
            while True:
                words = (self.now_ms, message.id, told, self.part, *where)
                count, handed = await self._insist(lambda: self._run("fan_out_tell", message.site, *words))  # noqa: B023
                if not count:
                    return tells
                told += count
                tells += handed
        except StoreUnavailable:
            # It is stored for all. Nodes hear of a gap as soon as another run ends it, and read their queues.
            _log.warning("large message not told", site=message.site.name, message=message.id)
            return tells

    async def _insist(self, attempt: Callable[[], Awaitable[Any]]) -> Any:
        """Retries for as long as the message has a lease."""
        end = monotonic() + LEASE_SECONDS
        while True:
            try:
                return await attempt()
            except StoreUnavailable as error:
                if monotonic() > end:
                    raise
                await asyncio.sleep(_RETRY_SECONDS if isinstance(error, StoreAway) else 0)
