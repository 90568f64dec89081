"""Accepting messages: to whom one may write, what is stored and what is handed on; on both databases."""

from __future__ import annotations

import msgspec

from app.protocols.messenger.journal_message_tables import chat_messages
from app.protocols.messenger.journal_tables import chat_outbox
from app.protocols.messenger.talk.rules import ChatTarget
from tests.protocols.messenger.talk.talk_ground import Ground, refused, texts


async def test_a_direct_message(ground: Ground) -> None:
    """Both users see it, nobody else does, and one row of the outbox leaves out the sending device."""
    me, you, other = await ground.users(3)
    accepted = await ground.send(me, ChatTarget(user=you), "hi", data='{"x":[1]}', device="phone")
    (row,) = await ground.outbox()
    assert (row.id, row.kind, row.rooms) == (accepted.id, "send", [f"user_{me}", f"user_{you}"])
    assert (row.but_user, row.but_device, row.message_id) == (f"user_{me}", "phone", accepted.id)
    event, message = msgspec.json.decode(row.body)
    assert event == "message"
    assert message == {
        "id": accepted.id,
        "from": me,
        "to": {"user": you},
        "kind": "text",
        "text": "hi",
        "data": {"x": [1]},
        "reply_to": None,
        "forward_of": None,
        "file": None,
        "at": accepted.at,
        "info": {"device": "phone", "app": None},
    }
    assert await ground.history(you, ChatTarget(user=me)) == [message]
    assert await ground.history(me, ChatTarget(user=you)) == [message]
    assert await ground.history(other, ChatTarget(user=me)) == []


async def test_the_same_id_again(ground: Ground) -> None:
    """The same request is answered again and stored once; another content is refused; ids are per user."""
    me, you = await ground.users(2)
    first = await ground.send(me, ChatTarget(user=you), "hi", client_id="one")
    assert await ground.send(me, ChatTarget(user=you), "hi", client_id="one") == first
    await refused("id_taken", ground.send(me, ChatTarget(user=you), "other", client_id="one"))
    await refused("id_taken", ground.send(me, ChatTarget(user=me), "hi", client_id="one"))
    await ground.send(you, ChatTarget(user=me), "hi", client_id="one")
    assert (await ground.count(chat_messages), await ground.count(chat_outbox)) == (2, 2)


async def test_targets_that_are_not_there(ground: Ground) -> None:
    """Unknown users and rooms, rooms of others, archived rooms and channels have codes, and nothing is stored."""
    me, you = await ground.users(2)
    await refused("unknown_user", ground.send(me, ChatTarget(user=10**12)))
    await refused("unknown_room", ground.send(me, ChatTarget(room=10**12)))
    await refused("not_member", ground.send(me, ChatTarget(room=await ground.room([you]))))
    await refused("bad_request", ground.send(me, ChatTarget(room=await ground.room([me], is_archived=True))))
    channel = await ground.room([me, you], admins=[you], kind="channel")
    await refused("not_admin", ground.send(me, ChatTarget(room=channel)))
    await ground.send(you, ChatTarget(room=channel))
    assert await ground.count(chat_messages) == 1


async def test_rooms_of_another_site(ground: Ground, database: str) -> None:
    """Ids of users, rooms and messages of another site are unknown."""
    other = await Ground.open(database, ground.site.name + "other")
    (theirs,) = await other.users(1)
    room, (me, you) = await other.room([theirs]), await ground.users(2)
    sent = await other.send(theirs, ChatTarget(room=room))
    await refused("unknown_user", ground.send(me, ChatTarget(user=theirs)))
    await refused("unknown_room", ground.send(me, ChatTarget(room=room)))
    await refused("bad_request", ground.send(me, ChatTarget(user=you), reply_to=sent.id))
    await other.close()


async def test_replies_and_forwards(ground: Ground) -> None:
    """A reply names a message of its conversation, a forward any message that its sender sees."""
    me, you, other = await ground.users(3)
    here = await ground.send(you, ChatTarget(user=me), "here")
    there = await ground.send(other, ChatTarget(user=me), "there")
    hidden = await ground.send(other, ChatTarget(user=you), "hidden")
    await ground.send(me, ChatTarget(user=you), "re", reply_to=here.id)
    await ground.send(me, ChatTarget(user=you), "fwd", forward_of=there.id)
    await refused("bad_request", ground.send(me, ChatTarget(user=you), reply_to=there.id))
    await refused("bad_request", ground.send(me, ChatTarget(user=you), forward_of=hidden.id))
    await refused("bad_request", ground.send(me, ChatTarget(user=you), file="nothing"))
    newest, older, _ = await ground.history(you, ChatTarget(user=me))
    assert (newest["forward_of"], older["reply_to"]) == (there.id, here.id)


async def test_a_blocked_sender(ground: Ground) -> None:
    """The message is stored for its sender alone, also after the block was taken back, and goes to no other user."""
    me, you = await ground.users(2)
    await ground.block(you, me)
    await ground.send(me, ChatTarget(user=you), "quiet")
    (row,) = await ground.outbox()
    assert row.rooms == [f"user_{me}"]
    await ground.send(you, ChatTarget(user=me), "loud")
    await ground.block(you, me, False)
    assert texts(await ground.history(you, ChatTarget(user=me))) == ["loud"]
    assert texts(await ground.history(me, ChatTarget(user=you))) == ["loud", "quiet"]
    assert texts(await ground.search(you, "quiet")) == []
    assert texts(await ground.search(me, "quiet")) == ["quiet"]


async def test_a_blocked_sender_in_a_room(ground: Ground) -> None:
    """In rooms a block hides nothing."""
    me, you = await ground.users(2)
    room = await ground.room([me, you])
    await ground.block(you, me)
    await ground.send(me, ChatTarget(room=room), "open")
    assert texts(await ground.history(you, ChatTarget(room=room))) == ["open"]


async def test_notes_to_oneself(ground: Ground) -> None:
    """A message to oneself comes once, to the other devices."""
    (me,) = await ground.users(1)
    await ground.send(me, ChatTarget(user=me), "note")
    (row,) = await ground.outbox()
    assert row.rooms == [f"user_{me}"]
    assert texts(await ground.history(me, ChatTarget(user=me))) == ["note"]
    part = await ground.part(me, None)
    assert len(part.messages) == 1


async def test_contacts_by_rooms(ground: Ground) -> None:
    """Where users see those alone that share a room or a conversation, others are unknown."""
    me, mate, stranger = await ground.users(3)
    await ground.room([me, mate])
    ground.desk = type(ground.desk)(type(ground.desk.bounds)(1_000_000, is_by_rooms=True), ground.desk.take_file)
    await ground.send(me, ChatTarget(user=mate))
    await refused("unknown_user", ground.send(me, ChatTarget(user=stranger)))
    # A contact, in either direction, is as good as a room.
    await ground.block(stranger, me, is_blocked=False)
    await ground.send(me, ChatTarget(user=stranger))


async def test_a_message_that_is_too_long_to_hand_on(ground: Ground) -> None:
    """It is refused, and nothing is stored."""
    me, you = await ground.users(2)
    ground.desk = type(ground.desk)(type(ground.desk.bounds)(300), ground.desk.take_file)
    await refused("too_long", ground.send(me, ChatTarget(user=you), "x" * 300))
    assert await ground.count(chat_messages) == 0
