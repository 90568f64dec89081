"""Trouble of Redis while messages are sent: restarted, away, failed over, full, read-only, busy, forgetful, slow.

In each case messages answered 200 arrive in order or there is a `_resync`, connections stay open, and acknowledged
messages are never sent again.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
import redis

from app.store.keys import NODES, prefix
from app.store.nodes import BEAT_SECONDS, DEAD_AFTER_SECONDS
from tests.support.background import BackgroundLoop
from tests.support.clients import MODERN, POLLING, Client, ClientKind
from tests.support.connector import Connector, Drivers
from tests.support.deployment import Deployment
from tests.support.receipts import Sent
from tests.support.sites import load_sites
from tests.support.store import running_valkey
from tests.support.swarm import Swarm
from tests.support.tcp_proxy import TcpProxy
from tests.support.tenant import Tenant
from tests.support.topologies import replicated_valkey, valkey_cluster
from tests.support.valkey import Valkey
from tests.support.waiting import eventually

#: Two sites whose slots are on different shards.
SITE, OTHER_SITE = "one", "two"


class Scene:
    """Two nodes, devices of several kinds on both, and publishers. Lives for one test."""

    def __init__(self, deployment: Deployment, tenant: Tenant, drivers: Drivers, servers: Sequence[Valkey]) -> None:
        """Start without clients; `servers` are all servers that may hold the sites' data."""
        self.deployment = deployment
        self._tenant = tenant
        self._connect = Connector(deployment, drivers)
        self._servers = servers
        self._nodes = itertools.cycle(deployment.nodes)

    @contextlib.contextmanager
    def sending(self, site: str = SITE) -> Iterator[Swarm]:
        """Send numbered messages during the block; then check what all devices
        have, and that no connection was lost."""
        room = self._tenant.unique("room")
        kinds = (MODERN, ClientKind("4", POLLING))
        clients = [self._connect(site, self._tenant.user(room), kind) for kind in kinds]
        try:
            with Swarm(self.deployment, site, lambda: next(self._nodes).url) as swarm:
                devices = [swarm.add(self._tenant.user(room)) for _ in range(20)]
                swarm.board()
                self._wait_until_beaten()
                with swarm.publishing(room, publishers=3, per_second=15):
                    _wait_for_more(swarm)
                    yield swarm
                    self._wait_until_well(site)
                    _wait_for_more(swarm)
                swarm.check()
                assert [device.connects for device in devices] == [1] * len(devices), "connections were lost"
                for client in clients:
                    _check_client(client, swarm)
                self._check_acknowledged(site, swarm)
        finally:
            self._connect.close()

    def wait_refused(self, site: str = SITE) -> None:
        """Block until a send is answered 503, within the time limit and with Retry-After."""
        assert int(eventually(lambda: self._refused(site), "a refusal", 60) or 0) >= 1

    def is_sent(self, site: str) -> bool:
        """Whether one more message is accepted."""
        return self.deployment.try_send(site, {"rooms": ["nobody"], "event": "x", "args": []}).status_code == 200

    def _refused(self, site: str) -> str | None:
        began_at = time.monotonic()
        answer = self.deployment.try_send(site, {"rooms": ["nobody"], "event": "x", "args": []})
        assert answer.status_code in (200, 503)
        # Of a request that hangs the client would give up after a minute.
        assert time.monotonic() - began_at < 20
        return answer.headers["retry-after"] if answer.status_code == 503 else None

    def _wait_until_well(self, site: str) -> None:
        eventually(lambda: self.is_sent(site), "/send to work again", 60)
        for node in self.deployment.nodes:
            eventually(lambda node=node: node.get("/readyz").status_code == 200, "a node to be ready", 60)  # type: ignore[misc]

    def _wait_until_beaten(self) -> None:
        """Each node's last beat is young: the faults of several tests must not add up to the silence of a dead node."""
        eventually(lambda: 0 <= self._silence_seconds() < BEAT_SECONDS + 0.5, "a beat of each node", 60)

    def _silence_seconds(self) -> float:
        """The time since the oldest of the nodes' last beats; -1 when a node has no beat."""
        beats_ms: list[float] = []
        for server in self._servers:
            with contextlib.suppress(redis.RedisError):
                beats: Any = server.client.zrange(NODES, 0, -1, withscores=True)
                beats_ms += [beat_ms for _, beat_ms in beats]
        return time.time() - min(beats_ms) / 1000 if len(beats_ms) >= len(self.deployment.nodes) else -1

    def _check_acknowledged(self, site: str, swarm: Swarm) -> None:
        """Check that nothing is sent again on the devices' next connections, since all have acknowledged everything."""
        eventually(lambda: self._queues(site) == 0, "the acks to reach Redis", 60)
        repeated = [device.receipts.repeated for device in swarm.clients]
        swarm.each(lambda device: device.cut(0.0))
        eventually(lambda: all(device.connects == 2 for device in swarm.clients), "the devices to be back", 60)
        assert [device.receipts.repeated for device in swarm.clients] == repeated

    def _queues(self, site: str) -> int:
        """The number of queues that are not empty, and of messages in flight, at the living primaries."""
        count = 0
        for server in self._servers:
            with contextlib.suppress(redis.RedisError):
                info: Any = server.client.info("replication")
                if info["role"] == "master":
                    count += len(list(server.client.scan_iter(f"{prefix(site)}queue:*", count=1000)))
                    flights: Any = server.client.hlen(f"{prefix(site)}flights")
                    count += int(flights)
        return count


