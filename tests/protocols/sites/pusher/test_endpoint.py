"""Pusher's HTTP API through its paths, on a real Valkey: every line of docs/moving/pusher.md about answers."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from app.config.settings import SiteLimits
from app.core.message import Message
from app.core.ports import Outcome
from app.errors import LimitReached, StoreUnavailable, WrongType
from app.protocols.sites.figures import SitesCounts, StrangerCounts
from app.protocols.sites.pusher.apps import NOT_AUTHENTIC
from app.protocols.sites.pusher.endpoint import MAX_SIGNED_QUERY_BYTES
from app.protocols.sites.pusher.signature import SIGNED_SECONDS
from app.protocols.sites.sender import Sender
from app.store.keys import prefix
from tests.protocols.sites.door import PUSHED, received
from tests.protocols.sites.pusher.conftest import MAX_BODY_BYTES, PusherWorld
from tests.protocols.sites.pusher.signing import signed_query
from tests.support.store import queue_of

EVENT = {"name": "news", "data": '{"id":1}', "channels": ["room"]}


def told(packets: list[str]) -> list[Any]:
    """The events of packets, with their arguments."""
    return [msgspec.json.decode(packet[packet.index("[") :]) for packet in packets]


def stored(world: PusherWorld) -> list[str]:
    """The keys of the messages that Redis holds."""
    return [key for key in world.door.valkey.dump() if key.startswith(f"{prefix(PUSHED.name)}body:")]


async def test_an_event_reaches_the_rooms_of_its_channels(world: PusherWorld) -> None:
    """Each client in one of the channels gets the event once, with its data as the only argument, and the event waits
    for its ack. The answer is an empty object."""
    one, two = await world.join(["user_1", "Room", "other"], "a"), await world.join(["user_2", "other"], "b")
    answer = await world.ask("POST", "/events", {**EVENT, "channels": ["room", "other"]})
    assert (answer.status_code, answer.json(), answer.headers["content-type"]) == (200, {}, "application/json")
    for client in (one, two):
        assert told(await received(client, 1)) == [["news", '{"id":1}']]
    assert len(queue_of(world.door.valkey, PUSHED)) == 2


async def test_data_read_as_json(world: PusherWorld) -> None:
    """With `decode` the value reaches the clients; a text that is no JSON stays a text."""
    client = await world.join(["room"], site="decoded")
    sent = [('{"id":1}', {"id": 1}), ("plain", "plain"), ({"of": "json"}, {"of": "json"}), ("[" * 300, "[" * 300)]
    for data, expected in sent:
        event = {"name": "news", "data": data, "channel": "room"}
        answer = await world.ask("POST", "/events", event, app="app_2", key="key-2", secret="secret-2")
        assert (answer.status_code, answer.json()) == (200, {})
        assert told(await received(client, 1)) == [["news", expected]]


async def test_a_user(world: PusherWorld) -> None:
    """The channel of a user is its user room; its connections are ended by its id."""
    client = await world.join(["user_ada@example.com"])
    assert await world.trigger(channels=["#server-to-user-ada@example.com"]) == (200, "{}")
    assert told(await received(client, 1)) == [["news", "x"]]
    answer = await world.ask("POST", "/users/ada@example.com/terminate_connections", {})
    assert (answer.status_code, answer.json()) == (200, {})
    assert await received(client, 2) == ['42/pushed,["_closed",{"reason":"disconnected"}]', "41/pushed,"]


async def test_a_batch(world: PusherWorld) -> None:
    """The events of a batch keep their order; one mistake refuses all of them."""
    client = await world.join(["user_1", "room"])
    batch = [{"name": f"event {number}", "data": str(number), "channel": "room"} for number in range(3)]
    answer = await world.ask("POST", "/batch_events", {"batch": batch})
    assert (answer.status_code, answer.json()) == (200, {})
    assert told(await received(client, 3)) == [[f"event {number}", str(number)] for number in range(3)]
    for wrong in ({"name": "", "data": "x", "channel": "room"}, {"name": "n", "data": "x" * 185_000, "channel": "r"}):
        answer = await world.ask("POST", "/batch_events", {"batch": [*batch, wrong]})
        assert answer.status_code == (400 if not wrong["name"] else 413)
        assert not client.received()
    assert len(queue_of(world.door.valkey, PUSHED)) == 3


async def test_the_connection_that_has_sent(world: PusherWorld) -> None:
    """`socket_id` leaves out the device whose `_settings` named it."""
    world.door.directory.answer = ["user_1", "room"]
    one = await world.door.client()
    await one.send(b"40/pushed?token=t&deviceId=a")
    settings = told((await received(one, 2))[1:])[0][1]
    assert re.fullmatch(r"\d+\.\d+", settings["socket_id"])
    two = await world.join(["user_1", "room"], "b")
    assert await world.trigger(socket_id=settings["socket_id"]) == (200, "{}")
    batch = [{"name": "last", "data": "y", "channel": "room", "socket_id": settings["socket_id"]}]
    assert (await world.ask("POST", "/batch_events", {"batch": batch})).status_code == 200
    assert told(await received(two, 2)) == [["news", "x"], ["last", "y"]]
    assert not one.received()
    # A socket id that no device has leaves out nobody.
    assert await world.trigger(socket_id="999999.1") == (200, "{}")
    for client in (one, two):
        assert told(await received(client, 1)) == [["news", "x"]]


async def test_attributes_of_channels(world: PusherWorld) -> None:
    """`info` adds the connections, and of channels with presence the users, to the answer."""
    await world.join(["user_1", "presence-a"], "a")
    await world.join(["user_1", "presence-a", "b"], "b")
    await world.join(["user_2", "Presence-A"], "a")
    info = "user_count,subscription_count,cache"
    both = {"presence-a": {"user_count": 2, "subscription_count": 3}, "b": {"subscription_count": 1}}
    answer = await world.ask("POST", "/events", {**EVENT, "channels": ["presence-a", "b"], "info": info})
    assert answer.json() == {"channels": both}
    batch = [{"name": "n", "data": "x", "channel": channel, "info": wanted} for channel, wanted in _WANTED]
    answer = await world.ask("POST", "/batch_events", {"batch": batch})
    assert answer.json() == {"batch": [{"user_count": 2}, {"subscription_count": 1}, {}, {"subscription_count": 0}]}
    # The event is sent, whether or not the nodes answer.
    world.crew.silent = {"n2": "silent"}
    assert (await world.ask("POST", "/events", {**EVENT, "info": info})).json() == {"channels": {}}


_WANTED = (("presence-a", "user_count"), ("b", "subscription_count"), ("b", None), ("c", "subscription_count"))


async def test_channels(world: PusherWorld) -> None:
    """The rooms with connections are listed, but those of single users; one is shown; its users are named."""
    await world.join(["user_1", "presence-a", "b"], "a")
    await world.join(["user_2", "presence-a"], "b")
    assert (await world.ask("GET", "/channels")).json() == {"channels": {"presence-a": {}, "b": {}}}
    query = {"filter_by_prefix": "presence-", "info": "user_count,subscription_count"}
    listed = {"channels": {"presence-a": {"user_count": 2, "subscription_count": 2}}}
    assert (await world.ask("GET", "/channels", **query)).json() == listed
    assert (await world.ask("GET", "/channels/b")).json() == {"occupied": True}
    assert (await world.ask("GET", "/channels/c", info="subscription_count")).json() == {
        "occupied": False,
        "subscription_count": 0,
    }
    shown = await world.ask("GET", "/channels/presence-a", info="user_count,subscription_count")
    assert shown.json() == {"occupied": True, "user_count": 2, "subscription_count": 2}
    assert (await world.ask("GET", "/channels/presence-a/users")).json() == {"users": [{"id": "1"}, {"id": "2"}]}
    assert (await world.ask("GET", "/channels/presence-b/users")).json() == {"users": []}
    assert (await world.ask("GET", "/channels/%23server-to-user-1")).json() == {"occupied": True}


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b"", 400, "Body: expected a JSON object in UTF-8."),
        (b"{", 400, "Body: expected a JSON object in UTF-8."),
        (b"\xff", 400, "Body: expected a JSON object in UTF-8."),
        (b"[" * 100_000, 400, "Body: "),
        (b"[]", 400, "Body: Expected `object`, got `array`."),
        ({**EVENT, "name": ""}, 400, "name: expected 1 to 200 characters."),
        ({**EVENT, "name": "x" * 201}, 400, "name: expected 1 to 200 characters."),
        ({**EVENT, "name": "_batch"}, 400, "event: _batch is reserved."),
        ({"name": "n", "channels": ["a"]}, 400, "data: is missing."),
        ({"name": "n", "data": "x"}, 400, "channels: expected 1 to 100 channels, got 0."),
        ({**EVENT, "channels": ["a"] * 101}, 400, "channels: expected 1 to 100 channels, got 101."),
        ({**EVENT, "channels": ["a b"]}, 400, "channel: expected 1 to 200 letters"),
        ({**EVENT, "channels": ["a\n"]}, 400, "channel: expected 1 to 200 letters"),
        ({**EVENT, "channels": ["a" * 201]}, 400, "channel: expected 1 to 200 letters"),
        ({**EVENT, "channels": [5]}, 400, "Body: channels[0]: Expected `str`, got `int`."),
        ({**EVENT, "socket_id": "abc"}, 400, "socket_id: expected two numbers"),
        ({**EVENT, "socket_id": "1.2\n"}, 400, "socket_id: expected two numbers"),
        ({**EVENT, "data": [[]] * 51_000}, 400, "args: expected at most 50000 lists"),
        ({**EVENT, "data": "x" * 185_000}, 413, "Message: expected at most 180000 bytes as JSON"),
        (b" " * (MAX_BODY_BYTES + 1), 413, f"Body: expected at most {MAX_BODY_BYTES} bytes."),
    ],
    ids=lambda value: str(value)[:20],
)
async def test_mistakes_of_events(world: PusherWorld, body: Any, status: int, text: str) -> None:
    """Each is answered as text that names it, with Pusher's status, and nothing is sent."""
    await world.join(["user_1", "room"])
    answer = await world.ask("POST", "/events", body)
    assert answer.status_code == status, answer.text
    assert answer.text.startswith(text)
    assert answer.headers["content-type"].startswith("text/plain")
    assert not stored(world)
    assert world.door.node.counts.of("pushed").part(SitesCounts).pusher == {"refused": 1}


