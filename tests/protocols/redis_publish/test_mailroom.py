"""Mailboxes on a real Valkey, mailrooms of two nodes, and clients of which the test says what they have."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.config.settings import BatchLimit
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
    """A message that was written, and of which no receipt came, waits in the list when the connection is gone."""
    client, _ = await nodes[0].open()
    for payload in ("1", "2", "3"):
        assert await nodes[1].publish(payload) == "delivered"
        await until(lambda payload=payload: client.payloads[-1:] == [payload], payload)  # type: ignore[misc]
        if payload == "2":
            # The question that is open is the first message's, then that of the second.
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
    """One receipt is the transport's: a client that leaves before the second may not have shown any of it."""
    for number in range(2):
        await nodes[0].publish(str(number))
    client, _ = await nodes[0].open()
    assert client.answer_once()
    client.disconnect()
    client.answer_once()
    await nodes[0].mailroom.drain()
    assert waiting(valkey) == ["0", "1"]


async def test_next_part_follows_the_receipt(nodes: list[PublishNode], valkey: Valkey) -> None:
    """A part is taken out, and the next written, when the client has it; what comes meanwhile goes behind the rest."""
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
    """A message comes once to the connection that fetches, from the list, and once to the one that hears live."""
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
    """A connection that never acknowledges its part goes on, with what is left and then live, when another has done it
    for the user; also when its node could not hear of it at that moment."""
    site = publish_site(batch_limit=BatchLimit(messages=3), ack=True)
    async with publish_nodes(valkey, site, "aa", "bb") as (first, second):
        for number in range(8):
            await first.publish(str(number))
        silent, recipient = await first.open()
        other, acknowledging = await second.open()
        assert silent.payloads == other.payloads == ["0", "1", "2"]
        for ack_id in range(1, 9):
            await until(lambda ack_id=ack_id: len(other.payloads) >= ack_id, "the next")  # type: ignore[misc]
            if is_cut and ack_id == 2 and first.feed._link is not None:
                first.feed._link.abort()
            second.mailroom.receive_ack(acknowledging, ack_id)
            await second.mailroom.drain()
        await until(is_live(recipient), "the silent one to be live")
        await first.publish("live")
        await until(lambda: silent.payloads[-1:] == ["live"], "the live message")
        assert silent.written[-1][2] is True
        assert silent.payloads == sorted(set(silent.payloads))
        assert waiting(valkey) == ["live"]


async def test_subscription_that_was_cut(nodes: list[PublishNode], valkey: Valkey) -> None:
    """What was told while a node was deaf comes from the mailbox when it hears again, once."""
    client, recipient = await nodes[0].open()
    await nodes[1].publish("1")
    await until(lambda: client.payloads == ["1"], "the first")
    assert nodes[0].feed._link is not None
    nodes[0].feed._link.abort()
    await nodes[1].publish("2")
    await until(lambda: client.payloads == ["1", "2"], "the second")
    await until(is_live(recipient), "live")
    assert nodes[0].counts.gaps == 1
    await nodes[1].publish("3")
    await until(lambda: client.payloads == ["1", "2", "3"], "the third")


async def test_dead_node(nodes: list[PublishNode], valkey: Valkey) -> None:
    """What was told to a node that died waits once it is buried; the bubble goes to another connection at once."""
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
    """Its clients are registered again when it finds out, and get what they missed, once."""
    client, recipient = await nodes[0].open()
    await nodes[1].publish("1")
    await until(lambda: client.payloads == ["1"], "the first")
    await nodes[1].mailboxes.bury("aa")
    assert waiting(valkey) == ["1"]
    assert await nodes[1].publish("2") == "queued"
    nodes[0].mailroom.subscription_interrupted()
    await until(lambda: client.payloads == ["1", "2"], "the second")
    # The first question is about the first message alone.
    while client.answer():
        await nodes[0].mailroom.drain()
    assert waiting(valkey) == []
    await nodes[1].publish("3")
    await until(lambda: client.payloads == ["1", "2", "3"], "the third")
    assert recipient.phase is RecipientPhase.LIVE