def _wait_for_more(swarm: Swarm, messages: int = 8) -> None:
    """Block until this number of further messages of each publisher was accepted."""
    _wait_for_answers(swarm, lambda sent: len(sent.answered), messages)


def _wait_for_refusals(swarm: Swarm, messages: int = 12) -> None:
    """Block until this number of further messages of each publisher was refused. The fault lasts until then."""
    _wait_for_answers(swarm, lambda sent: len(sent.refused), messages)


def _wait_for_answers(swarm: Swarm, count: Callable[[Sent], int], messages: int) -> None:
    before = {name: count(sent) for name, sent in swarm.sent.items()}
    eventually(
        lambda: all(count(sent) >= before[name] + messages for name, sent in swarm.sent.items()),
        f"{messages} more answers for each publisher",
        30,
    )


def _wait_for_silence(beats_ms: Sequence[float], seconds: float) -> None:
    """Block until this time has passed since the newest beat of the nodes."""
    eventually(lambda: time.time() - max(beats_ms) / 1000 > seconds, "the nodes to have been silent", seconds + 8)


def _check_client(client: Client, swarm: Swarm) -> None:
    """Check that the client has every message answered 200, in order, unless it got
    `_resync`; and that it was never disconnected."""
    assert [record for record in client.records.snapshot() if record.kind in ("disconnect", "closed")] == []
    if "_resync" not in client.names():
        for sent in swarm.sent.values():
            eventually(partial(_has, client, sent), f"{sent.answered} at {client}")
            numbers = _numbers(client, sent.name)
            assert numbers == sorted(set(numbers))


def _has(client: Client, sent: Sent) -> bool:
    return set(sent.answered) <= set(_numbers(client, sent.name))


def _numbers(client: Client, publisher: str) -> list[int]:
    found: list[int] = []
    for event in client.events():
        entries = event.args[0] if event.name == "_batch" else [[event.name, *event.args]]
        found += [entry[2] for entry in entries if entry[0] == "n" and entry[1] == publisher]
    return found


def two_nodes(tenant: Tenant, **environment: str) -> Deployment:
    """Two nodes; requests go to the first."""
    deployment = Deployment(load_sites(tenant), environment=environment)
    try:
        deployment.add_node()
    except BaseException:
        deployment.end()
        raise
    return deployment


@pytest.fixture(scope="module")
def shared_deployment(tenant: Tenant) -> Iterator[Deployment]:
    """Two nodes on a Valkey that every test leaves intact."""
    deployment = two_nodes(tenant)
    yield deployment
    deployment.end()


@pytest.fixture
def scene(shared_deployment: Deployment, tenant: Tenant, drivers: Drivers) -> Scene:
    """The two nodes and their Valkey."""
    return Scene(shared_deployment, tenant, drivers, [shared_deployment.redis])


@pytest.fixture
def valkey(shared_deployment: Deployment) -> Valkey:
    """Their Valkey."""
    return shared_deployment.redis


def test_restart(scene: Scene, valkey: Valkey, tell: Callable[[str], None]) -> None:
    """Redis is killed and started again, twice."""
    with scene.sending() as swarm:
        for _ in range(2):
            valkey.kill()
            scene.wait_refused()
            valkey.start()
            eventually(lambda: scene.is_sent(SITE), "Redis to be found again", 60)
    tell(swarm.story())


def test_outage(scene: Scene, valkey: Valkey, is_long: bool, tell: Callable[[str], None]) -> None:
    """Redis is away for longer than a node may be silent: afterwards the nodes do not take each other for dead."""
    with scene.sending() as swarm:
        beats: Any = valkey.client.zrange(NODES, 0, -1, withscores=True)
        valkey.kill()
        _wait_for_silence([beat_ms for _, beat_ms in beats], DEAD_AFTER_SECONDS * (3 if is_long else 1) + 1)
        scene.wait_refused()
        valkey.start()
    tell(swarm.story())


