"""Two nodes, their Valkey and their database as real processes, each of which may be killed and started again on its
data."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

from sqlalchemy import func, select

from app.config.settings import Site
from app.protocols.messenger.journal_store import ChatSql
from app.protocols.messenger.journal_tables import chat_members, chat_outbox, chat_sent
from tests.support.chat import MESSENGER, make_users
from tests.support.deployment import Deployment
from tests.support.postgres import Postgres

SITE = "team"
#: The parts that may be killed; SQLite has no server.
PARTS = ("node 0", "node 1", "redis", "sql")
#: Lines of a node's log that tell of an error of the server itself.
_FAULTS = ("event failed", "receipts failed", "messenger relay failed", "messenger row left out", "task failed")


class World:
    """Lives for a module's tests of one kind of database; `close` ends every process."""

    def __init__(self, url: str, postgres: Postgres | None) -> None:
        """Start with everything up."""
        self.url = url
        self._postgres = postgres
        make_users(url, SITE, ["root"], is_admin=True)
        sites = {SITE: {"apiKey": "k", "messenger": {**MESSENGER, "events_per_second": 100_000}}}
        self._server = Deployment(sites, environment={"DATABASE_URL": url}, nodes=2)
        #: All processes of nodes so far.
        self._servers = [node.server for node in self._server.nodes]
        self.down: set[str] = set()
        self.chance = random.Random(1)

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that may be killed."""
        return PARTS if self._postgres is not None else PARTS[:-1]

    def kill(self, part: str) -> None:
        """Kill a part, unless it is down."""
        if part in self.down:
            return
        self.down.add(part)
        if part == "redis":
            self._server.redis.kill()
        elif part == "sql":
            assert self._postgres is not None
            self._postgres.kill()
        else:
            self._server.nodes[int(part[-1])].kill()

    def start(self, part: str) -> None:
        """Start a part again, unless it is up. A node needs the others to say that it listens."""
        if part not in self.down:
            return
        if part == "redis":
            self._server.redis.start()
        elif part == "sql":
            assert self._postgres is not None
            self._postgres.start()
        else:
            node = self._server.nodes[int(part[-1])]
            node.start()
            self._servers.append(node.server)
        self.down.discard(part)

    def heal(self, *, are_all: bool = False) -> None:
        """Start what no client can do without: Redis, the database and one node; or everything."""
        for part in ("redis", "sql"):
            self.start(part)
        nodes = [part for part in ("node 0", "node 1") if part in self.down]
        for part in nodes if are_all else nodes[1:]:
            self.start(part)

    def node_url(self) -> str | None:
        """The URL of a node that lives."""
        living = [node.url for number, node in enumerate(self._server.nodes) if f"node {number}" not in self.down]
        return self.chance.choice(living) if living else None

    def users(self, logins: list[str]) -> dict[str, int]:
        """Make users."""
        return make_users(self.url, SITE, logins)

    def spans(self, rooms: list[int]) -> dict[int, list[tuple[int, int, int | None]]]:
        """The memberships of rooms as the database has them: user, since, until."""

        async def read(sql: Any, site_id: int) -> dict[int, list[tuple[int, int, int | None]]]:
            members = chat_members.c
            found: dict[int, list[tuple[int, int, int | None]]] = {room: [] for room in rooms}
            for row in await sql.execute(select(chat_members).where(members.site_id == site_id)):
                if row.room_id in found:
                    found[row.room_id].append((row.user_id, row.since, row.until))
            return found

        return dict(self._read(read))

    def is_handed_on(self) -> bool:
        """Whether the outbox is empty."""

        async def count(sql: Any, site_id: int) -> int:
            rows = select(func.count()).select_from(chat_outbox).where(chat_outbox.c.site_id == site_id)
            return int((await sql.execute(rows)).scalar_one())

        return not self._read(count)

    def sent_twice(self) -> list[int]:
        """The messages that the core knows under two numbers."""

        async def read(sql: Any, site_id: int) -> list[int]:
            columns = chat_sent.c
            twice = select(columns.message_id).where(columns.site_id == site_id).group_by(columns.message_id)
            return list((await sql.execute(twice.having(func.count() > 1))).scalars())

        return list(self._read(read))

    def faults(self) -> list[dict[str, Any]]:
        """The errors of the server itself in the logs of all nodes."""
        lines = [line for server in self._servers for line in server.log()]
        return [line for line in lines if any(fault in str(line.get("event", "")) for fault in _FAULTS)]

    def story(self) -> list[str]:
        """The last lines of the logs, for the report of a failure."""
        return [line for server in self._servers[-4:] for line in server.lines.snapshot()[-60:]]

    def close(self) -> None:
        """End every process."""
        self.start("redis")
        self.start("sql")
        self._server.end()

    def _read(self, read: Callable[[Any, int], Awaitable[Any]]) -> Any:
        async def run() -> Any:
            store = ChatSql.open(self.url)
            try:
                async with store.reading(Site(name=SITE, api_key="k")) as (sql, site_id):
                    return await read(sql, site_id)
            finally:
                await store.close()

        return asyncio.run(run())
