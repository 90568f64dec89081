"""Messages that still wait, without a journal: the real scripts, a real Valkey, and no list of a message's devices."""

from __future__ import annotations

from typing import Any

import pytest

from app.core.options import MessageOptions
from app.protocols.receipts import waiting_messages
from app.store.keys import prefix
from tests.protocols.receipts.asking import OTHER, OTHER_KEY, SITE, Backend
from tests.support.store import RecordingReceiver, StoreNode, make_message, settled
from tests.support.valkey import Valkey


async def send(node: StoreNode, rooms: str | list[str], event: str = "news", **settings: Any) -> tuple[str, int]:
    """A message; its id and its seq."""
    message = make_message(SITE, rooms, event, **settings)
    return str(message.id), (await node.delivery.publish(message)).seq


async def users(node: StoreNode, count: int, *rooms: str) -> list[RecordingReceiver]:
    """Connected users in these rooms, each with one device."""
    return [await node.open(SITE, [f"user_{number}", *rooms], f"d{number}") for number in range(count)]


async def names(backend: Backend, id: str, limit: int = 100) -> list[str]:
    """The users of the devices that have a message, of all pages."""
    pages = await backend.pages(f"/messages/{id}", "devices", limit)
    return [device["user"] for page in pages for device in page]


async def test_a_message_that_waits(backend: Backend, node: StoreNode) -> None:
    """A message with the devices that have it; the answer says that it is a part."""
    (receiver,) = await users(node, 1)
    id, _ = await send(node, "user_0", resync=True)
    answer = await backend.get(f"/messages/{id}")
    (device,) = answer.pop("devices")
    assert answer == {
        "id": id,
        "site": "shop",
        "event": "news",
        "rooms": ["user_0"],
        "bytes": answer["bytes"],
        "accepted_at": answer["accepted_at"],
        "options": {},
        "summary": {"waiting": 1},
        "partial": True,
        "cursor": None,
    }
    assert device == {
        "user": "user_0",
        "device": "d0",
        "state": "waiting",
        "written_at": None,
        "acked_at": None,
        "reason": "connected, not acknowledged yet",
    }
    assert receiver.connection


async def test_a_device_that_has_left(backend: Backend, node: StoreNode) -> None:
    """A message that was written to a device that has left is `written`, a later one waits; both say since when."""
    (receiver,) = await users(node, 1)
    first, seq = await send(node, "user_0")
    assert receiver.connection
    await node.queues.disconnect(SITE, receiver.connection.number, [(receiver.connection.handles[0], seq)])
    second, _ = await send(node, "user_0")
    states = {id: (await backend.get(f"/messages/{id}"))["devices"][0] for id in (first, second)}
    assert [states[id]["state"] for id in (first, second)] == ["written", "waiting"]
    assert all(state["reason"].startswith("away since 20") for state in states.values())


@pytest.mark.parametrize("limit", [3, 7, 100])
async def test_devices_in_several_rooms(backend: Backend, node: StoreNode, limit: int) -> None:
    """A device in several rooms of a message stands in its pages once."""
    await users(node, 10, "cats", "dogs")
    late = await node.open(SITE, ["user_99", "dogs"])
    id, _ = await send(node, ["cats", "dogs", "user_3", "nobody"])
    found = await names(backend, id, limit)
    assert sorted(found) == sorted([*(f"user_{number}" for number in range(10)), "user_99"])
    assert late.connection


async def test_devices_that_have_left_the_room(backend: Backend, node: StoreNode) -> None:
    """A device that is in none of the message's rooms any more is found among all devices of the site."""
    await users(node, 5, "cats")
    id, _ = await send(node, "cats")
    await node.open(SITE, ["user_2", "dogs"], "d2")
    await users(node, 1, "cats", "more")
    assert sorted(await names(backend, id, 2)) == [f"user_{number}" for number in range(5)]


