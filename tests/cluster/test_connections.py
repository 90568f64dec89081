"""Connections as operators see them, of every protocol, with real clients: their rows in the journal."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.channels import KEY, Publisher, Subscription
from tests.support.clients import ACK_ALL, ACK_NONE, POLLING, WEBSOCKET, ClientKind
from tests.support.connector import Connector, Drivers
from tests.support.deployment import Deployment
from tests.support.publish import Application
from tests.support.sites import contract_sites
from tests.support.tenant import Tenant
from tests.support.topic_client import TopicBackend
from tests.support.waiting import eventually

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
    eventually(lambda: len(ended(deployment, "user = ?", user.room)) == 1, "the first row", 20)
    node.send(SITE, user.room, "news", 2)
    second = connector(SITE, user, kind, device="phone", ack=ACK_ALL)
    second.wait_event("_batch")
    connector.close()
    eventually(lambda: len(ended(deployment, "user = ?", user.room)) == 2, "the second row", 20)
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
    eventually(lambda: ended(deployment, "protocol = 'channels'"), "the row", 20)
    row = ended(deployment, "protocol = 'channels'")[-1]
    assert (row["messages"], row["replay"], row["transport"], row["reason"]) == (1, 0, "websocket", "client")
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
    eventually(lambda: ended(deployment, "protocol = 'topics'"), "the row", 20)
    row = ended(deployment, "protocol = 'topics'")[-1]
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
    eventually(lambda: ended(deployment, "user = ?", user), "the row", 20)
    (row,) = ended(deployment, "user = ?", user)
    assert (row["protocol"], row["version"], row["transport"], row["messages"]) == (
        "redis_publish",
        "4",
        "websocket",
        1,
    )
    assert row["bytes_written"] > 50
    assert row["connect_ms"] >= 0
