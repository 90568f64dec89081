"""docs/redis-publish.md over one node: redis-py publishes, socket.io-client listens."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.support.clients import NODE_KINDS, ONE_OF_EACH, ClientKind, ack_only
from tests.support.connector import Connector, Drivers
from tests.support.deployment import Deployment
from tests.support.metrics import Figures
from tests.support.publish import Application, messages, payloads, wait_payloads
from tests.support.tenant import SECRET, Tenant
from tests.support.waiting import eventually

every_client = pytest.mark.parametrize("kind", NODE_KINDS, ids=str)
each_library = pytest.mark.parametrize("kind", [kind for kind in ONE_OF_EACH if kind.library != "python"], ids=str)

SITES = {
    "news": {"apiKey": "k", "redisPublish": {}},
    "open": {"apiKey": "k", "redisPublish": {"prefix": "op", "secure": False, "queue_expiry": 100, "conn_limit": 2}},
    "sure": {"apiKey": "k", "redisPublish": {"prefix": "su", "ack": True}},
    "parts": {"apiKey": "k", "batch_limit": {"messages": 3}, "redisPublish": {"prefix": "pa", "ack": True}},
    "routed": {"apiKey": "k", "redisPublish": {"prefix": "ro", "route": "/way/in"}},
}
BOTH = {"apiKey": "k", "userRoomPrefix": "user_", "redisPublish": {"prefix": "bo", "secure": False}}


@pytest.fixture(scope="module")
def server(tenant: Tenant) -> Iterator[Deployment]:
    """A server of this module's own."""
    both = {**BOTH, "authUrl": f"{tenant.url}/both/rooms", "authScheme": "Token"}
    deployment = Deployment({**SITES, "both": both}, {"log_level": "debug"})
    yield deployment
    deployment.end()


@pytest.fixture
def news(server: Deployment, drivers: Drivers) -> Iterator[Application]:
    """The application of a site with the defaults."""
    application = Application(server.redis.client, drivers, "news", "rm")
    yield application
    application.close()


@pytest.fixture
def open_site(server: Deployment, drivers: Drivers) -> Iterator[Application]:
    """The application of a site without keys, with two connections a user."""
    application = Application(server.redis.client, drivers, "open", "op")
    yield application
    application.close()


@pytest.fixture
def sure(server: Deployment, drivers: Drivers) -> Iterator[Application]:
    """The application of a site whose clients acknowledge."""
    application = Application(server.redis.client, drivers, "sure", "su")
    yield application
    application.close()


@every_client
def test_direct_message(server: Deployment, news: Application, kind: ClientKind) -> None:
    """A PUBLISH to rm.users.<uid> reaches the user with source, timestamp,
    bubble and the payload as it was published."""
    user = news.user()
    client = news.connect(server, user, kind)
    before_ms = time.time() * 1000
    payload = 'h\u00e9llo "\U0001f600"\n\u2028 {"a": 1}'
    assert news.publish(user, payload) == 1
    message = client.wait_event("message")
    assert set(message.args[0]) == {"source", "timestamp", "bubble", "payload"}
    assert message.args[0]["source"] == f"rm.users.{user}"
    assert message.args[0]["payload"] == payload
    assert message.args[0]["bubble"] is True
    assert before_ms - 5 < message.args[0]["timestamp"] < time.time() * 1000 + 5
    assert len(message.args) == 1
    assert not message.wants_ack
    assert news.waiting(user) == []


def test_channel(server: Deployment, news: Application) -> None:
    """A PUBLISH to rm.channels.<cid> reaches every member of the set, connected or not, and no other user."""
    present, away, other = news.user(), news.user(), news.user()
    news.subscribe("c1", present, away)
    clients = [news.connect(server, user) for user in (present, other)]
    news.publish_to_channel("c1", "to all")
    news.publish(other, "to one")
    wait_payloads(clients[0], ["to all"])
    assert messages(clients[0])[0]["source"] == "rm.channels.c1"
    wait_payloads(clients[1], ["to one"])
    news.wait_queued(away, "to all")


def test_order_of_direct_and_channel_messages(server: Deployment, news: Application) -> None:
    """A user gets messages to the user and to the user's channels in one order: that of the PUBLISHes."""
    user = news.user()
    news.subscribe("mixed", user, *[news.user(has_key=False) for _ in range(50)])
    client = news.connect(server, user)
    expected = [str(number) for number in range(200)]
    for number in expected:
        if int(number) % 3:
            news.publish(user, number)
        else:
            news.publish_to_channel("mixed", number)
    wait_payloads(client, expected)


