"""The history of the directory: what was changed, from what to what, by whom and when."""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.clock import now_ms
from app.protocols.messenger.journal_clock import take
from app.protocols.messenger.journal_tables import chat_changes


class Changed(Struct, frozen=True):
    """A row of the directory that has changed. Lives until it is written down."""

    #: `user`, `room`, `contact`, `device` or `app`.
    what: str
    of_id: int
    #: The values after the change, and those before it (None: the row is new).
    after: Mapping[str, Any]
    before: Mapping[str, Any] | None = None
    #: The user whose contact or device it is.
    owner_id: int | None = None


async def note_change(sql: AsyncConnection, site_id: int, changed: Changed, by: str) -> int:
    """Writes a change down; its number on the site's clock. Of values that stay the same nothing is kept."""
    number = await take(sql, site_id)
    before, after = changed.before, changed.after
    if before is not None:
        after = {name: value for name, value in changed.after.items() if before.get(name) != value}
        before = {name: before.get(name) for name in after}
    values = {
        "site_id": site_id,
        "id": number,
        "what": changed.what,
        "of_id": changed.of_id,
        "owner_id": changed.owner_id,
        "before": None if before is None else msgspec.json.encode(before).decode(),
        "after": msgspec.json.encode(after).decode(),
        "by": by,
        "at": now_ms(),
    }
    await sql.execute(insert(chat_changes).values(**values))
    return number
