"""Contract, "Acks, replay, resync" and "POST /send" with userRoomPrefix: the recipients of a message, how often it is
sent, and when it is sent again."""

from __future__ import annotations

import contextlib
import dataclasses
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.clients import (
    ACK_ALL,
    ACK_NONE,
    MODERN,
    NODE_KINDS,
    POLLING,
    Client,
    ClientKind,
    ConnectCall,
    ack_except,
    ack_only,
    each_library,
    every_client,
)
from tests.support.connector import Connector, batch_names, numbers, without_fences
from tests.support.deployment import Deployment
from tests.support.tenant import Tenant


@pytest.mark.shows("Sites", "connect, events, acknowledgement, replay")
@every_client
def test_unacknowledged_comes_back(
    connect: Connector, tenant: Tenant, deployment: Deployment, kind: ClientKind
) -> None:
    """Unacknowledged messages are sent again in `_batch` at the next connect; acknowledged ones are not."""
    user = tenant.user()
    first = connect("alpha", user, kind, ack=ack_only("acked"))
    for event in ("open-1", "acked", "open-2", "acked"):
        deployment.send("alpha", user.room, event, event)
    first.wait_event("acked", nth=2)
    first.disconnect()
    second = connect("alpha", user, kind)
    assert second.wait_event("_batch").args == [[["open-1", "open-1"], ["open-2", "open-2"]]]
    second.disconnect()
    third = connect("alpha", user, kind)
    connect.fence("alpha", user.room, third)
    assert without_fences(third) == []


@every_client
def test_batch_comes_again_until_acknowledged(
    connect: Connector, tenant: Tenant, deployment: Deployment, kind: ClientKind
) -> None:
    """An unacknowledged `_batch` is sent again, whole, and none of its messages is sent live."""
    user = tenant.user()
    connect("alpha", user, kind).disconnect()
    deployment.send("alpha", user.room, "kept", 1)
    for _ in range(2):
        client = connect("alpha", user, kind, ack=ACK_NONE)
        assert client.wait_event("_batch").args == [[["kept", 1]]]
        assert client.wait_event("_batch").wants_ack
        client.disconnect()
        assert without_fences(client) == ["_batch"]


@every_client
def test_sent_while_away(connect: Connector, tenant: Tenant, deployment: Deployment, kind: ClientKind) -> None:
    """Messages sent while a device is away, within device_ttl, arrive in one `_batch` right after `_settings`."""
    user = tenant.user()
    connect("alpha", user, kind).disconnect()
    for number in range(3):
        deployment.send("alpha", user.room, "news", number)
    client = connect("alpha", user, kind)
    assert client.wait_event("_batch").args == [[["news", 0], ["news", 1], ["news", 2]]]
    connect.fence("alpha", user.room, client)
    assert [event.name for event in client.events()][:2] == ["_settings", "_batch"]
    assert without_fences(client) == ["_batch"]


@every_client
def test_second_device_has_its_own_queue(
    connect: Connector, tenant: Tenant, deployment: Deployment, kind: ClientKind
) -> None:
    """Each device of a user gets each message, and the ack of one leaves the other's queue alone."""
    user = tenant.user()
    phone = connect("alpha", user, kind, device="phone", ack=ACK_ALL)
    laptop = connect("alpha", user, kind, device="laptop", ack=ACK_NONE)
    deployment.send("alpha", user.room, "news")
    for client in (phone, laptop):
        client.wait_event("news")
        client.disconnect()
    assert connect("alpha", user, kind, device="laptop").wait_event("_batch").args == [[["news"]]]
    phone = connect("alpha", user, kind, device="phone")
    connect.fence("alpha", user.room, phone)
    assert without_fences(phone) == []


@every_client
def test_one_copy_for_a_user_in_several_rooms(
    connect: Connector, tenant: Tenant, deployment: Deployment, kind: ClientKind
) -> None:
    """A device in several of a message's rooms gets the message once, live and in `_batch`; other devices get none."""
    room, other = tenant.unique("Room"), tenant.unique("room")
    user, stranger = tenant.user(room, other), tenant.user()
    client, bystander = connect("alpha", user, kind, ack=ACK_NONE), connect("alpha", stranger)
    rooms = [room, other.upper(), user.room, room.lower(), tenant.unique("nobody")]
    deployment.send("alpha", rooms, "live")
    connect.fence("alpha", user.room, client)
    connect.fence("alpha", stranger.room, bystander)
    client.disconnect()
    deployment.send("alpha", rooms, "later")
    assert without_fences(client) == ["live"]
    assert without_fences(bystander) == []
    assert batch_names(connect("alpha", user, kind).wait_event("_batch")) == ["live", "later"]


