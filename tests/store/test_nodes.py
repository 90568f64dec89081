"""Nodes among themselves: living and dead nodes, worker ids, and the expiry of devices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from app.config.settings import Site
from app.core.ports import BuriedConnection, ConnectNotes
from app.errors import StoreError, StoreUnavailable
from app.ids import FlakeIds
from app.redis.client import Redis
from app.store import expiry
from app.store import nodes as nodes_module
from app.store.keys import NODES, bus_channel, node_sites, prefix, worker_lease
from app.store.nodes import Node, new_node_id
from app.store.queues import RedisQueues
from tests.support.store import device_of, linked, make_message, make_site
from tests.support.valkey import Valkey
from tests.support.waiting import until

SITE = make_site(device_ttl_seconds=60)
PLAIN = make_site("plain", user_room_prefix=None)
DEAD_AFTER_SECONDS = 1.0


class Member:
    """One node with its own link. Lives for one test."""

    def __init__(self, redis: Redis, *sites: Site) -> None:
        """Not announced yet."""
        self.name = new_node_id()
        self.redis = redis
        self.queues = RedisQueues(redis, self.name, 1_000_000)
        self.taken_for_dead = 0
        self.ids = FlakeIds(0, 0)
        self.has_lease = False
        self.buried: list[BuriedConnection] = []
        self.node = Node(redis, self.queues, self.name, sites, self._taken_for_dead, self.buried.append)

    def _taken_for_dead(self) -> None:
        self.taken_for_dead += 1


class Cluster:
    """Starts members on the shared Valkey. Lives for one test, which closes them at its end."""

    def __init__(self, valkey: Valkey, stack: AsyncExitStack) -> None:
        """`stack` closes them."""
        self._valkey = valkey
        self._stack = stack

    async def join(self, *sites: Site) -> Member:
        """A member that beats."""
        redis = await self._stack.enter_async_context(linked(self._valkey))
        member = Member(redis, *(sites or (SITE, PLAIN)))
        await member.node.start()
        self._stack.push_async_callback(member.node.close)
        return member


@pytest.fixture
async def cluster(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cluster]:
    """Nodes with short times."""
    monkeypatch.setattr(nodes_module, "BEAT_SECONDS", 0.02)
    monkeypatch.setattr(nodes_module, "DEAD_AFTER_SECONDS", DEAD_AFTER_SECONDS)
    monkeypatch.setattr(expiry, "EXPIRE_SECONDS", 0.02)
    async with AsyncExitStack() as stack:
        yield Cluster(valkey, stack)


def alive(valkey: Valkey) -> set[str]:
    """The nodes that Redis counts as living."""
    client: Any = valkey.client
    return {name.decode() for name in client.zrange(NODES, 0, -1)}


async def kill(member: Member) -> None:
    """End the node without any command to Redis, as SIGKILL does."""
    await member.redis.close()


def test_node_ids_differ_and_suit_the_scripts() -> None:
    """Each run of a process has its own name, without the characters that scripts put around it."""
    names = {new_node_id() for _ in range(1_000)}
    assert len(names) == 1_000
    assert all(set(name) <= set("0123456789abcdef") for name in names)


async def test_living_nodes_are_known_and_beat(cluster: Cluster, valkey: Valkey) -> None:
    """A node announces itself at its start and beats from then on."""
    one, other = await cluster.join(), await cluster.join()
    assert alive(valkey) == {one.name, other.name}
    first_beat = valkey.client.zscore(NODES, one.name)
    await until(lambda: (valkey.client.zscore(NODES, one.name) or 0) > (first_beat or 0), "another beat")
    assert one.taken_for_dead == other.taken_for_dead == 0


async def test_messages_in_flight_land_when_an_earlier_version_comes(
    cluster: Cluster, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node of an earlier version reads queues and knows no messages in flight: with its first beat they land, and no
    other message flies while it is there."""
    member = await cluster.join()
    await until(lambda: member.queues.flights.is_open, "messages to fly")
    registered = (await member.queues.connect(SITE, 1, "d", ["user_1"])).devices[0]
    landed: list[str] = []
    land = member.queues.land

    async def note_landing(site: Site) -> int:
        landed.append(site.name)
        return await land(site)

    monkeypatch.setattr(member.queues, "land", note_landing)
    await member.queues.send(make_message(SITE, "user_1"))
    assert valkey.client.exists(prefix(SITE.name) + "flights") == 1
    monkeypatch.setattr(nodes_module, "DEAD_AFTER_SECONDS", 600.0)
    valkey.client.zadd(NODES, {"old": valkey.clock_ms()})
    await until(lambda: landed == [SITE.name], "the landing")
    queue = f"{prefix(SITE.name)}queue:{registered.handle.decode()}"
    await until(lambda: valkey.client.llen(queue) == 1, "the message to be at rest")
    await member.queues.send(make_message(SITE, "user_1"))
    assert valkey.client.llen(queue) == 2
    valkey.client.zrem(NODES, "old")


