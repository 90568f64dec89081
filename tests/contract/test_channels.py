"""Contract `channels`, line by line, with clients from outside this project: `websockets` from PyPI and httpx."""

from __future__ import annotations

import json
import re
import subprocess
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from tests.support.channels import KEY, Publisher, Subscription, channels_site
from tests.support.deployment import Deployment
from tests.support.processes import REPOSITORY
from tests.support.tenant import Tenant
from tests.support.waiting import eventually

ORIGIN = "https://www.example.com"
ACK_KEYS = ["messageType", "code", "message", "data"]


@pytest.fixture(scope="module")
def channels() -> Iterator[Deployment]:
    """A server with several sites that have channels; one site is mounted at the original paths."""
    sites = {
        "shop": channels_site(),
        "anybody": channels_site(channels={"open_create": True}),
        "narrow": channels_site(origins=[ORIGIN]),
        "few": channels_site(channels={"max_channels": 2}),
        "a/b é": channels_site(),
        "without": {"apiKey": KEY, "redisPublish": {}},
    }
    server = Deployment(sites, {"log_level": "debug", "mounts": {"channels": "anybody"}})
    yield server
    server.end()


@pytest.fixture
def shop(channels: Deployment) -> Publisher:
    """A publisher of the site shop."""
    return Publisher(channels, "shop")


@pytest.fixture
def name(tenant: Tenant) -> str:
    """A channel's name that no other test uses."""
    return tenant.unique("channel")


def is_error(answer: httpx.Response, code: int, message: str) -> bool:
    """Check that the response is this error: exactly its keys, a reason, and its code as the HTTP status."""
    body = answer.json()
    details = body["data"].pop("errorDetails")
    expected = {"messageType": "ERROR", "code": code, "message": message, "data": {}}
    return answer.status_code == code and body == expected and list(body) == ACK_KEYS and bool(details)


def is_ack(answer: httpx.Response, message: str, channel: str) -> bool:
    """Check that the response is this answer to a publisher, with its nulls written out."""
    text = f'{{"messageType":"SERVER_ACK","code":200,"message":"{message}","data":{{"channel":{json.dumps(channel)},'
    return answer.status_code == 200 and answer.text == f'{text}"channelToken":null}}}}'


# Which site a request is for


def test_mounted_at_the_original_paths(channels: Deployment, name: str) -> None:
    """The paths of the original, and the WebSocket on /, belong to the site that mounts.channels names."""
    publisher, elsewhere = Publisher(channels, None), Publisher(channels, "anybody")
    publisher.create(name)
    with Subscription(channels.url, None) as subscriber:
        subscriber.subscribe(name)
        assert is_ack(publisher.push(name, "a"), "Sent", name)
        assert is_ack(elsewhere.push(name, "b", token=publisher.tokens[name]), "Sent", name)
        assert subscriber.pushed(2) == [(name, "a"), (name, "b")]
    assert is_ack(publisher.ping(name, publisher.tokens[name]), "OK", name)
    assert is_ack(publisher.delete(name), "Deleted", name)


def test_a_name_that_has_to_be_encoded(channels: Deployment, name: str) -> None:
    """The name of a site is one segment of the path, percent-encoded where it must be."""
    publisher = Publisher(channels, "a%2Fb%20%C3%A9")
    publisher.create(name)
    with Subscription(channels.url, "a%2Fb%20%C3%A9") as subscriber:
        subscriber.subscribe(name)
        publisher.push(name, "x")
        assert subscriber.pushed() == [(name, "x")]


@pytest.mark.parametrize("site", ["without", "nobody", "", "shop/nothing", "a/b é"])
def test_there_is_nothing_elsewhere(channels: Deployment, site: str) -> None:
    """Publishers and subscribers get 404 for a site without channels, for an unknown site and for an unknown path."""
    answer = Publisher(channels, site).post("/channel/create", "CREATE_CHANNEL", {"channel": "x"})
    assert is_error(answer, 404, "Not found")
    with pytest.raises(InvalidStatus) as refusal:
        Subscription(channels.url, httpx.URL(f"/{site}").raw_path.decode().lstrip("/"))
    assert refusal.value.response.status_code == 404