@pytest.mark.shows("Redis PUBLISH", "connect, events, replay")
@every_client
def test_what_waited_comes_first(server: Deployment, news: Application, kind: ClientKind) -> None:
    """Waiting messages arrive as single `message` events, oldest first, before any
    live message; then the list is empty."""
    user = news.user()
    waited = [f"waited {number}" for number in range(30)]
    for payload in waited:
        news.publish(user, payload)
    entries = news.wait_queued(user, *waited)
    assert set(entries[0]) == {"source", "timestamp", "bubble", "payload"}
    assert entries[0]["source"] == f"rm.users.{user}"
    client = news.join(server, kind)
    news.identify(client, f"{user}:{news.key(user)}")
    live = [f"live {number}" for number in range(30)]
    for payload in live:
        news.publish(user, payload)
    wait_payloads(client, waited + live)
    assert all(message["bubble"] for message in messages(client))
    news.wait_received(user)


def test_nothing_comes_twice(server: Deployment, news: Application) -> None:
    """A message that one connection of the user has received is not sent again to the user's next connection."""
    user = news.user()
    news.publish(user, "waited")
    news.wait_queued(user, "waited")
    first = news.connect(server, user)
    news.publish(user, "live")
    wait_payloads(first, ["waited", "live"])
    news.wait_received(user)
    first.disconnect()
    eventually(lambda: news.connections(user) == 0, "the first to be gone")
    second = news.connect(server, user)
    news.publish(user, "later")
    wait_payloads(second, ["later"])


def test_large_queue_in_parts(server: Deployment, news: Application) -> None:
    """A list longer than one part (1,000 messages, a million bytes) arrives in order,
    together with messages PUBLISHed meanwhile."""
    user = news.user()
    small, large = [f"s{number}" for number in range(2_500)], [f"{number:01000d}" for number in range(1_500)]
    for payload in small + large:
        news.publish(user, payload)
    eventually(lambda: news.redis.llen(f"rm:users:{user}:messages") == 4_000, "all to wait", 60)
    client = news.join(server)
    news.identify(client, f"{user}:{news.key(user)}")
    live = [f"live {number}" for number in range(100)]
    for payload in live:
        news.publish(user, payload)
    wait_payloads(client, small + large + live, 20)
    news.wait_queued(user)


def test_client_leaves_half_way(server: Deployment, news: Application, drivers: Drivers) -> None:
    """When a client leaves during the replay of its list, the messages that it
    has not received stay queued, in order."""
    user = news.user()
    waited = [f"{number:05d}" + "x" * 5_000 for number in range(1_500)]
    for payload in waited:
        news.publish(user, payload)
    eventually(lambda: news.redis.llen(f"rm:users:{user}:messages") == 1_500, "all to wait", 60)
    first = news.join(server)
    news.identify(first, f"{user}:{news.key(user)}")
    first.wait_event("message")
    news.drop(first)
    eventually(lambda: news.connections(user) == 0, "the first to be gone")
    left = [entry["payload"] for entry in news.waiting(user)]
    got = payloads(first)
    assert 0 < len(got) < 1_500
    assert left == waited[1_500 - len(left) :]
    assert got == waited[: len(got)]
    assert len(got) + len(left) >= 1_500
    second = news.join(server)
    news.identify(second, f"{user}:{news.key(user)}")
    wait_payloads(second, left, 20)


@pytest.mark.parametrize("kind", [kind for kind in NODE_KINDS if kind.has_auth], ids=str)
@pytest.mark.parametrize(("waiting", "left_at"), [(10, 3), (1000, 100)])
def test_client_leaves_in_its_listener(
    server: Deployment, news: Application, drivers: Drivers, kind: ClientKind, waiting: int, left_at: int
) -> None:
    """When a page disconnects in the listener of one of many arrived messages, the later ones stay queued, in order."""
    user = news.user()
    waited = [f"{number:05d}" for number in range(waiting)]
    for payload in waited:
        news.publish(user, payload)
    eventually(lambda: news.redis.llen(f"rm:users:{user}:messages") == waiting, "all to wait", 60)
    client = news.join(server, kind)
    drivers.node.leave_at(client, "message", left_at)
    news.identify(client, f"{user}:{news.key(user)}")
    client.wait_event("message", left_at)
    eventually(lambda: news.connections(user) == 0, "it to be gone")
    left = [entry["payload"] for entry in news.waiting(user)]
    got = payloads(client)
    assert left_at <= len(got)
    assert got == waited[: len(got)]
    assert left == waited[waiting - len(left) :]
    assert len(got) + len(left) >= waiting, f"lost {waited[len(got) : waiting - len(left)]}"


