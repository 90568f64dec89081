"""The rights to files, by the messages that carry them."""

from app.config.settings import Site
from app.protocols.messenger.files.journal_absence import answered
from app.protocols.messenger.journal_store import ChatSql
from app.protocols.messenger.talk.journal_visible import may_read_file


class JournalRights:
    """Holds no state; lives as long as the node. Implements `FileRights`."""

    def __init__(self, sql: ChatSql) -> None:
        self._sql = sql

    async def may_read(self, site: Site, user: int, file: str) -> bool:
        """Whether the user sees a message with this file."""
        with answered():
            async with self._sql.reading(site) as (sql, site_id):
                return await may_read_file(sql, site_id, user, file)