def test_sites_do_not_meet(channels: Deployment, shop: Publisher, name: str) -> None:
    """A channel of the same name in another site is another channel with another token."""
    other = Publisher(channels, "anybody")
    tokens = {shop.create(name), other.create(name)}
    assert len(tokens) == 2
    assert is_error(other.push(name, "x", token=shop.tokens[name]), 403, "Forbidden")
    with Subscription(channels.url, "shop") as subscriber:
        subscriber.subscribe(name)
        other.push(name, "not for you")
        shop.push(name, "for you")
        assert subscriber.pushed() == [(name, "for you")]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "PATCH"])
@pytest.mark.parametrize("path", ["/channel/create", "/channel/ping", "/channel/delete", "/push"])
def test_other_methods(channels: Deployment, method: str, path: str) -> None:
    """Publishers use POST; any other method is answered 405, and the answer names the allowed method."""
    answer = channels.request(method, f"/channels/shop{path}")
    assert is_error(answer, 405, "Method not allowed")
    assert answer.headers["allow"] == "POST"


# Creating a channel


def test_create(channels: Deployment, name: str) -> None:
    """The answer names the channel and a token of 128 random URL-safe characters, in exactly the contract's keys."""
    tokens = set()
    for number in range(2):
        answer = Publisher(channels, "shop").post(
            "/channel/create", "CREATE_CHANNEL", {"channel": f"{name}{number}"}, headers={"X-API-Key": KEY}
        )
        body = answer.json()
        token = body["data"].pop("channelToken")
        expected = {
            "messageType": "SERVER_ACK",
            "code": 200,
            "message": "Created",
            "data": {"channel": f"{name}{number}"},
        }
        assert (answer.status_code, body, list(body)) == (200, expected, ACK_KEYS)
        assert re.fullmatch(r"[A-Za-z0-9_-]{128}", token)
        tokens.add(token)
    assert len(tokens) == 2


@pytest.mark.parametrize(
    "key",
    [{"headers": {"X-API-Key": KEY}}, {"headers": {"Authorization": f"Bearer {KEY}"}}, {"params": {"apiKey": KEY}}],
    ids=["X-API-Key", "Bearer", "apiKey"],
)
def test_the_key_may_stand_in_three_places(channels: Deployment, name: str, key: dict[str, Any]) -> None:
    """The key is accepted in a header of its own, as a bearer token, or in the query."""
    publisher = Publisher(channels, "shop")
    assert publisher.post("/channel/create", "CREATE_CHANNEL", {"channel": name}, **key).status_code == 200
    assert is_error(publisher.post("/channel/create", "CREATE_CHANNEL", {"channel": name}, **key), 409, "Conflict")


def test_create_without_the_key(channels: Deployment, shop: Publisher, name: str) -> None:
    """Creating is refused with 401 without a key and with 403 with a wrong key; with open_create no key is needed."""
    data = {"channel": name}
    assert is_error(shop.post("/channel/create", "CREATE_CHANNEL", data), 401, "Unauthorized")
    wrong = shop.post("/channel/create", "CREATE_CHANNEL", data, headers={"X-API-Key": KEY + "x"})
    assert is_error(wrong, 403, "Forbidden")
    assert is_error(shop.ping(name, None), 404, "Not found")
    assert Publisher(channels, "anybody").post("/channel/create", "CREATE_CHANNEL", data).status_code == 200


