"""The opening and the resumption of subscribers, on real nodes: held, replayed, reported and refused."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from app.core import catch_up
from app.digests import digest
from app.errors import StoreUnavailable
from app.protocols.channels import positions
from app.protocols.channels.channel_store import Claim, Position
from app.protocols.channels.opening import OpeningRequest
from app.protocols.channels.settings import Channels
from app.store.keys import prefix
from tests.protocols.channels.conftest import RESUMABLE, SITE, ChannelsNode, Client, NodeStarter
from tests.support.store import make_message, make_site
from tests.support.valkey import Valkey
from tests.support.waiting import until


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send positions to Redis at once."""
    monkeypatch.setattr(positions, "FLUSH_AFTER_SECONDS", 0.0)


async def subscribed(node: ChannelsNode, *channels: str) -> tuple[Client, OpeningRequest]:
    """A resumable client with these channels, and the request with which it resumes."""
    client = node.client(RESUMABLE)
    ack = await client.acked()
    for channel in channels:
        await client.act("SUBSCRIBE", channel)
    return client, OpeningRequest(False, ack["uuid"], ack["secret"])


def position_of(valkey: Valkey, wish: OpeningRequest) -> int:
    """The subscriber's position in Redis."""
    return int(valkey.dump()[f"{prefix(SITE.name)}subscriber:{wish.uuid}"]["seq"])


@pytest.mark.parametrize(
    ("query", "wish"),
    [
        ({}, OpeningRequest(False, "", "")),
        ({"resumable": "1"}, OpeningRequest(True, "", "")),
        ({"resumable": "0"}, OpeningRequest(False, "", "")),
        ({"resume": "u", "secret": "s"}, OpeningRequest(False, "u", "s")),
        ({"resumable": "true", "resume": "u", "secret": "s"}, OpeningRequest(True, "u", "s")),
        ({"secret": "s"}, OpeningRequest(False, "", "s")),
    ],
)
def test_what_a_client_asks_for(query: dict[str, str], wish: OpeningRequest) -> None:
    """Unknown values in the query are ignored; the secret is not in the repr."""
    assert OpeningRequest.of(query) == wish
    assert wish.is_plain == (not wish.is_resumable and not wish.uuid)
    assert "'s'" not in repr(wish)


