"""An outbox while its readers, its PostgreSQL and the server are killed: every committed message arrives once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.support.background import BackgroundLoop
from tests.support.deployment import Deployment
from tests.support.outbox import ReaderProcess, new_outbox
from tests.support.postgres import Postgres, running_postgres
from tests.support.receipts import Receipts
from tests.support.sites import load_sites
from tests.support.swarm import Swarm
from tests.support.swarm_client import SwarmClient
from tests.support.tenant import Tenant
from tests.support.waiting import eventually

TENANTS, USERS = 3, 4
SHARED = "editors"
#: The pause between the transactions of a tenant's connection.
_PAUSE_SECONDS = 0.02
#: Slack for a busy machine.
WITHIN_SECONDS = 60.0


@dataclass
class Application:
    """The tenant's application: connections whose transactions overlap. Lives for one test."""

    dsn: str
    rooms: list[str]
    chance: random.Random
    #: The messages (connection, number) of transactions that were committed, and of those that were rolled back. One
    #: whose commit was not answered is in neither.
    committed: list[tuple[str, int]] = field(default_factory=list)
    rolled_back: set[tuple[str, int]] = field(default_factory=set)

    async def work(self, name: str, over: asyncio.Event) -> None:
        """Run transactions until the end, on one connection after the other."""
        number = 0
        while not over.is_set():
            with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                connection = await asyncpg.connect(self.dsn)
                try:
                    while not over.is_set():
                        count = self.chance.randint(1, 3)
                        await self._transact(connection, name, range(number, number + count))
                        number += count
                        await _pause(over)
                finally:
                    # Numbers are used once.
                    number += 3
                    connection.terminate()
            await _pause(over)

    async def _transact(self, connection: Any, name: str, numbers: range) -> None:
        messages = [(name, number) for number in numbers]
        transaction = connection.transaction()
        await transaction.start()
        for message in messages:
            rooms = self.chance.sample(self.rooms, self.chance.choice((1, 1, 1, 2)))
            args = json.dumps([*message, 0, ""])
            await connection.execute("SELECT recado_send('one', $1, 'n', $2::jsonb)", rooms, args)
        if self.chance.random() < 0.2:
            await transaction.rollback()
            self.rolled_back |= {*messages}
        else:
            await transaction.commit()
            self.committed += messages


