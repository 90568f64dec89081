"""Mailboxes on a real Valkey, mailrooms of two nodes, and clients whose receipts the test gives."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from app.config.settings import BatchLimit
from app.core import catch_up
from app.errors import StoreUnavailable
from app.protocols.redis_publish.mailroom import TOO_MANY
from app.protocols.redis_publish.recipient import Recipient, RecipientPhase
from tests.support.publish_node import PublishClient, PublishNode, is_live, publish_nodes, publish_site, waiting
from tests.support.valkey import Valkey
from tests.support.waiting import until


@pytest.fixture
async def nodes(valkey: Valkey) -> AsyncIterator[list[PublishNode]]:
    """Two nodes of a site with small parts."""
    async with publish_nodes(valkey, publish_site(batch_limit=BatchLimit(messages=3)), "aa", "bb") as nodes:
        yield nodes


async def test_what_no_client_is_known_to_have_waits(nodes: list[PublishNode], valkey: Valkey) -> None:
    """A message that was written without a receipt waits in the list after its connection is gone."""
    client, _ = await nodes[0].open()
    for payload in ("1", "2", "3"):
        assert await nodes[1].publish(payload) == "delivered"
        await until(lambda payload=payload: client.payloads[-1:] == [payload], payload)  # type: ignore[misc]
        if payload == "2":
            # The open question is about the first message; after it comes one about the second.
            client.answer()
            client.answer()
    assert waiting(valkey) == []
    client.disconnect()
    await nodes[0].mailroom.drain()
    assert waiting(valkey) == ["3"]
    again, _ = await nodes[1].open()
    assert again.payloads == ["3"]
    again.answer()
    await nodes[1].mailroom.drain()
    assert waiting(valkey) == []


async def test_client_that_leaves_behind_one_receipt(nodes: list[PublishNode], valkey: Valkey) -> None:
    """The first receipt is the transport's own: a client that leaves before the second may not have any message."""
    for number in range(2):
        await nodes[0].publish(str(number))
    client, _ = await nodes[0].open()
    assert client.answer_once()
    client.disconnect()
    client.answer_once()
    await nodes[0].mailroom.drain()
    assert waiting(valkey) == ["0", "1"]


async def test_next_part_follows_the_receipt(nodes: list[PublishNode], valkey: Valkey) -> None:
    """A part is removed, and the next one written, when the client has it. A message during the fetch goes to the
    end."""
    for number in range(7):
        assert await nodes[0].publish(str(number)) == "queued"
    client, recipient = await nodes[0].open()
    assert client.payloads == ["0", "1", "2"]
    assert await nodes[0].publish("live") == "delivered"
    assert waiting(valkey) == ["0", "1", "2", "3", "4", "5", "6", "live"]
    client.answer()
    await until(lambda: len(client.payloads) == 6, "the second part")
    assert waiting(valkey) == ["3", "4", "5", "6", "live"]
    client.answer()
    await until(is_live(recipient), "the last part")
    assert client.payloads == ["0", "1", "2", "3", "4", "5", "6", "live"]
    client.answer()
    await nodes[0].mailroom.drain()
    assert waiting(valkey) == []


async def test_a_second_connection_while_the_first_fetches(nodes: list[PublishNode], valkey: Valkey) -> None:
    """A message comes once to the connection that fetches, from the list, and once to the connection that hears
    live."""
    for number in range(4):
        await nodes[0].publish(str(number))
    slow, _ = await nodes[0].open()
    quick, recipient = await nodes[1].open()
    for _ in range(2):
        quick.answer()
        await nodes[1].mailroom.drain()
    assert recipient.phase is RecipientPhase.LIVE
    await nodes[0].publish("live")
    await until(lambda: quick.payloads[-1:] == ["live"], "the live message")
    quick.answer()
    slow.answer()
    await until(lambda: slow.payloads[-1:] == ["live"], "the same from the list")
    slow.answer()
    await nodes[0].mailroom.drain()
    assert waiting(valkey) == []
    assert quick.payloads == ["0", "1", "2", "3", "live"]


