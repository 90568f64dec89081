"""The names of users and rooms outside the database: as the core addresses them, and as clients know them.

Without a backend these are their numbers. Beside one a user and a room of the backend have the names that the backend
gave, and a room that was made here has one that the backend never gives. No name changes, so that what was read once is
kept.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from sqlalchemy import Table, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.config.settings import Site
from app.errors import StoreUnavailable
from app.protocols.messenger.addresses import shared_room, user_room
from app.protocols.messenger.answers import ChatUnavailable
from app.protocols.messenger.bounds import MOST_NAMES_KNOWN, ROOM_PREFIX, USER_PREFIX
from app.protocols.messenger.journal_store import ChatSql
from app.protocols.messenger.journal_tables import chat_rooms, chat_users
from app.protocols.messenger.settings import is_beside
from app.protocols.messenger.talk.facts import OutboxRow
from app.protocols.messenger.text_ids import (
    TOLD,
    FoundIds,
    IdNumbers,
    IdOf,
    IdShape,
    IdTexts,
    each_id,
    put_together,
    taken_apart,
)

#: The begin of the names of rooms and users that were made here, beside a backend.
OWN_PREFIX = "messenger_"
#: The parameters of one statement are bounded in both databases.
_PART = 500
_DIGITS = 16


class _KnownNames:
    """The names of one kind that are known, of all sites. Lives as long as the node."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._texts: dict[tuple[str, int], str] = {}
        self._numbers: dict[tuple[str, str], int] = {}

    def texts(self, site: str, numbers: Iterable[int]) -> dict[int, str]:
        """The texts of those that are known."""
        return {one: text for one in numbers if (text := self._texts.get((site, one))) is not None}

    def numbers(self, site: str, texts: Iterable[str]) -> dict[str, int]:
        """The numbers of those that are known."""
        return {one: number for one in texts if (number := self._numbers.get((site, one))) is not None}

    async def read(self, sql: AsyncConnection, site: str, site_id: int, wanted: Sequence[Any]) -> dict[int, str]:
        """The names with these numbers, or with these texts."""
        table, read = self._table.c, dict[int, str]()
        column = table.id if wanted and isinstance(wanted[0], int) else table.external
        for start in range(0, len(wanted), _PART):
            found = select(table.id, table.external).where(
                table.site_id == site_id, table.external.is_not(None), column.in_(wanted[start : start + _PART])
            )
            read |= {row.id: row.external for row in await sql.execute(found)}
        for number, text in read.items():
            self._keep(site, number, text)
        return read

    def clear(self) -> None:
        """Knows nothing any more."""
        self._texts.clear()
        self._numbers.clear()

    def _keep(self, site: str, number: int, text: str) -> None:
        if len(self._texts) >= MOST_NAMES_KNOWN:
            self.clear()
        self._texts[site, number], self._numbers[site, text] = text, number