async def test_a_plain_subscriber_needs_no_redis(start_node: NodeStarter, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain subscriber gets its CLIENT_ACK at once, whatever Redis does; a resumable one is asked to try again."""
    node = await start_node()

    async def fail(*arguments: object) -> None:
        raise StoreUnavailable

    monkeypatch.setattr(node.store, "register_subscriber", fail)
    assert (await node.client().acked())["subscribedChannels"] == []
    refused = node.client(RESUMABLE)
    await until(lambda: refused.closings, "the end")
    assert refused.closings == [("close", 1013, "message store not available")]


@pytest.mark.parametrize("when", ["registering", "resuming", "entering", "reading"])
async def test_who_is_gone_while_it_is_opened_leaves_nothing(
    start_node: NodeStarter, monkeypatch: pytest.MonkeyPatch, valkey: Valkey, when: str
) -> None:
    """A connection that ends at any await during its opening leaves nothing on
    the node, and can be resumed as before."""
    node = await start_node()
    await node.create("news")
    client, wish = await subscribed(node, "news")
    client.lose()
    await node.settled()
    steps: dict[str, tuple[Any, str]] = {
        "registering": (node.store, "register_subscriber"),
        "resuming": (node.store, "resume_subscriber"),
        "entering": (node.board, "enter"),
        "reading": (node.board._audiences, "history"),
    }
    target, name = steps[when]
    step = getattr(target, name)
    leaving: list[Client] = []

    async def lose_meanwhile(*arguments: Any) -> Any:
        outcome = await step(*arguments)
        leaving.pop().lose()
        return outcome

    with monkeypatch.context() as patch:
        patch.setattr(target, name, lose_meanwhile)
        leaving.append(node.client(RESUMABLE if when == "registering" else wish))
        await node.settled()
    assert (leaving, node.board.subscribers, node.board._channels) == ([], {}, {})
    again = node.client(wish)
    assert await again.acked() == {"uuid": wish.uuid, "subscribedChannels": ["news"]}


async def test_a_position_moves_on_where_nothing_is_pushed(start_node: NodeStarter, valkey: Valkey) -> None:
    """Many pushes to other channels do not outdate the position of a quiet channel's subscriber: each pong confirms
    that it has missed nothing, up to the last message that the node has heard."""
    node, other = await start_node(), await start_node()
    await node.create("quiet", "busy")
    client, wish = await subscribed(node, "quiet")
    for _ in range(30):
        await other.push("busy", "x")
    busy = node.board.last_seq
    client.subscriber.ping()
    await until(lambda: node.board.last_seq > busy, "the mark")
    client.subscriber.ping()
    at = node.board.last_seq
    await until(lambda: position_of(valkey, wish) == at, "the position")
    client.lose()
    await node.settled()
    for _ in range(40):
        await other.push("busy", "x")
    again = node.client(wish)
    assert "missed" not in await again.acked()


async def test_without_a_single_push_nothing_is_missed(start_node: NodeStarter) -> None:
    """Other messages of the site raise its seq, and do not count as missed pushes."""
    node = await start_node()
    await node.create("news")
    client, wish = await subscribed(node, "news")
    client.lose()
    await node.settled()
    for _ in range(3):
        await node.node.delivery.publish(make_message(SITE, ["hall"]))
    assert await node.client(wish).acked() == {"uuid": wish.uuid, "subscribedChannels": ["news"]}


async def test_pushes_while_the_history_is_read(start_node: NodeStarter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over several pages of history, with pushes during each read, every push arrives once and in order."""
    site = replace(SITE, outbox_limit_bytes=2_000)
    node = await start_node(site)
    await node.create("news")
    client, wish = await subscribed(node, "news")
    client.lose()
    await node.settled()
    for number in range(20):
        await node.push("news", str(number).ljust(300))
    audiences = node.board._audiences
    read = audiences.history
    pages = 0

    async def read_while_pushed(*arguments: Any) -> Any:
        nonlocal pages
        pages += 1
        await node.push("news", f"before {pages}")
        history = await read(*arguments)
        await node.push("news", f"behind {pages}")
        await until(lambda: node.board.last_seq > history.last_seq, "the push to be heard")
        return history

    monkeypatch.setattr(audiences, "history", read_while_pushed)
    again = node.client(wish)
    await until(lambda: again.subscriber.phase.value == "live", "the end of the replay")
    got = [message.strip() for message in again.messages]
    assert pages > 3
    assert got[:20] == [str(number) for number in range(20)]
    assert got[20:] == [f"{when} {page}" for page in range(1, pages + 1) for when in ("before", "behind")]


@pytest.mark.parametrize("bound", ["MAX_MESSAGES", "MAX_BYTES"])
@pytest.mark.parametrize("history_messages", [50, 4])
async def test_more_pushes_than_are_held_while_the_history_is_read(
    start_node: NodeStarter, monkeypatch: pytest.MonkeyPatch, bound: str, history_messages: int
) -> None:
    """Pushes past the bound are read from the history, once and in order; a second CLIENT_ACK says `missed` where the
    history does not hold them any more."""
    monkeypatch.setattr(catch_up, bound, 3)
    node = await start_node(make_site(channels=Channels(open_create=True, history_messages=history_messages)))
    await node.create("news")
    client, wish = await subscribed(node, "news")
    client.lose()
    await node.settled()
    await node.push("news", "0")
    audiences = node.board._audiences
    read = audiences.history
    sent = ["0"]

    async def read_while_pushed(*arguments: Any) -> Any:
        history = await read(*arguments)
        if len(sent) < 11:
            for _ in range(5):
                sent.append(str(len(sent)))
                await node.push("news", sent[-1])
            last_seq = (await read(*arguments)).last_seq
            await until(lambda: node.board.last_seq == last_seq, "the pushes to be heard")
        return history

    monkeypatch.setattr(audiences, "history", read_while_pushed)
    again = node.client(wish)
    await until(lambda: again.subscriber.phase.value == "live", "the end of the replay")
    assert "missed" not in await again.acked()
    if history_messages == 50:
        assert again.messages == sent
        assert len(again._acks()) == 1
    else:
        assert again.messages == [number for number in sent if number not in ("1", "6")]
        assert (await again.acked(2))["missed"] is True
        assert (await again.acked(3))["missed"] is True
    await node.push("news", "live")
    await until(lambda: again.messages[-1] == "live", "the live push")


async def test_a_page_that_is_gone_is_told(start_node: NodeStarter, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the history is trimmed faster than a client reads it, a second CLIENT_ACK reports missed pushes."""
    site = replace(SITE, outbox_limit_bytes=2_000)
    node = await start_node(site)
    await node.create("news")
    client, wish = await subscribed(node, "news")
    client.lose()
    await node.settled()
    for number in range(20):
        await node.push("news", str(number).ljust(300))
    again = Client(node.door, wish, answers_pings=False)
    assert "missed" not in await again.acked()
    for number in range(60):
        await node.push("news", str(number))
    while again.subscriber.phase.value != "live":
        again.subscriber.pong_received()
        await until(lambda: again.subscriber._pings or again.subscriber.phase.value == "live", "a page")
    assert (await again.acked(2))["missed"] is True
    assert again.messages[-50:] == [str(number) for number in range(10, 60)]


async def test_another_connection_takes_over(start_node: NodeStarter) -> None:
    """After a takeover on another node the older connection is closed at its next pong; after one on the same node, at
    once. A late position of the older connection does not close the newer one."""
    node, other = await start_node(), await start_node()
    await node.create("news")
    client, wish = await subscribed(node, "news")
    elsewhere = other.client(wish)
    await elsewhere.acked()
    client.subscriber.ping()
    await until(lambda: client.closings, "the end of the older one")
    assert client.closings == [("close", 1012, "resumed elsewhere, or forgotten")]
    client.lose()
    here = other.client(wish)
    await here.acked()
    assert elsewhere.closings == [("close", 1012, "resumed by another connection")]
    elsewhere.lose()
    other.door._positions.confirmed(Position(Claim(wish.uuid, 2), 1))
    await other.settled()
    await other.push("news", "x")
    assert await here.pushed(1) == ["x"]
    assert here.closings == []


async def test_what_is_lost_for_good_is_told(start_node: NodeStarter) -> None:
    """A loss is reported to a resumable subscriber by a CLIENT_ACK and to a plain one by its end; a subscriber without
    channels has lost nothing."""
    node = await start_node()
    await node.create("news")
    kept, _ = await subscribed(node, "news")
    plain, idle = node.client(), node.client()
    await plain.act("SUBSCRIBE", "news")
    node.server.missed(SITE)
    assert (await kept.acked(3))["missed"] is True
    await until(lambda: plain.closings, "the end of the plain one")
    assert plain.closings == [("close", 1012, "pushes were missed")]
    assert (kept.closings, idle.closings) == ([], [])


async def test_a_client_that_leaves_while_it_is_replayed_to(start_node: NodeStarter, valkey: Valkey) -> None:
    """A client that leaves during its replay keeps the position of the last page that it confirmed."""
    site = replace(SITE, outbox_limit_bytes=2_000)
    node = await start_node(site)
    await node.create("news")
    client, wish = await subscribed(node, "news")
    client.lose()
    await node.settled()
    for number in range(20):
        await node.push("news", str(number).ljust(300))
    again = Client(node.door, wish, answers_pings=False)
    await until(lambda: again.subscriber._pings, "the first page")
    read = len(again.messages)
    again.subscriber.pong_received()
    await until(lambda: len(again.messages) > read and again.subscriber._pings, "the second page")
    again.lose()
    await node.settled()
    third = node.client(wish)
    await until(lambda: third.subscriber.phase.value == "live", "the rest")
    assert [message.strip() for message in third.messages] == [str(number) for number in range(read, 20)]


async def test_a_mark_is_no_push(start_node: NodeStarter) -> None:
    """A mark causes no write to any subscriber."""
    node = await start_node()
    await node.create("news")
    client, _ = await subscribed(node, "news")
    before = len(client.socket.written)
    client.subscriber.ping()
    heard = node.board.last_seq
    await node.node.delivery.publish(make_message(SITE, ["hall"]))
    client.subscriber.ping()
    await until(lambda: node.board.last_seq > heard, "the mark")
    assert client.socket.written[before:] == []


async def test_what_was_replayed_is_confirmed(start_node: NodeStarter, valkey: Valkey) -> None:
    """A pong confirms the replay, also on a node that has heard nothing live: it is not replayed again."""
    node, other = await start_node(), await start_node()
    await node.create("news")
    client, wish = await subscribed(node, "news")
    client.lose()
    await node.settled()
    await node.push("news", "missed")
    again = other.client(wish)
    assert await again.pushed(1) == ["missed"]
    again.lose()
    await other.settled()
    third = node.client(wish)
    await until(lambda: third.subscriber.phase.value == "live", "the end of the replay")
    assert third.messages == []


@pytest.mark.parametrize("what", ["noise", "expired"])
async def test_who_has_everything_has_missed_nothing(start_node: NodeStarter, valkey: Valkey, what: str) -> None:
    """A subscriber that has everything misses nothing, however much was pushed elsewhere while it was connected and
    silent, even when all of that has left the history."""
    node, other = await start_node(), await start_node()
    await node.create("quiet", "busy")
    client, wish = await subscribed(node, "quiet")
    await other.push("quiet", "got")
    await client.pushed(1)
    for _ in range(60):
        await other.push("busy", "x")
    if what == "expired":
        valkey.client.delete(f"{prefix(SITE.name)}history:channels")
    client.lose()
    await node.settled()
    assert await other.client(wish).acked() == {"uuid": wish.uuid, "subscribedChannels": ["quiet"]}


@pytest.mark.parametrize("is_recreated", [False, True])
async def test_pushes_of_before_a_deletion_are_replayed(start_node: NodeStarter, is_recreated: bool) -> None:
    """Pushes made before a channel's deletion are replayed to a subscriber that was away, and again until it confirms
    them. Its list lacks the channel, and it gets nothing of the next channel of that name."""
    node, other = await start_node(), await start_node()
    await node.create("news", "stays")
    client, wish = await subscribed(node, "news", "stays")
    client.lose()
    await node.settled()
    await node.push("news", "before")
    await node.push("stays", "too")
    await node.delete("news")
    if is_recreated:
        await node.store.create_channel(SITE, "news", digest("another"))
        await node.push("news", "refused")
        audience = node.server.audience_of(SITE, "news")
        assert audience
        body = b'["news","of another channel"]'
        await node.node.delivery.publish(make_message(SITE, [], body=body, audiences=[audience]))
    for _ in range(2):
        # Without a pong the replay is repeated.
        again = Client(other.door, wish, answers_pings=False)
        assert (await again.acked())["subscribedChannels"] == ["stays"]
        assert await again.pushed(2) == ["before", "too"]
        again.lose()
        await other.settled()
    third = other.client(wish)
    assert await third.pushed(2) == ["before", "too"]
    third.lose()
    await other.settled()
    last = node.client(wish)
    await until(lambda: last.subscriber.phase.value == "live", "the end of the replay")
    assert last.messages == []


async def test_a_deletion_behind_the_history_is_told(start_node: NodeStarter) -> None:
    """When the pushes before a deletion have left the history, the CLIENT_ACK has
    `missed`, although no channel is left."""
    node = await start_node()
    await node.create("news", "busy")
    client, wish = await subscribed(node, "news")
    client.lose()
    await node.settled()
    await node.push("news", "before")
    await node.delete("news")
    for _ in range(60):
        await node.push("busy", "x")
    again = node.client(wish)
    assert await again.acked() == {"uuid": wish.uuid, "subscribedChannels": [], "missed": True}


async def test_a_deletion_while_the_history_is_read(start_node: NodeStarter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pushes made before a deletion are written, both those read from the history and the held ones; then comes the
    list without the channel."""
    node = await start_node()
    await node.create("news")
    client, wish = await subscribed(node, "news")
    client.lose()
    await node.settled()
    await node.push("news", "missed")
    audiences = node.board._audiences
    read = audiences.history

    async def read_and_delete(*arguments: Any) -> Any:
        history = await read(*arguments)
        await node.push("news", "held")
        await node.delete("news")
        await until(lambda: node.board._deletions, "the deletion to be heard")
        return history

    monkeypatch.setattr(audiences, "history", read_and_delete)
    again = node.client(wish)
    assert await again.pushed(2) == ["missed", "held"]
    assert (await again.acked())["subscribedChannels"] == []


async def test_the_list_after_a_deletion_during_the_replay(
    start_node: NodeStarter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the first CLIENT_ACK listed the channel, another CLIENT_ACK follows the channel's last pushes."""
    site = replace(SITE, outbox_limit_bytes=2_000)
    node = await start_node(site)
    await node.create("news")
    client, wish = await subscribed(node, "news")
    client.lose()
    await node.settled()
    for number in range(8):
        await node.push("news", str(number).ljust(300))
    again = Client(node.door, wish, answers_pings=False)
    assert (await again.acked())["subscribedChannels"] == ["news"]
    await until(lambda: again.subscriber._pings, "the first page")
    await node.delete("news")
    await until(lambda: node.board._deletions, "the deletion to be heard")
    while again.subscriber.phase.value != "live":
        again.subscriber.pong_received()
        await until(lambda: again.subscriber._pings or again.subscriber.phase.value == "live", "a page")
    assert (await again.acked(2))["subscribedChannels"] == []
    assert [message.strip() for message in again.messages] == [str(number) for number in range(8)]
