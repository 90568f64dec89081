"""GET /devices, GET /devices/queue and DELETE /devices through their routes, on a real Valkey."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

import pytest

from app.core.ports import ConnectNotes
from app.store.keys import prefix
from tests.protocols.receipts.asking import KEY, OTHER_KEY, SITE, Backend
from tests.support.store import StoreNode, settled
from tests.support.valkey import Valkey


async def connected(node: StoreNode, device: str, number: int, client: str = "") -> bytes:
    """A connection of a device of user_1; its handle."""
    registration = await node.queues.connect(SITE, number, device, ["user_1", "News"], ConnectNotes(client=client))
    return registration.devices[0].handle


async def test_a_connected_device(backend: Backend, node: StoreNode) -> None:
    """A device that is connected, with its node, transport, client, rooms and queue."""
    before = int(time.time() * 1000)
    await connected(node, "phone", 1, "polling 3 Opera/9.80")
    body = await node.publish(SITE, "news")
    answer = await backend.get("/devices", user="user_1")
    assert answer["cursor"] is None
    (device,) = answer["devices"]
    assert 0 <= device["queue"].pop("oldest_seconds") < 60
    assert before - 1_000 <= _ms(device.pop("connected_since")) <= before + 60_000
    assert device == {
        "user": "user_1",
        "device": "phone",
        "state": "connected",
        "away_since": None,
        "rooms": ["news", "user_1"],
        "node": node.name,
        "nodes": [node.name],
        "transport": "polling",
        "client": {"engine": 3, "user_agent": "Opera/9.80"},
        "queue": {"messages": 1, "bytes": len(body)},
        "resync_due": False,
        "last_ack": None,
    }


async def test_a_device_that_is_away(backend: Backend, node: StoreNode) -> None:
    """A device that has left, since when, and the client that it had."""
    handle = await connected(node, "", 1, "websocket 4 ")
    node.queues.now_ms = 1_790_000_000_000
    await node.queues.disconnect(SITE, 1, [(handle, 0)])
    (device,) = (await backend.get("/devices", user="user_1"))["devices"]
    assert (device["device"], device["state"], device["away_since"]) == ("", "away", "2026-09-21T14:13:20.000Z")
    assert (device["node"], device["nodes"], device["connected_since"]) == (None, [], None)
    assert device["client"] == {"engine": 4, "user_agent": ""}
    assert device["queue"] == {"messages": 0, "bytes": 0, "oldest_seconds": None}


async def test_devices_of_the_public_channel(backend: Backend, node: StoreNode) -> None:
    """In the public channel each device has its own rooms."""
    await node.queues.connect(SITE, 1, "a", ["public", "cats"])
    await node.queues.connect(SITE, 2, "b", ["public", "dogs"])
    devices = (await backend.get("/devices", user="public"))["devices"]
    assert [(device["device"], device["rooms"]) for device in devices] == [
        ("a", ["cats", "public"]),
        ("b", ["dogs", "public"]),
    ]


async def test_pages_of_devices(backend: Backend, node: StoreNode) -> None:
    """Pages hold each device once, in the same order whatever their size; a user without devices has an empty page."""
    for number in range(25):
        await connected(node, f"d{number:02}", number)
    pages = await backend.pages("/devices", "devices", 10, user="user_1")
    assert [len(page) for page in pages] == [10, 10, 5]
    assert [device["device"] for page in pages for device in page] == [f"d{number:02}" for number in range(25)]
    assert await backend.pages("/devices", "devices", 10, user="nobody") == [[]]


async def test_a_page_has_a_size(backend: Backend, node: StoreNode) -> None:
    """Devices with very many rooms fill a page before its limit does; the next one goes on."""
    rooms = ["user_1", *(f"{'long name ' * 40}{number}" for number in range(900))]
    for number in range(6):
        await node.queues.connect(SITE, number, f"d{number}", rooms)
    pages = await backend.pages("/devices", "devices", 100, user="user_1")
    assert [len(page) for page in pages] == [3, 3]


async def test_a_queue(backend: Backend, node: StoreNode) -> None:
    """The messages that wait for a device, oldest first, in pages; a device that nobody knows is 404."""
    await connected(node, "phone", 1)
    bodies = [await node.publish(SITE, "user_1", f"event{number}") for number in range(5)]
    pages = await backend.pages("/devices/queue", "messages", 2, user="user_1", device="phone")
    entries = [entry for page in pages for entry in page]
    assert [len(page) for page in pages] == [2, 2, 1]
    assert [(entry["event"], entry["bytes"]) for entry in entries] == [
        (f"event{number}", len(body)) for number, body in enumerate(bodies)
    ]
    assert all(entry["options"] == {} and entry["age_seconds"] >= 0 for entry in entries)
    assert await backend.code("/devices/queue", user="user_1", device="tablet") == (404, "unknown_device")


async def test_answers_change_nothing(backend: Backend, node: StoreNode, valkey: Valkey) -> None:
    """No question writes to Redis."""
    await connected(node, "phone", 1)
    await node.publish(SITE, "user_1")
    before = valkey.dump()
    await backend.get("/devices", user="user_1")
    await backend.get("/devices/queue", user="user_1", device="phone")
    await backend.get("/messages", state="waiting")
    await backend.get("/messages", state="waiting", user="user_1")
    assert valkey.dump() == before


async def test_forgetting(backend: Backend, node: StoreNode, valkey: Valkey) -> None:
    """DELETE forgets a device with its queue, and answers how many; a device that nobody knows is 404."""
    handle = await connected(node, "phone", 1)
    await node.queues.disconnect(SITE, 1, [(handle, 0)])
    await node.publish(SITE, "user_1")
    answer = await backend.ask("/devices", "DELETE", user="user_1", device="phone")
    assert (answer.status_code, answer.json()) == (200, {"ok": True, "devices": 1})
    await settled(node)
    assert not [key for key in valkey.dump() if key.startswith(prefix(SITE.name) + "queue:")]
    assert (await backend.get("/devices", user="user_1"))["devices"] == []
    assert await backend.code("/devices", "DELETE", user="user_1", device="phone") == (404, "unknown_device")


async def test_forgetting_the_queue_alone(backend: Backend, node: StoreNode) -> None:
    """With resync=true the device stays, its queue goes and it is to get `_resync`; the short answer is text."""
    receiver = await node.open(SITE, "user_1", "phone")
    await node.publish(SITE, "user_1")
    answer = await backend.ask("/devices", "DELETE", text=True, user="user_1", device="phone", resync="true")
    assert (answer.status_code, answer.text) == (200, "OK 1")
    (device,) = (await backend.get("/devices", user="user_1"))["devices"]
    assert device["queue"]["messages"] == 0
    assert receiver.connection


BAD: list[tuple[str, str, dict[str, Any]]] = [
    ("/devices", "GET", {}),
    ("/devices", "GET", {"user": ""}),
    ("/devices", "GET", {"user": "user_1", "limit": 0}),
    ("/devices", "GET", {"user": "user_1", "cursor": "x"}),
    ("/devices", "GET", {"user": "user_1", "usr": "x"}),
    ("/devices/queue", "GET", {"user": "user_1"}),
    ("/devices/queue", "GET", {"user": "user_1", "device": "", "cursor": "AAAA"}),
    ("/devices", "DELETE", {"user": "user_1"}),
    ("/devices", "DELETE", {"user": "user_1", "device": "d", "resync": "perhaps"}),
]


@pytest.mark.parametrize(("path", "method", "query"), BAD)
async def test_bad_parameters(backend: Backend, path: str, method: str, query: dict[str, Any]) -> None:
    """A parameter of the wrong form is 400, and nothing is done."""
    assert await backend.code(path, method, **query) == (400, "bad_parameter")


async def test_a_site_without_queues(backend: Backend) -> None:
    """A site without userRoomPrefix has no devices, and says so."""
    assert await backend.code("/devices", site="plain", user="user_1") == (400, "no_queues")
    assert await backend.code("/devices/queue", site="plain", user="user_1", device="") == (400, "no_queues")
    assert await backend.code("/devices", "DELETE", site="plain", user="user_1", device="") == (400, "no_queues")


async def test_other_sites_see_nothing(backend: Backend, node: StoreNode) -> None:
    """With another site's key neither devices nor queues of this site exist, and its cursors mean nothing."""
    for number in range(3):
        await connected(node, f"d{number}", number)
    await node.publish(SITE, "user_1")
    cursor = (await backend.get("/devices", user="user_1", limit=1))["cursor"]
    other: dict[str, Any] = {"site": "other", "key": OTHER_KEY}
    assert await backend.get("/devices", user="user_1", **other) == {"devices": [], "cursor": None}
    assert await backend.code("/devices/queue", user="user_1", device="d0", **other) == (404, "unknown_device")
    assert await backend.code("/devices", "DELETE", user="user_1", device="d0", **other) == (404, "unknown_device")
    assert await backend.code("/devices", user="user_1", cursor=cursor, **other) == (400, "bad_parameter")
    assert await backend.code("/devices", user="user_1", site="shop", key=OTHER_KEY) == (401, "invalid_key")
    assert await backend.code("/devices", user="user_1", site="nowhere", key=KEY) == (401, "invalid_key")


def _ms(text: str) -> float:
    return datetime.fromisoformat(text).timestamp() * 1000
