"""Clients 1.0 to 4.8 in Chromium, as pages load them: every version with every transport that it has."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from app.socketio.repeats import FREE
from tests.support.browser import Browser
from tests.support.bundles import TRANSPORTS, VERSIONS, OldClient, fetch_bundles
from tests.support.deployment import Deployment
from tests.support.sites import contract_sites
from tests.support.tenant import SECRET, Tenant, User
from tests.support.waiting import eventually

OpenClient = Callable[..., OldClient]
TEXT = "größe 😀"
#: 3.x and 4.x have no JSONP.
CASES = [(version, way) for version in VERSIONS for way in TRANSPORTS if way != "JSONP" or version < "3"]
#: One version for each way of reading polls.
ONE_OF_EACH_READER = ("1.0.6", "1.3.7", "1.4.8", "1.7.4", "2.5.0", "4.8.4")
#: A client waits for a second before it tries again.
MAX_ATTEMPTS = 10
#: Left alone the client makes some 600 handshakes in this time.
MOST_IN_2_S = 20
UNREADABLE = """
performance.setResourceTimingBufferSize(10000);
XMLHttpRequest.prototype.getResponseHeader = () => "text/plain";
0
"""


@pytest.fixture(scope="module", autouse=True)
def bundles() -> None:
    """The clients, fetched."""
    fetch_bundles()


@pytest.fixture(scope="module")
def server(tenant: Tenant) -> Iterator[Deployment]:
    """One node."""
    sites = {"alpha": contract_sites(tenant)["alpha"], "messages": {"apiKey": f"{SECRET}-key", "redisPublish": {}}}
    deployment = Deployment(sites)
    yield deployment
    deployment.end()


@pytest.fixture
def open_client(server: Deployment, browser: Browser) -> Iterator[OpenClient]:
    """Opens pages in which a user's client begins to connect; closed at the end of the test."""
    opened: list[OldClient] = []

    def open_client(version: str, transport: str, user: User, before: str = "0") -> OldClient:
        client = OldClient(browser, server.url, version)
        opened.append(client)
        client.page.evaluate(before)
        client.connect(f"{server.url}/alpha?token={user.token}&deviceId=d1", TRANSPORTS[transport])
        return client

    yield open_client
    for client in opened:
        client.close()


@pytest.mark.shows("Sites", "connect, events, acknowledgement, replay")
@pytest.mark.parametrize(("version", "transport"), CASES)
def test_client(server: Deployment, tenant: Tenant, open_client: OpenClient, version: str, transport: str) -> None:
    """The client connects with one handshake, gets events, acknowledges them, and has the others replayed."""
    user = tenant.user()
    first = open_client(version, transport, user)
    assert first.wait("_settings")[0]["device_ttl"] > 0
    server.send("alpha", user.room, "kept", {"text": TEXT})
    server.send("alpha", user.room, "news", TEXT, 2)
    assert first.wait("kept") == [{"text": TEXT}]
    assert first.wait("news") == [TEXT, 2]
    assert first.handshakes() == (transport != "WebSocket")
    first.wait_transport("polling" if transport in ("polling", "JSONP") else "websocket")
    assert first.page.complaints() == []
    first.leave() if transport == "JSONP" else first.disconnect()
    server.send("alpha", user.room, "news", "meanwhile")
    second = open_client(version, transport, user)
    assert second.wait("_batch") == [[["kept", {"text": TEXT}], ["news", "meanwhile"]]]
    server.send("alpha", user.room, "news", "live")
    assert second.wait("news") == ["live"]
    names = [name for name, *_ in second.seen()]
    assert names == ["connect", "_settings", "_batch", "news"]


@pytest.mark.shows("Sites", "replay of 300 KB", transport="polling")
@pytest.mark.parametrize("version", ONE_OF_EACH_READER)
def test_large_replay(server: Deployment, tenant: Tenant, open_client: OpenClient, version: str) -> None:
    """A replay is read over polling whatever its size is."""
    user = tenant.user()
    first = open_client(version, "polling", user)
    first.wait("_settings")
    first.disconnect()
    large = "x" * 300_000
    server.send("alpha", user.room, "news", large)
    assert open_client(version, "polling", user).wait("_batch") == [[["news", large]]]


@pytest.mark.shows("Sites", "restart of the server", transport="default")
@pytest.mark.parametrize("version", ONE_OF_EACH_READER)
def test_server_restart(server: Deployment, tenant: Tenant, open_client: OpenClient, version: str) -> None:
    """A client whose server was killed comes back by itself, without a storm of handshakes, and has its replay."""
    user = tenant.user()
    client = open_client(version, "default", user)
    client.wait("_settings")
    client.wait_transport("websocket")
    server.send("alpha", user.room, "kept", 1)
    client.wait("kept")
    server.kill()
    server.start()
    assert client.wait("_batch") == [[["kept", 1]]]
    assert client.handshakes() <= MAX_ATTEMPTS


def test_a_client_that_shakes_hands_for_ever(
    server: Deployment, tenant: Tenant, open_client: OpenClient, tell: Callable[[str], None]
) -> None:
    """A client that cannot read the answers, as behind a proxy that changes their type, is slowed down."""
    client = open_client("1.3.7", "default", tenant.user(), UNREADABLE)
    eventually(lambda: client.handshakes() > FREE / 2, "the client to try again and again", 60)
    eventually(lambda: client.handshakes(newer_than_ms=2_000) < MOST_IN_2_S, "the client to be slowed down", 60)
    tell(f"{client.handshakes()} handshakes, {client.handshakes(newer_than_ms=2_000)} of them in the last 2 s")
    assert client.handshakes() < 2 * FREE


@pytest.mark.shows("Redis PUBLISH", "connect, events, replay", transport="default")
@pytest.mark.parametrize("version", ["1.3.5"])
def test_page_of_redis_publish(server: Deployment, tenant: Tenant, browser: Browser, version: str) -> None:
    """The client that RedMessenger's own page loads gets the messages that waited, and live ones."""
    user, redis = tenant.unique("user"), server.redis.client
    redis.set(f"rm:users:{user}:key", SECRET)
    redis.publish(f"rm.users.{user}", TEXT)
    eventually(lambda: redis.llen(f"rm:users:{user}:messages"), "the message to wait")
    client = OldClient(browser, server.url, version)
    client.connect(f"{server.url}/messages", TRANSPORTS["default"])
    client.page.evaluate(f"socket.on('connect', () => socket.emit('identifier', '{user}:{SECRET}')); 0")
    assert client.wait("message")[0]["payload"] == TEXT
    redis.publish(f"rm.users.{user}", "live")
    assert client.wait("message", nth=2)[0]["payload"] == "live"
    client.close()
