"""Synchronising by a cursor, in parts; on both databases."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from app.protocols.messenger.talk.journal_sync import read_place
from app.protocols.messenger.talk.rules import ChatTarget
from tests.protocols.messenger.talk.talk_ground import Ground, decoded, refused, texts


class Device:
    """A client that keeps its cursor and what it was told. Lives for the test."""

    def __init__(self, ground: Ground, user: int) -> None:
        """Begin without a cursor."""
        self._ground = ground
        self._user = user
        self.cursor: str | None = None
        #: The parts, as bytes and numbers of messages.
        self.parts: list[tuple[int, int]] = []

    async def sync(self, max_bytes: int = 100_000) -> list[dict[str, Any]]:
        """Everything new, of all parts."""
        found: list[dict[str, Any]] = []
        self.receipts: list[dict[str, Any]] = []
        self.parts = []
        more = True
        while more:
            part = await self._ground.part(self._user, self.cursor, max_bytes)
            self.parts.append((part.bytes, len(part.messages)))
            assert part.bytes <= max_bytes or len(part.messages) + len(part.receipts) == 1
            found += decoded(part.messages)
            self.receipts += decoded(part.receipts)
            self.cursor, more = part.cursor, part.more
        return found


async def test_only_what_is_new(ground: Ground) -> None:
    """The first round brings all in the order of acceptance, later ones bring what has changed since."""
    me, you = await ground.users(2)
    room, device = await ground.room([me, you]), Device(ground, me)
    first = await ground.send(you, ChatTarget(room=room), "one")
    await ground.send(me, ChatTarget(user=you), "two")
    await ground.send(you, ChatTarget(user=me), "three")
    assert texts(await device.sync()) == ["one", "two", "three"]
    assert await device.sync() == []
    await ground.send(you, ChatTarget(room=room), "four")
    await ground.edit(you, first.id, "one!")
    assert texts(await device.sync()) == ["four", "one!"]
    await ground.edit(you, first.id, None)
    assert await device.sync() == [{"id": first.id, "deleted": True}]
    assert texts(await Device(ground, me).sync()) == ["two", "three", "four"]


@pytest.mark.parametrize("max_bytes", [1, 400, 1_000])
async def test_parts_are_bounded(ground: Ground, max_bytes: int) -> None:
    """Parts hold no more than asked for; what is larger alone comes alone; together they are complete."""
    me, you = await ground.users(2)
    rooms = await ground.rooms(3, me)
    expected = []
    for number in range(12):
        text = str(number) + "x" * 40 * (number % 4)
        expected.append(text)
        await ground.send(me, ChatTarget(room=rooms[number % 3]) if number % 2 else ChatTarget(user=you), text)
    device = Device(ground, me)
    assert texts(await device.sync(max_bytes)) == expected
    assert len(device.parts) > 2


async def test_a_room_that_is_entered(ground: Ground) -> None:
    """Its messages come from then on; with an open history all of them, also when it is opened later."""
    me, you = await ground.users(2)
    closed, opened = await ground.room([me]), await ground.room([me], has_history=True)
    device = Device(ground, you)
    for room in (closed, opened):
        await ground.send(me, ChatTarget(room=room), "before")
    await device.sync()
    await ground.enter(closed, you)
    await ground.enter(opened, you)
    for room in (closed, opened):
        await ground.send(me, ChatTarget(room=room), "after")
    assert [(one["to"]["room"], one["text"]) for one in await device.sync()] == [
        (opened, "before"),
        (closed, "after"),
        (opened, "after"),
    ]
    await ground.set_room(closed, has_history=True)
    assert texts(await device.sync()) == ["before", "after"]


async def test_a_room_that_is_left_between_parts(ground: Ground) -> None:
    """The rest of it does not come; the rooms behind it come whole."""
    me, you = await ground.users(2)
    rooms = [await ground.room([me, you]) for _ in range(60)]
    for room in rooms:
        await ground.send(me, ChatTarget(room=room), str(room))
    part = await ground.part(you, None, 1_000)
    seen = decoded(part.messages)
    for room in rooms[:40]:
        await ground.leave(room, you)
    while part.more:
        part = await ground.part(you, part.cursor, 1_000)
        seen += decoded(part.messages)
    assert {one["to"]["room"] for one in seen} >= set(rooms[40:])
    assert len(seen) == len({one["id"] for one in seen})


async def test_what_comes_during_a_round(ground: Ground) -> None:
    """The next round brings what was sent or changed while a round was under way."""
    me, you = await ground.users(2)
    for number in range(4):
        last = await ground.send(me, ChatTarget(user=you), str(number))
    part = await ground.part(you, None, 1)
    room = await ground.room([me, you], has_history=True)
    await ground.send(me, ChatTarget(room=room), "room")
    await ground.edit(me, last.id, "last")
    seen = decoded(part.messages)
    device = Device(ground, you)
    device.cursor = part.cursor
    seen += await device.sync()
    assert texts(seen) == ["0", "1", "2"]
    assert texts(await device.sync()) == ["room", "last"]


async def test_receipts_of_messages_that_one_has_read(ground: Ground) -> None:
    """A device learns which messages another device of its user has read, in the order of the changes; those that are
    delivered alone are no news."""
    me, you = await ground.users(2)
    ids = [(await ground.send(you, ChatTarget(user=me))).id for _ in range(3)]
    own = (await ground.send(me, ChatTarget(user=you))).id
    await ground.read(me, ids[:1])
    await ground.read(you, [own])
    await ground.read(me, ids[1:2])
    device = Device(ground, me)
    await device.sync()
    assert [(one["ids"], one["user"], one["state"]) for one in device.receipts] == [
        (ids[:1], me, "read"),
        ([own], you, "read"),
        (ids[1:2], me, "read"),
    ]
    await device.sync()
    assert device.receipts == []


async def test_receipts_of_own_messages(ground: Ground) -> None:
    """The sender's devices learn who has read what, in groups, behind the messages; a reader learns of itself alone."""
    me, you, other = await ground.users(3)
    room, device = await ground.room([me, you, other]), Device(ground, me)
    sent = [(await ground.send(me, ChatTarget(room=room))).id for _ in range(3)]
    await ground.read(you, sent, device="phone")
    await device.sync()
    (receipt,) = device.receipts
    assert (sorted(receipt["ids"]), receipt["user"], receipt["device"], receipt["state"]) == (
        sent,
        you,
        "phone",
        "read",
    )
    await device.sync()
    assert device.receipts == []
    await ground.read(other, sent[:1])
    await device.sync()
    assert [(one["ids"], one["user"]) for one in device.receipts] == [(sent[:1], other)]
    stranger = Device(ground, other)
    await stranger.sync()
    assert [(one["ids"], one["user"]) for one in stranger.receipts] == [(sent[:1], other)]


@pytest.mark.parametrize(
    "cursor", ["", "x", "1.2", "-1", "1.2.m.3.4", "1.2.x.3.4.5", "1.2.m.3.4.5.6", "9" * 19, "\uff11", "1.2.m..3.4"]
)
async def test_cursors_that_nobody_has_given(ground: Ground, cursor: str) -> None:
    """They are refused."""
    (me,) = await ground.users(1)
    await refused("bad_request", ground.part(me, cursor))


async def test_cursors_of_another_database(ground: Ground) -> None:
    """A cursor beyond the clock begins again."""
    me, you = await ground.users(2)
    await ground.send(you, ChatTarget(user=me), "one")
    part = await ground.part(me, "99999999")
    assert texts(decoded(part.messages)) == ["one"]
    assert int(part.cursor) < 10


def test_cursors_as_text() -> None:
    """The text of a place is read as this place."""
    for cursor in ("0", "17", "1.2.m.3.4.5", "1.2.r.0.0.5"):
        assert read_place(cursor).cursor == cursor
    assert msgspec.structs.astuple(read_place(None))[0] == 0
