"""Channels in Chromium: the browser's own WebSocket, and the client that the server serves to pages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.browser import Browser, Page
from tests.support.channels import Publisher, channels_site
from tests.support.deployment import Deployment
from tests.support.tenant import Tenant
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def channels() -> Iterator[Deployment]:
    """A server with one site whose channels are open to any page, and one open to pages of another origin only."""
    sites = {"shop": channels_site(), "narrow": channels_site(origins=["https://www.example.com"])}
    server = Deployment(sites, {"log_level": "debug", "mounts": {"channels": "shop"}})
    yield server
    server.end()


@pytest.fixture
def page(channels: Deployment, browser: Browser) -> Iterator[Page]:
    """An empty page of the server."""
    tab = browser.open(f"{channels.url}/healthcheck")
    yield tab
    tab.close()


@pytest.fixture
def name(tenant: Tenant) -> str:
    """A channel's name that no other test uses."""
    return tenant.unique("channel")


def seen(page: Page, count: int) -> list[Any]:
    """The page's list `seen`, once it has this many entries."""
    return eventually(lambda: _long_enough(page.evaluate("seen"), count), f"{count} entries in the page")


def _long_enough(entries: list[Any], count: int) -> list[Any]:
    return entries if len(entries) >= count else []


@pytest.mark.shows("Channels", "connect, events", client="`WebSocket` of Chromium", transport="WebSocket")
def test_the_browsers_own_websocket(channels: Deployment, page: Page, name: str) -> None:
    """A page connects, subscribes, receives and unsubscribes with nothing but `new WebSocket`, at the original path."""
    publisher = Publisher(channels, None)
    publisher.tokens[name] = Publisher(channels, "shop").create(name)
    page.evaluate(
        "window.seen = []; window.socket = new WebSocket(location.origin.replace('http', 'ws') + '/');"
        "socket.onmessage = (event) => seen.push(JSON.parse(event.data));"
        "window.act = (action) => socket.send(JSON.stringify("
        f"{{messageType: 'CLIENT_ACTION', action, data: {{channel: {json.dumps(name)}}}}}))"
    )
    (connected,) = seen(page, 1)
    uuid = connected["data"]["uuid"]
    page.evaluate("act('SUBSCRIBE')")
    assert seen(page, 2)[1]["data"] == {"uuid": uuid, "subscribedChannels": [name]}
    text = "line\nbreak, \u2028, é, 😀"
    publisher.push(name, text)
    assert seen(page, 3)[2]["data"]["pushMessage"] == {"channel": name, "message": text}
    page.evaluate("act('UNSUBSCRIBE')")
    assert seen(page, 4)[3]["data"] == {"uuid": uuid, "subscribedChannels": []}
    assert page.complaints() == []


def test_a_page_of_another_origin_is_refused(channels: Deployment, page: Page) -> None:
    """The browser names the page's origin; a site that does not list this origin refuses the connection."""
    outcome = page.evaluate(
        "new Promise((resolve) => {"
        "const socket = new WebSocket(location.origin.replace('http', 'ws') + '/channels/narrow');"
        "socket.onopen = () => resolve('open'); socket.onclose = () => resolve('refused'); })"
    )
    assert outcome == "refused"


def load_client(page: Page, name: str) -> None:
    """Load the client from the server and subscribe; the page records states, pushes and reports of missed pushes."""
    page.evaluate(
        "new Promise((resolve) => { const script = document.createElement('script');"
        "script.src = '/channels/shop/client.js'; script.onload = resolve; document.head.append(script); })"
    )
    page.evaluate(
        "window.seen = []; window.channels = new RecadoChannels("
        "location.origin.replace('http', 'ws') + '/channels/shop',"
        "{onstate: (state) => seen.push(state), onmissed: (channel) => seen.push(channel ? {channel} : 'missed'),"
        " onerror: (error) => seen.push(error.code)});"
        f"window.end = channels.subscribe({json.dumps(name)}, (message) => seen.push({{message}}))"
    )


def test_the_served_client_subscribes_and_ends(channels: Deployment, page: Page, name: str) -> None:
    """`subscribe` calls back for each push; the end of a channel's last
    subscription unsubscribes; errors are reported."""
    publisher = Publisher(channels, "shop")
    publisher.create(name)
    load_client(page, name)
    assert seen(page, 2) == ["connecting", "open"]
    eventually(lambda: _is_subscribed(page, name), "the subscription")
    publisher.push(name, "one")
    assert seen(page, 3)[2:] == [{"message": "one"}]
    page.evaluate(f"window.second = channels.subscribe({json.dumps(name)}, (message) => seen.push([message])); end()")
    publisher.push(name, "two")
    assert seen(page, 4)[3:] == [["two"]]
    page.evaluate("second()")
    eventually(lambda: not _subscribers(channels, name), "the end of the subscription")
    page.evaluate("channels.subscribe('nothing', () => {})")
    assert seen(page, 5)[4:] == [404]
    page.evaluate("channels.close()")
    assert seen(page, 6)[-1] == "closed"
    assert page.complaints() == []


