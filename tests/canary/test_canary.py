"""The canary of whole servers on a real Valkey: its figures in peace, the place of a miss, and nothing left behind."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest

from app.canary.session import CanarySession
from app.canary.wire import OwnPort, WireError
from app.config.settings import CANARY_SITE
from tests.support.background import BackgroundLoop
from tests.support.deployment import Deployment, Node
from tests.support.metrics import Figures
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import eventually

Deploy = Callable[..., Deployment]
_PREFIX = f"recado:{{{CANARY_SITE}}}:"
#: Keys that a site has once and for good, of a few bytes each.
_OF_THE_SITE = {"seq", "handle", "run", "bus", "tickets"}


def sent(node: Node) -> float:
    """How many messages the node's canary has sent."""
    return Figures(node)("recado_canary_sent_total")


def wait_sent(node: Node, count: int) -> None:
    """Return when the canary has sent so many more."""
    before = sent(node)
    eventually(lambda: sent(node) >= before + count, "messages of the canary", 60)


def misses(node: Node) -> list[dict[str, Any]]:
    """The log lines of messages that got stuck."""
    return [line for line in node.server.log() if line.get("event") == "canary missed"]


def wait_missed(node: Node, place: str) -> dict[str, Any]:
    """The log line of a message that got stuck there."""
    eventually(lambda: any(line["place"] == place for line in misses(node)), f"a miss that is {place}", 60)
    return next(line for line in misses(node) if line["place"] == place)


def notice(node: Node) -> bool:
    """Whether /readyz says that the canary is well."""
    return bool(node.get("/readyz").json()["notices"]["canary"])


def devices(deployment: Deployment) -> dict[str, Any]:
    """The keys of the hidden site in Redis, but those that a site has once."""
    found = deployment.redis.dump()
    return {
        name: value
        for key, value in found.items()
        if key.startswith(_PREFIX) and (name := key.removeprefix(_PREFIX)) not in _OF_THE_SITE
    }


def test_in_peace_everything_arrives_and_nothing_shows(deploy: Deploy) -> None:
    """Each message is delivered; no list, log line, row or site of the metrics shows the hidden site."""
    deployment = deploy(DATABASE_URL="sqlite:///journal.sqlite", CANARY_WAIT="30")
    node = deployment.nodes[0]
    wait_sent(node, 5)
    figures = Figures(node)
    assert figures("recado_canary_delivered_share") == 1.0
    assert 0 < figures("recado_canary_p99_seconds") < 30
    assert figures.of("recado_canary_missed_total") == {}
    assert notice(node)
    assert CANARY_SITE not in node.get("/metrics").text
    assert f"{_PREFIX}fate" not in deployment.redis.dump()
    assert [line for line in node.server.log() if CANARY_SITE in str(line)] == []
    rows = (deployment.directory / "journal.sqlite").read_bytes() if node.stop() == 0 else b"?"
    assert CANARY_SITE.encode() not in rows


def test_a_node_that_drains_sends_nothing(deploy: Deploy) -> None:
    """From SIGTERM on there is no message, and none that was under way counts as a miss."""
    node = deploy().nodes[0]
    wait_sent(node, 2)
    assert node.stop() == 0
    assert misses(node) == []
    assert not [line for line in node.server.log() if line.get("event") in ("canary failed", "canary not forgotten")]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_reload_finds_no_change_in_it(deploy: Deploy, workers: int) -> None:
    """SIGHUP does not take the hidden site for one that has gone, nor for a new one."""
    node = deploy({"workers": workers}).nodes[0]
    eventually(lambda: sent(node) or workers > 1, "the canary", 60)
    node.server.signal(signal.SIGHUP)

    def reloads() -> list[dict[str, Any]]:
        return [line for line in node.server.log() if line.get("event") == "configuration reloaded"]

    # The supervisor's own, and that of each worker.
    eventually(lambda: len(reloads()) == (1 if workers == 1 else 1 + workers), "the reload", 60)
    assert [line["added"] for line in reloads() if line["added"]] == []
    assert not [line for line in node.server.log() if line.get("event") == "restart to apply"]


def test_a_stranger_finds_no_such_site(deploy: Deploy, background: BackgroundLoop) -> None:
    """Without the key the site neither takes messages nor clients, and says no more than of any other name."""
    node = deploy().nodes[0]
    body = {"rooms": ["x"], "event": "e", "args": []}
    for site in (CANARY_SITE, "no-such-site"):
        answer = node.post(f"/send?site={site}", headers={"X-API-Key": "guessed"}, json=body)
        assert (answer.status_code, answer.text) == (401, "ApiKey invalid.")
    target = OwnPort("127.0.0.1", int(node.url.rpartition(":")[2]))
    with pytest.raises(WireError, match="refused"):
        background.run(CanarySession.open(target, "", "abc", "guessed"))


