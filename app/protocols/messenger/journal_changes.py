"""The history of the directory: what was changed, from what to what, by whom and when."""

from collections.abc import Mapping, Sequence
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
    return await note_changes(sql, site_id, [changed], by)


async def note_changes(sql: AsyncConnection, site_id: int, changes: Sequence[Changed], by: str) -> int:
    """The same of several, with few statements for many; the number of the last one, 0 without any."""
    if not changes:
        return 0
    last, at = await take(sql, site_id, len(changes)), now_ms()
    numbers = range(last - len(changes) + 1, last + 1)
    rows = [
        {"site_id": site_id, "id": number, **_columns(changed), "by": by, "at": at}
        for number, changed in zip(numbers, changes, strict=True)
    ]
    await sql.execute(insert(chat_changes), rows)
    return last


def _columns(changed: Changed) -> dict[str, Any]:
    before, after = changed.before, changed.after
    if before is not None:
        after = {name: value for name, value in changed.after.items() if before.get(name) != value}
        before = {name: before.get(name) for name in after}
    return {
        "what": changed.what,
        "of_id": changed.of_id,
        "owner_id": changed.owner_id,
        "before": None if before is None else msgspec.json.encode(before).decode(),
        "after": msgspec.json.encode(after).decode(),
    }
