"""The answers of a node to operators, on a node without sockets."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any

import msgspec
import pytest

from app.config.settings import CANARY_SITE
from app.core.live import ConnectionFacts, LiveConnection, LiveRow, Measures
from app.node import control as module
from app.node.control import ENDED_BY_OPERATOR, Control, NodeParts
from app.node.supervisor_door import SupervisorDoor, Wish
from app.node.worker_slot import WorkerSlot
from app.observe.counts import Counts
from app.observe.health import Health
from app.observe.log import log_level, set_log_level
from app.redis.client import Redis
from app.store.keys import NODES
from app.store.node_calls import CallRefused, NodeCalls
from app.store.node_facts import living_nodes
from tests.support.valkey import Valkey
from tests.support.waiting import until


class Open:
    """An open connection. Lives for one test."""

    def __init__(self, number: int, user: str = "u", is_in: bool = True) -> None:
        self.live_id = str(number)
        self.facts = ConnectionFacts(user, "d", "192.0.2.1", "", "", None, number) if is_in else None
        self.ended: list[str] = []

    def measures(self) -> Measures:
        """The same ever."""
        return Measures("websocket", 1, 2, 3)

    def disconnect(self, reason: str) -> None:
        """Note the reason."""
        self.ended.append(reason)


class Lister:
    """A protocol. Lives for one test."""

    def __init__(self, **sites: list[Open]) -> None:
        self.sites = sites

    def live(self, site: str) -> Iterator[LiveConnection]:
        """The ones of the site."""
        return iter(self.sites.get(site, []))


@pytest.fixture
def folder() -> Iterator[str]:
    """A folder for the sockets of siblings."""
    made = tempfile.mkdtemp(prefix="recado-")
    yield made
    shutil.rmtree(made)


class Case:
    """A node's control. Lives for one test."""

    def __init__(self, redis: Redis, slot: WorkerSlot, **listers: Lister) -> None:
        self.counts = Counts(["a", "b"])
        self.health = Health({})
        self.control = Control(NodeParts(redis, "n1", self.counts, self.health, slot, listers, NodeCalls(redis, "n1")))

    async def ask(self, verb: str, given: Any = None) -> Any:
        """The answer of a handler, as JSON makes it."""
        read = msgspec.json.decode(msgspec.json.encode(given))
        return msgspec.to_builtins(await self.control.calls.handlers[verb](read))


@pytest.fixture
async def case(redis: Redis, folder: str) -> AsyncIterator[Case]:
    """A node that is alone, with two protocols."""
    first = [Open(number, "u" if number % 2 else "v") for number in range(10)]
    one = Case(redis, WorkerSlot(folder), sites=Lister(a=[*first, Open(99, is_in=False)]), other=Lister(b=[Open(5)]))
    yield one
    await one.control.close()


async def test_connections_are_listed_newest_first(case: Case) -> None:
    """A page has the newest connections of all protocols, behind the one before it; filters are the node's work."""

    async def ids(**given: Any) -> list[str]:
        rows = msgspec.convert(await case.ask("connections", given), list[LiveRow])
        return [f"{row.site}{row.id}" for row in rows]

    assert await ids(limit=3) == ["a9", "a8", "a7"]
    assert await ids(limit=100) == ["a9", "a8", "a7", "a6", "a5", "b5", "a4", "a3", "a2", "a1", "a0"]
    assert await ids(limit=100, site="b") == ["b5"]
    assert await ids(limit=2, site="a", user="v") == ["a8", "a6"]
    rows = msgspec.convert(await case.ask("connections", {"limit": 5}), list[LiveRow])
    assert await ids(limit=3, behind=rows[-1].place) == ["b5", "a4", "a3"]
    assert (rows[0].node, rows[0].protocol, rows[0].measures.bytes_written) == ("n1", "sites", 2)
    # Never none and never endless.
    assert len(await ids(limit=-5)) == 1
    with pytest.raises(msgspec.ValidationError):
        await ids(limit="many")


async def test_the_hidden_site_is_hidden(redis: Redis, folder: str) -> None:
    """The connections of the canary are no operator's business."""
    case = Case(redis, WorkerSlot(folder), sites=Lister(**{CANARY_SITE: [Open(1)]}))
    case.counts.of(CANARY_SITE)
    assert await case.ask("connections", {"limit": 5}) == []
    assert await case.ask("disconnect", {"site": CANARY_SITE, "protocol": "sites", "id": "1"}) is False