@pytest.mark.parametrize(
    ("path", "fields", "text"),
    [
        ("/channels", {"info": "user_count"}, "info: expected user_count with a filter_by_prefix"),
        ("/channels/b", {"info": "user_count"}, "info: expected user_count of a channel that begins with presence-"),
        ("/channels/b/users", {}, "channel: expected one that begins with presence-."),
        ("/channels/a%20b", {}, "channel: expected 1 to 200 letters"),
    ],
)
async def test_mistakes_of_questions(world: PusherWorld, path: str, fields: dict[str, str], text: str) -> None:
    """Each is named."""
    answer = await world.ask("GET", path, **fields)
    assert (answer.status_code, answer.text[: len(text)]) == (400, text)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/events", 405),
        ("POST", "/channels", 405),
        ("POST", "/other", 404),
        ("GET", "", 404),
        ("GET", "/", 404),
        ("GET", "/channels/a/b", 404),
        ("GET", "/channels//users", 404),
    ],
)
async def test_other_paths(world: PusherWorld, method: str, path: str, status: int) -> None:
    """A path or a method that there is not is told before the signature is looked at."""
    answer = await world.client.request(method, f"/apps/101{path}")
    assert answer.status_code == status
    assert answer.headers.get("allow") == {405: "POST" if method == "GET" else "GET"}.get(status)