def test_full(scene: Scene, valkey: Valkey) -> None:
    """Redis's memory is full, and its policy forbids eviction."""
    with scene.sending() as swarm:
        valkey.client.config_set("maxmemory", 1)
        scene.wait_refused()
        _wait_for_refusals(swarm)
        valkey.client.config_set("maxmemory", 0)


def test_too_few_replicas(scene: Scene, valkey: Valkey) -> None:
    """Redis refuses every write, acks too, because it lacks its required replicas: the node keeps the acks."""
    with scene.sending() as swarm:
        valkey.client.config_set("min-replicas-to-write", 1)
        scene.wait_refused()
        _wait_for_refusals(swarm)
        valkey.client.config_set("min-replicas-to-write", 0)


def test_read_only(scene: Scene, valkey: Valkey) -> None:
    """The one address leads to a replica for a while."""
    with scene.sending() as swarm:
        valkey.client.replicaof("127.0.0.1", "1")
        scene.wait_refused()
        _wait_for_refusals(swarm)
        valkey.client.replicaof("NO", "ONE")


def test_busy(scene: Scene, valkey: Valkey) -> None:
    """A foreign script runs without end, until it is killed."""
    valkey.client.config_set("busy-reply-threshold", 500)
    with scene.sending() as swarm, ThreadPoolExecutor(1) as pool:
        endless = pool.submit(valkey.client.eval, "while true do end", 0)
        scene.wait_refused()
        _wait_for_refusals(swarm)
        valkey.client.script_kill()
        assert isinstance(endless.exception(10), redis.ResponseError)
    valkey.client.config_set("busy-reply-threshold", 5000)


def test_forgotten_scripts(scene: Scene, valkey: Valkey) -> None:
    """The script cache is flushed repeatedly."""
    with scene.sending() as swarm:
        for _ in range(15):
            valkey.client.script_flush()
            _wait_for_more(swarm, 1)


def test_slow_script(scene: Scene, valkey: Valkey) -> None:
    """Redis is blocked for most of a second: sends wait, and none is refused."""
    with scene.sending() as swarm:
        for _ in range(3):
            valkey.hold_up(0.4)
            _wait_for_more(swarm, 3)
    assert [sent.refused for sent in swarm.sent.values()] == [[], [], []]


def test_far_away(tenant: Tenant, drivers: Drivers, background: BackgroundLoop) -> None:
    """Redis answers 0.3 s late, and its connections break in between: sends wait, and the links are made again."""
    with running_valkey() as server:
        proxy = TcpProxy(background, server.url)
        deployment = two_nodes(tenant, REDIS_URL=proxy.redis_url)
        try:
            scene = Scene(deployment, tenant, drivers, [server])
            with scene.sending() as swarm:
                proxy.delay(0.15)
                _wait_for_more(swarm)
                refused = sum(len(sent.refused) for sent in swarm.sent.values())
                proxy.cut()
                eventually(lambda: scene.is_sent(SITE), "Redis to be found again", 60)
                proxy.delay(0)
            assert refused == 0
        finally:
            deployment.end()
            proxy.end()


def test_sentinels_fail_over(tenant: Tenant, drivers: Drivers, tell: Callable[[str], None]) -> None:
    """The primary behind Sentinels is killed: the nodes follow to its replica."""
    with replicated_valkey() as replicated:
        deployment = two_nodes(tenant, REDIS_URL=replicated.url)
        try:
            scene = Scene(deployment, tenant, drivers, list(replicated.servers.values()))
            with scene.sending() as swarm:
                replicated.primary.kill()
                scene.wait_refused()
                eventually(lambda: scene.is_sent(SITE), "the replica to take over", 60)
            assert replicated.is_primary(replicated.replica)
            tell(swarm.story())
        finally:
            deployment.end()


def test_shard_fails_over(tenant: Tenant, drivers: Drivers, tell: Callable[[str], None]) -> None:
    """One of three shards of a Cluster is killed: the nodes follow to its replica; sites on other shards go on."""
    with valkey_cluster(replicas=3) as cluster:
        deployment = two_nodes(tenant, REDIS_URL=cluster.url)
        try:
            scene = Scene(deployment, tenant, drivers, list(cluster.servers.values()))
            home = cluster.port_of(prefix(SITE))
            assert cluster.port_of(prefix(OTHER_SITE)) != home
            with scene.sending() as swarm:
                cluster.servers[home].kill()
                scene.wait_refused()
                for _ in range(20):
                    assert scene.is_sent(OTHER_SITE)
                eventually(lambda: scene.is_sent(SITE), "the replica to take over", 60)
            assert cluster.port_of(prefix(SITE)) != home
            tell(swarm.story())
        finally:
            deployment.end()