def test_expiry(server: Deployment, open_site: Application) -> None:
    """The list expires `queue_expiry` seconds after the last message was added;
    each added message restarts the time."""
    user = open_site.user(has_key=False)
    key = f"op:users:{user}:messages"
    open_site.publish(user, "a")
    open_site.wait_queued(user, "a")
    assert 95 < open_site.redis.ttl(key) <= 100
    open_site.redis.expire(key, 50)
    open_site.publish(user, "b")
    open_site.wait_queued(user, "a", "b")
    assert 95 < open_site.redis.ttl(key) <= 100
    open_site.redis.pexpire(key, 1)
    client = open_site.connect(server, user)
    open_site.publish(user, "c")
    wait_payloads(client, ["c"])


def test_bubble(server: Deployment, news: Application) -> None:
    """`bubble` is true for the user's first connection and false for the others;
    when it leaves, the next one is first."""
    user = news.user()
    tabs = [news.connect(server, user) for _ in range(3)]
    news.publish(user, "one")
    for tab in tabs:
        wait_payloads(tab, ["one"])
    assert [messages(tab)[0]["bubble"] for tab in tabs] == [True, False, False]
    tabs[0].disconnect()
    eventually(lambda: news.connections(user) == 2, "the first to be gone")
    news.publish(user, "two")
    for tab in tabs[1:]:
        wait_payloads(tab, ["one", "two"])
    assert [messages(tab)[1]["bubble"] for tab in tabs[1:]] == [True, False]


@each_library
def test_connection_limit(server: Deployment, open_site: Application, kind: ClientKind) -> None:
    """A connection over conn_limit disconnects the oldest connection, which is told the reason."""
    user = open_site.user(has_key=False)
    tabs = [open_site.connect(server, user, kind)]
    tabs.append(open_site.connect(server, user, kind))
    third = open_site.join(server, kind)
    open_site.identify(third, user)
    assert "conn_limit" in tabs[0].wait_event("error").args[0]
    tabs[0].wait_disconnected()
    eventually(lambda: open_site.states(user) == ["l", "l"], "two to be left")
    open_site.publish(user, "after")
    for tab in (tabs[1], third):
        wait_payloads(tab, ["after"])
    assert payloads(tabs[0]) == []
    assert [messages(tab)[0]["bubble"] for tab in (tabs[1], third)] == [True, False]


@each_library
def test_three_tries(server: Deployment, news: Application, kind: ClientKind) -> None:
    """A wrong key is answered with an `error` event that says so; after the third the client is disconnected."""
    user = news.user()
    client = news.join(server, kind)
    for number, wrong in enumerate((f"{user}:wrong", f"{user}:", f"nobody{user}:{news.key(user)}"), 1):
        news.identify(client, wrong)
        assert client.wait_event("error", number).args == ["identifier: wrong user id or key"]
    client.wait_disconnected()
    news.publish(user, "secret")
    news.wait_queued(user, "secret")
    assert payloads(client) == []


@pytest.mark.parametrize("identifier", [None, 7, "", ":key", {"uid": "u"}, ["u"], "a\nb", "x" * 513])
def test_identifier_that_is_none(server: Deployment, news: Application, identifier: object) -> None:
    """An identifier that is not `"<uid>"` or `"<uid>:<key>"` is answered with
    the expected form, and counts as a try."""
    client = news.join(server)
    for number in (1, 2, 3):
        news.identify(client, identifier)
        assert "expected" in client.wait_event("error", number).args[0]
    client.wait_disconnected()