@pytest.mark.parametrize(
    ("signing", "text"),
    [
        ({"key": "unknown"}, NOT_AUTHENTIC),
        ({"secret": "wrong"}, NOT_AUTHENTIC),
        ({"secret": "secret-old"}, NOT_AUTHENTIC),
        ({"auth_signature": "0" * 64}, NOT_AUTHENTIC),
        ({"auth_signature": "ü"}, NOT_AUTHENTIC),
        ({"auth_signature": "-"}, "auth_signature: is missing."),
        ({"auth_key": ""}, "auth_key: is missing."),
        ({"auth_version": "2.0"}, "auth_version: expected 1.0."),
        ({"age_seconds": SIGNED_SECONDS + 5}, "auth_timestamp: expected a time within 600 s"),
        ({"age_seconds": -SIGNED_SECONDS - 5}, "auth_timestamp: expected a time within 600 s"),
        ({"body_md5": "0" * 32}, "body_md5: expected the MD5 of the body, in hex."),
        ({"body_md5": ""}, "body_md5: expected the MD5 of the body, in hex."),
    ],
    ids=str,
)
async def test_mistakes_of_signatures(world: PusherWorld, signing: dict[str, Any], text: str) -> None:
    """Each is 401, and nothing is sent. All that depends on the secret has one text."""
    await world.join(["user_1", "room"])
    answer = await world.ask("POST", "/events", EVENT, **signing)
    assert (answer.status_code, answer.text[: len(text)]) == (401, text)
    assert not stored(world)


async def test_a_long_query_is_not_looked_at(world: PusherWorld) -> None:
    """It would cost a stranger nothing, and this server more than a signature."""
    answer = await world.ask("GET", "/channels", query="x" * (MAX_SIGNED_QUERY_BYTES + 1))
    assert (answer.status_code, answer.text) == (400, f"Query: expected at most {MAX_SIGNED_QUERY_BYTES} bytes.\n")
    assert (await world.ask("GET", "/channels", filter_by_prefix="x" * 3_000)).status_code == 200


