"""Receipts in SQL: which devices have got and read which messages, and the rows of the outbox that tell the senders and
the reader's other devices."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import Row, Select, and_, case, null, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.journal.inserting import inserter
from app.protocols.messenger.addresses import run_room, user_room
from app.protocols.messenger.directory.journal_viewers import blocked_pairs
from app.protocols.messenger.journal_clock import take
from app.protocols.messenger.journal_message_tables import LOAD, REAL, MessageTables
from app.protocols.messenger.journal_tables import chat_devices, chat_members, chat_rooms, chat_sent
from app.protocols.messenger.talk.facts import AckedSeq
from app.protocols.messenger.talk.journal_outbox import put
from app.protocols.messenger.talk.journal_visible import blocked_by, visible_to
from app.protocols.messenger.talk.receipt_groups import ReceiptRow, grouped
from app.protocols.messenger.talk.rules import CHANNEL
from app.protocols.messenger.talk.wishes import ChatSender

_MESSAGE = REAL.messages.c
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
    #: The run of a load test; None: the message is a real one.
    run: str | None = None

    @property
    def room(self) -> str:
        """The room of the core that hears of it: the sender's devices, or those of them that take part in the run."""
        return user_room(self.sender) if self.run is None else run_room(self.run, self.sender)


class _State(Struct, frozen=True):
    """A state that is noted of messages. Lives for one transaction."""

    name: str
    at: int
    tables: MessageTables = REAL
    #: The columns of a row of the outbox for further devices; none: there are none.
    others: Mapping[str, Any] = _NOBODY

    @property
    def event(self) -> str:
        """The event that tells clients of it."""
        return "receipt" if self.tables is REAL else "load_receipt"


async def note_read(sql: AsyncConnection, site_id: int, reader: ChatSender, ids: Sequence[int], now: int) -> int:
    """A user has read messages: those that it sees, of others, with receipts. Answers how many it was new for."""
    blocked = await blocked_by(sql, site_id, reader.user)
    marks: list[_Mark] = []
    for start in range(0, len(ids), _PART):
        of_ids = (_MESSAGE.site_id == site_id, _MESSAGE.id.in_(ids[start : start + _PART]), visible_to(reader.user))
        rows = await sql.execute(_with_receipts(REAL).where(*of_ids, _MESSAGE.from_user_id != reader.user))
        marks += [_Mark(row.id, row.from_user_id, reader.user, reader.device_id, reader.device) for row in rows]
    state = _State("read", now, REAL, await _room_of_others(sql, site_id, reader) if marks else {})
    return await _note(sql, site_id, [one for one in marks if one.sender not in blocked], state)


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
    unknown = set(acked)
    marks: dict[MessageTables, list[_Mark]] = {REAL: [], LOAD: []}
    for start in range(0, len(acked), _PART):
        part = acked[start : start + _PART]
        known = set((await sql.execute(_seqs(site_id, {one.seq for one in part}))).scalars())
        unknown -= {one for one in part if one.seq in known}
        # Few seqs are those of a load test: their table is asked for what is no real message.
        for tables in (REAL, LOAD):
            if known:
                of_seqs = await _sent_messages(sql, site_id, tables, known)
                marks[tables] += await _delivered(sql, site_id, of_seqs, part)
                known -= of_seqs.keys()
    for tables, found in marks.items():
        await _note(sql, site_id, found, _State("delivered", now, tables))
    return unknown


async def _delivered(
    sql: AsyncConnection, site_id: int, of_seqs: Mapping[int, Row[Any]], acked: Sequence[AckedSeq]
) -> list[_Mark]:
    """The marks of these messages, by their seqs: at devices of addressees that have not blocked the sender."""
    here = [one for one in acked if one.seq in of_seqs]
    if not here:
        return []
    blocked = await blocked_pairs(sql, site_id, {one.user for one in here})
    rows_of_devices = await _device_rows(sql, site_id, here)
    got = await _addressed(sql, site_id, of_seqs, {(one.seq, one.user) for one in here})
    marks = []
    for one in here:
        device_id = rows_of_devices.get((one.user, one.device))
        if (one.seq, one.user) in got and device_id is not None:
            row = of_seqs[one.seq]
            if row.from_user_id not in blocked.get(one.user, ()):
                marks.append(_Mark(row.id, row.from_user_id, one.user, device_id, one.device, row.run))
    return marks