async def test_a_connection_is_ended(redis: Redis, folder: str) -> None:
    """The one that is named is told to leave; one that is gone, or of no such protocol, is none."""
    connections = [Open(number) for number in range(1_200)]
    case = Case(redis, WorkerSlot(folder), sites=Lister(a=connections))
    assert await case.ask("disconnect", {"site": "a", "protocol": "sites", "id": "1100"}) is True
    assert [one.live_id for one in connections if one.ended] == ["1100"]
    assert connections[1_100].ended == [ENDED_BY_OPERATOR]
    assert await case.ask("disconnect", {"site": "a", "protocol": "sites", "id": "7777"}) is False
    assert await case.ask("disconnect", {"site": "a", "protocol": "none", "id": "1"}) is False


async def test_facts_of_the_process(case: Case, valkey: Valkey, redis: Redis) -> None:
    """The node shows itself with its load, and a node that drains as draining."""
    valkey.client.zadd(NODES, {"n1": 1})
    case.counts.of("a").connections = 4
    case.counts.sessions = lambda: 6
    case.control.start()
    found = await until(lambda: valkey.client.get("recado:facts:n1"), "the facts")
    assert found
    (facts,) = await living_nodes(redis)
    assert (facts.connections, facts.sessions, facts.worker, facts.workers, facts.is_supervised) == (4, 6, 0, 1, False)
    assert facts.memory_bytes > 1_000_000
    assert 0 <= facts.cpu < 64
    assert facts.state == "ready"
    assert facts.versions["Python"]
    case.health.start_draining()
    assert case.control._gather().state == "draining"
    await case.control.close()
    assert valkey.client.get("recado:facts:n1") is None


async def test_a_node_that_is_not_ready(redis: Redis, folder: str) -> None:
    """A node with a check that fails says so."""
    health = Health({"redis": lambda: False})
    control = Control(NodeParts(redis, "n1", Counts(), health, WorkerSlot(folder), {}, NodeCalls(redis, "n1")))
    assert control._gather().state == "not ready"


async def test_the_log_level(case: Case) -> None:
    """The level changes, and a word that is none is refused."""
    before = log_level()
    try:
        assert await case.ask("log_level", {"level": "debug"}) == "debug"
        assert log_level() == "debug"
        with pytest.raises(msgspec.ValidationError):
            await case.ask("log_level", {"level": "loud"})
    finally:
        set_log_level(before)


async def test_the_end_of_a_server_of_one_process(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """It obeys as a signal is obeyed, once the answer had the time to leave; it cannot be restarted, and has no
    workers."""
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    monkeypatch.setattr(module, "_END_AFTER_SECONDS", 0.01)
    assert await case.ask("end", {"how": "drain"}) == "ends"
    assert sent == []
    await until(lambda: sent, "the signal")
    assert sent == [(os.getpid(), signal.SIGTERM)]
    assert await case.ask("end", {"how": "now"}) == "ends"
    await until(lambda: len(sent) == 2, "the second signal")
    assert sent[1][1] == signal.SIGINT
    for verb, given in (("end", {"how": "restart"}), ("workers", {"verb": "resize", "number": 3})):
        with pytest.raises(CallRefused):
            await case.ask(verb, given)


async def test_the_end_of_a_worker(redis: Redis, folder: str) -> None:
    """A worker leaves its end to the supervisor, and passes other wishes on."""
    wishes: list[Wish] = []

    def obey(wish: Wish) -> str:
        wishes.append(wish)
        return "3 workers"

    door = SupervisorDoor(folder, obey)
    await door.start()
    try:
        case = Case(redis, WorkerSlot(folder, 2, 4))
        for how in ("drain", "now", "restart"):
            assert await case.ask("end", {"how": how}) == "3 workers"
        assert await case.ask("workers", {"verb": "resize", "number": 3}) == "3 workers"
    finally:
        await door.close()
    assert wishes == [Wish("stop", 2), Wish("stop", 2, at_once=True), Wish("restart", 2), Wish("resize", 3)]
    with suppress(CallRefused):
        await case.ask("workers", {"verb": "roll"})
        raise AssertionError("a door that is closed has answered")
