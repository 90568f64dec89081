"""The journal's questions and answers: what SQL holds of messages, deliveries and connections.

Each list goes by a key: a page costs the same wherever it stands, and reads a bounded number of rows.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self

from sqlalchemy import ColumnElement, Row, bindparam, func, select, text
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
    UserDeliveryPart,
)
from app.journal.database import JournalUnavailable, open_database, translated
from app.journal.merge import id_parts
from app.journal.message_lists import (
    delivery_of,
    delivery_rows,
    list_messages,
    list_user_deliveries,
    message_of,
    message_rows,
)
from app.journal.streams import stream_of
from app.journal.tables import (
    ROW_TABLES,
    deliveries,
    messages,
    missing,
    positions,
    sites,
)
from app.redis.client import Commands

#: The devices whose last acks one statement looks for.
_DEVICES_A_PART = 200
#: The acknowledged messages of a device among which its last ack is looked for.
_ACKED_OF_DEVICE = 5
#: A question that takes longer is given up.
_ANSWER_SECONDS = 5.0
#: The pauses between two looks for the writer's position grow from the first to the second.
_POLL_SECONDS, _MOST_POLL_SECONDS = 0.05, 0.4


__all__ = [
    "DeliveryPage",
    "Journal",
    "JournalDelivery",
    "JournalMessage",
    "JournalRow",
    "MessageFilter",
    "MessagePage",
    "UserDelivery",
    "UserDeliveryPart",
]


# Acks may be out of order, so several of a device's newest acknowledged messages count. As text: of 50 devices the
# database needs less time than SQLAlchemy for a statement with a part for each. SQLite takes no index for pairs: the
# users alone keep it from reading every device of the site.
_LAST_ACKS = text("""
    SELECT named."user", named.device, (
        SELECT max(acked.acked_at) FROM (
            SELECT newest.acked_at FROM (
                SELECT acked_at FROM deliveries WHERE device_id = named.id ORDER BY seq DESC LIMIT :looked_at
            ) AS newest WHERE newest.acked_at IS NOT NULL LIMIT :acked
        ) AS acked
    ) AS at
    FROM devices AS named
    WHERE named.site_id = :site_id AND named."user" IN :users AND (named."user", named.device) IN :names
""").bindparams(bindparam("users", expanding=True), bindparam("names", expanding=True))


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
                pause = _POLL_SECONDS
                while True:
                    if not newest or await self._position(key) >= id_parts(newest[0][0]):
                        return True
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, _MOST_POLL_SECONDS)
        except (StoreError, TimeoutError):
            return False

    async def message(self, site: str, id: int, *, body: bool = False) -> JournalMessage | None:
        """A message by its id."""
        async with self._asking(site) as (sql, site_id):
            statement = message_rows(body).where(messages.c.site_id == site_id, messages.c.id == id)
            row = (await sql.execute(statement)).one_or_none()
        return message_of(row) if row is not None else None

    async def deliveries(self, site: str, seq: int, limit: int, cursor: int | None = None) -> DeliveryPage:
        """The devices of a message."""
        async with self._asking(site) as (sql, site_id):
            of_message = (deliveries.c.site_id == site_id, deliveries.c.seq == seq)
            statement = delivery_rows().where(*of_message, deliveries.c.device_id > (cursor or 0))
            rows = (await sql.execute(statement.order_by(deliveries.c.device_id).limit(limit + 1))).all()
        found = [delivery_of(row) for row in rows[:limit]]
        return DeliveryPage(found, found[-1].device_id if len(rows) > limit else None)

    async def messages(
        self, site: str, wanted: MessageFilter, limit: int, cursor: int | None = None, *, body: bool = False
    ) -> MessagePage:
        """The messages that pass the filter, in its order."""
        async with self._asking(site) as (sql, site_id):
            return await list_messages(sql, site_id, wanted, limit, cursor, body)

    async def user_deliveries(
        self, site: str, user: str, since: int, limit: int, device: str | None = None
    ) -> UserDeliveryPart:
        """The newest deliveries to a user's devices (or one of them) of messages accepted since then, newest first."""
        async with self._asking(site) as (sql, site_id):
            return await list_user_deliveries(sql, site_id, user, since, limit, device)

    async def last_acks(
        self, site: str, names: Sequence[tuple[str, str]], looked_at: int
    ) -> dict[tuple[str, str], int]:
        """When devices, named by user and device, have acknowledged last, each among so many of its newest messages."""
        found: dict[tuple[str, str], int] = {}
        async with self._asking(site) as (sql, site_id):
            for start in range(0, len(names), _DEVICES_A_PART):
                part = names[start : start + _DEVICES_A_PART]
                users = list({user for user, _ in part})
                bounds = {"site_id": site_id, "users": users, "names": part}
                bounds |= {"looked_at": looked_at, "acked": _ACKED_OF_DEVICE}
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


def _without_ids(row: Row[Any]) -> dict[str, object]:
    return {name: value for name, value in row._mapping.items() if name not in ("id", "site_id")}
