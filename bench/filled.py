"""Fills a journal and a Valkey as large installations have them, by SQL and by scripts, not through a server."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Index, text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.schema import CreateIndex, DropIndex

from app.core.ports import ConnectNotes
from app.journal.database import is_postgres, open_database
from app.journal.schema import upgrade_schema
from app.journal.tables import connections, deliveries, log, message_rooms, messages
from tests.support.store import StoreNode, make_message, make_site
from tests.support.valkey import Valkey

SITE = "shop"
#: Devices of one message, but for `WIDE_ID`, which all devices have.
FAN_OUT = 10
FIRST_SEQ = 3_000_000_000
#: The user with very many devices, and how many these are.
MANY_USER, MANY_DEVICES = "user_many", 200
_DAYS_MS = 6 * 86_400_000
_AT_ONCE = 200
_STATEMENT_SECONDS = 900


@dataclass(frozen=True)
class Size:
    """How much there is. `deliveries` are those of ordinary messages."""

    deliveries: int = 10_000_000
    devices: int = 100_000
    #: Rows of `connections`, `log`, `audit` and `webhook_attempts`, each.
    rows: int = 300_000

    @property
    def messages(self) -> int:
        """Ordinary messages; the wide one comes behind them."""
        return self.deliveries // FAN_OUT

    @property
    def wide_id(self) -> int:
        """The id of the message that every device has."""
        return self.messages + 1


def _numbers(postgres: bool, count: int) -> str:
    """A table `numbers(n)` from 1 to `count`."""
    if postgres:
        return f"(SELECT generate_series(1, {count})::bigint AS n) AS numbers"
    counted = f"WITH RECURSIVE counted(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < {count})"
    return f"({counted} SELECT n FROM counted) AS numbers"


async def fill_journal(url: str, size: Size) -> float:
    """Makes the tables and fills them; returns the seconds."""
    began = time.monotonic()
    engine = open_database(url, is_writer=True)
    try:
        await upgrade_schema(engine)
        async with engine.begin() as sql:
            await _fill(sql, size)
        async with engine.connect() as sql:
            await _run(sql, "ANALYZE")
    finally:
        await engine.dispose()
    return time.monotonic() - began


async def _fill(sql: AsyncConnection, size: Size) -> None:
    if is_postgres(sql.engine):
        await _run(sql, "SET statement_timeout = 0")
        await _run(sql, "SET maintenance_work_mem = '512MB'")
    # An index that is made at the end costs a sort; one that grows costs a page of the disk for each row.
    grown = (connections, deliveries, log, message_rooms, messages)
    indexes: list[Index] = [index for table in grown for index in table.indexes]
    for index in indexes:
        await _run(sql, str(DropIndex(index).compile(sql.sync_connection)))
    for statement in _statements(size, is_postgres(sql.engine), int(time.time() * 1000)):
        await _run(sql, statement)
    for index in indexes:
        await _run(sql, str(CreateIndex(index).compile(sql.sync_connection)))


async def _run(sql: AsyncConnection, statement: str) -> None:
    """Runs a statement that may take minutes: longer than the engine of the journal allows."""
    if is_postgres(sql.engine):
        driver: Any = (await sql.get_raw_connection()).driver_connection
        await driver.execute(statement, timeout=_STATEMENT_SECONDS)
    else:
        await sql.execute(text(statement))


def _statements(size: Size, postgres: bool, now: int) -> list[str]:
    """The rows. Of 100 messages one waits at a device and one was withdrawn at one; a few of the oldest have expired,
    are in the room `old_room`, and one message of 100,000 has the event `rare`."""
    step = max(1, _DAYS_MS // size.messages)
    first = now - step * size.messages

    def from_numbers(table: str, columns: str, values: str, count: int) -> str:
        quoted = columns.replace("user,", '"user",')
        return f"INSERT INTO {table} ({quoted}) SELECT {values} FROM {_numbers(postgres, count)}"

    one, no = "site_id", "false" if postgres else "0"
    waits, ends, old = "n % 100 = 1", "n % 100 = 2", "n <= 3"
    state = f"CASE WHEN k = 0 AND {old} THEN 3 WHEN k = 0 AND {waits} THEN 0 WHEN k = 0 AND {ends} THEN 6 ELSE 2 END"
    acked = f"{FAN_OUT} - CASE WHEN {old} OR {waits} OR {ends} THEN 1 ELSE 0 END"
    counts = f"CASE WHEN {old} THEN 1 ELSE 0 END, CASE WHEN {waits} AND NOT {old} THEN 1 ELSE 0 END"
    counts += f", CASE WHEN {ends} AND NOT {old} THEN 1 ELSE 0 END, {acked}"
    event = "CASE WHEN n % 100000 = 50000 THEN 'rare' WHEN n % 10 = 3 THEN 'chat' ELSE 'news' END"
    rooms = "'[\"everyone\",\"room_' || (n % 1000) || '\"]'"
    ks = "(SELECT 0 AS k" + "".join(f" UNION ALL SELECT {k}" for k in range(1, FAN_OUT)) + ") AS ks"
    base = f"FROM {_numbers(postgres, size.messages)}"
    wide, seq = size.wide_id, FIRST_SEQ
    device_of = f"((n * {FAN_OUT} + k) * 7919) % {size.devices} + 1"
    rows, at = size.rows, f"{now} - (n * {_DAYS_MS // size.rows})"
    return [
        f"INSERT INTO sites (id, name) VALUES (1, '{SITE}'), (2, 'other')",
        from_numbers("devices", f"id, {one}, user, device, handle", "n, 1, 'user_' || (n - 1), 'd', n", size.devices),
        from_numbers(
            "devices",
            f"id, {one}, user, device",
            f"{size.devices} + n, 1, '{MANY_USER}', 'd' || n",
            MANY_DEVICES,
        ),
        "INSERT INTO messages (site_id, seq, id, event, rooms, bytes, accepted_at, options, addressed, n_expired,"
        f" n_waiting, n_withdrawn, n_acked) SELECT 1, {seq} + n, n, {event}, {rooms}, 170, {first} + n * {step}, '',"
        f" {FAN_OUT}, {counts} {base}",
        "INSERT INTO messages (site_id, seq, id, event, rooms, bytes, accepted_at, options, addressed, n_acked)"
        f" VALUES (1, {seq + wide}, {wide}, 'wide', '[\"all\"]', 170, {now}, '', {size.devices}, {size.devices})",
        f"INSERT INTO message_rooms (site_id, room, seq) SELECT 1, 'everyone', {seq} + n {base}",
        f"INSERT INTO message_rooms (site_id, room, seq) SELECT 1, 'room_' || (n % 1000), {seq} + n {base}",
        f"INSERT INTO message_rooms (site_id, room, seq) SELECT 1, 'old_room', {seq} + n {base} WHERE n <= 3",
        "INSERT INTO deliveries (site_id, seq, device_id, state, reason, is_batch, written_at, acked_at, ms, ended_at)"
        f" SELECT 1, {seq} + n, {device_of}, {state}, 0, {no}, {first} + n * {step}, {first} + n * {step} + 9, 9, NULL"
        f" {base} CROSS JOIN {ks}",
        "INSERT INTO deliveries (site_id, seq, device_id, state, reason, is_batch, written_at, acked_at, ms, ended_at)"
        f" SELECT 1, {seq + wide}, n, 2, 0, {no}, {now}, {now} + 9, 9, NULL FROM {_numbers(postgres, size.devices)}",
        # The user of many devices has each tenth message at each of them.
        "INSERT INTO deliveries (site_id, seq, device_id, state, reason, is_batch, written_at, acked_at, ms, ended_at)"
        f" SELECT 1, {seq} + n * 10, {size.devices} + k, 2, 0, {no}, {now}, {now} + 9, 9, NULL FROM"
        f" {_numbers(postgres, min(2_000, size.messages // 10))} CROSS JOIN (SELECT n AS k FROM"
        f" {_numbers(postgres, MANY_DEVICES)}) AS ks",
        from_numbers(
            "connections",
            f"{one}, user, device, node, protocol, version, transport, connected_at, disconnected_at, reason",
            f"1 + n % 2, 'user_' || (n % {size.devices}), 'd', 'abc', 'sites', '4', 'websocket', {at} - 60000, {at},"
            " 'client left'",
            rows,
        ),
        from_numbers(
            "log",
            f"at, {one}, level, event, node, fields",
            f"{at}, 1 + n % 2, CASE WHEN n % 1000 = 7 THEN 'error' ELSE 'warning' END, 'authUrl slow', 'abc', '{{}}'",
            rows,
        ),
        from_numbers(
            "audit",
            f"at, {one}, operator, action, target, detail",
            f"{at}, 1 + n % 2, CASE WHEN n % 50000 = 9 THEN 'ben' ELSE 'ana' END, 'messages.withdraw', '1', '{{}}'",
            rows,
        ),
        from_numbers(
            "webhook_attempts",
            f"at, {one}, webhook_id, attempt, events, types, status, ms, outcome, node",
            f"{at}, 1, 'post-' || n, 1, 1, 'message.undelivered', 200, 9,"
            " CASE WHEN n % 100000 = 9 THEN 'parked' ELSE 'delivered' END, 'abc'",
            rows,
        ),
    ]


async def fill_queues(valkey: Valkey, devices: int) -> None:
    """Devices in Redis: of ten one is connected, of a hundred one has messages that wait, and five are lost."""
    site = make_site(SITE)
    node = await StoreNode.start(valkey, [site])
    try:

        async def connect(number: int) -> bytes:
            # A hundredth of the users share a room.
            rooms = [f"user_{number}", "everyone", *(["some"] if number % 100 == 1 else [])]
            client = "websocket 4 Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"
            registration = await node.queues.connect(site, number, "d", rooms, ConnectNotes(client=client))
            handle = registration.devices[0].handle
            if number % 10:
                await node.queues.disconnect(site, number, [(handle, 0)])
            return handle

        for start in range(0, devices, _AT_ONCE):
            handles = await asyncio.gather(*map(connect, range(start, min(start + _AT_ONCE, devices))))
            if start % (_AT_ONCE * max(1, devices // _AT_ONCE // 5)) == 0:
                valkey.client.hset(f"recado:{{{SITE}}}:device:{handles[0].decode()}", "lost", "1")
        for number in range(3):
            body = json.dumps(["news", number]).encode()
            await node.queues.send(make_message(site, "some", "news", body=body))
    finally:
        await node.close()
