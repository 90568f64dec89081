"""contracts/redis-publish.md over three nodes: each message is sent once per connection
and queued once, whichever node dies."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.support.clients import Client
from tests.support.connector import Drivers
from tests.support.deployment import Deployment, Node
from tests.support.metrics import Figures
from tests.support.publish import Application, messages, payloads, wait_payloads
from tests.support.waiting import eventually

SITES = {
    "news": {"apiKey": "k", "redisPublish": {"conn_limit": 4}},
    "sure": {"apiKey": "k", "redisPublish": {"prefix": "su", "ack": True}},
}
TAKEN_OVER_WITHIN_SECONDS = 5.0


@pytest.fixture(scope="module")
def shared() -> Iterator[Deployment]:
    """Three nodes that no test damages."""
    deployment = Deployment(SITES, {"log_level": "debug"}, nodes=3)
    yield deployment
    deployment.end()


@pytest.fixture
def own() -> Iterator[Deployment]:
    """Three nodes of the test's own."""
    deployment = Deployment(SITES, {"log_level": "debug"}, nodes=3)
    yield deployment
    deployment.end()


@pytest.fixture
def application(drivers: Drivers) -> Iterator[Callable[[Deployment], Application]]:
    """Makes the application of a site (`news` by default) in a deployment."""
    made: list[Application] = []

    def make(deployment: Deployment, site: str = "news", prefix: str = "rm") -> Application:
        made.append(Application(deployment.redis.client, drivers, site, prefix))
        return made[-1]

    yield make
    for one in made:
        one.close()


def holder_of(deployment: Deployment) -> Node:
    """The node that holds the lease of the subscription, once one does."""

    def find() -> Node | None:
        for node in deployment.nodes:
            if node.is_listed and Figures(node)("recado_publish_lease", site="news") == 1:
                return node
        return None

    return eventually(find, "a node to hold the lease") or deployment.nodes[0]


@contextmanager
def numbered(send: Callable[[str], object], pause_seconds: float = 0.005) -> Iterator[list[str]]:
    """Send numbers in the background during the block; yields the list of the numbers sent."""
    sent: list[str] = []
    is_over = threading.Event()

    def run() -> None:
        for number in itertools.count():
            send(str(number))
            sent.append(str(number))
            if is_over.wait(pause_seconds):
                return

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield sent
    finally:
        is_over.set()
        thread.join()


Make = Callable[..., Application]


def test_once_per_connection(shared: Deployment, application: Make) -> None:
    """Each PUBLISH is heard by one node and reaches every connection of the user once, in order, on any node."""
    news = application(shared)
    user = news.user()
    holder_of(shared)
    clients = [news.connect(node, user) for node in shared.nodes]
    numbers = [str(number) for number in range(300)]
    heard = [news.publish(user, number) for number in numbers]
    for client in clients:
        wait_payloads(client, numbers)
    assert set(heard) == {1}
    bubbles = [[message["bubble"] for message in messages(client)] for client in clients]
    assert bubbles == [[True] * 300, [False] * 300, [False] * 300]


def test_queued_once(shared: Deployment, application: Make) -> None:
    """Messages for a user without connections are queued once and delivered once."""
    news = application(shared)
    user = news.user()
    holder_of(shared)
    numbers = [str(number) for number in range(100)]
    for number in numbers:
        news.publish(user, number)
    news.wait_queued(user, *numbers)
    first = news.connect(shared.nodes[0], user)
    wait_payloads(first, numbers)
    news.wait_queued(user)
    second = news.connect(shared.nodes[1], user)
    news.publish(user, "live")
    wait_payloads(first, [*numbers, "live"])
    wait_payloads(second, ["live"])