def test_right_key_after_two_wrong_ones(server: Deployment, news: Application) -> None:
    """Two wrong tries have no effect; another right identifier adds a user to the connection."""
    user, other = news.user(), news.user()
    client = news.join(server)
    for number in (1, 2):
        news.identify(client, f"{user}:wrong{number}")
        client.wait_event("error", number)
    news.identify(client, f"{user}:{news.key(user)}")
    eventually(lambda: news.states(user) == ["l"], "the user to be live")
    news.identify(client, f"{other}:{news.key(other)}")
    eventually(lambda: news.states(other) == ["l"], "the other user to be live")
    news.publish(other, "for the other")
    news.publish(user, "for him")
    wait_payloads(client, ["for the other", "for him"])


def test_many_guesses_at_once(server: Deployment, news: Application) -> None:
    """Guesses sent without waiting for answers are limited to three too: the
    right key as the fourth guess is too late."""
    user = news.user()
    client = news.join(server)
    for guess in ("a", "b", "c", news.key(user)):
        news.identify(client, f"{user}:{guess}")
    client.wait_disconnected()
    assert news.connections(user) == 0


def test_without_keys(server: Deployment, open_site: Application) -> None:
    """Where `secure` is off the user id is enough, and a key behind it is ignored."""
    user = open_site.user(has_key=False)
    for identifier in (user, f"{user}:any:thing"):
        client = open_site.join(server)
        open_site.identify(client, identifier)
        eventually(lambda: "l" in open_site.states(user), "the user to be live")
        open_site.publish(user, identifier)
        wait_payloads(client, [identifier])
        open_site.wait_received(user)
        client.disconnect()
        eventually(lambda: open_site.connections(user) == 0, "the user to be gone")


def test_user_without_key_is_not_let_in(server: Deployment, news: Application) -> None:
    """With `secure` a user for whom Redis holds no key is refused, whatever key is presented."""
    user = news.user(has_key=False)
    client = news.join(server)
    for number, key in enumerate(("", ":", ":None"), 1):
        news.identify(client, user + key)
        client.wait_event("error", number)
    assert news.connections(user) == 0


def test_client_that_says_nothing(server: Deployment, news: Application) -> None:
    """A client that has not identified itself receives no messages."""
    user = news.user()
    client = news.join(server)
    news.publish(user, "hidden")
    news.wait_queued(user, "hidden")
    assert messages(client) == []


def test_acknowledged_messages(server: Deployment, sure: Application) -> None:
    """With `ack: true` exactly the acknowledged messages leave the list; the rest is sent again, in order."""
    user = sure.user()
    sure.publish(user, "waited")
    sure.wait_queued(user, "waited")
    client = sure.connect(server, user)
    live = ["one", "two", "three"]
    for payload in live:
        sure.publish(user, payload)
    wait_payloads(client, ["waited", *live])
    assert all(event.wants_ack for event in client.events())
    sure.wait_queued(user, "waited", *live)
    client.ack(client.events()[2])
    sure.wait_queued(user, "waited", "one", "three")
    client.disconnect()
    second = sure.connect(server, user, ack=ack_only("message"))
    wait_payloads(second, ["waited", "one", "three"])
    sure.wait_queued(user)
    sure.publish(user, "four")
    wait_payloads(second, ["waited", "one", "three", "four"])
    sure.wait_queued(user)


@pytest.mark.shows("Redis PUBLISH", "acknowledgement")
@every_client
def test_acks_of_every_client(server: Deployment, sure: Application, kind: ClientKind) -> None:
    """The ack callback of every client version counts."""
    user = sure.user()
    for number in range(20):
        sure.publish(user, str(number))
    sure.wait_queued(user, *map(str, range(20)))
    client = sure.connect(server, user, kind, ack_only("message"))
    wait_payloads(client, [str(number) for number in range(20)])
    sure.wait_queued(user)


def test_one_tab_acknowledges_for_all(server: Deployment, drivers: Drivers) -> None:
    """A tab that never acknowledges its part gets the rest, and live messages, once another tab has acknowledged."""
    parts = Application(server.redis.client, drivers, "parts", "pa")
    user = parts.user()
    waited = ["0", "1", "2", "3"]
    for payload in waited:
        parts.publish(user, payload)
    parts.wait_queued(user, *waited)
    silent = parts.connect(server, user, is_empty=False)
    wait_payloads(silent, waited[:3])
    other = parts.connect(server, user, ack=ack_only("message"))
    wait_payloads(other, waited)
    parts.wait_queued(user)
    eventually(lambda: parts.states(user) == ["l", "l"], "both to be live")
    parts.publish(user, "live")
    wait_payloads(other, [*waited, "live"])
    silent.records.wait_until(lambda _: payloads(silent)[-1] == "live", "the live message")
    assert messages(silent)[-1]["bubble"] is True
    assert messages(other)[-1]["bubble"] is False
    parts.close()


