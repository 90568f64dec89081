"""Lists of messages, and of the deliveries of a user: the statements behind the journal's questions.

A page reads a bounded number of rows by one index. Where a filter has no index of its own, the last row that the page
may look at is found by the keys of the index alone; the page ends there, and the next one goes on.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import ColumnElement, Row, Select, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.journal.answers import (
    JournalDelivery,
    JournalMessage,
    MessageFilter,
    MessagePage,
    UserDelivery,
    UserDeliveryPart,
)
from app.journal.states import Fate, reason_text
from app.journal.tables import deliveries, devices, message_rooms, messages

#: The rows that one page looks at. A page past it is shorter than asked for, or empty, and has a cursor all the same.
ROWS_LOOKED_AT = 5_000
#: The newest devices of a user that a list by user looks at: these rows are shared among them.
_DEVICES_OF_USER = 200
_ROWS_OF_DEVICE = 1_000
#: Messages that are asked for by their seqs in one statement.
_SEQS_A_PART = 1_000


class Bounds(Struct, frozen=True):
    """The seqs of a list, both ends included; None: no bound. Lives as long as the question."""

    least: int | None = None
    most: int | None = None

    def of(self, *seqs: ColumnElement[int]) -> Iterator[ColumnElement[bool]]:
        """The conditions on columns."""
        for seq in seqs:
            if self.least is not None:
                yield seq >= self.least
            if self.most is not None:
                yield seq <= self.most

    def ending_at(self, end: int | None, is_oldest_first: bool) -> "Bounds":
        """The part up to the row that is looked at last; None: all of it."""
        if end is None:
            return self
        return Bounds(self.least, end) if is_oldest_first else Bounds(end, self.most)


async def list_messages(
    sql: AsyncConnection, site_id: int, wanted: MessageFilter, limit: int, cursor: int | None, body: bool
) -> MessagePage:
    """The messages that pass, from behind a cursor."""
    bounds = await _seq_bounds(sql, site_id, wanted, cursor)
    if wanted.user is not None:
        return await _list_of_user(sql, site_id, wanted, limit, bounds, body)
    end = None
    if not _is_whole(wanted):
        last = keys_of(site_id, wanted, bounds).offset(ROWS_LOOKED_AT - 1).limit(1)
        end = (await sql.execute(last)).scalar_one_or_none()
    statement = matching(site_id, wanted, bounds.ending_at(end, wanted.is_oldest_first), body).limit(limit + 1)
    found = list(map(message_of, await sql.execute(statement)))
    return MessagePage(found[:limit], found[limit - 1].seq if len(found) > limit else end)


async def list_user_deliveries(
    sql: AsyncConnection, site_id: int, user: str, since: int, limit: int, device: str | None
) -> UserDeliveryPart:
    """The newest deliveries to a user's devices, or one of them."""
    ids = await _device_ids(sql, site_id, user, device)
    bounds = await _seq_bounds(sql, site_id, MessageFilter(since=since), None)
    if not ids:
        return UserDeliveryPart([], False)
    end = await _end_of_devices(sql, ids, bounds, False)
    of_devices = [deliveries.c.device_id.in_(ids), *bounds.ending_at(end, False).of(deliveries.c.seq)]
    statement = delivery_rows().where(*of_devices).order_by(deliveries.c.seq.desc(), deliveries.c.device_id)
    found = [delivery_of(row) for row in await sql.execute(statement.limit(limit))]
    sent = message_rows(False).where(messages.c.site_id == site_id, messages.c.seq.in_({one.seq for one in found}))
    by_seq = {row.seq: message_of(row) for row in await sql.execute(sent)}
    pairs = [UserDelivery(one, by_seq[one.seq]) for one in found if one.seq in by_seq]
    return UserDeliveryPart(pairs, end is not None or len(found) == limit)


def keys_of(site_id: int, wanted: MessageFilter, bounds: Bounds) -> Select[Any]:
    """The seqs in the index that a page goes by, in its order."""
    if wanted.room is not None:
        of_room = (message_rooms.c.site_id == site_id, message_rooms.c.room == wanted.room)
        statement = select(message_rooms.c.seq).where(*of_room, *bounds.of(message_rooms.c.seq))
        return statement.order_by(_in_order(message_rooms.c.seq, wanted))
    statement = select(messages.c.seq).where(messages.c.site_id == site_id, *bounds.of(messages.c.seq))
    return _by_index(statement, wanted).order_by(_in_order(messages.c.seq, wanted))