async def test_acks_take_devices_out(backend: Backend, node: StoreNode) -> None:
    """A device that has acknowledged is over; a message that waits nowhere is unknown here."""
    receivers = await users(node, 3, "cats")
    id, seq = await send(node, "cats")
    for receiver in receivers[:2]:
        node.ack(receiver, seq)
    await settled(node)
    assert await names(backend, id) == ["user_2"]
    assert (await backend.get(f"/messages/{id}"))["summary"] == {"waiting": 1}
    node.ack(receivers[2], seq)
    await settled(node)
    assert await backend.code(f"/messages/{id}") == (501, "journal_off")


async def test_a_message_with_options(backend: Backend, node: StoreNode) -> None:
    """The devices of a message with options are kept by Redis; the options are shown."""
    await users(node, 4, "cats")
    id, _ = await send(node, "cats", options=MessageOptions(ttl=60))
    assert sorted(await names(backend, id, 3)) == [f"user_{number}" for number in range(4)]
    assert (await backend.get(f"/messages/{id}"))["options"] == {"ttl": 60}
    (entry,) = (await backend.get("/devices/queue", user="user_1", device="d1"))["messages"]
    assert (entry["id"], entry["options"]) == (id, {"ttl": 60})


async def test_many_rooms(backend: Backend, node: StoreNode) -> None:
    """Of a message to very many rooms the devices are found all the same."""
    await users(node, 3)
    id, _ = await send(node, [f"user_{number}" for number in range(40)])
    assert sorted(await names(backend, id, 2)) == ["user_0", "user_1", "user_2"]


async def test_lists(backend: Backend, node: StoreNode) -> None:
    """Waiting messages, newest first; every filter chooses by its own."""
    receivers = await users(node, 2, "cats")
    first, seq = await send(node, "user_0")
    second, _ = await send(node, "Cats", "score")
    third, _ = await send(node, ["user_1", "user_0"])

    async def ids(**query: Any) -> list[str]:
        answer = await backend.get("/messages", state="waiting", **query)
        assert answer["partial"] is True
        return [message["id"] for message in answer["messages"]]

    assert await ids() == [third, second, first]
    assert await ids(event="score") == [second]
    assert await ids(room="cats") == [second]
    assert await ids(room="user_0") == [third, first]
    assert await ids(user="user_1") == [third, second]
    assert await ids(user="nobody") == []
    assert await ids(since="2100-01-01T00:00:00Z") == []
    assert await ids(until="2020-01-01T00:00:00Z") == []
    assert await ids(since="2020-01-01T00:00:00Z", until="2100-01-01T00:00:00Z") == [third, second, first]
    pages = await backend.pages("/messages", "messages", 2, state="waiting")
    assert [[message["id"] for message in page] for page in pages] == [[third, second], [first]]
    node.ack(receivers[0], seq)
    await settled(node)
    assert await ids() == [third, second]


