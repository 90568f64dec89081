"""The journal's questions and answers: what SQL holds of messages, deliveries and connections.

Each list goes by a key: a page costs the same wherever it stands, and reads a bounded number of rows.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self

import msgspec
from msgspec import Struct
from sqlalchemy import ColumnElement, Row, Select, bindparam, func, select, text, union_all
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.config.settings import Config
from app.errors import StoreError
from app.journal.answers import (
    DeliveryPage,
    JournalDelivery,
    JournalMessage,
    JournalRow,
    MessageFilter,
    MessagePage,
    UserDelivery,
)
from app.journal.database import JournalUnavailable, open_database, translated
from app.journal.merge import id_parts
from app.journal.states import FIRST_FINAL, Fate, reason_text
from app.journal.streams import stream_of
from app.journal.tables import (
    LOST,
    ROW_TABLES,
    UNFINISHED,
    deliveries,
    devices,
    message_rooms,
    messages,
    missing,
    positions,
    sites,
)
from app.redis.client import Commands

#: The rows that one call looks at. A page past it is shorter than asked for, or empty, and has a cursor all the same.
ROWS_LOOKED_AT = 10_000
#: The rows of one device, and the devices of one user, that a list by user looks at.
_ROWS_OF_DEVICE = 1_000
_DEVICES_OF_USER = 200
#: The acknowledged messages of a device among which its last ack is looked for.
_ACKED_OF_DEVICE = 20
#: A question that takes longer is given up.
_ANSWER_SECONDS = 5.0
_POLL_SECONDS = 0.05


__all__ = [
    "DeliveryPage",
    "Journal",
    "JournalDelivery",
    "JournalMessage",
    "JournalRow",
    "MessageFilter",
    "MessagePage",
    "UserDelivery",
]


# Acks may be out of order, so several of a device's newest acknowledged messages count. As text: of 50 devices the
# database needs less time than SQLAlchemy for a statement with a part for each.
_LAST_ACKS = text("""
    SELECT named."user", named.device, (
        SELECT max(acked.acked_at) FROM (
            SELECT newest.acked_at FROM (
                SELECT acked_at FROM deliveries WHERE device_id = named.id ORDER BY seq DESC LIMIT :looked_at
            ) AS newest WHERE newest.acked_at IS NOT NULL LIMIT :acked
        ) AS acked
    ) AS at
    FROM devices AS named WHERE named.site_id = :site_id AND (named."user", named.device) IN :names
