"""The outbox in a real PostgreSQL: what is committed is claimed, in the order of the commits in each room."""

from __future__ import annotations

import asyncio
import functools
import json
from typing import Any

import asyncpg
import pytest

from app.errors import ConfigError
from app.outbox.failures import OutboxAway, OutboxUnusable
from app.outbox.plan import Results
from app.outbox.schema import LOCKS, SLEEP_LOCK, install_sql
from app.outbox.tables import _SETTINGS, MAX_CLAIM_BYTES, MAX_CLAIM_ROWS, OutboxTables, connected
from tests.outbox.conftest import Connect, Read
from tests.support.outbox import READER, SENDER, Connection, new_outbox, send
from tests.support.postgres import Postgres
from tests.support.waiting import until_answer

SITES = ["shop", "news"]


async def take(tables: OutboxTables, results: Results | None = None) -> list[int]:
    """Claim, and send what was claimed, or give it these results; return the numbers of the messages."""
    async with tables.claimed(SITES) as (rows, found):
        if results is None:
            found.sent += [row.position for row in rows]
        else:
            found.parked, found.later = results.parked, results.later
        return [row.id for row in rows]


async def place_of(tenant: Connection, number: int) -> dict[str, Any]:
    """The row that tells what became of a message."""
    return dict(await tenant.fetchrow("SELECT * FROM recado_outbox_place WHERE id = $1", number))


async def test_a_message_is_what_was_sent(tenant: Connect, read: Read) -> None:
    """The body is that of /send, with the options, `resync` apart; a room is in order with itself in any case."""
    connection, tables = await tenant(), await read()
    await connection.execute(
        """SELECT recado_send('shop', array['user_8', 'Editors'], 'news', '[{"id": 3}, "á"]',
           '{"ttl": 5, "resync": true}')"""
    )
    await connection.execute("SELECT recado_send('shop', array['a'], 'news')")
    async with tables.claimed(SITES) as (rows, _):
        bodies = await tables.bodies(rows)
    assert [(row.site, set(row.keys), row.resync) for row in rows] == [
        ("shop", {"shop/user_8", "shop/editors"}, True),
        ("shop", {"shop/a"}, False),
    ]
    assert [json.loads(bodies[row.id]) for row in rows] == [
        {"rooms": ["user_8", "Editors"], "event": "news", "args": [{"id": 3}, "á"], "ttl": 5},
        {"rooms": ["a"], "event": "news", "args": None},
    ]
    assert [row.bytes for row in rows] == [len(bodies[row.id]) for row in rows]


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ("'', array['a'], 'e'", "site: "),
        ("NULL, array['a'], 'e'", "site: "),
        ("'shop', NULL, 'e'", "rooms: "),
        ("'shop', array[]::text[], 'e'", "rooms: "),
        ("'shop', array['a', NULL], 'e'", "rooms: "),
        ("'shop', array[['a']], 'e'", "rooms: "),
        ("'shop', array_fill('a'::text, array[1001]), 'e'", "rooms: "),
        ("'shop', array[repeat('a', 65537)], 'e'", "rooms: "),
        ("'shop', array['a'], ''", "event: "),
        ("'shop', array['a'], 'e', NULL, '[]'", "options: "),
        ("""'shop', array['a'], 'e', NULL, '{"wait": "any"}'""", "options: "),
        ("""'shop', array['a'], 'e', NULL, '{"resync": 1}'""", "options: resync: "),
        ("""'shop', array['a'], 'e', to_jsonb(repeat('a', 4000000))""", "args: "),
    ],
)
async def test_a_wrong_call_fails_within_the_transaction(tenant: Connect, call: str, reason: str) -> None:
    """A wrong argument is an error of the statement, which names the argument."""
    connection = await tenant()
    with pytest.raises(asyncpg.InvalidParameterValueError, match=f"recado_send: {reason}expected"):
        await connection.execute(f"SELECT recado_send({call})")


async def test_nothing_is_read_before_the_commit_or_after_a_rollback(tenant: Connect, read: Read) -> None:
    """A message is claimed after its transaction has committed. A rollback, also to a savepoint, leaves nothing."""
    connection, tables = await tenant(), await read()
    outer = connection.transaction()
    await outer.start()
    kept = await send(connection, ["a"])
    inner = connection.transaction()
    await inner.start()
    await send(connection, ["a", "b"])
    await inner.rollback()
    assert await take(tables) == []
    await outer.commit()
    assert await take(tables) == [kept]
    gone = connection.transaction()
    await gone.start()
    await send(connection, ["a"])
    await gone.rollback()
    assert await take(tables) == []


