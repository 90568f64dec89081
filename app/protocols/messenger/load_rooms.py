"""`LoadRooms`: a load test in a messenger, with simulated users of its own or with the clients that take part."""

import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeVar

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.clock import now_ms
from app.config.settings import Site
from app.core.delivery import Delivery
from app.errors import RequestRefused, StoreError
from app.protocols.load_rooms import LoadLimits, LoadPlace, LoadProgress, LoadSeats, LoadTimes
from app.protocols.messenger.addresses import shared_room
from app.protocols.messenger.answers import ChatRefusal
from app.protocols.messenger.bounds import LEAST_ITERATIONS
from app.protocols.messenger.directory.journal_edit import DirectoryEdit
from app.protocols.messenger.directory.journal_people import create_person
from app.protocols.messenger.directory.journal_room_states import read_room
from app.protocols.messenger.directory.journal_rooms import RoomChange, change_room, create_room
from app.protocols.messenger.directory.ports import EditsDirectory
from app.protocols.messenger.directory.rules import ChatDoer, RoomState
from app.protocols.messenger.journal_store import ChatSql
from app.protocols.messenger.journal_tables import chat_changes, chat_rooms
from app.protocols.messenger.journal_users import NewUser, find_login, set_password
from app.protocols.messenger.scram import keys_of
from app.protocols.messenger.settings import Messenger
from app.protocols.messenger.talk.journal_load import load_progress, load_times
from app.protocols.messenger.talk.journal_load_runs import begin_run, end_run, forget_some
from app.protocols.protocol import NodeAsking

#: The event that asks clients for messages. It is kept nowhere.
EVENT = "load_test"
#: The call that tells how many connections a node has.
_CONNECTIONS = "chat_connections"
_ROOM = "Load test"
#: The mark of the room of simulated users.
_OBJECT = ("recado", "load test")
_DOER = ChatDoer("load test")
_T = TypeVar("_T")


class ChatLoadRooms:
    """Lives as long as the node."""

    def __init__(
        self,
        sites: Mapping[str, Site],
        sql: ChatSql,
        directory: EditsDirectory,
        delivery: Delivery,
        calls: NodeAsking,
        connections: Callable[[str], int],
    ) -> None:
        """`connections` counts those of a site on this node."""
        self._sites = sites
        self._sql = sql
        self._directory = directory
        self._delivery = delivery
        self._calls = calls

        async def count(given: Any) -> int:
            return connections(given) if isinstance(given, str) else 0

        calls.handlers[_CONNECTIONS] = count

    async def seat(self, site: str, users: int) -> LoadSeats:
        """Makes users and their room; see `LoadRooms`."""
        logins = {f"~load-{number}": secrets.token_urlsafe(18) for number in range(1, users + 1)}
        with _refused():
            room = await self._directory.change(self._site(site), _DOER, lambda edit: _seat(edit, logins))
        return LoadSeats(room, list(logins.items()))

    async def listeners(self, site: str, room: int) -> int:
        """Counts the connected devices; see `LoadRooms`."""
        found = self._site(site)
        with _refused():
            async with self._reading(found) as (sql, site_id):
                if await read_room(sql, site_id, room) is None:
                    raise RequestRefused("There is no such room.", "unknown_room", 404)
            # Without messages nobody does anything.
            return await self._whisper(found, LoadPlace(site, room, ""), 0)

    async def begin(self, place: LoadPlace, limits: LoadLimits) -> None:
        """Begins a run; see `LoadRooms`."""
        await self._write(place, lambda sql, site_id: begin_run(sql, site_id, place, limits, now_ms()))

    async def end(self, place: LoadPlace) -> None:
        """Ends a run; see `LoadRooms`."""
        await self._write(place, lambda sql, site_id: end_run(sql, site_id, place.run, now_ms()))

    async def forget(self, place: LoadPlace) -> None:
        """Deletes what is stored of a run; see `LoadRooms`."""
        while not await self._write(place, lambda sql, site_id: forget_some(sql, site_id, place.run, now_ms())):
            pass

    async def nodes(self, site: str) -> int:
        """Counts the nodes; see `LoadRooms`."""
        with _refused():
            answers, _ = await self._calls.ask_all(_CONNECTIONS, site)
        return sum(bool(count) for count in answers.values())

    async def call(self, place: LoadPlace, messages: int) -> None:
        """Asks the clients for messages; see `LoadRooms`."""
        with _refused():
            await self._whisper(self._site(place.site), place, messages)

    async def progress(self, place: LoadPlace) -> LoadProgress:
        """Counts what is stored; see `LoadRooms`."""
        with _refused():
            async with self._reading(self._site(place.site)) as (sql, site_id):
                return await load_progress(sql, site_id, place)

    async def times(self, place: LoadPlace, most: int) -> LoadTimes:
        """The times of a run; see `LoadRooms`."""
        with _refused():
            async with self._reading(self._site(place.site)) as (sql, site_id):
                return await load_times(sql, site_id, place, most)

    async def _write(self, place: LoadPlace, work: Callable[[AsyncConnection, int], Awaitable[_T]]) -> _T:
        with _refused():
            async with self._sql.writing(self._site(place.site)) as (sql, site_id):
                return await work(sql, site_id)
        raise AssertionError("a refusal is raised")

    async def _whisper(self, site: Site, place: LoadPlace, messages: int) -> int:
        plan = {"run": place.run, "room": place.room, "messages": messages}
        body = msgspec.json.encode([EVENT, plan])
        return await self._delivery.follow_up.whisper(site, [shared_room(place.room)], body)

    def _site(self, name: str) -> Site:
        site = self._sites.get(name)
        if site is None or site.section(Messenger) is None:
            raise RequestRefused("site: expected the name of a site with a messenger.", "unknown_site", 404)
        return site

    @contextlib.asynccontextmanager
    async def _reading(self, site: Site) -> AsyncIterator[tuple[AsyncConnection, int]]:
        async with self._sql.reading(site) as place:
            yield place


