"""Files as parts of messages: who may send one, and what of it messages show."""

import msgspec
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.protocols.messenger.answers import ChatRefusal
from app.protocols.messenger.journal_tables import chat_files
from app.protocols.messenger.talk.journal_visible import may_read_file


async def attach(sql: AsyncConnection, site_id: int, user: int, file: str, now: int) -> str:
    """A finished file that the user owns, or may read, as messages show it: JSON. From here on the file stays. Raises
    ChatRefusal."""
    files = chat_files.c
    of_file = (files.site_id == site_id, files.id == file)
    is_whole = (files.finished_at.is_not(None), files.removed_at.is_(None))
    shown = select(files.id, files.name, files.type, files.size, files.user_id).where(*of_file, *is_whole)
    row = (await sql.execute(shown)).one_or_none()
    if row is None or not (row.user_id == user or await may_read_file(sql, site_id, user, file)):
        raise ChatRefusal("bad_request", "file: expected a finished file that is one's own, or that one may read.")
    await sql.execute(update(chat_files).where(*of_file).values(sent_at=func.coalesce(files.sent_at, now)))
    return msgspec.json.encode({"id": row.id, "name": row.name, "type": row.type, "size": row.size}).decode()
