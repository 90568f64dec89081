"""A stream's life on real nodes: joining, history, live, its deadlines, its end; and what is told of it to others."""

from __future__ import annotations

import asyncio

import pytest

from app.config.settings import HistoryLimit, Topics
from app.errors import StoreUnavailable
from app.protocols.topics import hub as module
from app.protocols.topics import stream as stream_module
from app.protocols.topics.frames import Encoding
from app.protocols.topics.notice import Emitted
from app.protocols.topics.redis_topics import DEAD_AFTER_SECONDS
from app.protocols.topics.site_topics import digest_of
from app.store.keys import prefix
from tests.protocols.topics.conftest import HubNode, MemoryResponse, StartHub, caller, topics_site
from tests.support.valkey import Valkey
from tests.support.waiting import until

SITE = topics_site(topics=Topics())


async def test_nothing_falls_between_joining_and_live(start_hub: StartHub) -> None:
    """What is emitted after `join` has returned is written behind the greeting, once, in order."""
    node: HubNode = await start_hub(SITE)
    stream, secret = await node.hub.join(node.topics, caller("a", "b/+"))
    await node.emit(1, "a")
    await node.emit(2, "b/c")
    await until(lambda: len(stream.held or []) == 2, "both")
    response = await node.begin(stream, secret)
    await node.emit(3, "a")
    await until(lambda: response.details == [1, 2, 3], "all")
    assert response.events[0]["e"]["detail"] == {"connid": stream.number, "secret": secret, "timeout": 60_000}