@pytest.mark.parametrize("is_cut", [False, True], ids=["told", "deaf"])
async def test_part_that_another_connection_acknowledges(valkey: Valkey, is_cut: bool) -> None:
    """A connection that never acknowledges its part continues, with the rest and then live, when another connection of
    the user has acknowledged it; also when its node could not hear of the ack at that moment."""
    site = publish_site(batch_limit=BatchLimit(messages=3), ack=True)
    async with publish_nodes(valkey, site, "aa", "bb") as (first, second):
        for number in range(8):
            await first.publish(str(number))
        silent, recipient = await first.open()
        other, acknowledging = await second.open()
        assert silent.payloads == other.payloads == ["0", "1", "2"]
        for ack_id in range(1, 9):
            await until(lambda ack_id=ack_id: len(other.payloads) >= ack_id, "the next")  # type: ignore[misc]
            if is_cut and ack_id == 2:
                first.feed.subscription.give_up()
            second.mailroom.receive_ack(acknowledging, ack_id)
            await second.mailroom.drain()
        await until(is_live(recipient), "the silent one to be live")
        await first.publish("live")
        await until(lambda: silent.payloads[-1:] == ["live"], "the live message")
        assert silent.written[-1][2] is True
        assert silent.payloads == sorted(set(silent.payloads))
        assert waiting(valkey) == ["live"]


async def test_subscription_that_was_cut(nodes: list[PublishNode], valkey: Valkey) -> None:
    """Messages told while a node was deaf come from the mailbox when the node hears again, once."""
    client, recipient = await nodes[0].open()
    await nodes[1].publish("1")
    await until(lambda: client.payloads == ["1"], "the first")
    nodes[0].feed.subscription.give_up()
    await nodes[1].publish("2")
    await until(lambda: client.payloads == ["1", "2"], "the second")
    await until(is_live(recipient), "live")
    assert nodes[0].counts.gaps == 1
    await nodes[1].publish("3")
    await until(lambda: client.payloads == ["1", "2", "3"], "the third")


async def test_dead_node(nodes: list[PublishNode], valkey: Valkey) -> None:
    """Messages told to a dead node wait after its burial. The bubble goes to another connection at once."""
    lost, _ = await nodes[0].open("v")
    dead, _ = await nodes[0].open()
    client, _ = await nodes[1].open()
    await nodes[0].kill()
    assert await nodes[1].publish("x", "v") == "delivered"
    await nodes[1].publish("1")
    await until(lambda: client.payloads == ["1"], "the message")
    assert client.written[-1] == ("message", "1", True, None)
    assert waiting(valkey, "v") == []
    assert await nodes[1].mailboxes.bury("aa") == 2
    assert waiting(valkey, "v") == ["x"]
    assert (lost.payloads, dead.payloads) == ([], [])
    assert await nodes[1].mailboxes.bury("aa") == 0


async def test_node_that_was_buried_alive(nodes: list[PublishNode], valkey: Valkey) -> None:
    """The clients of a node that was buried alive are registered again when it finds out, and get missed messages
    once."""
    client, recipient = await nodes[0].open()
    await nodes[1].publish("1")
    await until(lambda: client.payloads == ["1"], "the first")
    await nodes[1].mailboxes.bury("aa")
    assert waiting(valkey) == ["1"]
    assert await nodes[1].publish("2") == "queued"
    nodes[0].mailroom.subscription_interrupted()
    await until(lambda: client.payloads == ["1", "2"], "the second")
    # The first question is only about the first message.
    while client.answer():
        await nodes[0].mailroom.drain()
    assert waiting(valkey) == []
    await nodes[1].publish("3")
    await until(lambda: client.payloads == ["1", "2", "3"], "the third")
    assert recipient.phase is RecipientPhase.LIVE


async def test_connection_over_the_limit(valkey: Valkey) -> None:
    """The oldest connection is told the reason and disconnected. A message that it is not known to have is not lost."""
    async with publish_nodes(valkey, publish_site(conn_limit=1), "aa", "bb") as (first, second):
        old, recipient = await first.open()
        await second.publish("1")
        await until(lambda: old.payloads == ["1"], "the message")
        new, _ = await second.open()
        assert new.payloads == ["1"]
        await until(lambda: recipient.phase is RecipientPhase.CLOSED, "the end of the old one")
        assert old.written[-2:] == [("error", TOO_MANY), ("disconnect",)]
        assert first.counts.identifications["conn_limit"] == 1


async def test_client_that_leaves_while_it_is_registered(nodes: list[PublishNode], valkey: Valkey) -> None:
    """A client that goes before the mailbox has answered does not stay registered."""
    client, recipient = nodes[0].client()
    opening = asyncio.ensure_future(nodes[0].mailroom.open(recipient, "u"))
    await asyncio.sleep(0)
    client.disconnect()
    await opening
    await nodes[0].mailroom.drain()
    assert await nodes[1].publish("1") == "queued"
    assert client.payloads == []