def matching(site_id: int, wanted: MessageFilter, bounds: Bounds, body: bool) -> Select[Any]:
    """The messages that pass a filter but for its user, in its order."""
    statement, key = message_rows(body).where(messages.c.site_id == site_id), messages.c.seq
    if wanted.room is not None:
        key = message_rooms.c.seq
        statement = statement.join(message_rooms, _is_in_room(wanted.room)).where(message_rooms.c.site_id == site_id)
        # The bounds are in every index that the database may take.
        statement = statement.where(*bounds.of(messages.c.seq))
    statement = _by_index(statement, wanted)
    if wanted.state is not None:
        # As text: PostgreSQL takes a partial index only for a condition that it knows before it plans.
        statement = statement.where(text(f"messages.{wanted.state.column} > 0"))
    return statement.where(*bounds.of(key)).order_by(_in_order(key, wanted))


def message_rows(body: bool) -> Select[Any]:
    """The columns of `message_of`."""
    columns = [column for column in messages.c if column.name not in ("site_id", "body")]
    return select(*columns, *([messages.c.body] if body else []))


def delivery_rows() -> Select[Any]:
    """The columns of `delivery_of`."""
    columns = [column for column in deliveries.c if column.name != "site_id"]
    return select(*columns, devices.c.user, devices.c.device).join(devices, devices.c.id == deliveries.c.device_id)


def message_of(row: Row[Any]) -> JournalMessage:
    """A row as a value."""
    return JournalMessage(
        seq=row.seq,
        id=row.id,
        event=row.event,
        rooms=msgspec.json.decode(row.rooms),
        bytes=row.bytes,
        accepted_at=row.accepted_at,
        options=msgspec.json.decode(row.options) if row.options else {},
        addressed=row.addressed,
        summary={state: getattr(row, state.column) for state in Fate},
        nodes=row.nodes,
        body=getattr(row, "body", None),
    )


def delivery_of(row: Row[Any]) -> JournalDelivery:
    """A row as a value."""
    times = (row.written_at, row.acked_at, row.ms, row.ended_at)
    named = (row.seq, row.device_id, row.user, row.device)
    return JournalDelivery(*named, Fate(row.state), reason_text(row.reason), bool(row.is_batch), *times)


