"""One server, one Node process and, for the tests of the store, one Chromium for all tests of the client for pages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.deployment import Deployment
from tests.support.issuer import ISSUER, TOKEN_SECRET
from tests.support.page_clients import Behaviour, PageClient, PageClients
from tests.support.tenant import Tenant, User
from tests.support.waiting import eventually


def sites_of(tenant: Tenant) -> dict[str, dict[str, Any]]:
    """Sites whose user rooms begin with `user_`."""
    shared = {"authUrl": f"{tenant.url}/rooms", "apiKey": "the-key", "userRoomPrefix": "user_"}
    return {
        "shop": shared,
        "parts": {**shared, "batch_limit": {"messages": 3}},
        "narrow": {**shared, "queue_limit": {"messages": 5}},
        "brief": {**shared, "device_ttl": 1},
        "ticketed": {**shared, "resume_ticket": {}},
        "plain": {"authUrl": f"{tenant.url}/rooms", "apiKey": "the-key"},
        "club": {"apiKey": "the-key", "userRoomPrefix": "user_", "jwt": {"issuer": ISSUER, "secret": TOKEN_SECRET}},
    }


@pytest.fixture(scope="module")
def server(tenant: Tenant) -> Iterator[Deployment]:
    """One node; each test has users of its own."""
    deployment = Deployment(sites_of(tenant))
    yield deployment
    deployment.end()


@pytest.fixture(scope="module")
def clients() -> Iterator[PageClients]:
    """One Node process, in which no promise fails unseen."""
    process = PageClients()
    yield process
    process.end()
    assert process.unhandled == []


class Visit:
    """One user of one site, and its clients. Lives for one test."""

    def __init__(self, server: Deployment, clients: PageClients, tenant: Tenant) -> None:
        """Make a user."""
        self.server = server
        self.tenant = tenant
        self.user: User = tenant.user()
        self._clients = clients
        self._opened: list[PageClient] = []

    def connect(self, site: str = "shop", **behaviour: Any) -> PageClient:
        """Connect a client of the user and wait for its connection; see `Behaviour`."""
        client = self.begin(site, **behaviour)
        client.wait("connect")
        return client

    def begin(self, site: str = "shop", **behaviour: Any) -> PageClient:
        """Connect a client of the user; does not wait."""
        behaviour.setdefault("tokens", [self.user.token])
        self._opened.append(self._clients.connect(f"{self.server.url}/{site}", Behaviour(**behaviour)))
        return self._opened[-1]

    def send(self, *numbers: int, site: str = "shop", event: str = "news") -> None:
        """Send an event for each number."""
        for number in numbers:
            self.server.send(site, self.user.room, event, number)

    def waiting(self, client: PageClient, site: str = "shop") -> int:
        """How many messages wait for the client's device."""
        query = {"site": site, "apiKey": "the-key", "user": self.user.room, "device": client.name}
        answer = self.server.get("/devices/queue", params=query)
        assert answer.status_code == 200, answer.text
        return len(answer.json()["messages"])

    def wait_waiting(self, client: PageClient, count: int, site: str = "shop") -> None:
        """Block until so many messages wait."""
        eventually(lambda: self.waiting(client, site) == count, f"{count} messages in the queue", 60)

    def wait_forgotten(self, query: dict[str, str]) -> None:
        """Block until the user has no device."""

        def is_forgotten() -> bool:
            answer = self.server.get("/devices", params=query)
            return answer.status_code == 404 or answer.json()["devices"] == []

        eventually(is_forgotten, "the device to be forgotten", 60)

    def end(self) -> None:
        """Close its clients."""
        for client in self._opened:
            client.do("close")


@pytest.fixture
def visit(server: Deployment, clients: PageClients, tenant: Tenant) -> Iterator[Visit]:
    """A user of its own."""
    visit = Visit(server, clients, tenant)
    yield visit
    visit.end()