async def test_dead_node_is_buried(cluster: Cluster, valkey: Valkey) -> None:
    """Within seconds another node takes a killed node out: its devices count as disconnected since its last beat."""
    dead, living = await cluster.join(), await cluster.join()
    await dead.queues.connect(SITE, 1, "d", ["user_1"])
    await dead.queues.join(PLAIN, ["a", "b"])
    await living.queues.join(PLAIN, ["b"])
    await dead.queues.send(make_message(SITE, "user_1"))
    await kill(dead)
    last_beat_ms = valkey.client.zscore(NODES, dead.name) or 0.0
    assert sorted(device_of(valkey, SITE)) == [f"c:{dead.name}.1", "device", "user"]
    await until(lambda: dead.name not in alive(valkey), "the burial")
    assert sorted(device_of(valkey, SITE)) == ["device", "user", "written"]
    dump = valkey.dump()
    assert not [key for key in dump if dead.name in key]
    assert dump[prefix("plain") + "members:b"] == [living.name]
    assert prefix("plain") + "members:a" not in dump
    ((_, deadline),) = dump[prefix("shop") + "expiry"]
    assert abs(deadline - last_beat_ms - 60_000) < 200
    again = await living.queues.connect(SITE, 1, "d", ["user_1"])
    assert len(again.devices[0].waiting.entries) == 1


async def test_large_dead_node_is_buried_in_parts(cluster: Cluster, valkey: Valkey) -> None:
    """A node with more devices than one script run takes out is buried too."""
    dead = await cluster.join()
    for first in range(0, 1_200, 200):
        # So many at a time, since each connect has a deadline.
        numbers = range(first, first + 200)
        await asyncio.gather(*(dead.queues.connect(SITE, number, "d", [f"user_{number}"]) for number in numbers))
    living = await cluster.join()
    await kill(dead)
    await until(lambda: dead.name not in alive(valkey), "the burial")
    assert valkey.client.zcard(prefix("shop") + "expiry") == 1_200
    assert living.taken_for_dead == 0


async def test_node_that_was_taken_for_dead_is_told(cluster: Cluster, valkey: Valkey) -> None:
    """A node that was paused for too long and buried learns it from its next beat, once."""
    paused, living = await cluster.join(), await cluster.join()
    await paused.queues.connect(SITE, 1, "d", ["user_1"])
    # Another node buries it while it goes on: this has the effect of a pause, without the wait.
    await living.node.bury(paused.name, "")
    await until(lambda: paused.taken_for_dead, "the node to be told")
    assert sorted(device_of(valkey, SITE)) == ["device", "user"]
    beats = valkey.client.zscore(NODES, paused.name) or 0
    await until(lambda: (valkey.client.zscore(NODES, paused.name) or 0) > beats, "another beat")
    assert (paused.taken_for_dead, living.taken_for_dead) == (1, 0)


async def test_silence_of_redis_is_nobodys_death(cluster: Cluster, valkey: Valkey) -> None:
    """After Redis has taken no writes for a while every last beat is old, and living nodes do not bury each other."""
    members = [await cluster.join() for _ in range(3)]
    valkey.client.config_set("min-replicas-to-write", 1)
    try:
        oldest = max(valkey.client.zscore(NODES, member.name) or 0 for member in members)

        def has_passed() -> bool:
            seconds, microseconds = valkey.client.time()
            return seconds * 1000 + microseconds / 1000 - oldest > 1500 * DEAD_AFTER_SECONDS

        await until(has_passed, "every beat to be old")
    finally:
        valkey.client.config_set("min-replicas-to-write", 0)
    lifted_at = max(valkey.client.zscore(NODES, member.name) or 0 for member in members)
    later = lifted_at + 2000 * DEAD_AFTER_SECONDS
    await until(lambda: all((valkey.client.zscore(NODES, member.name) or 0) > later for member in members), "beats")
    assert [member.taken_for_dead for member in members] == [0, 0, 0]
    assert [len(member.buried) for member in members] == [0, 0, 0]


