"""Transactions that overlap, roll back and commit, and several readers that die, in every order: a state machine."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import asyncpg
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from app.outbox.plan import Results, SendPlan
from app.outbox.row import CommittedMessage, Meaning, Verdict
from app.outbox.tables import OutboxTables, connected
from tests.support.background import BackgroundLoop
from tests.support.outbox import Connection, send

TENANTS, READERS = 3, 3
ROOMS = ("a", "b", "c", "d")
_tenants = st.integers(0, TENANTS - 1)
_readers = st.integers(0, READERS - 1)


class Reader:
    """One reader with what it has in hand. Lives until it dies."""

    def __init__(self, tables: OutboxTables, connection: AbstractAsyncContextManager[OutboxTables]) -> None:
        self.tables = tables
        self.connection = connection
        self.claim: AbstractAsyncContextManager[tuple[Any, Results]] | None = None
        self.plan: SendPlan | None = None
        self.under_way: list[CommittedMessage] = []


class OutboxMachine(RuleBasedStateMachine):
    """A tenant's connections, readers, and a server that stores each message once. Lives for one example."""

    background: BackgroundLoop
    dsn: str

    def __init__(self) -> None:
        super().__init__()
        self.run = self.background.run
        self.tenants: list[Connection] = [self.run(asyncpg.connect(self.dsn)) for _ in range(TENANTS)]
        self.run(self.tenants[0].execute("TRUNCATE recado_outbox, recado_outbox_place"))
        self.readers: dict[int, Reader] = {}
        #: The levels of each tenant's transaction: the messages of the transaction, then those of its savepoints.
        self.open: list[list[list[int]]] = [[] for _ in range(TENANTS)]
        self.transactions: list[list[Any]] = [[] for _ in range(TENANTS)]
        self.rooms: dict[int, tuple[str, ...]] = {}
        #: The messages in the order of their commits, those that the server has stored in its order, those set aside.
        self.committed: list[int] = []
        self.stored: list[int] = []
        self.parked: set[int] = set()

    def teardown(self) -> None:
        """Let everything end well, and compare."""
        for tenant in range(TENANTS):
            self.end_transaction(tenant, is_commit=True)
        for number in list(self.readers):
            self.die(number)
        reader = self.reader(0)
        while self.claim_of(reader):
            while reader.under_way:
                self.answer_of(reader, Meaning.SENT, 0)
            self.finish(0)
        for room in ROOMS:
            wanted = [one for one in self.committed if room in self.rooms[one] and one not in self.parked]
            assert [one for one in self.stored if room in self.rooms[one]] == wanted, room
        assert len(self.stored) == len(set(self.stored))
        self.die(0)
        for tenant in self.tenants:
            self.run(tenant.close())

    @rule(tenant=_tenants, rooms=st.sets(st.sampled_from(ROOMS), min_size=1, max_size=3))
    def call(self, tenant: int, rooms: set[str]) -> None:
        """Send within a transaction, which begins with the first message."""
        if not self.open[tenant]:
            self.deepen(tenant)
        number = self.run(send(self.tenants[tenant], sorted(rooms)))
        self.rooms[number] = tuple(rooms)
        self.open[tenant][-1].append(number)

    @precondition(lambda self: any(self.open))
    @rule(tenant=_tenants)
    def deepen(self, tenant: int) -> None:
        """Begin a transaction, or a savepoint within it."""
        transaction = self.tenants[tenant].transaction()
        self.run(transaction.start())
        self.transactions[tenant].append(transaction)
        self.open[tenant].append([])

    @precondition(lambda self: any(self.open))
    @rule(tenant=_tenants, is_commit=st.booleans())
    def leave_level(self, tenant: int, is_commit: bool) -> None:
        """Commit or roll back the transaction, or the latest savepoint of it."""
        if not self.open[tenant]:
            return
        level, transaction = self.open[tenant].pop(), self.transactions[tenant].pop()
        self.run(transaction.commit() if is_commit else transaction.rollback())
        if is_commit:
            (self.open[tenant][-1] if self.open[tenant] else self.committed).extend(level)

    @precondition(lambda self: any(self.open))
    @rule(tenant=_tenants, is_commit=st.booleans())
    def end_transaction(self, tenant: int, is_commit: bool) -> None:
        """Commit or roll back all of it."""
        while self.open[tenant]:
            self.leave_level(tenant, is_commit)

    @rule(number=_readers)
    def claim(self, number: int) -> None:
        """Have a reader claim, unless it has messages in hand."""
        reader = self.reader(number)
        if reader.claim is None and not self.claim_of(reader):
            self.finish(number)

    @precondition(lambda self: any(reader.under_way for reader in self.readers.values()))
    @rule(number=_readers, meaning=st.sampled_from(Meaning), place=st.integers(0, 100))
    def answer(self, number: int, meaning: Meaning, place: int) -> None:
        """Have the server answer one of a reader's requests."""
        if number in self.readers and self.readers[number].under_way:
            self.answer_of(self.readers[number], meaning, place)

    @precondition(lambda self: any(reader.claim for reader in self.readers.values()))
    @rule(number=_readers)
    def finish(self, number: int) -> None:
        """Have a reader store what became of its messages, whatever is still under way."""
        reader = self.readers.get(number)
        if reader and reader.claim:
            self.run(reader.claim.__aexit__(None, None, None))
            reader.claim, reader.plan, reader.under_way = None, None, []

    @precondition(lambda self: self.readers)
    @rule(number=_readers)
    def die(self, number: int) -> None:
        """End a reader's connection with all that it has in hand. The server keeps its messages."""
        reader = self.readers.pop(number, None)
        if reader:
            self.run(end_of(reader))

    def reader(self, number: int) -> Reader:
        """The reader of this number, which begins with its first use."""
        if number not in self.readers:
            connection = connected(self.dsn, "public")
            self.readers[number] = Reader(self.run(connection.__aenter__()), connection)
        return self.readers[number]

    def claim_of(self, reader: Reader) -> bool:
        """Claim, and begin what may be sent. Whether there is something."""
        reader.claim = reader.tables.claimed(["shop"])
        rows, results = self.run(reader.claim.__aenter__())
        reader.plan = SendPlan(rows, results)
        self.begin(reader)
        return bool(rows)

    def begin(self, reader: Reader) -> None:
        """Take what may be sent now."""
        assert reader.plan
        while (row := reader.plan.take()) is not None:
            reader.under_way.append(row)

    def answer_of(self, reader: Reader, meaning: Meaning, place: int) -> None:
        """Answer a request as a server that stores a message once."""
        assert reader.plan
        row = reader.under_way.pop(place % len(reader.under_way))
        if row.id in self.stored or (meaning is Meaning.SENT and row.id not in self.parked):
            meaning = Meaning.SENT
            self.stored += [row.id] if row.id not in self.stored else []
        elif meaning is Meaning.PARKED or row.id in self.parked:
            # A server that refuses a message refuses it again.
            meaning = Meaning.PARKED
            self.parked.add(row.id)
        reader.plan.settle(row, Verdict(meaning, "a reason"))
        self.begin(reader)


async def end_of(reader: Reader) -> None:
    """End the connection, and then the claim, which cannot be stored any more."""
    reader.tables._connection.terminate()
    if reader.claim:
        await asyncio.gather(reader.claim.__aexit__(None, None, None), return_exceptions=True)
    await reader.connection.__aexit__(None, None, None)


@pytest.fixture
def machine(dsn: str) -> Iterator[type[OutboxMachine]]:
    """The machine on a database and a loop."""
    background = BackgroundLoop()

    class Machine(OutboxMachine):
        """The machine of this test."""

    Machine.background, Machine.dsn = background, dsn
    yield Machine
    background.close()


def test_rooms_stay_in_order(machine: type[OutboxMachine], is_long: bool) -> None:
    """Every committed message is stored once, in each room in the order of the commits, and none of a transaction or a
    savepoint that was rolled back; a message that is set aside holds nothing up."""
    examples = 300 if is_long else 12
    run_state_machine_as_test(machine, settings=settings(max_examples=examples, stateful_step_count=40, deadline=None))
