"""Receipts in SQL: which devices have got and read which messages, and the rows of the outbox that tell the senders and
the reader's other devices."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import Row, Select, and_, case, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.journal.inserting import inserter
from app.protocols.messenger.addresses import user_room
from app.protocols.messenger.directory.journal_viewers import blocked_pairs
from app.protocols.messenger.journal_clock import take
from app.protocols.messenger.journal_tables import (
    chat_devices,
    chat_members,
    chat_messages,
    chat_receipts,
    chat_rooms,
    chat_sent,
)
from app.protocols.messenger.talk.facts import AckedSeq
from app.protocols.messenger.talk.journal_outbox import put
from app.protocols.messenger.talk.journal_visible import blocked_by, visible_to
from app.protocols.messenger.talk.receipt_groups import ReceiptRow, grouped
from app.protocols.messenger.talk.rules import CHANNEL
from app.protocols.messenger.talk.wishes import ChatSender

_MESSAGE, _RECEIPT = chat_messages.c, chat_receipts.c
#: The parameters of one statement are bounded in both databases.
_PART = 200
_NOBODY: Mapping[str, Any] = {}


class _Mark(Struct, frozen=True):
    """A state that is reached."""

    message: int
    sender: int
    user: int
    device_id: int
    device: str


async def note_read(sql: AsyncConnection, site_id: int, reader: ChatSender, ids: Sequence[int], now: int) -> int:
    """A user has read messages: those that it sees, of others, with receipts. Answers how many it was new for."""
    blocked = await blocked_by(sql, site_id, reader.user)
    marks: list[_Mark] = []
    for start in range(0, len(ids), _PART):
        of_ids = (_MESSAGE.site_id == site_id, _MESSAGE.id.in_(ids[start : start + _PART]), visible_to(reader.user))
        rows = await sql.execute(_with_receipts().where(*of_ids, _MESSAGE.from_user_id != reader.user))
        marks += [_Mark(row.id, row.from_user_id, reader.user, reader.device_id, reader.device) for row in rows]
    told = await _room_of_others(sql, site_id, reader) if marks else {}
    return await _note(sql, site_id, [one for one in marks if one.sender not in blocked], "read", now, told)


async def _room_of_others(sql: AsyncConnection, site_id: int, reader: ChatSender) -> dict[str, Any]:
    """The columns of a row of the outbox for the other devices of a user; none where there are none."""
    devices = chat_devices.c
    others = (devices.site_id == site_id, devices.user_id == reader.user, devices.id != reader.device_id)
    if (await sql.execute(select(devices.id).where(*others).limit(1))).first() is None:
        return {}
    room = user_room(reader.user)
    return {"rooms": msgspec.json.encode([room]).decode(), "but_user": room, "but_device": reader.device}


async def note_delivered(sql: AsyncConnection, site_id: int, acked: Sequence[AckedSeq], now: int) -> set[AckedSeq]:
    """Devices have acknowledged messages. Answers those acks whose seq nobody knows yet."""
    unknown, marks = set(acked), []
    blocked = await blocked_pairs(sql, site_id, {one.user for one in acked})
    for start in range(0, len(acked), _PART):
        part = acked[start : start + _PART]
        seqs = {one.seq for one in part}
        statement = _with_receipts(chat_sent.c.seq, is_sent=True)
        rows = (await sql.execute(statement.where(chat_sent.c.site_id == site_id, chat_sent.c.seq.in_(seqs)))).all()
        of_seqs = {row.seq: row for row in rows}
        known = set((await sql.execute(_seqs(site_id, seqs))).scalars())
        unknown -= {one for one in part if one.seq in known}
        rows_of_devices = await _device_rows(sql, site_id, part)
        got = await _addressed(sql, site_id, of_seqs, {(one.seq, one.user) for one in part})
        for one in part:
            device_id = rows_of_devices.get((one.user, one.device))
            if (one.seq, one.user) in got and device_id is not None:
                row = of_seqs[one.seq]
                if row.from_user_id not in blocked.get(one.user, ()):
                    marks.append(_Mark(row.id, row.from_user_id, one.user, device_id, one.device))
    await _note(sql, site_id, marks, "delivered", now)
    return unknown


def _with_receipts(*more: Any, is_sent: bool = False) -> Select[Any]:
    """Messages that have receipts: those of channels only where the room says so."""
    rooms = chat_rooms.c
    source = chat_messages.outerjoin(chat_rooms, rooms.id == _MESSAGE.room_id)
    if is_sent:
        of_seq = and_(chat_sent.c.site_id == _MESSAGE.site_id, chat_sent.c.message_id == _MESSAGE.id)
        source = source.join(chat_sent, of_seq)
    keeps = case((rooms.has_receipts.is_(None), rooms.kind != CHANNEL), else_=rooms.has_receipts)
    columns = (_MESSAGE.id, _MESSAGE.from_user_id, _MESSAGE.to_user_id, _MESSAGE.room_id, _MESSAGE.is_withheld)
    return select(*columns, *more).select_from(source).where(or_(_MESSAGE.room_id.is_(None), keeps))


def _seqs(site_id: int, seqs: Iterable[int]) -> Select[Any]:
    return select(chat_sent.c.seq).where(chat_sent.c.site_id == site_id, chat_sent.c.seq.in_(seqs))


async def _device_rows(sql: AsyncConnection, site_id: int, acked: Sequence[AckedSeq]) -> dict[tuple[int, str], int]:
    columns = (chat_devices.c.user_id, chat_devices.c.device, chat_devices.c.id)
    users, names = {one.user for one in acked}, {one.device for one in acked}
    of_both = (chat_devices.c.site_id == site_id, columns[0].in_(users), columns[1].in_(names))
    rows = await sql.execute(select(*columns).where(*of_both))
    return {(row.user_id, row.device): row.id for row in rows}


async def _addressed(
    sql: AsyncConnection, site_id: int, messages: Mapping[int, Row[Any]], pairs: set[tuple[int, int]]
) -> set[tuple[int, int]]:
    """Of the pairs of a seq and a user those whose user the message was for."""
    found = {
        (seq, user)
        for seq, user in pairs
        if (row := messages.get(seq)) is not None and row.to_user_id == user and not row.is_withheld
    }
    in_rooms = {(seq, user) for seq, user in pairs if seq in messages and messages[seq].room_id is not None}
    if not in_rooms:
        return {(seq, user) for seq, user in found if messages[seq].from_user_id != user}
    members = chat_members.c
    spans = await sql.execute(
        select(members.room_id, members.user_id, members.since, members.until).where(
            members.site_id == site_id,
            members.room_id.in_({messages[seq].room_id for seq, _ in in_rooms}),
            members.user_id.in_({user for _, user in in_rooms}),
        )
    )
    of_member = defaultdict(list)
    for span in spans:
        of_member[span.room_id, span.user_id].append(span)
    for seq, user in in_rooms:
        row = messages[seq]
        if any(
            one.since < row.id and (one.until is None or one.until > row.id) for one in of_member[row.room_id, user]
        ):
            found.add((seq, user))
    return {(seq, user) for seq, user in found if messages[seq].from_user_id != user}


async def _note(
    sql: AsyncConnection,
    site_id: int,
    marks: Sequence[_Mark],
    state: str,
    now: int,
    others: Mapping[str, Any] = _NOBODY,
) -> int:
    """Notes the states that are new, and tells the senders, and the devices of a row of the outbox (`others`). Answers
    how many are new."""
    column = _RECEIPT.read_at if state == "read" else _RECEIPT.delivered_at
    known: dict[tuple[int, int], Row[Any]] = {}
    for start in range(0, len(marks), _PART):
        part = marks[start : start + _PART]
        of_marks = (
            _RECEIPT.site_id == site_id,
            _RECEIPT.message_id.in_({one.message for one in part}),
            _RECEIPT.device_id.in_({one.device_id for one in part}),
        )
        columns = (_RECEIPT.message_id, _RECEIPT.device_id, column.label("at"))
        rows = await sql.execute(select(*columns).where(*of_marks))
        known |= {(row.message_id, row.device_id): row for row in rows}
    new = list(
        {
            (one.message, one.device_id): one
            for one in marks
            if (row := known.get((one.message, one.device_id))) is None or row.at is None
        }.values()
    )
    if not new:
        return 0
    # A message that was read before its ack was noted: its sender knows more already.
    told = [one for one in new if state == "read" or (one.message, one.device_id) not in known]
    events = _events(told, state, now) + (_bodies(told, state, now, others) if others else [])
    last = await take(sql, site_id, len(new) + len(events))
    first = last - len(new) - len(events) + 1
    values = [
        {
            "site_id": site_id,
            "message_id": one.message,
            "user_id": one.user,
            "device_id": one.device_id,
            "sender_id": one.sender,
            "change": first + place,
            column.name: now,
        }
        for place, one in enumerate(new)
    ]
    statement = inserter(sql)(chat_receipts)
    changed = {column.name: statement.excluded[column.name], "change": statement.excluded.change}
    keys = ["site_id", "message_id", "user_id", "device_id"]
    await sql.execute(statement.on_conflict_do_update(index_elements=keys, set_=changed), values)
    if events:
        rows_of_outbox = [row | {"id": first + len(new) + place} for place, row in enumerate(events)]
        await put(sql, site_id, rows_of_outbox)
    return len(new)


def _events(marks: Sequence[_Mark], state: str, now: int) -> list[dict[str, Any]]:
    """The rows of the outbox that tell senders of new states."""
    by_sender = defaultdict(list)
    for one in marks:
        by_sender[one.sender].append(one)
    events = []
    for sender, of_sender in by_sender.items():
        events += _bodies(of_sender, state, now, {"rooms": msgspec.json.encode([user_room(sender)]).decode()})
    return events


def _bodies(marks: Iterable[_Mark], state: str, now: int, columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of the outbox with these columns that tell of new states."""
    rows = [ReceiptRow(one.message, one.user, one.device, state, now) for one in marks]
    rows.sort(key=lambda row: (row.user, row.device, row.message))
    return [{**columns, "body": f'["receipt",{one.decode()}]'} for one, _ in grouped(rows)]