@pytest.mark.shows(
    "Channels",
    "connect, events, replay, restart of the server",
    client="`client.js` in Chromium",
    transport="WebSocket",
)
def test_the_served_client_comes_back_by_itself(channels: Deployment, page: Page, name: str) -> None:
    """When its server is killed the client reconnects, keeps its uuid, and gets the pushes made while it was away."""
    publisher = Publisher(channels, "shop")
    publisher.create(name)
    load_client(page, name)
    eventually(lambda: _is_subscribed(page, name), "the subscription")
    uuid = page.evaluate("channels.uuid")
    publisher.push(name, "before")
    assert seen(page, 3) == ["connecting", "open", {"message": "before"}]
    channels.kill()
    channels.start()
    publisher.push(name, "meanwhile")
    entries = eventually(lambda: _behind(page.evaluate("seen"), {"message": "meanwhile"}), "what was missed", 60)
    # The client may have received "before" twice: the server was killed before it had confirmed the position to Redis.
    assert [entry for entry in entries[3:] if entry != {"message": "before"}][:2] == ["closed", "connecting"]
    assert entries.count({"message": "meanwhile"}) == 1
    assert "missed" not in entries
    assert page.evaluate("channels.uuid") == uuid
    page.evaluate("channels.close()")


def test_the_served_client_goes_on_trying_to_subscribe(channels: Deployment, page: Page, name: str) -> None:
    """The client retries its subscription until the channel exists, also when the channel was deleted and created
    again. It reports both to the page and, once it is subscribed again, that pushes may have been missed."""
    publisher = Publisher(channels, "shop")
    load_client(page, name)
    assert seen(page, 3) == ["connecting", "open", 404]
    publisher.create(name)
    eventually(lambda: _is_subscribed(page, name), "the subscription", 60)
    publisher.push(name, "one")
    eventually(lambda: _behind(page.evaluate("seen"), {"message": "one"}), "a push")
    publisher.delete(name)
    publisher.create(name)
    entries = eventually(lambda: _behind(page.evaluate("seen"), {"channel": name}), "the page to be told", 60)
    assert [entry for entry in entries[3:] if entry != 404] == [{"message": "one"}, 410, {"channel": name}]
    publisher.push(name, "two")
    eventually(lambda: _behind(page.evaluate("seen"), {"message": "two"}), "a push")
    page.evaluate("channels.close()")
    assert page.complaints() == []


def test_the_served_client_finds_a_channel_deleted_while_it_was_away(
    channels: Deployment, page: Page, name: str
) -> None:
    """The client gets the pushes made before the deletion, subscribes to the new
    channel of that name, and tells the page."""
    publisher = Publisher(channels, "shop")
    publisher.create(name)
    load_client(page, name)
    eventually(lambda: _is_subscribed(page, name), "the subscription")
    # The pause keeps the client from reconnecting until the test allows it.
    page.evaluate("channels.pause = () => 1e9; channels.socket.close()")
    eventually(lambda: "closed" in page.evaluate("seen"), "the end")
    publisher.push(name, "before")
    publisher.delete(name)
    publisher.create(name)
    page.evaluate("delete channels.pause; clearTimeout(channels.timer); channels.connect()")
    entries = eventually(lambda: _behind(page.evaluate("seen"), {"channel": name}), "the page to be told", 60)
    assert entries.count(410) == entries.count({"message": "before"}) == 1
    publisher.push(name, "after")
    eventually(lambda: _behind(page.evaluate("seen"), {"message": "after"}), "a push")
    page.evaluate("channels.close()")


def test_subprotocols_and_no_url(channels: Deployment, page: Page) -> None:
    """A page that offers subprotocols connects; the client without a URL reports what it expected."""
    outcome = page.evaluate(
        "new Promise((resolve) => {"
        "const socket = new WebSocket(location.origin.replace('http', 'ws') + '/channels/shop', ['b', 'a']);"
        "socket.onopen = () => resolve(socket.protocol); socket.onclose = () => resolve('refused'); })"
    )
    assert outcome == "b"
    error = page.evaluate(
        "fetch('/channels/shop/client.js').then((answer) => answer.text()).then((text) => { new Function(text)();"
        "try { new RecadoChannels(); } catch (error) { return error.message; } })"
    )
    assert error == 'RecadoChannels: expected a URL, as "wss://push.example.com/channels/newsite"'


def _behind(entries: list[Any], last: object) -> list[Any]:
    return entries if last in entries else []


def test_the_served_client_says_when_it_was_forgotten(channels: Deployment, page: Page, name: str) -> None:
    """A client that returns too late gets a new uuid, subscribes again, and reports the loss to the page."""
    publisher = Publisher(channels, "shop")
    publisher.create(name)
    load_client(page, name)
    eventually(lambda: _is_subscribed(page, name), "the subscription")
    channels.kill()
    for key in channels.redis.client.scan_iter("recado:{shop}:subscriber:*"):
        channels.redis.client.delete(key)
    channels.start()
    eventually(lambda: "missed" in page.evaluate("seen"), "the page to be told", 60)
    eventually(lambda: _is_subscribed(page, name), "the subscription")
    publisher.push(name, "again")
    eventually(lambda: _behind(page.evaluate("seen"), {"message": "again"}), "a push")
    page.evaluate("channels.close()")


def _is_subscribed(page: Page, name: str) -> bool:
    """Whether the server has confirmed the client's subscription: every push from then on is for this client."""
    return bool(page.evaluate(f"channels.subscribed.has({json.dumps(name)})"))


def _subscribers(channels: Deployment, name: str) -> int:
    """How many resumable subscribers the channel has in Redis."""
    client = channels.redis.client
    keys = list(client.scan_iter("recado:{shop}:subscriber:*"))
    return sum(bool(client.hexists(key, f"c:{name}")) for key in keys)
