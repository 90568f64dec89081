"""Contract `channels`, beyond the original: a subscriber that lost its connection resumes and gets what it missed."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator

import pytest

from tests.support.channels import Publisher, Subscription, channels_site
from tests.support.deployment import Deployment
from tests.support.metrics import Figures
from tests.support.tenant import Tenant
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def channels() -> Iterator[Deployment]:
    """A server whose sites keep subscribers for an hour, for a moment or for ever, keep a history of
    three pushes, or have a small outbox."""
    sites = {
        "shop": channels_site(),
        "brief": channels_site(device_ttl=1),
        "endless": channels_site(device_ttl=0),
        "short": channels_site(channels={"history_messages": 3}),
        "narrow": channels_site(outbox_limit=20_000),
    }
    server = Deployment(sites, {"log_level": "debug"})
    yield server
    server.end()


@pytest.fixture
def name(tenant: Tenant) -> str:
    """A channel's name that no other test uses."""
    return tenant.unique("channel")


def resumable(channels: Deployment, site: str, *names: str) -> tuple[Subscription, dict[str, str]]:
    """A resumable subscriber of these channels, and the query with which it resumes."""
    subscriber = Subscription(channels.url, site, resumable="1")
    assert set(subscriber.ack["data"]) == {"uuid", "subscribedChannels", "secret"}
    assert subscriber.uuid
    back = {"resume": subscriber.uuid, "secret": subscriber.ack["data"]["secret"]}
    subscriber.subscribe(*names)
    return subscriber, back


def lose(channels: Deployment, subscriber: Subscription) -> None:
    """Cut the subscriber's connection once it has everything, and wait until the server has noticed."""

    def is_known() -> bool:
        ends = [line for line in channels.server.log() if line.get("event") == "subscriber disconnected"]
        return any(line["uuid"] == subscriber.uuid for line in ends)

    subscriber.vanish()
    eventually(is_known, "the end of the connection")


def test_uuid_channels_and_what_was_missed(channels: Deployment, name: str) -> None:
    """A resumed subscriber gets its uuid, its channels in their order, every push made
    meanwhile in order, then live pushes."""
    publisher = Publisher(channels, "shop")
    names = [name + "b", name + "a"]
    for each in (*names, name + "other"):
        publisher.create(each)
    subscriber, back = resumable(channels, "shop", *names)
    publisher.push(names[0], "before")
    assert subscriber.pushed() == [(names[0], "before")]
    lose(channels, subscriber)
    for number in range(10):
        publisher.push(names[number % 2], str(number))
        publisher.push(name + "other", "not for you")
    publisher.push(names[0], "to another", str(uuid.uuid4()))
    publisher.push(names[0], "to you", subscriber.uuid)
    with Subscription(channels.url, "shop", **back) as again:
        assert again.ack["data"] == {"uuid": subscriber.uuid, "subscribedChannels": names}
        publisher.push(names[1], "live")
        got = again.pushed(12)
        if got[0] == (names[0], "before"):
            # The position is usually confirmed before the connection is cut, but
            # not always: the promise is at least once.
            got = [*got[1:], *again.pushed()]
        assert got == [*((names[n % 2], str(n)) for n in range(10)), (names[0], "to you"), (names[1], "live")]


def test_secret_is_told_to_who_asks(channels: Deployment, name: str) -> None:
    """Without `resumable` a CLIENT_ACK has only the original's keys; with it, a resumed subscriber keeps its secret."""
    Publisher(channels, "shop").create(name)
    subscriber, back = resumable(channels, "shop", name)
    assert subscriber.act("SUBSCRIBE", name)["data"].keys() == {"uuid", "subscribedChannels"}
    lose(channels, subscriber)
    with Subscription(channels.url, "shop", **back) as again:
        assert set(again.ack["data"]) == {"uuid", "subscribedChannels"}
    with Subscription(channels.url, "shop", resumable="1", **back) as again:
        assert again.ack["data"]["secret"] == back["secret"]
        assert again.uuid == subscriber.uuid


@pytest.mark.parametrize(
    "change",
    [{"secret": "wrong"}, {"secret": ""}, {"resume": str(uuid.uuid4())}, {"resume": "x"}, {"resume": "*"}],
    ids=["wrong secret", "no secret", "unknown uuid", "no uuid", "pattern"],
)
def test_who_is_not_known_is_new(channels: Deployment, name: str, change: dict[str, str]) -> None:
    """A wrong secret and an unknown uuid get the same answer: a fresh uuid without channels. The subscriber of that
    uuid is not disturbed."""
    publisher = Publisher(channels, "shop")
    publisher.create(name)
    subscriber, back = resumable(channels, "shop", name)
    with Subscription(channels.url, "shop", **back | change) as other:
        assert other.ack["data"] == {"uuid": other.uuid, "subscribedChannels": []}
        assert other.uuid not in (subscriber.uuid, change.get("resume"))
    with Subscription(channels.url, "shop", resumable="1", **back | change) as other:
        assert other.ack["data"]["secret"] not in (back["secret"], change.get("secret"))
    publisher.push(name, "still here")
    assert subscriber.pushed() == [(name, "still here")]
    subscriber.close()


