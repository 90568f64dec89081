"""A Cluster: each site is at its primary, in order, heard on its shard, and found again when it moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from functools import partial

import pytest
from msgspec import structs

from app.config.settings import Site
from app.errors import StoreError, StoreUnavailable
from app.redis.address import Address, ClusterSeeds
from app.redis.client import Commands, Redis
from app.redis.cluster import RedisCluster, slot_of
from app.store.keys import NODES, prefix, shard_channel
from app.store.seats import RedisSeats
from tests.support.store import RecordingReceiver, StoreNode, address_of, heard, make_site
from tests.support.topologies import ValkeyCluster, valkey_cluster
from tests.support.valkey import Valkey
from tests.support.waiting import until, until_answer

#: Sites whose slots are on three shards.
SITES = [make_site(name) for name in ("shop", "club", "team", "news")]


@pytest.fixture(scope="module")
def shared_cluster() -> Iterator[ValkeyCluster]:
    """Three primaries without replicas."""
    with valkey_cluster() as cluster:
        yield cluster


@pytest.fixture
def cluster(shared_cluster: ValkeyCluster) -> ValkeyCluster:
    """The same Cluster, emptied."""
    shared_cluster.flush()
    return shared_cluster


@pytest.fixture
async def nodes(cluster: ValkeyCluster) -> AsyncIterator[list[StoreNode]]:
    """Two nodes that have only their Cluster in common."""
    async with AsyncExitStack() as stack:
        nodes = []
        for _ in range(2):
            nodes.append(await StoreNode.start(cluster.url, SITES))
            stack.push_async_callback(nodes[-1].close)
        yield nodes


def shards_of(cluster: ValkeyCluster) -> set[int]:
    """The ports of the primaries that hold the sites."""
    return {cluster.port_of(prefix(site.name)) for site in SITES}


def other_port(cluster: ValkeyCluster, site: Site) -> int:
    """The port of a primary that does not hold the site."""
    return next(port for port in cluster.ports if port != cluster.port_of(prefix(site.name)))


async def move(cluster: ValkeyCluster, site: Site, port: int) -> None:
    """Move a site's slot as a whole."""
    slot = slot_of(prefix(site.name))
    source = cluster.port_of(prefix(site.name))
    cluster.command(source, "CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", cluster.id_of(port))
    await until(lambda: cluster.port_of(prefix(site.name)) == port, "the slot to move")


@pytest.mark.parametrize(
    ("key", "slot"), [("123456789", 0x31C3), ("recado:{123456789}:x", 0x31C3), ("a{}b", slot_of("a{}b")), ("", 0)]
)
def test_slot(key: str, slot: int) -> None:
    """A key's slot is that of the text in its first braces, by the checksum of the Cluster's specification."""
    assert slot_of(key) == slot
    assert slot_of("{}") != slot_of("")


async def test_sites_live_on_their_shards(cluster: ValkeyCluster, nodes: list[StoreNode]) -> None:
    """Sends to sites on all shards arrive at the node that holds the device, in order, whichever node accepted them."""
    assert len(shards_of(cluster)) == 3
    receivers = {site.name: await nodes[0].open(site, "user_1") for site in SITES}
    sent = {site.name: [await nodes[number % 2].publish(site, "user_1") for number in range(20)] for site in SITES}
    for site in SITES:
        assert await heard(receivers[site.name], 20) == sent[site.name]
    for port in cluster.ports:
        mine = [site.name for site in SITES if cluster.port_of(prefix(site.name)) == port]
        found = {key.split("{")[1].split("}")[0] for key in cluster.servers[port].dump() if "{" in key}
        assert found == set(mine)


async def test_site_that_is_added(cluster: ValkeyCluster, nodes: list[StoreNode]) -> None:
    """A node hears the messages of a site that is added while it runs, without a new subscription for the others."""
    here, there = nodes
    late = [make_site(f"late{number}") for number in range(6)]
    interruptions = here.counts.bus_interruptions
    for node in nodes:
        for site in late:
            node.delivery.add(site)
        await node.bus.add(late)
    assert len({cluster.port_of(prefix(site.name)) for site in late}) > 1
    for site in [*late, *SITES]:
        receiver = await here.open(site, "user_1")
        body = await there.publish(site, "user_1")
        assert await heard(receiver, 1) == [body]
    assert here.counts.bus_interruptions == interruptions