async def _pause(over: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(over.wait(), _PAUSE_SECONDS)


class Readers:
    """Two readers, of which one is replaced after each kill. Lives for one test; `end` ends them."""

    def __init__(self, directory: Path, dsn: str, server: Deployment) -> None:
        self._directory, self._dsn = directory, dsn
        self._url, self._key = server.url, server.key("one")
        self.running = [self._start(), self._start()]
        for reader in self.running:
            reader.wait_event("outbox is read")

    def _start(self) -> ReaderProcess:
        arguments = ["--site", "one", "--url", self._url]
        return ReaderProcess(self._directory, self._dsn, *arguments, API_KEY=self._key)

    def kill(self, count: int) -> None:
        """Kill some with SIGKILL, and start others."""
        for _ in range(count):
            victim = self.running.pop(0)
            victim.signal(signal.SIGKILL)
            victim.wait()
            victim.end()
            self.running.append(self._start())

    def end(self) -> None:
        """End all."""
        for reader in self.running:
            reader.end()


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL that may be killed."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def server(tenant: Tenant) -> Iterator[Deployment]:
    """One node."""
    deployment = Deployment(load_sites(tenant))
    yield deployment
    deployment.end()


@pytest.mark.timeout(600)
def test_kills(
    postgres: Postgres, server: Deployment, tenant: Tenant, chance: random.Random, tmp_path: Path, is_long: bool
) -> None:
    """After the kills each device has every message of each committed transaction, stored once, in each room in the
    order of the commits, and no message of a transaction that was rolled back."""
    loop = BackgroundLoop()
    dsn = loop.run(new_outbox(postgres), 30)
    users = [tenant.user(SHARED) for _ in range(USERS)]
    application = Application(dsn, [SHARED, *(user.room for user in users)], chance)
    over = asyncio.Event()
    with Swarm(server, "one") as swarm:
        present = [swarm.add(user) for user in users]
        # Its queue gets everything, and it takes the queue in the end.
        absent = [swarm.add(user, "d2") for user in users]
        swarm.board()
        swarm.each(lambda client: client.cut(3600), absent)
        readers = Readers(tmp_path, dsn, server)
        try:
            works = [
                asyncio.run_coroutine_threadsafe(application.work(f"t{number}", over), loop.loop)
                for number in range(TENANTS)
            ]
            for action in ("reader", "postgres", "server", "readers") * (10 if is_long else 1):
                more = arrived(present) + chance.randint(5, 60)
                until_arrived(present, more, chance.choice((0.001, 0.02)))
                if action == "postgres":
                    postgres.kill()
                    postgres.start()
                elif action == "server":
                    server.kill()
                    server.start()
                else:
                    readers.kill(1 if action == "reader" else 2)
            loop.loop.call_soon_threadsafe(over.set)
            for work in works:
                work.result(WITHIN_SECONDS)
            eventually(lambda: not loop.run(waiting(dsn), 30), "every message to be sent", WITHIN_SECONDS, 0.1)
            places = loop.run(places_of(dsn), 30)
        finally:
            loop.loop.call_soon_threadsafe(over.set)
            readers.end()
        assert {*application.committed} <= places.keys()
        assert not application.rolled_back & places.keys()
        swarm.each(lambda client: client.connect(), absent)
        for user, *clients in zip(users, present, absent, strict=True):
            for client in clients:
                check(client.receipts, places, {user.room, SHARED})
    loop.close()


def arrived(clients: Sequence[SwarmClient]) -> int:
    """How many messages devices have got."""
    return sum(len(client.receipts._seen) for client in clients)


def until_arrived(clients: Sequence[SwarmClient], count: int, interval_seconds: float) -> None:
    """Block until devices have got so many messages."""
    eventually(lambda: arrived(clients) >= count, f"{count} messages", WITHIN_SECONDS, interval_seconds)


async def waiting(dsn: str) -> int:
    """How many messages are neither sent nor set aside."""
    connection = await asyncpg.connect(dsn)
    try:
        assert await connection.fetchval("SELECT count(*) FROM recado_outbox_place WHERE state = 2") == 0
        return int(await connection.fetchval("SELECT count(*) FROM recado_outbox_place WHERE state = 0"))
    finally:
        await connection.close()


async def places_of(dsn: str) -> dict[tuple[str, int], set[str]]:
    """The messages in the order of their commits, each with its rooms."""
    connection = await asyncpg.connect(dsn)
    try:
        query = "SELECT rooms, body::json -> 'args' AS args FROM recado_outbox JOIN recado_outbox_place USING (id)"
        rows = await connection.fetch(f"{query} ORDER BY position")
    finally:
        await connection.close()
    args = [json.loads(row["args"]) for row in rows]
    return {(name, number): {*row["rooms"]} for row, (name, number, *_) in zip(rows, args, strict=True)}


def check(receipts: Receipts, places: dict[tuple[str, int], set[str]], mine: set[str]) -> None:
    """Check that a device got all that was sent to its rooms, in the order of the places in each room."""
    wanted = [message for message, rooms in places.items() if rooms & mine]
    eventually(lambda: {*wanted} <= receipts._seen, f"{receipts.name} to get everything", WITHIN_SECONDS, 0.1)
    assert receipts._seen == {*wanted}
    assert receipts.resyncs == 0
    seqs = defaultdict(set)
    for connection in receipts.connections:
        brought = [message for message, _ in connection]
        assert len(brought) == len({*brought}), f"{receipts.name}: a message came twice on one connection"
        for message, seq in connection:
            seqs[message].add(seq)
        for room in mine:
            within = [message for message in brought if room in places[message]]
            assert within == sorted(within, key=list(places).index), f"{receipts.name}: {room} is out of order"
    # A repeated delivery has the number of the first; a batch has none.
    assert [message for message, found in seqs.items() if len(found - {0}) > 1] == []