def end_of_devices(ids: Sequence[int], bounds: Bounds, is_oldest_first: bool) -> Select[Any]:
    """The seq of the last row that is looked at. Of a device with more rows than its share the list cannot go on past
    this share, so it ends where the first of these ends."""
    share = min(_ROWS_OF_DEVICE, max(1, ROWS_LOOKED_AT // len(ids)))
    seq = deliveries.c.seq
    of_device = select(seq).where(deliveries.c.device_id == devices.c.id, *bounds.of(seq))
    last = of_device.order_by(seq.asc() if is_oldest_first else seq.desc()).offset(share - 1).limit(1)
    ends = select(last.correlate(devices).scalar_subquery().label("seq")).where(devices.c.id.in_(ids)).subquery()
    return select(func.min(ends.c.seq) if is_oldest_first else func.max(ends.c.seq))


async def _list_of_user(
    sql: AsyncConnection, site_id: int, wanted: MessageFilter, limit: int, bounds: Bounds, body: bool
) -> MessagePage:
    ids = await _device_ids(sql, site_id, wanted.user or "", None)
    if not ids:
        return MessagePage([], None)
    end = await _end_of_devices(sql, ids, bounds, wanted.is_oldest_first)
    looked = select(deliveries.c.seq).distinct().where(deliveries.c.device_id.in_(ids))
    looked = looked.where(*bounds.ending_at(end, wanted.is_oldest_first).of(deliveries.c.seq))
    if wanted.state is not None:
        looked = looked.where(deliveries.c.state == wanted.state)
    is_whole = wanted.event is None and wanted.room is None
    looked = looked.order_by(_in_order(deliveries.c.seq, wanted)).limit(limit + 1 if is_whole else ROWS_LOOKED_AT)
    seqs = list((await sql.execute(looked)).scalars())
    found: list[JournalMessage] = []
    for start in range(0, len(seqs), _SEQS_A_PART):
        part = seqs[start : start + _SEQS_A_PART]
        statement = message_rows(body).where(messages.c.site_id == site_id, messages.c.seq.in_(part))
        if wanted.event is not None:
            statement = statement.where(messages.c.event == wanted.event)
        if wanted.room is not None:
            statement = statement.join(message_rooms, _is_in_room(wanted.room))
        statement = statement.order_by(_in_order(messages.c.seq, wanted)).limit(limit + 1 - len(found))
        found += map(message_of, await sql.execute(statement))
        if len(found) > limit:
            return MessagePage(found[:limit], found[limit - 1].seq)
    return MessagePage(found, end)


async def _end_of_devices(
    sql: AsyncConnection, ids: Sequence[int], bounds: Bounds, is_oldest_first: bool
) -> int | None:
    found: int | None = (await sql.execute(end_of_devices(ids, bounds, is_oldest_first))).scalar_one()
    return found


async def _device_ids(sql: AsyncConnection, site_id: int, user: str, device: str | None) -> list[int]:
    statement = select(devices.c.id).where(devices.c.site_id == site_id, devices.c.user == user)
    if device is not None:
        statement = statement.where(devices.c.device == device)
    return list((await sql.execute(statement.order_by(devices.c.id.desc()).limit(_DEVICES_OF_USER))).scalars())


async def _seq_bounds(sql: AsyncConnection, site_id: int, wanted: MessageFilter, cursor: int | None) -> Bounds:
    """The bounds in seqs, which grow with time: so every list goes by one index, whatever its times."""
    least = cursor + 1 if cursor is not None and wanted.is_oldest_first else None
    most = cursor - 1 if cursor is not None and not wanted.is_oldest_first else None
    at, seq = messages.c.accepted_at, messages.c.seq
    if wanted.since is not None:
        first = select(seq).where(messages.c.site_id == site_id, at >= wanted.since).order_by(at, seq).limit(1)
        # Nothing is so new: no seq is.
        found = (await sql.execute(first)).scalar_one_or_none() or 2**63 - 1
        least = max(found, least or 0)
    if wanted.until is not None:
        last = select(seq).where(messages.c.site_id == site_id, at <= wanted.until)
        newest = (await sql.execute(last.order_by(at.desc(), seq.desc()).limit(1))).scalar_one_or_none() or -1
        most = newest if most is None else min(newest, most)
    return Bounds(least, most)


def _is_whole(wanted: MessageFilter) -> bool:
    """Whether every row of the index passes."""
    if wanted.state is Fate.ACKED:
        return False
    return sum(one is not None for one in (wanted.room, wanted.event, wanted.state)) <= 1


def _by_index(statement: Select[Any], wanted: MessageFilter) -> Select[Any]:
    """The conditions that have an index of their own, and its name for SQLite where it is the one to go by."""
    is_free = wanted.room is None
    if wanted.event is not None:
        statement = statement.where(messages.c.event == wanted.event)
        return _indexed_by(statement, "messages_by_event") if is_free else statement
    if wanted.state is None or wanted.state is Fate.ACKED or not is_free:
        return statement
    statement = statement.where(text(f"messages.{wanted.state.column} > 0"))
    return _indexed_by(statement, f"messages_{wanted.state.word}")


def _indexed_by(statement: Select[Any], index: str) -> Select[Any]:
    return statement.with_hint(messages, f"INDEXED BY {index}", "sqlite")


def _in_order(key: ColumnElement[int], wanted: MessageFilter) -> ColumnElement[int]:
    return key.asc() if wanted.is_oldest_first else key.desc()


def _is_in_room(room: str) -> ColumnElement[bool]:
    of_message = (message_rooms.c.site_id == messages.c.site_id) & (message_rooms.c.seq == messages.c.seq)
    return of_message & (message_rooms.c.room == room)
