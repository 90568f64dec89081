"""The way to the messenger's tables: transactions of one site, each with a deadline. Knows only the table of sites."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

import structlog
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.config.settings import Site
from app.journal.database import ANSWER_SECONDS, JournalUnavailable, is_postgres, open_database, translated
from app.journal.inserting import inserter
from app.journal.schema import upgrade_schema
from app.journal.tables import sites
from app.observe.counted_lines import CountedLines
from app.protocols.messenger.answers import ChatUnavailable
from app.protocols.messenger.bounds import MAX_UNDER_WAY
from app.protocols.messenger.journal_tables import chat_sites

#: Any number that no other lock of the database uses: with the id of a site the key of the lock on its changes.
_LOCK = 7_236_013
#: Connections of each kind to PostgreSQL of one node.
_CONNECTIONS = 8
_SECRET_BYTES = 32
_RETRY_SECONDS = 1.0

_log = structlog.get_logger(__name__)
_away = CountedLines(_log, "error", "messenger has no answer of its database")


class _SiteTurns:
    """The questions of one site that are under way, so that no site takes every connection. Lives as long as its site
    is asked for."""

    def __init__(self) -> None:
        self.reading = asyncio.Semaphore(MAX_UNDER_WAY)
        #: Strangers that log in take no turn from users.
        self.strangers = asyncio.Semaphore(MAX_UNDER_WAY // 2)
        #: The lock of the site lets one write: others would wait for it with a connection each.
        self.writing = asyncio.Semaphore(1)


class ChatSql:
    """The database of the messenger. Lives as long as the node or the command; `close` ends its connections.

    Its contexts raise ChatUnavailable when SQL is away, or does not answer in time. Then nothing has changed, or
    everything, if the connection broke at the commit.
    """

    def __init__(self, reader: AsyncEngine, writer: AsyncEngine) -> None:
        """`writer` takes SQLite's lock for writing at the begin of each transaction."""
        self._reader = reader
        self._writer = writer
        self._turns: dict[str, _SiteTurns] = {}
        # SQLite has one writer at a time; here they wait in order, there they would try again and again.
        self._writers = asyncio.Semaphore(_CONNECTIONS if is_postgres(writer) else 1)
        #: The id and the secret of each site that is known.
        self._known: dict[str, tuple[int, bytes]] = {}

    @classmethod
    def open(cls, url: str) -> Self:
        """The database at this URL, connected at the first question."""
        return cls(
            open_database(url, connections=_CONNECTIONS), open_database(url, is_writer=True, connections=_CONNECTIONS)
        )

    async def close(self) -> None:
        """Ends the connections."""
        await self._reader.dispose()
        await self._writer.dispose()

    async def make_tables(self) -> None:
        """Brings the tables to the newest version, with retry while SQL is away. Raises SchemaTooNew."""
        told = ""
        while True:
            try:
                await upgrade_schema(self._writer)
                return
            except JournalUnavailable as error:
                if told != str(error):
                    told = str(error)
                    _log.warning("messenger waits for its database", reason=told)
                await asyncio.sleep(_RETRY_SECONDS)

    @asynccontextmanager
    async def reading(self, site: Site, *, of_strangers: bool = False) -> AsyncIterator[tuple[AsyncConnection, int]]:
        """A connection for questions, and the site's id."""
        site_id, _ = await self._facts_of(site)
        turns = self._turns_of(site)
        async with turns.strangers if of_strangers else turns.reading, _asking(self._reader) as sql:
            yield sql, site_id

    @asynccontextmanager
    async def writing(self, site: Site) -> AsyncIterator[tuple[AsyncConnection, int]]:
        """A transaction, and the site's id. The transactions of a site follow each other: ids grow in the order of the
        commits, and what one has read stays true until its own commit."""
        site_id, _ = await self._facts_of(site)
        async with self._turns_of(site).writing, self._writers, _asking(self._writer) as sql:
            if is_postgres(self._writer):
                await sql.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK}, {site_id})"))
            yield sql, site_id

    async def has_met(self, site: str) -> bool:
        """Whether the database has ever held anything of a site's messenger."""
        found = select(chat_sites.c.site_id).join(sites, sites.c.id == chat_sites.c.site_id).where(sites.c.name == site)
        async with _asking(self._reader) as sql:
            return (await sql.execute(found)).first() is not None

    async def secret_of(self, site: Site) -> bytes:
        """The site's secret, the same on every node and after every start."""
        return (await self._facts_of(site))[1]

    def _turns_of(self, site: Site) -> _SiteTurns:
        return self._turns.setdefault(site.name, _SiteTurns())

    async def _facts_of(self, site: Site) -> tuple[int, bytes]:
        if site.name not in self._known:
            async with self._writers, _asking(self._writer) as sql:
                self._known[site.name] = await _enter(sql, site.name)
        return self._known[site.name]


@asynccontextmanager
async def _asking(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    try:
        with translated():
            async with asyncio.timeout(ANSWER_SECONDS), engine.begin() as sql:
                yield sql
    except JournalUnavailable as error:
        _away.tell(reason=str(error))
        raise ChatUnavailable from None


async def _enter(sql: AsyncConnection, name: str) -> tuple[int, bytes]:
    """The id and the secret of a site, made when there are none."""
    insert = inserter(sql)
    await sql.execute(insert(sites).values(name=name).on_conflict_do_nothing())
    site_id = int((await sql.execute(select(sites.c.id).where(sites.c.name == name))).scalar_one())
    made = {"site_id": site_id, "secret": secrets.token_bytes(_SECRET_BYTES)}
    await sql.execute(insert(chat_sites).values(**made).on_conflict_do_nothing())
    secret = (await sql.execute(select(chat_sites.c.secret).where(chat_sites.c.site_id == site_id))).scalar_one()
    return site_id, bytes(secret)