async def test_the_order_is_that_of_the_commits(tenant: Connect, read: Read) -> None:
    """Of two transactions that overlap the one that commits first is first, whichever has called first."""
    early, late, tables = await tenant(), await tenant(), await read()
    first, second = early.transaction(), late.transaction()
    await first.start()
    one = await send(early, ["a"])
    await second.start()
    two = await send(late, ["a"])
    three = await send(late, ["a", "b"])
    await second.commit()
    await first.commit()
    assert one < two
    assert await take(tables) == [two, three, one]


async def test_a_commit_under_way_is_waited_for(tenant: Connect, read: Read) -> None:
    """While a commit has its place and is not visible yet, a commit to one of its rooms waits, and another does not."""
    early, late, other, tables = await tenant(), await tenant(), await tenant(), await read()
    committing = early.transaction()
    await committing.start()
    first = await send(early, ["a", "b"])
    # As far as a commit goes before it waits for the disk.
    await early.execute("SET CONSTRAINTS ALL IMMEDIATE")
    behind = asyncio.create_task(send(late, ["b"]))
    waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory'"
    await until_answer(lambda: other.fetchval(waits), "the commit behind to wait", timeout_seconds=60)
    lanes = await early.fetchval("SELECT lanes FROM recado_outbox WHERE id = $1", first)
    lane_of = "1::bigint << (hashtext('shop/' || name) & 63)"
    names = f"SELECT name FROM unnest(string_to_array('b c d e f g h', ' ')) name WHERE {lane_of} & $1 = 0"
    free = await other.fetchval(names, lanes)
    beside = await send(other, [free])
    assert await take(tables) == [beside]
    assert not behind.done()
    await committing.commit()
    assert await take_all(tables, 2) == [first, await behind]


async def take_all(tables: OutboxTables, count: int) -> list[int]:
    """Claim until there are so many."""
    taken: list[int] = []

    async def more() -> bool:
        taken.extend(await take(tables))
        return len(taken) >= count

    await until_answer(more, f"{count} messages", timeout_seconds=60)
    return taken


async def test_no_transactions_wait_for_each_other(tenant: Connect, read: Read) -> None:
    """Two commits with messages to the same rooms in different orders, which meet at their locks, both happen."""
    holder, one, two, other = [await tenant() for _ in range(4)]
    holding = holder.transaction()
    await holding.start()
    sent = [await send(holder, ["a"])]
    await holder.execute("SET CONSTRAINTS ALL IMMEDIATE")
    commits: list[asyncio.Task[None]] = []
    for connection, rooms in ((one, "ab"), (two, "ba")):
        transaction = connection.transaction()
        await transaction.start()
        sent += [await send(connection, [room]) for room in rooms]
        commits.append(asyncio.create_task(transaction.commit()))
        waiting = f"SELECT count(*) >= {len(commits)} FROM pg_locks WHERE NOT granted AND locktype = 'advisory'"
        await until_answer(functools.partial(other.fetchval, waiting), "the commit to wait", timeout_seconds=60)
    await holding.commit()
    await asyncio.gather(*commits)
    assert sorted(await take_all(await read(), 5)) == sent


async def test_every_level_of_isolation(tenant: Connect, read: Read) -> None:
    """Transactions that send at the same time all commit, at any level of isolation."""

    async def work(number: int, isolation: str) -> list[int]:
        connection = await tenant()
        sent = []
        for turn in range(5):
            async with connection.transaction(isolation=isolation):
                rooms = [f"r{(number * 7 + turn * step) % 12}" for step in range(4)]
                sent += [await send(connection, [room]) for room in rooms]
        return sent

    levels = ["read_committed", "repeatable_read", "serializable", "serializable"]
    sent = await asyncio.gather(*(work(number, levels[number % 4]) for number in range(8)))
    tables = await read()
    taken = await take_all(tables, sum(map(len, sent)))
    assert sorted(taken) == sorted(number for numbers in sent for number in numbers)
    for numbers in sent:
        assert [number for number in taken if number in set(numbers)] == numbers


async def test_readers_share_the_rooms(tenant: Connect, read: Read) -> None:
    """A second reader claims no message behind one that the first has in hand, and claims the others."""
    connection, one, two = await tenant(), await read(), await read()
    first = await send(connection, ["a"])
    async with one.claimed(SITES) as (rows, results):
        assert [row.id for row in rows] == [first]
        behind = await send(connection, ["a", "b"])
        further = await send(connection, ["b"])
        free = await send(connection, ["c"])
        assert await take(two) == [free]
        assert await take(two) == []
        results.sent.append(rows[0].position)
    assert await take(two) == [behind, further]


async def test_a_reader_that_ends_gives_its_messages_back(tenant: Connect, read: Read, dsn: str) -> None:
    """The messages of a reader whose connection ends wait again, at once."""
    connection, other = await tenant(), await read()
    number = await send(connection, ["a"])
    async with connected(dsn, "public") as tables:
        claim = tables.claimed(SITES)
        rows, _ = await claim.__aenter__()
        assert [row.id for row in rows] == [number]
        assert await take(other) == []
    assert await take_all(other, 1) == [number]


