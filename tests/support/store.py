"""The ground for tests of the store and the core: a real Valkey of their own, sites, whole nodes without sockets."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from app.config.settings import BatchLimit, QueueLimit, Site
from app.core.connection import Connection
from app.core.delivery import Delivery
from app.core.limits import Limits
from app.core.message import LiveMessage, Message
from app.core.ports import BuriedConnection
from app.observe.counts import Counts
from app.protocols.sites.redis_tickets import RedisTickets
from app.protocols.sites.tickets import Tickets
from app.redis.address import Address, read_redis_url
from app.redis.client import Redis
from app.redis.topology import new_redis
from app.store.bus import Bus
from app.store.keys import prefix
from app.store.nodes import Node, new_node_id
from app.store.queues import RedisQueues
from app.store.seats import RedisSeats
from tests.support.valkey import Valkey
from tests.support.waiting import until

MAX_MESSAGE_BYTES = 1_000_000
_ids = itertools.count(1)


@contextmanager
def running_valkey(is_durable: bool = False) -> Iterator[Valkey]:
    """A Valkey in a directory of its own, ended and removed after the block; a durable one survives a kill."""
    # The path of a unix socket may have 107 characters, so the directory's path is short.
    directory = Path(tempfile.mkdtemp(prefix="recado-"))
    try:
        server = Valkey(directory)
        try:
            if not is_durable:
                server.client.config_set("appendonly", "no")
            yield server
        finally:
            server.end()
    finally:
        shutil.rmtree(directory)


def address_of(server: Valkey) -> Address:
    """The address on which the server listens."""
    return Address(path=str(server.socket))


@asynccontextmanager
async def linked(server: Valkey, timeout_seconds: float = 2.0) -> AsyncIterator[Redis]:
    """One node's link to the server, closed after the block."""
    redis = Redis(address_of(server), timeout_seconds)
    await redis.start()
    try:
        yield redis
    finally:
        await redis.close()


#: Settings of `make_site` that are a protocol's section.
_SECTIONS = {"channels", "topics", "redis_publish", "resume_ticket", "pusher"}


def make_site(name: str = "shop", **settings: Any) -> Site:
    """A site with queues; a test sets smaller limits where it needs them."""
    defaults: dict[str, Any] = {"auth_url": "http://127.0.0.1/rooms", "api_key": "secret", "user_room_prefix": "user_"}
    sections = {type(given): given for given in map(settings.pop, _SECTIONS & settings.keys()) if given is not None}
    return Site(name=name, sections=sections, **(defaults | settings))


def limits(messages: int, size: int = 10_000_000, batch: int = 1_000, batch_bytes: int = 1_000_000) -> dict[str, Any]:
    """Settings for `make_site`: the limits of a queue and of a batch."""
    return {
        "queue_limit": QueueLimit(messages=messages, bytes=size),
        "batch_limit": BatchLimit(messages=batch, bytes=batch_bytes),
    }


def make_message(site: Site, rooms: str | Sequence[str], event: str = "news", **settings: Any) -> Message:
    """A message whose body is its event and a unique number."""
    number = next(_ids)
    rooms = [rooms] if isinstance(rooms, str) else rooms
    body = settings.pop("body", f'["{event}",{number}]'.encode())
    return Message(site, number, rooms, event, body, **settings)


class RecordingReceiver:
    """A client that records what is written to it, in order, as ("kind", ...). Lives as long as its connection."""

    def __init__(self) -> None:
        """Start with nothing written."""
        #: ("event", seq, body) | ("batch", batch id, bodies) | ("resync",) | ("close", reason) | ("greet",)
        self.written: list[tuple[Any, ...]] = []
        #: Called with each thing written, after it was recorded.
        self.on_write: Callable[[tuple[Any, ...]], None] = lambda what: None
        self.connection: Connection | None = None
        self.receipts: list[Callable[[], None]] = []

    def encode(self, message: LiveMessage) -> tuple[int, bytes]:
        """The value that is passed to `send`."""
        return message.seq, message.body

    def send(self, encoded: Any) -> None:
        """Record a message."""
        self._note("event", *encoded)

    def send_batch(self, batch_id: int, entries: Sequence[tuple[int, bytes]]) -> None:
        """Record a batch."""
        self._note("batch", batch_id, [body for _, body in entries])

    def send_withdrawn(self, id: str) -> None:
        """Record a `_withdraw`."""
        self._note("withdrawn", id)

    def send_whisper(self, body: bytes) -> None:
        """Record an event that is kept nowhere."""
        self._note("whisper", body)

    def send_resync(self, received: Callable[[], None], is_repeat: bool) -> None:
        """Record a `_resync`, and keep the callback for a test that confirms its receipt."""
        self.receipts.append(received)
        self._note("resync")

    def close(self, reason: str) -> None:
        """Record that the connection was ended."""
        self._note("close", reason)

    def greet(self) -> None:
        """Record the place of the greeting."""
        self._note("greet")

    @property
    def kinds(self) -> list[str]:
        """The kinds of everything written."""
        return [what[0] for what in self.written]

    @property
    def seqs(self) -> list[int]:
        """The seqs of the live messages."""
        return [what[1] for what in self.written if what[0] == "event"]

    @property
    def bodies(self) -> list[bytes]:
        """The bodies in the order written, including those of batches."""
        found: list[bytes] = []
        for what in self.written:
            found += what[2] if what[0] == "batch" else [what[2]] if what[0] == "event" else []
        return found

    @property
    def batches(self) -> list[tuple[int, list[bytes]]]:
        """The batches: id and bodies."""
        return [(what[1], what[2]) for what in self.written if what[0] == "batch"]

    def _note(self, *what: Any) -> None:
        self.written.append(what)
        self.on_write(what)


