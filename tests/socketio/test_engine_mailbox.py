"""The packets that wait for a polling client."""

from __future__ import annotations

import asyncio

import pytest

from app.socketio.engine_mailbox import Mailbox
from app.socketio.engine_packet import CLOSE, NOOP, BinaryPacket, EncodedPacket, Packet


def packet(size: int) -> EncodedPacket:
    """A packet of this many bytes."""
    return EncodedPacket(b"4" * size)


@pytest.fixture
def mailbox() -> Mailbox:
    """A mailbox of a thousand bytes."""
    return Mailbox(1_000)


def test_order(mailbox: Mailbox) -> None:
    """Packets are taken in the order in which they came, once."""
    packets: list[Packet] = [packet(1), BinaryPacket(b"x"), packet(2)]
    for each in packets:
        assert mailbox.add(each)
    assert mailbox.has_payload
    assert mailbox.take_payload() == packets
    assert mailbox.waiting_bytes == 0
    assert mailbox.take_payload() == [NOOP]


def test_bound(mailbox: Mailbox) -> None:
    """One packet too many is refused, and the waiting packets are dropped: the session is lost anyway."""
    assert mailbox.add(packet(400))
    assert mailbox.add(packet(400))
    assert mailbox.add(packet(400))
    assert not mailbox.add(packet(400))
    assert not mailbox.has_payload
    assert mailbox.waiting_bytes == 0


def test_one_packet_may_be_larger_than_the_bound(mailbox: Mailbox) -> None:
    """A single large packet gets through, or it could never be delivered to this client."""
    assert mailbox.add(packet(5_000))
    assert not mailbox.add(packet(1))


def test_the_largest_packet_is_counted_apart(mailbox: Mailbox) -> None:
    """A replay as long as the bound may come between other packets, and live ones may follow it."""
    assert mailbox.add(packet(100))
    assert mailbox.add(packet(1_000))
    assert mailbox.add(packet(100))
    assert mailbox.add(packet(500))
    assert not mailbox.add(packet(400))


def test_empty_packets_hit_the_bound(mailbox: Mailbox) -> None:
    """Packets without content cost something too."""
    added = 0
    while mailbox.add(packet(0)):
        added += 1
    assert added < 100


async def test_poll_is_woken(mailbox: Mailbox) -> None:
    """A waiting poll is answered by the first packet; more of the same turn go with it."""
    poll = asyncio.ensure_future(mailbox.wait())
    await asyncio.sleep(0)
    assert mailbox.has_waiting_poll
    mailbox.add(packet(1))
    mailbox.add(packet(2))
    assert await poll is True
    assert not mailbox.has_waiting_poll
    assert len(mailbox.take_payload()) == 2


async def test_poll_is_lost(mailbox: Mailbox) -> None:
    """A poll that its client gives up is told apart from an answer; the first of the two counts."""
    poll = asyncio.ensure_future(mailbox.wait())
    await asyncio.sleep(0)
    mailbox.poll_lost()
    mailbox.wake()
    assert await poll is False
    mailbox.poll_lost()


async def test_owed_polls(mailbox: Mailbox) -> None:
    """While the client changes its transport, polls are answered at once, with nothing if there is nothing."""
    poll = asyncio.ensure_future(mailbox.wait())
    await asyncio.sleep(0)
    mailbox.owe_polls(True)
    assert await poll is True
    assert mailbox.has_payload
    assert mailbox.take_payload() == [NOOP]
    mailbox.owe_polls(False)
    assert not mailbox.has_payload


def test_farewell(mailbox: Mailbox) -> None:
    """The last packet comes behind the waiting ones, past any bound."""
    first = packet(2_000)
    mailbox.add(first)
    mailbox.add_farewell(CLOSE)
    assert mailbox.take_payload() == [first, CLOSE]