def test_connection_limit_over_nodes(shared: Deployment, application: Make) -> None:
    """conn_limit counts the connections at all nodes; the oldest is disconnected,
    and the next oldest becomes the first."""
    news = application(shared)
    user = news.user()
    clients = [news.connect(shared.nodes[number % 3], user) for number in range(4)]
    fifth = news.join(shared.nodes[1])
    news.identify(fifth, f"{user}:{news.key(user)}")
    clients[0].wait_disconnected()
    eventually(lambda: news.states(user) == ["l"] * 4, "four to be left")
    news.publish(user, "after")
    for client in (*clients[1:], fifth):
        wait_payloads(client, ["after"])
    assert [messages(client)[0]["bubble"] for client in (*clients[1:], fifth)] == [True, False, False, False]


def test_joins_in_a_burst(shared: Deployment, application: Make) -> None:
    """A user who connects and disconnects at every node during a stream of PUBLISHes gets each number, in order, none
    twice on one connection."""
    news = application(shared)
    user = news.user()
    clients: list[Client] = []
    with numbered(lambda number: news.publish(user, number), 0.001) as sent:
        for turn in range(12):
            clients.append(news.join(shared.nodes[turn % 3]))
            news.identify(clients[-1], f"{user}:{news.key(user)}")
            clients[-1].wait_event("message")
            if turn:
                clients[-2].disconnect()
    wait_for_last(clients[-1], sent)
    assert_complete(clients, sent)
    for client in clients:
        got = payloads(client)
        assert [number for number, times in Counter(got).items() if times > 1] == []
        assert got == sorted(got, key=int)


def wait_for_last(client: Client, sent: list[str]) -> None:
    """Wait until the client has received the last number."""
    eventually(lambda: payloads(client)[-1:] == sent[-1:], "the last number", 15)


def assert_complete(clients: list[Client], sent: list[str]) -> None:
    """Check that every number has reached at least one of the clients."""
    got = {payload for client in clients for payload in payloads(client)}
    assert [number for number in sent if number not in got] == []


def test_holder_killed(own: Deployment, application: Make) -> None:
    """When the lease's holder is killed another node takes the lease within 5 s and counts the gap. Clients of other
    nodes stay connected. A user of the killed node gets the missing numbers at another node."""
    news = application(own)
    user, moving = news.user(), news.user()
    holder = holder_of(own)
    others = [node for node in own.nodes if node is not holder]
    client = news.connect(others[0], user)
    old = news.connect(holder, moving)
    with numbered(lambda number: news.publish(moving, number)) as sent:
        eventually(lambda: len(payloads(old)) > 50, "numbers at the old node")
        lost_from, killed_at = len(sent), time.monotonic()
        holder.kill()
        eventually(lambda: news.publish(user, "probe") == 1, "another owner", TAKEN_OVER_WITHIN_SECONDS)
        assert time.monotonic() - killed_at < TAKEN_OVER_WITHIN_SECONDS
        client.wait_event("message")
        new = news.join(others[1])
        news.identify(new, f"{moving}:{news.key(moving)}")
        new.wait_event("message")
        heard_from = len(sent) + 5
        eventually(lambda: len(sent) > heard_from + 50, "more numbers")
    wait_for_last(new, sent)
    got = set(payloads(old)) | set(payloads(new))
    # (Numbers PUBLISHed at the moment of the kill may have been lost with the killed node.)
    assert [number for number in sent[: lost_from - 5] + sent[heard_from:] if number not in got] == []
    taken = holder_of(own)
    figures = Figures(taken)
    assert figures("recado_publish_lease_gaps_total", site="news") == 1
    assert 0 < figures("recado_publish_lease_gap_seconds_total", site="news") < TAKEN_OVER_WITHIN_SECONDS
    assert sum(Figures(node)("recado_publish_lease", site="news") for node in others) == 1


