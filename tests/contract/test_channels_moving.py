"""Contract `channels` for deployments of WS-PushServer that move over: its paths, methods and ports, its own client."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.contract.test_channels import is_ack, is_error
from tests.support.browser import Browser
from tests.support.channels import KEY, Publisher, Subscription, channels_site
from tests.support.deployment import Deployment
from tests.support.endpoint import Endpoint
from tests.support.ports import free_port
from tests.support.tenant import Tenant
from tests.support.waiting import eventually

PATHS = ("/channel/create", "/channel/ping", "/channel/delete", "/push")
METHODS = ("GET", "PUT", "PATCH", "DELETE", "OPTIONS")


@pytest.fixture(scope="module")
def ports() -> tuple[int, int]:
    """The ports of the old server: for HTTP and for WebSockets."""
    return free_port(), free_port()


@pytest.fixture(scope="module")
def channels(ports: tuple[int, int]) -> Iterator[Deployment]:
    """A server in the place of an old one, on both of its ports."""
    sites = {
        "shop": channels_site(channels={"open_create": True, "recreate": True}),
        "readme": channels_site(channels={"acks": "readme"}),
    }
    mount = {"site": "shop", "http_port": ports[0], "ws_port": ports[1]}
    server = Deployment(sites, {"log_level": "debug", "mounts": {"channels": mount}, "workers": 2})
    yield server
    server.end()


@pytest.fixture
def old(ports: tuple[int, int]) -> Iterator[Endpoint]:
    """The HTTP port of the old server."""
    client = httpx.Client(base_url=f"http://127.0.0.1:{ports[0]}")
    yield client  # type: ignore[misc]
    client.close()


@pytest.fixture
def name(tenant: Tenant) -> str:
    """A channel's name that no other test uses."""
    return tenant.unique("channel")


def body_of(action: str, **data: Any) -> dict[str, Any]:
    """The body of a publisher's request."""
    return {"messageType": "SERVER_ACTION", "action": action, "data": data}


def sysadmin(client: Any, **options: Any) -> dict[str, Any]:
    """The data of /sysadmin."""
    answer = client.request("GET", "/sysadmin", headers={"X-API-Key": KEY}, **options)
    assert answer.headers["content-type"] == "application/json"
    value: dict[str, Any] = answer.json()
    return value


def test_acks_as_the_readme_says(channels: Deployment, name: str) -> None:
    """With `acks: readme` the message of every ack is `Connected`."""
    Publisher(channels, "readme").create(name)
    with Subscription(channels.url, "readme") as subscriber:
        acks = [subscriber.ack, *(subscriber.act(action, name) for action in ("SUBSCRIBE", "SUBSCRIBE", "UNSUBSCRIBE"))]
    assert [ack["message"] for ack in acks] == ["Connected"] * 4
    assert acks[1]["data"]["subscribedChannels"] == [name]


def test_capitals_make_no_other_uuid(channels: Deployment, name: str) -> None:
    """A uuid in capitals is the same: of a client in its actions, of a recipient, and of a client that resumes."""
    publisher = Publisher(channels, "shop")
    publisher.create(name)
    with Subscription(channels.url, "shop", resumable="1") as subscriber:
        uuid, secret = str(subscriber.uuid), subscriber.ack["data"]["secret"]
        ack = subscriber.act("SUBSCRIBE", name, uuid=uuid.upper())
        assert (ack["message"], ack["data"]["uuid"]) == ("Subscribed", uuid)
        publisher.push(name, "one", uuid.upper())
        assert subscriber.pushed() == [(name, "one")]
    publisher.push(name, "two", uuid.upper())
    with Subscription(channels.url, "shop", resume=uuid.upper(), secret=secret) as subscriber:
        assert (subscriber.uuid, subscriber.ack["data"]["subscribedChannels"]) == (uuid, [name])
        # The push before the end may come again.
        while subscriber.pushed() != [(name, "two")]:
            pass


@pytest.mark.parametrize("path", PATHS)
def test_any_method_at_the_original_paths(channels: Deployment, old: Any, path: str) -> None:
    """The mounted paths take any HTTP method, on each port; the paths of the site itself take POST alone."""
    for method in METHODS:
        for client in (channels, old):
            assert is_error(client.request(method, path, content=b"{}"), 400, "Bad Request")
        assert is_error(channels.request(method, f"/channels/shop{path}", content=b"{}"), 405, "Method not allowed")
    assert old.request("HEAD", path).status_code == 400


