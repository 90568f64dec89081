"""GET /connections, /state and /memory: sums over all nodes, each asked over the bus, for backends."""

import asyncio
import resource
import secrets
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import structlog

from app.core.delivery import Delivery
from app.core.errands import Errands
from app.core.message import Message
from app.ids import FlakeIds
from app.protocols.topics.exchange import JSON, Exchange, Header
from app.protocols.topics.notice import Question, question_to_all
from app.protocols.topics.open_status import SharedAnswers
from app.protocols.topics.original_shapes import (
    TOTAL,
    body_of,
    in_words,
    kinds_of_node,
    original_body,
    original_topics,
    state_of,
    total,
    with_total,
)
from app.protocols.topics.site_topics import SiteTopics
from app.protocols.topics.slices import Slices, Steps
from app.protocols.topics.stream import Stream
from app.protocols.topics.topic_store import TopicStore

#: The time for the other nodes to answer.
ANSWER_SECONDS = 1.0
_POLL_SECONDS = 0.01
#: The limits of one node's answer: topics of its state, connections and bytes of its details.
_MAX_TOPICS = 10_000
_MAX_DETAILS = 1_000
_MAX_DETAIL_BYTES = 1_000_000
#: The topics that are counted in one step; counts, and bytes of JSON, for one unit of `Slices`.
_TOPICS_A_STEP = 250
_COUNTS_OF_UNIT = 4
_BYTES_OF_UNIT = 200
_PAGE_BYTES = resource.getpagesize()

_T = TypeVar("_T")
#: An answer in JSON, with its further headers.
_Encoded = tuple[bytes, list[Header]]

_log = structlog.get_logger(__name__)


class Inspection:
    """The endpoints of all sites, and this node's answers to other nodes. Lives as long as the server."""

    def __init__(self, delivery: Delivery, store: TopicStore, ids: FlakeIds, node: str, slices: Slices) -> None:
        self._delivery = delivery
        self._slices = slices
        self._store = store
        self._ids = ids
        self._node = node
        self._errands = Errands()
        self._open_states = SharedAnswers[_Encoded]()

    async def connections(self, exchange: Exchange, topics: SiteTopics) -> None:
        """How many streams each client has; or one client's number; or the details of
        one client's streams. Raises StoreError."""
        client = exchange.query.get("clid")
        if client is None:
            counts = await self._store.clients(topics.site)
            await exchange.answer_json(with_total(counts) if exchange.is_mounted else {**counts, TOTAL: total(counts)})
        elif exchange.query.get("details") == "true":
            answers, more = await self._ask(topics, f"{_prefix(exchange)}details", client)
            await exchange.answer_json(
                {number: shown for answer in answers for number, shown in answer.items()}, more=more
            )
        else:
            counts = {TOTAL: total(await self._store.clients(topics.site))} if client == TOTAL else {}
            instances = counts.get(client) if counts else await self._store.instances(topics.site, client)
            await exchange.answer(200, str(instances).encode())

    async def state(self, exchange: Exchange, topics: SiteTopics) -> None:
        """Connections, clients and topics with their counts; without a key often the last ones. Raises StoreError."""
        ask = partial(self._original_state if exchange.is_mounted else self._state, topics)
        question = f"{topics.site.name} {_prefix(exchange)}state"
        body, more = await (self._open_states.get(question, ask) if exchange.is_open else ask())
        await exchange.answer(200, body, JSON, more)

    async def _state(self, topics: SiteTopics) -> _Encoded:
        answers, more = await self._ask(topics, "state")
        sums = await self._in_slices(topics, _summed(answers))
        connections = sum(answer["connections"] for answer in answers)
        return msgspec.json.encode({"connections": connections, **sums, "nodes": len(answers)}), more

    async def memory(self, exchange: Exchange, topics: SiteTopics) -> None:
        """The memory of each node's process in MB, by kind. Raises StoreError."""
        answers, more = await self._ask(topics, f"{_prefix(exchange)}memory")
        if exchange.is_mounted:
            await exchange.answer_json(in_words(answers), more=more)
            return
        await exchange.answer_json({answer["node"]: answer["memory"] for answer in answers}, more=more)

    def question_asked(self, topics: SiteTopics, question: Question) -> None:
        """Called by the hub: a node asks all nodes a question; this node answers through the store."""
        self._errands.start(self._answer(topics, question))

    async def _original_state(self, topics: SiteTopics) -> _Encoded:
        answers, more = await self._ask(topics, "original state")
        next_number = await self._store.next_number(topics.site)
        return msgspec.json.encode(state_of(next_number, answers)), more

    async def _answer(self, topics: SiteTopics, question: Question) -> None:
        answer = await self._in_slices(topics, self._answer_to(topics, question))
        await self._store.answer(topics.site, question.id, answer)

    def _answer_to(self, topics: SiteTopics, question: Question) -> Generator[int, None, bytes]:
        answer: Any
        match question.about:
            case "state":
                answer = yield from _state(topics)
            case "memory":
                answer = {"node": self._node, "memory": memory_mb()}
            case "original state":
                answer = yield from _original_state(topics)
            case "original memory":
                answer = kinds_of_node()
            case "original details":
                answer = yield from _details(topics, question.client, original_body)
            case _:
                answer = yield from _details(topics, question.client, _body)
        packed = msgspec.json.encode(answer)
        yield len(packed) // _BYTES_OF_UNIT
        return packed

    async def _in_slices(self, topics: SiteTopics, steps: Generator[int, None, _T]) -> _T:
        """The result of work that may be long, where many such requests come at once."""
        found: list[_T] = []

        def keep() -> Steps:
            found.append((yield from steps))

        await self._slices.finish(topics.site.name, keep())
        return found[0]

    async def _ask(self, topics: SiteTopics, about: str, client: str = "") -> tuple[list[Any], list[Header]]:
        """The answers of all nodes that answered in time, and a header with the number of nodes asked."""
        question = Question(secrets.token_hex(8), about, client)
        message = Message(topics.site, self._ids.next_id(), (), about, b'["?"]', audiences=(question_to_all(question),))
        asked = (await self._delivery.publish(message)).audience_nodes
        answers: list[bytes] = []
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                while len(answers) < asked:
                    await asyncio.sleep(_POLL_SECONDS)
                    answers = await self._store.answers(topics.site, question.id)
        except TimeoutError:
            _log.warning("nodes did not answer", site=topics.site.name, about=about, missing=asked - len(answers))
        decoded = await self._in_slices(topics, _decoded(answers))
        return decoded, [(b"recado-nodes", b"%d/%d" % (len(answers), asked))]