class StoreNode:
    """One node of a cluster, without sockets: store, bus and delivery on a real Valkey. `close` ends it."""

    def __init__(self, server: Valkey | str, sites: Sequence[Site]) -> None:
        """Called by `start`; `server` may be a URL that names several servers of one Redis."""
        location = read_redis_url(server) if isinstance(server, str) else address_of(server)
        self.redis = new_redis(location, 2.0)
        self.name = new_node_id()
        self.queues = RedisQueues(self.redis, self.name, MAX_MESSAGE_BYTES)
        self.counts = Counts()
        self.delivery = Delivery(sites, self.queues, self.counts)
        self.limits = Limits(RedisSeats(self.redis, self.name))
        self.delivery.on_interrupted.append(self.limits.restore)
        self.ticket_store = RedisTickets(self.redis)
        self.tickets = Tickets(self.ticket_store)
        self.bus = Bus(self.redis, self.name, self.delivery, sites=sites)
        self.bus.on_seq = self.queues.note_seq
        #: Connections of dead nodes that this node has buried, when the test starts `node`.
        self.buried: list[BuriedConnection] = []
        on_taken_for_dead = self.delivery.bus_interrupted
        self.node = Node(self.redis, self.queues, self.name, sites, on_taken_for_dead, self.buried.append)

    @classmethod
    async def start(cls, server: Valkey | str, sites: Sequence[Site]) -> StoreNode:
        """A node that hears the bus; it beats only if the test starts `node`."""
        self = cls(server, sites)
        await self.redis.start()
        await self.bus.start()
        return self

    async def close(self) -> None:
        """End it as a process ends: its connections are left for the heartbeat's clean-up."""
        await self.bus.close()
        await self.limits.close()
        await self.redis.close()

    async def open(self, site: Site, rooms: str | Sequence[str], device: str = "d") -> RecordingReceiver:
        """A registered connection of a user with these rooms."""
        receiver = self.receiver(site)
        assert receiver.connection
        rooms = [rooms] if isinstance(rooms, str) else rooms
        await self.delivery.open(receiver.connection, device, rooms, receiver.greet)
        return receiver

    def receiver(self, site: Site) -> RecordingReceiver:
        """A client whose connection is not opened yet."""
        receiver = RecordingReceiver()
        receiver.connection = self.delivery.new_connection(site, receiver)
        return receiver

    async def publish(self, site: Site, rooms: str | Sequence[str], event: str = "news", **settings: Any) -> bytes:
        """Send a message; return its body."""
        message = make_message(site, rooms, event, **settings)
        await self.delivery.publish(message)
        return message.body

    def close_connection(self, receiver: RecordingReceiver) -> None:
        """End the client's connection."""
        assert receiver.connection
        self.delivery.close(receiver.connection)

    def ack(self, receiver: RecordingReceiver, ack_id: int) -> None:
        """Acknowledge a message or a batch as the client."""
        assert receiver.connection
        receiver.connection.receive_ack(ack_id)


def device_of(server: Valkey, site: Site) -> dict[str, str]:
    """The only device of the site in Redis."""
    (device,) = [value for key, value in server.dump().items() if key.startswith(prefix(site.name) + "device:")]
    return dict(device)


def queue_of(server: Valkey, site: Site) -> list[str]:
    """The bodies that wait for the only device of the site."""
    dump = server.dump()
    queues = [value for key, value in dump.items() if key.startswith(prefix(site.name) + "queue:")]
    return [dump[f"{prefix(site.name)}body:{seq}"]["data"] for queue in queues for seq in queue]


async def settled(node: StoreNode) -> None:
    """Wait until everything that the node has begun to write is in Redis."""
    await node.delivery.drain()


async def heard(receiver: RecordingReceiver, count: int) -> list[bytes]:
    """The bodies written, once there are this many."""
    await until(lambda: len(receiver.bodies) >= count, f"{count} messages")
    return receiver.bodies


async def parts(receiver: RecordingReceiver, count: int) -> None:
    """Wait until this many batches were written."""
    await until(lambda: len(receiver.batches) >= count, f"{count} batches")
