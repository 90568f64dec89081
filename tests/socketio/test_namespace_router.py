"""The application that serves a client, where several may serve its namespace."""

from __future__ import annotations

from typing import Any

import pytest

from app.socketio.namespace_router import NamespaceRouter
from app.socketio.socket_connection import ConnectRequest
from tests.socketio.socket_case import Application, Client, make_server


class Applications:
    """Three applications: the first claims clients with a token, the second clients with a ticket, the third all."""

    def __init__(self) -> None:
        self.sites = Application("/", "/site", "/both", "/all")
        self.sites.is_claimed = has("token")
        self.tickets = Application("/all", "/two")
        self.tickets.is_claimed = has("ticket")
        self.other = Application("/both", "/all", "/two", "/rm")

    @property
    def every(self) -> list[Application]:
        """The applications in their order."""
        return [self.sites, self.tickets, self.other]

    def client(self, query: bytes = b"") -> Client:
        """A session of a server with the three."""
        return Client(make_server(*self.every), query_string=query)


def has(name: str) -> Any:
    """Return a claim for clients that present a credential of this name."""

    def claims(request: ConnectRequest) -> bool:
        sources = (request.auth or {}, request.packet_query, request.handshake_query)
        return any(source.get(name) for source in sources)

    return claims


@pytest.fixture
def applications() -> Applications:
    """The three."""
    return Applications()


@pytest.mark.parametrize(
    ("packet", "query", "owner"),
    [
        (b"40/site,", b"", "sites"),
        (b"40/rm,", b"", "other"),
        (b'40/rm,{"token":"t"}', b"", "other"),
        (b"40/both,", b"", "other"),
        (b'40/both,{"token":""}', b"", "other"),
        (b'40/both,{"token":"t"}', b"", "sites"),
        (b"40/both,", b"token=t", "sites"),
        (b"40/both?token=t,", b"", "sites"),
        (b"40/all,", b"", "other"),
        (b'40/all,{"token":"t"}', b"", "sites"),
        (b'40/all,{"ticket":"t"}', b"", "tickets"),
        (b'40/all,{"token":"t","ticket":"t"}', b"", "sites"),
        (b'40/two,{"token":"t"}', b"", "other"),
        (b'40/two,{"token":"t","ticket":"t"}', b"", "tickets"),
    ],
)
async def test_owner(applications: Applications, packet: bytes, query: bytes, owner: str) -> None:
    """Of the applications that serve a namespace the first that claims the client gets all that it sends."""
    client = applications.client(query)
    await client.send(packet)
    namespace = packet.removeprefix(b"40").partition(b",")[0].partition(b"?")[0]
    await client.send(b"42" + namespace + b',["e"]', b"43" + namespace + b",7[]", b"41" + namespace + b",")
    name = namespace.decode()
    heard: list[Any] = [(name, "e", [], None), (name, 7), (name, "client disconnect")]
    mine: Application = getattr(applications, owner)
    assert [one.heard for one in applications.every] == [heard if one is mine else [] for one in applications.every]


async def test_namespaces_of_one_client(applications: Applications) -> None:
    """Each namespace of one session has the application that serves it."""
    client = applications.client()
    await client.send(b"40/site,", b"40/rm,")
    await client.send(b"43/site,7[]", b"43/rm,8[]")
    assert [one.heard for one in applications.every] == [[("/site", 7)], [], [("/rm", 8)]]


async def test_client_that_nobody_claims(applications: Applications) -> None:
    """A client that no application claims goes to the last that serves its namespace."""
    applications.other.is_claimed = lambda _request: False
    client = applications.client()
    await client.send(b"40/all,")
    assert [len(one.connections) for one in applications.every] == [0, 0, 1]


async def test_single_application_is_not_asked(applications: Applications) -> None:
    """A namespace with one application belongs to it, whatever the client presents."""

    def fail(_request: ConnectRequest) -> bool:
        pytest.fail("the application must not be asked")

    applications.other.is_claimed = fail
    client = applications.client()
    await client.send(b"40/rm,")
    await client.send(b"43/rm,7[]")
    assert applications.other.heard == [("/rm", 7)]


async def test_unknown_namespace(applications: Applications) -> None:
    """A namespace that no application serves is refused."""
    client = applications.client()
    await client.send(b"40/nobody,")
    assert client.received() == [b'44/nobody,{"message":"Invalid namespace"}']


def test_no_application() -> None:
    """A router without applications accepts no namespace."""
    assert not NamespaceRouter([]).accepts_namespace("/")
