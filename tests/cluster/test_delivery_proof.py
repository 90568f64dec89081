"""Promise 8 under kills: the journal says of each delivery what its queue holds and what its device saw."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from app.journal.streams import stream_of
from app.store.keys import prefix
from tests.support.deployment import Deployment
from tests.support.fate_proof import FateProof, queues_of, read_journal
from tests.support.option_publisher import OptionPublisher, Wish
from tests.support.postgres import Postgres, running_postgres
from tests.support.processes import kill, writers_of
from tests.support.sites import load_sites
from tests.support.swarm import Swarm
from tests.support.tenant import Tenant, User
from tests.support.waiting import eventually
from tests.support.witness import Downtime, Witness, add_witness

SITE = "one"
_DEVICES = ("desk", "phone")


class Scene:
    """Two nodes with a journal, their devices and publishers, and the faults. Lives for one test."""

    def __init__(self, cluster: Deployment, database: Postgres | None, swarm: Swarm, chance: random.Random) -> None:
        """`database` may be killed; None: it is a file."""
        self.cluster = cluster
        self.downtimes: list[Downtime] = []
        self.kills = 0
        self.witnesses: list[Witness] = []
        self.publisher = OptionPublisher(swarm, SITE, cluster.key(SITE), self.node_url)
        self._database = database
        self._swarm = swarm
        self._chance = chance

    def node_url(self) -> str:
        """The URL of any node that is there."""
        listed = [node.url for node in self.cluster.nodes if node.is_listed]
        return self._chance.choice(listed or [self.cluster.nodes[0].url])

    def add(self, user: User) -> None:
        """Add the devices of a user, each with a patience of its own."""
        for device in _DEVICES:
            patience = self._chance.choice([self._prompt, self._prompt, self._late])
            self.witnesses.append(add_witness(self._swarm, SITE, user, device, patience, self.node_url))

    def silence(self, witnesses: Sequence[Witness]) -> None:
        """These devices acknowledge nothing."""
        for witness in witnesses:
            witness.patience = _never

    @property
    def acknowledging(self) -> list[Witness]:
        """The devices that are there and acknowledge."""
        return [one for one in self.witnesses if one.returns and one.patience is not _never]

    def break_something(self) -> None:
        """Kill one process of a random kind, start it again after a while."""
        faults: list[Callable[[], None]] = [self._kill_node, self._kill_writers, self._kill_redis]
        if self._database:
            faults.append(self._kill_database)
        for fault in self._chance.sample(faults, len(faults)):
            fault()
            self.kills += 1
            self._pause()

    def settle(self) -> None:
        """Wait until no device that acknowledges has anything to do, and the journal has everything."""
        client = self.cluster.redis.client
        names = {(one.room, one.identity.device) for one in self.acknowledging}

        def is_drained() -> bool:
            queues = queues_of(self.cluster.redis, SITE)
            return not any(queues[name] for name in names) and client.zcard(prefix(SITE) + "ttl") == 0

        self._swarm.wait_ready([one for one in self.witnesses if one.returns])
        eventually(is_drained, "the last acks", 60, 0.2)
        eventually(lambda: client.xlen(stream_of(SITE)) == 0, "the journal", 60, 0.2)

    def _kill_node(self) -> None:
        node = self._chance.choice(self.cluster.nodes)
        node.kill()
        self._pause()
        node.start()

    def _kill_writers(self) -> None:
        for node in self.cluster.nodes:
            for writer in writers_of(node.server):
                kill(writer)

    def _kill_redis(self) -> None:
        since = time.time()
        self.cluster.redis.kill()
        self._pause()
        self.cluster.redis.start()
        for node in self.cluster.nodes:
            eventually(lambda node=node: node.get("/readyz").status_code == 200, "Redis to be found", 60)  # type: ignore[misc]
        self.downtimes.append(Downtime(since, time.time()))

    def _kill_database(self) -> None:
        assert self._database
        self._database.kill()
        self._pause()
        self._database.start()

    def _pause(self) -> None:
        expected = self.publisher.begun + self._chance.randrange(4, 24)
        eventually(lambda: self.publisher.begun >= expected or self.publisher.is_stuck, "messages", 60)

    def _prompt(self) -> float | None:
        return 0.0

    def _late(self) -> float | None:
        return self._chance.choice((0.0, 0.0, 0.5, 1.5))


def _never() -> float | None:
    return None


@pytest.fixture(params=["postgres", "sqlite"])
def scene(
    request: pytest.FixtureRequest, tenant: Tenant, chance: random.Random, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Scene, Swarm, str]]:
    """Two nodes whose journal is in PostgreSQL or in SQLite, with the URL of the database."""
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(running_postgres()) if request.param == "postgres" else None
        url = database.new_database() if database else f"sqlite:///{tmp_path_factory.mktemp('journal')}/journal.sqlite"
        cluster = Deployment(load_sites(tenant), nodes=2, environment={"DATABASE_URL": url})
        stack.callback(cluster.end)
        swarm = stack.enter_context(Swarm(cluster, SITE))
        yield Scene(cluster, database, swarm, chance), swarm, url


@pytest.mark.timeout(300)
def test_the_journal_agrees_with_devices_and_queues(
    scene: tuple[Scene, Swarm, str],
    tenant: Tenant,
    chance: random.Random,
    is_long: bool,
    tell: Callable[[str], None],
) -> None:
    """Under kills of nodes, writers, Redis and the database each accepted message has one fate for each of its devices,
    and neither the device nor its queue contradicts it."""
    stage, swarm, url = scene
    room = tenant.unique("room")
    users = [tenant.user(room) for _ in range(100 if is_long else 15)]
    for user in users:
        stage.add(user)
    stage.silence(chance.sample(stage.witnesses, len(stage.witnesses) // 20 + 1))
    swarm.board()
    ends_at = time.monotonic() + (60 if is_long else 10)
    wishes = _Wishes(chance, room, users)
    with stage.publisher.publishing(wishes.choose, publishers=4, per_second=8), swarm.jitter(8, 0.5, chance):
        while time.monotonic() < ends_at:
            stage.break_something()
            swarm.each(Witness.leave, chance.sample(stage.witnesses, 2))
    stage.settle()
    journal = asyncio.run(read_journal(url))
    queues = queues_of(stage.cluster.redis, SITE)
    proof = FateProof(journal, queues, stage.witnesses, stage.publisher, stage.downtimes)
    found = proof.contradictions()
    tell(f"{len(found)} contradictions in {proof.story()}; {stage.kills} kills")
    assert found == [], "\n".join(found[:20])
    assert len(journal.deliveries) > 1_000


class _Wishes:
    """The mix of messages. Lives for one test."""

    def __init__(self, chance: random.Random, room: str, users: Sequence[User]) -> None:
        self._chance = chance
        self._room = room
        self._users = users

    def choose(self) -> Wish:
        """A message to all or to a user, with options or without."""
        chance = self._chance
        room = self._room if chance.random() < 0.85 else chance.choice(self._users).room
        mixes: list[dict[str, Any]] = [
            {},
            {},
            {"ttl": chance.randint(1, 4)},
            {"collapse": f"key{chance.randrange(3)}"},
            {"settle": "user"},
            {"ttl": chance.randint(1, 4), "collapse": "key0", "settle": "user"},
        ]
        return Wish(
            (room,), chance.choice(mixes), is_withdrawn=chance.random() < 0.05, is_resync=chance.random() < 0.05
        )
