"""Contract `channels` over two nodes on one Valkey: every node has the same
channels, and the end of a node loses nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.frames import Close
from websockets.sync.client import connect

from tests.support.channels import Publisher, Subscription, channels_site
from tests.support.deployment import Deployment, Node
from tests.support.tenant import Tenant
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def cluster() -> Iterator[Deployment]:
    """Two nodes that tests address one by one, without a balancer."""
    sites = {
        "shop": channels_site(),
        "again": channels_site(channels={"recreate": True}),
        "bound": channels_site(binds={"here": "hall", "there": "hall"}),
    }
    deployment = Deployment(sites, {"log_level": "debug", "redis_timeout": 1}, nodes=2)
    yield deployment
    deployment.end()


@pytest.fixture
def nodes(cluster: Deployment) -> tuple[Node, Node]:
    """Both nodes, running."""
    for node in cluster.nodes:
        if node.server.returncode is not None:
            node.start()
    one, two = cluster.nodes
    return one, two


@pytest.fixture
def name(tenant: Tenant) -> str:
    """A channel's name that no other test uses."""
    return tenant.unique("channel")


def test_channels_are_the_same_everywhere(nodes: tuple[Node, Node], name: str) -> None:
    """A channel created at one node exists at the other with the same token. Creating it again there is a conflict, and
    deleting it there deletes it here."""
    here, there = (Publisher(node, "shop") for node in nodes)
    token = here.create(name)
    assert there.ping(name, token).status_code == 200
    answer = there.post("/channel/create", "CREATE_CHANNEL", {"channel": name}, params={"apiKey": nodes[0].key("shop")})
    assert answer.status_code == 409
    assert there.delete(name, token).status_code == 200
    assert here.push(name, "x").status_code == 404


def test_a_push_reaches_the_other_node(nodes: tuple[Node, Node], name: str) -> None:
    """A push at one node reaches subscribers of both, once and in order, also when it is addressed by uuid."""
    here, there = (Publisher(node, "shop") for node in nodes)
    token = here.create(name)
    with Subscription(nodes[0].url, "shop") as one, Subscription(nodes[1].url, "shop") as two:
        one.subscribe(name)
        two.subscribe(name)
        for number in range(20):
            (here, there)[number % 2].push(name, str(number), token=token)
        here.push(name, "for two", two.uuid)
        here.push(name, "for one", one.uuid)
        numbers = [(name, str(number)) for number in range(20)]
        assert one.pushed(21) == [*numbers, (name, "for one")]
        assert two.pushed(21) == [*numbers, (name, "for two")]


def test_a_fresh_token_is_the_same_everywhere(nodes: tuple[Node, Node], name: str) -> None:
    """A channel that is created again at one node keeps its subscribers at the other. The fresh token counts at both,
    and a deletion with it unsubscribes everybody."""
    here, there = (Publisher(node, "again") for node in nodes)
    first = there.create(name)
    there.create(name + "2")
    with Subscription(nodes[0].url, "again") as one, Subscription(nodes[1].url, "again", resumable="1") as two:
        one.subscribe(name, name + "2")
        two.subscribe(name)
        second = here.create(name)
        assert there.push(name, "old", token=first).status_code == 403
        assert there.push(name, "new", token=second).status_code == 200
        assert one.pushed() == two.pushed() == [(name, "new")]
        assert there.delete(name, second).status_code == 200
        ack = two.receive()
        assert (ack["message"], ack["data"]["subscribedChannels"]) == ("Unsubscribed", [])
        there.create(name)
        there.push(name, "for nobody")
        there.push(name + "2", "still here")
        assert one.pushed() == [(name + "2", "still here")]