def test_a_publisher_that_uses_get(channels: Deployment, old: Any, name: str) -> None:
    """The whole life of a channel works with GET, and what follows a path is ignored."""
    created = old.request("GET", "/channel/create", json=body_of("CREATE_CHANNEL", channel=name)).json()
    data = {"channel": name, "channelToken": created["data"]["channelToken"]}
    assert is_ack(old.request("GET", "/channel/ping/more", json=body_of("PING_CHANNEL", **data)), "OK", name)
    push = body_of("PUSH_MESSAGE", **data, recipients=[], message="m")
    assert is_ack(old.request("GET", "/pushes", json=push), "Sent", name)
    assert is_ack(old.request("PUT", "/channel/delete/", json=body_of("DELETE_CHANNEL", **data)), "Deleted", name)


def test_a_websocket_on_any_path(channels: Deployment, ports: tuple[int, int]) -> None:
    """A WebSocket of the mounted site may have any path: on the main port where nothing else answers it, on the ports
    of the old server everywhere."""
    main = int(channels.url.rpartition(":")[2])
    everywhere = ("/", "/ws", "/any/path?x=1", "/push", "/channel/create")
    elsewhere = ("/socket.io/?EIO=4&transport=websocket", "/channels/nobody", "/topics/x", "/healthcheck")
    for port, paths in ((main, everywhere), (ports[0], everywhere + elsewhere), (ports[1], everywhere + elsewhere)):
        for path in paths:
            with connect(f"ws://127.0.0.1:{port}{path}", compression=None, proxy=None) as socket:
                assert '"message":"Connected"' in str(socket.recv(30)), (port, path)
    with pytest.raises(InvalidStatus):
        connect(f"ws://127.0.0.1:{main}/channels/nobody", proxy=None)


def test_the_old_ports_serve_nothing_else(channels: Deployment, old: Any, ports: tuple[int, int], name: str) -> None:
    """The two ports serve the mounted site, from every worker, and no other path of the server."""
    token = old.request("POST", "/channel/create", json=body_of("CREATE_CHANNEL", channel=name)).json()["data"][
        "channelToken"
    ]
    with ExitStack() as stack:
        url = f"http://127.0.0.1:{ports[1]}"
        subscribers = [stack.enter_context(Subscription(url, None).subscribe(name)) for _ in range(8)]
        push = body_of("PUSH_MESSAGE", channel=name, channelToken=token, recipients=[], message="to all")
        assert is_ack(old.request("POST", "/push", json=push), "Sent", name)
        assert [subscriber.pushed() for subscriber in subscribers] == [[(name, "to all")]] * 8
    for path in ("/", "/healthcheck", "/metrics", "/readyz", "/send", "/channels/readme/client.js", "/socket.io/"):
        assert old.request("GET", path).status_code == 404, path
    assert channels.get("/healthcheck").text == "ok"


def test_sysadmin(channels: Deployment, old: Any, name: str) -> None:
    """The owner sees the channels and the numbers; without the key the answer is 401, with a wrong one 403."""
    publisher = Publisher(channels, "shop")
    before = sysadmin(old)["data"]
    publisher.create(name)
    with Subscription(channels.url, "shop"), Subscription(channels.url, "shop", resumable="1"):
        wanted = before["clientsAmount"] + 2
        report = eventually(lambda: _with_clients(sysadmin(old), wanted), "the subscribers of both workers")
        assert list(report) == ["messageType", "code", "message", "data"]
        assert (report["messageType"], report["code"], report["message"]) == ("SERVER_SYSADMIN", 200, "OK")
        assert list(report["data"]) == ["channels", "channelsAmount", "clientsAmount"]
        assert sorted(report["data"]["channels"]) == sorted([*before["channels"], name])
        assert report["data"]["channelsAmount"] == before["channelsAmount"] + 1
    eventually(lambda: _with_clients(sysadmin(old), before["clientsAmount"]), "the subscribers to be gone")
    publisher.delete(name)
    for path in ("/sysadmin", "/channels/shop/sysadmin"):
        assert is_error(channels.get(path), 401, "Unauthorized")
        assert is_error(channels.get(path, headers={"X-API-Key": "wrong"}), 403, "Forbidden")
        assert channels.get(path, params={"apiKey": KEY}).json()["data"]["channels"] == before["channels"]
    assert is_error(channels.request("DELETE", "/channels/shop/sysadmin"), 405, "Method not allowed")
    assert channels.request("HEAD", "/sysadmin", headers={"X-API-Key": KEY}).text == ""


def _with_clients(report: dict[str, Any], count: int) -> dict[str, Any]:
    return report if report["data"]["clientsAmount"] == count else {}