async def test_an_unknown_app_looks_like_a_wrong_signature(world: PusherWorld) -> None:
    """Status, text and headers are the same; the app of a site that has left is unknown. Callers without a signature
    count apart."""
    wrong = await world.ask("POST", "/events", EVENT, secret="wrong")
    unknown = await world.ask("POST", "/events", EVENT, app="9")
    other = await world.ask("POST", "/events", EVENT, app="app_2")
    assert len({(one.status_code, one.content, tuple(one.headers.items())) for one in (wrong, unknown, other)}) == 1
    assert world.door.node.counts.part(StrangerCounts).pusher == 3


async def test_a_signature_covers_one_path(world: PusherWorld) -> None:
    """A request that was seen on its way is no key for another path, method or query."""
    query = signed_query("GET", "/apps/101/channels")
    assert (await world.ask("GET", "/channels", query=query)).status_code == 200
    assert (await world.ask("GET", "/channels/a", query=query)).status_code == 401
    assert (await world.ask("GET", "/channels", query=f"{query}&info=subscription_count")).status_code == 401
    assert (await world.ask("POST", "/events", EVENT, query=query)).status_code == 401


async def test_both_keys_count(world: PusherWorld) -> None:
    """Each key counts with its own secret."""
    for key, secret in (("key-new", "secret-new"), ("key-old", "secret-old")):
        assert (await world.ask("GET", "/channels", key=key, secret=secret)).status_code == 200


async def test_over_the_rate(world: PusherWorld) -> None:
    """An app over its quota is answered 403, as Pusher does, with the time to wait."""
    limited = SiteLimits(sends_per_second=0.001, sends_burst=1)
    before = PUSHED.limits
    msgspec.structs.force_setattr(PUSHED, "limits", limited)
    try:
        assert await world.trigger() == (200, "{}")
        answer = await world.ask("POST", "/events", EVENT)
    finally:
        msgspec.structs.force_setattr(PUSHED, "limits", before)
    assert answer.status_code == 403
    assert int(answer.headers["retry-after"]) > 0
    assert world.door.node.counts.of("pushed").part(SitesCounts).pusher == {"accepted": 1, "limited": 1}


async def test_the_same_request_again(world: PusherWorld) -> None:
    """A repetition with the same Idempotency-Key is sent once."""
    await world.join(["user_1", "room"])
    body = msgspec.json.encode(EVENT)
    for _ in range(2):
        query = signed_query("POST", "/apps/101/events", body)
        url, headers = f"/apps/101/events?{query}", {"idempotency-key": "k"}
        assert (await world.client.post(url, content=body, headers=headers)).status_code == 200
    assert len(queue_of(world.door.valkey, PUSHED)) == 1


@pytest.mark.parametrize(
    ("error", "status", "text", "retry_after"),
    [
        (StoreUnavailable(), 503, "not stored, try again.", "1"),
        (WrongType(), 500, "not stored.", None),
        (LimitReached("Too much is stored.", "stored_messages"), 403, "Too much is stored.", None),
    ],
    ids=["away", "wrong type", "full"],
)
async def test_events_that_are_not_stored(
    world: PusherWorld,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    status: int,
    text: str,
    retry_after: str | None,
) -> None:
    """The answer says so, of a batch with the number of the event; the others are sent."""
    await world.join(["user_1", "room"])
    sending = Sender.send

    async def send(self: Sender, message: Message) -> Outcome:
        if message.event == "bad":
            raise error
        return await sending(self, message)

    monkeypatch.setattr(Sender, "send", send)
    answer = await world.ask("POST", "/events", {**EVENT, "name": "bad"})
    assert (answer.status_code, answer.headers.get("retry-after")) == (status, retry_after)
    assert answer.text.strip().endswith(text)
    batch = [{"name": name, "data": "x", "channel": "room"} for name in ("good", "bad", "last")]
    answer = await world.ask("POST", "/batch_events", {"batch": batch})
    assert answer.status_code == status
    assert answer.text.startswith("batch[1]: ")
    assert answer.text.endswith("The others may be sent.\n")
    assert queue_of(world.door.valkey, PUSHED) == ['["good","x"]', '["last","x"]']


async def test_without_redis(world: PusherWorld) -> None:
    """Then it is 503 with the time to wait."""
    world.crew.is_away = True
    answer = await world.ask("GET", "/channels")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    answer = await world.ask("POST", "/users/1/terminate_connections", {})
    assert answer.status_code == 503