def test_deleted_here_unsubscribed_there(nodes: tuple[Node, Node], name: str) -> None:
    """A deletion unsubscribes the subscribers of every node: pushes to a new channel of that name do not reach them."""
    here = Publisher(nodes[0], "shop")
    here.create(name)
    here.create(name + "2")
    with Subscription(nodes[1].url, "shop") as subscriber:
        subscriber.subscribe(name, name + "2")
        here.delete(name)
        here.create(name)
        here.push(name, "not for you")
        here.push(name + "2", "for you")
        push = subscriber.receive()["data"]
        assert (push["subscribedChannels"], push["pushMessage"]["message"]) == ([name + "2"], "for you")


def test_resume_at_the_other_node(nodes: tuple[Node, Node], name: str) -> None:
    """A subscriber may resume at any node; the connection that it left behind is ended."""
    here = Publisher(nodes[0], "shop")
    here.create(name)
    left = Subscription(nodes[0].url, "shop", resumable="1").subscribe(name)
    back = {"resume": str(left.uuid), "secret": left.ack["data"]["secret"]}
    with Subscription(nodes[1].url, "shop", **back) as again:
        assert again.ack["data"] == {"uuid": left.uuid, "subscribedChannels": [name]}
        here.push(name, "x")
        assert again.pushed() == [(name, "x")]
        # The old connection's node learns of the takeover when the next pong confirms the position.
        assert left.closed() == (1012, "resumed elsewhere, or forgotten")
        assert again.act("UNSUBSCRIBE", name)["data"]["subscribedChannels"] == []


def test_sysadmin_counts_all_nodes(nodes: tuple[Node, Node]) -> None:
    """Each node counts the subscribers of both; those of a killed node count until it is buried."""

    def clients(node: Node) -> int:
        answer = node.get("/channels/again/sysadmin", headers={"X-API-Key": str(node.key("again"))})
        return int(answer.json()["data"]["clientsAmount"])

    eventually(lambda: clients(nodes[1]) == 0, "the clients of other tests to be gone")
    with Subscription(nodes[1].url, "again"):
        subscribers = [Subscription(nodes[0].url, "again") for _ in range(3)]
        for node in nodes:
            eventually(lambda node=node: clients(node) == 4, "both nodes' subscribers")  # type: ignore[misc]
        subscribers.pop().close()
        eventually(lambda: clients(nodes[1]) == 3, "one to be gone")
        nodes[0].kill()
        eventually(lambda: clients(nodes[1]) == 1, "the burial", 60)
        nodes[0].start()
        assert clients(nodes[0]) == 1


def test_a_killed_node_loses_nothing(nodes: tuple[Node, Node], name: str) -> None:
    """Resumable subscribers of a killed node resume elsewhere: same uuid, same
    channels, and the pushes made meanwhile."""
    survivor = Publisher(nodes[1], "shop")
    survivor.create(name)
    subscribers = [Subscription(nodes[0].url, "shop", resumable="1").subscribe(name) for _ in range(3)]
    survivor.push(name, "before")
    for subscriber in subscribers:
        assert subscriber.pushed() == [(name, "before")]
    nodes[0].kill()
    for number in range(5):
        assert survivor.push(name, str(number)).status_code == 200
    for subscriber in subscribers:
        back = {"resume": str(subscriber.uuid), "secret": subscriber.ack["data"]["secret"]}
        with Subscription(nodes[1].url, "shop", **back) as again:
            assert again.ack["data"] == {"uuid": subscriber.uuid, "subscribedChannels": [name]}
            missed = again.pushed(5)
            if missed[0] == (name, "before"):
                # The node was killed before it had confirmed the position to Redis, so delivery is at least once.
                missed = [*missed[1:], *again.pushed()]
            assert missed == [(name, str(number)) for number in range(5)]
        with pytest.raises(ConnectionClosed):
            subscriber.receive()


