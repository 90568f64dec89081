"""The users behind the sessions that requests for files show."""

from sqlalchemy import select

from app.clock import now_ms
from app.config.settings import Site
from app.digests import digest
from app.protocols.messenger.bounds import MAX_TOKEN_CHARACTERS, USER_PREFIX
from app.protocols.messenger.files.journal_absence import answered
from app.protocols.messenger.files.ports import FileUser
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
        session, user, device = chat_sessions.c, chat_users.c, chat_devices.c
        found = select(user.id, device.device, chat_apps.c.name)
        found = found.join_from(chat_sessions, chat_users, user.id == session.user_id)
        found = found.join(chat_devices, device.id == session.device_id)
        found = found.outerjoin(chat_apps, chat_apps.c.id == device.app_id)
        is_valid = (session.expires_at > now_ms(), user.is_disabled.is_(False), user.must_change.is_(False))
        with answered():
            async with self._sql.reading(site, of_strangers=True) as (sql, site_id):
                of_token = (session.site_id == site_id, session.digest == digest(token))
                row = (await sql.execute(found.where(*of_token, *is_valid))).one_or_none()
        return None if row is None else FileUser(row.id, f"{USER_PREFIX}{row.id}", row.device, row.name)