class ChatNames:
    """The names of all sites on one node. Lives as long as the node. Its methods raise StoreUnavailable where names
    have to be read and SQL is away."""

    def __init__(self, sql: ChatSql) -> None:
        self._sql = sql
        self._known = {IdOf.USER: _KnownNames(chat_users), IdOf.ROOM: _KnownNames(chat_rooms)}

    def clear(self) -> None:
        """A site was removed: a later one of its name has other users and rooms, maybe with the same names."""
        for known in self._known.values():
            known.clear()

    async def texts(self, site: Site, users: Collection[int], rooms: Collection[int] = ()) -> IdTexts:
        """The names of users and rooms of a site beside a backend. A room and a user that were made here have names of
        their own."""
        found = {}
        for kind, numbers in ((IdOf.USER, users), (IdOf.ROOM, rooms)):
            texts = self._known[kind].texts(site.name, numbers)
            if len(texts) < len(set(numbers)):
                texts |= await self._read(site, kind, sorted(set(numbers) - texts.keys()))
            found[kind] = {one: texts.get(one) or own_name(kind, one) for one in numbers}
        return IdTexts(found[IdOf.USER], found[IdOf.ROOM])

    async def numbers(self, site: Site, users: Collection[str], rooms: Collection[str] = ()) -> IdNumbers:
        """The same the other way round; names that nothing has are not among them. Rooms have no case."""
        folded = {one: one.lower() for one in rooms}
        of_users = await self._numbers_of(site, IdOf.USER, users)
        of_rooms = await self._numbers_of(site, IdOf.ROOM, set(folded.values()))
        return IdNumbers(of_users, {one: of_rooms[low] for one, low in folded.items() if low in of_rooms})

    async def user_rooms(self, site: Site, users: Sequence[int]) -> list[str]:
        """The rooms of users in the core."""
        if not is_beside(site):
            return [user_room(user) for user in users]
        texts = await self.texts(site, users)
        return [USER_PREFIX + texts.users[user] for user in users]

    async def user_texts(self, site: Site, users: Sequence[int]) -> list[str]:
        """The rooms of users in the core, without the prefix."""
        return [room[len(USER_PREFIX) :] for room in await self.user_rooms(site, users)]

    async def user_numbers(self, site: Site, texts: Sequence[str]) -> list[int]:
        """The users behind such texts."""
        if not is_beside(site):
            return [int(text) for text in texts]
        return list((await self.numbers(site, texts)).users.values())

    async def told(self, site: Site, event: str, data: Any) -> Any:
        """The data of an event as clients get it."""
        return await self.shown(site, TOLD.get(event), data) if is_beside(site) else data

    async def shown(self, site: Site, shape: "IdShape | None", data: Any) -> Any:
        """A value of this shape as clients of a site beside a backend get it."""
        found = FoundIds()
        each_id(shape, data, found.add)
        texts = await self.texts(site, found.of[IdOf.USER], found.of[IdOf.ROOM])
        return each_id(shape, data, texts.of)

    async def as_sent(self, site: Site, rows: Sequence[OutboxRow]) -> list[OutboxRow]:
        """Rows of the outbox as the core gets them."""
        return [await self._as_sent(site, row) for row in rows] if is_beside(site) else list(rows)

    async def _as_sent(self, site: Site, row: OutboxRow) -> OutboxRow:
        named = [*row.rooms, *(room for room in (row.but_user,) if room is not None)]
        named += [row.body] if row.kind != "send" else []
        users = {int(name.removeprefix(USER_PREFIX)) for name in named if name.startswith(USER_PREFIX)}
        rooms = {int(name.removeprefix(ROOM_PREFIX)) for name in named if name.startswith(ROOM_PREFIX)}
        texts = await self.texts(site, users, rooms)
        core = {user_room(one): USER_PREFIX + text for one, text in texts.users.items()}
        core |= {shared_room(one): text for one, text in texts.rooms.items()}
        body = core[row.body] if row.kind != "send" else await self._body(site, row.body)
        but_user = core[row.but_user] if row.but_user is not None else None
        # (The rooms of a load test are named by its run alone.)
        places = [core.get(room, room) for room in row.rooms]
        return OutboxRow(row.id, row.kind, places, body, but_user, row.but_device, row.message_id)

    async def _body(self, site: Site, body: str) -> str:
        event, fields = taken_apart(body)
        return put_together(event, await self.told(site, event, fields))

    async def _numbers_of(self, site: Site, kind: IdOf, texts: Collection[str]) -> dict[str, int]:
        own = {text: number for text in texts if (number := own_number(kind, text)) is not None}
        wanted = set(texts) - own.keys()
        found = self._known[kind].numbers(site.name, wanted)
        if len(found) < len(wanted):
            read = await self._read(site, kind, sorted(wanted - found.keys()))
            found |= {text: number for number, text in read.items()}
        return found | own

    async def _read(self, site: Site, kind: IdOf, wanted: Sequence[Any]) -> dict[int, str]:
        try:
            async with self._sql.reading(site) as (sql, site_id):
                return await self._known[kind].read(sql, site.name, site_id, wanted)
        except ChatUnavailable as error:
            raise StoreUnavailable(str(error)) from None


def own_name(kind: IdOf, number: int) -> str:
    """The name of a user or a room that was made here, beside a backend."""
    return f"{OWN_PREFIX}{kind.value}_{number}"


def own_number(kind: IdOf, name: str) -> int | None:
    """The number in such a name; None: it is none."""
    begin = f"{OWN_PREFIX}{kind.value}_"
    digits = name.removeprefix(begin)
    is_own = name.startswith(begin) and digits.isascii() and digits.isdecimal() and len(digits) < _DIGITS
    return int(digits) if is_own else None


def is_reserved(name: str) -> bool:
    """Whether a name of the backend could be one that is given here."""
    return name.lower().startswith(OWN_PREFIX)
