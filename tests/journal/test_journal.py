"""The questions to the journal, on both databases."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from msgspec import structs
from sqlalchemy import Select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.config.settings import Config
from app.journal import message_lists
from app.journal.database import JournalUnavailable, is_postgres
from app.journal.journal import Journal, MessageFilter, UserDeliveryPart
from app.journal.message_lists import Bounds, delivery_rows, end_of_devices, keys_of, matching
from app.journal.states import Fate
from app.journal.tables import deliveries
from app.redis.client import Redis
from tests.support.fates import FIRST_SEQ, SITE, FateStream, new_writer, write_all


@pytest.fixture
async def journal(redis: Redis, engine: AsyncEngine, database_url: str, stream: FateStream) -> AsyncIterator[Journal]:
    """Ten messages to two users, the fifth of an event of its own, the later ones not acknowledged."""
    for handle in (1, 2):
        stream.device(handle)
    stream.device(3, "user_1", "tablet")
    for number in range(10):
        room = ["even"] if number % 2 == 0 else ["odd", "all"]
        seq = FIRST_SEQ + number
        stream.send(seq, [1, 2], at=1_000 * number, event="rare" if number == 4 else "news", rooms=room, body='["x"]')
        if number < 5:
            stream.ack((seq, [1, 2]))
    stream.send(FIRST_SEQ + 10, [3], at=10_000, opt={"ttl": 5}, rooms=["tablets"])
    stream.fate("expired", "ttl", (FIRST_SEQ + 10, [3]))
    stream.rows("connections", {"user": "user_1", "device": "d", "disconnected_at": 7, "reason": "ping timeout"})
    await write_all(new_writer(redis, engine))
    journal = await Journal.open(Config(database_url=database_url), redis)
    assert journal is not None
    yield journal
    await journal.close()


async def seqs(journal: Journal, wanted: MessageFilter, limit: int = 3) -> list[int]:
    """The numbers of all messages that pass the filter, read in pages."""
    found: list[int] = []
    cursor = None
    while True:
        page = await journal.messages(SITE, wanted, limit, cursor)
        assert len(page.messages) <= limit
        found += [message.seq - FIRST_SEQ for message in page.messages]
        cursor = page.cursor
        if cursor is None:
            return found


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        (MessageFilter(), [10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]),
        (MessageFilter(room="even"), [8, 6, 4, 2, 0]),
        (MessageFilter(room="all", event="news", since=3_000, until=7_000), [7, 5, 3]),
        (MessageFilter(event="rare"), [4]),
        (MessageFilter(state=Fate.WAITING), [9, 8, 7, 6, 5]),
        (MessageFilter(state=Fate.ACKED, until=2_500), [2, 1, 0]),
        (MessageFilter(state=Fate.EXPIRED), [10]),
        (MessageFilter(state=Fate.REPLACED), []),
        (MessageFilter(user="user_2"), [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]),
        (MessageFilter(user="user_1", state=Fate.EXPIRED), [10]),
        (MessageFilter(user="user_1", room="even", state=Fate.WAITING), [8, 6]),
        (MessageFilter(user="nobody"), []),
        (MessageFilter(since=50_000), []),
        (MessageFilter(until=-1), []),
    ],
)
async def test_lists_of_messages(journal: Journal, wanted: MessageFilter, numbers: list[int]) -> None:
    """Each filter finds its messages, newest or oldest first, in pages that neither repeat nor leave out one."""
    assert await seqs(journal, wanted) == numbers
    assert await seqs(journal, structs.replace(wanted, is_oldest_first=True)) == numbers[::-1]


async def test_a_page_looks_at_a_bounded_number_of_rows(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rare state among many rows comes in pages that may be empty, and all of it comes."""
    monkeypatch.setattr(message_lists, "ROWS_LOOKED_AT", 2)
    assert await seqs(journal, MessageFilter(room="even", state=Fate.ACKED)) == [4, 2, 0]
    assert await seqs(journal, MessageFilter(room="even", event="rare")) == [4]
    assert await seqs(journal, MessageFilter(room="even", event="rare", is_oldest_first=True)) == [4]
    assert (await journal.messages(SITE, MessageFilter(room="even", event="nothing"), 3)).cursor == FIRST_SEQ + 6
    assert await seqs(journal, MessageFilter(user="user_2", state=Fate.ACKED)) == [4, 3, 2, 1, 0]
    assert await seqs(journal, MessageFilter(user="user_1", state=Fate.ACKED, is_oldest_first=True)) == [0, 1, 2, 3, 4]


async def test_a_message_and_its_deliveries(journal: Journal) -> None:
    """A message is found by its id in its own site, with options, counts, and its devices in pages."""
    message = await journal.message(SITE, FIRST_SEQ + 10 + 7)
    assert message is not None
    assert (message.options, message.rooms, message.body) == ({"ttl": 5}, ["tablets"], None)
    assert {state for state, count in message.summary.items() if count} == {Fate.EXPIRED}
    assert await journal.message("another", FIRST_SEQ + 17) is None
    kept = await journal.message(SITE, FIRST_SEQ + 7, body=True)
    assert kept is not None
    assert kept.body == '["x"]'
    first = await journal.deliveries(SITE, FIRST_SEQ, 1)
    second = await journal.deliveries(SITE, FIRST_SEQ, 1, first.cursor)
    assert [one.user for page in (first, second) for one in page.deliveries] == ["user_1", "user_2"]
    assert second.cursor is None
    (expired,) = (await journal.deliveries(SITE, FIRST_SEQ + 10, 10)).deliveries
    assert (expired.state, expired.reason, expired.device, expired.ended_at) == (Fate.EXPIRED, "ttl", "tablet", 9_000)