@contextlib.contextmanager
def _refused() -> Any:
    """Turns the refusals of the messenger and of the stores into those of an operation."""
    try:
        yield
    except ChatRefusal as refusal:
        raise RequestRefused(str(refusal), refusal.code, 503 if refusal.code == "unavailable" else 409) from None
    except StoreError as error:
        raise RequestRefused(str(error), "unavailable", 503) from None


async def _seat(edit: DirectoryEdit, logins: Mapping[str, str]) -> int:
    """The users with these passwords, and the room that has them alone."""
    room = await _load_room(edit)
    members = []
    for login, password in logins.items():
        keys = keys_of(password, LEAST_ITERATIONS)
        found = await find_login(*edit.place, login)
        if found is None:
            new = NewUser(login=login, name=login, keys=keys, must_change=False)
            members.append((await create_person(edit, new)).id)
            continue
        if not await _is_own(edit, found.id):
            # No load test changes the password of somebody else.
            raise RequestRefused(f"The login {login} is taken.", "login_taken", 409)
        await set_password(*edit.place, found.id, keys, must_change=False)
        members.append(found.id)
    if room is None:
        return await create_room(edit, RoomChange(name=_ROOM, about=_OBJECT, members=members))
    await change_room(edit, room.id, RoomChange(members=members))
    return room.id


async def _load_room(edit: DirectoryEdit) -> RoomState | None:
    """The room of simulated users; None: there is none yet."""
    sql, site_id = edit.place
    rooms = chat_rooms.c
    of_mark = (rooms.site_id == site_id, rooms.object_type == _OBJECT[0], rooms.object_id == _OBJECT[1])
    statement = select(rooms.id).where(*of_mark, rooms.is_archived.is_(False)).order_by(rooms.id).limit(1)
    found = (await sql.execute(statement)).scalar_one_or_none()
    return None if found is None else await read_room(sql, site_id, found)


async def _is_own(edit: DirectoryEdit, user: int) -> bool:
    """Whether a load test has made the user."""
    sql, site_id = edit.place
    changes = chat_changes.c
    of_user = (changes.site_id == site_id, changes.what == "user", changes.of_id == user)
    return (
        await sql.execute(select(changes.by).where(*of_user, changes.before.is_(None)))
    ).scalars().first() == _DOER.by
