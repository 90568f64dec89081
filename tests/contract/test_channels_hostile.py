"""Contract `channels` against clients that are slow or dead, exceed limits,
flood the server, or try to read secrets."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from websockets.sync.client import connect

from tests.support.channels import KEY, Publisher, Subscription, channels_site
from tests.support.deployment import Deployment
from tests.support.metrics import Figures
from tests.support.tenant import Tenant
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def channels() -> Iterator[Deployment]:
    """A server with a small outbox, and sites with limits."""
    sites = {
        "shop": channels_site(),
        "narrow": channels_site(outbox_limit=100_000),
        "limited": channels_site(limits={"connections": 2, "rooms_per_connection": 2, "message_bytes": 1000}),
        "rationed": channels_site(limits={"sends_per_second": 1, "sends_burst": 2}),
    }
    server = Deployment(sites, {"log_level": "debug", "io": {"maxPayload": 10_000}})
    yield server
    server.end()


@pytest.fixture
def impatient() -> Iterator[Deployment]:
    """A server with short heartbeats: on a busy machine a client that is only slow is dead to it, too."""
    server = Deployment({"shop": channels_site()}, {"io": {"pingInterval": 1000, "pingTimeout": 1000}})
    yield server
    server.end()


@pytest.fixture
def name(tenant: Tenant) -> str:
    """A channel's name that no other test uses."""
    return tenant.unique("channel")


def action(kind: str, channel: str) -> str:
    """Encode an action as a subscriber sends it."""
    return json.dumps({"messageType": "CLIENT_ACTION", "action": kind, "data": {"channel": channel}})


def test_a_subscriber_that_does_not_read_is_closed(channels: Deployment, name: str) -> None:
    """A subscriber that does not read is closed and counted past outbox_limit; the others have received everything."""
    publisher = Publisher(channels, "narrow")
    publisher.create(name)
    url = channels.url.replace("http", "ws", 1) + "/channels/narrow"
    # The library buffers one frame and leaves the rest in the kernel's buffers.
    options = {"max_queue": 1, "ping_interval": None, "compression": None, "close_timeout": 0.1}
    with (
        Subscription(channels.url, "narrow").subscribe(name) as reader,
        _small_socket(channels) as small,
        connect(url, sock=small, **options) as idler,  # type: ignore[arg-type]  # a dict of one type
    ):
        idler.recv(30)
        idler.send(action("SUBSCRIBE", name))
        idler.recv(30)
        pushed = 0

        def is_closed() -> bool:
            nonlocal pushed
            for _ in range(5):
                publisher.push(name, str(pushed).ljust(60_000))
                pushed += 1
            received = [message.strip() for _, message in reader.pushed(5)]
            assert received == list(map(str, range(pushed - 5, pushed)))
            return Figures(channels)("recado_closes_total", site="narrow", reason="outbox full") == 1

        eventually(is_closed, "the subscriber that does not read to be closed", 60)


def _small_socket(channels: Deployment) -> socket.socket:
    address = urlsplit(channels.url)
    small = socket.socket()
    small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    small.connect((address.hostname, address.port))
    return small


def test_a_subscriber_that_is_dead_is_found(impatient: Deployment, name: str) -> None:
    """A client that answers no ping is closed after the interval and the time-out;
    a client that answers stays connected."""
    Publisher(impatient, "shop").create(name)
    with Subscription(impatient.url, "shop").subscribe(name) as alive, _raw_websocket(impatient) as dead:
        dead.settimeout(8)
        received = b""
        while chunk := dead.recv(4096):
            received += chunk
            # The client answers neither the ping nor the final close frame.
        assert b"ping timeout" in received
        eventually(
            lambda: Figures(impatient)("recado_closes_total", site="shop", reason="ping timeout") == 1, "the metric"
        )
        assert alive.act("SUBSCRIBE", name)["code"] == 200