def test_a_node_that_is_stopped_says_so(nodes: tuple[Node, Node], name: str) -> None:
    """On SIGTERM every subscriber is told to reconnect (1012); a resumable one
    misses nothing and gets nothing twice."""
    publisher = Publisher(nodes[1], "shop")
    publisher.create(name)
    plain = Subscription(nodes[0].url, "shop").subscribe(name)
    kept = Subscription(nodes[0].url, "shop", resumable="1").subscribe(name)
    publisher.push(name, "before")
    assert plain.pushed() == kept.pushed() == [(name, "before")]
    assert nodes[0].stop() == 0
    assert plain.closed() == kept.closed() == (1012, "the server restarts")
    publisher.push(name, "after")
    with Subscription(nodes[1].url, "shop", resume=str(kept.uuid), secret=kept.ack["data"]["secret"]) as again:
        assert again.pushed() == [(name, "after")]


def test_after_a_restart_everything_is_there(cluster: Deployment, nodes: tuple[Node, Node], name: str) -> None:
    """When all nodes and Redis have restarted, channels, tokens and subscribers are unchanged."""
    publisher = Publisher(nodes[0], "shop")
    token = publisher.create(name)
    subscriber = Subscription(nodes[0].url, "shop", resumable="1").subscribe(name)
    for node in nodes:
        node.stop()
    cluster.redis.kill()
    cluster.redis.start()
    for node in nodes:
        node.start()
    assert publisher.ping(name, token).status_code == 200
    assert publisher.ping(name, token[:-1] + "_").status_code == 403
    publisher.push(name, "after")
    with Subscription(
        nodes[1].url, "shop", resume=str(subscriber.uuid), secret=subscriber.ack["data"]["secret"]
    ) as again:
        assert again.ack["data"] == {"uuid": subscriber.uuid, "subscribedChannels": [name]}
        assert again.pushed() == [(name, "after")]


def test_redis_away(cluster: Deployment, nodes: tuple[Node, Node], name: str) -> None:
    """While Redis is away publishers get 503 and a client that subscribes gets an error. Connections stay open and get
    the pushes made once Redis is back."""
    publisher = Publisher(nodes[0], "shop")
    publisher.create(name)
    with Subscription(nodes[0].url, "shop") as one, Subscription(nodes[1].url, "shop") as two:
        one.subscribe(name)
        two.subscribe(name)
        cluster.redis.kill()
        answer = publisher.push(name, "lost")
        assert (answer.status_code, answer.json()["message"]) == (503, "Service unavailable")
        assert answer.headers["retry-after"] == "1"
        assert two.act("SUBSCRIBE", name + "2")["code"] == 503
        with Subscription(nodes[0].url, "shop") as new:
            assert new.ack["data"]["subscribedChannels"] == []
        for wish in ("resumable=1", f"resume={one.uuid}&secret=x"):
            with connect(f"{nodes[0].url.replace('http', 'ws', 1)}/channels/shop?{wish}") as turned_away:
                with pytest.raises(ConnectionClosed) as end:
                    turned_away.recv(30)
                assert end.value.rcvd == Close(1013, "message store not available")
        cluster.redis.start()
        eventually(lambda: publisher.push(name, "back").status_code == 200, "a push")
        assert one.pushed()[0] == two.pushed()[0] == (name, "back")
        publisher.create(name + "2")
        two.subscribe(name + "2")


def test_channels_bound_to_a_room(cluster: Deployment, nodes: tuple[Node, Node]) -> None:
    """A push into a bound channel also reaches the other channel bound to its room. A /send to the room reaches both:
    text as it is, anything else as JSON. A push to recipients reaches only them."""
    publisher = Publisher(nodes[0], "bound")
    for channel in ("here", "there"):
        publisher.create(channel)
    with Subscription(nodes[0].url, "bound") as here, Subscription(nodes[1].url, "bound") as there:
        here.subscribe("here")
        there.subscribe("there")
        publisher.push("here", "pushed")
        publisher.push("here", "whispered", here.uuid)
        nodes[1].send("bound", "hall", "score", "text")
        nodes[1].send("bound", "hall", "score", {"home": 1}, 2)
        assert here.pushed(4) == [("here", text) for text in ("pushed", "whispered", "text", '[{"home":1},2]')]
        assert there.pushed(3) == [("there", text) for text in ("pushed", "text", '[{"home":1},2]')]
