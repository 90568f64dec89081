"""The bus breaks, is silent, or is dropped by Redis while messages are sent: each client gets every message once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from tests.support.background import BackgroundLoop
from tests.support.clients import Client
from tests.support.connector import Connector, Drivers, numbers
from tests.support.deployment import Deployment, Node
from tests.support.metrics import Figures
from tests.support.sites import contract_sites
from tests.support.tcp_proxy import TcpProxy
from tests.support.tenant import Tenant
from tests.support.waiting import eventually

CUTS = 5
#: Longer than the node tolerates a silent bus.
NOTICED_WITHIN_SECONDS = 20.0
PADDING = "x" * 5_000


@pytest.fixture
def deployment(tenant: Tenant) -> Iterator[Deployment]:
    """One node that accepts the messages."""
    deployment = Deployment(contract_sites(tenant))
    yield deployment
    deployment.end()


@pytest.fixture
def proxy(background: BackgroundLoop, deployment: Deployment) -> Iterator[TcpProxy]:
    """A proxy to the deployment's Redis."""
    proxy = TcpProxy(background, deployment.redis.url)
    yield proxy
    proxy.end()


class Listeners:
    """Clients on one node, of a site with queues and of one without. Live for one test; `close` ends them."""

    def __init__(self, node: Node, drivers: Drivers, tenant: Tenant, sender: Deployment) -> None:
        """Connect the clients; messages are sent over `sender`."""
        self.node = node
        self._sender = sender
        self._connector = Connector(node, drivers)
        self._room = tenant.unique("room")
        users = [tenant.user(self._room) for _ in range(3)]
        self.clients = [self._connector("alpha", user) for user in users]
        self._plain: list[Client] = [self._connector("plain", users[0])]
        self.sent = 0

    def send(self, *padding: str) -> None:
        """Send the next number to the clients of the site with queues."""
        self._sender.send("alpha", self._room, "n", self.sent, *padding)
        self.sent += 1

    def check_complete(self) -> None:
        """Check that each number arrived once, in order, over the connections opened at the start."""
        self.send()
        for client in self.clients:
            eventually(lambda client=client: len(numbers(client)) >= self.sent, "all messages", 60)  # type: ignore[misc]
            assert numbers(client) == list(range(self.sent))
            assert "_batch" not in client.names()

    def check_plain(self) -> None:
        """Check that the client without a queue hears new messages; missed ones are lost to it."""
        (plain,) = self._plain

        def is_heard() -> bool:
            self._sender.send("plain", self._room, "again")
            return "again" in plain.names()

        eventually(is_heard, "the rooms to be joined again", interval_seconds=0.1)

    def interruptions(self) -> float:
        """How often the node has subscribed to the bus again."""
        return Figures(self.node)("recado_bus_interruptions_total")

    def close(self) -> None:
        """End the clients."""
        self._connector.close()


@pytest.mark.parametrize("cut", ["bus", "all"])
def test_cut_while_sending(deployment: Deployment, proxy: TcpProxy, drivers: Drivers, tenant: Tenant, cut: str) -> None:
    """The bus alone, or all connections to Redis, are cut repeatedly while messages are sent to another node."""
    node = deployment.add_node(REDIS_URL=proxy.redis_url)
    listeners = Listeners(node, drivers, tenant, deployment)
    enough = threading.Event()

    def send() -> None:
        while not enough.is_set():
            listeners.send()

    sender = threading.Thread(target=send)
    sender.start()
    for count in range(1, CUTS + 1):
        if cut == "bus":
            # This kills the subscriptions of all nodes, also of the node that accepts the messages.
            deployment.redis.client.client_kill_filter(_type="pubsub")
        else:
            proxy.cut()
        eventually(lambda count=count: listeners.interruptions() >= count, "a new subscription")  # type: ignore[misc]
        before = listeners.sent
        eventually(lambda before=before: listeners.sent > before + 20, "messages behind it")  # type: ignore[misc]
    enough.set()
    sender.join()
    listeners.check_complete()
    listeners.check_plain()
    listeners.close()


def test_silent_bus(deployment: Deployment, proxy: TcpProxy, drivers: Drivers, tenant: Tenant) -> None:
    """A subscription that delivers nothing makes the node not ready within seconds, and the node subscribes again."""
    node = deployment.add_node(REDIS_URL=proxy.redis_url)
    listeners = Listeners(node, drivers, tenant, deployment)
    listeners.send()
    eventually(lambda: all(numbers(client) == [0] for client in listeners.clients), "the first message")
    proxy.freeze_subscriptions()
    began = time.monotonic()

    def checks() -> dict[str, bool]:
        return dict(node.get("/readyz").json()["checks"])

    eventually(lambda: not checks()["bus"], "the silence to be noticed", NOTICED_WITHIN_SECONDS)
    assert time.monotonic() - began < NOTICED_WITHIN_SECONDS
    assert checks()["redis"]
    for _ in range(20):
        listeners.send()
    # The node drops the connection by itself; the next one is silent too, until the proxy passes data again.
    eventually(lambda: any(line.get("event") == "bus deaf" for line in node.server.log()), "the node to give it up")
    assert {len(numbers(client)) for client in listeners.clients} == {1}
    proxy.thaw_subscriptions()
    eventually(lambda: node.get("/readyz").status_code == 200, "the node to be ready again", NOTICED_WITHIN_SECONDS)
    listeners.check_complete()
    listeners.check_plain()
    assert listeners.interruptions() == 1
    listeners.close()


def test_output_buffer_overflow(deployment: Deployment, drivers: Drivers, tenant: Tenant) -> None:
    """A node that does not read for a while, so that Redis drops its subscription, gets the messages that it missed."""
    deployment.redis.client.config_set("client-output-buffer-limit", "pubsub 200kb 200kb 0")
    node = deployment.add_node()
    listeners = Listeners(node, drivers, tenant, deployment)
    listeners.send()
    node.suspend()

    def has_overflowed() -> bool:
        listeners.send(PADDING)
        stats = deployment.redis.client.info("stats")
        assert isinstance(stats, dict)
        return int(stats["client_output_buffer_limit_disconnections"]) > 0

    # Well before the node counts as dead.
    eventually(has_overflowed, "Redis to give the subscription up", 4, interval_seconds=0)
    node.resume()
    listeners.check_complete()
    listeners.check_plain()
    assert listeners.interruptions() == 1
    listeners.close()