@pytest.mark.parametrize("most", [60, 5_000])
async def test_long_lists(backend: Backend, node: StoreNode, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """A list of many messages is complete and in order, also when one page does not look at all of them."""
    monkeypatch.setattr(waiting_messages, "MAX_LOOKED_AT", most)
    await users(node, 1)
    ids = [(await send(node, "user_0", f"event{number % 2}"))[0] for number in range(520)]
    pages = await backend.pages("/messages", "messages", 100, state="waiting")
    assert [message["id"] for page in pages for message in page] == ids[::-1]
    pages = await backend.pages("/messages", "messages", 1_000, state="waiting", event="event1")
    assert [message["id"] for page in pages for message in page] == ids[1::2][::-1]
    pages = await backend.pages("/messages", "messages", 70, state="waiting", user="user_0")
    assert [message["id"] for page in pages for message in page] == ids[::-1]


async def test_budget_of_a_request(
    backend: Backend, node: StoreNode, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that has used its steps up answers a short page with a cursor; in the end nothing is missing."""
    client: Any = valkey.client
    await users(node, 3)
    id, _ = await send(node, [f"user_{number}" for number in range(40)])
    client.hset(
        prefix(SITE.name) + "devices", mapping={f"4:away:{number}": str(number) for number in range(100, 20_000)}
    )
    monkeypatch.setattr("app.protocols.receipts.journal_messages.MAX_STEPS", 30)
    pages = await backend.pages(f"/messages/{id}", "devices", 100)
    # How many follows from the order of the hash, which differs between two servers; one page has room for all three.
    assert len(pages) > 1
    assert sorted(device["user"] for page in pages for device in page) == ["user_0", "user_1", "user_2"]


async def test_the_search_ends_with_the_last_device(
    backend: Backend, node: StoreNode, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once as many devices are found as have the message, no other device of the site is looked at."""
    client: Any = valkey.client
    await users(node, 3, "cats")
    id, _ = await send(node, "cats")
    others = {f"4:away:{number}": str(number) for number in range(100, 20_000)}
    client.hset(prefix(SITE.name) + "devices", mapping=others)
    monkeypatch.setattr("app.protocols.receipts.journal_messages.MAX_STEPS", 6)
    pages = await backend.pages(f"/messages/{id}", "devices", 100)
    assert [len(page) for page in pages] == [3]


async def test_newest_of_very_many(backend: Backend, node: StoreNode, valkey: Valkey) -> None:
    """The newest messages are found at once where very many older ones are named and gone."""
    client: Any = valkey.client
    client.set(prefix(SITE.name) + "seq", 10**6)
    for start in range(0, 600_000, 50_000):
        gone = {str(number): number for number in range(start, start + 50_000)}
        client.zadd(prefix(SITE.name) + "waiting", gone)
    await users(node, 1)
    id, _ = await send(node, "user_0")
    answer = await backend.get("/messages", state="waiting", limit=1)
    assert [message["id"] for message in answer["messages"]] == [id]


async def test_user_with_too_many_devices(backend: Backend, valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """The waiting messages of a user with very many devices are refused in words."""
    client: Any = valkey.client
    monkeypatch.setattr(waiting_messages, "MAX_SORTED", 5)
    client.hset(prefix(SITE.name) + "user:user_1", mapping={str(number): "@0" for number in range(1, 10)})
    assert await backend.code("/messages", state="waiting", user="user_1") == (400, "too_many_devices")


async def test_withdrawal(backend: Backend, node: StoreNode) -> None:
    """DELETE takes a message out of every queue, and answers how many had it; an unknown one is 404."""
    receivers = await users(node, 3, "cats")
    id, seq = await send(node, "cats")
    node.ack(receivers[0], seq)
    await settled(node)
    answer = await backend.ask(f"/messages/{id}", "DELETE")
    assert (answer.status_code, answer.json()) == (200, {"ok": True, "id": id, "devices": 2})
    assert (await backend.get("/devices/queue", user="user_1", device="d1"))["messages"] == []
    assert await backend.code(f"/messages/{id}", "DELETE") == (404, "unknown_message")
    id, _ = await send(node, "cats")
    answer = await backend.ask(f"/messages/{id}", "DELETE", text=True)
    assert (answer.status_code, answer.text, answer.headers["content-type"]) == (
        200,
        "OK 3",
        "text/plain; charset=utf-8",
    )


async def test_other_sites_see_nothing(backend: Backend, node: StoreNode) -> None:
    """With another site's key a message of this site does not exist: not to see, to list or to withdraw."""
    await users(node, 2, "cats")
    id, _ = await send(node, "cats")
    other: dict[str, Any] = {"site": OTHER.name, "key": OTHER_KEY}
    assert await backend.code(f"/messages/{id}", **other) == (501, "journal_off")
    assert await backend.code(f"/messages/{id}", "DELETE", **other) == (404, "unknown_message")
    for query in ({}, {"user": "user_0"}, {"room": "cats"}):
        answer = await backend.get("/messages", state="waiting", **query, **other)
        assert answer == {"messages": [], "cursor": None, "partial": True}
    assert len(await names(backend, id)) == 2
