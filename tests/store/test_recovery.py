"""A Redis that comes back without its newest writes: every loss is told, and no seq is given twice."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator

import pytest

from app.store.keys import prefix
from app.store.queues import RedisQueues
from tests.support.store import linked, make_message, make_site, running_valkey
from tests.support.valkey import Valkey
from tests.support.waiting import until

SITE = make_site()


@pytest.fixture
def own_valkey() -> Iterator[Valkey]:
    """A process that the test may kill; its data survive."""
    with running_valkey(is_durable=True) as server:
        yield server


def _restart(server: Valkey, loses_newest: bool) -> None:
    """Kill it and start it again, with its present data or with those that `_copy` copied."""
    server.kill()
    if loses_newest:
        shutil.rmtree(server.directory / "appendonlydir")
        shutil.move(server.directory / "copy", server.directory / "appendonlydir")
    server.start()


@pytest.mark.parametrize("loses_newest", [True, False])
async def test_lost_tail(own_valkey: Valkey, loses_newest: bool) -> None:
    """After a restart that lost a message a `_resync` is due for every device; after one without loss for none."""
    async with linked(own_valkey) as redis:
        queues = RedisQueues(redis, "aa", 1_000_000)
        handle = (await queues.connect(SITE, 1, "d", ["user_1"])).devices[0].handle
        kept = await queues.send(make_message(SITE, "user_1"))
        await asyncio.to_thread(shutil.copytree, own_valkey.directory / "appendonlydir", own_valkey.directory / "copy")
        newest = await queues.send(make_message(SITE, "user_1"))
        await asyncio.to_thread(_restart, own_valkey, loses_newest)
        await until(lambda: redis.is_available, "the link")
        replay = await queues.replay(SITE, 1, [(handle, 0)])
        device = replay.devices[0]
        assert [seq for seq, _ in device.waiting.entries] == [kept.seq] + ([] if loses_newest else [newest.seq])
        assert device.state == ("resync" if loses_newest else "here")
        assert (await queues.send(make_message(SITE, "user_1"))).seq > newest.seq


async def test_many_devices_in_parts(own_valkey: Valkey) -> None:
    """However many devices a site has, no single run marks all of them; each gets its `_resync`."""
    # 1,500 connects at once take long on a busy machine.
    async with linked(own_valkey, 30.0) as redis:
        queues = RedisQueues(redis, "aa", 1_000_000)
        rooms = [f"user_{number}" for number in range(1_500)]
        registered = await asyncio.gather(*(queues.connect(SITE, n, "d", [room]) for n, room in enumerate(rooms)))
        await asyncio.to_thread(shutil.copytree, own_valkey.directory / "appendonlydir", own_valkey.directory / "copy")
        await queues.send(make_message(SITE, "user_1"))
        await asyncio.to_thread(_restart, own_valkey, True)
        await until(lambda: redis.is_available, "the link")
        runs = own_valkey.client.info("commandstats")["cmdstat_hscan"]["calls"]
        assert 1_500 / (2 * 1_000) <= runs <= 3
        asked = [(number, [(one.devices[0].handle, 0)]) for number, one in enumerate(registered)]
        replays = await asyncio.gather(*(queues.replay(SITE, number, after) for number, after in asked))
        assert {replay.devices[0].state for replay in replays} == {"resync"}


async def test_nodes_hear_of_a_loss(own_valkey: Valkey) -> None:
    """A node that read its queues before another one found the loss sees a gap behind it."""
    async with linked(own_valkey) as redis:
        queues = RedisQueues(redis, "aa", 1_000_000)
        await queues.connect(SITE, 1, "d", ["user_1"])
        await queues.send(make_message(SITE, "user_1"))
        await asyncio.to_thread(shutil.copytree, own_valkey.directory / "appendonlydir", own_valkey.directory / "copy")
        await queues.send(make_message(SITE, "user_1"))
        bus = f"{prefix(SITE.name)}bus"
        await asyncio.to_thread(_restart, own_valkey, True)
        await until(lambda: redis.is_available, "the link")
        # One message was handed over before the copy; a gap is two messages and the number between them.
        assert own_valkey.client.hgetall(bus) == {b"aa": b"4"}


async def test_second_node_finds_its_own_loss(own_valkey: Valkey) -> None:
    """A node that comes back later, after others have sent, still finds that a message it had accepted is lost."""
    async with linked(own_valkey) as one, linked(own_valkey) as two:
        first, second = RedisQueues(one, "aa", 1_000_000), RedisQueues(two, "bb", 1_000_000)
        handle = (await first.connect(SITE, 1, "d", ["user_1"])).devices[0].handle
        await first.send(make_message(SITE, "user_1"))
        await asyncio.to_thread(shutil.copytree, own_valkey.directory / "appendonlydir", own_valkey.directory / "copy")
        lost = await second.send(make_message(SITE, "user_1"))
        two_reconnects, second_recovers = asyncio.Event(), two.on_reconnect
        assert second_recovers is not None

        async def recover_late(run_id: str, run: object) -> None:
            await two_reconnects.wait()
            await second_recovers(run_id, run)  # type: ignore[arg-type]  # passed on as it is

        two.on_reconnect = recover_late
        await asyncio.to_thread(_restart, own_valkey, True)
        await until(lambda: one.is_available, "the first link")
        assert (await first.send(make_message(SITE, "user_1"))).seq > lost.seq
        assert (await first.replay(SITE, 1, [(handle, 0)])).devices[0].state == "here"
        two_reconnects.set()
        await until(lambda: two.is_available, "the second link")
        assert (await first.replay(SITE, 1, [(handle, 0)])).devices[0].state == "resync"
