"""Receipts: which states are noted, and who is told; on both databases."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from sqlalchemy import insert, update

from app.journal.tables import deliveries, devices, messages
from app.protocols.messenger.journal_message_tables import chat_receipts
from app.protocols.messenger.journal_tables import chat_sent, chat_users
from app.protocols.messenger.talk.facts import AckedSeq, SentRow
from app.protocols.messenger.talk.journal_acks import AckQuestion, ack_page, forget_seqs
from app.protocols.messenger.talk.journal_outbox import finish
from app.protocols.messenger.talk.journal_receipts import note_delivered
from app.protocols.messenger.talk.rules import ChatTarget
from tests.protocols.messenger.talk.talk_ground import NOW, Ground


async def told(ground: Ground) -> list[tuple[list[str], dict[str, Any]]]:
    """The receipts for senders in the outbox, with the rooms that they go to."""
    rows = [(row.rooms, msgspec.json.decode(row.body)) for row in await ground.outbox() if row.but_device is None]
    return [(rooms, data) for rooms, (event, data) in rows if event == "receipt"]


async def sent(ground: Ground, *seqs: tuple[int, int]) -> None:
    """The core has messages under seqs."""
    async with ground.sql.writing(ground.site) as (sql, site_id):
        await finish(sql, site_id, 10**9, [SentRow(seq, message, NOW) for seq, message in seqs])


async def deliver(ground: Ground, *acked: AckedSeq) -> set[AckedSeq]:
    """Devices have acknowledged."""
    for one in acked:
        await ground.sender(one.user, one.device)
    async with ground.sql.writing(ground.site) as (sql, site_id):
        return await note_delivered(sql, site_id, acked, NOW + 3)


async def test_read_messages(ground: Ground) -> None:
    """The sender is told once, of messages of others that the reader sees; so are the reader's other devices."""
    me, you, other = await ground.users(3)
    mine = await ground.send(me, ChatTarget(user=you))
    more = await ground.send(me, ChatTarget(user=you))
    own, hidden = await ground.send(you, ChatTarget(user=me)), await ground.send(me, ChatTarget(user=other))
    await ground.outbox()
    assert await ground.read(you, [mine.id, more.id, own.id, hidden.id, 10**12], device="phone") == 2
    receipt = {"ids": [mine.id, more.id], "user": you, "device": "phone", "state": "read", "at": NOW + 2}
    assert await told(ground) == [([f"user_{me}"], receipt)]
    assert await ground.read(you, [mine.id], device="phone") == 0
    assert await ground.read(you, [mine.id], device="pad") == 1
    rows = await ground.outbox()
    at_pad = {"ids": [mine.id], "user": you, "device": "pad", "state": "read", "at": NOW + 2}
    assert [msgspec.json.decode(row.body) for row in rows] == [["receipt", at_pad]] * 2
    assert [(row.rooms, row.but_user, row.but_device) for row in rows] == [
        ([f"user_{me}"], None, None),
        ([f"user_{you}"], f"user_{you}", "pad"),
    ]


async def test_delivered_messages(ground: Ground) -> None:
    """An ack of an addressee's device is told to the sender; one of the sender's own devices is not."""
    me, you, other = await ground.users(3)
    room = await ground.room([me, you])
    direct, shared = await ground.send(me, ChatTarget(user=you)), await ground.send(me, ChatTarget(room=room))
    await sent(ground, (11, direct.id), (12, shared.id))
    acked = [AckedSeq(seq, user, "a") for seq in (11, 12) for user in (me, you, other)]
    assert await deliver(ground, *acked, AckedSeq(13, you, "a")) == {AckedSeq(13, you, "a")}
    receipt = {"ids": [direct.id, shared.id], "user": you, "device": "a", "state": "delivered", "at": NOW + 3}
    assert await told(ground) == [([f"user_{me}"], receipt)]
    await deliver(ground, *acked)
    assert await told(ground) == []


async def test_read_before_delivered(ground: Ground) -> None:
    """An ack that is noted after the reading is told to nobody, and the message stays read."""
    me, you = await ground.users(2)
    message = await ground.send(me, ChatTarget(user=you))
    await sent(ground, (11, message.id))
    await ground.read(you, [message.id])
    await ground.outbox()
    await deliver(ground, AckedSeq(11, you, "a"))
    assert await told(ground) == []
    part = await ground.part(me, None)
    assert [msgspec.json.decode(one)["state"] for one in part.receipts] == ["read"]