async def test_too_much_between(start_hub: StartHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that misses something before it is live is told `_resync`, and is live then."""
    monkeypatch.setattr(stream_module, "MAX_HELD", 1)
    node: HubNode = await start_hub(SITE)
    stream, secret = await node.hub.join(node.topics, caller("a"))
    await node.emit(1, "a")
    await node.emit(2, "a")
    await until(lambda: stream.held is None, "too much")
    response = await node.begin(stream, secret)
    await node.emit(3, "a")
    await until(lambda: response.details == ["_resync", 3], "the rest")
    assert node.topics.counts.resyncs["topics"] == 1


async def test_history_in_parts(start_hub: StartHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long history is written in parts; what comes meanwhile follows."""
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


@pytest.mark.parametrize("leaves", [False, True])
async def test_slow_reader_of_history(start_hub: StartHub, monkeypatch: pytest.MonkeyPatch, leaves: bool) -> None:
    """The next part waits until a slow client has read; one that leaves meanwhile gets no more."""
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
    assert node.topics.counts.streams == (0 if leaves else 1)


async def test_history_that_is_not_enough(start_hub: StartHub) -> None:
    """`_resync` stands before what is still held; a whisper is not told to another stream."""
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
    """When something is lost for good every stream is told, those that are joining when they are live."""
    node: HubNode = await start_hub(SITE)
    live = await node.open(caller("a"))
    joining = await node.hub.join(node.topics, caller("a"))
    node.hub.missed(SITE)
    assert live.details == ["_resync"]
    assert (await node.begin(*joining)).details == ["_resync"]


async def test_end_leaves_nothing(start_hub: StartHub) -> None:
    """A stream that has ended is in no count, hears nothing, and its names are left."""
    node: HubNode = await start_hub(SITE)
    response = await node.open(caller("a", "b/#", "!c", user="u"))
    assert dict(node.topics.index.counts()) == {"a": 1, "b/#": 1, "c": 1}
    response.end("enough")
    await node.emit(1, "a")
    await node.hub.drained()
    assert response.details == []
    assert dict(node.topics.index.counts()) == {}
    assert (dict(node.topics.clients), node.topics.counts.streams) == ({}, 0)
    assert await node.store.clients(SITE) == {}
    assert node.topics.counts.stream_ends == {"enough": 1}
    await node.node.delivery.drain()
    joined = await node.node.redis.command("SMEMBERS", f"recado:{{shop}}:joined:{node.node.name}")
    assert joined == {b"audience:topics:n"} or joined == [b"audience:topics:n"]


async def test_join_that_fails(start_hub: StartHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the store does not take it, nothing of the stream is left here, and its place is free."""
    node: HubNode = await start_hub(SITE)
    freed: list[object] = []
    node.hub.on_seat_free = freed.append

    async def fail(*_: object) -> None:
        raise StoreUnavailable

    for broken in (node.store, node.hub._audiences):
        with monkeypatch.context() as patch:
            patch.setattr(broken, "open" if broken is node.store else "join", fail)
            with pytest.raises(StoreUnavailable):
                await node.hub.join(node.topics, caller("a"))
    await node.hub.drained()
    assert len(freed) == 2
    assert (list(node.topics), dict(node.topics.clients), node.topics.counts.streams) == ([], {}, 0)
    await node.hub.drain(0)
    with pytest.raises(StoreUnavailable, match="stops"):
        await node.hub.join(node.topics, caller("a"))
    assert len(freed) == 3


async def test_response_that_never_began(start_hub: StartHub) -> None:
    """A client that left before its response is forgotten like any other."""
    node: HubNode = await start_hub(SITE)
    stream, _ = await node.hub.join(node.topics, caller("a"))
    node.hub.give_up(stream, "client left")
    assert (list(node.topics), node.topics.counts.stream_ends) == ([], {"client left": 1})


async def test_deadlines(start_hub: StartHub) -> None:
    """Signs of life come while nothing else does; the end comes at its time unless the store was told otherwise."""
    node: HubNode = await start_hub(topics_site(topics=Topics(connection_timeout_seconds=1.0, keep_alive_seconds=0.3)))
    short = await node.open(caller("a"))
    extended = await node.open(caller("a", encoding=Encoding.SSE))
    number, secret = extended.stream.number, extended.events[0]["e"]["detail"]["secret"]
    await node.store.extend(node.site, number, digest_of(secret), b"new", 60_000, 1)
    await until(lambda: short.reason == "timeout", "the end")
    assert "''0''" in short.text
    assert "\n:\n\n" in extended.text
    await asyncio.sleep(0)
    assert extended.reason is None


async def test_presence(start_hub: StartHub) -> None:
    """Of a client's coming and going its watchers hear, on any node, but no stream of its own."""
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
    # Names that no topic may have are nobody's to watch.
    for odd in ("a+b", "#", "+", "x" * 5000):
        (await two.open(caller("a", client=odd))).end("enough")
    await two.open(caller("a", client="last"))
    await until(lambda: watcher.details[5:] == ["connect"], "the last")


async def test_dead_node(start_hub: StartHub, valkey: Valkey) -> None:
    """What a node that died has held is told as gone; a node that was taken for dead tells its streams anew."""
    one: HubNode = await start_hub(SITE)
    two: HubNode = await start_hub(SITE)
    watcher = await one.open(caller("@CONNECTION@/x", client="w"))
    await two.open(caller("a", client="x"))
    await until(lambda: watcher.details[1:] == ["connect"], "its coming")
    # Its last beat is put back, by more than a node may be silent.
    valkey.client.zincrby(f"{prefix(SITE.name)}topics:nodes", -DEAD_AFTER_SECONDS * 1000, two.node.name)
    await one.hub._presence.beat(one.topics)
    await until(lambda: watcher.details[2:] == ["disconnect"], "its going")
    assert await one.store.clients(SITE) == {"w": 1}
    await one.hub._presence.beat(one.topics)
    await two.hub._presence.beat(two.topics)
    assert await one.store.clients(SITE) == {"w": 1, "x": 1}


async def test_unreadable_event(start_hub: StartHub) -> None:
    """A body that is no event is passed over; the next one comes."""
    node: HubNode = await start_hub(SITE)
    response = await node.open(caller("a"))
    await node.emit(1, "a")
    await until(lambda: response.details == [1], "the first")
    held: list[object] = []
    stream, _ = await node.hub.join(node.topics, caller("a"))
    await node.emit(2, "a")
    await until(lambda: bool(stream.held), "the second")
    assert stream.held
    broken = stream.held[0]
    broken.body, broken.encoded = b"[1", {}
    node.hub.published(SITE, broken)
    held.append(broken)
    await node.emit(3, "a")
    await until(lambda: response.details == [1, 2, 3], "the third")


async def test_restore_that_fails(start_hub: StartHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that Redis has forgotten tells its streams anew, at the next beat if this one fails."""
    node: HubNode = await start_hub(SITE)
    await node.open(caller("a", client="x"))
    await node.node.redis.command("FLUSHALL")

    async def fail(*_: object) -> None:
        raise StoreUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(node.store, "restore", fail)
        with pytest.raises(StoreUnavailable):
            await node.hub._presence.beat(node.topics)
    assert await node.store.clients(SITE) == {}
    await node.hub._presence.beat(node.topics)
    assert await node.store.clients(SITE) == {"x": 1}