async def test_the_deliveries_of_a_user(journal: Journal) -> None:
    """Deliveries of all devices come newest first, or of one device, with their messages."""
    found = await journal.user_deliveries(SITE, "user_1", 7_000, 3)
    numbers = [(one.message.seq - FIRST_SEQ, one.delivery.device) for one in found.items]
    assert (numbers, found.has_more) == ([(10, "tablet"), (9, "d"), (8, "d")], True)
    of_one = await journal.user_deliveries(SITE, "user_1", 7_000, 10, "d")
    assert (len(of_one.items), of_one.has_more) == (3, False)
    assert await journal.user_deliveries(SITE, "nobody", 0, 10) == UserDeliveryPart([], False)


async def test_the_deliveries_of_many_devices(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a user with many devices each has a share of the rows that are looked at; that there may be more is told."""
    monkeypatch.setattr(message_lists, "ROWS_LOOKED_AT", 4)
    found = await journal.user_deliveries(SITE, "user_1", 0, 10)
    assert [one.message.seq - FIRST_SEQ for one in found.items] == [10, 9, 8]
    assert found.has_more


async def test_rows_of_nodes(journal: Journal) -> None:
    """Connections of a user, and of the site, are found since a time."""
    (row,) = await journal.user_rows("connections", SITE, "user_1", 0, 10)
    assert (row.values["reason"], row.values["disconnected_at"]) == ("ping timeout", 7)
    assert await journal.user_rows("connections", SITE, "user_1", 8, 10) == []
    assert await journal.site_rows("connections", SITE, 0, 10) == [row]
    assert await journal.missing_since(SITE, 0) == 0


async def test_waiting_for_the_writer(journal: Journal, redis: Redis, engine: AsyncEngine, stream: FateStream) -> None:
    """`caught_up` is true when SQL has what the stream holds, and false when it has not in time."""
    assert await journal.caught_up(SITE, 1)
    stream.device(8)
    assert not await journal.caught_up(SITE, 0.05)
    await write_all(new_writer(redis, engine))
    assert await journal.caught_up(SITE, 1)


async def test_a_database_that_is_away(redis: Redis) -> None:
    """A question to a database that does not answer fails with JournalUnavailable; without a database there is none."""
    journal = await Journal.open(Config(database_url="postgresql://nobody@/none?host=/nowhere"), redis)
    assert journal is not None
    with pytest.raises(JournalUnavailable):
        await journal.message(SITE, 1)
    await journal.close()
    assert await Journal.open(Config(redis_url="redis://localhost"), redis) is None


async def plan_of(engine: AsyncEngine, statement: Select[tuple[object, ...]]) -> str:
    """How the database would find the rows."""
    written = str(statement.compile(dialect=engine.dialect, compile_kwargs={"literal_binds": True}))
    explain = "EXPLAIN" if is_postgres(engine) else "EXPLAIN QUERY PLAN"
    async with engine.connect() as sql:
        if is_postgres(engine):
            # Of a table with few rows PostgreSQL reads all: the test asks whether there is an index to go by.
            await sql.execute(text("SET LOCAL enable_seqscan = off"))
            await sql.execute(text("SET LOCAL enable_sort = off"))
        return "\n".join(" ".join(map(str, row)) for row in await sql.execute(text(f"{explain} {written}")))


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (MessageFilter(), ("messages_pkey", "PRIMARY KEY")),
        (MessageFilter(event="rare"), ("messages_by_event", "messages_by_event")),
        (MessageFilter(state=Fate.EXPIRED), ("messages_expired", "messages_expired")),
        (MessageFilter(state=Fate.WAITING), ("messages_waiting", "messages_waiting")),
        (MessageFilter(room="even"), ("message_rooms_pkey", "PRIMARY KEY")),
    ],
)
async def test_lists_go_by_an_index(engine: AsyncEngine, wanted: MessageFilter, index: tuple[str, str]) -> None:
    """Each filter reads the newest rows from an index in its order: no sort, whatever the number of rows."""
    for oldest in (False, True):
        bounds = Bounds(1, None) if oldest else Bounds(None, 10**12)
        ordered = structs.replace(wanted, is_oldest_first=oldest)
        for statement in (matching(1, ordered, bounds, False), keys_of(1, ordered, bounds)):
            plan = await plan_of(engine, statement.limit(100))
            assert index[0 if is_postgres(engine) else 1] in plan
            assert "Sort" not in plan
            assert "TEMP B-TREE" not in plan


async def test_deliveries_go_by_an_index(engine: AsyncEngine) -> None:
    """The deliveries of a user's devices come from the index by device, those of a message from the key."""
    assert "deliveries_of_device" in await plan_of(engine, end_of_devices([1, 2], Bounds(1, None), False))
    statement = delivery_rows().where(deliveries.c.site_id == 1, deliveries.c.seq == 1, deliveries.c.device_id > 0)
    plan = await plan_of(engine, statement)
    assert ("deliveries_pkey" if is_postgres(engine) else "PRIMARY KEY") in plan