async def test_silence_counts_while_redis_answers(redis: Redis, valkey: Valkey) -> None:
    """A node judges others after two beats without a pause: before, no node may have been able to beat."""
    member = Member(redis)
    beats = (100, 102, 104, 106, 110, 112, 114)
    assert [member.node._may_judge(now) for now in beats] == [False, False, True, True, False, False, True]
    newcomer = Member(redis)
    valkey.client.zadd(NODES, {"dead": 1})
    await newcomer.node.start()
    assert newcomer.node._beat._burial is None
    await newcomer.node.close()


async def test_burial_is_told_once(cluster: Cluster, valkey: Valkey) -> None:
    """Each connection of a dead node is told to one of the nodes that are left, with the last beat."""
    dead = await cluster.join()
    living = [await cluster.join() for _ in range(3)]
    for number in range(700):
        await dead.queues.connect(SITE, number, "d", [f"user_{number}"], ConnectNotes(f"note {number}"))
    await kill(dead)
    last_beat_ms = valkey.client.zscore(NODES, dead.name) or 0.0
    await until(lambda: dead.name not in alive(valkey), "the burial")
    await until(lambda: sum(len(member.buried) for member in living) == 700, "all to be told")
    told = [connection for member in living for connection in member.buried]
    assert {connection.note for connection in told} == {f"note {number}" for number in range(700)}
    assert {round(connection.since.timestamp() * 1000) for connection in told} == {round(last_beat_ms)}


async def test_sites_are_buried_by_who_knows_them(cluster: Cluster, valkey: Valkey) -> None:
    """A node leaves the sites that it does not know to a node that knows them, however late that one comes."""
    other_site = make_site("other")
    dead = await cluster.join(SITE, other_site)
    for site in (SITE, other_site):
        await dead.queues.connect(site, 1, "d", ["user_1"], ConnectNotes(site.name))
    await cluster.join(make_site("third"))
    await kill(dead)
    left = "~" + dead.name
    await until(lambda: left in alive(valkey), "the burial of nothing")
    knows_one = await cluster.join(SITE)
    await until(lambda: knows_one.buried, "the burial in one site")
    last_beat_ms = valkey.client.zscore(NODES, left)
    knows_both = await cluster.join(SITE, other_site)
    await until(lambda: left not in alive(valkey), "the burial in the other site")
    assert [connection.note for connection in (*knows_one.buried, *knows_both.buried)] == ["shop", "other"]
    assert round(knows_both.buried[0].since.timestamp() * 1000) == last_beat_ms
    assert not [key for key in valkey.dump() if dead.name in key and "buried" not in key]


async def test_node_that_wakes_half_buried_is_told(cluster: Cluster, valkey: Valkey) -> None:
    """A node with sites that were not all known also learns of its burial, and counts as living again."""
    paused = await cluster.join(SITE, make_site("other"))
    living = await cluster.join(SITE)
    await paused.queues.connect(SITE, 1, "d", ["user_1"], ConnectNotes("note"))
    await living.node.bury(paused.name, 1)
    await until(lambda: paused.taken_for_dead, "the node to be told")
    await until(lambda: alive(valkey) == {paused.name, living.name}, "the node to count as living")
    sites = node_sites(paused.name)
    await until(lambda: valkey.client.smembers(sites) == {b"shop", b"other"}, "its sites to be known again")


async def test_wiped_redis_is_noticed_by_every_node(cluster: Cluster, valkey: Valkey) -> None:
    """When Redis has lost everything each node is told that it was forgotten: its rooms and devices are lost too."""
    one, other = await cluster.join(), await cluster.join()
    valkey.client.flushall()
    await until(lambda: one.taken_for_dead and other.taken_for_dead, "both to be told")
    assert alive(valkey) == {one.name, other.name}


async def test_closed_node_leaves_nothing(cluster: Cluster, valkey: Valkey) -> None:
    """A node that ends in order takes its connections and rooms out at once, and gives its worker id back."""
    member = await cluster.join()
    await member.queues.connect(SITE, 1, "d", ["user_1"])
    await member.queues.join(PLAIN, ["a"])
    await member.node.lease_worker(None, None)
    assert valkey.client.keys("recado:worker:*")
    await member.node.close()
    assert alive(valkey) == set()
    assert [key for key in valkey.dump() if member.name in key or "worker" in key or "members" in key] == []
    assert sorted(device_of(valkey, SITE)) == ["device", "user"]