@every_client
def test_batch_in_order_of_acceptance(
    connect: Connector, tenant: Tenant, deployment: Deployment, kind: ClientKind
) -> None:
    """`_batch` is in the order in which /send accepted the messages, across
    events, rooms and connections of the device."""
    room = tenant.unique("room")
    user = tenant.user(room)
    first = connect("alpha", user, kind, ack=ACK_NONE)
    for number in range(6):
        deployment.send("alpha", room if number % 2 else user.room, "abc"[number % 3], number)
    connect.fence("alpha", user.room, first)
    first.disconnect()
    for number in range(6, 12):
        deployment.send("alpha", user.room if number % 2 else room, "cab"[number % 3], number)
    live = [(event.name, event.args) for event in first.events() if event.name in "abc"]
    assert live == [("abc"[number % 3], [number]) for number in range(6)]
    (entries,) = connect("alpha", user, kind).wait_event("_batch").args
    assert [entry[1] for entry in entries if len(entry) == 2] == list(range(12))


@every_client
def test_sent_while_a_batch_is_acknowledged(
    connect: Connector, tenant: Tenant, deployment: Deployment, kind: ClientKind
) -> None:
    """The ack of a `_batch` removes exactly its messages: messages sent before that ack survive it."""
    user = tenant.user()
    connect("alpha", user, kind).disconnect()
    deployment.send("alpha", user.room, "old", 1)
    client = connect("alpha", user, kind, ack=ACK_NONE)
    batch = client.wait_event("_batch")
    deployment.send("alpha", user.room, "new", 2)
    client.wait_event("new")
    client.ack(batch)
    deployment.send("alpha", user.room, "newer", 3)
    client.wait_event("newer")
    client.disconnect()
    assert connect("alpha", user, kind).wait_event("_batch").args == [[["new", 2], ["newer", 3]]]


@every_client
def test_acks_in_any_order(connect: Connector, tenant: Tenant, deployment: Deployment, kind: ClientKind) -> None:
    """With resync false acks may come in any order, with any arguments, and each removes its own message."""
    user = tenant.user()
    client = connect("alpha", user, kind, ack=ACK_NONE)
    for number in range(4):
        deployment.send("alpha", user.room, "news", number)
    events = [client.wait_event("news", nth=nth + 1) for nth in range(4)]
    for number in (3, 1, 0):
        client.ack(events[number], *range(number))
    client.disconnect()
    again = connect("alpha", user, kind)
    assert again.wait_event("_batch").args == [[["news", 2]]]
    connect.fence("alpha", user.room, again)
    assert "_resync" not in client.names() + again.names()


PAYLOADS: dict[str, list[Any]] = {
    "none": [],
    "null": [None],
    "nulls": [None, None, 1],
    "unicode": ['grüße 😀 \u2028\u0000\\u0041 "quoted" \' </script>', "日本語"],
    "nested": [{"a": [1, {"b": None}], "": False}, [], {}],
    "digits": ["43/alpha,1[]", "42", "[]"],
    "100 KB": ["x" * 100_000],
    "100 KB of unicode": ["ü" * 40_000 + "😀" * 5_000],
}


@every_client
def test_payloads(connect: Connector, tenant: Tenant, deployment: Deployment, kind: ClientKind) -> None:
    """Arguments arrive as they were sent, live and in `_batch`: none, null, unicode, nested, 100 KB."""
    user = tenant.user()
    first = connect("alpha", user, kind, ack=ACK_NONE)
    for name, args in PAYLOADS.items():
        deployment.send("alpha", user.room, name, *args)
    assert {name: first.wait_event(name).args for name in PAYLOADS} == PAYLOADS
    first.disconnect()
    (entries,) = connect("alpha", user, kind).wait_event("_batch").args
    assert entries == [[name, *args] for name, args in PAYLOADS.items()]


@every_client
def test_event_names_of_any_text(connect: Connector, tenant: Tenant, deployment: Deployment, kind: ClientKind) -> None:
    """An event's name may be any text that the contract does not reserve."""
    names = ["größe 😀", 'with "quotes" \\', " ", "a,b[0]", "_batches", "1", "/alpha"]
    user = tenant.user()
    client = connect("alpha", user, kind)
    for name in names:
        deployment.send("alpha", user.room, name)
    connect.fence("alpha", user.room, client)
    assert without_fences(client) == names


