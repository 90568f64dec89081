"""The streams that get an event on one node, the form in which it is written, and the removal of ended streams."""

from __future__ import annotations

from typing import cast

from app.protocols.topics.frames import Encoding, Event
from app.protocols.topics.index import TopicIndex
from app.protocols.topics.notice import Emitted
from app.protocols.topics.stream import Keeper, Stream
from app.transport.streaming import StreamingResponse
from tests.protocols.topics.conftest import MemoryResponse, caller, topics_site

EVENT = Event(1, "t", b'{"type":"t"}', 7)


def stream_in(
    index: TopicIndex,
    *topics: str,
    user: str | None = None,
    encoding: Encoding = Encoding.FRAMES,
    is_chunked: bool = False,
) -> MemoryResponse:
    """A stream with these topics."""
    stream = Stream(cast(Keeper, None), caller(*topics, user=user, encoding=encoding), topics_site())
    stream.number = len(index.streams) + 1
    response = MemoryResponse()
    response.stream = stream
    response.is_chunked = is_chunked
    stream.answer_with(cast(StreamingResponse, response))
    index.add(stream)
    return response


def requested(response: MemoryResponse) -> list[str]:
    """The requested topics of the events received."""
    return [event["ep"]["requested"] for event in response.events]


def test_each_topic_once() -> None:
    """A stream gets an event once for each of its matching topics; other streams get nothing."""
    index = TopicIndex()
    one, two = stream_in(index, "a/b", "a/+", "#", "c"), stream_in(index, "a", "b/#")
    assert index.write(EVENT, [Emitted("a/b")], 5.0) == 3
    assert sorted(requested(one)) == ["#", "a/+", "a/b"]
    assert (two.events, one.stream.wrote_at, two.stream.wrote_at) == ([], 5.0, 0.0)
    assert index.write(EVENT, [Emitted("#")], 5.0) == 6
    assert index.write(EVENT, [], 5.0) == 0


def test_bytes_are_shared() -> None:
    """Streams with the same encoding and framing get the same bytes object; chunked and SSE streams get other bytes."""
    index = TopicIndex()
    ways = [(Encoding.FRAMES, False), (Encoding.FRAMES, False), (Encoding.FRAMES, True), (Encoding.SSE, False)]
    responses = [stream_in(index, "a", encoding=encoding, is_chunked=chunked) for encoding, chunked in ways]
    assert index.write(EVENT, [Emitted("a")], 0.0) == 4
    frames = [response._written[0] for response in responses]
    assert frames[0] is frames[1]
    assert frames[2] == b"%x\r\n%s\r\n" % (len(frames[0]), frames[0])
    assert frames[3].startswith(b"id: 7\nevent: t\ndata: ")


def test_id_is_on_the_last_part() -> None:
    """Of the parts that one event gives an SSE stream, only the last has the id."""
    index = TopicIndex()
    many = stream_in(index, "a", "+", "b", encoding=Encoding.SSE)
    single = stream_in(index, "b", encoding=Encoding.SSE)
    index.write(EVENT, [Emitted("a"), Emitted("b")], 0.0)
    parts = many.text.strip().split("\n\n")
    assert [part.startswith("id: 7") for part in parts] == [False, False, False, True]
    assert single.text.startswith("id: 7")


def test_whisper() -> None:
    """A whisper reaches one stream, if it has the topic; `origin` excludes one stream."""
    index = TopicIndex()
    one, two = stream_in(index, "a"), stream_in(index, "a")
    assert index.write(EVENT, [Emitted("a", whisper=1)], 0.0) == 1
    assert index.write(EVENT, [Emitted("b", whisper=1), Emitted("a", whisper=9)], 0.0) == 0
    assert (len(one.events), len(two.events)) == (1, 0)
    assert index.write(EVENT, [Emitted("a", origin=1)], 0.0) == 1
    assert (len(one.events), len(two.events)) == (1, 1)


def test_bound() -> None:
    """Binded events reach binded streams whose users may listen, and all streams where `*` may."""
    index = TopicIndex()
    plain, bound = stream_in(index, "a"), stream_in(index, "!a", user="u")
    other, unbound = stream_in(index, "!a", user="v"), stream_in(index, "!a")
    both = stream_in(index, "a", "!a", user="u")

    def counts_of(emitted: Emitted) -> list[int]:
        before = [len(response.events) for response in (plain, bound, other, unbound, both)]
        index.write(EVENT, [emitted], 0.0)
        after = [len(response.events) for response in (plain, bound, other, unbound, both)]
        return [late - early for early, late in zip(before, after, strict=True)]

    assert counts_of(Emitted("a")) == [1, 0, 0, 1, 1]
    assert counts_of(Emitted("a", subscribers=frozenset({"u"}))) == [0, 1, 0, 0, 1]
    assert counts_of(Emitted("a", subscribers=frozenset({"+"}))) == [0, 1, 1, 0, 1]
    assert counts_of(Emitted("a", subscribers=frozenset({"*"}))) == [1, 1, 1, 1, 2]
    assert counts_of(Emitted("a", subscribers=frozenset())) == [0, 0, 0, 0, 0]


def test_nothing_is_left() -> None:
    """When the last stream is removed the index is empty; a second removal has no effect."""
    index = TopicIndex()
    responses = [stream_in(index, "a", "a/+", "!a", user="u"), stream_in(index, "a", "#", encoding=Encoding.SSE)]
    assert dict(index.counts()) == {"a": 3, "a/+": 1, "#": 1}
    for response in responses:
        index.remove(response.stream)
        index.remove(response.stream)
    assert dict(index.counts()) == {}
    assert index.streams == {}
    assert index.write(EVENT, [Emitted("#"), Emitted("a")], 0.0) == 0
