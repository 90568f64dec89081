"""The outbox in the tenant's PostgreSQL: one connection of a reader, or of a command. Knows no HTTP.

A reader holds the messages it has in hand by locks of their rows, in a transaction that lasts as long as it sends them.
So the end of its process, or of its connection, gives them back at once.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any, TypeAlias

import asyncpg
from msgspec import Struct

from app.errors import ConfigError
from app.outbox.failures import GONE, OutboxUnusable, translated
from app.outbox.plan import Results
from app.outbox.row import CommittedMessage
from app.outbox.schema import CHANNEL, LOCKS, SLEEP_LOCK, VERSION, quoted

#: The messages of one claim, and their bytes; one that is longer is claimed alone.
MAX_CLAIM_ROWS = 256
MAX_CLAIM_BYTES = 8_000_000
#: The rows that one statement prunes, and that a count looks at.
PRUNED_ROWS = 1_000
COUNTED_ROWS = 10_000
#: The rooms that wait for another reader, or for a message that is due later, and are left out of a claim.
_BLOCKED_ROOMS = 1_000
_CLAIM_TRIES = 4
_CONNECT_SECONDS = 10.0
_STATEMENT_SECONDS = 30.0
#: The server ends a reader that was stopped with messages in hand, so that others get them.
_HELD_SECONDS = 60
_SETTINGS = {
    "application_name": "recado outbox",
    "idle_in_transaction_session_timeout": str(_HELD_SECONDS * 1000),
    # A claim that a crash takes back is sent again, under the same idempotency keys.
    "synchronous_commit": "off",
    # The table's statistics are of another moment: most of it waits, or nothing does.
    "enable_seqscan": "off",
    "jit": "off",
    # A reader whose machine has died.
    "tcp_keepalives_idle": "15",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}

# asyncpg has no types.
_Connection: TypeAlias = Any
_Record: TypeAlias = Any


class OutboxBacklog(Struct, frozen=True):
    """How much waits. `count` is at most COUNTED_ROWS."""

    count: int
    oldest_seconds: float
    parked: int
    #: Some sites that wait and that the reader does not serve.
    strange_sites: Sequence[str]


class OutboxLine(Struct, frozen=True):
    """A message as a command shows it."""

    id: int
    site: str
    rooms: Sequence[str]
    event: str
    bytes: int
    created_at: datetime
    attempts: int
    reason: str


class OutboxTables:
    """One connection to an outbox. Lives within `connected`."""

    def __init__(self, connection: _Connection, schema: str) -> None:
        self._connection = connection
        self._place = f"{quoted(schema)}.recado_outbox_place"
        self._messages = f"{quoted(schema)}.recado_outbox"
        self._version = f"{quoted(schema)}.recado_outbox_version"
        self._woken = asyncio.Event()
        #: Names the outbox; known after `check`.
        self.name = ""

    async def check(self) -> None:
        """Looks whether the outbox is there, in this program's version. Raises OutboxUnusable, OutboxAway."""
        try:
            with translated():
                rows = await self._connection.fetch(f"SELECT version, outbox::text FROM {self._version}")
        except OutboxUnusable as error:
            raise OutboxUnusable(f"{error}; `recado outbox sql` prints the SQL that makes the outbox") from None
        if len(rows) != 1 or rows[0]["version"] != VERSION:
            found = ", ".join(str(row["version"]) for row in rows) or "none"
            raise OutboxUnusable(
                f"the outbox has version {found}, this program reads {VERSION}: run the SQL of its `recado outbox sql`"
            )
        self.name = rows[0]["outbox"]

    @contextlib.asynccontextmanager
    async def claimed(self, sites: Sequence[str]) -> AsyncIterator[tuple[Sequence[CommittedMessage], Results]]:
        """Messages of these sites for the block, which fills in the results; they are stored at its end, and what is in
        no result waits. Raises OutboxAway, OutboxUnusable; then all of them wait."""
        with translated():
            transaction = self._connection.transaction()
            await transaction.start()
        try:
            with translated():
                rows = await self._claim(list(sites))
            results = Results()
            yield rows, results
            with translated():
                await self._store(results)
        except BaseException:
            with contextlib.suppress(*GONE):
                await transaction.rollback()
            raise
        with translated():
            await transaction.commit()

    async def bodies(self, rows: Sequence[CommittedMessage]) -> dict[int, bytes]:
        """The bodies of messages, by their ids."""
        with translated():
            found = await self._connection.fetch(
                f"SELECT id, body FROM {self._messages} WHERE id = ANY($1)", [row.id for row in rows]
            )
        return {row["id"]: row["body"].encode() for row in found}

    async def _claim(self, sites: list[str]) -> list[CommittedMessage]:
        """The first messages that no other reader has in hand and that have no message before them in a room.

        Rooms with such messages are left out of the next try: they must not hide the rooms behind them.
        """
        blocked: set[str] = set()
        for _ in range(_CLAIM_TRIES):
            rows = await self._lock(sites, blocked)
            taken, hidden = _unblocked(rows, await self._earlier(rows))
            if taken or len(rows) < MAX_CLAIM_ROWS:
                return taken
            blocked |= hidden
            if len(blocked) > _BLOCKED_ROOMS:
                break
        return []

    async def _lock(self, sites: list[str], blocked: set[str]) -> list[CommittedMessage]:
        found = await self._connection.fetch(
            f"SELECT position, id, site, keys, bytes, resync, attempts FROM {self._place}"
            " WHERE state = 0 AND (due_at IS NULL OR due_at <= clock_timestamp()) AND site = ANY($1)"
            " AND NOT keys && $2 ORDER BY position LIMIT $3 FOR UPDATE SKIP LOCKED",
            sites,
            list(blocked),
            MAX_CLAIM_ROWS,
        )
        return [_row_of(record) for record in found]

    async def _earlier(self, rows: Sequence[CommittedMessage]) -> dict[str, int]:
        """Of the rooms of these messages: the first position of a message that waits and is none of them."""
        if not rows:
            return {}
        found = await self._connection.fetch(
            f"SELECT key, min(position) AS first FROM {self._place}, unnest(keys) key"
            " WHERE state = 0 AND position < $1 AND position <> ALL($2) AND keys && $3 GROUP BY key",
            rows[-1].position,
            [row.position for row in rows],
            list({key for row in rows for key in row.keys}),
        )
        return {record["key"]: record["first"] for record in found}

    async def _store(self, results: Results) -> None:
        if results.sent:
            await self._connection.execute(
                f"UPDATE {self._place} SET state = 1, ended_at = clock_timestamp(), due_at = NULL, reason = ''"
                " WHERE position = ANY($1)",
                results.sent,
            )
        for position, reason in results.parked:
            await self._connection.execute(
                f"UPDATE {self._place} SET state = 2, ended_at = clock_timestamp(), due_at = NULL, reason = $2"
                " WHERE position = $1",
                position,
                reason,
            )
        for position, seconds, reason in results.later:
            await self._connection.execute(
                f"UPDATE {self._place} SET attempts = attempts + 1, reason = $3,"
                " due_at = clock_timestamp() + make_interval(secs => $2) WHERE position = $1",
                position,
                seconds,
                reason,
            )

    async def listen(self) -> None:
        """Has commits wake `sleep`."""
        with translated():
            await self._connection.add_listener(CHANNEL, lambda *_: self._woken.set())

    async def lie_down(self) -> bool:
        """Asks that commits wake this reader; False while one is just happening, or another reader is asked for. One
        more look finds the messages that were committed before."""
        self._woken.clear()
        with translated():
            return bool(await self._connection.fetchval(f"SELECT pg_try_advisory_lock({LOCKS}, {SLEEP_LOCK})"))

    async def get_up(self) -> None:
        """Ends what `lie_down` has begun."""
        with translated():
            await self._connection.execute(f"SELECT pg_advisory_unlock({LOCKS}, {SLEEP_LOCK})")

    async def woken(self) -> None:
        """Returns after a commit, or the end of the connection."""
        await self._woken.wait()

    async def prune(self, keep_seconds: float) -> int:
        """Deletes some messages that were sent at least this time ago, and answers how many."""
        with translated():
            return int(
                await self._connection.fetchval(
                    f"WITH old AS (DELETE FROM {self._place} WHERE position IN (SELECT position FROM {self._place}"
                    " WHERE state = 1 AND ended_at < clock_timestamp() - make_interval(secs => $1)"
                    f" LIMIT {PRUNED_ROWS} FOR UPDATE SKIP LOCKED) RETURNING id),"
                    f" gone AS (DELETE FROM {self._messages} WHERE id IN (SELECT id FROM old) RETURNING id)"
                    " SELECT count(*) FROM gone",
                    keep_seconds,
                )
            )

    async def waiting(self, sites: Sequence[str]) -> OutboxBacklog:
        """How much waits."""
        with translated():
            record = await self._connection.fetchrow(
                f"WITH waiting AS (SELECT id, site FROM {self._place} WHERE state = 0 ORDER BY position LIMIT $1)"
                " SELECT (SELECT count(*) FROM waiting) AS count,"
                f" (SELECT extract(epoch FROM clock_timestamp() - min(created_at))::float8 FROM {self._messages}"
                "   WHERE id IN (SELECT id FROM waiting)) AS oldest,"
                f" (SELECT count(*) FROM (SELECT FROM {self._place} WHERE state = 2 LIMIT $1) parked) AS parked,"
                " ARRAY(SELECT DISTINCT site FROM waiting WHERE site <> ALL($2) LIMIT 10) AS strange",
                COUNTED_ROWS,
                list(sites),
            )
        return OutboxBacklog(record["count"], record["oldest"] or 0.0, record["parked"], record["strange"])

    async def listed(self, is_parked: bool, site: str | None, limit: int) -> list[OutboxLine]:
        """The first messages that are parked, or that wait."""
        with translated():
            found = await self._connection.fetch(
                "SELECT m.id, m.site, m.rooms, m.event, p.bytes, m.created_at, p.attempts, p.reason"
                f" FROM {self._place} p JOIN {self._messages} m USING (id)"
                f" WHERE p.state = {2 if is_parked else 0} AND ($1::text IS NULL OR p.site = $1)"
                " ORDER BY p.position LIMIT $2",
                site,
                limit,
            )
        return [OutboxLine(**dict(record)) for record in found]

    async def retry(self, ids: Sequence[int] | None, site: str | None) -> int:
        """Puts parked messages behind those that wait: these ones, or all, of one site or of every. Answers how
        many."""
        with translated():
            status = await self._connection.execute(
                f"UPDATE {self._place} SET state = 0, position = DEFAULT, attempts = 0, ended_at = NULL, reason = ''"
                " WHERE state = 2 AND ($1::bigint[] IS NULL OR id = ANY($1)) AND ($2::text IS NULL OR site = $2)",
                ids,
                site,
            )
            await self._connection.execute(f"NOTIFY {CHANNEL}")
        return int(status.split()[-1])

    async def discard(self, ids: Sequence[int] | None, site: str | None) -> int:
        """Gives parked messages up: these ones, or all, of one site or of every. They are pruned like those that were
        sent. Answers how many."""
        with translated():
            status = await self._connection.execute(
                f"UPDATE {self._place} SET state = 1, ended_at = clock_timestamp()"
                " WHERE state = 2 AND ($1::bigint[] IS NULL OR id = ANY($1)) AND ($2::text IS NULL OR site = $2)",
                ids,
                site,
            )
        return int(status.split()[-1])


