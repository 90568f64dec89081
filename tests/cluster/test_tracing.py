"""Spans of messages over two nodes with tracing, beside one without: one trace from POST /send to the ack."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest
import yaml

from tests.support.deployment import Deployment, Node
from tests.support.otlp import CollectedSpan, Collector, running_collector
from tests.support.sites import load_sites
from tests.support.swarm import Swarm
from tests.support.swarm_client import SwarmClient
from tests.support.tenant import Tenant, User
from tests.support.waiting import eventually

SITE = "one"
_TOKEN = "Bearer a-token-of-the-collector"
_SERVER, _PRODUCER, _CONSUMER, _INTERNAL = 2, 4, 5, 1
#: The bound of spans of single devices, on each node.
_DEVICE_SPANS = 10


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    """A collector of spans."""
    with running_collector() as collector:
        yield collector


@pytest.fixture(scope="module")
def deployment(tenant: Tenant, collector: Collector) -> Iterator[Deployment]:
    """A node without tracing, as an older one is, and two with it."""
    deployment = Deployment({SITE: load_sites(tenant)[SITE]})
    tracing = {"endpoint": collector.url, "headers": {"authorization": _TOKEN}, "service": "push"}
    blocks = {name: {"drain_timeout": 0.5} for name in ("production", "traced")}
    blocks["traced"]["tracing"] = tracing  # type: ignore[assignment]
    (deployment.directory / "config.yml").write_text(yaml.safe_dump(blocks))
    try:
        deployment.add_node(APP_ENV="traced")
        deployment.add_node(APP_ENV="traced")
        yield deployment
    finally:
        deployment.end()


@pytest.fixture
def swarm(deployment: Deployment) -> Iterator[Swarm]:
    """Devices, which leave when the test ends."""
    with Swarm(deployment, SITE) as swarm:
        yield swarm


def board(swarm: Swarm, node: Node, *users: User) -> list[SwarmClient]:
    """Connect a device of each user to a node."""
    devices = [swarm.add(user, node_url=lambda: node.url) for user in users]
    swarm.board(devices)
    return devices


def send(node: Node, room: str, parent: str = "", flags: str = "01", **headers: str) -> str:
    """Send an event with a `traceparent`, whose trace has this id; return the id of the message."""
    given = {"traceparent": f"00-{parent}-{'b7' * 8}-{flags}", **headers} if parent else headers
    answer = node.try_send(SITE, {"rooms": [room], "event": "news", "args": [1]}, headers=given)
    assert answer.status_code == 200
    return answer.headers["x-message-id"]


def new_trace() -> str:
    """The id of a trace."""
    return secrets.token_hex(16)


def test_one_message_is_one_trace(deployment: Deployment, collector: Collector, tenant: Tenant, swarm: Swarm) -> None:
    """POST /send at one node, the write and the ack at another are one trace, whose spans have the right parents; it is
    the trace of the caller, with its `tracestate`."""
    _, a, b = deployment.nodes
    user, trace = tenant.user(), new_trace()
    board(swarm, b, user)
    send(a, user.room, trace, tracestate="vendor=1,other=a:b")
    spans = collector.wait_for(trace, {"POST /send": 1, "send one": 1, "deliver one": 1, "device": 1})
    assert {name: len(found) for name, found in spans.items()} == dict.fromkeys(spans, 1)
    request, stored, delivered, device = (
        spans[name][0] for name in ("POST /send", "send one", "deliver one", "device")
    )
    assert [one.kind for one in (request, stored, delivered, device)] == [_SERVER, _PRODUCER, _CONSUMER, _INTERNAL]
    assert request.parent_id == "b7" * 8
    assert [stored.parent_id, delivered.parent_id, device.parent_id] == [
        *(request.span_id, stored.span_id, delivered.span_id)
    ]
    assert {one.state for one in (request, stored, delivered, device)} == {"vendor=1,other=a:b"}
    assert request.attributes["http.response.status_code"] == 200
    assert stored.attributes["recado.recipients"] == 1
    assert stored.attributes["messaging.message.id"] == delivered.attributes["messaging.message.id"]
    assert (delivered.attributes["recado.devices"], delivered.attributes["recado.acks"]) == (1, 1)
    assert (device.attributes["recado.written"], device.attributes["recado.acked"]) == (True, True)
    assert request.began_ns <= stored.began_ns <= delivered.began_ns <= device.began_ns <= device.ended_ns
    assert {one.resource["service.name"] for one in (request, device)} == {"push"}
    assert request.resource["service.instance.id"] == stored.resource["service.instance.id"]
    assert request.resource["service.instance.id"] != delivered.resource["service.instance.id"]


def test_a_request_without_a_trace_begins_one(
    deployment: Deployment, collector: Collector, tenant: Tenant, swarm: Swarm
) -> None:
    """Without a header, or with a broken one, a request begins a trace of its own; one that its caller has not sampled
    leaves no span."""
    _, a, _ = deployment.nodes
    user, unsampled = tenant.user(), new_trace()
    board(swarm, a, user)
    send(a, user.room, unsampled, flags="00")
    before = {one.span_id for one in list(collector.spans)}
    send(a, user.room, traceparent="00-not-a-trace-01")

    def roots() -> list[CollectedSpan]:
        found = [one for one in list(collector.spans) if one.span_id not in before]
        return [one for one in found if one.name == "POST /send" and not one.parent_id]

    eventually(roots, "a trace of its own", 30, 0.05)
    collector.wait_for(roots()[0].trace_id, {"device": 1})
    assert collector.trace(unsampled) == []


def test_nodes_without_tracing_go_on(
    deployment: Deployment, collector: Collector, tenant: Tenant, swarm: Swarm
) -> None:
    """A node without tracing delivers traced messages, and its own are delivered by nodes with it; that node leaves no
    span."""
    plain, a, b = deployment.nodes
    far, near, from_plain, to_plain = tenant.user(), tenant.user(), new_trace(), new_trace()
    board(swarm, b, near)
    board(swarm, plain, far)
    sent = [send(plain, near.room, from_plain), send(a, far.room, to_plain)]
    collector.wait_for(to_plain, {"POST /send": 1, "send one": 1})
    redis = deployment.redis.client
    waiting = f"recado:{{{SITE}}}:waiting"
    eventually(lambda: all(redis.zscore(waiting, id) is None for id in sent), "the acks of both", 30, 0.05)
    assert [one.name for one in collector.trace(to_plain)] == ["POST /send", "send one"]
    assert collector.trace(from_plain) == []


def test_a_message_that_waited(deployment: Deployment, collector: Collector, tenant: Tenant, swarm: Swarm) -> None:
    """The ack of a `_batch`, at whatever node with tracing, is a span of the message's trace."""
    _, a, b = deployment.nodes
    user, trace = tenant.user(), new_trace()
    [device] = board(swarm, b, user)
    swarm.each(SwarmClient.leave, [device])
    redis = deployment.redis.client
    eventually(lambda: _is_away(redis, user), "the device to be away", 30, 0.05)
    send(a, user.room, trace)
    collector.wait_for(trace, {"send one": 1})
    board(swarm, b, user)
    spans = collector.wait_for(trace, {"replay one": 1})
    [replay] = spans["replay one"]
    assert replay.parent_id == spans["send one"][0].span_id
    assert (replay.attributes["recado.batch"], replay.attributes["recado.acks"]) == (True, 1)
    assert "deliver one" not in spans