async def test_connection_over_the_limit(valkey: Valkey) -> None:
    """The oldest is told why and disconnected; what it was not known to have is not lost with it."""
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
    """Nothing stays registered of a client that has gone before the mailbox has answered."""
    client, recipient = nodes[0].client()
    opening = asyncio.ensure_future(nodes[0].mailroom.open(recipient, "u"))
    await asyncio.sleep(0)
    client.disconnect()
    await opening
    await nodes[0].mailroom.drain()
    assert await nodes[1].publish("1") == "queued"
    assert client.payloads == []


async def test_redis_away(nodes: list[PublishNode], valkey: Valkey) -> None:
    """`open` fails at once; a receipt that cannot be told now is told later."""
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
async def test_whatever_happens(valkey: Valkey, chance: random.Random, ack: bool) -> None:
    """Clients come, go and confirm, feeds are cut, nodes die: every message is had by somebody or waits (with acks: it
    waits unless it was acknowledged), and each client has what it got once and in order."""
    site = publish_site(batch_limit=BatchLimit(messages=3), conn_limit=4, ack=ack)
    for _ in range(6):
        valkey.client.flushall()
        async with publish_nodes(valkey, site, "aa", "bb", "cc") as nodes:
            await Shuffle(nodes, chance).run()


class Shuffle:
    """One random course of events. Lives for one run."""

    def __init__(self, nodes: list[PublishNode], chance: random.Random) -> None:
        self.nodes = nodes
        self.chance = chance
        self.sent: list[str] = []
        self.acknowledged: set[str] = set()
        #: All there ever were, and those that have not left by themselves.
        self.everybody: list[tuple[PublishNode, PublishClient, Recipient]] = []
        self.present: list[tuple[PublishNode, PublishClient, Recipient]] = []

    async def run(self) -> None:
        """Let it happen, and check what came of it."""
        steps = (self.publish, self.open, self.leave, self.confirm, self.cut, self.kill)
        for _ in range(self.chance.randrange(40, 120)):
            (step,) = self.chance.choices(steps, (50, 15, 10, 20, 3, 2))
            await step()
            for _ in range(self.chance.randrange(-3, 4)):
                # What was begun before goes on meanwhile, as far as chance will have it.
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
        """A message for the user."""
        self.sent.append(str(len(self.sent)))
        await self.nodes[0].publish(self.sent[-1])

    async def open(self) -> None:
        """A connection of the user, at any node."""
        node = self.chance.choice(self.nodes)
        self.present.append((node, *await node.open()))
        self.everybody.append(self.present[-1])

    async def leave(self) -> None:
        """A client goes."""
        if self.present:
            self.present.pop(self.chance.randrange(len(self.present)))[1].disconnect()

    async def confirm(self) -> None:
        """A client answers what it was asked, or acknowledges one of its messages."""
        if self.present:
            node, client, recipient = self.chance.choice(self.present)
            client.answer()
            messages = [what for what in client.written if what[0] == "message" and what[3] is not None]
            if messages and not client.is_closed and node in self.nodes:
                _, payload, _, ack_id = self.chance.choice(messages)
                node.mailroom.receive_ack(recipient, ack_id)
                self.acknowledged.add(payload)

    async def cut(self) -> None:
        """A node's subscription breaks."""
        link: Any = self.chance.choice(self.nodes).feed._link
        if link is not None:
            link.abort()

    async def kill(self) -> None:
        """A node dies, and is buried."""
        if len(self.nodes) > 1:
            dead = self.nodes.pop()
            await dead.mailroom.drain()
            await dead.kill()
            await self.nodes[0].mailboxes.bury(dead.name)

    async def settle(self) -> None:
        """Until nobody is asked any more."""

        def is_quiet() -> bool:
            was_asked = [client.answer() for _, client, _ in self.everybody]
            return not any(was_asked) and all(node.feed.is_hearing for node in self.nodes)

        for _ in range(2):
            await until(is_quiet, "everybody to be answered")
            for node in self.nodes:
                await node.mailroom.drain()