def test_two_equal_messages_are_two(server: Deployment, sure: Application) -> None:
    """The same payload PUBLISHed twice within a millisecond makes two messages, each with its own ack."""
    user = sure.user()
    pipeline = sure.redis.pipeline(transaction=False)
    for _ in range(10):
        pipeline.publish(f"su.users.{user}", "same")
    pipeline.execute()
    sure.wait_queued(user, *["same"] * 10)
    client = sure.connect(server, user)
    wait_payloads(client, ["same"] * 10)
    for event in client.events()[:4]:
        client.ack(event)
    sure.wait_queued(user, *["same"] * 6)


def test_stream(server: Deployment, news: Application) -> None:
    """XADD to rm.stream has the effect of PUBLISH, for users and channels; the
    entry is deleted once it is delivered."""
    present, away = news.user(), news.user()
    news.subscribe("streamed", present, away)
    client = news.connect(server, present)
    news.add(present, "one")
    news.redis.xadd("rm.stream", {"to": "channels.streamed", "payload": "two"})
    wait_payloads(client, ["one", "two"])
    assert [message["source"] for message in messages(client)] == [f"rm.users.{present}", "rm.channels.streamed"]
    news.wait_queued(away, "two")
    eventually(lambda: news.redis.xlen("rm.stream") == 0, "the stream to be empty")


def test_stream_ids_are_taken_once(server: Deployment, news: Application) -> None:
    """Stream entries with the same `id` are one message to a user, connected or not;
    entries without `id` are all distinct."""
    present, away = news.user(), news.user()
    client = news.connect(server, present)
    for user in (present, away):
        for payload, fields in (("a", {"id": "1"}), ("again", {"id": "1"}), ("b", {"id": "2"}), ("c", {}), ("c", {})):
            news.add(user, payload, **fields)
    wait_payloads(client, ["a", "b", "c", "c"])
    news.wait_queued(away, "a", "b", "c", "c")


def test_what_is_no_message(server: Deployment, news: Application) -> None:
    """Channels and entries that name no user, and payloads over the bound, are refused; later ones are delivered."""
    user = news.user()
    client = news.connect(server, user)
    news.redis.publish("rm.users.", "x")
    news.redis.publish("rm.users.a\nb", "x")
    news.redis.publish("rm.others.a", "x")
    news.publish(user, "x" * 1_000_001)
    for fields in ({"to": f"users.{user}"}, {"payload": "x"}, {"to": "nobody", "payload": "x"}, {"a": "b"}):
        news.redis.xadd("rm.stream", fields)
    news.publish(user, "published")
    wait_payloads(client, ["published"])
    news.add(user, "streamed")
    wait_payloads(client, ["published", "streamed"])
    eventually(lambda: news.redis.xlen("rm.stream") == 0, "the stream to be empty")


def test_payload_that_is_no_text(server: Deployment, news: Application) -> None:
    """Bytes that are not UTF-8 become U+FFFD, because JSON cannot carry them."""
    user = news.user()
    client = news.connect(server, user)
    news.publish(user, b"a\xffb\x00")
    wait_payloads(client, ["a\ufffdb\x00"])


def test_list_that_others_wrote(server: Deployment, news: Application) -> None:
    """Entries that another program put into the list are delivered: JSON with a payload
    as it is, anything else as a payload."""
    user = news.user()
    key = f"rm:users:{user}:messages"
    others = ['{"text": "no payload"}', '{"source":"x","timestamp":5,"bubble":true}', '{"source":"x","bubble":true,']
    older = {"payload": "old", "timestamp": 5, "source": "rm.users.x"}
    news.redis.rpush(key, json.dumps(older), "plain", b"\xff", '{"payload": 1}', *others)
    client = news.connect(server, user)
    client.wait_event("message", 7)
    assert messages(client)[0] == {**older, "bubble": True}
    assert [message["payload"] for message in messages(client)[1:]] == ["plain", "\ufffd", 1, *others]
    eventually(lambda: not news.redis.exists(key), "no entry to wait any more")