def test_after_device_ttl_it_is_forgotten(channels: Deployment, name: str) -> None:
    """A subscriber that returns after device_ttl is new, one that returns earlier is resumed; the
    time begins when the connection ends."""
    publisher = Publisher(channels, "brief")
    publisher.create(name)
    subscriber, back = resumable(channels, "brief", name)
    lose(channels, subscriber)
    with Subscription(channels.url, "brief", **back) as again:
        assert again.uuid == subscriber.uuid
    key = f"recado:{{brief}}:subscriber:{subscriber.uuid}"
    eventually(lambda: not channels.redis.client.exists(key), "the subscriber to be forgotten")
    with Subscription(channels.url, "brief", **back) as late:
        assert late.ack["data"] == {"uuid": late.uuid, "subscribedChannels": []}
        assert late.uuid != subscriber.uuid


def test_with_device_ttl_0_it_is_never_forgotten(channels: Deployment, name: str) -> None:
    """With device_ttl 0 the subscriber and the history have no expiry in Redis."""
    publisher = Publisher(channels, "endless")
    publisher.create(name)
    subscriber, back = resumable(channels, "endless", name)
    lose(channels, subscriber)
    publisher.push(name, "kept")
    assert channels.redis.client.ttl(f"recado:{{endless}}:subscriber:{subscriber.uuid}") == -1
    with Subscription(channels.url, "endless", **back) as again:
        assert again.pushed() == [(name, "kept")]


def test_what_the_history_no_longer_holds_is_told(channels: Deployment, name: str) -> None:
    """When more was pushed than the history holds, `missed` in the CLIENT_ACK says so; the pushes still held follow."""
    publisher = Publisher(channels, "short")
    publisher.create(name)
    subscriber, back = resumable(channels, "short", name)
    lose(channels, subscriber)
    for number in range(3):
        publisher.push(name, str(number))
    with Subscription(channels.url, "short", **back) as again:
        assert "missed" not in again.ack["data"]
        assert again.pushed(3) == [(name, str(number)) for number in range(3)]
        lose(channels, again)
    for number in range(8):
        publisher.push(name, str(number))
    with Subscription(channels.url, "short", **back) as again:
        assert again.ack["data"] == {"uuid": subscriber.uuid, "subscribedChannels": [name], "missed": True}
        assert again.pushed(3) == [(name, str(number)) for number in range(5, 8)]


def test_channels_that_are_gone(channels: Deployment, name: str) -> None:
    """A channel deleted meanwhile is not in the list of a resumed subscriber, even if it was created again. Pushes made
    before the deletion are replayed; pushes to an unsubscribed channel are not."""
    publisher = Publisher(channels, "shop")
    names = [f"{name}{number}" for number in range(4)]
    for each in names:
        publisher.create(each)
    subscriber, back = resumable(channels, "shop", *names)
    subscriber.act("UNSUBSCRIBE", names[3])
    lose(channels, subscriber)
    for each in names:
        publisher.push(each, "old")
    publisher.delete(names[0])
    publisher.delete(names[1])
    publisher.create(names[1])
    publisher.push(names[1], "of another channel")
    with Subscription(channels.url, "shop", **back) as again:
        assert again.ack["data"]["subscribedChannels"] == [names[2]]
        assert again.pushed(3) == [(each, "old") for each in names[:3]]
        publisher.push(names[1], "of another channel")
        publisher.push(names[2], "new")
        assert again.pushed() == [(names[2], "new")]


def test_what_came_before_the_subscription_is_not_replayed(channels: Deployment, name: str) -> None:
    """A push made before the subscription is not for the subscriber, neither then nor when it resumes."""
    publisher = Publisher(channels, "shop")
    publisher.create(name)
    subscriber, back = resumable(channels, "shop")
    publisher.push(name, "before")
    subscriber.subscribe(name)
    lose(channels, subscriber)
    publisher.push(name, "after")
    with Subscription(channels.url, "shop", **back) as again:
        assert again.pushed() == [(name, "after")]


def test_the_newer_connection_counts(channels: Deployment, name: str) -> None:
    """Resuming ends an older connection of the subscriber that is still open;
    pushes and acks go on over the new one."""
    publisher = Publisher(channels, "shop")
    publisher.create(name)
    subscriber, back = resumable(channels, "shop", name)
    with Subscription(channels.url, "shop", **back) as again:
        assert subscriber.closed() == (1012, "resumed by another connection")
        publisher.push(name, "x", again.uuid)
        assert again.pushed() == [(name, "x")]
        assert again.act("UNSUBSCRIBE", name)["data"]["subscribedChannels"] == []
        lose(channels, again)
    with Subscription(channels.url, "shop", **back) as third:
        assert third.ack["data"] == {"uuid": subscriber.uuid, "subscribedChannels": []}