async def _sent_messages(
    sql: AsyncConnection, site_id: int, tables: MessageTables, seqs: Iterable[int]
) -> dict[int, Row[Any]]:
    """The messages of these tables behind seqs."""
    statement = _with_receipts(tables, chat_sent.c.seq, is_sent=True)
    of_seqs = (chat_sent.c.site_id == site_id, chat_sent.c.seq.in_(seqs))
    return {row.seq: row for row in await sql.execute(statement.where(*of_seqs))}


def _with_receipts(tables: MessageTables, *more: Any, is_sent: bool = False) -> Select[Any]:
    """Messages that have receipts: those of channels only where the room says so."""
    rooms, messages = chat_rooms.c, tables.messages.c
    source = tables.messages.outerjoin(chat_rooms, rooms.id == messages.room_id)
    if is_sent:
        of_seq = and_(chat_sent.c.site_id == messages.site_id, chat_sent.c.message_id == messages.id)
        source = source.join(chat_sent, of_seq)
    keeps = case((rooms.has_receipts.is_(None), rooms.kind != CHANNEL), else_=rooms.has_receipts)
    run = messages.run if tables is LOAD else null().label("run")
    columns = [messages[name] for name in ("id", "from_user_id", "to_user_id", "room_id", "is_withheld")]
    return select(*columns, run, *more).select_from(source).where(or_(messages.room_id.is_(None), keeps))


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


async def _note(sql: AsyncConnection, site_id: int, marks: Sequence[_Mark], state: _State) -> int:
    """Notes the states that are new, and tells the senders and the other devices. Answers how many are new."""
    receipts = state.tables.receipts
    column = receipts.c.read_at if state.name == "read" else receipts.c.delivered_at
    known: dict[tuple[int, int], Row[Any]] = {}
    for start in range(0, len(marks), _PART):
        part = marks[start : start + _PART]
        of_marks = (
            receipts.c.site_id == site_id,
            receipts.c.message_id.in_({one.message for one in part}),
            receipts.c.device_id.in_({one.device_id for one in part}),
        )
        columns = (receipts.c.message_id, receipts.c.device_id, column.label("at"))
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
    told = [one for one in new if state.name == "read" or (one.message, one.device_id) not in known]
    events = _events(told, state) + (_bodies(told, state, state.others) if state.others else [])
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
            column.name: state.at,
        }
        for place, one in enumerate(new)
    ]
    statement = inserter(sql)(receipts)
    changed = {column.name: statement.excluded[column.name], "change": statement.excluded.change}
    keys = ["site_id", "message_id", "user_id", "device_id"]
    await sql.execute(statement.on_conflict_do_update(index_elements=keys, set_=changed), values)
    if events:
        rows_of_outbox = [row | {"id": first + len(new) + place} for place, row in enumerate(events)]
        await put(sql, site_id, rows_of_outbox)
    return len(new)


def _events(marks: Sequence[_Mark], state: _State) -> list[dict[str, Any]]:
    """The rows of the outbox that tell senders of new states."""
    by_room = defaultdict(list)
    for one in marks:
        by_room[one.room].append(one)
    events = []
    for room, of_room in by_room.items():
        events += _bodies(of_room, state, {"rooms": msgspec.json.encode([room]).decode()})
    return events


def _bodies(marks: Iterable[_Mark], state: _State, columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of the outbox with these columns that tell of new states."""
    rows = [ReceiptRow(one.message, one.user, one.device, state.name, state.at) for one in marks]
    rows.sort(key=lambda row: (row.user, row.device, row.message))
    return [{**columns, "body": f'["{state.event}",{one.decode()}]'} for one, _ in grouped(rows)]
