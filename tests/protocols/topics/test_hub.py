"""The life of a stream on real nodes: joining, history, live phase, deadlines, end; and the events about its client."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import Generator
from typing import Any, cast

import pytest

from app.config.settings import HistoryLimit
from app.core import catch_up
from app.core.message import LiveMessage
from app.digests import digest
from app.errors import StoreUnavailable
from app.protocols.topics import hub as module
from app.protocols.topics import presence as presence_module
from app.protocols.topics import site_topics, slices
from app.protocols.topics.frames import Encoding
from app.protocols.topics.notice import Emitted, audience
from app.protocols.topics.settings import Topics
from app.protocols.topics.stream import Stream
from app.transport.streaming import StreamingResponse
from tests.protocols.topics.conftest import HubNode, MemoryResponse, StartHub, caller, topics_site
from tests.support.valkey import Valkey
from tests.support.waiting import until

SITE = topics_site(topics=Topics())


def held_by(stream: Stream) -> list[LiveMessage]:
    """The messages that are kept until the stream is live."""
    return stream.held._messages if stream.held is not None else []


def message_of(node: HubNode, detail: object, topic: str) -> LiveMessage:
    """A message as the bus brings it."""
    message = LiveMessage(1, "1", json.dumps(["t", detail]).encode())
    message.audience = audience([Emitted(topic)], None)
    return message


async def test_nothing_falls_between_joining_and_live(start_hub: StartHub) -> None:
    """An event emitted after `join` has returned is written after the greeting, once and in order."""
    node: HubNode = await start_hub(SITE)
    stream, secret = await node.hub.join(node.topics, caller("a", "b/+"))
    await node.emit(1, "a")
    await node.emit(2, "b/c")
    await until(lambda: len(held_by(stream)) == 2, "both")
    response = await node.begin(stream, secret)
    await node.emit(3, "a")
    await until(lambda: response.details == [1, 2, 3], "all")
    assert response.events[0]["e"]["detail"] == {"connid": stream.number, "secret": secret, "timeout": 60_000}


async def test_too_much_between(start_hub: StartHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that misses an event before it is live gets `_resync` and then live events."""
    monkeypatch.setattr(catch_up, "MAX_MESSAGES", 1)
    node: HubNode = await start_hub(SITE)
    stream, secret = await node.hub.join(node.topics, caller("a"))
    await node.emit(1, "a")
    await node.emit(2, "a")
    await until(lambda: stream.held is not None and stream.held.has_gap, "too much")
    response = await node.begin(stream, secret)
    await node.emit(3, "a")
    await until(lambda: response.details == ["_resync", 3], "the rest")
    assert node.topics.counts.resyncs["topics"] == 1


@pytest.mark.parametrize("bound", ["MAX_MESSAGES", "MAX_BYTES"])
@pytest.mark.parametrize("messages", [50, 4])
async def test_too_much_while_the_history_is_read(
    start_hub: StartHub, monkeypatch: pytest.MonkeyPatch, bound: str, messages: int
) -> None:
    """Messages past the bound are read from the history, once and in order; `_resync` stands where the history does not
    hold them any more."""
    monkeypatch.setattr(catch_up, bound, 3)
    node: HubNode = await start_hub(topics_site(topics=Topics(history=HistoryLimit(messages=messages, seconds=60))))
    first = await node.emit("known", "a")
    stream, secret = await node.hub.join(node.topics, caller("a"))
    read = node.hub._audiences.history
    sent: list[int] = []

    async def read_slowly(*arguments: Any) -> Any:
        history = await read(*arguments)
        if len(sent) < 10:
            for number in range(len(sent), len(sent) + 5):
                sent.append(number)
                await node.emit(number, "a")
            await until(lambda: stream.held is not None and stream.held.has_gap, "too much")
        return history

    monkeypatch.setattr(node.hub._audiences, "history", read_slowly)
    response = await node.begin(stream, secret, first)
    await node.emit("live", "a")
    await until(lambda: response.details[-1:] == ["live"], "the live one")
    expected = [*sent, "live"] if messages == 50 else ["_resync", 1, 2, 3, 4, "_resync", 6, 7, 8, 9, "live"]
    assert response.details == expected