""").bindparams(bindparam("names", expanding=True))


class Journal:
    """The questions to the journal. Lives as long as the process that asks; `close` ends its connections to SQL.

    Each method raises JournalUnavailable when SQL does not answer in time. Another site's messages are unknown.
    """

    def __init__(self, engine: AsyncEngine, redis: Commands) -> None:
        self._engine = engine
        self._redis = redis
        self._site_ids: dict[str, int] = {}

    @classmethod
    async def open(cls, config: Config, redis: Commands) -> Self | None:
        """The journal of these settings, connected at the first question; None where it is off."""
        url = config.journal_url
        return cls(open_database(url), redis) if url is not None else None

    async def close(self) -> None:
        """Ends the connections."""
        await self._engine.dispose()

    async def caught_up(self, site: str, seconds: float) -> bool:
        """Waits until SQL has what the site's stream held at the call. False: it had not, in this time."""
        key = stream_of(site)
        try:
            newest = await self._redis.command("XREVRANGE", key, "+", "-", "COUNT", 1)
            async with asyncio.timeout(seconds):
                while True:
                    if not newest or await self._position(key) >= id_parts(newest[0][0]):
                        return True
                    await asyncio.sleep(_POLL_SECONDS)
        except (StoreError, TimeoutError):
            return False

    async def message(self, site: str, id: int, *, body: bool = False) -> JournalMessage | None:
        """A message by its id."""
        async with self._asking(site) as (sql, site_id):
            statement = _messages(body).where(messages.c.site_id == site_id, messages.c.id == id)
            row = (await sql.execute(statement)).one_or_none()
        return _message(row) if row is not None else None

    async def deliveries(self, site: str, seq: int, limit: int, cursor: int | None = None) -> DeliveryPage:
        """The devices of a message."""
        async with self._asking(site) as (sql, site_id):
            of_message = (deliveries.c.site_id == site_id, deliveries.c.seq == seq)
            statement = _deliveries().where(*of_message, deliveries.c.device_id > (cursor or 0))
            rows = (await sql.execute(statement.order_by(deliveries.c.device_id).limit(limit + 1))).all()
        found = [_delivery(row) for row in rows[:limit]]
        return DeliveryPage(found, found[-1].device_id if len(rows) > limit else None)

    async def messages(
        self, site: str, wanted: MessageFilter, limit: int, cursor: int | None = None, *, body: bool = False
    ) -> MessagePage:
        """The messages that pass the filter, newest first."""
        async with self._asking(site) as (sql, site_id):
            bounds = await _seq_bounds(sql, site_id, wanted, cursor)
            if wanted.user is not None:
                return await self._messages_of_user(sql, site_id, wanted, limit, bounds, body)
            looked = _looked_at(site_id, wanted, bounds, body)
            is_whole = wanted.state is None
            inner = looked.limit(limit + 1 if is_whole else ROWS_LOOKED_AT).subquery()
            statement = select(inner).order_by(inner.c.seq.desc()).limit(limit + 1)
            if wanted.state is not None:
                statement = statement.where(inner.c[wanted.state.column] > 0)
            found = [_message(row) for row in await sql.execute(statement)]
            if len(found) > limit:
                return MessagePage(found[:limit], found[limit - 1].seq)
            if is_whole:
                return MessagePage(found, None)
            count, last = (await sql.execute(select(func.count(), func.min(inner.c.seq)))).one()
        return MessagePage(found, last if count == ROWS_LOOKED_AT else None)

    async def user_deliveries(
        self, site: str, user: str, since: int, limit: int, device: str | None = None
    ) -> list[UserDelivery]:
        """The newest deliveries to a user's devices (or one of them) of messages accepted since then, newest first."""
        async with self._asking(site) as (sql, site_id):
            ids = await _device_ids(sql, site_id, user, device)
            bounds = await _seq_bounds(sql, site_id, MessageFilter(since=since), None)
            if not ids:
                return []
            newest = _of_devices(ids, bounds, limit)
            keys = (await sql.execute(select(newest).order_by(newest.c.seq.desc()).limit(limit))).all()
            return await _with_messages(sql, site_id, keys)

    async def last_acks(
        self, site: str, names: Sequence[tuple[str, str]], looked_at: int
    ) -> dict[tuple[str, str], int]:
        """When devices, named by user and device, have acknowledged last, each among so many of its newest messages."""
        found: dict[tuple[str, str], int] = {}
        async with self._asking(site) as (sql, site_id):
            for start in range(0, len(names), _DEVICES_OF_USER):
                part = names[start : start + _DEVICES_OF_USER]
                bounds = {"site_id": site_id, "names": part, "looked_at": looked_at, "acked": _ACKED_OF_DEVICE}
                rows = await sql.execute(_LAST_ACKS, bounds)
                found |= {(row.user, row.device): row.at for row in rows if row.at is not None}
        return found

    async def user_rows(self, table: str, site: str, user: str, since: int, limit: int) -> list[JournalRow]:
        """The newest rows of `connections` or `refusals` of a user since then, newest first. A connection that has not
        ended is no row yet."""
        return await self._rows(table, site, since, limit, ROW_TABLES[table].c.user == user)

    async def site_rows(self, table: str, site: str, since: int, limit: int) -> list[JournalRow]:
        """The newest rows of one of the tables of rows, such as `webhook_attempts`, since then, newest first."""
        return await self._rows(table, site, since, limit)

    async def missing_since(self, site: str, since: int) -> int:
        """How many stream entries of the site were lost since then, because the stream was full."""
        async with self._asking(site) as (sql, _):
            of_site = (missing.c.stream == stream_of(site), missing.c.at >= since)
            return (await sql.execute(select(func.sum(missing.c.entries)).where(*of_site))).scalar_one() or 0

    async def _messages_of_user(
        self, sql: AsyncConnection, site_id: int, wanted: MessageFilter, limit: int, bounds: "_Bounds", body: bool
    ) -> MessagePage:
        ids = await _device_ids(sql, site_id, wanted.user or "", None)
        if not ids:
            return MessagePage([], None)
        looked = _of_devices(ids, bounds, _ROWS_OF_DEVICE)
        rows = (await sql.execute(select(looked))).all()
        # Of a device with more rows only the newest were looked at: the page ends where the first of these ends.
        by_device = {id: [row.seq for row in rows if row.device_id == id] for id in ids}
        cut = [min(seqs) for seqs in by_device.values() if len(seqs) == _ROWS_OF_DEVICE]
        floor = max(cut, default=None)
        seqs = sorted(
            {row.seq for row in rows if row.seq >= (floor or 0) and wanted.state in (None, row.state)}, reverse=True
        )
        found: list[JournalMessage] = []
        for start in range(0, len(seqs), _ROWS_OF_DEVICE):
            part = seqs[start : start + _ROWS_OF_DEVICE]
            statement = _messages(body).where(messages.c.site_id == site_id, messages.c.seq.in_(part))
            if wanted.event is not None:
                statement = statement.where(messages.c.event == wanted.event)
            if wanted.room is not None:
                statement = statement.join(message_rooms, _is_in_room(wanted.room))
            found += map(_message, await sql.execute(statement.order_by(messages.c.seq.desc()).limit(limit + 1)))
            if len(found) > limit:
                return MessagePage(found[:limit], found[limit - 1].seq)
        return MessagePage(found, floor)

    async def _rows(
        self, table: str, site: str, since: int, limit: int, *where: ColumnElement[bool]
    ) -> list[JournalRow]:
        columns = ROW_TABLES[table].c
        at = columns.disconnected_at if table == "connections" else columns.at
        async with self._asking(site) as (sql, site_id):
            statement = select(*columns).where(columns.site_id == site_id, at >= since, *where)
            rows = await sql.execute(statement.order_by(at.desc()).limit(limit))
            return [JournalRow(row.id, _without_ids(row)) for row in rows]

    async def _position(self, stream: str) -> tuple[int, int]:
        async with self._asking(None) as (sql, _):
            statement = select(positions.c.entry_id).where(positions.c.stream == stream)
            return id_parts((await sql.execute(statement)).scalar_one_or_none() or "0-0")

    @asynccontextmanager
    async def _asking(self, site: str | None) -> AsyncIterator[tuple[AsyncConnection, int]]:
        """A connection, and the site's id; 0 of a site of which the journal knows nothing."""
        try:
            with translated():
                async with asyncio.timeout(_ANSWER_SECONDS), self._engine.connect() as sql:
                    yield sql, await self._site_id(sql, site) if site is not None else 0
        except JournalUnavailable:
            self._site_ids.clear()
            raise

    async def _site_id(self, sql: AsyncConnection, site: str) -> int:
        if site not in self._site_ids:
            found = (await sql.execute(select(sites.c.id).where(sites.c.name == site))).scalar_one_or_none()
            if found is None:
                return 0
            self._site_ids[site] = found
        return self._site_ids[site]