async def test_a_stopped_reader_gives_its_messages_back(
    tenant: Connect, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL ends the connection of a reader that does nothing for long with messages in hand."""
    monkeypatch.setitem(_SETTINGS, "idle_in_transaction_session_timeout", "100")
    connection, stopped = await tenant(), await read()
    monkeypatch.undo()
    other = await read()
    number = await send(connection, ["a"])
    claim = stopped.claimed(SITES)
    rows, _ = await claim.__aenter__()
    assert [row.id for row in rows] == [number]
    assert await take_all(other, 1) == [number]
    with pytest.raises(OutboxAway):
        await claim.__aexit__(None, None, None)


async def test_a_full_room_hides_no_other(tenant: Connect, read: Read) -> None:
    """A claim passes the messages of a room that waits for another reader, however many there are."""
    connection, one, two = await tenant(), await read(), await read()
    head = await send(connection, ["a"])
    async with one.claimed(SITES) as (rows, _):
        assert [row.id for row in rows] == [head]
        await connection.execute(
            "SELECT recado_send('shop', array['a'], 'n') FROM generate_series(1, $1)", 2 * MAX_CLAIM_ROWS
        )
        last = await send(connection, ["b"])
        assert await take(two) == [last]
    assert len(await take(two)) == MAX_CLAIM_ROWS


async def test_a_claim_is_bounded_by_its_bytes(tenant: Connect, read: Read) -> None:
    """A claim holds no more bytes than its bound, and the rest in order."""
    connection, tables = await tenant(), await read()
    size = MAX_CLAIM_BYTES * 2 // 5
    sent = [await send(connection, ["a"], "x" * size) for _ in range(3)]
    small = await send(connection, ["b"])
    behind = await send(connection, ["a"])
    assert await take(tables) == [*sent[:2], small]
    assert await take(tables) == [sent[2], behind]


async def test_sites_that_are_not_asked_for_wait(tenant: Connect, read: Read) -> None:
    """A claim has the messages of the sites that it names, and the count tells of the others."""
    connection, tables = await tenant(), await read()
    await send(connection, ["a"], site="elsewhere")
    number = await send(connection, ["a"])
    assert await take(tables) == [number]
    assert await take(tables) == []
    waiting = await tables.waiting(SITES)
    assert (waiting.count, waiting.parked, waiting.strange_sites) == (1, 0, ["elsewhere"])
    assert 0 <= waiting.oldest_seconds < 60


async def test_parked_messages(tenant: Connect, read: Read) -> None:
    """A parked message is listed with its reason and waits again when it is retried, behind those that wait."""
    connection, tables = await tenant(), await read()
    number = await send(connection, ["a"])
    position = (await place_of(connection, number))["position"]
    await take(tables, Results(parked=[(position, "400: no")]))
    behind = await send(connection, ["a"])
    (listed,) = await tables.listed(True, "shop", 10)
    assert (listed.id, listed.rooms, listed.event, listed.reason) == (number, ["a"], "n", "400: no")
    assert await tables.listed(True, "news", 10) == []
    assert [one.id for one in await tables.listed(False, None, 10)] == [behind]
    assert await tables.retry([number + 10], None) == 0
    assert await tables.retry(None, "news") == 0
    assert await tables.retry([number], "shop") == 1
    assert await take(tables) == [behind, number]
    await send_and_park(connection, tables)
    assert await tables.discard(None, "news") == 0
    assert await tables.discard(None, "shop") == 1
    assert await tables.listed(True, None, 10) == []
    assert await take(tables) == []
    assert await tables.prune(0) == 3


async def test_a_message_that_is_due_later_holds_its_room(tenant: Connect, read: Read) -> None:
    """A message that failed by itself is due later; its room waits, other rooms do not."""
    connection, tables = await tenant(), await read()
    number, behind, free = [await send(connection, [room]) for room in ("a", "a", "b")]
    position = (await place_of(connection, number))["position"]
    await take(tables, Results(later=[(position, 3600.0, "500: broken")]))
    assert await take(tables) == [free]
    place = await place_of(connection, number)
    assert (place["attempts"], place["reason"], place["state"]) == (1, "500: broken", 0)
    await connection.execute("UPDATE recado_outbox_place SET due_at = now()")
    assert await take(tables) == [number, behind]


async def test_old_messages_are_pruned(tenant: Connect, read: Read) -> None:
    """Messages that were sent long enough ago go; parked and waiting ones stay."""
    connection, tables = await tenant(), await read()
    sent, parked = await send(connection, ["a"]), await send(connection, ["b"])
    positions = [(await place_of(connection, number))["position"] for number in (sent, parked)]
    async with tables.claimed(SITES) as (_, results):
        results.sent, results.parked = positions[:1], [(positions[1], "400")]
    waiting = await send(connection, ["c"])
    assert await tables.prune(3600) == 0
    assert await tables.prune(0) == 1
    left = [record["id"] for record in await connection.fetch("SELECT id FROM recado_outbox ORDER BY id")]
    assert left == [parked, waiting]


async def test_a_commit_wakes_a_reader_that_sleeps(tenant: Connect, read: Read) -> None:
    """A reader that lies down is woken by the next commit; of several one sleeps; while a commit is under way none
    does."""
    connection, one, two = await tenant(), await read(), await read()
    await one.listen()
    committing = connection.transaction()
    await committing.start()
    await send(connection, ["a"])
    await connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
    assert not await one.lie_down()
    await committing.commit()
    assert await one.lie_down()
    assert not await two.lie_down()
    await send(connection, ["a"])
    await asyncio.wait_for(one.woken(), 30)
    await one.get_up()
    assert await two.lie_down()
    await two.get_up()


async def test_a_busy_reader_costs_no_notify(tenant: Connect, read: Read) -> None:
    """Without a reader that sleeps a transaction makes no NOTIFY, which would let one transaction commit at a time."""
    connection, tables = await tenant(), await read()
    await tables.listen()
    await send(connection, ["a"])
    # The answer to a statement would bring the notification along.
    assert await take(tables)
    assert not tables._woken.is_set()
    free = f"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = {LOCKS} AND objid = {SLEEP_LOCK}"
    assert await connection.fetchval(free) == 0


async def test_the_roles_have_the_least_rights(tenant: Connect, dsn: str, read: Read) -> None:
    """The sender's role calls the function and sees no table; the reader's reads, and neither sends nor changes."""
    connection = await tenant()
    await connection.execute(f"SET ROLE {SENDER}")
    number = await send(connection, ["a"])
    for statement in ("SELECT FROM recado_outbox", "DELETE FROM recado_outbox_place", "TABLE recado_outbox_version"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    reader = await tenant()
    for statement in (
        "SELECT recado_send('shop', array['a'], 'n')",
        "UPDATE recado_outbox SET body = ''",
        "INSERT INTO recado_outbox_place (id, site, keys, bytes, resync) VALUES (1, '', '{}', 1, false)",
        "UPDATE recado_outbox_version SET version = 9",
    ):
        await reader.execute(f"SET ROLE {READER}")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await reader.execute(statement)
    tables = OutboxTables(reader, "public")
    await tables.check()
    assert await take(tables) == [number]
    assert await tables.prune(0) == 1
    position = (await tables.waiting(SITES)).count
    assert position == 0
    await send_and_park(connection, tables)
    assert await tables.retry(None, None) == 1


async def send_and_park(connection: Connection, tables: OutboxTables) -> None:
    """Send one more message and set it aside."""
    await send(connection, ["a"])
    async with tables.claimed(SITES) as (rows, results):
        results.parked = [(row.position, "400") for row in rows]


async def test_a_strange_outbox_is_refused(shared_postgres: Postgres) -> None:
    """Without tables, with those of another version, and in another schema, the reason says what to do."""
    empty = shared_postgres.new_database()
    with pytest.raises(OutboxUnusable, match=r"recado_outbox_version.*does not exist; `recado outbox sql` prints"):
        await check(empty, "public")
    url = await new_outbox(shared_postgres, "push service")
    await check(url, "push service")
    with pytest.raises(OutboxUnusable, match="does not exist"):
        await check(url, "public")
    connection = await asyncpg.connect(url)
    await connection.execute('UPDATE "push service".recado_outbox_version SET version = 2')
    await connection.close()
    with pytest.raises(OutboxUnusable, match="the outbox has version 2, this program reads 1"):
        await check(url, "push service")


async def check(url: str, schema: str) -> None:
    """Connect to an outbox."""
    async with connected(url, schema):
        pass


@pytest.mark.parametrize("dsn", ["http://h/", "postgresql://u:hidden@h:port/d", "hidden", "postgresql://[hidden/"])
async def test_a_wrong_dsn_is_not_shown(dsn: str) -> None:
    """A DSN that cannot be read is refused without its text."""
    with pytest.raises(ConfigError, match="RECADO_OUTBOX_DSN: expected a URL") as refused:
        await check(dsn, "public")
    assert "hidden" not in str(refused.value)


async def test_the_sql_may_be_run_again(dsn: str, tenant: Connect, read: Read) -> None:
    """The SQL leaves an outbox as it is, with its messages and its name."""
    from_before = await read()
    connection = await tenant()
    number = await send(connection, ["a"])
    await connection.execute(install_sql("public", SENDER, READER))
    assert (await read()).name == from_before.name
    assert await take(from_before) == [number]
