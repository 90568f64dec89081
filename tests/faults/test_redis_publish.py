"""Redis PUBLISH on each form of an application's Redis (another, embedded, a Cluster), and failures of that Redis."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis

from tests.support.connector import Drivers
from tests.support.deployment import Deployment
from tests.support.ports import HOST
from tests.support.publish import Application, messages, payloads, wait_payloads
from tests.support.store import running_valkey
from tests.support.topologies import valkey_cluster
from tests.support.waiting import eventually

SITE: dict[str, Any] = {"apiKey": "k", "redisPublish": {}}
Make = Callable[[Any], Application]


@pytest.fixture
def application(drivers: Drivers) -> Iterator[Make]:
    """Makes the application of the site `news` of a deployment, with its own Redis client."""
    made: list[Application] = []

    def make(client: Any) -> Application:
        made.append(Application(client, drivers, "news", "rm"))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Ends what a test starts, in reverse order."""
    with ExitStack() as stack:
        yield stack


def started(stack: ExitStack, *arguments: Any, **settings: Any) -> Deployment:
    """A deployment that ends with the test."""
    deployment = Deployment(*arguments, **settings)
    stack.callback(deployment.end)
    return deployment


def wait_owned(news: Application) -> None:
    """Wait until a node listens to the application."""
    user = news.user()

    def is_queued() -> bool:
        # (In a Cluster PUBLISH counts only the clients of the server that received it.)
        news.publish(user, "x")
        return bool(news.waiting(user))

    eventually(is_queued, "an owner of the subscription", 60)


def check(news: Application, deployment: Deployment) -> None:
    """Check that queued, live, stream and channel messages each arrive once."""
    wait_owned(news)
    user = news.user()
    news.publish(user, "waited")
    news.wait_queued(user, "waited")
    client = news.connect(deployment, user)
    news.publish(user, "live")
    wait_payloads(client, ["waited", "live"])
    news.add(user, "streamed", id="1")
    news.add(user, "streamed again", id="1")
    wait_payloads(client, ["waited", "live", "streamed"])
    news.subscribe("c", user)
    news.publish_to_channel("c", "to all")
    wait_payloads(client, ["waited", "live", "streamed", "to all"])
    news.wait_received(user)
    client.disconnect()
    eventually(lambda: news.connections(user) == 0, "nobody to be there")
    assert news.waiting(user) == []


def test_another_redis(stack: ExitStack, application: Make) -> None:
    """With `url` all keys are in the application's Redis, and none in the server's."""
    with running_valkey() as other:
        deployment = started(stack, {"news": {"apiKey": "k", "redisPublish": {"url": other.url}}})
        check(application(other.client), deployment)
        assert [key for key in deployment.redis.dump() if "rm" in key] == []


def test_another_redis_that_is_away(stack: ExitStack, application: Make) -> None:
    """The server starts without the application's Redis, tells clients to
    reconnect, and works once that Redis is there."""
    with running_valkey(is_durable=True) as other:
        other.kill()
        deployment = started(stack, {"news": {"apiKey": "k", "redisPublish": {"url": other.url}}})
        ready = deployment.get("/readyz")
        assert (ready.status_code, ready.json()["notices"]) == (200, {"redisPublish.url of news": False})
        events = [line["event"] for line in deployment.server.log()]
        assert events.count("redisPublish.url does not answer") == 1
        news = application(other.client)
        client = news.join(deployment, waits=False)
        client.records.wait_for(lambda record: record.kind in ("disconnect", "closed"), "the transport to close", 10)
        other.start()
        check(news, deployment)
        assert deployment.get("/readyz").json()["notices"] == {"redisPublish.url of news": True}


def test_embedded_redis(stack: ExitStack, application: Make) -> None:
    """When no Redis is configured, the embedded one is the application's too: its socket is in the data directory."""
    deployment = started(stack, {"news": SITE}, is_embedded=True)
    client: Any = redis.Redis(unix_socket_path=str(deployment.directory / "data" / "valkey.sock"))
    stack.callback(client.close)
    check(application(client), deployment)


def test_cluster(stack: ExitStack, application: Make) -> None:
    """On a Cluster it works too: each user's keys are on one shard, whichever that is."""
    with valkey_cluster() as cluster:
        deployment = started(stack, {"news": SITE}, environment={"REDIS_URL": cluster.url}, is_embedded=True)
        client: Any = redis.RedisCluster(host=HOST, port=cluster.ports[0])
        stack.callback(client.close)
        news = application(client)
        for _ in range(6):
            check(news, deployment)


def test_restart_of_the_server(stack: ExitStack, application: Make) -> None:
    """After a restart waiting messages still wait, entries added to the stream meanwhile are
    delivered, and nothing is delivered again."""
    deployment = started(stack, {"news": SITE})
    news = application(deployment.redis.client)
    wait_owned(news)
    user = news.user()
    news.publish(user, "before")
    news.wait_queued(user, "before")
    assert deployment.stop() == 0
    news.add(user, "between")
    deployment.start()
    news.wait_queued(user, "before", "between")
    client = news.connect(deployment, user)
    wait_payloads(client, ["before", "between"])
    news.wait_queued(user)
    deployment.kill()
    news.add(user, "later")
    deployment.start()
    second = news.connect(deployment, user)
    wait_payloads(second, ["later"])


@pytest.mark.parametrize("fault", ["killed", "frozen", "emptied"])
def test_redis_away_and_back(stack: ExitStack, application: Make, fault: str) -> None:
    """Clients stay connected while Redis is killed, stopped or loses everything, and hear later messages."""
    deployment = started(stack, {"news": SITE})
    valkey = deployment.redis
    news = application(valkey.client)
    wait_owned(news)
    user = news.user()
    client = news.connect(deployment, user)
    news.publish(user, "before")
    wait_payloads(client, ["before"])
    if fault == "killed":
        valkey.kill()
        valkey.start()
    elif fault == "frozen":
        valkey.suspend()
        eventually(lambda: deployment.get("/readyz").status_code == 503, "the node to notice")
        valkey.resume()
    else:
        valkey.client.flushall()
        valkey.kill()
        valkey.start()
    wait_owned(news)
    eventually(lambda: news.states(user) == ["l"], "the client to be registered", 60)
    news.publish(user, "after")
    news.add(user, "streamed")
    eventually(lambda: len(payloads(client)) == 3, "two more messages")
    assert sorted(payloads(client)) == ["after", "before", "streamed"]
    assert all(message["bubble"] for message in messages(client))


def test_scripts_forgotten(stack: ExitStack, application: Make) -> None:
    """SCRIPT FLUSH has no visible effect."""
    deployment = started(stack, {"news": SITE})
    news = application(deployment.redis.client)
    deployment.redis.client.script_flush()
    check(news, deployment)
