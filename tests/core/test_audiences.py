"""Audiences over real nodes on a real Valkey: which node hears a message, in which order, and how a gap is filled."""

import asyncio
from collections.abc import Awaitable, Sequence
from time import monotonic
from typing import Any

import msgspec
import pytest

from app.config.settings import HistoryLimit, Site
from app.core import catch_up
from app.core.audiences import Audiences
from app.core.message import Audience, LiveMessage
from app.store.keys import bus_channel
from tests.core.conftest import NodeStarter
from tests.support.store import StoreNode, make_message, make_site
from tests.support.valkey import Valkey
from tests.support.waiting import until

SITE = make_site()
PLAIN = make_site("plain", user_room_prefix=None)
KEPT = HistoryLimit(messages=5, seconds=60)


class Listener:
    """A protocol that notes what it hears: bodies, and "missed". Lives for one test."""

    def __init__(self, node: StoreNode, protocol: str = "channels") -> None:
        self.protocol = protocol
        self.heard: list[bytes | str] = []
        self.seqs: list[int] = []
        self.audiences: Audiences = node.delivery.audiences(protocol, self)

    def published(self, site: Site, message: LiveMessage) -> None:
        """Note it."""
        self.heard.append(message.body)
        self.seqs.append(message.seq)

    def missed(self, site: Site) -> None:
        """Note it."""
        self.heard.append("missed")

    def audience_of(self, site: Site, name: str) -> Audience | None:
        """Every bound name is one of ours."""
        return Audience(self.protocol, [name], bound_names=[name])


async def push(
    node: StoreNode, name: str, number: int, site: Site = SITE, history: HistoryLimit | None = KEPT
) -> bytes:
    """Publish to one name of the protocol `channels`; the body."""
    body = b'["push",%d]' % number
    audience = Audience("channels", [name], b'{"to":[]}', history)
    await node.delivery.publish(make_message(site, [], body=body, audiences=[audience]))
    return body


async def arrived(node: StoreNode) -> None:
    """Messages that were published before this call have come over the bus."""
    probes = sum(node.bus._probe_seconds.buckets)
    await node.redis.command("PUBLISH", bus_channel(node.name), f"probe {monotonic()}")
    await until(lambda: sum(node.bus._probe_seconds.buckets) > probes, "the probe")


@pytest.mark.parametrize("site", [SITE, PLAIN], ids=["queues", "no queues"])
async def test_only_nodes_that_joined_a_name_hear_of_it(start_node: NodeStarter, site: Site) -> None:
    """A message reaches each node that joined one of its names once, whichever node accepts it, and no other."""
    one, two, three = [await start_node(site) for _ in range(3)]
    listeners = [Listener(node) for node in (one, two, three)]
    await listeners[0].audiences.join(site, ["news", "sport"])
    await listeners[1].audiences.join(site, ["sport"])
    await listeners[2].audiences.join(site, ["weather"])
    audience = Audience("channels", ["news", "sport"])
    stored = await two.delivery.publish(make_message(site, [], body=b"[1]", audiences=[audience]))
    assert stored.audience_nodes == 2
    await until(lambda: [listener.heard for listener in listeners] == [[b"[1]"], [b"[1]"], []], "both to hear")
    assert three.bus.is_hearing


async def test_the_detail_arrives_as_it_was_given(start_node: NodeStarter) -> None:
    """The protocol's detail of a message travels untouched, whatever text it holds."""
    node = await start_node(SITE)
    heard: list[Audience | None] = []
    listener = Listener(node)
    listener.published = lambda site, message: heard.append(message.audience)  # type: ignore[method-assign]
    name, detail = "a\nb,\u00e9\u2028", msgspec.json.encode({"to": ["x\ny", "\u00e9"]})
    await listener.audiences.join(SITE, [name])
    await node.delivery.publish(make_message(SITE, [], body=b"[1]", audiences=[Audience("channels", [name], detail)]))
    await until(lambda: heard, "the message")
    assert heard == [Audience("channels", [name], detail)]


