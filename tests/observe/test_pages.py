"""The answers of /metrics, /healthz and /readyz."""

import httpx
import pytest
from starlette.applications import Starlette

from app.observe.counts import Counts
from app.observe.figures import METRICS
from app.observe.fleet import Fleet
from app.observe.health import Health
from app.observe.metrics import Metrics, NodeInfo
from app.observe.pages import observe_routes


async def _nobody(number: int) -> bytes | None:
    raise AssertionError("there is no other worker")


async def get(path: str, health: Health) -> httpx.Response:
    """The answer of an application that has these pages only."""
    metrics = Metrics(METRICS, Counts(["shop"]), health, NodeInfo("n1", "1.2"))
    transport = httpx.ASGITransport(Starlette(routes=observe_routes(Fleet(metrics, 0, lambda: [0], _nobody), health)))
    async with httpx.AsyncClient(transport=transport, base_url="http://node") as client:
        return await client.get(path)


@pytest.mark.parametrize(("is_heard", "status"), [(True, 200), (False, 503)])
async def test_readiness_names_the_checks(is_heard: bool, status: int) -> None:
    """200 when every check holds, else 503; the body names each check with its result."""
    answer = await get("/readyz", Health({"redis": lambda: True, "bus": lambda: is_heard}))
    assert answer.status_code == status
    assert answer.json() == {"ready": is_heard, "checks": {"redis": True, "bus": is_heard, "accepting": True}}


async def test_liveness_asks_for_nothing_else() -> None:
    """A node that is not ready is still alive."""
    health = Health({"redis": lambda: False})
    health.start_draining()
    answer = await get("/healthz", health)
    assert (answer.status_code, answer.text) == (200, "ok")


async def test_metrics_are_text_that_is_not_kept() -> None:
    """The headers tell Prometheus the format, and proxies not to cache."""
    answer = await get("/metrics", Health({}))
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert 'recado_connections{site="shop"} 0.0' in answer.text
