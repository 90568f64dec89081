"""Changing and deleting messages: who may, who hears of it, who sees what; on both databases."""

from __future__ import annotations

import msgspec

from app.protocols.messenger.talk.rules import ChatTarget
from tests.protocols.messenger.talk.talk_ground import NOW, Ground, refused, texts


async def test_an_own_message(ground: Ground) -> None:
    """Both see the new text, with the time of the change; the others are told, all but the changing device."""
    me, you = await ground.users(2)
    sent = await ground.send(me, ChatTarget(user=you), "helo")
    await ground.outbox()
    await ground.edit(me, sent.id, "hello", device="pad")
    (row,) = await ground.outbox()
    event, message = msgspec.json.decode(row.body)
    assert (event, message["id"], message["text"]) == ("message_changed", sent.id, "hello")
    assert message["changed_at"] == NOW + 1
    assert (row.rooms, row.but_device) == ([f"user_{me}", f"user_{you}"], "pad")
    assert await ground.history(you, ChatTarget(user=me)) == [message]
    assert texts(await ground.search(you, "hello")) == ["hello"]
    assert await ground.search(you, "helo") == []


async def test_a_deleted_message(ground: Ground) -> None:
    """Nothing is left of it but its id; deleting it again is answered, changing it is refused."""
    me, you = await ground.users(2)
    sent = await ground.send(me, ChatTarget(user=you), "secret", data='"more"')
    await ground.outbox()
    await ground.edit(me, sent.id, None)
    (row,) = await ground.outbox()
    gone = {"id": sent.id, "to": {"user": you}, "deleted": True}
    assert msgspec.json.decode(row.body) == ["message_changed", gone]
    assert await ground.history(you, ChatTarget(user=me)) == [gone]
    assert await ground.search(me, "secret") == []
    await ground.edit(me, sent.id, None)
    await refused("bad_request", ground.edit(me, sent.id, "back"))
    assert await ground.outbox() == []


async def test_messages_of_others(ground: Ground) -> None:
    """A message of another user is left alone; an admin of a room changes any message there."""
    me, you, other = await ground.users(3)
    room = await ground.room([me, you], admins=[you])
    direct, shared = await ground.send(me, ChatTarget(user=you)), await ground.send(me, ChatTarget(room=room))
    own = await ground.send(you, ChatTarget(room=room))
    await refused("not_admin", ground.edit(you, direct.id, "x"))
    await refused("not_admin", ground.edit(me, own.id, "x"))
    await refused("bad_request", ground.edit(other, direct.id, "x"))
    await refused("bad_request", ground.edit(other, shared.id, "x"))
    await ground.edit(you, shared.id, None)
    await ground.set_admin(room, you, False)
    await refused("not_admin", ground.edit(you, (await ground.send(me, ChatTarget(room=room))).id, None))


async def test_after_leaving(ground: Ground) -> None:
    """A user who has left a room changes nothing there."""
    me, you = await ground.users(2)
    room = await ground.room([me, you])
    sent = await ground.send(me, ChatTarget(room=room))
    await ground.leave(room, me)
    await refused("bad_request", ground.edit(me, sent.id, "x"))


async def test_members_that_came_later(ground: Ground) -> None:
    """A change of a message is told to those members that see the message."""
    me, you, late = await ground.users(3)
    room = await ground.room([me, you])
    sent = await ground.send(me, ChatTarget(room=room), "one")
    await ground.enter(room, late)
    await ground.outbox()
    await ground.edit(me, sent.id, "two")
    (row,) = await ground.outbox()
    assert row.rooms == [f"user_{me}", f"user_{you}"]
    await ground.set_room(room, has_history=True)
    await ground.edit(me, sent.id, "three")
    (row,) = await ground.outbox()
    assert row.rooms == [f"room_{room}"]
    assert texts(await ground.history(late, ChatTarget(room=room))) == ["three"]


async def test_very_many_members(ground: Ground) -> None:
    """The rooms of a change come in rows of bounded length, with numbers of their own."""
    me, *others = await ground.users(202)
    room = await ground.room([me, *others[:-1]])
    sent = await ground.send(me, ChatTarget(room=room))
    await ground.enter(room, others[-1])
    await ground.outbox()
    await ground.edit(me, sent.id, "two")
    next_one = await ground.send(me, ChatTarget(room=room))
    rows = await ground.outbox()
    assert [len(row.rooms) for row in rows] == [100, 100, 1, 1]
    assert [row.id for row in rows] == sorted({row.id for row in rows})
    assert rows[-1].id == next_one.id
    assert {name for row in rows[:3] for name in row.rooms} == {f"user_{user}" for user in [me, *others[:-1]]}


async def test_a_change_while_blocked(ground: Ground) -> None:
    """The addressee that has blocked the sender keeps what it saw; the sender sees its change."""
    me, you = await ground.users(2)
    sent, gone = (
        await ground.send(me, ChatTarget(user=you), "before"),
        await ground.send(me, ChatTarget(user=you), "kept"),
    )
    await ground.block(you, me)
    await ground.outbox()
    await ground.edit(me, sent.id, "after")
    await ground.edit(me, gone.id, None)
    assert [row.rooms for row in await ground.outbox()] == [[f"user_{me}"]] * 2
    await ground.block(you, me, False)
    assert texts(await ground.history(you, ChatTarget(user=me))) == ["kept", "before"]
    assert texts(await ground.history(me, ChatTarget(user=you))) == ["-", "after"]
    assert texts(await ground.search(you, "before")) == ["before"]
    await ground.edit(me, sent.id, "at last")
    assert texts(await ground.history(you, ChatTarget(user=me))) == ["kept", "at last"]
