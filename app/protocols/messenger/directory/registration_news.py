"""The registrations that wait, told to each client that comes in and may decide on them. Later ones come as changes of
the directory."""

from app.protocols.messenger.answers import ChatUnavailable
from app.protocols.messenger.chatter import Chatter
from app.protocols.messenger.directory.journal_registrations import waiting_for
from app.protocols.messenger.journal_store import ChatSql
from app.protocols.messenger.settings import Messenger
from app.watched_tasks import start_logged

#: The oldest ones; the next connect tells of those behind them.
_TOLD_AT_ONCE = 200


class RegistrationNews:
    """The registrations of all sites, as one node tells of them. Holds no state; lives as long as the node."""

    def __init__(self, sql: ChatSql) -> None:
        self._sql = sql

    def joined(self, chatter: Chatter) -> None:
        """Begins to tell a client that has come in. Raises nothing."""
        if chatter.caller.site.require_section(Messenger).registration == "open":
            start_logged(self._tell(chatter), "tell of registrations")

    async def _tell(self, chatter: Chatter) -> None:
        caller = chatter.caller
        room = caller.site.require_section(Messenger).registration_room
        try:
            async with self._sql.reading(caller.site) as (sql, site_id):
                waiting = await waiting_for(sql, site_id, caller.me, room, _TOLD_AT_ONCE)
        except ChatUnavailable:
            # The next connect tells of them.
            return
        if waiting and not chatter.is_closed:
            chatter.link.send_event("directory", [{"registrations": waiting}])
