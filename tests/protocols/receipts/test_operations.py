"""The operations of receipts: lists of a whole site, and the questions of the protocol with an operator's words."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest
from msgspec import structs
from sqlalchemy.ext.asyncio import AsyncEngine

from app.config.settings import Config, QueueLimit, Site, SiteLimits
from app.errors import RequestRefused
from app.ids import FlakeIds
from app.protocols.operations import Actor, Call, Operation, Role
from app.protocols.protocol import NodeServices
from app.protocols.reading import new_reading_pool
from app.protocols.receipts.protocol import RECEIPTS
from app.store.keys import prefix
from app.store.node_calls import NodeCalls
from tests.protocols.receipts.asking import SITE, SITES
from tests.support.fates import FateStream
from tests.support.store import StoreNode, heard, settled
from tests.support.valkey import Valkey

Do = Callable[..., Any]
FIRST_SEQ = 1_001


@pytest.fixture
async def do(node: StoreNode, database_url: str, engine: AsyncEngine) -> AsyncIterator[Do]:
    """Performs an operation of a node with a journal; its answer."""
    config = Config(sites=dict(SITES), redis_url="redis://localhost", database_url=database_url)
    reading, operations = new_reading_pool(), list[Operation]()
    parts = (node.redis, node.delivery, node.limits, FlakeIds(0, 0), node.counts)
    protocol = RECEIPTS.open(
        NodeServices(config, node.name, *parts, [], reading, NodeCalls(node.redis, node.name), operations=operations)
    )
    await protocol.start()
    known = {operation.name: operation for operation in operations}

    async def do(name: str, site: Site = SITE, **given: Any) -> Any:
        operation = known[name]
        return await operation.run(Call(Actor("ana", Role.ADMIN), operation.parameters(**given), site))

    yield do
    await protocol.close()
    reading.close()


async def connected(node: StoreNode, user: str, device: str, number: int) -> bytes:
    """A connection of a device; its handle."""
    return (await node.queues.connect(SITE, number, device, [user])).devices[0].handle


async def pages(do: Do, name: str, limit: int, **given: Any) -> list[list[Mapping[str, Any]]]:
    """All pages of a list."""
    found: list[list[Mapping[str, Any]]] = []
    cursor = None
    while not found or cursor is not None:
        answer = await do(name, limit=limit, cursor=cursor, **given)
        found.append(answer["items"])
        cursor = answer["cursor"]
    return found


async def test_devices_in_a_state(do: Do, node: StoreNode) -> None:
    """The devices of all users are listed by state: connected, away, with messages, or with a `_resync` to come."""
    handles = [await connected(node, f"user_{number}", f"d{number}", number) for number in range(4)]
    await node.queues.disconnect(SITE, 0, [(handles[0], 0)])
    await node.publish(SITE, "user_1")
    await node.publish(SITE, "user_0")
    await do("devices.drop_queue", user="user_0", device="d0")
    expected = {
        None: {"d0", "d1", "d2", "d3"},
        "connected": {"d1", "d2", "d3"},
        "away": {"d0"},
        "waiting": {"d1"},
        "resync": {"d0"},
    }
    for state, devices in expected.items():
        items = (await do("devices.list", state=state))["items"]
        assert {one["device"] for one in items} == devices, state
    (one,) = (await do("devices.list", user="user_1", state="waiting"))["items"]
    assert (one["user"], one["rooms"], one["queue"]["messages"]) == ("user_1", ["user_1"], 1)


async def test_pages_of_a_site(do: Do, node: StoreNode) -> None:
    """Pages hold each device of a site once; those of few in a state are filled from many."""
    for number in range(120):
        handle = await connected(node, f"user_{number % 7}", f"d{number}", number)
        if number % 10 == 0:
            await node.queues.disconnect(SITE, number, [(handle, 0)])
    listed = await pages(do, "devices.list", 50)
    assert [len(page) for page in listed] == [50, 50, 20]
    assert len({one["device"] for page in listed for one in page}) == 120
    away = await pages(do, "devices.list", 5, state="away")
    assert [len(page) for page in away] == [5, 5, 2]
    assert {one["device"] for page in away for one in page} == {f"d{number}" for number in range(0, 120, 10)}


async def test_the_longest_queues(do: Do, node: StoreNode) -> None:
    """Devices are listed by their waiting bytes, the longest queue first, in pages; of a user or a state, too. Queues
    whose bytes are not counted are left out."""
    site = structs.replace(SITE, queue_limit=QueueLimit(messages=100, bytes=2_000_000))
    for number in range(6):
        await connected(node, f"user_{number}", f"d{number}", number)
        for _ in range(number + 1):
            await node.publish(site, f"user_{number}")
    listed = await pages(do, "devices.list", 2, order="queue")
    assert [one["device"] for page in listed for one in page] == ["d5", "d4", "d3", "d2", "d1"]
    assert [len(page) for page in listed] == [2, 2, 1]
    sizes = [one["queue"]["bytes"] for page in listed for one in page]
    assert sizes == sorted(sizes, reverse=True)
    (one,) = (await do("devices.list", order="queue", user="user_3"))["items"]
    assert (one["device"], one["queue"]["messages"]) == ("d3", 4)
    assert (await do("devices.list", order="queue", state="away"))["items"] == []


async def test_a_site_without_queues(do: Do) -> None:
    """The list of devices of such a site says so, and the queue of a device is refused."""
    plain = SITES["plain"]
    assert await do("devices.list", plain) == {"items": [], "cursor": None, "has_queues": False}
    with pytest.raises(RequestRefused, match="no userRoomPrefix"):
        await do("devices.queue", plain, user="user_1")


async def test_a_queue_and_its_device(do: Do, node: StoreNode) -> None:
    """The queue of a device comes with the device, which has no id here; forgotten, both are unknown."""
    await connected(node, "user_1", "", 1)
    await node.publish(SITE, "user_1", "first")
    await node.publish(SITE, "user_1", "second")
    answer = await do("devices.queue", user="user_1", limit=1)
    assert [one["event"] for one in answer["items"]] == ["first"]
    assert (answer["device"]["state"], answer["device"]["queue"]["messages"]) == ("connected", 2)
    rest = await do("devices.queue", user="user_1", limit=1, cursor=answer["cursor"])
    assert [one["event"] for one in rest["items"]] == ["second"]
    assert await do("devices.forget", user="user_1") == {"ok": True, "devices": 1}
    for name in ("devices.queue", "devices.forget", "devices.drop_queue"):
        with pytest.raises(RequestRefused, match="no such device"):
            await do(name, user="user_1")


async def test_messages(do: Do, node: StoreNode, stream: FateStream, write: Callable[[], Any]) -> None:
    """Messages are listed in pages and by time, one is shown with its devices, and its user has a trace."""
    stream.device(1, "user_1", "phone")
    for number in range(3):
        stream.send(FIRST_SEQ + number, [1])
    stream.ack((FIRST_SEQ, [1]))
    await write()
    listed = [one for page in await pages(do, "messages.list", 2) for one in page]
    assert [one["summary"]["acked"] for one in listed] == [0, 0, 1]
    acked = (await do("messages.list", state="acked"))["items"]
    shown = await do("messages.show", id=acked[0]["id"])
    assert [(one["user"], one["device"], one["state"]) for one in shown["devices"]] == [("user_1", "phone", "acked")]
    assert (await do("messages.list", since="2999-01-01"))["items"] == []
    assert len((await do("messages.list", until="2999-01-01 10:00"))["items"]) == 3
    lines = (await do("trace.show", user="user_1", since="1970-01-01"))["lines"]
    assert [line["kind"] for line in lines].count("accepted") == 3
    assert await do("trace.show") == {"user": None, "lines": []}


async def test_what_is_refused(do: Do, node: StoreNode) -> None:
    """A time that is none, an id that is none, an unknown message, and the cursor of another list."""
    for number in range(3):
        await connected(node, "user_1", f"d{number}", number)
    cursor = (await do("devices.list", limit=1))["cursor"]
    refused: list[tuple[str, dict[str, Any], str]] = [
        ("messages.list", {"since": "9999-99-99T00:00Z"}, "since: expected a time"),
        ("messages.show", {"id": "x"}, "a decimal number"),
        ("messages.show", {"id": "5"}, "No message"),
        ("messages.withdraw", {"id": "5"}, "No message"),
        ("devices.list", {"cursor": cursor, "user": "user_1"}, "cursor"),
        ("messages.list", {"cursor": cursor}, "cursor"),
    ]
    for name, given, text in refused:
        with pytest.raises(RequestRefused, match=text):
            await do(name, **given)


async def test_sending_again(do: Do, node: StoreNode, valkey: Valkey) -> None:
    """A copy goes to one device, under an id of its own, while another device still has the message in its queue."""
    phone = await node.open(SITE, "user_1", "phone")
    tablet = await node.open(SITE, "user_1", "tablet")
    body = await node.publish(SITE, "user_1", "first")
    await heard(phone, 1)
    await heard(tablet, 1)
    node.ack(phone, phone.seqs[0])
    await settled(node)
    (waiting,) = (await do("devices.queue", user="user_1", device="tablet"))["items"]
    answer = await do("messages.send_again", id=waiting["id"], user="user_1", device="phone")
    assert await heard(phone, 2) == [body, body]
    (copy,) = (await do("devices.queue", user="user_1", device="phone"))["items"]
    assert (copy["id"], copy["event"]) == (answer["id"], "first")
    assert copy["id"] != waiting["id"]
    node.ack(phone, phone.seqs[1])
    await settled(node)
    assert (await do("devices.queue", user="user_1", device="phone"))["items"] == []
    assert tablet.bodies == [body]
    for device, code in (("tablet", "still_waiting"), ("watch", "unknown_device")):
        with pytest.raises(RequestRefused) as refused:
            await do("messages.send_again", id=waiting["id"], user="user_1", device=device)
        assert refused.value.code == code
    node.ack(tablet, tablet.seqs[0])
    await settled(node)
    assert not [key for key in valkey.dump() if key.startswith(prefix(SITE.name) + "body:")]


async def test_sending_again_to_a_device_that_is_away(do: Do, node: StoreNode) -> None:
    """The copy waits, and the device gets it when it comes; a full queue is dropped, and the refusal says so."""
    handle = await connected(node, "user_1", "phone", 1)
    await connected(node, "user_1", "tablet", 2)
    await node.publish(SITE, "user_1")
    (waiting,) = (await do("devices.queue", user="user_1", device="tablet"))["items"]
    await do("devices.drop_queue", user="user_1", device="phone")
    await node.queues.disconnect(SITE, 1, [(handle, 0)])
    await do("messages.send_again", id=waiting["id"], user="user_1", device="phone")
    assert (await do("devices.queue", user="user_1", device="phone"))["device"]["queue"]["messages"] == 1
    small = structs.replace(SITE, queue_limit=QueueLimit(messages=1, bytes=10_000))
    with pytest.raises(RequestRefused, match="ran over"):
        await do("messages.send_again", small, id=waiting["id"], user="user_1", device="phone")
    assert (await do("devices.queue", user="user_1", device="phone"))["device"]["queue"]["messages"] == 0


async def test_sending_again_within_the_limits(do: Do, node: StoreNode, valkey: Valkey) -> None:
    """A copy counts at the site's rate and at the messages that it may store, as a send does; a refused one leaves
    nothing. While a message to very many devices is being stored, no copy is."""
    for number, device in enumerate(("phone", "tablet", "watch"), 1):
        await connected(node, "user_1", device, number)
    await node.publish(SITE, "user_1")
    (waiting,) = (await do("devices.queue", user="user_1", device="tablet"))["items"]

    async def again(device: str, **limits: Any) -> str:
        await do("devices.drop_queue", user="user_1", device=device)
        limited = structs.replace(SITE, limits=SiteLimits(**limits))
        try:
            await do("messages.send_again", limited, id=waiting["id"], user="user_1", device=device)
        except RequestRefused as refused:
            assert (await do("devices.queue", user="user_1", device=device))["items"] == []
            return refused.code
        return "ok"

    rate = {"sends_per_second": 0.001, "sends_burst": 1}
    assert [await again("phone", **rate), await again("watch", **rate)] == ["ok", "sends_per_second"]
    # Two bodies wait, and this limit begins to count now.
    quota = {"stored_messages": 1}
    assert [await again("watch", **quota), await again("phone", **quota)] == ["ok", "stored_messages"]
    assert await again("phone", stored_bytes=1) == "stored_bytes"
    counts = node.counts.of(SITE.name)
    assert (counts.sends, counts.limited) == (3, {"sends_per_second": 1, "stored_messages": 1, "stored_bytes": 1})
    client: Any = valkey.client
    client.hset(prefix(SITE.name) + "large", mapping={"until": 2**52, "seq": 1, "phase": "store"})
    assert await again("phone") == "busy"


async def test_sending_again_what_is_over(do: Do, node: StoreNode, valkey: Valkey, write: Callable[[], Any]) -> None:
    """Of a message that no queue has, the journal has the body where the site keeps bodies; elsewhere it is gone."""
    keeper = SITES["keeper"]
    for site in (keeper, SITE):
        await node.queues.connect(site, 1, "phone", ["user_1"])
        stream = FateStream(valkey, site.name)
        if site.journal_bodies:
            stream.send(FIRST_SEQ, [1], body='["news",1]')
        else:
            stream.send(FIRST_SEQ, [1])
    await write()
    await do("messages.send_again", keeper, id=str(FIRST_SEQ + 7), user="user_1", device="phone")
    (copy,) = (await do("devices.queue", keeper, user="user_1", device="phone"))["items"]
    assert (copy["event"], copy["bytes"]) == ("news", 10)
    with pytest.raises(RequestRefused, match="Nobody has the content"):
        await do("messages.send_again", id=str(FIRST_SEQ + 7), user="user_1", device="phone")
    with pytest.raises(RequestRefused, match="no userRoomPrefix"):
        await do("messages.send_again", SITES["plain"], id="5", user="user_1", device="phone")