def test_one_of_many_creates_it(channels: Deployment, name: str) -> None:
    """Of ten publishers that create a channel at once exactly one gets its token, and that token is valid."""
    answers: list[httpx.Response] = []

    def create() -> None:
        publisher = Publisher(channels, "anybody")
        answers.append(publisher.post("/channel/create", "CREATE_CHANNEL", {"channel": name}))

    threads = [threading.Thread(target=create) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (created,) = [answer for answer in answers if answer.status_code == 200]
    assert sum(is_error(answer, 409, "Conflict") for answer in answers if answer is not created) == 9
    token = created.json()["data"]["channelToken"]
    assert is_ack(Publisher(channels, "anybody").ping(name, token), "OK", name)


def test_no_more_channels_than_there_may_be(channels: Deployment) -> None:
    """Past max_channels creating is refused; deleting a channel makes room for another."""
    few = Publisher(channels, "few")
    few.create("1")
    few.create("2")

    def create(channel: str) -> httpx.Response:
        return few.post("/channel/create", "CREATE_CHANNEL", {"channel": channel}, headers={"X-API-Key": KEY})

    assert is_error(create("3"), 507, "Insufficient storage")
    assert is_error(create("2"), 409, "Conflict")
    few.delete("1")
    few.create("3")


# Pinging, pushing and deleting


def test_ping(shop: Publisher, name: str) -> None:
    """A ping with the channel's token is OK, with null for the token. No token is 401, a wrong token 403, and an
    unknown channel 404 whatever the token is."""
    assert is_error(shop.ping(name, None), 404, "Not found")
    assert is_error(shop.ping(name, "x"), 404, "Not found")
    assert is_error(shop.post("/channel/ping", "PING_CHANNEL", {"channel": name}), 400, "Bad Request")
    token = shop.create(name)
    assert is_ack(shop.ping(name, token), "OK", name)
    assert is_error(shop.ping(name, None), 401, "Unauthorized")
    assert is_error(shop.ping(name, token[:-1]), 403, "Forbidden")
    assert is_error(shop.ping(name, ""), 403, "Forbidden")


def test_push(channels: Deployment, shop: Publisher, name: str) -> None:
    """All subscribers of the channel get the message, in exactly the contract's
    keys; no other subscriber gets anything."""
    shop.create(name)
    shop.create(name + "2")
    with (
        Subscription(channels.url, "shop") as one,
        Subscription(channels.url, "shop") as two,
        Subscription(channels.url, "shop") as other,
    ):
        one.subscribe(name)
        two.subscribe(name + "2", name)
        other.subscribe(name + "2")
        text = 'a "quoted" line\nand é, \u2028, 😀 and \x00'
        assert is_ack(shop.push(name, text), "Sent", name)
        for subscriber, subscribed in ((one, [name]), (two, [name + "2", name])):
            push = json.loads(subscriber.socket.recv(30))
            assert push == {
                "messageType": "CLIENT_PUSH",
                "code": 200,
                "message": "Push Message",
                "data": {
                    "uuid": subscriber.uuid,
                    "subscribedChannels": subscribed,
                    "pushMessage": {"channel": name, "message": text},
                },
            }
            assert (list(push), list(push["data"])) == (ACK_KEYS, ["uuid", "subscribedChannels", "pushMessage"])
        shop.push(name + "2", "last")
        assert other.pushed() == [(name + "2", "last")]


def test_push_without_the_token(shop: Publisher, name: str) -> None:
    """A push with a wrong token is 403. A push to an unknown or deleted channel is 404. The token of a deleted channel
    stays wrong after the channel is created again."""
    assert is_error(shop.push(name, "x", token="t"), 404, "Not found")
    token = shop.create(name)
    assert is_error(shop.push(name, "x", token=token[::-1]), 403, "Forbidden")
    assert is_error(shop.push(name, "x", token=KEY), 403, "Forbidden")
    assert is_ack(shop.push(name, "x"), "Sent", name)
    shop.delete(name)
    assert is_error(shop.push(name, "x"), 404, "Not found")
    shop.create(name)
    assert is_error(shop.push(name, "x", token=token), 403, "Forbidden")


def test_recipients(channels: Deployment, shop: Publisher, name: str) -> None:
    """A push with recipients reaches each subscribed recipient once; unknown recipients are skipped silently."""
    shop.create(name)
    shop.create(name + "2")
    with (
        Subscription(channels.url, "shop") as one,
        Subscription(channels.url, "shop") as two,
        Subscription(channels.url, "shop") as elsewhere,
    ):
        one.subscribe(name)
        two.subscribe(name)
        elsewhere.subscribe(name + "2")
        for recipients in ([one.uuid, elsewhere.uuid, str(uuid.uuid4()), one.uuid], [elsewhere.uuid]):
            assert is_ack(shop.push(name, "to one", *recipients), "Sent", name)
        for text in ("no uuid", "", f"{one.uuid}\n", "1-1-1-1-1"):
            assert is_error(shop.push(name, "to nobody", one.uuid, text), 400, "Bad Request")
        shop.push(name, "to all")
        shop.push(name + "2", "elsewhere")
        assert one.pushed(2) == [(name, "to one"), (name, "to all")]
        assert two.pushed() == [(name, "to all")]
        assert elsewhere.pushed() == [(name + "2", "elsewhere")]


def test_delete(channels: Deployment, shop: Publisher, name: str) -> None:
    """Deleting a channel invalidates its token and unsubscribes everyone: a new channel of that
    name does not reach the old subscribers."""
    shop.create(name)
    shop.create(name + "2")
    with Subscription(channels.url, "shop") as subscriber:
        subscriber.subscribe(name, name + "2")
        assert is_error(shop.delete(name, "x"), 403, "Forbidden")
        without = {"channel": name, "channelToken": None}
        assert is_error(shop.post("/channel/delete", "DELETE_CHANNEL", without), 403, "Forbidden")
        assert is_error(shop.post("/channel/delete", "DELETE_CHANNEL", {"channel": name}), 400, "Bad Request")
        assert is_ack(shop.delete(name), "Deleted", name)
        assert is_error(shop.delete(name), 404, "Not found")
        shop.create(name)
        shop.push(name, "to nobody")
        shop.push(name + "2", "still here")
        push = subscriber.receive()["data"]
        assert (push["subscribedChannels"], push["pushMessage"]["message"]) == ([name + "2"], "still here")
        subscriber.subscribe(name)
        shop.push(name, "again")
        assert subscriber.pushed() == [(name, "again")]


# Mistakes of publishers


def test_bad_bodies(channels: Deployment) -> None:
    """A body that is not JSON, or not of the shape that the path takes, is answered 400 with a reason, never 500."""
    good = {"messageType": "SERVER_ACTION", "action": "PUSH_MESSAGE"}
    data = {"channel": "x", "channelToken": "t", "recipients": [], "message": "m"}
    bodies: list[bytes] = [b"", b"{", b"\xff", b"[" * 100_000, b'"', b"null", b"[]", b"7", b'{"a":1}', b"{}x"]
    shapes: list[object] = [
        good,
        good | {"data": None},
        good | {"data": []},
        good | {"data": data, "action": "CREATE_CHANNEL"},
        good | {"data": data, "messageType": "CLIENT_ACTION"},
        *(good | {"data": {key: value for key, value in data.items() if key != left_out}} for left_out in data),
        *(good | {"data": data | {key: 5}} for key in data),
        good | {"data": data | {"channelToken": None}},
        good | {"data": data | {"recipients": [None]}},
        good | {"data": data | {"recipients": "x"}},
        good | {"data": data | {"message": {"a": 1}}},
        good | {"data": data | {"channel": ""}},
        good | {"data": data | {"channel": "x" * 1001}},
    ]
    for body in [*bodies, *(json.dumps(shape).encode() for shape in shapes), b'{"messageType":"\\ud800"}']:
        answer = channels.post("/channels/shop/push", content=body)
        assert is_error(answer, 400, "Bad Request"), (body[:100], answer.text)


def test_a_body_that_is_too_long(channels: Deployment) -> None:
    """A body over max_body is answered 413."""
    answer = channels.post("/channels/shop/push", content=b"x" * 1_000_001)
    assert is_error(answer, 413, "Payload too large")


def test_a_message_as_long_as_it_may_be(channels: Deployment, shop: Publisher, name: str) -> None:
    """A push of nearly max_body reaches a subscriber whole."""
    shop.create(name)
    text = "x" * 990_000
    with Subscription(channels.url, "shop") as subscriber:
        subscriber.subscribe(name)
        assert is_ack(shop.push(name, text), "Sent", name)
        assert subscriber.pushed() == [(name, text)]


# Subscribers


def test_connect(channels: Deployment) -> None:
    """The server speaks first: a uuid of version 4, no channels, exactly the contract's
    keys; each connection has a new uuid."""
    with Subscription(channels.url, "shop") as one, Subscription(channels.url, "shop") as two:
        assert one.ack == {
            "messageType": "CLIENT_ACK",
            "code": 200,
            "message": "Connected",
            "data": {"uuid": one.uuid, "subscribedChannels": []},
        }
        assert (list(one.ack), list(one.ack["data"])) == (ACK_KEYS, ["uuid", "subscribedChannels"])
        assert uuid.UUID(one.uuid).version == 4
        assert str(uuid.UUID(one.uuid)) == one.uuid != two.uuid


def test_subscribe_and_unsubscribe(channels: Deployment, shop: Publisher, name: str) -> None:
    """The answer is the list after the change, in the order of subscribing;
    subscribing twice has the effect of once."""
    names = [f"{name}{number}" for number in range(3)]
    for each in names:
        shop.create(each)
    with Subscription(channels.url, "shop") as subscriber:

        def listed(ack: dict[str, Any], message: str = "Subscribed") -> list[str]:
            assert (ack["messageType"], ack["code"], ack["message"]) == ("CLIENT_ACK", 200, message)
            assert ack["data"] == {"uuid": subscriber.uuid, "subscribedChannels": ack["data"]["subscribedChannels"]}
            return list(ack["data"]["subscribedChannels"])

        assert [listed(subscriber.act("SUBSCRIBE", each)) for each in names] == [names[:1], names[:2], names]
        assert listed(subscriber.act("SUBSCRIBE", names[1], uuid=subscriber.uuid)) == names
        shop.push(names[1], "once")
        shop.push(names[0], "then")
        assert subscriber.pushed(2) == [(names[1], "once"), (names[0], "then")]
        for _ in range(2):
            assert listed(subscriber.act("UNSUBSCRIBE", names[1]), "Unsubscribed") == [names[0], names[2]]
        assert listed(subscriber.act("SUBSCRIBE", names[1])) == [names[0], names[2], names[1]]


def test_what_a_subscriber_does_wrong(channels: Deployment, shop: Publisher, name: str) -> None:
    """Each mistake of a subscriber has its error, in exactly its keys; the connection stays open and works."""
    shop.create(name)
    action = {"messageType": "CLIENT_ACTION", "action": "SUBSCRIBE", "data": {"channel": name}}
    with Subscription(channels.url, "shop") as subscriber, Subscription(channels.url, "shop") as other:

        def error(text: str | bytes) -> tuple[int, str]:
            subscriber.socket.send(text)
            answer = subscriber.receive()
            assert list(answer) == ACK_KEYS
            assert answer["messageType"] == "ERROR"
            assert list(answer["data"]) == ["errorDetails"]
            return answer["code"], answer["message"]

        for text in ("", "{", "nothing", "[" * 50_000, '{"a":}', '{"messageType": "CLIENT_ACTION", "x"'):
            assert error(text) == (400, "Bad JSON")
        assert error(b"binary") == (400, "Bad JSON")
        shapes: list[object] = [{}, [], 5, None, action | {"action": "PUSH"}, action | {"messageType": "SERVER_ACTION"}]
        for shape in shapes:
            assert error(json.dumps(shape)) == (400, "Invalid message")
        for data in ({}, None, {"channel": None}, {"channel": 1}, {"channel": ""}, {"channel": "x" * 1001}):
            assert error(json.dumps(action | {"data": data})) == (400, "Invalid message")
        assert error(json.dumps(action | {"data": {"channel": name + "x"}})) == (404, "Not found")
        unknown = action | {"action": "UNSUBSCRIBE", "data": {"channel": name + "x"}}
        assert error(json.dumps(unknown)) == (404, "Not found")
        for stranger in (other.uuid, str(uuid.uuid4()), "", "x"):
            assert error(json.dumps(action | {"uuid": stranger})) == (403, "Forbidden")
        assert error(json.dumps(action | {"uuid": 5})) == (400, "Invalid message")
        subscriber.subscribe(name)
        shop.push(name, "works")
        assert subscriber.pushed() == [(name, "works")]


def test_nothing_comes_behind_the_ack_of_an_unsubscribe(channels: Deployment, shop: Publisher, name: str) -> None:
    """The ack of an UNSUBSCRIBE is always the last frame of its channel, while
    another client pushes as fast as it can."""
    shop.create(name)
    shop.create(name + "end")
    is_over = threading.Event()

    def push() -> None:
        number = 0
        while not is_over.is_set():
            number += 1
            shop.push(name, str(number))

    pushing = threading.Thread(target=push)
    pushing.start()
    try:
        with Subscription(channels.url, "shop") as subscriber:
            for _ in range(50):
                subscriber.send({"messageType": "CLIENT_ACTION", "action": "SUBSCRIBE", "data": {"channel": name}})
                numbers = _numbers_until(subscriber, "CLIENT_ACK")
                assert numbers == [], "a push before the ack of the SUBSCRIBE"
                numbers = [int(subscriber.pushed()[0][1]) for _ in range(3)]
                subscriber.send({"messageType": "CLIENT_ACTION", "action": "UNSUBSCRIBE", "data": {"channel": name}})
                numbers += _numbers_until(subscriber, "CLIENT_ACK")
                assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), "a push was lost or came twice"
            subscriber.subscribe(name + "end")
            shop.push(name + "end", "end")
            assert subscriber.pushed() == [(name + "end", "end")]
    finally:
        is_over.set()
        pushing.join()