def test_a_stopped_redis_does_not_accept(deploy: Deploy) -> None:
    """With Redis stopped the message is not accepted; the node that gets it back is well again."""
    deployment = deploy()
    node = deployment.nodes[0]
    wait_sent(node, 1)
    deployment.redis.suspend()
    assert "503" in wait_missed(node, "not accepted")["reason"]
    assert not notice(node)
    deployment.redis.resume()
    eventually(lambda: notice(node), "the canary to be well", 60)
    figures = Figures(node)
    assert 0 < figures("recado_canary_delivered_share") < 1
    assert figures("recado_canary_missed_total", place="not accepted") >= 1


def test_a_killed_redis_that_comes_back_empty_is_joined_again(deploy: Deploy) -> None:
    """A Redis that has lost everything is found out, and the canary's device registers again."""
    deployment = deploy()
    node = deployment.nodes[0]
    wait_sent(node, 1)
    deployment.redis.client.flushall()
    eventually(lambda: len(misses(node)) > 0, "a miss", 60)
    eventually(lambda: notice(node), "the canary to be well", 60)


def test_a_deaf_bus_is_named(deploy: Deploy, background: BackgroundLoop) -> None:
    """A node that hears nothing on the bus says that its message was not heard there."""
    deployment = deploy(RECADO_CANARY="false")
    proxy = TcpProxy(background, deployment.redis.url)
    try:
        node = deployment.add_node(REDIS_URL=proxy.redis_url, RECADO_CANARY="true", CANARY_WAIT="1")
        wait_sent(node, 1)
        proxy.freeze_subscriptions()
        wait_missed(node, "not heard on the bus")
        assert not notice(node)
        assert node.get("/healthz").status_code == 200
        proxy.thaw_subscriptions()
        eventually(lambda: notice(node), "the canary to be well", 60)
        node.end()
    finally:
        proxy.end()


def test_a_client_that_does_not_acknowledge_is_named(deploy: Deploy) -> None:
    """A message that the client has and does not acknowledge was written, and not acked in time; the node stays
    ready."""
    node = deploy(CANARY_ACKS="none", CANARY_WAIT="1").nodes[0]
    line = wait_missed(node, "not acked in time")
    assert line["level"] == "warning"
    assert "reason" not in line
    answer = node.get("/readyz")
    assert (answer.status_code, answer.json()["notices"]) == (200, {"canary": False})
    assert Figures(node)("recado_canary_delivered_share") == 0.0


def test_nothing_stays_behind_a_node_that_ends(deploy: Deploy) -> None:
    """SIGTERM takes the device and its queue with it, also when messages wait there."""
    deployment = deploy(CANARY_ACKS="none", CANARY_WAIT="1")
    node = deployment.nodes[0]
    wait_missed(node, "not acked in time")
    assert any(name.startswith("queue:") for name in devices(deployment))
    assert node.stop() == 0
    assert devices(deployment) == {}


def test_nothing_stays_behind_a_node_that_is_killed(deploy: Deploy) -> None:
    """After SIGKILL another node takes out the connection, and forgets the device with its queue."""
    deployment = deploy(CANARY_ACKS="none", CANARY_WAIT="1", CANARY_TTL="1")
    killed = deployment.nodes[0]
    wait_missed(killed, "not acked in time")
    killed.kill()
    assert any(name.startswith("queue:") for name in devices(deployment))
    other = deployment.add_node(CANARY_ACKS="all", CANARY_WAIT="30")
    wait_sent(other, 1)
    eventually(lambda: not any(name.startswith("queue:") for name in devices(deployment)), "the queue to go", 60)
    assert other.stop() == 0
    eventually(lambda: devices(deployment) == {}, "the rest to go", 60)


def test_workers_each_have_a_canary(deploy: Deploy) -> None:
    """Of several workers behind one port each sends and gets its own messages, whichever accepts the request."""
    # Workers take no figures from the test: each sends its first message when it listens.
    node = deploy({"workers": 2}).nodes[0]

    def figures(name: str) -> list[float]:
        return [Figures(node)(f"recado_canary_{name}", worker=worker) for worker in ("0", "1")]

    eventually(lambda: min(figures("sent_total")) >= 1, "both canaries", 60)
    assert figures("delivered_share") == [1.0, 1.0]


def test_it_can_be_turned_off(deploy: Deploy) -> None:
    """With `canary: false` there is no notice, no message and no hidden site."""
    deployment = deploy({"canary": False}, RECADO_CANARY="")
    node = deployment.nodes[0]
    assert "notices" not in node.get("/readyz").json()
    assert sent(node) == 0
    assert Figures(node)("recado_canary_delivered_share") == 0.0
    assert not [key for key in deployment.redis.dump() if CANARY_SITE in key]