@each_library
def test_two_connections_of_one_device(
    connect: Connector, tenant: Tenant, deployment: Deployment, kind: ClientKind
) -> None:
    """Both connections get live messages, the newest gets the `_batch`, and the first ack counts."""
    user = tenant.user()
    older = connect("alpha", user, kind, ack=ack_only("acked-by-one"))
    deployment.send("alpha", user.room, "before")
    older.wait_event("before")
    newer = connect("alpha", user, kind, ack=ACK_NONE)
    assert newer.wait_event("_batch").args == [[["before"]]]
    for event in ("acked-by-one", "open"):
        deployment.send("alpha", user.room, event)
    for client in (older, newer):
        client.wait_event("open")
    assert without_fences(older) == ["before", "acked-by-one", "open"]
    assert without_fences(newer) == ["_batch", "acked-by-one", "open"]
    older.disconnect()
    newer.disconnect()
    assert batch_names(connect("alpha", user, kind).wait_event("_batch")) == ["before", "open"]


def test_device_stays_while_one_connection_is_left(connect: Connector, tenant: Tenant, deployment: Deployment) -> None:
    """A device is away only when its last connection has ended: until then the other one goes on receiving."""
    user = tenant.user()
    first, second = connect("brief", user), connect("brief", user)
    first.disconnect()
    tenant.wait_for_update(user.token, "last_disconnected")
    deployment.send("brief", user.room, "to the second")
    second.wait_event("to the second")
    second.disconnect()


DEVICES = ["", "*", "a", "a:b", "a b", "a*", "[a-z]", "?", "%2A", "{alpha}", "ü😀", "\\", "'\"", "a\tb", "d" * 256]


def test_device_ids_of_any_text(connect: Connector, tenant: Tenant, deployment: Deployment) -> None:
    """deviceIds may hold any character and are compared whole: no device affects another's queue."""
    user = tenant.user()
    clients = {device: connect("alpha", user, device=device, ack=ACK_NONE) for device in DEVICES}
    deployment.send("alpha", user.room, "first")
    deployment.send("alpha", user.room, "second")
    for number, (device, client) in enumerate(clients.items()):
        client.wait_event("second")
        if number % 2:
            client.ack(client.wait_event("first"))
        else:
            client.ack(client.wait_event("second"))
        client.disconnect()
        assert without_fences(client) == ["first", "second"], device
    left = {device: connect("alpha", user, device=device).wait_event("_batch").args for device in DEVICES}
    assert left == {device: [[["second" if number % 2 else "first"]]] for number, device in enumerate(DEVICES)}


def test_no_device_id_is_the_empty_one(connect: Connector, tenant: Tenant, deployment: Deployment) -> None:
    """A connection without a deviceId is the device whose id is the empty text."""
    user = tenant.user()
    first = connect.begin(ConnectCall(MODERN, deployment.url, "alpha", {"token": user.token}, ack=ACK_NONE))
    first.wait_event("_settings")
    deployment.send("alpha", user.room, "kept")
    first.wait_event("kept")
    first.disconnect()
    assert connect("alpha", user, device="").wait_event("_batch").args == [[["kept"]]]


def test_unknown_device_gets_nothing(connect: Connector, tenant: Tenant, deployment: Deployment) -> None:
    """A message for a user who never connected is no error and is not kept."""
    user = tenant.user()
    deployment.send("alpha", [user.room, tenant.unique("nobody")], "too early")
    client = connect("alpha", user)
    connect.fence("alpha", user.room, client)
    assert without_fences(client) == []


@pytest.mark.parametrize("kind", [kind for kind in NODE_KINDS if kind.upgrades], ids=str)
def test_upgrade_in_a_burst(connect: Connector, tenant: Tenant, deployment: Deployment, kind: ClientKind) -> None:
    """Messages sent during the upgrade from polling to websocket arrive once and in order, live or in `_batch`."""
    user = tenant.user()
    connect("alpha", user, kind).disconnect()
    client = connect.begin(connect.call("alpha", user, kind))
    sent = 0
    while not any(record.kind == "upgrade" for record in client.records.snapshot()) or sent < 50:
        deployment.send("alpha", user.room, "n", sent)
        sent += 1
        assert sent < 5000, "no upgrade"
    connect.fence("alpha", user.room, client)
    assert numbers(client) == list(range(sent))


@each_library
def test_reconnecting_in_a_burst(connect: Connector, tenant: Tenant, deployment: Deployment, kind: ClientKind) -> None:
    """A device that reconnects repeatedly during a burst gets every message in order, live or in a `_batch`, and once.

    When it reconnects to another node before its last acks reach Redis, those messages are sent again.
    """
    user = tenant.user()
    clients = [connect("alpha", user, kind)]

    def send_all() -> None:
        for number in range(400):
            deployment.send("alpha", user.room, "n", number)

    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(send_all)
        while not sending.done():
            _wait_for_some(clients[-1])
            clients[-1].disconnect()
            clients.append(connect("alpha", user, kind))
        sending.result()
    connect.fence("alpha", user.room, clients[-1])
    received = [number for client in clients for number in numbers(client)]
    if len(deployment.nodes) > 1:
        received = list(dict.fromkeys(received))
    assert received == list(range(400))


