"""Whose a client is, where a namespace may have two owners."""

from __future__ import annotations

from typing import Any

import pytest

from app.socketio.namespace_router import NamespaceRouter
from tests.socketio.socket_case import Application, Client, make_server


@pytest.fixture
def sites() -> Application:
    """Has `/both` and `/site`."""
    return Application("/both", "/site", "/")


@pytest.fixture
def other() -> Application:
    """Has `/both` and `/rm`."""
    return Application("/both", "/rm")


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
    ],
)
async def test_owner(sites: Application, other: Application, packet: bytes, query: bytes, owner: str) -> None:
    """A namespace that both have: a client with a token is the sites', one without is the other's."""
    client = Client(make_server(NamespaceRouter(sites, other)), query_string=query)  # type: ignore[arg-type]
    await client.send(packet)
    namespace = packet.removeprefix(b"40").partition(b",")[0].partition(b"?")[0]
    await client.send(b"42" + namespace + b',["e"]', b"43" + namespace + b",7[]", b"41" + namespace + b",")
    mine, others = (sites, other) if owner == "sites" else (other, sites)
    name = namespace.decode()
    heard: list[Any] = [(name, "e", [], None), (name, 7), (name, "client disconnect")]
    assert (mine.heard, others.heard) == (heard, [])


async def test_unknown_namespace(sites: Application, other: Application) -> None:
    """A namespace that neither has is refused."""
    client = Client(make_server(NamespaceRouter(sites, other)))  # type: ignore[arg-type]
    await client.send(b"40/nobody,")
    assert client.received() == [b'44/nobody,{"message":"Invalid namespace"}']
