"""One node's part of Redis PUBLISH inside the test's process: mailboxes, mailroom and feed, with scripted clients."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any

from app.config.settings import Site
from app.protocols.redis_publish.envelope import Envelopes
from app.protocols.redis_publish.figures import RedisPublishCounts
from app.protocols.redis_publish.mailbox_ports import Letter
from app.protocols.redis_publish.mailroom import Mailroom
from app.protocols.redis_publish.recipient import Recipient, RecipientPhase
from app.protocols.redis_publish.redis_feed import PublishFeed
from app.protocols.redis_publish.redis_mailboxes import RedisMailboxes
from app.protocols.redis_publish.settings import RedisPublish
from app.redis.client import Redis
from tests.support.store import address_of
from tests.support.valkey import Valkey
from tests.support.waiting import until

FAR_MS = 2**50
_numbers = itertools.count(1)


def publish_site(**settings: Any) -> Site:
    """A site with Redis PUBLISH; `settings` are those of the site and of `redis_publish`."""
    own = {name: settings.pop(name) for name in list(settings) if name in RedisPublish.__struct_fields__}
    return Site(name="news", api_key="k", sections={RedisPublish: RedisPublish(**own)}, **settings)


class PublishClient:
    """A client that records what is written to it; it confirms receipt when the test calls `answer`."""

    def __init__(self) -> None:
        self.log_name = f"c{next(_numbers)}"
        self.origin: str | None = None
        self.state: Any = None
        self.holds_session = True
        self.is_closed = False
        #: ("message", payload, bubble, ack id) and every other event, in order.
        self.written: list[tuple[Any, ...]] = []
        self.receipts: list[Callable[[], None]] = []
        #: Called when the server ends the connection.
        self.on_end: Callable[[], None] = lambda: None

    @property
    def session(self) -> PublishClient:
        """The client itself stands for its transport."""
        return self

    @property
    def transport(self) -> str:
        """A transport of its own."""
        return "memory"

    @property
    def buffered_bytes(self) -> int:
        """Nothing waits."""
        return 0

    def wire_bytes(self) -> tuple[int, int] | None:
        """Nobody counts them."""
        return None

    def confirm_receipt(self, received: Callable[[], None]) -> None:
        """Keep the callback."""
        self.receipts.append(received)

    def answer(self) -> bool:
        """Confirm that the client has received everything; return whether a confirmation was awaited."""
        was_asked = self.answer_once()
        self.answer_once()
        return was_asked

    def answer_once(self) -> bool:
        """Confirm that everything has arrived at the client's transport; return whether a confirmation was awaited."""
        asked, self.receipts = self.receipts, []
        for received in asked:
            received()
        return bool(asked)

    def limit_outbox(self, max_bytes: int) -> None:
        """Do nothing."""

    def allow_origins(self, origins: Collection[str] | None) -> bool:
        """Judge the one origin of this client."""
        return origins is None or self.origin is None or self.origin in origins

    def close(self, reason: str) -> None:
        """Record the end of the transport."""
        self.written.append(("close", reason))
        self._end()

    def confirm(self) -> None:
        """Record that the client was admitted."""
        self.written.append(("confirm",))

    def hold_session(self) -> None:
        """Let the session stay."""
        self.holds_session = True

    def refuse(self, message: str) -> None:
        """Record that the client was refused."""
        self.written.append(("refuse", message))

    def send_event(self, event: str, args: Sequence[Any]) -> None:
        """Record an event."""
        self.written.append((event, *args))

    def send_body(self, body: bytes, ack_id: int | None = None) -> None:
        """Record a message."""
        event, message = json.loads(body)
        self.written.append((event, message["payload"], message["bubble"], ack_id))

    def send_ack(self, ack_id: int, args: Sequence[Any]) -> None:
        """Record an ack."""
        self.written.append(("ack", ack_id, *args))

    def disconnect(self) -> None:
        """Record that the client was removed."""
        self.written.append(("disconnect",))
        self._end()

    @property
    def payloads(self) -> list[str]:
        """The payloads of the messages."""
        return [what[1] for what in self.written if what[0] == "message"]

    def _end(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self.on_end()


class PublishNode:
    """One node. Lives within `publish_nodes`, or until `kill`."""

    def __init__(self, valkey: Valkey, site: Site, name: str) -> None:
        """Create the node; `start` starts it."""
        self.name = name
        self.valkey = valkey
        self.settings = site.require_section(RedisPublish)
        self.counts = RedisPublishCounts()
        self.redis = Redis(address_of(valkey), 2.0)
        self.mailboxes = RedisMailboxes(self.redis, name, site, self.settings)
        self.mailroom = Mailroom(name, self.mailboxes, self.counts)
        self.feed = PublishFeed(self.redis, name, site, self.settings)
        self.feed.listener = self.mailroom
        self._envelopes = Envelopes()
        self._connections = itertools.count(1)

    async def start(self) -> None:
        """Connect to Redis and listen."""
        await self.redis.start()
        self.feed.start()
        await until(lambda: self.feed.is_hearing, "the feed")

    async def kill(self) -> None:
        """End as a killed process does: nothing is told to any other party."""
        await self.feed.close()
        await self.redis.close()

    def client(self) -> tuple[PublishClient, Recipient]:
        """A client that has joined the namespace."""
        client = PublishClient()
        recipient = Recipient(client, next(self._connections), self.settings.ack, 1_000, itertools.count(1))
        client.on_end = lambda: self.mailroom.close(recipient)
        return client, recipient

    async def open(self, user: str = "u") -> tuple[PublishClient, Recipient]:
        """A registered client of the user."""
        client, recipient = self.client()
        await self.mailroom.open(recipient, user)
        return client, recipient

    async def publish(self, payload: str, user: str = "u", **ids: str) -> str:
        """Deliver a message; return its outcome."""
        entry = self._envelopes.seal(f"rm.users.{user}", 1, payload.encode())
        return (await self.mailboxes.deliver(user, Letter(entry, **ids), FAR_MS)).result


@asynccontextmanager
async def publish_nodes(valkey: Valkey, site: Site, *names: str) -> AsyncIterator[list[PublishNode]]:
    """Nodes of one site; they end after the block."""
    nodes = [PublishNode(valkey, site, name) for name in names]
    for node in nodes:
        await node.start()
    try:
        yield nodes
    finally:
        for node in nodes:
            with contextlib.suppress(asyncio.CancelledError):
                await node.kill()


def waiting(valkey: Valkey, user: str = "u") -> list[str]:
    """The payloads that wait for a user."""
    client: Any = valkey.client
    return [json.loads(entry)["payload"] for entry in client.lrange(f"rm:users:{user}:messages", 0, -1)]


def is_live(recipient: Recipient) -> Callable[[], bool]:
    """Whether the recipient is live."""
    return lambda: recipient.phase is RecipientPhase.LIVE