async def test_redis_away(nodes: list[PublishNode], valkey: Valkey) -> None:
    """`open` fails at once. A receipt that cannot reach Redis now is delivered later."""
    client, _ = await nodes[0].open()
    await nodes[1].publish("1")
    await until(lambda: client.payloads == ["1"], "the message")
    assert nodes[0].redis._link is not None
    nodes[0].redis._link.abort()
    await until(lambda: not nodes[0].redis.is_available, "the link to be gone")
    client.answer()
    with pytest.raises(StoreUnavailable):
        await nodes[0].open("v")
    client.disconnect()
    await nodes[0].mailroom.drain()
    assert waiting(valkey) == []
    assert await nodes[1].publish("x", "v") == "queued"


@pytest.mark.parametrize("ack", [False, True], ids=["receipts", "acks"])
@pytest.mark.parametrize("bound", [1, catch_up.MAX_MESSAGES])
async def test_whatever_happens(
    valkey: Valkey, chance: random.Random, monkeypatch: pytest.MonkeyPatch, ack: bool, bound: int
) -> None:
    """Clients connect, leave and confirm, feeds break, nodes die. In every order of these events, each message reaches
    a client or waits (with acks: it waits unless it was acknowledged), and each client gets its messages once and in
    order. This holds for a large and for a very small bound of the held messages."""
    monkeypatch.setattr(catch_up, "MAX_MESSAGES", bound)
    site = publish_site(batch_limit=BatchLimit(messages=3), conn_limit=4, ack=ack)
    for _ in range(6):
        valkey.client.flushall()
        async with publish_nodes(valkey, site, "aa", "bb", "cc") as nodes:
            await Shuffle(nodes, chance).run()


class Shuffle:
    """One random sequence of events. Lives for one run."""

    def __init__(self, nodes: list[PublishNode], chance: random.Random) -> None:
        self.nodes = nodes
        self.chance = chance
        self.sent: list[str] = []
        self.acknowledged: set[str] = set()
        #: All clients ever opened, and the clients that have not left by themselves.
        self.everybody: list[tuple[PublishNode, PublishClient, Recipient]] = []
        self.present: list[tuple[PublishNode, PublishClient, Recipient]] = []

    async def run(self) -> None:
        """Runs the events, and checks the result."""
        steps = (self.publish, self.open, self.leave, self.confirm, self.cut, self.kill)
        for _ in range(self.chance.randrange(40, 120)):
            (step,) = self.chance.choices(steps, (50, 15, 10, 20, 3, 2))
            await step()
            for _ in range(self.chance.randrange(-3, 4)):
                # Let earlier steps proceed for a random number of turns.
                await self.nodes[0].redis.command("PING")
        await self.settle()
        left = waiting(self.nodes[0].valkey)
        if self.nodes[0].settings.ack:
            assert left == [payload for payload in self.sent if payload not in self.acknowledged]
        had = {payload for _, client, _ in self.everybody for payload in client.payloads} | set(left)
        assert [payload for payload in self.sent if payload not in had] == []
        for _, client, _ in self.everybody:
            assert client.payloads == sorted(set(client.payloads), key=int)

    async def publish(self) -> None:
        """Sends a message to the user."""
        self.sent.append(str(len(self.sent)))
        await self.nodes[0].publish(self.sent[-1])

    async def open(self) -> None:
        """Opens a connection of the user, at any node."""
        node = self.chance.choice(self.nodes)
        self.present.append((node, *await node.open()))
        self.everybody.append(self.present[-1])

    async def leave(self) -> None:
        """Disconnects a client."""
        if self.present:
            self.present.pop(self.chance.randrange(len(self.present)))[1].disconnect()

    async def confirm(self) -> None:
        """Makes a client answer its open question, or acknowledge one of its messages."""
        if self.present:
            node, client, recipient = self.chance.choice(self.present)
            client.answer()
            messages = [packet for packet in client.written if packet[0] == "message" and packet[3] is not None]
            if messages and not client.is_closed and node in self.nodes:
                _, payload, _, ack_id = self.chance.choice(messages)
                node.mailroom.receive_ack(recipient, ack_id)
                self.acknowledged.add(payload)

    async def cut(self) -> None:
        """Breaks a node's subscription."""
        self.chance.choice(self.nodes).feed.subscription.give_up()

    async def kill(self) -> None:
        """Kills a node, and buries it."""
        if len(self.nodes) > 1:
            dead = self.nodes.pop()
            await dead.mailroom.drain()
            await dead.kill()
            await self.nodes[0].mailboxes.bury(dead.name)

    async def settle(self) -> None:
        """Waits until no client has an open question."""

        def is_quiet() -> bool:
            was_asked = [client.answer() for _, client, _ in self.everybody]
            return not any(was_asked) and all(node.feed.is_hearing for node in self.nodes)

        for _ in range(2):
            await until(is_quiet, "everybody to be answered")
            for node in self.nodes:
                await node.mailroom.drain()