async def test_close_while_redis_is_away(cluster: Cluster) -> None:
    """The end of a node does not wait for a Redis that is away."""
    member = await cluster.join()
    await member.redis.close()
    async with asyncio.timeout(20):
        await member.node.close()


async def test_start_while_redis_is_away(valkey: Valkey) -> None:
    """A node cannot be announced without Redis."""
    async with linked(valkey) as redis:
        member = Member(redis, SITE)
    with pytest.raises(StoreUnavailable):
        await member.node.start()
    await member.node.close()


async def test_worker_leases_are_unique(cluster: Cluster, valkey: Valkey) -> None:
    """Each node of a datacenter gets its own worker id; when all are taken, the next node is refused."""
    member = await cluster.join()
    places = [await Member(member.redis).node.lease_worker(5, None) for _ in range(32)]
    assert sorted(places) == [(5, worker) for worker in range(32)]
    with pytest.raises(StoreError, match="every datacenter and worker id"):
        await Member(member.redis).node.lease_worker(5, None)
    valkey.client.delete(worker_lease(5, 7))
    assert await Member(member.redis).node.lease_worker(5, None) == (5, 7)
    assert (await Member(member.redis).node.lease_worker(None, 7))[1] == 7


async def test_given_place_is_kept(cluster: Cluster, valkey: Valkey) -> None:
    """With both numbers configured no lease is taken."""
    member = await cluster.join()
    assert await member.node.lease_worker(3, 0) == (3, 0)
    assert valkey.client.keys("recado:worker:*") == []


async def test_lease_is_kept_by_beating(cluster: Cluster, valkey: Valkey) -> None:
    """A lease runs out when its node dies, and is renewed while it lives."""
    member = await cluster.join()
    key = worker_lease(*await member.node.lease_worker(None, None))
    assert 0 < valkey.client.pttl(key) <= 60_000
    valkey.client.pexpire(key, 5_000)
    await until(lambda: valkey.client.pttl(key) > 50_000, "the renewal")


async def test_lost_lease_is_replaced(cluster: Cluster, valkey: Valkey) -> None:
    """A node whose lease ran out keeps its place, or takes another one if another node has taken it."""
    member, other = await cluster.join(), await cluster.join()
    place = (5, await _place_of(member, 5))
    valkey.client.delete(worker_lease(*place))
    await until(lambda: valkey.client.exists(worker_lease(*place)), "the renewal")
    assert await _place_of(member, 5) == place[1]
    valkey.client.set(worker_lease(*place), other.name)
    await until(lambda: _worker_of(member) != place[1], "another place")
    assert valkey.client.get(worker_lease(*place)) == other.name.encode()
    assert valkey.client.get(worker_lease(5, _worker_of(member))) == member.name.encode()


async def _place_of(member: Member, datacenter: int) -> int:
    """The worker id in the ids of a member; the member leases a place first if it has none."""
    if not member.has_lease:
        member.has_lease = True
        await member.node.lease_ids(member.ids, datacenter, None)
    return _worker_of(member)


def _worker_of(member: Member) -> int:
    return member.ids.next_id() >> 12 & 31


async def test_devices_are_forgotten_in_time(cluster: Cluster, valkey: Valkey) -> None:
    """After device_ttl no key names the device or its user, without any request; also with very many devices."""
    site = make_site(device_ttl_seconds=1)
    forever = make_site("forever", device_ttl_seconds=0)
    member = await cluster.join(site, forever)
    for number in range(250):
        for one in (site, forever):
            registration = await member.queues.connect(one, number, "d", [f"user_{number}", "News"])
            await member.queues.disconnect(one, number, [(registration.devices[0].handle, 0)])
    await until(lambda: not valkey.client.exists(prefix("shop") + "users"), "the devices to be forgotten")
    left = {key for key in valkey.dump() if key.startswith(prefix("shop"))}
    assert left == {prefix("shop") + "handle"}
    assert len(valkey.client.hkeys(prefix("forever") + "devices")) == 250


