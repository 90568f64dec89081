"""The users behind the sessions that requests for files show."""

from app.config.settings import Site
from app.digests import digest
from app.protocols.messenger.bounds import MAX_TOKEN_CHARACTERS, USER_PREFIX
from app.protocols.messenger.files.journal_absence import answered
from app.protocols.messenger.files.ports import FileUser
from app.protocols.messenger.journal_accounts import valid_sessions
from app.protocols.messenger.journal_store import ChatSql
from app.protocols.messenger.journal_tables import chat_apps, chat_devices, chat_sessions, chat_users


class JournalSessions:
    """Holds no state; lives as long as the node. Implements `SessionCheck`."""

    def __init__(self, sql: ChatSql) -> None:
        self._sql = sql

    async def user_of(self, site: Site, token: str) -> FileUser | None:
        """The user of a valid session; none while the user is to set another password."""
        if len(token) > MAX_TOKEN_CHARACTERS:
            return None
        with answered():
            async with self._sql.reading(site, of_strangers=True) as (sql, site_id):
                found = valid_sessions(site_id).outerjoin(chat_apps, chat_apps.c.id == chat_devices.c.app_id)
                found = found.with_only_columns(
                    chat_users.c.id, chat_users.c.external, chat_devices.c.device, chat_apps.c.name
                )
                of_token = (chat_sessions.c.digest == digest(token), chat_users.c.must_change.is_(False))
                row = (await sql.execute(found.where(*of_token))).one_or_none()
        if row is None:
            return None
        room = f"{USER_PREFIX}{row.id if row.external is None else row.external}"
        return FileUser(row.id, room, row.device, row.name)
