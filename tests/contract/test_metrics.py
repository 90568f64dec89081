"""/metrics of a server with real clients: their actions are counted, and the gauges are zero when they have gone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.clients import ACK_NONE, PYTHON_KINDS, ClientKind, each_library
from tests.support.connector import Connector, Drivers
from tests.support.deployment import Deployment
from tests.support.metrics import Figures
from tests.support.sites import contract_sites
from tests.support.tenant import Answer, Tenant
from tests.support.waiting import eventually

#: Gauges of what is present now; every other metric only grows.
PRESENT = ("recado_sessions", "recado_connections")


@pytest.fixture(scope="module")
def deployment(tenant: Tenant) -> Iterator[Deployment]:
    """A server of this module's own: no other tests' clients are in its metrics."""
    server = Deployment(contract_sites(tenant))
    yield server
    server.end()


def test_nothing_is_present_after_all_have_gone(deployment: Deployment, drivers: Drivers, tenant: Tenant) -> None:
    """The gauges count clients of every transport, refused ones too, and return to zero when the clients have gone."""
    kinds = [*PYTHON_KINDS, ClientKind("4", ("polling", "websocket"))] * 3
    eventually(lambda: Figures(deployment).of(*PRESENT) == {}, "nobody to be left of the tests before")
    connector = Connector(deployment, drivers)
    clients = [
        connector(site, tenant.user("editors"), kind, device=f"d{number}")
        for site in ("alpha", "plain")
        for number, kind in enumerate(kinds)
    ]
    refused = connector.begin(connector.call("alpha", tenant.user(), PYTHON_KINDS[0]))
    unknown = tenant.user()
    tenant.answer(unknown.token, Answer(status=401))
    turned_away = connector.begin(connector.call("alpha", unknown, PYTHON_KINDS[0]))
    turned_away.wait_refused()
    refused.wait_connected()
    seen = Figures(deployment)
    assert seen("recado_connections", site="plain") == len(kinds)
    assert seen("recado_connections", site="alpha") == len(kinds) + 1
    assert seen("recado_sessions") >= len(clients) + 1
    connector.fence("alpha", "editors", *clients[: len(kinds)])
    connector.fence("plain", "editors", *clients[len(kinds) :])
    connector.close()
    eventually(lambda: Figures(deployment).of(*PRESENT) == {}, "the gauges to return to zero")
    seen = Figures(deployment)
    assert seen("recado_connects_total", site="plain", result="accepted") >= len(kinds)


@each_library
def test_a_message_is_counted_on_its_way(
    deployment: Deployment, connect: Connector, tenant: Tenant, kind: ClientKind
) -> None:
    """One message to a connected and an absent device counts as stored twice, heard on the bus once,
    delivered once and acknowledged twice."""
    user = tenant.user()
    connect("alpha", user, kind, device="absent").disconnect()
    alpha = {"site": "alpha"}
    eventually(lambda: Figures(deployment)("recado_connections", alpha) == 0, "the absent device to be away")
    # Wait, so that the last acks of the previous test's clients are already counted.
    tenant.wait_for_update(user.token, "last_disconnected")
    before = Figures(deployment)
    present = connect("alpha", user, kind, device="present")
    deployment.send("alpha", user.room, "news")
    present.wait_event("news")
    connect("alpha", user, kind, device="absent").wait_event("_batch")

    def grown() -> dict[str, float]:
        now = Figures(deployment)
        names = ("stored", "bus_messages", "deliveries", "acks", "batches", "replayed")
        return {name: now(f"recado_{name}_total", alpha) - before(f"recado_{name}_total", alpha) for name in names}

    expected = {"stored": 2, "bus_messages": 1, "deliveries": 1, "acks": 2, "batches": 1, "replayed": 1}
    eventually(lambda: grown() == expected, "all of it to be counted")
    now = Figures(deployment)
    assert (
        now("recado_sends_total", alpha, result="accepted") - before("recado_sends_total", alpha, result="accepted")
        == 1
    )
    assert now("recado_auths_total", alpha, result="known") - before("recado_auths_total", alpha, result="known") == 2


def test_resyncs_have_a_reason(deployment: Deployment, connect: Connector, tenant: Tenant) -> None:
    """A queue over its limit is counted as an overflow and as a `_resync` for that reason."""
    user = tenant.user()
    client = connect("small_queue", user, PYTHON_KINDS[0], ack=ACK_NONE)
    for number in range(6):
        deployment.send("small_queue", user.room, "n", number)
    client.wait_event("_resync")
    now = Figures(deployment)
    assert now("recado_queue_overflows_total", site="small_queue") == 1
    assert now("recado_resyncs_total", site="small_queue", reason="queue full") == 1


def test_refused_requests_are_told_apart(deployment: Deployment) -> None:
    """A request without a valid key is counted for no site; a request with the key
    and a mistake is counted for its site."""
    before = Figures(deployment)
    assert deployment.post(params={"site": "beta", "apiKey": "wrong"}).status_code == 401
    assert deployment.post(params={"site": "nowhere", "apiKey": "wrong"}).status_code == 401
    assert deployment.post(params={"site": "beta", "apiKey": deployment.key("beta")}).status_code == 400
    now = Figures(deployment)
    assert now("recado_sends_unauthorized_total") - before("recado_sends_unauthorized_total") == 2
    assert now.of("recado_sends_total").get("recado_sends_total[('result', 'refused'), ('site', 'beta')]") == 1


def test_the_node_shows_itself(deployment: Deployment) -> None:
    """The bus's probe arrives each second, scripts are timed, the loop's lag is measured, the queues are sampled."""

    def is_complete() -> bool:
        now = Figures(deployment)
        counts = ("recado_bus_probe_seconds_count", "recado_loop_lag_seconds_count")
        return all(now(name) for name in counts) and bool(now("recado_redis_seconds_count", script="sample"))

    eventually(is_complete, "the first probe")
    ready = {check: Figures(deployment)("recado_ready", check=check) for check in ("redis", "bus", "accepting")}
    assert ready == {"redis": 1, "bus": 1, "accepting": 1}