@each_library
def test_site_with_a_backend_of_its_own(server: Deployment, drivers: Drivers, tenant: Tenant, kind: ClientKind) -> None:
    """In a site with authUrl and redisPublish a client with a token belongs to
    the site, one without to Redis PUBLISH."""
    both = Application(server.redis.client, drivers, "both", "bo")
    connect = Connector(server, drivers)
    user = tenant.user()
    of_site = connect("both", user, kind)
    client = both.join(server, kind)
    both.identify(client, "u7")
    both.identify(of_site, "u7")
    eventually(lambda: both.states("u7") == ["l"], "the user to be live")
    both.publish("u7", "published")
    server.send("both", user.room, "sent")
    wait_payloads(client, ["published"])
    of_site.wait_event("sent")
    assert of_site.names() == ["sent"]
    assert client.names() == ["message"]
    both.wait_received("u7")
    connect.close()
    both.close()
    eventually(lambda: both.connections("u7") == 0, "the user to be gone")


@each_library
def test_route(server: Deployment, drivers: Drivers, kind: ClientKind) -> None:
    """A namespace named by `route` is equivalent to the site's: one user, one order of connections."""
    routed = Application(server.redis.client, drivers, "routed", "ro")
    user = routed.user()
    clients = [routed.connect(server, user, kind)]
    clients.append(routed.join(server, kind, namespace="way/in"))
    routed.identify(clients[1], f"{user}:{routed.key(user)}")
    eventually(lambda: routed.states(user) == ["l", "l"], "both to be live")
    routed.publish(user, "both hear it")
    for client in clients:
        wait_payloads(client, ["both hear it"])
    assert [messages(client)[0]["bubble"] for client in clients] == [True, False]
    routed.close()


@pytest.mark.parametrize("path", ["/way/in", "/way/in/"])
def test_page_at_the_route(server: Deployment, path: str) -> None:
    """GET at the path of the route answers 200, as RedMessenger does."""
    answer = httpx.get(f"{server.url}{path}")
    assert (answer.status_code, answer.text) == (200, "Hey, you're connected!")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"


def test_nothing_secret_is_logged(server: Deployment, news: Application) -> None:
    """No key, payload or user's name appears in the log, even at level debug."""
    user = news.user()
    client = news.join(server)
    news.identify(client, f"{user}:wrong-{SECRET}")
    client.wait_event("error")
    news.identify(client, f"{user}:{news.key(user)}")
    eventually(lambda: news.states(user) == ["l"], "the user to be live")
    news.publish(user, "s3cret payload")
    news.redis.publish("rm.others.x", "s3cret payload")
    news.redis.xadd("rm.stream", {"to": "nobody", "payload": "s3cret payload"})
    wait_payloads(client, ["s3cret payload"])
    eventually(lambda: news.redis.xlen("rm.stream") == 0, "the stream to be empty")
    lines = server.server.lines.snapshot()
    assert not [line for line in lines if SECRET in line or "s3cret" in line or f'"{user}"' in line]
    assert [line for line in lines if "message refused" in line]


def test_metrics(server: Deployment, news: Application) -> None:
    """Received messages, their outcomes, and admitted and refused clients are counted."""
    before = Figures(server)
    user = news.user()
    news.publish(user, "waits")
    news.wait_queued(user, "waits")
    client = news.connect(server, user)
    news.add(user, "streamed", id="1")
    news.add(user, "streamed", id="1")
    wait_payloads(client, ["waits", "streamed"])
    eventually(lambda: news.redis.xlen("rm.stream") == 0, "the stream to be empty")

    def grown(name: str, **labels: str) -> float:
        return Figures(server)(name, {"site": "news", **labels}) - before(name, {"site": "news", **labels})

    assert Figures(server)("recado_publish_lease", site="news") == 1
    assert grown("recado_publish_received_total", form="publish") == 1
    assert grown("recado_publish_received_total", form="stream") == 2
    results = ("queued", "delivered", "duplicate")
    eventually(
        lambda: [grown("recado_publish_outcomes_total", result=result) for result in results] == [1, 1, 1], "outcomes"
    )
    assert grown("recado_publish_identifications_total", result="accepted") == 1
    assert grown("recado_publish_lease_gaps_total") == 0
