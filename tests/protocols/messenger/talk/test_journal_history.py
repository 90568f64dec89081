"""Reading conversations, and searching them; on both databases."""

from __future__ import annotations

import pytest

from app.protocols.messenger.talk import journal_history
from app.protocols.messenger.talk.rules import ChatTarget
from tests.protocols.messenger.talk.talk_ground import Ground, refused, texts

LANGUAGE = ('"', "a AND", "NEAR(a b)", "words:x", "a' | b", "\\", "scope : s1r1", "~s1u1", "*", "a*b", ":*", "'")


async def test_pages_of_a_history(ground: Ground) -> None:
    """Newest first, behind a message, in parts."""
    me, you = await ground.users(2)
    sent = [await ground.send([me, you][n % 2], ChatTarget(user=[you, me][n % 2]), str(n)) for n in range(5)]
    assert texts(await ground.history(me, ChatTarget(user=you), limit=2)) == ["4", "3"]
    assert texts(await ground.history(me, ChatTarget(user=you), before=sent[3].id, limit=2)) == ["2", "1"]
    assert texts(await ground.history(me, ChatTarget(user=you), before=sent[0].id)) == []


async def test_a_history_is_bounded_in_bytes(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part ends at its bound, and tells of more; a single larger message comes alone."""
    monkeypatch.setattr(journal_history, "MAX_LISTED_BYTES", 1_000)
    me, you = await ground.users(2)
    for _ in range(3):
        await ground.send(me, ChatTarget(user=you), "x" * 2_000)
    async with ground.sql.reading(ground.site) as (sql, site_id):
        listed = await journal_history.history(sql, site_id, me, ChatTarget(user=you), None, 10)
    assert (len(listed.messages), listed.more) == (1, True)


async def test_members_see_what_comes_from_then_on(ground: Ground) -> None:
    """A later member sees later messages, after its return those after it, and with an open history all."""
    me, you = await ground.users(2)
    room = await ground.room([me])
    await ground.send(me, ChatTarget(room=room), "one")
    await refused("not_member", ground.history(you, ChatTarget(room=room)))
    await ground.enter(room, you)
    await ground.send(me, ChatTarget(room=room), "two")
    assert texts(await ground.history(you, ChatTarget(room=room))) == ["two"]
    await ground.leave(room, you)
    await refused("not_member", ground.history(you, ChatTarget(room=room)))
    assert await ground.search(you, "two") == []
    await ground.enter(room, you)
    await ground.send(me, ChatTarget(room=room), "three")
    assert texts(await ground.history(you, ChatTarget(room=room))) == ["three"]
    await ground.set_room(room, has_history=True)
    assert texts(await ground.history(you, ChatTarget(room=room))) == ["three", "two", "one"]
    await refused("unknown_room", ground.history(you, ChatTarget(room=10**12)))


async def test_words(ground: Ground) -> None:
    """All words, in any order, without case and accents; the last one may be a begin; newest first."""
    me, you = await ground.users(2)
    for text in ("The Café is open", "a cafeteria", "open the door", "it's 3.14 o'clock, Straße"):
        await ground.send(me, ChatTarget(user=you), text)
    assert texts(await ground.search(you, "CAFE")) == ["a cafeteria", "The Café is open"]
    assert texts(await ground.search(you, "open cafe")) == ["The Café is open"]
    assert texts(await ground.search(you, "cafe open")) == ["The Café is open"]
    assert texts(await ground.search(you, "strasse 14")) == ["it's 3.14 o'clock, Straße"]
    assert await ground.search(you, "afe") == []
    assert await ground.search(you, "?!") == []
    assert texts(await ground.search(you, "open", limit=1)) == ["open the door"]


@pytest.mark.parametrize("text", LANGUAGE)
async def test_words_of_the_language_of_searches(ground: Ground, text: str) -> None:
    """No text is anything but words."""
    me, you, other = await ground.users(3)
    await ground.send(me, ChatTarget(user=other), "scope s1r1 s1u1 a b words x near and")
    assert await ground.search(you, text) == []
    await ground.search(me, text)


async def test_own_conversations_alone(ground: Ground) -> None:
    """A search finds nothing of the conversations of others; with a conversation it finds nothing outside of it."""
    me, you, other = await ground.users(3)
    room, secret = await ground.room([me, you]), await ground.room([other])
    await ground.send(me, ChatTarget(user=you), "word direct")
    await ground.send(me, ChatTarget(room=room), "word room")
    await ground.send(other, ChatTarget(room=secret), "word secret")
    await ground.send(other, ChatTarget(user=you), "word other")
    assert texts(await ground.search(me, "word")) == ["word room", "word direct"]
    assert texts(await ground.search(you, "word")) == ["word other", "word room", "word direct"]
    assert texts(await ground.search(you, "word", ChatTarget(user=me))) == ["word direct"]
    assert texts(await ground.search(you, "word", ChatTarget(room=room))) == ["word room"]
    await refused("not_member", ground.search(me, "word", ChatTarget(room=secret)))


async def test_very_many_rooms(ground: Ground) -> None:
    """A user of very many rooms searches all of them, and synchronises all of them."""
    (me,) = await ground.users(1)
    rooms = await ground.rooms(120, me)
    for room in (rooms[0], rooms[60], rooms[-1]):
        await ground.send(me, ChatTarget(room=room), f"word {room}")
    assert len(await ground.search(me, "word")) == 3
    assert len((await ground.part(me, None)).messages) == 3
