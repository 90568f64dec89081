"""`TopicStore` on Redis: each method is a run of a script `lua/topics_*.lua`; see `redis_keys.py`."""

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any

from app.config.settings import Site
from app.protocols.topics.topic_store import Closed, Departure, Extension, Opened
from app.redis.client import Commands
from app.redis.link import Word
from app.store.keys import prefix
from app.surrogates import decode_text, encode_text

MAX_REGISTRATIONS = 100_000
#: The lifetime of an answer to another node, and the largest number of answers to one question.
_ANSWER_MS = 10_000
_MAX_ANSWERS = 1_000
_CLIENTS_PER_RUN = 500
_CONNECTION_PATTERNS = "wc"


class RedisTopics:
    """The state of topics in Redis, for one node. Holds no state but the link; lives as long as the node."""

    def __init__(self, redis: Commands, node: str) -> None:
        self._redis = redis
        self._node = node

    async def open(self, site: Site, client: str, streams: int, secret: bytes, timeout_ms: int) -> Opened:
        """Registers a stream; see `TopicStore`."""
        names = (_topic_of(client), _CONNECTION_PATTERNS)
        words: list[Word] = [self._node, encode_text(client), streams, secret, timeout_ms, *names]
        number, instances, is_watched = await self._run("topics_open", site, *words)
        return Opened(int(number), instances, is_watched == b"1")

    async def close(self, site: Site, client: str, streams: int, number: int | None) -> Closed:
        """Takes out an ended stream; see `TopicStore`."""
        names = (_topic_of(client), _CONNECTION_PATTERNS)
        words: list[Word] = [self._node, encode_text(client), streams, "" if number is None else number, *names]
        instances, is_watched = await self._run("topics_close", site, *words)
        return Closed(instances, is_watched == b"1")

    async def extend(
        self, site: Site, number: int, secret: bytes, new_secret: bytes, timeout_ms: int, at_most: int
    ) -> Extension:
        """Extends a stream; see `TopicStore`."""
        answer = await self._run("topics_extend", site, number, secret, new_secret, timeout_ms, at_most)
        return Extension(answer.decode())

    async def remaining_ms(self, site: Site, number: int) -> int:
        """The remaining time of a stream; see `TopicStore`."""
        return int(await self._run("topics_remaining", site, number))

    async def bury(self, site: Site, node: str) -> tuple[bool, Sequence[Departure]]:
        """Takes out a part of a dead node's streams; see `TopicStore`."""
        has_more, *found = await self._run("topics_bury", site, node, _CLIENTS_PER_RUN)
        pairs = zip(found[::2], found[1::2], strict=True)
        return bool(has_more), [Departure(decode_text(client), instances) for client, instances in pairs]

    async def restore(self, site: Site, streams: Mapping[str, int]) -> None:
        """Writes this node's counts again; see `TopicStore`."""
        clients = list(streams)
        for start in range(0, max(1, len(clients)), _CLIENTS_PER_RUN):
            part: list[Word] = []
            for client in clients[start : start + _CLIENTS_PER_RUN]:
                # Read the count now: streams may have begun and ended since the previous part.
                if count := streams.get(client):
                    part += (encode_text(client), count)
            await self._run("topics_clients", site, "restore", self._node, int(start == 0), *part)

    async def instances(self, site: Site, client: str) -> int:
        """The number of a client's streams; see `TopicStore`."""
        return int(await self._run("topics_clients", site, "one", encode_text(client)))

    async def next_number(self, site: Site) -> int:
        """The number of the next stream; see `TopicStore`."""
        return int(await self._run("topics_clients", site, "next"))

    async def clients(self, site: Site) -> dict[str, int]:
        """The number of streams of each client; see `TopicStore`."""
        sums: dict[str, int] = {}
        for node in await self._run("topics_clients", site, "nodes"):
            # HSCAN may answer a client twice.
            of_node: dict[bytes, int] = {}
            cursor = b"0"
            while True:
                cursor, found = await self._run("topics_clients", site, "part", node, cursor, _CLIENTS_PER_RUN)
                of_node.update(zip(found[::2], map(int, found[1::2]), strict=True))
                if cursor == b"0":
                    break
            for client, count in of_node.items():
                sums[decode_text(client)] = sums.get(decode_text(client), 0) + count
        return sums

    async def register(self, site: Site, topic: str, registration: bytes) -> bool:
        """Keeps a registration; see `TopicStore`."""
        words: list[Word] = ["put", topic, registration, MAX_REGISTRATIONS]
        return bool(await self._run("topics_registry", site, *words))

    async def registrations(self, site: Site, topics: Sequence[str]) -> list[bytes | None]:
        """The registrations of topics; see `TopicStore`."""
        found: list[bytes | None] = await self._run("topics_registry", site, "get", *topics)
        return found

    async def unregister(self, site: Site, topic: str) -> bool:
        """Forgets a registration; see `TopicStore`."""
        return bool(await self._run("topics_registry", site, "delete", topic))

    async def see(self, site: Site, mark: bytes, ttl_ms: int) -> bool:
        """Whether the mark is new; see `TopicStore`."""
        return bool(await self._run("topics_notes", site, "see", mark, ttl_ms))

    async def answer(self, site: Site, question: str, answer: bytes) -> None:
        """Answers another node; see `TopicStore`."""
        await self._run("topics_notes", site, "answer", question, answer, _ANSWER_MS, _MAX_ANSWERS)

    async def answers(self, site: Site, question: str) -> list[bytes]:
        """The answers so far; see `TopicStore`."""
        found: list[bytes] = await self._run("topics_notes", site, "answers", question)
        return found

    def _run(self, script: str, site: Site, *words: Word) -> Awaitable[Any]:
        return self._redis.run(script, prefix(site.name), *words)


def _topic_of(client: str) -> bytes:
    return b"t:@CONNECTION@/" + encode_text(client)
