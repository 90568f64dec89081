"""The directory of all sites on one node: each change is one transaction, and then told to those who see it."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from app.config.settings import Site
from app.protocols.messenger.directory.calls import UserCalls
from app.protocols.messenger.directory.journal_edit import DirectoryEdit
from app.protocols.messenger.directory.journal_people import doer_of
from app.protocols.messenger.directory.journal_tidings import tidings_of
from app.protocols.messenger.directory.news import ChatNews, Tiding
from app.protocols.messenger.directory.ports import WakeCore, Who
from app.protocols.messenger.journal_store import ChatSql
from app.protocols.messenger.settings import Messenger

_T = TypeVar("_T")


class ChatDirectory:
    """The directory as events and operators change it; see `EditsDirectory`. Lives as long as the node."""

    def __init__(self, sql: ChatSql, calls: UserCalls, wake: WakeCore) -> None:
        self._sql = sql
        self._calls = calls
        self._wake = wake

    async def change(self, site: Site, who: Who, work: Callable[[DirectoryEdit], Awaitable[_T]]) -> _T:
        """Makes a change, and tells of it once it has committed; see `EditsDirectory`."""
        news = ChatNews()
        async with self._sql.writing(site) as (sql, site_id):
            doer = await doer_of(sql, site_id, who) if isinstance(who, int) else who
            settings = site.require_section(Messenger)
            edit = DirectoryEdit(sql, site_id, doer, sees_by_rooms(site), news, settings.registration_room)
            result = await work(edit)
            tidings = await tidings_of(edit)
        await self._tell(site, news, tidings)
        return result

    async def _tell(self, site: Site, news: ChatNews, tidings: Sequence[Tiding]) -> None:
        if news.has_moves:
            self._wake(site)
        for tiding in tidings:
            await self._calls.tell(site, tiding.to, "directory", tiding.data)


def sees_by_rooms(site: Site) -> bool:
    """Whether a user sees those alone that share a room or a contact with it."""
    return site.require_section(Messenger).contact_list == "rooms"