async def test_chores_survive_an_absence_of_redis(cluster: Cluster, valkey: Valkey) -> None:
    """A node whose link breaks beats again as soon as there is a new link."""
    member = await cluster.join()
    valkey.client.client_kill_filter(_type="normal", skipme=True)
    await until(lambda: member.redis.is_available, "a new link")
    before = valkey.client.zscore(NODES, member.name) or 0
    await until(lambda: (valkey.client.zscore(NODES, member.name) or 0) > before, "a beat")


def test_channel_of_a_node_is_its_own() -> None:
    """Two nodes never share a channel."""
    assert bus_channel(new_node_id()) != bus_channel(new_node_id())


async def test_site_that_cannot_be_reached_keeps_no_other_waiting(
    cluster: Cluster, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dead node is taken out of all sites that can be reached, and out of the others as soon as possible."""
    dead, living = await cluster.join(), await cluster.join()
    await dead.queues.connect(SITE, 1, "d", ["user_1"], ConnectNotes("note"))
    await dead.queues.join(PLAIN, ["a"])
    bury = living.queues.bury

    async def bury_elsewhere(site: Site, *words: Any) -> Any:
        if site is SITE:
            raise StoreUnavailable
        return await bury(site, *words)

    with monkeypatch.context() as patch:
        patch.setattr(living.queues, "bury", bury_elsewhere)
        await kill(dead)
        await until(lambda: not valkey.client.exists(prefix("plain") + "members:a"), "the burial in one site")
        assert dead.name in alive(valkey)
        await until(lambda: valkey.client.smembers(node_sites(dead.name)) == {b"shop"}, "one site to be left")
    await until(lambda: dead.name not in alive(valkey), "the burial in the other")
    assert [connection.note for connection in living.buried] == ["note"]


async def test_protocols_bury_too(cluster: Cluster, valkey: Valkey) -> None:
    """Protocols take part in a burial, site by site; a protocol that fails is called again."""
    dead, living = await cluster.join(), await cluster.join()
    called: list[tuple[str, str]] = []

    async def take_out(site: Site, node: str) -> None:
        called.append((site.name, node))
        assert node in alive(valkey)
        if len(called) == 1:
            raise StoreUnavailable

    living.node.burials.append(take_out)
    await kill(dead)
    await until(lambda: dead.name not in alive(valkey), "the burial")
    assert called == [("shop", dead.name), ("plain", dead.name), ("shop", dead.name)]


async def test_node_that_cannot_announce_its_sites_at_once(
    cluster: Cluster, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that was forgotten announces its sites, and is told of it, as soon as it can."""
    member = await cluster.join()
    command, failures = member.redis.command, iter([StoreUnavailable()])

    def fail_once(*words: Any) -> Any:
        if words[0] == "SADD" and (failure := next(failures, None)) is not None:
            raise failure
        return command(*words)

    monkeypatch.setattr(member.redis, "command", fail_once)
    valkey.client.flushall()
    await until(lambda: member.taken_for_dead, "the node to be told")
    assert valkey.client.smembers(node_sites(member.name)) == {b"shop", b"plain"}
    assert next(failures, None) is None


async def test_site_that_is_added(cluster: Cluster, valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis knows of a site that a node has got while it runs, also when it was away at that moment; the others bury
    the node there."""
    late = make_site("late")
    member, other = await cluster.join(), await cluster.join()
    command, failures = member.redis.command, iter([StoreUnavailable()])

    def fail_once(*words: Any) -> Any:
        if words[0] == "SADD" and (failure := next(failures, None)) is not None:
            raise failure
        return command(*words)

    monkeypatch.setattr(member.redis, "command", fail_once)
    for node in (member.node, other.node):
        await node.add([late])
    assert valkey.client.smembers(node_sites(member.name)) == {b"shop", b"plain", b"late"}
    await member.queues.connect(late, 1, "d", ["user_1"])
    await kill(member)
    await until(lambda: member.name not in alive(valkey), "the burial")
    assert [buried.site for buried in other.buried] == [late]


async def test_names_of_many_sites_are_told_in_parts(cluster: Cluster, valkey: Valkey) -> None:
    """A node tells the names of thousands of sites, and its burial takes them out again."""
    names = {f"s{number}" for number in range(2_500)}
    member = await cluster.join(*(make_site(name, user_room_prefix=None) for name in names))
    assert set(valkey.dump()[node_sites(member.name)]) == names