async def test_history_in_parts(start_hub: StartHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long history is written in parts; events emitted meanwhile follow."""
    monkeypatch.setattr(module, "_HISTORY_MESSAGES", 3)
    node: HubNode = await start_hub(SITE)
    first = await node.emit("known", "a")
    for number in range(10):
        await node.emit(number, "a")
        await node.emit("not for it", "b")
    response = await node.open(caller("a", encoding=Encoding.SSE), first)
    assert response.details == list(range(10))
    assert response.text.count("id: ") == 10
    slow = await node.hub.join(node.topics, caller("a", encoding=Encoding.SSE))
    beginning = asyncio.create_task(node.begin(*slow, after_seq=first))
    await node.emit("live", "a")
    response = await beginning
    await until(lambda: response.details == [*range(10), "live"], "the rest")


async def test_others_have_their_turn_within_a_history(start_hub: StartHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message is written once for each topic that it matches: the messages of a page are no single turn."""
    monkeypatch.setattr(slices, "UNITS_A_TURN", 1)
    node: HubNode = await start_hub(SITE)
    first = await node.emit("known", "a")
    for number in range(5):
        await node.emit(number, "a")
    turns = itertools.count()
    written_in: list[int] = []

    async def turn() -> None:
        while True:
            next(turns)
            await asyncio.sleep(0)

    def steps(*arguments: Any) -> Generator[int, None, int]:
        written_in.append(next(turns))
        return (yield from site_topics.message_steps(*arguments))

    others = asyncio.create_task(turn())
    monkeypatch.setattr(module, "message_steps", steps)
    response = await node.open(caller("a"), first)
    others.cancel()
    assert response.details == list(range(5))
    assert all(later - earlier > 1 for earlier, later in itertools.pairwise(written_in))


class Turns:
    """Counts the turns of the loop, and the writes to streams in each. Lives for one test."""

    def __init__(self) -> None:
        self.writes: Counter[int] = Counter()
        self._turn = 0
        self._counting = asyncio.create_task(self._count())

    def watch(self, response: MemoryResponse) -> None:
        """Count the writes to a stream."""
        write = response.stream.write

        def counted(frame: bytes) -> None:
            self.writes[self._turn] += 1
            write(frame)

        response.stream.write = counted

    def end(self) -> int:
        """Count no more; return the most writes in a turn."""
        self._counting.cancel()
        return max(self.writes.values())

    async def _count(self) -> None:
        while True:
            await asyncio.sleep(0)
            self._turn += 1


async def test_others_have_their_turn_within_an_event(start_hub: StartHub) -> None:
    """An event with wildcards that reaches thousands of topics is written over many turns of the loop, once to each
    topic of each stream; the next event of the site is behind it, for a stream that goes live meanwhile too."""
    node: HubNode = await start_hub(SITE)
    streams = [await node.open(caller("all", *(f"a{number}/{place}" for number in range(500)))) for place in range(4)]
    turns = Turns()
    for response in streams:
        turns.watch(response)
    late = await node.hub.join(node.topics, caller("all", "late/0"))
    await node.emit("wide", "#", "+/+")
    await node.emit("next", "all")
    await until(lambda: node.topics.figures.deliveries > 0 or bool(turns.writes), "the begin")
    response = await node.begin(*late)
    await until(lambda: all(one.details[-1] == "next" for one in (*streams, response)), "the end")
    assert turns.end() <= slices.UNITS_A_TURN / 4
    for one in streams:
        assert one.details == ["wide"] * (2 * 500 + 1) + ["next"]
    assert response.details == ["wide"] * 3 + ["next"]


async def test_others_have_their_turn_while_a_stream_goes_live(start_hub: StartHub) -> None:
    """Held events are written over many turns of the loop, in order; events that come live meanwhile follow."""
    node: HubNode = await start_hub(SITE)
    stream, secret = await node.hub.join(node.topics, caller(*(f"a/{number}" for number in range(200))))
    for number in range(20):
        await node.emit(number, "a/+")
    await until(lambda: len(held_by(stream)) == 20, "all")
    other = await node.open(caller("a/1"))
    turns = Turns()
    response = MemoryResponse()
    response.stream = stream
    wrapped = response.write_frame
    seen: list[bytes] = []

    def counted(frame: bytes) -> None:
        turns.writes[turns._turn] += 1
        seen.append(frame)
        wrapped(frame)

    response.write_frame = counted  # type: ignore[method-assign]
    beginning = asyncio.create_task(node.hub.begin(stream, secret, cast(StreamingResponse, response), None))
    await until(lambda: len(seen) > 200, "the begin")
    for number in range(20, 25):
        await node.emit(number, "a/+")
    await beginning
    await node.emit(25, "a/1")
    await until(lambda: response.details[-1:] == [25] and other.details[-1:] == [25], "the end")
    assert turns.end() <= slices.UNITS_A_TURN / 4
    assert response.details == [number for number in range(25) for _ in range(200)] + [25]
    assert other.details == list(range(20, 26))


@pytest.mark.parametrize("reads_history", [True, False])
async def test_too_much_while_the_held_events_are_written(
    start_hub: StartHub, monkeypatch: pytest.MonkeyPatch, reads_history: bool
) -> None:
    """A stream that misses events while it writes the held ones reads them from the history, if it asked for one;
    otherwise it gets `_resync`."""
    monkeypatch.setattr(catch_up, "MAX_MESSAGES", 3)
    node: HubNode = await start_hub(SITE)
    first = await node.emit("known", "a")
    stream, secret = await node.hub.join(node.topics, caller("a"))
    read, finish, emitted = node.hub._audiences.history, node.hub.slices.finish, 0

    async def emit() -> None:
        nonlocal emitted
        emitted += 1
        await node.emit(emitted, "a")
        await until(lambda: held_by(stream) or stream.held is None or stream.held.has_gap, "the event")

    async def read_and_miss(*arguments: Any) -> Any:
        history = await read(*arguments)
        if not emitted:
            await emit()
        return history

    async def finish_slowly(*arguments: Any) -> None:
        await finish(*arguments)
        while emitted < 10:
            await emit()

    monkeypatch.setattr(node.hub._audiences, "history", read_and_miss)
    monkeypatch.setattr(node.hub.slices, "finish", finish_slowly)
    if not reads_history:
        await emit()
    response = await node.begin(stream, secret, first if reads_history else None)
    expected = [*range(1, 11)] if reads_history else [1, "_resync"]
    await until(lambda: response.details == expected, "all")


async def test_a_gap_is_filled_no_faster_than_it_is_written(
    start_hub: StartHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an interruption of the bus a long history is read page by page as it is written: nothing is lost of it."""
    monkeypatch.setattr(slices, "UNITS_A_TURN", 1)
    monkeypatch.setattr(slices, "MAX_EVENTS", 5)
    node: HubNode = await start_hub(SITE)
    response = await node.open(caller("a", "a/#", "+"))
    await node.emit(0, "a")
    await until(lambda: len(response.details) == 3, "the first")
    lost: list[LiveMessage] = []
    with monkeypatch.context() as patch:
        patch.setattr(node.hub._audiences, "hear", lambda _site, message: lost.append(message))
        for number in range(1, 30):
            await node.emit(number, "a")
        await until(lambda: len(lost) == 29, "all")
    history = node.hub._audiences.history
    monkeypatch.setattr(node.hub._audiences, "history", lambda site, seq: history(site, seq, 4))
    node.node.delivery.bus_interrupted()
    await until(lambda: response.details[-1:] == [29] and len(response.details) == 90, "the rest")
    assert response.details == [number for number in range(30) for _ in range(3)]


async def test_events_that_are_lost(start_hub: StartHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """When too many events wait, every stream gets `_resync` in their place, and the events behind it."""
    monkeypatch.setattr(slices, "MAX_EVENTS", 2)
    node: HubNode = await start_hub(SITE)
    streams = [await node.open(caller("all", *(f"a{number}" for number in range(900)))) for _ in range(3)]
    for number in range(3):
        node.hub.published(SITE, message_of(node, number, "#"))
    # A stream that goes live now is behind the lost events too.
    late = await node.open(caller("all"))
    node.hub.published(SITE, message_of(node, "next", "all"))
    await until(lambda: all(one.details[-1:] == ["next"] for one in streams), "the end")
    for one in streams:
        assert one.details[-2:] == ["_resync", "next"]
    assert late.details[-1] == "next"
    assert node.topics.counts.resyncs["topics"] >= 3


@pytest.mark.parametrize("leaves", [False, True])
async def test_slow_reader_of_history(start_hub: StartHub, monkeypatch: pytest.MonkeyPatch, leaves: bool) -> None:
    """The next part waits until a slow client has read; a client that leaves meanwhile gets no more."""
    monkeypatch.setattr(module, "_HISTORY_MESSAGES", 1)
    node: HubNode = await start_hub(SITE)
    first = await node.emit("known", "a")
    for number in range(3):
        await node.emit(number, "a")
    stream, secret = await node.hub.join(node.topics, caller("a"))
    beginning = asyncio.create_task(node.begin(stream, secret, first, is_slow=True))
    await until(lambda: stream._drained is not None, "the first part")
    assert not beginning.done()
    if leaves:
        stream.stream_ended("client left")
    else:
        assert isinstance(stream._response, MemoryResponse)
        stream._response.is_slow = False
        stream.stream_drained()
    written = await beginning
    assert written.details == ([0] if leaves else [0, 1, 2])
    assert node.topics.figures.streams == (0 if leaves else 1)


async def test_page_that_is_gone(start_hub: StartHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the history is trimmed faster than a slow client reads it, `_resync` stands where events are missing."""
    monkeypatch.setattr(module, "_HISTORY_MESSAGES", 1)
    node: HubNode = await start_hub(topics_site(topics=Topics(history=HistoryLimit(messages=3, seconds=60))))
    first = await node.emit("known", "a")
    for number in range(2):
        await node.emit(number, "a")
    stream, secret = await node.hub.join(node.topics, caller("a"))
    beginning = asyncio.create_task(node.begin(stream, secret, first, is_slow=True))
    await until(lambda: stream._drained is not None, "the first part")
    for number in range(2, 6):
        await node.emit(number, "a")
    assert isinstance(stream._response, MemoryResponse)
    stream._response.is_slow = False
    stream.stream_drained()
    assert (await beginning).details == [0, "_resync", 3, 4, 5]


async def test_history_that_is_not_enough(start_hub: StartHub) -> None:
    """`_resync` precedes the events that the history still holds; a whisper is not replayed to another stream."""
    node: HubNode = await start_hub(topics_site(topics=Topics(history=HistoryLimit(messages=2, seconds=60))))
    first = await node.emit("known", "a")
    for number in range(4):
        await node.emit(number, "a")
    response = await node.open(caller("a"), first)
    assert response.details == ["_resync", 2, 3]
    await node.emit("secret", Emitted("a", whisper=response.stream.number))
    last = await node.emit("end", "a")
    again = await node.open(caller("a"), last - 2)
    assert again.details == ["end"]


async def test_missed(start_hub: StartHub) -> None:
    """After a loss every live stream gets `_resync` at once, and every joining one when it is live."""
    node: HubNode = await start_hub(SITE)
    live = await node.open(caller("a"))
    joining = await node.hub.join(node.topics, caller("a"))
    node.hub.missed(SITE)
    assert live.details == ["_resync"]
    assert (await node.begin(*joining)).details == ["_resync"]


async def test_end_leaves_nothing(start_hub: StartHub) -> None:
    """An ended stream is in no count and hears nothing, and its node has left its audiences."""
    node: HubNode = await start_hub(SITE)
    response = await node.open(caller("a", "b/#", "!c", user="u"))
    assert dict(node.topics.index.counts()) == {"a": 1, "b/#": 1, "c": 1}
    response.end("enough")
    await node.emit(1, "a")
    await node.hub.drained()
    assert response.details == []
    assert dict(node.topics.index.counts()) == {}
    assert (dict(node.topics.clients), node.topics.figures.streams) == ({}, 0)
    assert await node.store.clients(SITE) == {}
    assert node.topics.figures.stream_ends == {"enough": 1}
    await node.node.delivery.drain()
    joined = await node.node.redis.command("SMEMBERS", f"recado:{{shop}}:joined:{node.node.name}")
    assert joined == {b"audience:topics:n"} or joined == [b"audience:topics:n"]


async def test_join_that_fails(start_hub: StartHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the store refuses the stream, the node keeps nothing of it, and its place is free."""
    node: HubNode = await start_hub(SITE)
    freed: list[object] = []
    node.hub.on_caller_gone = freed.append

    async def fail(*_: object) -> None:
        raise StoreUnavailable

    for broken in (node.store, node.hub._audiences):
        with monkeypatch.context() as patch:
            patch.setattr(broken, "open" if broken is node.store else "join", fail)
            with pytest.raises(StoreUnavailable):
                await node.hub.join(node.topics, caller("a"))
    await node.hub.drained()
    assert len(freed) == 2
    assert (list(node.topics), dict(node.topics.clients), node.topics.figures.streams) == ([], {}, 0)
    await node.hub.drain(0)
    with pytest.raises(StoreUnavailable, match="stops"):
        await node.hub.join(node.topics, caller("a"))
    assert len(freed) == 3


async def test_response_that_never_began(start_hub: StartHub) -> None:
    """A stream whose client left before the response began is removed like any other."""
    node: HubNode = await start_hub(SITE)
    stream, _ = await node.hub.join(node.topics, caller("a"))
    node.hub.give_up(stream, "client left")
    assert (list(node.topics), node.topics.figures.stream_ends) == ([], {"client left": 1})


async def test_deadlines(start_hub: StartHub) -> None:
    """A silent stream gets keep-alives, and ends at its time-out unless it was extended in the store."""
    node: HubNode = await start_hub(topics_site(topics=Topics(connection_timeout_seconds=2.0, keep_alive_seconds=0.3)))
    short = await node.open(caller("a"))
    extended = await node.open(caller("a", encoding=Encoding.SSE))
    number, secret = extended.stream.number, extended.events[0]["e"]["detail"]["secret"]
    await node.store.extend(node.site, number, digest(secret), b"new", 60_000, 1)
    await until(lambda: short.reason == "timeout", "the end")
    assert "''0''" in short.text
    assert "\n:\n\n" in extended.text
    await asyncio.sleep(0)
    assert extended.reason is None


async def test_presence(start_hub: StartHub) -> None:
    """The connect and disconnect of a client reach its watchers on any node, and not the client's own stream."""
    one: HubNode = await start_hub(SITE)
    two: HubNode = await start_hub(SITE)
    watcher = await one.open(caller("@CONNECTION@/x", "@CONNECTION@/+", client="w"))
    assert watcher.details == ["available"]
    stream = await two.open(caller("@CONNECTION@/x", client="x"))
    assert stream.details == ["available"]
    await until(lambda: watcher.details[1:] == ["connect", "connect"], "its coming")
    stream.end("enough")
    await until(lambda: watcher.details[3:] == ["disconnect", "disconnect"], "its going")
    assert [event["e"]["detail"] for event in watcher.events[1:]] == [{"clid_instances": n} for n in (0, 1, 1, 0, 0)]
    # No stream can watch a client whose name is no valid topic.
    for odd in ("a+b", "#", "+", "x" * 5000):
        (await two.open(caller("a", client=odd))).end("enough")
    await two.open(caller("a", client="last"))
    await until(lambda: watcher.details[5:] == ["connect"], "the last")


async def test_dead_node(start_hub: StartHub) -> None:
    """The clients of a dead node are reported as disconnected. A node that was buried alive registers its streams
    again."""
    one: HubNode = await start_hub(SITE)
    two: HubNode = await start_hub(SITE)
    three: HubNode = await start_hub(SITE)
    watcher = await one.open(caller("@CONNECTION@/x", client="w"))
    await two.open(caller("a", client="x"))
    await until(lambda: watcher.details[1:] == ["connect"], "its coming")
    await two.node.node.beat()
    # Two nodes bury it at the same time.
    await asyncio.gather(*(node.node.node.bury(two.node.name, 1) for node in (one, three)))
    await until(lambda: watcher.details[2:] == ["disconnect"], "its going")
    assert await one.store.clients(SITE) == {"w": 1}
    await two.node.node.beat()
    await until_clients(one, {"w": 1, "x": 1})
    for node in (one, three):
        await node.hub.drained()
    await one.emit("end", "@CONNECTION@/x")
    await until(lambda: len(watcher.details) > 3, "the end")
    # For events to the server's own topics, `details` shows the type.
    assert watcher.details[3:] == ["t"]


async def until_clients(node: HubNode, clients: dict[str, int]) -> None:
    """The store counts these streams, and no others."""
    async with asyncio.timeout(30):
        while await node.store.clients(SITE) != clients:
            pass


async def test_unreadable_event(start_hub: StartHub) -> None:
    """A body that is no event is skipped; the next event arrives."""
    node: HubNode = await start_hub(SITE)
    response = await node.open(caller("a"))
    await node.emit(1, "a")
    await until(lambda: response.details == [1], "the first")
    held: list[object] = []
    stream, _ = await node.hub.join(node.topics, caller("a"))
    await node.emit(2, "a")
    await until(lambda: held_by(stream), "the second")
    broken = held_by(stream)[0]
    broken.body, broken.encoded = b"[1", {}
    node.hub.published(SITE, broken)
    held.append(broken)
    await node.emit(3, "a")
    await until(lambda: response.details == [1, 2, 3], "the third")


async def test_restore_that_fails(start_hub: StartHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that Redis has forgotten writes its counts again, and retries until Redis has them."""
    monkeypatch.setattr(presence_module, "_RETRY_SECONDS", 0.01)
    node: HubNode = await start_hub(SITE)
    await node.node.node.beat()
    await node.open(caller("a", client="x"))
    await node.node.redis.command("FLUSHALL")
    failures = 0

    async def fail(*_: object) -> None:
        nonlocal failures
        failures += 1
        raise StoreUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(node.store, "restore", fail)
        await node.node.node.beat()
        await until(lambda: failures > 2, "some attempts")
        assert await node.store.clients(SITE) == {}
    await until_clients(node, {"x": 1})


async def test_interrupted_bus(start_hub: StartHub, valkey: Valkey) -> None:
    """After an interruption of the bus the node writes its counts again: Redis may have lost them in a failover."""
    node: HubNode = await start_hub(SITE)
    await node.open(caller("a", client="x"))
    await node.node.redis.command(
        "DEL", "recado:{shop}:topics:clients", f"recado:{{shop}}:topics:clients:{node.node.name}"
    )
    assert await node.store.clients(SITE) == {}
    valkey.client.client_kill_filter(_type="pubsub")
    await until_clients(node, {"x": 1})


async def test_restore_that_is_interrupted(start_hub: StartHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interruption during a restoration of counts starts another one, because the first part may be lost too."""
    node: HubNode = await start_hub(SITE)
    await node.open(caller("a", client="x"))
    restore, may_go_on, calls = node.store.restore, asyncio.Event(), 0

    async def restore_slowly(*words: Any) -> None:
        nonlocal calls
        calls += 1
        await restore(*words)
        await may_go_on.wait()

    monkeypatch.setattr(node.store, "restore", restore_slowly)
    node.node.delivery.bus_interrupted()
    await until(lambda: calls == 1, "the first")
    await node.node.redis.command("FLUSHALL")
    node.node.delivery.bus_interrupted()
    may_go_on.set()
    await until_clients(node, {"x": 1})
    assert calls == 2
    await node.hub.close()
    node.node.delivery.bus_interrupted()
    await node.node.redis.command("PING")
    assert calls == 2


async def test_node_that_ends_leaves_no_counts(start_hub: StartHub) -> None:
    """Streams that a node has not taken out before its end are taken out with the node, and their watchers are told."""
    one: HubNode = await start_hub(SITE)
    two: HubNode = await start_hub(SITE)
    watcher = await one.open(caller("@CONNECTION@/x", client="w"))
    await two.node.node.start()
    await two.open(caller("a", client="x"))
    await until(lambda: watcher.details[1:] == ["connect"], "its coming")
    await two.hub.close()
    await two.node.node.close()
    assert await one.store.clients(SITE) == {"w": 1}
    await until(lambda: watcher.details[2:] == ["disconnect"], "its going")
