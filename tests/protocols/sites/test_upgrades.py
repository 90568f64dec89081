"""Polling clients that go over to a WebSocket: looked at once, told together, and forgotten when they are gone."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from app.config.settings import Site
from app.core.connection import ConnectionPhase
from app.core.ports import ConnectNotes
from app.errors import StoreUnavailable
from app.protocols.sites import upgrades
from app.protocols.sites.redis_upgrades import RedisUpgrades
from app.protocols.sites.upgrades import Upgrades
from app.store.keys import prefix
from tests.support.store import StoreNode, make_site
from tests.support.valkey import Valkey

SITE = make_site()
LATER = 10.0**9


class Told:
    """The store: what it was told."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.handles: list[list[bytes]] = []
        self.is_away = False

    async def note_upgrades(self, site: Site, handles: Sequence[bytes]) -> None:
        """Keep them."""
        if self.is_away:
            raise StoreUnavailable
        self.handles.append(list(handles))


def client(transport: str, *handles: bytes, phase: ConnectionPhase = ConnectionPhase.LIVE) -> tuple[Any, Any]:
    """A client and its connection."""
    told = f"{transport} 4 browser"
    return SimpleNamespace(transport=transport), SimpleNamespace(site=SITE, handles=handles, phase=phase, client=told)


async def test_a_client_that_goes_over_during_its_connect() -> None:
    """A client that polled when the store was asked, and no more when it answered, is told."""
    store = Told()
    looking = Upgrades(store)
    one = client("polling", b"1")
    one[0].transport = "websocket"
    looking.connected(*one)
    await looking.look(LATER)
    assert store.handles == [[b"1"]]


async def test_clients_that_have_gone_over_are_told_together() -> None:
    """Of the clients that polled at their connect those are told that use a WebSocket now; each is looked at once."""
    store = Told()
    looking = Upgrades(store)
    clients = [client("polling", b"%d" % number) for number in range(4)]
    for one in clients:
        looking.connected(*one)
    looking.connected(*client("websocket", b"9"))
    looking.connected(*client("polling"))
    for number in (0, 2, 3):
        clients[number][0].transport = "websocket"
    clients[3][1].phase = ConnectionPhase.CLOSED
    await looking.look(0)
    assert store.handles == []
    await looking.look(LATER)
    await looking.look(LATER)
    assert store.handles == [[b"0", b"2"]]


async def test_many_are_told_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """One command tells of a bounded number; a store that is away is not asked again."""
    monkeypatch.setattr(upgrades, "_PART", 2)
    store = Told()
    looking = Upgrades(store)
    for is_away in (False, True):
        store.is_away = is_away
        for number in range(5):
            one = client("polling", b"%d" % number)
            looking.connected(*one)
            one[0].transport = "websocket"
        await looking.look(LATER)
    assert [len(part) for part in store.handles] == [2, 2, 1]


async def test_redis_keeps_it(valkey: Valkey) -> None:
    """The device has the new transport; a device that is gone is not made again."""
    node = await StoreNode.start(valkey, [SITE])
    handles = []
    for number in range(2):
        registration = await node.queues.connect(
            SITE, number, f"d{number}", ["user_1"], ConnectNotes(client="polling 4 Opera")
        )
        handles.append(registration.devices[0].handle)
    await RedisUpgrades(node.redis).note_upgrades(SITE, [handles[0], b"99"])
    found = {key: value["via"] for key, value in valkey.dump().items() if key.startswith(prefix(SITE.name) + "device:")}
    assert [found[f"{prefix(SITE.name)}device:{handle.decode()}"] for handle in handles] == ["websocket", "polling"]
    assert len(found) == 2
    await node.close()


async def test_it_ends() -> None:
    """A started one ends with `close`, and one that was not started, too."""
    looking = Upgrades(Told())
    await looking.close()
    looking.start()
    await looking.close()
