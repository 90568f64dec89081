"""Group commit: messages that wait together are one transaction, in their order, each with an outcome of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.config.settings import Site
from app.protocols.messenger.answers import ChatRefusal, ChatUnavailable
from app.protocols.messenger.journal_tables import chat_rooms
from app.protocols.messenger.talk.acceptance import MOST_IN_GROUP, Acceptance
from app.protocols.messenger.talk.journal_messages import MessageDesk, Post
from app.protocols.messenger.talk.rules import ChatTarget
from app.protocols.messenger.talk.wishes import AcceptedMessage, MessageWish, TalkBounds
from tests.protocols.messenger.talk.talk_ground import Ground

_MAX_BYTES = 2_000


class CountedSql:
    """Counts the transactions of a ground, and is away when it is told so."""

    def __init__(self, ground: Ground) -> None:
        """Over the database of the ground."""
        self._ground = ground
        self.transactions = 0
        self.is_away = False
        self.asked = asyncio.Event()

    @asynccontextmanager
    async def writing(self, site: Site) -> AsyncIterator[tuple[AsyncConnection, int]]:
        """One transaction."""
        self.transactions += 1
        self.asked.set()
        if self.is_away:
            raise ChatUnavailable
        async with self._ground.sql.writing(site) as place:
            yield place


class Desk:
    """Accepts messages of one ground."""

    def __init__(self, ground: Ground, take_file: Any = None) -> None:
        """Without `take_file` no message has a file."""
        self.ground = ground
        counted: Any = CountedSql(ground)
        self.sql = counted
        self.woken: list[str] = []
        desk = MessageDesk(TalkBounds(_MAX_BYTES), take_file)
        self._acceptance = Acceptance(counted, lambda site: self.woken.append(site.name), lambda site: desk)

    async def accept_all(self, user: int, *wishes: MessageWish) -> list[AcceptedMessage | BaseException]:
        """The outcomes of messages that come at the same time."""
        sender = await self.ground.sender(user)
        ones = (self._acceptance.accept(self.ground.site, Post(sender, wish)) for wish in wishes)
        return await asyncio.gather(*ones, return_exceptions=True)

    async def texts(self, user: int, room: int) -> list[str]:
        """The texts of a room, oldest first."""
        return [one["text"] for one in reversed(await self.ground.history(user, ChatTarget(room=room)))]


def wish(room: int, number: int, text: str | None = None, **more: Any) -> MessageWish:
    """A message with an id of its own."""
    return MessageWish(f"m{number}", ChatTarget(room=room), "text", text or f"text {number}", **more)


def codes(outcomes: list[AcceptedMessage | BaseException]) -> list[str]:
    """`ok`, or the code of the refusal, or the name of the error."""
    return [
        "ok" if isinstance(one, AcceptedMessage) else one.code if isinstance(one, ChatRefusal) else type(one).__name__
        for one in outcomes
    ]


def ids(outcomes: list[AcceptedMessage | BaseException]) -> list[int]:
    """The numbers of those that were accepted."""
    return [one.id for one in outcomes if isinstance(one, AcceptedMessage)]


async def test_one_transaction_in_order(ground: Ground) -> None:
    """Messages that wait together are accepted by few transactions, in the order in which they came."""
    me, *_ = await ground.users(1)
    room, desk = await ground.room([me]), Desk(ground)
    count = MOST_IN_GROUP + 5
    outcomes = await desk.accept_all(me, *(wish(room, number) for number in range(count)))
    assert codes(outcomes) == ["ok"] * count
    assert ids(outcomes) == sorted(ids(outcomes))
    assert desk.sql.transactions == 2
    assert desk.woken == [ground.site.name] * 2
    assert await desk.texts(me, room) == [f"text {number}" for number in range(5, count)][-100:]
    rows = await ground.outbox()
    assert [row.message_id for row in rows if row.message_id] == ids(outcomes)


async def test_each_has_its_own_outcome(ground: Ground) -> None:
    """A message that is refused leaves the others as they are; a repeat in the same group has the same number."""
    me, other = await ground.users(2)
    room, foreign = await ground.room([me]), await ground.room([other])
    desk = Desk(ground)
    group = [
        *(wish(room, 1), wish(foreign, 2), wish(room, 1), wish(room, 1, "other"), wish(room, 3, "x" * _MAX_BYTES)),
        *(wish(room, 4, reply_to=987_654), wish(room, 5)),
    ]
    outcomes = await desk.accept_all(me, *group)
    assert codes(outcomes) == ["ok", "not_member", "ok", "id_taken", "too_long", "bad_request", "ok"]
    first, repeated, last = ids(outcomes)
    assert (first == repeated, first < last) == (True, True)
    assert desk.sql.transactions == 1
    assert await desk.texts(me, room) == ["text 1", "text 5"]
    again = await desk.accept_all(me, wish(room, 1), wish(room, 5, "other"), wish(room, 6))
    assert codes(again) == ["ok", "id_taken", "ok"]
    assert ids(again)[0] == first


async def test_a_row_that_the_database_refuses(ground: Ground) -> None:
    """An error of one message costs that one alone; the others are accepted in their order."""

    async def take_file(sql: AsyncConnection, site_id: int, user: int, file: str, now: int) -> str:
        raise ValueError(file)

    me, *_ = await ground.users(1)
    room, desk = await ground.room([me]), Desk(ground, take_file)
    outcomes = await desk.accept_all(me, wish(room, 1), wish(room, 2, file="f"), wish(room, 3))
    assert codes(outcomes) == ["ok", "ValueError", "ok"]
    assert await desk.texts(me, room) == ["text 1", "text 3"]


async def test_a_refused_message_takes_no_file(ground: Ground) -> None:
    """A message that is too long with its file takes back what the taking of the file has written."""
    me, *_ = await ground.users(1)
    room = await ground.room([me])
    names = select(chat_rooms.c.name).where(chat_rooms.c.id == room)

    async def take_file(sql: AsyncConnection, site_id: int, user: int, file: str, now: int) -> str:
        await sql.execute(update(chat_rooms).where(chat_rooms.c.id == room).values(name="taken"))
        return '"' + "x" * (_MAX_BYTES if file == "large" else 1) + '"'

    async def name() -> str:
        async with ground.sql.reading(ground.site) as (sql, _):
            return str((await sql.execute(names)).scalar_one())

    desk = Desk(ground, take_file)
    outcomes = await desk.accept_all(me, wish(room, 1, file="large"), wish(room, 2))
    assert (codes(outcomes), await name()) == (["too_long", "ok"], "room")
    outcomes = await desk.accept_all(me, wish(room, 3, file="small"))
    assert (codes(outcomes), await name()) == (["ok"], "taken")


async def test_without_a_database(ground: Ground) -> None:
    """While SQL is away all that wait are told so at once; later ones are accepted."""
    me, *_ = await ground.users(1)
    room, desk = await ground.room([me]), Desk(ground)
    desk.sql.is_away = True
    outcomes = await desk.accept_all(me, *(wish(room, number) for number in range(3)))
    assert (codes(outcomes), desk.sql.transactions, desk.woken) == (["unavailable"] * 3, 1, [])
    desk.sql.is_away = False
    assert codes(await desk.accept_all(me, wish(room, 1))) == ["ok"]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_the_end(ground: Ground) -> None:
    """Messages under way at the end are told that there is no answer."""
    me, *_ = await ground.users(1)
    room, desk = await ground.room([me]), Desk(ground)
    await ground.sender(me)
    asked = asyncio.ensure_future(desk.accept_all(me, wish(room, 1), wish(room, 2)))
    async with ground.sql.writing(ground.site):
        await desk.sql.asked.wait()
        await desk._acceptance.close()
    assert codes(await asked) == ["unavailable"] * 2