def _decoded(answers: Sequence[bytes]) -> Generator[int, None, list[Any]]:
    decoded = []
    for answer in answers:
        decoded.append(msgspec.json.decode(answer))
        yield len(answer) // _BYTES_OF_UNIT
    return decoded


def _summed(answers: Sequence[Mapping[str, Any]]) -> Generator[int, None, dict[str, Counter[str]]]:
    sums: dict[str, Counter[str]] = {"clients": Counter(), "topics": Counter()}
    for answer in answers:
        for kind, counts in sums.items():
            counts.update(answer[kind])
            yield len(answer[kind]) // _COUNTS_OF_UNIT
    return sums


def _state(topics: SiteTopics) -> Generator[int, None, dict[str, Any]]:
    # A copy: streams may come and go between the steps.
    groups = list(islice(topics.index.groups(), _MAX_TOPICS))
    counts: dict[str, int] = {}
    for start in range(0, len(groups), _TOPICS_A_STEP):
        part = groups[start : start + _TOPICS_A_STEP]
        counts.update((group.topic, len(group)) for group in part)
        yield len(part)
    return {
        "connections": sum(topics.clients.values()),
        "clients": dict(islice(topics.clients.items(), _MAX_TOPICS)),
        "topics": counts,
    }


def _original_state(topics: SiteTopics) -> Generator[int, None, dict[str, Any]]:
    """This node's part of es-web-notify's /state."""
    state = {
        "connections": [str(stream.number) for stream in islice(topics, _MAX_TOPICS)],
        "clids": dict(islice(topics.clients.items(), _MAX_TOPICS)),
        "topics": list(islice(original_topics(topics.index), _MAX_TOPICS)),
    }
    yield len(state["connections"]) + len(state["topics"])
    return state


def _details(
    topics: SiteTopics, client: str, body_of: Callable[[Stream], dict[str, Any]]
) -> Generator[int, None, dict[str, Any]]:
    shown: dict[str, Any] = {}
    left = _MAX_DETAIL_BYTES
    for stream in list(islice((stream for stream in topics if stream.client == client), _MAX_DETAILS)):
        detail = {"headers": _headers(stream), "body": body_of(stream)}
        size = len(msgspec.json.encode(detail))
        left -= size
        if left < 0:
            break
        shown[str(stream.number)] = detail
        yield 10 + size // _BYTES_OF_UNIT
    return shown


def _headers(stream: Stream) -> dict[str, str]:
    lines = (line.partition(": ") for line in stream.caller.headers.decode("latin-1").splitlines())
    return {name: value for name, _, value in lines}


def _body(stream: Stream) -> dict[str, Any]:
    points = [
        {"topic": wish.topic, "binded": True} if wish.is_binded else {"topic": wish.topic}
        for wish in stream.caller.subscription.wishes
    ]
    return body_of(stream, points)


def _prefix(exchange: Exchange) -> str:
    """Before a question whose answers have the shapes of es-web-notify."""
    return "original " if exchange.is_mounted else ""


def memory_mb() -> dict[str, float]:
    """This process's memory by kind: the peak of resident memory, and the present
    values where the system reports them."""
    kinds = {"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
    statm = Path("/proc/self/statm")
    if statm.exists():
        virtual, resident, shared = (int(pages) * _PAGE_BYTES for pages in statm.read_text().split()[:3])
        kinds |= {"rss": resident, "shared": shared, "virtual": virtual}
    return {kind: round(size / 1024 / 1024, 2) for kind, size in kinds.items()}