def _is_away(redis: object, user: User) -> bool:
    states = redis.hgetall(f"recado:{{{SITE}}}:user:{user.room}")  # type: ignore[attr-defined]
    return all(state.startswith(b"@") for state in states.values())


def test_spans_of_a_fan_out_are_few(deployment: Deployment, collector: Collector, tenant: Tenant, swarm: Swarm) -> None:
    """A message to 120 devices has one span a node with their number, and some devices with a span of their own."""
    _, a, b = deployment.nodes
    trace, room = new_trace(), tenant.unique("room")
    for node, count in ((a, 40), (b, 80)):
        board(swarm, node, *(tenant.user(room) for _ in range(count)))
    send(a, room, trace)
    spans = collector.wait_for(trace, {"deliver one": 2, "device": 2 * _DEVICE_SPANS})
    assert {name: len(found) for name, found in spans.items()} == {
        "POST /send": 1,
        "send one": 1,
        "deliver one": 2,
        "device": 2 * _DEVICE_SPANS,
    }
    assert sorted(one.attributes["recado.devices"] for one in spans["deliver one"]) == [40, 80]
    assert all(one.attributes["recado.acks"] == one.attributes["recado.devices"] for one in spans["deliver one"])


def test_the_secret_of_the_collector_is_in_no_log(deployment: Deployment, collector: Collector, tenant: Tenant) -> None:
    """Each request carries the header of the setting, and no line of a log has it."""
    trace = new_trace()
    send(deployment.nodes[1], tenant.user().room, trace)
    collector.wait_for(trace, {"send one": 1})
    assert {headers["authorization"] for headers in collector.requests} == {_TOKEN}
    lines = [line for node in deployment.nodes for line in node.server.lines.snapshot()]
    assert [line for line in lines if _TOKEN.removeprefix("Bearer ") in line] == []
