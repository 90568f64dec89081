"""Readiness: a node is not ready while Redis is away and from SIGTERM on; it is alive all the time."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import httpx
import pytest

from tests.support.clients import PYTHON_KINDS
from tests.support.connector import Connector, Drivers
from tests.support.deployment import Deployment
from tests.support.metrics import Figures
from tests.support.sites import contract_sites
from tests.support.tenant import Tenant
from tests.support.waiting import eventually


@pytest.fixture
def deployment(tenant: Tenant) -> Iterator[Deployment]:
    """A server of the test's own with a separate Redis."""
    server = Deployment(contract_sites(tenant))
    yield server
    server.end()


def test_not_ready_while_redis_is_away(deployment: Deployment) -> None:
    """Without Redis the node is alive and not ready, and says so; when Redis is back it becomes ready by itself."""
    assert deployment.get("/readyz").json() == _readiness(redis=True, bus=True)
    deployment.redis.kill()
    away = _readiness(redis=False, bus=False)
    eventually(lambda: deployment.get("/readyz").json() == away, "the loss to be noticed")
    assert deployment.get("/readyz").status_code == 503
    assert (deployment.get("/healthz").status_code, deployment.get("/healthz").text) == (200, "ok")
    now = Figures(deployment)
    assert [now("recado_ready", check=check) for check in ("redis", "bus", "accepting")] == [0, 0, 1]
    assert now("recado_redis_losses_total") == 1
    deployment.redis.start()
    eventually(lambda: deployment.get("/readyz").status_code == 200, "the node to be ready again")
    eventually(lambda: Figures(deployment)("recado_bus_interruptions_total") == 1, "the subscription made anew")


def test_not_ready_when_the_bus_is_silent(deployment: Deployment) -> None:
    """A Redis that hangs with open connections is detected by the probe, which does not return."""
    deployment.redis.suspend()
    eventually(lambda: not deployment.get("/readyz").json()["checks"]["bus"], "the silence to be noticed", 60)
    assert deployment.get("/healthz").status_code == 200
    deployment.redis.resume()
    eventually(lambda: deployment.get("/readyz").status_code == 200, "the node to be ready again", 60)


def test_not_ready_from_sigterm_on(deployment: Deployment, drivers: Drivers, tenant: Tenant) -> None:
    """A node that drains reports it on the connections that are open, until it ends with 0."""
    connector = Connector(deployment, drivers)
    connector("alpha", tenant.user(), PYTHON_KINDS[0])
    with httpx.Client() as balancer:
        assert balancer.get(f"{deployment.url}/readyz").status_code == 200
        # The drain waits until Redis has recorded the client's end, so it is long enough to be observed.
        deployment.redis.suspend()
        deployment.server.signal(signal.SIGTERM)

        def checks() -> dict[str, bool]:
            answer = balancer.get(f"{deployment.url}/readyz")
            return dict(answer.json()["checks"])

        eventually(lambda: not checks()["accepting"], "the drain to be told")
    deployment.redis.resume()
    assert deployment.server.wait() == 0
    connector.close()


def _readiness(*, redis: bool, bus: bool) -> dict[str, object]:
    return {"ready": redis and bus, "checks": {"redis": redis, "bus": bus, "tasks": True, "accepting": True}}
