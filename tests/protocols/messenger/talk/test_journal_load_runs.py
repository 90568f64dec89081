"""Messages of load tests in SQL: in tables of their own, within the limits of a run, and gone with it; on both
databases."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from sqlalchemy import select

from app.protocols.load_rooms import LoadLimits, LoadPlace, LoadProgress
from app.protocols.messenger.answers import ChatRefusal
from app.protocols.messenger.journal_message_tables import (
    chat_load_messages,
    chat_load_receipts,
    chat_load_runs,
    chat_messages,
    chat_receipts,
)
from app.protocols.messenger.talk import journal_load_runs
from app.protocols.messenger.talk.facts import AckedSeq, SentRow
from app.protocols.messenger.talk.journal_load import load_progress, load_times
from app.protocols.messenger.talk.journal_load_runs import begin_run, end_run, forget_some, open_room
from app.protocols.messenger.talk.journal_messages import Post, accept_all
from app.protocols.messenger.talk.journal_outbox import finish
from app.protocols.messenger.talk.journal_receipts import note_delivered
from app.protocols.messenger.talk.rules import ChatTarget
from app.protocols.messenger.talk.wishes import AcceptedMessage, MessageWish
from tests.protocols.messenger.talk.talk_ground import NOW, Ground, refused, texts

LIMITS = LoadLimits(100, 5_000, 60_000)


async def begin(ground: Ground, room: int, run: str = "1-ab", limits: LoadLimits = LIMITS, now: int = NOW) -> LoadPlace:
    """A run in a room."""
    place = LoadPlace(ground.site.name, room, run)
    async with ground.sql.writing(ground.site) as (sql, site_id):
        await begin_run(sql, site_id, place, limits, now)
    return place


async def send(ground: Ground, user: int, room: int, run: str = "1-ab", **more: Any) -> AcceptedMessage:
    """A message of a run."""
    data = msgspec.json.encode({"run": run}).decode()
    return await ground.send(user, ChatTarget(room=room), "load word", kind="load", data=data, **more)


async def posted(ground: Ground, user: int, wishes: list[MessageWish], now: int) -> list[AcceptedMessage | ChatRefusal]:
    """The outcomes of messages that one transaction accepts."""
    posts = [Post(await ground.sender(user), wish) for wish in wishes]
    async with ground.sql.writing(ground.site) as (sql, site_id):
        return await accept_all(sql, site_id, posts, now, ground.desk)


def wish(number: int, room: int, run: str = "1-ab") -> MessageWish:
    """A message of a run."""
    return MessageWish(f"w{number}", ChatTarget(room=room), "load", "load", msgspec.json.encode({"run": run}).decode())


async def forget(ground: Ground, run: str, now: int) -> int:
    """Remove a run in steps; their number."""
    steps, is_over = 0, False
    while not is_over:
        async with ground.sql.writing(ground.site) as (sql, site_id):
            is_over = await forget_some(sql, site_id, run, now)
        steps += 1
    return steps


async def test_no_user_sees_a_message_of_a_run(ground: Ground) -> None:
    """Messages of a run stand in tables of their own: no sync, history, search, reading, change or reply of anybody
    finds one, also not of who has sent it. Their numbers are of the same clock, so that none comes twice."""
    ann, ben = await ground.users(2)
    room = await ground.room([ann, ben])
    await begin(ground, room)
    real = await ground.send(ann, ChatTarget(room=room), "real word")
    cursor = (await ground.part(ben, None)).cursor
    load = await send(ground, ann, room)
    later = await ground.send(ann, ChatTarget(room=room), "word")
    assert real.id < load.id < later.id
    assert [await ground.count(table) for table in (chat_messages, chat_load_messages)] == [2, 1]
    for user in (ann, ben):
        assert texts(await ground.history(user, ChatTarget(room=room))) == ["word", "real word"]
        assert texts(await ground.search(user, "word")) == ["word", "real word"]
        assert texts([msgspec.json.decode(one) for one in (await ground.part(user, cursor)).messages]) == ["word"]
    assert await ground.read(ben, [load.id]) == 0
    await refused("bad_request", ground.edit(ann, load.id, "changed"))
    await refused("bad_request", ground.send(ben, ChatTarget(room=room), reply_to=load.id))


async def test_devices_that_take_part_hear_of_it(ground: Ground) -> None:
    """A message of a run goes to the devices that take part, but for the one that has sent it; its receipts go to those
    of the sender. They stand in a table of their own, and the totals count them."""
    ann, ben = await ground.users(2)
    room = await ground.room([ann, ben])
    place = await begin(ground, room)
    load = await send(ground, ann, room)
    real = await ground.send(ann, ChatTarget(room=room))
    rows = {row.message_id: row for row in await ground.outbox()}
    assert (rows[load.id].rooms, rows[load.id].but_device) == (["load_1-ab"], "a")
    assert msgspec.json.decode(rows[load.id].body)[0] == "load_message"
    assert rows[real.id].rooms == [f"room_{room}"]
    await ground.sender(ben)
    async with ground.sql.writing(ground.site) as (sql, site_id):
        await finish(sql, site_id, 10**9, [SentRow(11, load.id, NOW), SentRow(12, real.id, NOW)])
        acked = [AckedSeq(seq, user, "a") for seq in (11, 12) for user in (ann, ben)]
        assert await note_delivered(sql, site_id, [*acked, AckedSeq(13, ben, "a")], NOW + 7) == {AckedSeq(13, ben, "a")}
        assert await load_progress(sql, site_id, place) == LoadProgress(1, 1, 1)
        assert (await load_times(sql, site_id, place, 10)).delivery == [(7, 1)]
    told = {row.rooms[0]: msgspec.json.decode(row.body) for row in await ground.outbox()}
    assert {room: (event, data["ids"]) for room, (event, data) in told.items()} == {
        f"load_1-ab_{ann}": ("load_receipt", [load.id]),
        f"user_{ann}": ("receipt", [real.id]),
    }
    assert [await ground.count(table) for table in (chat_receipts, chat_load_receipts)] == [1, 1]
    synchronised = [msgspec.json.decode(one)["ids"] for one in (await ground.part(ann, None)).receipts]
    assert synchronised == [[real.id]]


async def test_a_message_without_its_run(ground: Ground) -> None:
    """The kind `load` is refused without a run that is under way in this room, and with a file or another message."""
    ann, ben = await ground.users(2)
    room, other = await ground.room([ann, ben]), await ground.room([ann])
    to = ChatTarget(room=room)
    await refused("bad_request", ground.send(ann, to, kind="load"))
    await refused("bad_request", send(ground, ann, room))
    await begin(ground, room)
    real = await ground.send(ann, to)
    for data in (None, "[]", "{}", '{"run": 1}', '{"run": ""}', '{"run": "2-cd"}'):
        await refused("bad_request", ground.send(ann, to, kind="load", data=data))
    for more in ({"file": "f"}, {"reply_to": real.id}, {"forward_of": real.id}):
        await refused("bad_request", send(ground, ann, room, **more))
    await refused("bad_request", send(ground, ann, other))
    await refused("bad_request", ground.send(ann, ChatTarget(user=ben), kind="load", data='{"run": "1-ab"}'))
    await ground.leave(room, ben)
    await refused("not_member", send(ground, ben, room))
    assert await ground.count(chat_load_messages) == 0


async def test_the_limits_of_a_run(ground: Ground) -> None:
    """A run takes so many messages and no more, also when they come at once; it takes them for its time, which begins
    with the first one, and waits for that one no longer than it may. A repetition does not count."""
    [ann] = await ground.users(1)
    room = await ground.room([ann])
    await begin(ground, room, limits=LoadLimits(3, 5_000, 60_000))
    outcomes = await posted(ground, ann, [wish(number, room) for number in (1, 2, 2)], NOW + 50_000)
    assert [isinstance(one, AcceptedMessage) for one in outcomes] == [True] * 3
    outcomes = await posted(ground, ann, [wish(number, room) for number in (1, 3, 4)], NOW + 54_999)
    assert [isinstance(one, AcceptedMessage) for one in outcomes] == [True, True, False]
    assert await ground.count(chat_load_messages) == 3
    await begin(ground, room, "2-cd")
    outcomes = [(await posted(ground, ann, [wish(10 + at, room, "2-cd")], NOW + at))[0] for at in (10, 5_009, 5_010)]
    assert [isinstance(one, AcceptedMessage) for one in outcomes] == [True, True, False]
    await begin(ground, room, "3-ef")
    assert not isinstance((await posted(ground, ann, [wish(20, room, "3-ef")], NOW + 60_000))[0], AcceptedMessage)


async def test_a_run_goes_in_steps(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows of a run that has ended are deleted in steps, with those that a killed node has left, and no others."""
    monkeypatch.setattr(journal_load_runs, "ROWS_A_STEP", 2)
    ann, ben = await ground.users(2)
    room = await ground.room([ann, ben])
    await ground.sender(ben)
    await begin(ground, room, "left", LoadLimits(9, 1, 1), NOW - 10**6)
    await begin(ground, room, "on", now=NOW)
    await begin(ground, room)
    ids = [(await send(ground, ann, room)).id for _ in range(5)]
    on = (await send(ground, ann, room, "on")).id
    async with ground.sql.writing(ground.site) as (sql, site_id):
        sent = [SentRow(seq, id, NOW) for seq, id in enumerate([*ids, on], 20)]
        await finish(sql, site_id, 10**9, sent)
        await note_delivered(sql, site_id, [AckedSeq(one.seq, ben, "a") for one in sent], NOW)
        assert await open_room(sql, site_id, "1-ab", NOW + 1) == room
        await end_run(sql, site_id, "1-ab", NOW + 1)
        assert await open_room(sql, site_id, "1-ab", NOW + 1) is None
    await refused("bad_request", send(ground, ann, room, "left"))
    assert await forget(ground, "1-ab", NOW + 1) == 3 + 3 + 1
    assert [await ground.count(table) for table in (chat_load_messages, chat_load_receipts)] == [1, 1]
    async with ground.sql.reading(ground.site) as (sql, site_id):
        of_site = chat_load_runs.c.site_id == site_id
        assert list((await sql.execute(select(chat_load_runs.c.run).where(of_site))).scalars()) == ["on"]