def test_stream_loses_nothing(own: Deployment, application: Make) -> None:
    """The lease's holder is killed during a stream, with users on every node: each user gets every entry, at least once
    over all connections and once on each, in order; no entry stays pending."""
    news = application(own)
    users = [news.user() for _ in range(4)]
    news.subscribe("all", *users)
    away = users[3]
    holder = holder_of(own)
    others = [node for node in own.nodes if node is not holder]
    clients = {user: [news.connect(node, user)] for user, node in zip(users, [holder, *others], strict=False)}
    with numbered(lambda number: news.redis.xadd("rm.stream", {"to": "channels.all", "payload": number})) as sent:
        eventually(lambda: len(payloads(clients[users[0]][0])) > 50, "numbers at the old node")
        holder.kill()
        new = news.join(others[0])
        news.identify(new, f"{users[0]}:{news.key(users[0])}")
        clients[users[0]].append(new)
        eventually(lambda: len(payloads(clients[users[1]][0])) > len(sent) - 20 > 200, "the next owner", 15)
    for user in users[:3]:
        wait_for_last(clients[user][-1], sent)
        assert_complete(clients[user], sent)
        for client in clients[user]:
            got = payloads(client)
            assert [number for number, times in Counter(got).items() if times > 1] == []
            assert got == sorted(got, key=int)
    news.wait_queued(away, *sent)
    eventually(lambda: news.redis.xlen("rm.stream") == 0, "the stream to be empty")
    assert news.redis.xpending("rm.stream", "recado")["pending"] == 0
    for client in (clients[users[1]][0], clients[users[2]][0]):
        assert payloads(client) == sent


def test_owner_that_wakes_up(own: Deployment, application: Make) -> None:
    """A holder that was frozen for longer than its lease finds another holder in
    its place: nothing is delivered twice."""
    news = application(own)
    user, frozen = news.user(), news.user()
    holder = holder_of(own)
    others = [node for node in own.nodes if node is not holder]
    client = news.connect(others[0], user)
    old = news.connect(holder, frozen)

    def send(number: str) -> None:
        news.publish(user, number)
        news.add(frozen, number)

    with numbered(send) as sent:
        eventually(lambda: len(payloads(client)) > 20, "numbers")
        holder.suspend()
        count = len(sent)
        eventually(lambda: len(sent) > count + 50 and news.publish(user, "x") == 2, "a second owner")
        new = news.join(others[1])
        news.identify(new, f"{frozen}:{news.key(frozen)}")
        new.wait_event("message")
        eventually(lambda: news.connections(frozen) == 1, "the frozen node to be taken out", 10)
        count = len(sent)
        eventually(lambda: len(sent) > count + 50, "more numbers")
        holder.resume()
        count = len(sent)
        eventually(lambda: news.publish(user, "y") == 1, "the old owner to let go")
        eventually(lambda: len(sent) > count + 50, "more numbers")
    eventually(lambda: sent[-1] in payloads(client) and sent[-1] in payloads(new), "the last number")
    for one in (client, new):
        numbers = [payload for payload in payloads(one) if payload.isdigit()]
        assert [number for number, times in Counter(numbers).items() if times > 1] == []
        assert numbers == sorted(numbers, key=int)
    assert_complete([old, new], sent)


def test_owners_end_one_after_the_other(own: Deployment, application: Make) -> None:
    """A holder that ends properly hands the lease over: nothing PUBLISHed meanwhile is lost or
    delivered twice, and there is no gap."""
    news = application(own)
    user = news.user()
    holder = holder_of(own)
    last = next(node for node in own.nodes if node is not holder)
    client = news.connect(last, user)
    with numbered(lambda number: news.publish(user, number), 0.0005) as sent:
        while holder is not last and len([node for node in own.nodes if node.is_listed]) > 1:
            assert holder.stop() == 0
            count = len(sent)
            eventually(lambda count=count: len(sent) > count + 100, "more numbers")  # type: ignore[misc]
            holder = holder_of(own)
    wait_for_last(client, sent)
    assert payloads(client) == sent
    for node in own.nodes:
        if node.is_listed:
            assert Figures(node)("recado_publish_lease_gaps_total", site="news") == 0