class _Bounds(Struct, frozen=True):
    """The seqs of a list: from `least` up to below `below`; None: no bound."""

    least: int | None
    below: int | None

    def of(self, seq: ColumnElement[int]) -> Iterable[ColumnElement[bool]]:
        """The conditions."""
        if self.least is not None:
            yield seq >= self.least
        if self.below is not None:
            yield seq < self.below


async def _seq_bounds(sql: AsyncConnection, site_id: int, wanted: MessageFilter, cursor: int | None) -> _Bounds:
    """The bounds in seqs, which grow with time: so every list goes by one index, whatever its times."""
    least, below = None, cursor
    at, seq = messages.c.accepted_at, messages.c.seq
    if wanted.since is not None:
        first = select(seq).where(messages.c.site_id == site_id, at >= wanted.since).order_by(at, seq).limit(1)
        # Nothing is so new: no seq is.
        least = (await sql.execute(first)).scalar_one_or_none() or 2**63 - 1
    if wanted.until is not None:
        last = select(seq).where(messages.c.site_id == site_id, at <= wanted.until)
        newest = (await sql.execute(last.order_by(at.desc(), seq.desc()).limit(1))).scalar_one_or_none() or -1
        below = min(newest + 1, cursor if cursor is not None else newest + 1)
    return _Bounds(least, below)