def test_a_publisher_that_creates_its_channel_again(channels: Deployment, name: str) -> None:
    """With `recreate` the owner of the site gets a fresh token for a channel that exists, and the older token is void.
    Everybody else gets the conflict. The channel keeps its subscribers, also those that resume."""
    publisher = Publisher(channels, "shop")
    first = publisher.create(name)
    with (
        Subscription(channels.url, "shop") as plain,
        Subscription(channels.url, "shop", resumable="1") as away,
    ):
        plain.subscribe(name)
        away.subscribe(name)
        uuid, secret = str(away.uuid), away.ack["data"]["secret"]
        away.close()
        for headers in ({}, {"X-API-Key": "wrong"}):
            answer = publisher.post("/channel/create", "CREATE_CHANNEL", {"channel": name}, headers=headers)
            assert is_error(answer, 409, "Conflict")
        second = publisher.create(name)
        third = publisher.create(name)
        assert len({first, second, third}) == 3
        for token in (first, second):
            assert is_error(publisher.ping(name, token), 403, "Forbidden")
            assert is_error(publisher.push(name, "x", token=token), 403, "Forbidden")
            assert is_error(publisher.delete(name, token), 403, "Forbidden")
        assert is_ack(publisher.ping(name, third), "OK", name)
        assert is_ack(publisher.push(name, "kept"), "Sent", name)
        assert plain.pushed() == [(name, "kept")]
        with Subscription(channels.url, "shop", resume=uuid, secret=secret) as back:
            assert back.ack["data"]["subscribedChannels"] == [name]
            assert back.pushed() == [(name, "kept")]
            assert is_ack(publisher.delete(name), "Deleted", name)
            assert back.receive()["data"]["subscribedChannels"] == []
        fourth = publisher.create(name)
        assert is_ack(publisher.push(name, "to nobody"), "Sent", name)
        assert plain.subscribe(name).ack
        assert is_ack(publisher.push(name, "new"), "Sent", name)
        assert plain.pushed() == [(name, "new")]
        assert fourth not in (first, second, third)


def test_without_the_setting_creating_again_is_a_conflict(channels: Deployment, name: str) -> None:
    """Without `recreate` the key of the site gives no fresh token."""
    publisher = Publisher(channels, "readme")
    token = publisher.create(name)
    answer = publisher.post("/channel/create", "CREATE_CHANNEL", {"channel": name}, headers={"X-API-Key": KEY})
    assert is_error(answer, 409, "Conflict")
    assert answer.json()["data"]["errorDetails"] == f'A WebSocketChannel called "{name}" already exists'
    assert is_ack(publisher.ping(name, token), "OK", name)


def test_the_class_of_the_old_client(channels: Deployment, old: Any, ports: tuple[int, int], browser: Browser) -> None:
    """A page that loads /js/pushserver.js from the old port gets its pushes, one callback a channel, until it
    unsubscribes or disconnects."""
    answer = old.request("GET", "/js/pushserver.js")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/javascript; charset=utf-8")
    publisher = Publisher(channels, "shop")
    for channel in ("page", "page2"):
        publisher.create(channel)
    page = browser.open(f"{channels.url}/healthcheck")
    page.evaluate(
        "window.seen = []; new Promise((resolve) => { const script = document.createElement('script');"
        f"script.src = 'http://127.0.0.1:{ports[0]}/js/pushserver.js'; script.onload = resolve;"
        "document.head.append(script); })"
    )
    page.evaluate(f"window.server = new PushServer('ws://127.0.0.1:{ports[1]}'); server.CONNECTION_STATUS")
    eventually(lambda: page.evaluate("server.CONNECTION_STATUS"), "the connection")
    page.evaluate(
        "server.subscribe('page', () => seen.push('replaced')); server.subscribe('page', (text) => seen.push(text));"
        "server.subscribe('page2', (text) => seen.push(text)); server.WS_CONNECTION.readyState"
    )
    eventually(lambda: page.evaluate("server.channels.subscribed.size") == 2, "both subscriptions")
    publisher.push("page", "one")
    publisher.push("page2", "two")
    eventually(lambda: page.evaluate("seen.length") == 2, "the pushes")
    assert page.evaluate("seen") == ["one", "two"]
    page.evaluate("server.unsubscribe('page'); server.channels.subscribed.size")
    eventually(lambda: page.evaluate("server.channels.listed.length") == 1, "the end of one subscription")
    publisher.push("page", "not any more")
    publisher.push("page2", "three")
    eventually(lambda: page.evaluate("seen.length") == 3, "the push")
    assert page.evaluate("seen") == ["one", "two", "three"]
    thrown = page.evaluate(
        "server.disconnect(); (() => { try { server.subscribe('page', () => {}); } catch (error) {"
        "return error.message; } })()"
    )
    assert thrown == "The connection to the server is not established yet or has been closed."
    eventually(lambda: not page.evaluate("server.CONNECTION_STATUS"), "the end")
    assert page.complaints() == []
    page.close()
    for channel in ("page", "page2"):
        publisher.delete(channel)
