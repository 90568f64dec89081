"""The rights to files: a file is read by those who see a message with it."""

from app.config.settings import Site
from app.protocols.messenger.answers import ChatUnavailable
from app.protocols.messenger.files.ports import FilesUnavailable
from app.protocols.messenger.journal_store import ChatSql
from app.protocols.messenger.talk.journal_visible import may_read_file


class ConversationRights:
    """`FileRights` by conversations. Lives as long as the node."""

    def __init__(self, sql: ChatSql) -> None:
        self._sql = sql

    async def may_read(self, site: Site, user: int, file: str) -> bool:
        """Whether the user sees a message with this file now. Raises FilesUnavailable."""
        try:
            async with self._sql.reading(site) as (sql, site_id):
                return await may_read_file(sql, site_id, user, file)
        except ChatUnavailable as error:
            raise FilesUnavailable(str(error)) from None
