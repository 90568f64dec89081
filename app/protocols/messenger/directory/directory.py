"""The directory of all sites on one node: each change is one transaction, and then told to those who see it."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias, TypeVar

from app.config.settings import Site
from app.protocols.messenger.caller import ChatUser
from app.protocols.messenger.directory import journal_people, journal_rooms
from app.protocols.messenger.directory.journal_edit import DirectoryEdit, doer_of
from app.protocols.messenger.directory.journal_people import ContactChange, PersonChange
from app.protocols.messenger.directory.journal_rooms import RoomChange
from app.protocols.messenger.directory.journal_tidings import tidings_of
from app.protocols.messenger.directory.news import ChatNews, Tiding
from app.protocols.messenger.directory.ports import UserCalls, WakeCore
from app.protocols.messenger.directory.rules import ChatDoer
from app.protocols.messenger.journal_store import ChatSql
from app.protocols.messenger.journal_users import NewUser
from app.protocols.messenger.settings import Messenger

_T = TypeVar("_T")
#: One who changes something: the id of a user, whose rights the transaction reads, or another doer.
Who: TypeAlias = int | ChatDoer
#: Called with a site and the users whose sessions have ended.
OnVoided = Callable[[Site, Sequence[int]], Awaitable[None]]
#: The word between nodes of a user that has changed; its data is the user as clients see it.
USER_CHANGED = "user"


class ChatDirectory:
    """The directory as events and operators change it. Lives as long as the node.

    Every method raises ChatRefusal, and then nothing has changed.
    """

    def __init__(self, sql: ChatSql, calls: UserCalls, wake: WakeCore) -> None:
        self._sql = sql
        self._calls = calls
        self._wake = wake
        self.on_voided: list[OnVoided] = []

    async def create_room(self, site: Site, who: Who, new: RoomChange) -> int:
        """Makes a room; its id. A user who makes it is its member and admin."""
        return await self.change(site, who, lambda edit: journal_rooms.create_room(edit, new))

    async def change_room(self, site: Site, who: Who, room: int, change: RoomChange) -> None:
        """Changes a room."""
        await self.change(site, who, lambda edit: journal_rooms.change_room(edit, room, change))

    async def archive_room(self, site: Site, who: Who, room: int, is_archived: bool) -> None:
        """Archives a room, or takes it back."""
        await self.change(site, who, lambda edit: journal_rooms.archive_room(edit, room, is_archived))

    async def leave_room(self, site: Site, user: int, room: int) -> None:
        """Takes a user out of a room."""
        await self.change(site, user, lambda edit: journal_rooms.leave_room(edit, room))

    async def create_user(self, site: Site, who: Who, new: NewUser) -> ChatUser:
        """Makes a user."""
        return await self.change(site, who, lambda edit: journal_people.create_person(edit, new))

    async def change_user(self, site: Site, who: Who, user: int, change: PersonChange) -> ChatUser:
        """Changes a user; disabling and another password end its sessions."""
        return await self.change(site, who, lambda edit: journal_people.change_person(edit, user, change))

    async def change_contact(self, site: Site, user: int, change: ContactChange) -> None:
        """Makes or changes a contact of a user."""
        await self.change(site, user, lambda edit: journal_people.change_contact(edit, change))

    async def name_device(self, site: Site, user: int, device_id: int, name: str) -> None:
        """Gives a device of a user a name."""
        await self.change(site, user, lambda edit: journal_people.name_device(edit, device_id, name))

    async def change(self, site: Site, who: Who, work: Callable[[DirectoryEdit], Awaitable[_T]]) -> _T:
        """Does the work of one transaction, and tells of it once it has committed."""
        news = ChatNews()
        async with self._sql.writing(site) as (sql, site_id):
            doer = await doer_of(sql, site_id, who) if isinstance(who, int) else who
            edit = DirectoryEdit(sql, site_id, doer, sees_by_rooms(site), news)
            result = await work(edit)
            tidings = await tidings_of(edit)
        await self._tell(site, news, tidings)
        return result

    async def _tell(self, site: Site, news: ChatNews, tidings: Sequence[Tiding]) -> None:
        if news.has_moves:
            self._wake(site)
        for tiding in tidings:
            for user in tiding.data.get("users", ()):
                await self._calls.tell_nodes(site, USER_CHANGED, user)
            await self._calls.tell(site, tiding.to, "directory", tiding.data)
        if news.voided:
            for listener in self.on_voided:
                await listener(site, sorted(news.voided))


def sees_by_rooms(site: Site) -> bool:
    """Whether a user sees those alone that share a room or a contact with it."""
    return site.require_section(Messenger).contact_list == "rooms"