@contextlib.asynccontextmanager
async def connected(dsn: str, schema: str) -> AsyncIterator[OutboxTables]:
    """The outbox behind a DSN, looked at, for the block. Raises ConfigError, OutboxAway, OutboxUnusable."""
    with translated():
        try:
            connection = await asyncpg.connect(
                dsn, timeout=_CONNECT_SECONDS, command_timeout=_STATEMENT_SECONDS, server_settings=_SETTINGS
            )
        except ValueError as error:
            if isinstance(error, asyncpg.InterfaceError):
                raise
            raise ConfigError("RECADO_OUTBOX_DSN: expected a URL such as postgresql://user@host/name") from None
    tables = OutboxTables(connection, schema)
    # The end of the connection wakes the reader, too.
    connection.add_termination_listener(lambda *_: tables._woken.set())
    try:
        await tables.check()
        yield tables
    finally:
        with contextlib.suppress(*GONE):
            await connection.close(timeout=1)


def _row_of(record: _Record) -> CommittedMessage:
    return CommittedMessage(
        position=record["position"],
        id=record["id"],
        site=record["site"],
        keys=tuple(record["keys"]),
        bytes=record["bytes"],
        resync=record["resync"],
        attempts=record["attempts"],
    )


def _unblocked(rows: Sequence[CommittedMessage], earlier: dict[str, int]) -> tuple[list[CommittedMessage], set[str]]:
    """The rows without an earlier message that is none of them, within the bounds of a claim; and the rooms of the
    others."""
    taken: list[CommittedMessage] = []
    hidden: set[str] = set()
    size = 0
    for row in rows:
        is_behind = any(key in hidden or earlier.get(key, row.position) < row.position for key in row.keys)
        if is_behind or (taken and size + row.bytes > MAX_CLAIM_BYTES):
            hidden.update(row.keys)
            continue
        taken.append(row)
        size += row.bytes
    return taken, hidden
