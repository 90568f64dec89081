"""The facts of each node for operators: each node writes its own into Redis, with an expiry, so that a node that was
killed is not shown for long."""

import asyncio
import contextlib
from collections.abc import Callable

import msgspec
from msgspec import Struct

from app.errors import StoreError
from app.redis.client import Commands
from app.store.keys import NODES, node_facts
from app.watched_tasks import start_watched

_WRITE_SECONDS = 2.0
#: A node that has not written for this long is shown no more.
EXPIRY_MS = 7_000
#: Nodes that one list looks at, those with the newest beats.
MOST_NODES = 1_000


class ShownCertificate(Struct, frozen=True):
    """The certificate of a node that ends TLS itself. Times are in ms since the epoch."""

    subject: str
    issuer: str
    names: list[str]
    valid_from: int
    valid_until: int


class NodeFacts(Struct, frozen=True):
    """A node at one moment."""

    node: str
    #: The time of these facts, and that of the node's start, in ms since the epoch.
    at: int
    started_at: int
    host: str
    pid: int
    #: Its number among the processes behind one port, and how many these are; one alone has the number 0.
    worker: int
    workers: int
    #: Whether a supervisor starts it again when it ends.
    is_supervised: bool
    #: `ready`, `not ready` or `draining`.
    state: str
    log_level: str
    #: The share of one processor since the facts before.
    cpu: float
    memory_bytes: int
    #: How late the timers of the event loop were since the facts before, on average, and the bound of the longest.
    lag_ms: float
    longest_lag_ms: float
    sessions: int
    connections: int
    #: See `versions`.
    versions: dict[str, str]
    #: None: the node speaks plain HTTP.
    certificate: ShownCertificate | None = None


_decoder = msgspec.json.Decoder(NodeFacts)


class FactsWriter:
    """Lives as long as the node: `start` begins to write, `close` takes the facts out."""

    def __init__(self, redis: Commands, node: str, gather: Callable[[], NodeFacts]) -> None:
        self._redis = redis
        self._key = node_facts(node)
        self._gather = gather
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Writes from now on."""
        self._task = start_watched(self._keep_writing(), "node facts")

    async def close(self) -> None:
        """Ends it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            with contextlib.suppress(StoreError):
                await self._redis.command("DEL", self._key)

    async def write(self) -> None:
        """Writes the facts of now. Raises StoreError."""
        await self._redis.command("SET", self._key, msgspec.json.encode(self._gather()), "PX", EXPIRY_MS)

    async def _keep_writing(self) -> None:
        while True:
            # Without Redis nobody reads them.
            with contextlib.suppress(StoreError):
                await self.write()
            await asyncio.sleep(_WRITE_SECONDS)


async def living_nodes(redis: Commands) -> list[NodeFacts]:
    """The nodes that have written lately, in order of their hosts and numbers. Raises StoreError."""
    names: list[bytes] = await redis.command("ZREVRANGE", NODES, 0, MOST_NODES - 1)
    answers = await asyncio.gather(*(redis.command("GET", node_facts(name.decode())) for name in names))
    found = [facts for text in answers if text is not None and (facts := _read(text)) is not None]
    return sorted(found, key=lambda facts: (facts.host, facts.worker, facts.started_at))


async def facts_of(redis: Commands, node: str) -> NodeFacts | None:
    """The facts of one node; None: it is not there. Raises StoreError."""
    text = await redis.command("GET", node_facts(node))
    return _read(text) if text is not None else None


def _read(text: bytes) -> NodeFacts | None:
    """None for the facts of a version that is too different."""
    try:
        return _decoder.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        return None
