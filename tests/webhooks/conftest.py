"""Senders of sites on a real Valkey, without a server around them, and a receiver of their POSTs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from app.backends.hook_poster import HookPoster
from app.config.settings import Site, WebhookSettings
from app.observe.counts import Counts
from app.redis.client import Redis
from app.store.queues import RedisQueues
from app.webhooks.redis_outbox import HookOutbox
from app.webhooks.site_sender import SiteSender
from tests.support.hook_receiver import SECRET, HookReceiver
from tests.support.store import address_of, make_site
from tests.support.valkey import Valkey


class HookNode:
    """One node that sends for one site. `close` ends it as an operator does, `vanish` as a kill does."""

    def __init__(self, valkey: Valkey, site: Site, name: str, journal_backlog: int) -> None:
        """Called by the fixture `new_node`."""
        self.site = site
        self.redis = Redis(address_of(valkey), 2.0, journal_backlog=journal_backlog)
        self.queues = RedisQueues(self.redis, name, 1_000)
        self.outbox = HookOutbox(self.redis, name, site)
        self.counts = Counts()
        self.sender = SiteSender(site, self.outbox, HookPoster(), self.counts)
        self._numbers = iter(range(1_000_000))
        self.is_closed = False

    async def start(self) -> None:
        """Begins to send."""
        await self.redis.start()
        await self.outbox.set_up()
        self.sender.start()

    async def close(self) -> None:
        """Ends it; other nodes take over at once."""
        if not self.is_closed:
            self.is_closed = True
            await self.sender.finish()
            await self.sender.close()
            await self.redis.close()

    async def vanish(self) -> None:
        """Ends it without a word to Redis."""
        self.is_closed = True
        await self.redis.close()
        await self.sender.close()

    async def come(self, user: str) -> None:
        """An event `user.online`, and before it a `user.offline` unless this is the user's first: the grace is 0."""
        number = next(self._numbers)
        registration = await self.queues.connect(self.site, number, "d", [user])
        await self.queues.disconnect(self.site, number, [(device.handle, 0) for device in registration.devices])
        self.sender.wake()


def hooked_site(receiver: HookReceiver, name: str = "shop", **settings: Any) -> Site:
    """A site whose webhook hears of users, and has no grace."""
    given = {"url": receiver.url, "secrets": (SECRET,), "events": ("user.online", "user.offline")}
    more = {"offline_grace_seconds": 0, "allow_private": True}
    return make_site(name, webhook=WebhookSettings(**{**given, **more, **settings}))


@pytest.fixture
async def receiver() -> AsyncIterator[HookReceiver]:
    """A receiver that answers 200."""
    receiver = HookReceiver()
    await receiver.start()
    yield receiver
    receiver.gate.set()
    await receiver.stop()


NewNode = Callable[..., HookNode]


@pytest.fixture
async def new_node(valkey: Valkey) -> AsyncIterator[NewNode]:
    """Makes nodes, to be started by the test and ended by the fixture."""
    made: list[HookNode] = []

    def make(site: Site, name: str = "aa", journal_backlog: int = 0) -> HookNode:
        made.append(HookNode(valkey, site, name, journal_backlog))
        return made[-1]

    yield make
    for node in made:
        await node.close()
