"""How this node hears of messages: one subscription to its own channel, watched by a probe and made anew."""

import asyncio
from time import monotonic
from typing import Any

import msgspec
import structlog

from app.core.message import LiveMessage
from app.core.ports import BusListener
from app.errors import StoreUnavailable
from app.observe.counts import Durations
from app.store.audience import parse_head
from app.store.keys import bus_channel
from app.store.link import Link
from app.store.redis import Redis, retry

PROBE_SECONDS = 1.0
_PROBE = b"probe "
#: Without a probe's echo for so long the subscription is given up: a node must not stay deaf.
DEAF_AFTER_SECONDS = 3.0

_log = structlog.get_logger(__name__)
_rooms_decoder = msgspec.json.Decoder(list[str])


class Bus:
    """The subscription of one node. Lives as long as the node: `start` subscribes, `close` ends it."""

    def __init__(self, redis: Redis, node: str, listener: BusListener, probe_seconds: Durations | None = None) -> None:
        """`probe_seconds` is told how long each probe took."""
        self._redis = redis
        self._channel = bus_channel(node)
        self._listener = listener
        self._link: Link | None = None
        self._broken = asyncio.Event()
        self._heard_at = 0.0
        self._probe_seconds = probe_seconds or Durations()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Subscribes. Raises StoreUnavailable when Redis is away."""
        await self._subscribe()
        self._tasks = [
            asyncio.create_task(self._keep_subscribed(), name="bus subscribe"),
            asyncio.create_task(self._probe(), name="bus probe"),
        ]

    async def close(self) -> None:
        """Ends the subscription."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._link is not None:
            self._link.abort()

    @property
    def is_hearing(self) -> bool:
        """Whether a probe came back lately. May be asked from any thread."""
        return self._link is not None and monotonic() - self._heard_at < DEAF_AFTER_SECONDS

    async def _subscribe(self) -> None:
        link = await Link.open(
            self._redis.address, self._redis.timeout_seconds, on_lost=self._link_lost, on_push=self._receive
        )
        try:
            async with asyncio.timeout(self._redis.timeout_seconds):
                await link.command("SUBSCRIBE", self._channel)
        except TimeoutError as error:
            link.abort()
            raise StoreUnavailable(f"Redis at {self._redis.address} does not answer") from error
        except BaseException:  # refused, or given up by who waits for it
            link.abort()
            raise
        if not link.is_open:
            # It broke behind the answer, before anybody watched it.
            raise StoreUnavailable(f"Redis at {self._redis.address} has closed the connection")
        self._heard_at = monotonic()
        self._link = link

    def _link_lost(self, link: Link) -> None:
        if link is self._link:
            self._link = None
            self._broken.set()

    async def _keep_subscribed(self) -> None:
        while True:
            await self._broken.wait()
            self._broken.clear()
            await retry(self._subscribe)
            _log.warning("bus subscribed anew")
            self._listener.bus_interrupted()

    async def _probe(self) -> None:
        while True:
            await asyncio.sleep(PROBE_SECONDS)
            self._redis.command("PUBLISH", self._channel, _PROBE + str(monotonic()).encode()).add_done_callback(_ignore)
            if self._link is not None and monotonic() - self._heard_at > DEAF_AFTER_SECONDS:
                _log.error("bus deaf", seconds=DEAF_AFTER_SECONDS)
                self._link.abort()

    def _receive(self, push: list[Any]) -> None:
        if push[0] != b"message":
            return
        self._heard_at = monotonic()
        data: bytes = push[2]
        if data.startswith(_PROBE):
            self._probe_seconds.observe(self._heard_at - float(data[len(_PROBE) :]))
        else:
            site, counter, message = parse(data)
            self._listener.message_published(site, counter, message)


def parse(data: bytes) -> tuple[str, int, LiveMessage]:
    """A bus message (see `tell` in lua/_shared.lua): its site, its counter and what it carries."""
    kind, site, counter, seq, id_, recipients, resync, body = data.split(b"\n", 7)
    message = LiveMessage(int(seq), id_.decode(), body)
    if kind == b"audience":
        message.audience = parse_head(recipients)
    elif kind == b"rooms":
        message.rooms = _rooms_decoder.decode(recipients)
    else:
        message.recipients = recipients.split(b",") if recipients else ()
        message.resync_recipients = resync.split(b",") if resync else ()
    return site.decode(), int(counter), message


def _ignore(answer: "asyncio.Future[Any]") -> None:
    if not answer.cancelled():
        answer.exception()
