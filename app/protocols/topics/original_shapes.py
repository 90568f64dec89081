"""The shapes of es-web-notify's /connections, /state and /memory, of which its own paths answer. Pure."""

import resource
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Raw

from app.protocols.topics.index import TopicIndex
from app.protocols.topics.stream import Stream

TOTAL = "@TOTAL@"
#: Stands for an object that is too deep to be shown.
_DEEP = "???"
_BOUND_PREFIX = "@bind@/"
_PAGE_BYTES = resource.getpagesize()


def total(counts: Mapping[str, int]) -> int:
    """The streams of all clients."""
    return sum(counts.values())


def with_total(counts: Mapping[str, int]) -> dict[str, int]:
    """The streams by client, and of all clients; nothing when there is none."""
    return {**counts, TOTAL: total(counts)} if counts else {}


def state_of(next_number: int, answers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The state of all nodes, from each node's part."""
    numbers: dict[str, str] = {}
    clients: dict[str, int] = {}
    topics: dict[str, str] = {}
    for answer in answers:
        numbers |= dict.fromkeys(answer.get("connections", ()), _DEEP)
        topics |= dict.fromkeys(answer.get("topics", ()), _DEEP)
        for client, count in answer.get("clids", {}).items():
            clients[client] = clients.get(client, 0) + count
    return {
        "nextId": next_number,
        "connections": numbers,
        "clids": with_total(clients),
        "clid_headers": dict.fromkeys(clients, _DEEP),
        "topics": topics,
    }


def original_topics(index: TopicIndex) -> Iterator[str]:
    """Each topic with streams, once; the binded ones have a prefix."""
    for group in index.groups():
        if group.plain:
            yield group.topic
        if group.binded:
            yield _BOUND_PREFIX + group.topic


def original_body(stream: Stream) -> dict[str, Any]:
    """The body of a subscription as es-web-notify shows it."""
    return body_of(stream, _points(stream))


def body_of(stream: Stream, points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The body of a subscription with its topics in this form, and with the fields that mean nothing here."""
    more = {name: Raw(text) for name, text in stream.caller.subscription.more.items()}
    return {**more, "clid": stream.client, "ep": points}


def _points(stream: Stream) -> list[dict[str, str]]:
    return [
        {"topic": _BOUND_PREFIX + wish.topic, "bind": stream.user}
        if wish.is_binded and stream.user is not None
        else {"topic": wish.topic}
        for wish in stream.caller.subscription.wishes
    ]


def kinds_of_node() -> dict[str, int]:
    """This process's memory in bytes, under the names that Node.js has for it."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return {"rss": rss, "heapTotal": rss, "heapUsed": rss, "external": 0, "arrayBuffers": 0}
    _, rss, shared, _, _, data, *_ = (int(pages) * _PAGE_BYTES for pages in statm.read_text().split())
    return {"rss": rss, "heapTotal": data, "heapUsed": rss - shared, "external": shared, "arrayBuffers": 0}


def in_words(answers: Iterable[Mapping[str, int]]) -> dict[str, str]:
    """The memory of all nodes together, as `12.34 MB`."""
    sums: dict[str, int] = {}
    for answer in answers:
        for kind, size in answer.items():
            sums[kind] = sums.get(kind, 0) + size
    return {kind: f"{round(size / 1024 / 1024, 2):.10g} MB" for kind, size in sums.items()}
