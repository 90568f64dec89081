"""One transaction of the writer: the rows of some batches, and with them the positions in their streams.

Either all of it is in SQL or nothing. Repeats change nothing: an entry that is applied again finds its rows there.
"""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from msgspec import Struct
from sqlalchemy import Table, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.errors import RecadoError
from app.journal.bulk import STAGED, load, prepare
from app.journal.inserting import inserter
from app.journal.merge import Loss, Mark, Merged, SentMessage, counts_of, lost_mark
from app.journal.names import NamedHandle, Names
from app.journal.states import FIRST_FINAL, Fate
from app.journal.tables import (
    ROW_TABLES,
    deliveries,
    message_rooms,
    messages,
    missing,
    positions,
)

_MESSAGE_COLUMNS = tuple(column.name for column in messages.columns)
_DELIVERY_COLUMNS = tuple(column.name for column in deliveries.columns)
_ROOM_COLUMNS = tuple(column.name for column in message_rooms.columns)


class PositionMoved(RecadoError):
    """Another writer has written meanwhile."""


class Portion(Struct):
    """One stream's part of a transaction. Lives until it is written."""

    stream: str
    #: None: the stream of no site.
    site: str | None
    batch: Merged
    #: The position in SQL that this follows ("" for none), and the one that it leads to.
    from_id: str
    to_id: str
    read: int
    #: Entries that left the full stream unread, found before these.
    missing: int
    #: Its first entry, and the time of its writing in ms.
    first_id: str
    at: int
    #: (handle, user, device) that Redis has named, because no entry did.
    found: list[NamedHandle] = []


async def apply(sql: AsyncConnection, portions: Sequence[Portion], names: Names, *, is_careful: bool) -> int:
    """Writes the portions in the transaction that has begun, and returns how many rows. With `is_careful` messages may
    be in SQL already. Raises PositionMoved when another writer has written."""
    for portion in portions:
        await _move(sql, portion)
    await names.add_sites(sql, {site for portion in portions for site in _sites_of(portion)})
    for portion in portions:
        if portion.site is not None:
            named = [*portion.found, *portion.batch.devices]
            await names.save(sql, portion.site, named)
    if is_careful:
        for portion in portions:
            await _set_known_aside(sql, portion, names)
    rows = await _add_messages(sql, portions, names)
    rows += await _change_deliveries(sql, portions, names)
    for portion in portions:
        if portion.batch.loss is not None and portion.site is not None:
            await _resync(sql, names.site_id(portion.site), portion.batch.loss)
    return rows + await _add_rows(sql, portions, names)


async def _move(sql: AsyncConnection, portion: Portion) -> None:
    """Moves the position, if it is where this writer has left it: so two writers never write the same entries."""
    values = {"entry_id": portion.to_id, "read": portion.read}
    if portion.from_id:
        where = (positions.c.stream == portion.stream, positions.c.entry_id == portion.from_id)
        moved = await sql.execute(update(positions).where(*where).values(values))
    else:
        statement = inserter(sql)(positions).values(stream=portion.stream, **values).on_conflict_do_nothing()
        moved = await sql.execute(statement)
    if moved.rowcount != 1:
        raise PositionMoved
    if portion.missing:
        row = {"stream": portion.stream, "at": portion.at, "entries": portion.missing}
        await sql.execute(insert(missing), row)


def _sites_of(portion: Portion) -> Iterator[str]:
    if portion.site is not None:
        yield portion.site
    for row in chain.from_iterable(portion.batch.rows.values()):
        if "site" in row:
            yield str(row["site"])


async def _set_known_aside(sql: AsyncConnection, portion: Portion, names: Names) -> None:
    """Takes messages out of the batch that SQL has already; their deliveries count as those of earlier messages."""
    batch = portion.batch
    if not batch.messages or portion.site is None:
        return
    ids = {message.id: seq for seq, message in batch.messages.items()}
    in_site = messages.c.site_id == names.site_id(portion.site)
    known: set[int] = set()
    for column, values in ((messages.c.seq, list(batch.messages)), (messages.c.id, list(ids))):
        for start in range(0, len(values), 500):
            found = await sql.execute(
                select(messages.c.seq, messages.c.id).where(in_site, column.in_(values[start : start + 500]))
            )
            for seq, id in found:
                known |= {seq, ids.get(id, seq)}
    for seq in known & batch.messages.keys():
        taken = batch.messages.pop(seq)
        if taken.deliveries:
            batch.later[seq] = taken.deliveries


async def _add_messages(sql: AsyncConnection, portions: Sequence[Portion], names: Names) -> int:
    new = [(portion, seq, message) for portion in portions for seq, message in portion.batch.messages.items()]
    await load(sql, messages, _MESSAGE_COLUMNS, [_message_row(names, *one) for one in new])
    rooms = [
        (names.site_id(portion.site or ""), room, seq) for portion, seq, message in new for room in message.room_names
    ]
    await load(sql, message_rooms, _ROOM_COLUMNS, rooms)
    rows: list[tuple[Any, ...]] = []
    for portion, seq, message in new:
        rows += _delivery_rows(names, portion, seq, message.deliveries)
    await load(sql, deliveries, _DELIVERY_COLUMNS, rows)
    return len(new) + len(rows)


def _message_row(names: Names, portion: Portion, seq: int, message: SentMessage) -> tuple[Any, ...]:
    # In order of the columns.
    return (
        *(names.site_id(portion.site or ""), seq, message.id, message.event, message.rooms, message.size),
        *(message.accepted_at, message.options, len(message.deliveries), message.body),
        *counts_of(message.deliveries),
        message.nodes,
    )