def test_one_order_for_all(connect: Connector, tenant: Tenant, deployment: Deployment) -> None:
    """Messages of many concurrent publishers reach all devices in one order,
    which is also the order of their queues."""
    room = tenant.unique("room")
    users = [tenant.user(room) for _ in range(4)]
    away, *present = [connect("alpha", user, ack=ACK_NONE) for user in users]
    away.disconnect()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: deployment.send("alpha", room, "n", number), range(200)))
    connect.fence("alpha", room, *present)
    back = connect("alpha", users[0])
    back.wait_event("_batch")
    orders = [numbers(client) for client in (*present, back)]
    assert set(orders[0]) == set(range(200))
    assert len(orders[0]) == 200
    assert all(order == orders[0] for order in orders)


@pytest.mark.parametrize("kind", [kind for kind in NODE_KINDS if kind.transports[0] == "websocket"], ids=str)
def test_cut_connection(connect: Connector, tenant: Tenant, deployment: Deployment, kind: ClientKind) -> None:
    """A connection cut without a close loses nothing: its unacknowledged messages are sent again."""
    user = tenant.user()
    client = connect("alpha", user, kind, ack=ack_except("open"))
    deployment.send("alpha", user.room, "open")
    client.wait_event("open")
    connect.drivers.node.drop(client)
    client.wait_disconnected()
    deployment.send("alpha", user.room, "while away")
    assert batch_names(connect("alpha", user, kind).wait_event("_batch")) == ["open", "while away"]


def test_late_ack_after_a_reconnect(connect: Connector, tenant: Tenant, deployment: Deployment) -> None:
    """A live message in the new connection's `_batch` that is acknowledged on
    the old connection is removed for good."""
    user = tenant.user()
    old = connect("alpha", user, ack=ACK_NONE)
    deployment.send("alpha", user.room, "both")
    event = old.wait_event("both")
    new = connect("alpha", user, ack=ACK_NONE)
    batch = new.wait_event("_batch")
    old.ack(event)
    new.ack(batch)
    old.disconnect()
    new.disconnect()
    again = connect("alpha", user)
    connect.fence("alpha", user.room, again)
    assert without_fences(again) == []


def test_delayed_acks(connect: Connector, tenant: Tenant, deployment: Deployment) -> None:
    """Delayed acks that arrive all at once, while new messages arrive, remove exactly their messages."""
    user = tenant.user()
    client = connect("alpha", user, ack=dataclasses.replace(ack_only("late"), delay_ms=150))
    for number in range(30):
        deployment.send("alpha", user.room, "late" if number % 3 else "open", number)
    client.records.wait_until(lambda seen: sum(record.kind == "acked" for record in seen) == 20, "20 acks")
    client.disconnect()
    (entries,) = connect("alpha", user).wait_event("_batch").args
    assert entries == [["open", number] for number in range(0, 30, 3)]


def test_long_queue_over_polling(connect: Connector, tenant: Tenant, deployment: Deployment) -> None:
    """A long `_batch` arrives whole over polling: 300 messages of 1 KB."""
    user = tenant.user()
    kind = ClientKind("4", ("polling",))
    connect("alpha", user, kind).disconnect()
    for number in range(300):
        deployment.send("alpha", user.room, "row", number, "x" * 1000)
    (entries,) = connect("alpha", user, kind).wait_event("_batch").args
    assert [entry[1] for entry in entries] == list(range(300))


@pytest.mark.parametrize("kind", [ClientKind("2", POLLING), ClientKind("4", POLLING)], ids=str)
def test_burst_acknowledged_at_once_over_polling(
    connect: Connector, tenant: Tenant, deployment: Deployment, kind: ClientKind
) -> None:
    """A page that has fetched 1,500 live messages may acknowledge all of them in one request: none comes again."""
    user = tenant.user()
    client = connect("alpha", user, kind, ack=ACK_NONE)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: deployment.send("alpha", user.room, "n", number), range(1_500)))
    connect.fence("alpha", user.room, client)
    for event in client.events():
        if event.wants_ack:
            client.ack(event)
    connect.fence("alpha", user.room, client)
    client.disconnect()
    received = numbers(client)
    assert (len(received), set(received)) == (1_500, set(range(1_500)))
    second = connect("alpha", user, kind)
    connect.fence("alpha", user.room, second)
    assert numbers(second) == []


def _wait_for_some(client: Client) -> None:
    """Block until the client has a few messages; the burst may end before that."""
    with contextlib.suppress(AssertionError):
        client.records.wait_until(lambda _: len(numbers(client)) > 5, "some messages", 0.3)
