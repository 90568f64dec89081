"""A subscription that is kept alive: watched by a probe, given up when it is deaf, and made again by retry.

Does not know what messages mean: the owner names its channels and gets the messages that are published there.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

import structlog

from app.errors import StoreError, StoreUnavailable
from app.observe.counts import Durations
from app.redis.address import Address
from app.redis.client import Commands, Redis, retry
from app.redis.link import Link
from app.watched_tasks import start_watched

PROBE_SECONDS = 1.0
#: A subscription without an echo of a probe for this long is given up: a node must not stay deaf.
DEAF_AFTER_SECONDS = 3.0
_PROBE = b"probe "
_MESSAGES = frozenset((b"message", b"smessage"))

_log = structlog.get_logger(__name__)


class Subscription:
    """A link that is subscribed to the channels that its owner wants. `start` or `begin` subscribes, `close` ends it.

    Messages of a new subscription are held until `on_made` has returned. Otherwise an owner that does not know of the
    interruption yet would take the first message after it for the next one, and never ask for those in between.
    """

    def __init__(
        self,
        name: str,
        commands: Commands,
        channels: Callable[[], Sequence[str]],
        on_message: Callable[[bytes], None],
        probe_seconds: Durations | None = None,
        is_sharded: bool = False,
    ) -> None:
        """`name` stands in log lines. `channels` is asked again before each probe: the answer may change.

        The subscription is made at the first of the servers of `commands`; probes are published through `commands`, and
        `probe_seconds` counts how long each one takes. With `is_sharded` the channels are those of sharded pub/sub.
        """
        self._name = name
        self._commands = commands
        self._wanted = channels
        self._on_message = on_message
        self._probe_seconds = probe_seconds or Durations()
        self._prefix = "S" if is_sharded else ""
        #: Called for each new subscription but that of `start`: messages that were published before it are missing.
        self.on_made: Callable[[], None] = _ignore
        #: Called when the subscription breaks.
        self.on_lost: Callable[[], None] = _ignore
        #: Called with channel and payload of a message that a pattern matched; see `command`.
        self.on_matched: Callable[[bytes, bytes], None] = _ignore
        #: The channels of the subscription, or of the attempt that is under way.
        self._channels: list[str] = []
        #: The server of the link, and the address that it had then.
        self._server: Redis | None = None
        self._address: Address | None = None
        self._link: Link | None = None
        self._heard_at = 0.0
        #: Set while there is a reason to subscribe.
        self._broken = asyncio.Event()
        #: Messages that arrived before `on_made` was called.
        self._early: list[bytes] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        #: Counts the errors that the owner has raised for a message or a call, by the name of the subscription.
        self.faults: Counter[str] = Counter()

    async def start(self) -> None:
        """Subscribes, and keeps the subscription alive from then on. Raises StoreUnavailable when Redis is away."""
        await self._subscribe()
        self._hand_on_early()
        self._keep()

    def begin(self) -> None:
        """Subscribes in the background, with retry; returns at once."""
        self._broken.set()
        self._keep()

    async def close(self) -> None:
        """Ends the subscription."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.give_up()

    @property
    def is_hearing(self) -> bool:
        """Whether a probe came back lately, or the owner wants no channel."""
        if self._link is None:
            return not self._wanted()
        return monotonic() - self._heard_at < DEAF_AFTER_SECONDS

    def give_up(self) -> None:
        """Ends the link; until `close` a new subscription follows."""
        if self._link is not None:
            self._link.abort()

    def renew(self) -> None:
        """Subscribes again if the owner wants other channels by now, or if the server is at another address."""
        is_elsewhere = self._link is not None and self._server is not None and self._server.address != self._address
        if is_elsewhere or self._channels != list(self._wanted()):
            if self._link is not None:
                self._link.abort()
            else:
                self._broken.set()

    async def extend(self) -> None:
        """Subscribes also to the channels that the owner wants by now, without a gap in those that it has.

        Where that fails, and while there is no link, the next subscription is to all of them."""
        wanted, known, link = list(self._wanted()), set(self._channels), self._link
        more = [channel for channel in wanted if channel not in known]
        if link is None or not more:
            self.renew()
            return
        self._channels = wanted
        try:
            await self._answers(link, self._prefix + "SUBSCRIBE", more)
        except StoreError:
            link.abort()

    async def command(self, name: str, *targets: str) -> None:
        """Gives a command of pub/sub on the link, once for each target. Raises StoreUnavailable."""
        if self._link is None:
            raise StoreUnavailable()
        await self._answers(self._link, name, targets)

    async def _answers(self, link: Link, name: str, targets: Sequence[str]) -> None:
        try:
            async with asyncio.timeout(self._commands.timeout_seconds):
                # One command for each target: Redis confirms each by itself, and in a Cluster a command may name
                # channels of one slot only.
                await asyncio.gather(*(link.command(name, target) for target in targets))
        except TimeoutError as error:
            link.abort()
            raise StoreUnavailable("Redis does not answer") from error

    def _keep(self) -> None:
        self._tasks = [
            start_watched(self._keep_subscribed(), f"{self._name} subscribe"),
            start_watched(self._keep_probing(), f"{self._name} probe"),
        ]

    async def _keep_subscribed(self) -> None:
        while True:
            await self._broken.wait()
            await retry(self._subscribe)
            if self._channels:
                self._guard(self.on_made)
                self._hand_on_early()

    async def _subscribe(self) -> None:
        # First: the owner may want other channels, or the link may break, while the attempt is under way.
        self._broken.clear()
        self._channels = list(self._wanted())
        if self._link is not None:
            link, self._link = self._link, None
            link.abort()
            self._guard(self.on_lost)
        if self._channels:
            self._early = []
            link = await self._open(self._channels)
            self._heard_at = monotonic()
            self._link = link

    async def _open(self, channels: Sequence[str]) -> Link:
        server = next(iter(self._commands.shards), None)
        if server is None:
            raise StoreUnavailable()
        address, timeout_seconds = server.address, self._commands.timeout_seconds
        link = await Link.open(address, timeout_seconds, on_lost=self._link_lost, on_push=self._receive)
        link.on_refusal = server.refused
        try:
            await self._answers(link, self._prefix + "SUBSCRIBE", channels)
        except BaseException:  # Redis refused, or the caller was cancelled
            link.abort()
            raise
        if not link.is_open:
            # It broke after the answer, before anybody watched it.
            raise StoreUnavailable(f"Redis at {address} has closed the connection")
        self._server, self._address = server, address
        return link

    def _link_lost(self, link: Link) -> None:
        if link is self._link:
            self._link = None
            self._broken.set()
            self._guard(self.on_lost)

    async def _keep_probing(self) -> None:
        while True:
            await asyncio.sleep(PROBE_SECONDS)
            self.renew()
            if self._channels:
                self._probe(self._channels[0])

    def _probe(self, channel: str) -> None:
        """Sends this node a message from itself; gives up the subscription if the last ones did not arrive."""
        self._commands.command(self._prefix + "PUBLISH", channel, _PROBE + str(monotonic()).encode())
        if self._link is not None and monotonic() - self._heard_at > DEAF_AFTER_SECONDS:
            _log.error(f"{self._name} deaf", address=str(self._address), channel=channel, seconds=DEAF_AFTER_SECONDS)
            self._link.abort()

    def _receive(self, push: list[Any]) -> None:
        if push[0] in _MESSAGES:
            self._heard_at = monotonic()
            if self._early is None:
                self._hand_on(push[2])
            else:
                self._early.append(push[2])
        elif push[0] == b"pmessage":
            self._guard(self.on_matched, push[2], push[3])
        elif push[0] == b"sunsubscribe" and self._link is not None:
            # A slot has left this primary, and with it the channels of its sites.
            self._link.abort()

    def _hand_on_early(self) -> None:
        early, self._early = self._early, None
        for data in early or ():
            self._hand_on(data)

    def _hand_on(self, data: bytes) -> None:
        if not data.startswith(_PROBE):
            self._guard(self._on_message, data)
            return
        # Anybody with the channel's name can publish something that begins like a probe.
        with contextlib.suppress(ValueError):
            self._probe_seconds.observe(monotonic() - float(data[len(_PROBE) :]))

    def _guard(self, call: Callable[..., None], *arguments: bytes) -> None:
        """Calls the owner. An error is the owner's alone: the link, and with it all other messages, goes on."""
        try:
            call(*arguments)
        except Exception:
            self.faults[self._name] += 1
            _log.exception(f"{self._name} listener failed")


def _ignore(*_: object) -> None:
    """For owners that do not ask."""
