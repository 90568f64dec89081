"""Connections and nodes as operators see them, with real clients of every protocol: the rows of connections that have
ended, open ones asked of their nodes, and commands to nodes."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from app.clock import now_ms, rfc3339
from app.core.live import LiveRow
from app.store.node_calls import values_of
from app.store.node_facts import living_nodes
from tests.support.channels import KEY, Publisher, Subscription
from tests.support.clients import ACK_ALL, ACK_NONE, POLLING, WEBSOCKET, ClientKind
from tests.support.connector import Connector, Drivers
from tests.support.deployment import Deployment
from tests.support.node_caller import NodeCaller, calling
from tests.support.publish import Application
from tests.support.sites import contract_sites
from tests.support.tenant import Tenant
from tests.support.topic_client import TopicBackend
from tests.support.waiting import eventually, until_answer

SITE = "alpha"
_FILE = "journal.sqlite"


@pytest.fixture(scope="module")
def deployment(tenant: Tenant) -> Iterator[Deployment]:
    """Two nodes with a journal, and a site of each protocol."""
    sites = {
        SITE: contract_sites(tenant)[SITE],
        "shop": {"apiKey": KEY, "channels": {}, "topics": {}},
        "news": {"apiKey": KEY, "redisPublish": {}},
    }
    server = Deployment(sites, environment={"DATABASE_URL": f"sqlite:///{_FILE}"}, nodes=2)
    yield server
    server.end()


def ended(deployment: Deployment, where: str, *values: object) -> list[dict[str, Any]]:
    """The rows of connections that have ended, oldest first; none while the journal has no tables."""
    path = Path(deployment.directory) / _FILE
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    try:
        found = connection.execute(f"SELECT * FROM connections WHERE {where} ORDER BY connected_at", values)
        return [dict(row) for row in found]
    except sqlite3.OperationalError:
        return []
    finally:
        connection.close()


@pytest.mark.parametrize("way", [WEBSOCKET, POLLING], ids=["websocket", "polling"])
def test_row_of_a_device(deployment: Deployment, drivers: Drivers, tenant: Tenant, way: tuple[str, ...]) -> None:
    """A row tells the program, the three times, the bytes of both ways, the messages, and those of the replay."""
    node, user = deployment.nodes[0], tenant.user()
    connector = Connector(node, drivers)
    kind = ClientKind("4", way)
    first = connector(SITE, user, kind, device="phone", ack=ACK_NONE)
    node.send(SITE, user.room, "news", "x" * 3_000)
    first.wait_event("news")
    connector.close()
    eventually(lambda: len(ended(deployment, "user = ?", user.room)) == 1, "the first row", 60)
    node.send(SITE, user.room, "news", 2)
    second = connector(SITE, user, kind, device="phone", ack=ACK_ALL)
    second.wait_event("_batch")
    connector.close()
    eventually(lambda: len(ended(deployment, "user = ?", user.room)) == 2, "the second row", 60)
    one, two = ended(deployment, "user = ?", user.room)
    assert (one["protocol"], one["version"], one["transport"], one["device"]) == ("sites", "4", way[0], "phone")
    # On a WebSocket this client names no program.
    assert bool(one["user_agent"]) is (way == POLLING)
    assert (one["messages"], one["replay"], two["messages"], two["replay"]) == (1, 0, 2, 2)
    assert one["bytes_written"] > 3_000
    # The request to join, `40/alpha`, at least.
    assert one["bytes_read"] > 8
    for name in ("connect_ms", "authorise_ms", "sync_ms"):
        assert 0 <= one[name] < 20_000, name
    assert one["connected_at"] <= one["disconnected_at"] <= two["connected_at"]


def test_row_of_a_subscriber(deployment: Deployment, tenant: Tenant) -> None:
    """A subscriber of channels has a row with its pushes and bytes."""
    publisher = Publisher(deployment, "shop")
    channel = tenant.unique("channel")
    publisher.create(channel)
    with Subscription(deployment.nodes[1].url, "shop").subscribe(channel) as subscriber:
        publisher.push(channel, "hello")
        subscriber.pushed()
    mine = "protocol = 'channels' AND reason = 'client' AND messages = 1"
    eventually(lambda: ended(deployment, mine), "the row", 60)
    (row,) = ended(deployment, mine)
    assert (row["replay"], row["transport"], row["address"]) == (0, "websocket", "127.0.0.1")
    assert row["user_agent"].startswith("Python")
    assert row["bytes_read"] > 100
    assert row["bytes_written"] > 100
    assert row["sync_ms"] >= 0


def test_row_of_a_stream(deployment: Deployment, tenant: Tenant) -> None:
    """A stream of topics has a row with its client, its events and bytes."""
    topic = tenant.unique("topic")
    backend = TopicBackend(deployment.nodes[0], "shop")
    with backend.listen(topic, headers={"user-agent": "till/2"}, clid="till") as stream:
        stream.wait(1)
        assert backend.try_emit([topic], "news", 7).status_code == 200
        stream.wait(2)
    mine = "protocol = 'topics' AND device = 'till'"
    eventually(lambda: ended(deployment, mine), "the row", 60)
    (row,) = ended(deployment, mine)
    assert (row["device"], row["transport"], row["messages"]) == ("till", "sse", 1)
    assert row["user_agent"] == "till/2"
    assert row["bytes_written"] > 100
    assert row["address"] == "127.0.0.1"


def test_row_of_a_client_of_redis_publish(deployment: Deployment, drivers: Drivers) -> None:
    """A client that has identified itself has a row with its user and messages."""
    application = Application(deployment.redis.client, drivers, "news", "rm")
    user = application.user()
    client = application.connect(deployment.nodes[0], user, ClientKind("4", WEBSOCKET))
    assert application.publish(user, "hello") >= 1
    client.wait_event("message")
    application.close()
    eventually(lambda: ended(deployment, "user = ?", user), "the row", 60)
    (row,) = ended(deployment, "user = ?", user)
    assert (row["protocol"], row["version"], row["transport"], row["messages"]) == (
        "redis_publish",
        "4",
        "websocket",
        1,
    )
    assert row["bytes_written"] > 50
    assert row["connect_ms"] >= 0


def device_ids(rows: dict[str, list[LiveRow]]) -> list[str]:
    """The devices in the answers of nodes, newest first."""
    found = [row for part in rows.values() for row in part]
    return [row.facts.device for row in sorted(found, key=lambda row: row.place, reverse=True)]


async def nodes_of(caller: NodeCaller, count: int) -> list[str]:
    """The names of the nodes, once so many show themselves."""

    async def shown() -> list[str] | None:
        names = [facts.node for facts in await living_nodes(caller.redis)]
        return names if len(names) == count else None

    return await until_answer(shown, f"{count} nodes", timeout_seconds=60, interval_seconds=0.1) or []


async def live(
    caller: NodeCaller, nodes: Sequence[str], **given: Any
) -> tuple[dict[str, list[LiveRow]], dict[str, str]]:
    """The rows of open connections by node, and why there are none of others."""
    return values_of(await caller.calls.ask_each(nodes, "connections", {"limit": 50, **given}), list[LiveRow])


async def test_open_connections_are_asked_of_their_nodes(
    deployment: Deployment, drivers: Drivers, tenant: Tenant
) -> None:
    """Each node answers with its own, filtered and in pages; one is ended, and its row has the reason."""
    user = tenant.user()
    connectors = [Connector(node, drivers) for node in deployment.nodes]
    async with calling(deployment.redis.url) as caller:
        nodes = await nodes_of(caller, 2)
        kind = ClientKind("4", WEBSOCKET)
        for number, device in enumerate(("one", "two", "three")):
            await asyncio.to_thread(connectors[number % 2], SITE, user, kind, device)
        found, silent = await live(caller, nodes, site=SITE, user=user.room)
        assert (device_ids(found), silent) == (["three", "two", "one"], {})
        assert sorted(len(rows) for rows in found.values()) == [1, 2]
        newest = max((row for rows in found.values() for row in rows), key=lambda row: row.place)
        behind, _ = await live(caller, nodes, user=user.room, behind=newest.place)
        assert device_ids(behind) == ["two", "one"]
        assert (await live(caller, nodes, site="shop", user=user.room))[0] == {name: [] for name in nodes}
        assert newest.measures.transport == "websocket"
        assert (newest.measures.bytes_written or 0) > 100
        assert newest.measures.sync_ms is not None
        leaving = {"site": SITE, "protocol": "sites", "id": newest.id}
        assert msgspec.json.decode(await caller.calls.ask(newest.node, "disconnect", leaving)) is True

        async def is_recorded() -> list[dict[str, Any]]:
            return ended(deployment, "user = ? AND device = 'three'", user.room)

        (row, *_) = await until_answer(is_recorded, "the row", timeout_seconds=60, interval_seconds=0.1)
        assert row["reason"] == "ended by an operator"
    for connector in connectors:
        connector.close()


async def test_open_connections_of_other_protocols(deployment: Deployment, drivers: Drivers, tenant: Tenant) -> None:
    """Subscribers and streams are listed with their own, and may be ended."""
    backend = TopicBackend(deployment.nodes[0], "shop")
    async with calling(deployment.redis.url) as caller:
        nodes = await nodes_of(caller, 2)
        with Subscription(deployment.nodes[0].url, "shop") as subscriber, backend.subscribe("weather") as stream:
            await asyncio.to_thread(stream.wait, 1)
            found, _ = await live(caller, nodes, site="shop")
            rows = {row.protocol: row for part in found.values() for row in part}
            assert rows["channels"].id == subscriber.uuid
            assert (rows["channels"].measures.bytes_written or 0) > 100
            assert (rows["topics"].id, rows["topics"].measures.transport) == (str(stream.number), "frames")
            for row in rows.values():
                leaving = {"site": "shop", "protocol": row.protocol, "id": row.id}
                assert msgspec.json.decode(await caller.calls.ask(row.node, "disconnect", leaving)) is True
            assert await asyncio.to_thread(subscriber.closed) == (1012, "ended by an operator")
            assert await asyncio.to_thread(stream.ended.wait, 10)


async def test_a_node_that_hangs(deployment: Deployment) -> None:
    """A node that is stopped is told of within its time, and the other one has answered; it is shown no more soon."""
    async with calling(deployment.redis.url, answer_seconds=3) as caller:
        nodes = await nodes_of(caller, 2)
        deployment.nodes[1].suspend()
        try:
            begun = asyncio.get_running_loop().time()
            found, silent = await live(caller, nodes)
            assert asyncio.get_running_loop().time() - begun < 20
            assert (len(found), len(silent)) == (1, 1)
            await nodes_of(caller, 1)
        finally:
            deployment.nodes[1].resume()
        assert sorted(await nodes_of(caller, 2)) == sorted(nodes)


async def test_a_node_is_told_to_end(deployment: Deployment, drivers: Drivers, tenant: Tenant) -> None:
    """Its clients are told to leave, it ends with status 0, and is shown no more; a log level changes at once."""
    node, user = deployment.add_node(), tenant.user()
    try:
        async with calling(deployment.redis.url) as caller:
            before = await nodes_of(caller, 3)
            connector = Connector(node, drivers)
            client = await asyncio.to_thread(connector, SITE, user, ClientKind("4", WEBSOCKET))
            found, _ = await live(caller, before, user=user.room)
            (name,) = (row.node for rows in found.values() for row in rows)
            assert msgspec.json.decode(await caller.calls.ask(name, "log_level", {"level": "error"})) == "error"
            changed_at = rfc3339(now_ms())
            assert msgspec.json.decode(await caller.calls.ask(name, "end", {"how": "drain"})) == "ends"
            assert await asyncio.to_thread(node.server.wait, 20) == 0
            await asyncio.to_thread(client.wait_disconnected)
            connector.close()
            assert name not in await nodes_of(caller, 2)
            # The writer of the journal is a process of its own, and may begin late.
            lines = [line for line in node.server.log() if line.get("logger") != "app.node.journal_process"]
            late = [line for line in lines if line.get("timestamp", "") > changed_at]
            assert [line for line in late if line.get("level") in ("info", "warning")] == []
    finally:
        deployment.nodes.remove(node)
        node.end()