async def test_a_name_is_left_by_the_last(start_node: NodeStarter) -> None:
    """Joining twice takes leaving twice; behind the last leave nothing of the name remains in Redis."""
    node = await start_node(SITE)
    listener = Listener(node)
    for _ in range(2):
        await listener.audiences.join(SITE, ["news"])
    listener.audiences.leave(SITE, ["news"])
    body = await push(node, "news", 1, history=None)
    await until(lambda: listener.heard == [body], "the push")
    listener.audiences.leave(SITE, ["news"])
    await node.delivery.drain()
    stored = await node.delivery.publish(make_message(SITE, [], audiences=[Audience("channels", ["news"])]))
    assert stored.audience_nodes == 0


async def test_left_and_joined_again_at_once(start_node: NodeStarter) -> None:
    """A name that is left and joined again at once is joined."""
    node = await start_node(SITE)
    listener = Listener(node)
    await listener.audiences.join(SITE, ["news"])
    listener.audiences.leave(SITE, ["news"])
    await listener.audiences.join(SITE, ["news"])
    await node.delivery.drain()
    body = await push(node, "news", 1)
    await until(lambda: listener.heard == [body], "the push")


async def test_a_gap_is_filled_from_the_history(start_node: NodeStarter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages that were published while the bus was away are heard later, in order and once, and no others."""
    node, other = await start_node(SITE), await start_node(SITE)
    listener = Listener(node)
    await listener.audiences.join(SITE, ["news"])
    bodies = [await push(other, "news", 1)]
    await until(lambda: listener.heard == bodies, "the first push")
    with monkeypatch.context() as deaf:
        deaf.setattr(node.delivery, "message_published", lambda site, counter, message: None)
        bodies.append(await push(other, "news", 2))
        await push(other, "weather", 3)
        bodies.append(await push(other, "news", 4))
        await arrived(node)
    # The counter of the next message shows the gap.
    bodies.append(await push(other, "news", 5))
    await until(lambda: listener.heard == bodies, "what was missed")
    bodies.append(await push(other, "news", 6))
    await until(lambda: listener.heard == bodies, "the next push")
    assert listener.seqs == sorted(listener.seqs)


@pytest.mark.parametrize("history", [None, HistoryLimit(messages=1, seconds=60)], ids=["none", "too short"])
async def test_what_no_history_holds_is_told(
    start_node: NodeStarter, history: HistoryLimit | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a message is in no history any more, the protocol is told `missed`: never silence."""
    node, other = await start_node(SITE), await start_node(SITE)
    listener = Listener(node)
    await listener.audiences.join(SITE, ["news"])
    first = await push(other, "news", 1, history=history)
    await until(lambda: listener.heard == [first], "the first push")
    with monkeypatch.context() as deaf:
        deaf.setattr(node.delivery, "message_published", lambda site, counter, message: None)
        last = [await push(other, "news", number, history=history) for number in (2, 3)][-1]
        await arrived(node)
    node.delivery.bus_interrupted()
    expected = [first, "missed", *([last] if history else [])]
    await until(lambda: listener.heard == expected, "to be told")
    body = await push(other, "news", 4, history=history)
    await until(lambda: listener.heard == [*expected, body], "the next push")


@pytest.mark.parametrize("history", [HistoryLimit(messages=100, seconds=60), None], ids=["history", "none"])
@pytest.mark.parametrize("bound", ["MAX_MESSAGES", "MAX_BYTES"])
async def test_more_than_is_held_while_a_gap_is_filled(
    start_node: NodeStarter, history: HistoryLimit | None, bound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages past the bound are read from the history, in order and once, however often the bound is passed; where
    there is no history the protocol is told that they were missed."""
    monkeypatch.setattr(catch_up, bound, 3)
    node = await start_node(SITE)
    listener = Listener(node)
    await listener.audiences.join(SITE, ["news"])
    sent = [await push(node, "news", 0, history=history)]
    await until(lambda: listener.heard == sent, "the first push")
    read = node.queues.history

    async def read_slowly(*arguments: object) -> object:
        answer = await read(*arguments)  # type: ignore[arg-type]  # passed on as they are
        if len(sent) < 16:
            sent.extend([await push(node, "news", number, history=history) for number in range(5)])
            await arrived(node)
        return answer

    monkeypatch.setattr(node.queues, "history", read_slowly)
    node.delivery.bus_interrupted()
    await node.delivery.drain()
    assert len(sent) == 16
    if history:
        assert listener.heard == sent
    else:
        assert "missed" in listener.heard
        assert [heard for heard in listener.heard if heard != "missed"] == sent[:1]
    sent.append(await push(node, "news", 9, history=history))
    await until(lambda: listener.heard[-1] == sent[-1], "the next push")
    assert listener.seqs == sorted(set(listener.seqs))


async def test_more_than_is_held_before_the_first_join_has_ended(
    start_node: NodeStarter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a seq to read the history from, messages past the bound are told as missed."""
    monkeypatch.setattr(catch_up, "MAX_MESSAGES", 1)
    node = await start_node(SITE)
    listener = Listener(node)
    join = node.queues.join_audience
    loop = asyncio.get_running_loop()
    answers: list[asyncio.Future[None]] = [loop.create_future(), loop.create_future()]
    waiting = iter(answers)

    async def join_slowly(*arguments: object) -> object:
        last_seq = await join(*arguments)  # type: ignore[arg-type]  # passed on as they are
        await next(waiting)
        return last_seq

    monkeypatch.setattr(node.queues, "join_audience", join_slowly)
    joining = asyncio.ensure_future(listener.audiences.join(SITE, ["news"]))
    await asyncio.sleep(0)
    node.delivery.bus_interrupted()
    await arrived(node)
    for number in range(3):
        await push(node, "news", number)
    await arrived(node)
    assert listener.heard == []
    answers[1].set_result(None)
    await node.delivery.drain()
    assert listener.heard == ["missed"]
    answers[0].set_result(None)
    await joining


async def test_names_lost_by_redis_are_joined_anew(
    start_node: NodeStarter, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When Redis has lost everything, the names are joined again, at most 1,000 with one command, and messages with
    smaller seqs are heard."""
    node = await start_node(SITE)
    listener = Listener(node)
    await listener.audiences.join(SITE, [f"name {number}" for number in range(2_500)])
    join, parts = node.queues.join_audience, list[int]()

    def join_part(site: Site, protocol: str, names: Sequence[str]) -> Awaitable[int]:
        parts.append(len(names))
        return join(site, protocol, names)

    monkeypatch.setattr(node.queues, "join_audience", join_part)
    valkey.client.flushall()
    valkey.client.set("recado:{shop}:seq", 5)
    node.delivery.bus_interrupted()
    await node.delivery.drain()
    body = await push(node, "name 2499", 1)
    await until(lambda: body in listener.heard, "the push")
    assert listener.heard == ["missed", body]
    assert parts == [1_000, 1_000, 500]


async def test_history_of_a_protocol(start_node: NodeStarter) -> None:
    """The history answers the messages behind a seq, in parts, and says whether any is missing."""
    node = await start_node(SITE)
    listener = Listener(node)
    bodies = [await push(node, f"name {number}", number) for number in range(7)]
    all_of_it = await listener.audiences.history(SITE, 0)
    assert [message.body for message in all_of_it.messages] == bodies[2:]
    assert (all_of_it.is_complete, all_of_it.has_more) == (False, False)
    message = all_of_it.messages[0]
    assert message.audience == Audience("channels", ["name 2"], b'{"to":[]}')
    assert message.at_ms > 1_600_000_000_000
    part = await listener.audiences.history(SITE, message.seq, max_messages=2)
    assert ([m.body for m in part.messages], part.is_complete, part.has_more) == (bodies[3:5], True, True)
    assert part.last_seq == all_of_it.messages[-1].seq


async def test_a_history_that_has_expired(start_node: NodeStarter, valkey: Valkey) -> None:
    """When the history expires, a listener misses nothing if it has heard the last message; otherwise it does."""
    node = await start_node(SITE)
    listener = Listener(node)
    await push(node, "news", 1)
    await push(node, "news", 2)
    first, last = (message.seq for message in (await listener.audiences.history(SITE, 0)).messages)
    valkey.client.delete("recado:{shop}:history:channels")
    assert (await listener.audiences.history(SITE, last)).is_complete
    assert not (await listener.audiences.history(SITE, first)).is_complete
    await push(node, "news", 3)
    assert (await listener.audiences.history(SITE, last)).is_complete
    assert not (await listener.audiences.history(SITE, first)).is_complete


async def test_old_messages_leave_the_history(start_node: NodeStarter) -> None:
    """A message older than the history's seconds is dropped when a new message is published."""
    node = await start_node(SITE)
    listener = Listener(node)
    node.queues.now_ms = 1_700_000_000_000
    await push(node, "news", 1)
    node.queues.now_ms += 59_000
    second = await push(node, "news", 2)
    node.queues.now_ms += 2_000
    third = await push(node, "news", 3)
    history = await listener.audiences.history(SITE, 0)
    assert [message.body for message in history.messages] == [second, third]


async def test_a_history_is_bounded_in_bytes(start_node: NodeStarter) -> None:
    """The oldest messages are dropped when the bodies are too long together; the newest stays whatever its length."""
    node = await start_node(SITE)
    listener = Listener(node)
    limit = HistoryLimit(bytes=3 * len(b'["push",1]'))
    bodies = [await push(node, "news", number, history=limit) for number in range(1, 6)]
    kept = await listener.audiences.history(SITE, 0)
    assert [message.body for message in kept.messages] == bodies[2:]
    await push(node, "news", 6, history=HistoryLimit(bytes=1))
    assert len((await listener.audiences.history(SITE, 0)).messages) == 1
    await push(node, "news", 7, history=limit)
    await push(node, "news", 8, history=limit)
    assert len((await listener.audiences.history(SITE, 0)).messages) == 3


async def test_a_history_of_no_time_is_none(start_node: NodeStarter) -> None:
    """With 0 seconds no message is kept, and publishing works."""
    node = await start_node(SITE)
    listener = Listener(node)
    await listener.audiences.join(SITE, ["news"])
    body = await push(node, "news", 1, history=HistoryLimit(seconds=0))
    await until(lambda: listener.heard == [body], "the push")
    assert not (await listener.audiences.history(SITE, 0)).messages


async def test_a_join_that_fails_leaves_nothing(start_node: NodeStarter, valkey: Valkey) -> None:
    """When Redis is away `join` raises, and the name counts as not joined."""
    node = await start_node(SITE)
    listener = Listener(node)
    join = asyncio.ensure_future(listener.audiences.join(SITE, ["news"]))
    await asyncio.sleep(0)
    join.cancel()
    await asyncio.gather(join, return_exceptions=True)
    await node.delivery.drain()
    assert "recado:{shop}:audience:channels:news" not in valkey.dump()


async def test_a_listener_that_fails_misses_one_message(start_node: NodeStarter) -> None:
    """An error of a protocol loses that message, counted; the next message is heard without a new subscription."""
    node = await start_node(SITE)
    listener, note = Listener(node), Listener.published

    def fail_once(site: Site, message: LiveMessage) -> None:
        if message.body == b'["push",1]':
            raise RecursionError
        note(listener, site, message)

    listener.published = fail_once  # type: ignore[method-assign]
    await listener.audiences.join(SITE, ["news"])
    for number in (1, 2):
        await push(node, "news", number)
    await until(lambda: listener.heard == [b'["push",2]'], "the message behind the poisoned one")
    assert listener.audiences.faults == {"channels": 1}


async def test_an_entry_of_a_history_that_nobody_can_read(start_node: NodeStarter, valkey: Valkey) -> None:
    """The entry is told as missed, and the messages behind it are read."""
    node = await start_node(SITE)
    listener = Listener(node)
    for number in (1, 2, 3):
        await push(node, "news", number)
    client: Any = valkey.client
    (key,) = [key for key in client.keys("*") if client.type(key) == b"stream"]
    entries = client.xrange(key)
    poisoned = {
        name: b"[" * 2_000 if value.startswith(b'["channels"') else value for name, value in entries[1][1].items()
    }
    assert poisoned != entries[1][1]
    client.delete(key)
    for (id_, fields), own in zip(entries, (None, poisoned, None), strict=True):
        client.xadd(key, own or fields, id_)
    history = await listener.audiences.history(SITE, 0)
    assert [message.body for message in history.messages if message.audience and message.audience.names] == [
        b'["push",1]',
        b'["push",3]',
    ]
    assert not history.is_complete