def _raw_websocket(channels: Deployment) -> socket.socket:
    address = urlsplit(channels.url)
    raw = socket.create_connection((address.hostname, address.port))
    raw.sendall(
        b"GET /channels/shop HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    return raw


def test_a_message_that_is_too_long(channels: Deployment) -> None:
    """A message over maxPayload closes the connection with 1009 (RFC 6455)."""
    with Subscription(channels.url, "shop") as subscriber:
        subscriber.socket.send("x" * 10_001)
        assert subscriber.closed()[0] == 1009


def test_a_flood_of_actions_is_served_in_order(channels: Deployment, name: str) -> None:
    """Each of thousands of actions sent without waiting is answered, in order,
    and other clients are served meanwhile."""
    Publisher(channels, "shop").create(name)
    with Subscription(channels.url, "shop") as flooder, Subscription(channels.url, "shop") as other:
        for number in range(1_000):
            flooder.socket.send(action("SUBSCRIBE", name))
            flooder.socket.send(action("SUBSCRIBE", f"{name}-{number}"))
            flooder.socket.send(action("UNSUBSCRIBE", name))
        started = time.monotonic()
        assert other.act("SUBSCRIBE", name)["code"] == 200
        # The flooder has not got all of its answers before.
        assert time.monotonic() - started < 20
        for _ in range(1_000):
            assert flooder.receive()["data"]["subscribedChannels"] == [name]
            assert flooder.receive()["code"] == 404
            assert flooder.receive()["data"]["subscribedChannels"] == []


def test_limits_of_a_site(channels: Deployment, name: str) -> None:
    """A connection, a channel of a connection, or a push over the site's limit is
    refused with 429 or 413, and a reason."""
    publisher = Publisher(channels, "limited")
    for number in range(3):
        publisher.create(f"{name}{number}")
    with Subscription(channels.url, "limited").subscribe(f"{name}0", f"{name}1") as one:
        assert one.act("SUBSCRIBE", f"{name}1")["code"] == 200
        answer = one.act("SUBSCRIBE", f"{name}2")
        assert (answer["messageType"], answer["code"], answer["message"]) == ("ERROR", 429, "Too many requests")
        one.act("UNSUBSCRIBE", f"{name}0")
        one.subscribe(f"{name}2")
        with Subscription(channels.url, "limited"):
            third = Subscription(channels.url, "limited")
            assert (third.ack["messageType"], third.ack["code"]) == ("ERROR", 429)
            assert third.ack["data"]["errorDetails"] == "Too many connections"
            assert third.closed() == (1013, "limit reached")

        def has_place() -> bool:
            with Subscription(channels.url, "limited") as next_one:
                return bool(next_one.ack["code"] == 200)

        eventually(has_place, "a free place")
    answer413 = publisher.push(f"{name}0", "x" * 1000)
    assert (answer413.status_code, answer413.json()["message"]) == (413, "Payload too large")


def test_pushes_per_second(channels: Deployment, name: str) -> None:
    """A push over the rate limit is answered 429 with Retry-After; pushes with a
    wrong token do not count towards the rate."""
    publisher = Publisher(channels, "rationed")
    publisher.create(name)
    for _ in range(20):
        assert publisher.push(name, "x", token="wrong").status_code == 403
    statuses = [publisher.push(name, "x").status_code for _ in range(4)]
    assert statuses[:2] == [200, 200]
    assert 429 in statuses
    limited = next(answer for _ in range(100) if (answer := publisher.push(name, "x")).status_code == 429)
    assert limited.json()["message"] == "Too many requests"
    assert int(limited.headers["retry-after"]) >= 1


def test_no_token_in_redis(channels: Deployment, name: str) -> None:
    """Redis holds neither a channel's token nor a subscriber's secret, and neither appears in the log."""
    token = Publisher(channels, "shop").create(name)
    with Subscription(channels.url, "shop", resumable="1").subscribe(name) as subscriber:
        secret = subscriber.ack["data"]["secret"]
        held = repr(channels.redis.dump())
        log = "\n".join(channels.server.lines.snapshot())
        for text in (token, secret, KEY):
            assert text not in held
            assert text not in log