async def test_channels(ground: Ground) -> None:
    """Channels have receipts only where their room says so, other rooms unless it says not."""
    me, you = await ground.users(2)
    cases = (
        ("channel", None, 0),
        ("channel", True, 1),
        ("chat", None, 1),
        ("chat", False, 0),
    )
    for kind, has_receipts, expected in cases:
        room = await ground.room([me, you], admins=[me], kind=kind, has_receipts=has_receipts)
        message = await ground.send(me, ChatTarget(room=room))
        await sent(ground, (11, message.id))
        assert await ground.read(you, [message.id]) == expected, (kind, has_receipts)
        await deliver(ground, AckedSeq(11, you, "b"))
        assert len(await told(ground)) == 2 * expected, (kind, has_receipts)
        async with ground.sql.writing(ground.site) as (sql, site_id):
            await forget_seqs(sql, site_id, [11])


async def test_no_receipt_to_a_blocked_sender(ground: Ground) -> None:
    """Nothing is told to a blocked user, also not of rooms and of earlier messages."""
    me, you = await ground.users(2)
    room = await ground.room([me, you])
    ids = [(await ground.send(me, target)).id for target in (ChatTarget(user=you), ChatTarget(room=room))]
    await ground.block(you, me)
    ids.append((await ground.send(me, ChatTarget(user=you))).id)
    await sent(ground, *((10 + id, id) for id in ids))
    assert await ground.read(you, ids) == 0
    await deliver(ground, *(AckedSeq(10 + id, you, "a") for id in ids))
    assert (await told(ground), await ground.count(chat_receipts)) == ([], 0)


async def test_a_member_that_left_after_its_ack(ground: Ground) -> None:
    """The message was for it, so the sender is told; of a later member's ack it is not."""
    me, you, late = await ground.users(3)
    room = await ground.room([me, you])
    message = await ground.send(me, ChatTarget(room=room))
    await ground.leave(room, you)
    await ground.enter(room, late)
    await sent(ground, (11, message.id))
    await deliver(ground, AckedSeq(11, you, "a"), AckedSeq(11, late, "a"))
    assert [data["user"] for _, data in await told(ground)] == [you]


@pytest.mark.parametrize("name", ["", "x_7 é"], ids=["number", "text"])
async def test_acks_of_the_journal(ground: Ground, name: str) -> None:
    """The journal's acks are found in pages, by the number of a user or its id at a backend; messages that have ended
    long ago are forgotten."""
    me, you = await ground.users(2)
    ids = [(await ground.send(me, ChatTarget(user=you))).id for _ in range(3)]
    await sent(ground, *zip((21, 22, 23), ids, strict=True))
    async with ground.sql.writing(ground.site) as (sql, site_id):
        await sql.execute(update(chat_users).where(chat_users.c.id == you).values(external=name or None))
        user = f"user_{name or you}"
        device = insert(devices).values(site_id=site_id, user=user, device="a").returning(devices.c.id)
        row = (await sql.execute(device)).scalar_one()
        for seq, acked_at, waiting in ((21, NOW, 0), (22, None, 1), (23, NOW, 0)):
            counts = {"n_waiting": waiting, "n_acked": 1 - waiting, "addressed": 1}
            about = {"site_id": site_id, "seq": seq, "id": seq, "event": "message", "rooms": "[]", "bytes": 1}
            await sql.execute(insert(messages).values(**about, **counts, accepted_at=NOW))
            fate = {"site_id": site_id, "seq": seq, "device_id": row, "state": 2 if acked_at else 0}
            await sql.execute(insert(deliveries).values(**fate, acked_at=acked_at))
    async with ground.sql.reading(ground.site) as (sql, site_id):
        page = await ack_page(sql, AckQuestion(site_id, 0, 2, NOW), are_texts=bool(name))
        assert (page.seqs, page.acks, page.ended) == ([21, 22], [AckedSeq(21, you, "a")], [])
        later = await ack_page(sql, AckQuestion(site_id, 22, 2, NOW + 4_000_000), are_texts=bool(name))
        assert (later.seqs, later.acks, later.ended) == ([23], [AckedSeq(23, you, "a")], [23])
        assert (await ack_page(sql, AckQuestion(site_id, 23, 2, NOW), are_texts=bool(name))).seqs == []
    await deliver(ground, *page.acks, *later.acks)
    assert [data["ids"] for _, data in await told(ground)] == [[ids[0], ids[2]]]
    async with ground.sql.writing(ground.site) as (sql, site_id):
        await forget_seqs(sql, site_id, later.ended)
    assert await ground.count(chat_sent) == 2