def _numbers_until(subscriber: Subscription, kind: str) -> list[int]:
    numbers = []
    while (message := subscriber.receive())["messageType"] != kind:
        numbers.append(int(message["data"]["pushMessage"]["message"]))
    return numbers


def test_origins(channels: Deployment) -> None:
    """A page of another origin is refused where the site names its own origins; a
    client that is no browser is accepted."""
    for origin in (ORIGIN, None):
        Subscription(channels.url, "narrow", origin=origin).close()
    with pytest.raises(InvalidStatus) as refusal:
        Subscription(channels.url, "narrow", origin="https://evil.example.com")
    assert refusal.value.response.status_code == 403

    def is_logged() -> bool:
        refused = [line for line in channels.server.log() if line.get("event") == "subscriber refused"]
        found = [(line["site"], line["reason"], line.get("origin")) for line in refused]
        return ("narrow", "origin", "https://evil.example.com") in found

    eventually(is_logged, "the line in the log")


def test_the_browser_client_is_served(channels: Deployment) -> None:
    """GET /channels/<site>/client.js answers JavaScript that any page may load."""
    answer = channels.get("/channels/shop/client.js")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/javascript; charset=utf-8")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "class RecadoChannels" in answer.text
    assert channels.request("HEAD", "/channels/shop/client.js").text == ""
    assert channels.get("/channels/nobody/client.js").status_code == 404


def test_the_first_example_of_the_docs(channels: Deployment, tmp_path: Path) -> None:
    """The commands of docs/channels.md run as they stand, with only the address and the key replaced."""
    page = (REPOSITORY / "docs" / "channels.md").read_text()
    create, push = (
        block.replace("http://localhost:1337", channels.url).replace("put-a-key-of-your-own-here", KEY)
        for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    )

    def run(command: str) -> dict[str, Any]:
        answer = subprocess.run(["sh", "-c", command], capture_output=True, check=True, cwd=tmp_path)
        body: dict[str, Any] = json.loads(answer.stdout)
        return body

    created = run(create)
    assert created["message"] == "Created"
    with Subscription(channels.url, "shop") as subscriber:
        subscriber.subscribe("news")
        assert run(push.replace("TOKEN", created["data"]["channelToken"]))["message"] == "Sent"
        assert subscriber.pushed() == [("news", "hello")]