def test_nothing_is_lost_while_it_comes_and_goes(channels: Deployment, name: str) -> None:
    """Under a stream of pushes a subscriber that is cut repeatedly gets each push in order, at least once."""
    publisher = Publisher(channels, "shop")
    publisher.create(name)
    subscriber, back = resumable(channels, "shop", name)
    count = 400

    def push() -> None:
        for number in range(count):
            publisher.push(name, str(number))

    pushing = threading.Thread(target=push)
    pushing.start()
    highest = -1

    def take(pushes: list[tuple[str, str]]) -> None:
        nonlocal highest
        for _, number in pushes:
            assert int(number) <= highest + 1, "a push was lost"
            highest = max(highest, int(number))

    try:
        while highest < count - 1:
            for _ in range(20):
                take(subscriber.pushed())
                if highest == count - 1:
                    break
            subscriber.vanish()
            take(subscriber.arrived())
            subscriber = Subscription(channels.url, "shop", **back)
            assert subscriber.ack["data"] == {"uuid": back["resume"], "subscribedChannels": [name]}
    finally:
        pushing.join()
        subscriber.close()
    assert Figures(channels)("recado_channel_replayed_total", site="shop") > 0


def test_much_that_was_missed_comes_page_by_page(channels: Deployment, name: str) -> None:
    """A subscriber that missed more than the outbox may hold gets all of it, and
    then the pushes made during the replay."""
    publisher = Publisher(channels, "narrow")
    publisher.create(name)
    subscriber, back = resumable(channels, "narrow", name)
    lose(channels, subscriber)
    texts = [str(number).ljust(3_000, ".") for number in range(60)]
    for text in texts[:50]:
        publisher.push(name, text)
    with Subscription(channels.url, "narrow", **back) as again:
        for text in texts[50:]:
            publisher.push(name, text)
        assert again.pushed(60) == [(name, text) for text in texts]


def test_a_deletion_is_told_to_who_may_come_back(channels: Deployment, name: str) -> None:
    """A resumable subscriber is told of a deletion by a CLIENT_ACK with the list after it, whether or not the channel
    is created again; a plain subscriber gets not a byte."""
    publisher = Publisher(channels, "shop")
    names = [name + "a", name + "b"]
    for each in names:
        publisher.create(each)
    subscriber, back = resumable(channels, "shop", *names)
    with Subscription(channels.url, "shop") as plain:
        plain.subscribe(*names)
        publisher.push(names[0], "last")
        publisher.delete(names[0])
        publisher.create(names[0])
        publisher.push(names[0], "of another channel")
        publisher.push(names[1], "next")
        assert subscriber.pushed() == [(names[0], "last")]
        assert subscriber.receive()["data"] == {"uuid": back["resume"], "subscribedChannels": [names[1]]}
        assert subscriber.pushed() == [(names[1], "next")]
        assert plain.pushed(2) == [(names[0], "last"), (names[1], "next")]
    subscriber.close()


def test_what_was_replayed_does_not_come_again(channels: Deployment, name: str) -> None:
    """A ping follows the replay, and its pong moves the position: the next resume replays nothing."""
    publisher = Publisher(channels, "shop")
    publisher.create(name)
    subscriber, back = resumable(channels, "shop", name)
    lose(channels, subscriber)
    seq = publisher.push(name, "missed")
    assert seq.status_code == 200
    key = f"recado:{{shop}}:subscriber:{back['resume']}"
    before = channels.redis.client.hget(key, "seq")
    with Subscription(channels.url, "shop", **back) as again:
        assert again.pushed() == [(name, "missed")]
        eventually(lambda: channels.redis.client.hget(key, "seq") != before, "the pong to be noted")
    with Subscription(channels.url, "shop", **back) as third:
        publisher.push(name, "new")
        assert third.pushed() == [(name, "new")]


def test_who_stays_longer_than_the_history_has_missed_nothing(channels: Deployment, name: str) -> None:
    """A subscriber that stays connected without a push, while the history of all pushes expires, has missed nothing."""
    publisher = Publisher(channels, "brief")
    for each in (name, name + "other"):
        publisher.create(each)
    subscriber, back = resumable(channels, "brief", name)
    publisher.push(name, "got")
    assert subscriber.pushed() == [(name, "got")]
    publisher.push(name + "other", "not for you")
    eventually(lambda: not channels.redis.client.exists("recado:{brief}:history:channels"), "the history to expire")
    lose(channels, subscriber)
    with Subscription(channels.url, "brief", **back) as again:
        assert again.ack["data"] == {"uuid": back["resume"], "subscribedChannels": [name]}