def _looked_at(site_id: int, wanted: MessageFilter, bounds: _Bounds, body: bool) -> Select[Any]:
    """The messages that one index finds, newest first."""
    statement = _messages(body)
    if wanted.room is not None:
        statement = statement.join(message_rooms, _is_in_room(wanted.room))
        statement = statement.where(message_rooms.c.site_id == site_id)
        key = message_rooms.c.seq
    else:
        statement = statement.where(messages.c.site_id == site_id)
        key = messages.c.seq
    is_free = wanted.room is None
    if wanted.event is not None:
        statement = statement.where(messages.c.event == wanted.event)
        statement = _indexed_by(statement, "messages_by_event") if is_free else statement
    elif wanted.state is not None and wanted.state is not Fate.ACKED and is_free:
        is_open = wanted.state < FIRST_FINAL
        statement = statement.where(text(UNFINISHED if is_open else LOST))
        statement = _indexed_by(statement, "messages_unfinished" if is_open else "messages_lost")
    return statement.where(*bounds.of(key)).order_by(key.desc())


def _indexed_by(statement: Select[Any], index: str) -> Select[Any]:
    return statement.with_hint(messages, f"INDEXED BY {index}", "sqlite")


def _is_in_room(room: str) -> ColumnElement[bool]:
    of_message = (message_rooms.c.site_id == messages.c.site_id) & (message_rooms.c.seq == messages.c.seq)
    return of_message & (message_rooms.c.room == room)


async def _device_ids(sql: AsyncConnection, site_id: int, user: str, device: str | None) -> list[int]:
    statement = select(devices.c.id).where(devices.c.site_id == site_id, devices.c.user == user)
    if device is not None:
        statement = statement.where(devices.c.device == device)
    return list((await sql.execute(statement.order_by(devices.c.id.desc()).limit(_DEVICES_OF_USER))).scalars())


def _of_devices(ids: Sequence[int], bounds: _Bounds, limit: int) -> Any:
    """The newest deliveries of each device, a part of its index each."""
    keys = (deliveries.c.seq, deliveries.c.device_id, deliveries.c.state)
    parts = [
        select(*keys)
        .where(deliveries.c.device_id == id, *bounds.of(deliveries.c.seq))
        .order_by(deliveries.c.seq.desc())
        .limit(limit)
        .subquery()
        for id in ids
    ]
    return union_all(*(select(part) for part in parts)).subquery()


async def _with_messages(sql: AsyncConnection, site_id: int, keys: Sequence[Row[Any]]) -> list[UserDelivery]:
    seqs = {row.seq for row in keys}
    ids = {row.device_id for row in keys}
    wanted = {(row.seq, row.device_id) for row in keys}
    of_site = (deliveries.c.site_id == site_id, deliveries.c.seq.in_(seqs), deliveries.c.device_id.in_(ids))
    found = [_delivery(row) for row in await sql.execute(_deliveries().where(*of_site))]
    sent = _messages(False).where(messages.c.site_id == site_id, messages.c.seq.in_(seqs))
    by_seq = {row.seq: _message(row) for row in await sql.execute(sent)}
    pairs = [UserDelivery(one, by_seq[one.seq]) for one in found if (one.seq, one.device_id) in wanted]
    return sorted(pairs, key=lambda pair: (-pair.delivery.seq, pair.delivery.device_id))


_MESSAGE_COLUMNS = [column for column in messages.c if column.name not in ("site_id", "body")]


def _messages(body: bool) -> Select[Any]:
    return select(*_MESSAGE_COLUMNS, *([messages.c.body] if body else []))


def _deliveries() -> Select[Any]:
    columns = [column for column in deliveries.c if column.name != "site_id"]
    return select(*columns, devices.c.user, devices.c.device).join(devices, devices.c.id == deliveries.c.device_id)


def _message(row: Row[Any]) -> JournalMessage:
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


def _delivery(row: Row[Any]) -> JournalDelivery:
    times = (row.written_at, row.acked_at, row.ms, row.ended_at)
    named = (row.seq, row.device_id, row.user, row.device)
    return JournalDelivery(*named, Fate(row.state), reason_text(row.reason), bool(row.is_batch), *times)


def _without_ids(row: Row[Any]) -> dict[str, object]:
    return {name: value for name, value in row._mapping.items() if name not in ("id", "site_id")}
