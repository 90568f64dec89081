"""The streams that get an event on one node, the form in which it is written, and the removal of ended streams."""

from __future__ import annotations

from typing import cast

import pytest

from app.protocols.topics.frames import Encoding, Event
from app.protocols.topics.index import TopicIndex
from app.protocols.topics.notice import Emitted, Listeners
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
    assert counts_of(Emitted("a", listeners=Listeners.of(["u"]))) == [0, 1, 0, 0, 1]
    assert counts_of(Emitted("a", listeners=Listeners.of(["+"]))) == [0, 1, 1, 0, 1]
    assert counts_of(Emitted("a", listeners=Listeners.of(["*"]))) == [1, 1, 1, 1, 2]
    assert counts_of(Emitted("a", listeners=Listeners.of([]))) == [0, 0, 0, 0, 0]


def steps_of(index: TopicIndex, *to: Emitted) -> list[int]:
    """The costs of the steps in which an event is written."""
    return list(index.writing(EVENT, to, 0.0))


@pytest.mark.parametrize("encoding", list(Encoding))
def test_an_event_is_written_in_steps(encoding: Encoding) -> None:
    """Between two steps a bounded number of streams is written to: of one topic, or of many that a wildcard reaches."""
    index = TopicIndex()
    many = [stream_in(index, "a", encoding=encoding) for _ in range(1_000)]
    wide = stream_in(index, *(f"b/{number}" for number in range(1_000)), encoding=encoding)
    for emitted in ("a", "b/+", "#"):
        written = 0
        for _ in index.writing(EVENT, [Emitted(emitted)], 0.0):
            before, written = written, sum(len(one._written) for one in (*many, wide))
            assert written - before <= 128, emitted
            for one in (*many, wide):
                one._written.clear()
            written = 0
    assert sum(steps_of(index, Emitted("a"))) >= 1_000
    assert sum(steps_of(index, Emitted("b/+"))) >= 5_000


def test_a_stream_that_ends_within_an_event() -> None:
    """A stream may end while an event is written to it, as one does whose outbox is full, and between two steps."""
    index = TopicIndex()
    streams = [stream_in(index, "a", "a/+", "#", is_chunked=number % 2 == 1) for number in range(4)]
    for response in streams:
        response.stream.write = lambda frame, ended=response.stream: index.remove(ended)  # type: ignore[misc]
    index.write(EVENT, [Emitted("a"), Emitted("a/#")], 0.0)
    assert dict(index.counts()) == {}
    late = stream_in(index, "a", "b", "c")
    steps = index.writing(EVENT, [Emitted("#"), Emitted("+")], 0.0)
    while len(late._written) < 2:
        next(steps)
    index.remove(late.stream)
    assert list(steps)
    assert late.events == late.events[:2]


def test_listeners_are_decoded_once_and_when_they_are_needed() -> None:
    """A node without streams of a binded topic does not decode the names of its listeners."""
    index = TopicIndex()
    stream_in(index, "b", "!c", user="u")
    elsewhere, here = Listeners.of(["u"]), Listeners.of(["u"])
    index.write(EVENT, [Emitted("a", listeners=elsewhere), Emitted("c", listeners=here)], 0.0)
    assert (elsewhere.is_packed, here.is_packed) == (True, False)
    assert here.names is here.names


def test_order_of_an_events_topics() -> None:
    """Exact topics are written in their order, and all patterns of an event in the place of the first one."""
    index = TopicIndex()
    stream = stream_in(index, "a", "b", "c")
    index.write(EVENT, [Emitted("b"), Emitted("+"), Emitted("a"), Emitted("#")], 0.0)
    pairs = [(event["ep"]["requested"], event["ep"]["emitted"]) for event in stream.events]
    assert (pairs[0], pairs[-1]) == (("b", "b"), ("a", "a"))
    assert sorted(pairs[1:-1]) == [(topic, pattern) for topic in "abc" for pattern in "#+"]
    assert [emitted for _, emitted in pairs[1:-1]] == ["+", "#"] * 3


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