def _delivery_rows(names: Names, portion: Portion, seq: int, marks: dict[bytes, Mark]) -> list[tuple[Any, ...]]:
    assert portion.site is not None, "deliveries are in the stream of a site"
    site_id, devices = names.site_id(portion.site), names.of_site(portion.site)
    return [(site_id, seq, devices[handle], *mark) for handle, mark in marks.items()]


async def _change_deliveries(sql: AsyncConnection, portions: Sequence[Portion], names: Names) -> int:
    rows: list[tuple[Any, ...]] = []
    for portion in portions:
        for seq, marks in portion.batch.later.items():
            rows += _delivery_rows(names, portion, seq, marks)
    if rows:
        await prepare(sql)
        await load(sql, STAGED, _DELIVERY_COLUMNS, rows)
        count, change, add = _STAGED_STATEMENTS
        await sql.execute(text(count))
        changed = await sql.execute(text(change))
        if changed.rowcount != len(rows):
            # Some had their final state already, or are no rows yet.
            await sql.execute(text(add))
    return len(rows)


async def _resync(sql: AsyncConnection, site_id: int | None, loss: Loss) -> None:
    mark = lost_mark(loss)
    values = {"site": site_id, "from": loss.from_seq, "to": loss.to_seq, "reason": mark.reason, "at": loss.at}
    for statement in _LOSS_STATEMENTS:
        await sql.execute(
            text(statement), values if "reason" in statement else {key: values[key] for key in ("site", "from", "to")}
        )


async def _add_rows(sql: AsyncConnection, portions: Sequence[Portion], names: Names) -> int:
    count = 0
    for name, table in ROW_TABLES.items():
        rows = [
            row for portion in portions for row in _rows_of(names, portion, table, portion.batch.rows.get(name, []))
        ]
        await load(sql, table, _row_columns(table), rows)
        count += len(rows)
    return count


def _row_columns(table: Table) -> list[str]:
    own = [column.name for column in table.columns if column.name not in ("id", "site_id")]
    return [*(["site_id"] if "site_id" in table.columns else []), *own]


def _rows_of(
    names: Names, portion: Portion, table: Table, rows: Sequence[dict[str, object]]
) -> Iterator[tuple[object, ...]]:
    has_site = "site_id" in table.columns
    is_required = has_site and not table.columns["site_id"].nullable
    for row in rows:
        site = row.get("site", portion.site)
        site_id = names.site_id(str(site)) if site is not None else None
        if is_required and site_id is None:
            continue
        yield (*((site_id,) if has_site else ()), *(value for name, value in row.items() if name != "site"))


def _statements_of_changes() -> tuple[str, str, str]:
    """The statements that bring the working table's rows in: count first, while the old states are there."""
    same = "d.site_id = s.site_id AND d.seq = s.seq AND d.device_id = s.device_id"
    counts = ", ".join(
        f"SUM(CASE WHEN s.state = {state} THEN 1 ELSE 0 END) - SUM(CASE WHEN d.state = {state} THEN 1 ELSE 0 END)"
        f" AS c{int(state)}"
        for state in Fate
    ).replace(" = Fate.", " = ")
    changes = (
        f"SELECT s.site_id, s.seq, SUM(CASE WHEN d.state IS NULL THEN 1 ELSE 0 END) AS added, {counts}"
        # Groups of messages that SQL does not know meet no row of `messages`.
        f" FROM {STAGED} s LEFT JOIN deliveries d ON {same}"
        f" WHERE d.state IS NULL OR (d.state < {int(FIRST_FINAL)} AND s.state > d.state) GROUP BY s.site_id, s.seq"
    )
    sums = ", ".join(f"{state.column} = messages.{state.column} + c.c{int(state)}" for state in Fate)
    count = (
        f"UPDATE messages SET addressed = messages.addressed + c.added, {sums} FROM ({changes}) c"
        " WHERE messages.site_id = c.site_id AND messages.seq = c.seq"
    )
    plain = ", ".join(f"{name} = s.{name}" for name in ("state", "reason", "is_batch", "acked_at", "ms", "ended_at"))
    change = (
        f"UPDATE deliveries SET {plain}, written_at = COALESCE(s.written_at, deliveries.written_at) FROM {STAGED} s"
        f" WHERE {same.replace('d.', 'deliveries.')}"
        f" AND deliveries.state < {int(FIRST_FINAL)} AND s.state >= deliveries.state"
    )
    names = ", ".join(_DELIVERY_COLUMNS)
    add = (
        f"INSERT INTO deliveries ({names}) SELECT {', '.join(f's.{name}' for name in _DELIVERY_COLUMNS)}"
        f" FROM {STAGED} s JOIN messages m ON m.site_id = s.site_id AND m.seq = s.seq WHERE true"
        " ON CONFLICT DO NOTHING"
    )
    return count, change, add


def _statements_of_loss() -> tuple[str, str]:
    lost = "site_id = :site AND seq > :from AND seq < :to AND state < " + str(int(FIRST_FINAL))
    found = (
        f"SELECT seq, SUM(CASE WHEN state = {int(Fate.WAITING)} THEN 1 ELSE 0 END) AS waiting, COUNT(*) AS lost"
        f" FROM deliveries WHERE {lost} GROUP BY seq"
    )
    count = (
        "UPDATE messages SET n_waiting = n_waiting - c.waiting, n_written = n_written - (c.lost - c.waiting),"
        f" n_resynced = n_resynced + c.lost FROM ({found}) c WHERE messages.site_id = :site AND messages.seq = c.seq"
    )
    change = f"UPDATE deliveries SET state = {int(Fate.RESYNCED)}, reason = :reason, ended_at = :at WHERE {lost}"
    return count, change


_STAGED_STATEMENTS = _statements_of_changes()
_LOSS_STATEMENTS = _statements_of_loss()
