"""How subscribers begin and come back, on real nodes: what is held, replayed, told, and refused."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from app.errors import StoreUnavailable
from app.protocols.channels import positions
from app.protocols.channels.channel_store import Claim, Position
from app.protocols.channels.opening import OpeningRequest
from app.protocols.http_request import digest
from app.store.keys import prefix
from tests.protocols.channels.conftest import RESUMABLE, SITE, ChannelsNode, Client, NodeStarter
from tests.support.store import make_message
from tests.support.valkey import Valkey
from tests.support.waiting import until


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Positions are told to Redis at once."""
    monkeypatch.setattr(positions, "FLUSH_AFTER_SECONDS", 0.0)


async def subscribed(node: ChannelsNode, *channels: str) -> tuple[Client, OpeningRequest]:
    """A resumable client with these channels, and the wish with which it comes back."""
    client = node.client(RESUMABLE)
    ack = await client.acked()
    for channel in channels:
        await client.act("SUBSCRIBE", channel)
    return client, OpeningRequest(False, ack["uuid"], ack["secret"])


def position_of(valkey: Valkey, wish: OpeningRequest) -> int:
    """How far Redis has it."""
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
    """Anything else in the query is no wish; the secret is in no repr."""
    assert OpeningRequest.of(query) == wish
    assert wish.is_plain == (not wish.is_resumable and not wish.uuid)
    assert "'s'" not in repr(wish)


async def test_a_plain_subscriber_needs_no_redis(start_node: NodeStarter, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is greeted at once, whatever Redis does; one that wants to come back is asked to try again."""
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
    """Whatever is awaited when its connection ends: it is on no list of the node, and may be resumed as before."""
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
    """A site that pushes much elsewhere forgets nothing of a quiet channel: with each sign of life its subscriber is
    known to have missed nothing, up to what the node has heard."""
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
    """Other messages of the site move its seq on, and say nothing of pushes."""
    node = await start_node()
    await node.create("news")
    client, wish = await subscribed(node, "news")
    client.lose()
    await node.settled()
    for _ in range(3):
        await node.node.delivery.publish(make_message(SITE, ["hall"]))
    assert await node.client(wish).acked() == {"uuid": wish.uuid, "subscribedChannels": ["news"]}


async def test_pushes_while_the_history_is_read(start_node: NodeStarter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several pages, and pushes that come while each is read: all of them once, in order."""
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


async def test_a_page_that_is_gone_is_told(start_node: NodeStarter, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the history is trimmed faster than a client reads it, a second CLIENT_ACK says that some is missed."""
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
    """On another node: the older one learns it with its next pong. On the same: at once, and what it still had to say
    of its position ends nobody."""
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
    """A resumable subscriber by its CLIENT_ACK, a plain one by its end; who has no channel has lost nothing."""
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
    """It keeps the position of the page that it confirmed."""
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
    """Nobody is written anything because of it."""
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
    """Its pong says that it is there, on a node too that has heard nothing live: it does not come again."""
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
    """However much was pushed elsewhere while it was connected without a word, and when all of that is forgotten."""
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
    """They were accepted before: who was away gets them, again until it has confirmed them, in a list without the
    channel, and nothing of the next channel of that name."""
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
        # Without a pong it comes again.
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
    """What was pushed before it is not held any more: `missed`, though no channel is left."""
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
    """Pushes of before are written, whether they were read or held; then the list without the channel."""
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
    """Its first CLIENT_ACK had the channel: another one follows what was pushed there."""
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