async def test_site_moves_between_shards(cluster: ValkeyCluster, nodes: list[StoreNode]) -> None:
    """While a site's slot moves sends are stored or refused; what was stored arrives once, in order, on live
    connections; acks count."""
    site = SITES[0]
    receiver = await nodes[0].open(site, "user_1")
    home, away = cluster.port_of(prefix(site.name)), other_port(cluster, site)
    for port in (away, home):
        receiver.written.clear()
        sent: list[bytes] = []
        moving = asyncio.ensure_future(move(cluster, site, port))
        while not moving.done() or len(sent) < 20:
            sent.append(await _publish_patiently(nodes[1], site))
        await moving
        sent.append(await _publish_patiently(nodes[1], site))
        await until(partial(_has, receiver, sent[-1]), "the last message", 60)
        assert [body for body in receiver.bodies if body in set(sent)] == sent
        assert "close" not in receiver.kinds
    for what in list(receiver.written):
        if what[0] == "event":
            nodes[0].ack(receiver, what[1])
    await nodes[0].delivery.drain()
    nodes[0].close_connection(receiver)
    await nodes[0].delivery.drain()
    again = await nodes[1].open(site, "user_1")
    assert not set(again.bodies) & set(receiver.bodies)


async def test_keys_on_the_move_are_waited_for(cluster: ValkeyCluster, nodes: list[StoreNode]) -> None:
    """While a slot moves key by key no script runs on half of its keys: sends are refused until the slot is whole."""
    site = SITES[1]
    receiver = await nodes[0].open(site, "user_1")
    first = await nodes[0].publish(site, "user_1")
    slot, source, target = slot_of(prefix(site.name)), cluster.port_of(prefix(site.name)), other_port(cluster, site)
    cluster.command(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", cluster.id_of(source))
    cluster.command(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", cluster.id_of(target))
    before = cluster.servers[source].dump()
    with pytest.raises(StoreUnavailable, match="ASK"):
        await nodes[1].publish(site, "user_1")
    assert cluster.servers[source].dump() == before
    assert not [key for key in cluster.servers[target].dump() if key.startswith(prefix(site.name))]
    keys = [key for key in before if key.startswith(prefix(site.name))]
    cluster.command(source, "MIGRATE", "127.0.0.1", target, "", 0, 5000, "KEYS", *keys)
    for port in (target, source, *cluster.ports):
        cluster.command(port, "CLUSTER", "SETSLOT", slot, "NODE", cluster.id_of(target))
    second = await _publish_patiently(nodes[1], site)
    await until(lambda: second in receiver.bodies, "the second message", 60)
    assert receiver.bodies == [first, second]
    await move(cluster, site, source)


async def test_commands_of_a_site_keep_their_order(cluster: ValkeyCluster, nodes: list[StoreNode]) -> None:
    """A command that is answered after a slot has moved was called after all that were answered or refused before."""
    site = SITES[2]
    key = f"{prefix(site.name)}test"
    home = cluster.port_of(prefix(site.name))
    redis = nodes[0].redis
    for port in (other_port(cluster, site), home):
        numbers: list[int] = []
        given = 0
        moving = asyncio.ensure_future(move(cluster, site, port))
        while not moving.done():
            answers = []
            for _ in range(20):
                given += 1
                answers.append(redis.command("RPUSH", key, given))
            numbers += [number for number in await asyncio.gather(*answers, return_exceptions=True)
                        if not isinstance(number, BaseException)]  # fmt: skip
        await moving
        # Sooner than the map is asked for without a reason.
        await until(partial(_is_reached, redis, key, port), "the new map", 4.5)
        pushed = [int(number) for number in await redis.command("LRANGE", key, 0, -1)]
        assert pushed == sorted(pushed)
        await redis.command("DEL", key)


async def test_loser_of_a_slot_answers_nothing_more(cluster: ValkeyCluster, nodes: list[StoreNode]) -> None:
    """A command in flight at a primary that has lost a slot fails when the new map is taken over: its reply could
    arrive after replies from the slot's new primary."""
    site = SITES[0]
    redis = nodes[0].redis
    assert isinstance(redis, RedisCluster)
    known = await redis._ask()
    under_way = redis.command("BLPOP", f"{prefix(site.name)}nothing", 0)
    slot, target = slot_of(prefix(site.name)), Address(port=other_port(cluster, site))
    redis._adopt(structs.replace(known, ranges=[*known.ranges, (slot, slot, target)]), Redis.begin)
    with pytest.raises(StoreUnavailable):
        await asyncio.wait_for(under_way, 1)
    redis._adopt(known, Redis.begin)
    assert redis.shard_of(prefix(site.name)) is not None


async def test_quiet_site_is_heard_where_it_has_moved(cluster: ValkeyCluster) -> None:
    """A node learns that a quiet site has moved: its subscription there has ended."""
    quiet = [make_site(name, user_room_prefix=None) for name in ("shop", "news")]
    home, away = cluster.port_of(prefix("news")), other_port(cluster, quiet[1])
    assert cluster.port_of(prefix("shop")) == home
    node = await StoreNode.start(cluster.url, quiet)
    try:
        for port in (away, home):
            await move(cluster, quiet[1], port)
            await until(partial(_is_heard, cluster, port, shard_channel(node.name, "news")), "the subscription", 4.5)
    finally:
        await node.close()


async def test_primary_that_dies_and_comes_back(cluster: ValkeyCluster, nodes: list[StoreNode]) -> None:
    """One shard away: its sites are refused at once, the others are served, and the nodes count as there; when it is
    back its sites go on, connections and queues included."""
    lost = SITES[0]
    kept = next(site for site in SITES if cluster.port_of(prefix(site.name)) != cluster.port_of(prefix(lost.name)))
    receiver = await nodes[0].open(lost, "user_1")
    first = await nodes[1].publish(lost, "user_1")
    await heard(receiver, 1)
    server = cluster.primary_of(prefix(lost.name))
    server.kill()
    await until(lambda: not nodes[0].redis.shard_of(prefix(lost.name)).is_available, "the loss")  # type: ignore[union-attr]
    with pytest.raises(StoreUnavailable):
        await nodes[0].publish(lost, "user_1")
    await nodes[0].publish(kept, "user_1")
    assert nodes[0].redis.is_available
    assert nodes[0].bus.is_hearing
    server.start()
    second = await _publish_patiently(nodes[1], lost)
    await until(lambda: second in receiver.bodies, "the second message", 60)
    assert receiver.bodies == [first, second]


async def test_each_site_is_heard_where_it_is(cluster: ValkeyCluster, nodes: list[StoreNode]) -> None:
    """A node subscribes to a site's channel at the site's primary, and at no other; and to its own at one."""
    for port in cluster.ports:
        mine = [site.name for site in SITES if cluster.port_of(prefix(site.name)) == port]
        channels = {channel.decode() for channel in cluster.command(port, "PUBSUB", "SHARDCHANNELS")}
        own = {f"recado:bus:{node.name}" for node in nodes}
        assert channels - own == {f"{prefix(site)}bus:{node.name}" for site in mine for node in nodes}
        assert channels & own == {channel for channel in own if cluster.port_of(channel) == port}


async def test_form_of_url_that_does_not_fit(cluster: ValkeyCluster, valkey: Valkey) -> None:
    """A server of a Cluster is refused where one Redis is expected, and the other way round."""
    address = Address(port=cluster.ports[0])
    with pytest.raises(StoreError, match="runs in cluster mode: expected another form"):
        await Redis(address, 2.0).start()
    with pytest.raises(StoreError, match="cluster support disabled"):
        await RedisCluster(ClusterSeeds((address_of(valkey),)), 2.0).start()


async def test_no_server_of_the_cluster_answers() -> None:
    """A start without any server of the Cluster fails with StoreUnavailable and leaves no task."""
    redis = RedisCluster(ClusterSeeds((address_nowhere(),)), 1.0)
    with pytest.raises(StoreUnavailable):
        await redis.start()
    assert not redis.is_available
    with pytest.raises(StoreUnavailable):
        await redis.command("GET", "x")
    with pytest.raises(StoreUnavailable):
        await redis.run("settle", "x", 1)


def address_nowhere() -> Address:
    """An address on which no server listens."""
    return Address(port=1)


def _has(receiver: RecordingReceiver, body: bytes) -> bool:
    return body in receiver.bodies


def _is_heard(cluster: ValkeyCluster, port: int, channel: str) -> bool:
    return channel.encode() in cluster.command(port, "PUBSUB", "SHARDCHANNELS")


def _is_reached(redis: Commands, key: str, port: int) -> bool:
    """Whether commands of the key go to that primary."""
    shard = redis.shard_of(key)
    return shard is not None and shard.is_available and shard.address.port == port


async def _publish_patiently(node: StoreNode, site: Site) -> bytes:
    """Send a message as a backend that repeats each request that was answered 503."""
    return await until_answer(lambda: node.publish(site, "user_1"), "a send to be taken", (StoreUnavailable,), 30)


async def test_the_silence_of_those_with_seats(nodes: list[StoreNode], cluster: ValkeyCluster) -> None:
    """The silence of nodes with seats is known although seats and beats are in different slots."""
    first, second = (RedisSeats(node.redis, node.name) for node in nodes)
    cluster.primary_of(NODES).client.zadd(NODES, {nodes[0].name: 1_000})
    for site in SITES:
        assert await second.silence_seconds(site) == 0
        await first.take_seat(site, [("all", 9)])
        assert await second.silence_seconds(site) > 60
