"""Receipts of push0k as rows of the messenger, within a transaction."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.journal.inserting import inserter
from app.protocols.messenger.journal_clock import take
from app.protocols.messenger.journal_message_tables import chat_messages, chat_receipts
from app.protocols.messenger.push0k.journal_map import PART, ids_of
from app.protocols.messenger.push0k.journal_messages import devices_of
from app.protocols.messenger.push0k.outcome import ImportOutcome
from app.protocols.messenger.push0k.source_rows import PushReceipt

_MESSAGE, _RECEIPT = chat_messages.c, chat_receipts.c


async def add_receipts(sql: AsyncConnection, site_id: int, part: Sequence[PushReceipt]) -> ImportOutcome:
    """Makes the receipts that are not there, and adds to those that are what has happened since."""
    outcome = ImportOutcome()
    users = await ids_of(sql, site_id, "user", [one.user for one in part])
    messages = await ids_of(sql, site_id, "message", [one.message for one in part])
    facts = await _facts_of(sql, site_id, sorted(messages.values()))
    devices = await devices_of(sql, site_id, {(users[one.user], one.device) for one in part if one.user in users})
    rows = {}
    for one in part:
        user, message = users.get(one.user), facts.get(messages.get(one.message, 0))
        device = devices.get((user or 0, one.device))
        if user is None or message is None or device is None or not _is_for(message, user):
            outcome.counts["receipts_left_out"] += 1
        else:
            rows[message.id, user, device] = _times(one, message.at) | {"sender_id": message.from_user_id}
    if rows:
        outcome.counts["receipts"] += await _insert(sql, site_id, rows)
    return outcome


async def _facts_of(sql: AsyncConnection, site_id: int, ids: Sequence[int]) -> dict[int, Any]:
    columns = (_MESSAGE.id, _MESSAGE.from_user_id, _MESSAGE.to_user_id, _MESSAGE.is_withheld, _MESSAGE.at)
    found: dict[int, Any] = {}
    for start in range(0, len(ids), PART):
        of_part = (_MESSAGE.site_id == site_id, _MESSAGE.id.in_(ids[start : start + PART]))
        found |= {row.id: row for row in await sql.execute(select(*columns).where(*of_part))}
    return found


def _is_for(message: Any, user: int) -> bool:
    """Whether a user is an addressee: no sender of its own message is one."""
    if user == message.from_user_id or message.is_withheld:
        return False
    return message.to_user_id is None or bool(message.to_user_id == user)


def _times(one: PushReceipt, sent_at: int) -> dict[str, int | None]:
    """The times of both states; the time of the message stands for one that was not kept."""
    delivered_at = (one.delivered_at or sent_at) if one.is_delivered else None
    return {"delivered_at": delivered_at, "read_at": (one.read_at or sent_at) if one.is_read else None}


async def _insert(
    sql: AsyncConnection, site_id: int, rows: Mapping[tuple[int, int, int], Mapping[str, int | None]]
) -> int:
    """Writes receipts; how many are new, or tell more than before."""
    known = await _known(sql, site_id, sorted({message for message, _, _ in rows}))
    new = {key: row for key, row in rows.items() if _tells_more(row, known.get(key))}
    if not new:
        return 0
    last = await take(sql, site_id, len(new))
    values = [
        {"site_id": site_id, "message_id": key[0], "user_id": key[1], "device_id": key[2], "change": change, **row}
        for change, (key, row) in enumerate(new.items(), last - len(new) + 1)
    ]
    statement = inserter(sql)(chat_receipts)
    later = {name: func.coalesce(_RECEIPT[name], statement.excluded[name]) for name in ("delivered_at", "read_at")} | {
        "change": statement.excluded.change
    }
    keys = ["site_id", "message_id", "user_id", "device_id"]
    await sql.execute(statement.on_conflict_do_update(index_elements=keys, set_=later), values)
    return len(new)


async def _known(sql: AsyncConnection, site_id: int, messages: Sequence[int]) -> dict[tuple[int, int, int], Any]:
    found: dict[tuple[int, int, int], Any] = {}
    columns = (_RECEIPT.message_id, _RECEIPT.user_id, _RECEIPT.device_id, _RECEIPT.delivered_at, _RECEIPT.read_at)
    for start in range(0, len(messages), PART):
        of_part = (_RECEIPT.site_id == site_id, _RECEIPT.message_id.in_(messages[start : start + PART]))
        for row in await sql.execute(select(*columns).where(*of_part)):
            found[row.message_id, row.user_id, row.device_id] = row
    return found


def _tells_more(row: Mapping[str, int | None], known: Any) -> bool:
    if known is None:
        return True
    return any(row[name] is not None and getattr(known, name) is None for name in ("delivered_at", "read_at"))
