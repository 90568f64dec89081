"""What operators' machines ask over HTTP: /metrics, /healthz, /readyz. Holds no figures of its own."""

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from app.observe.health import Health
from app.observe.metrics import CONTENT_TYPE, Metrics

_NO_STORE = {"Cache-Control": "no-store"}


def observe_routes(metrics: Metrics, health: Health) -> list[BaseRoute]:
    """The routes; none of them needs a key, so a proxy in front should keep /metrics to itself."""

    # A plain function runs in a thread: thousands of lines are written without holding up the loop all the while.
    def answer_metrics(request: Request) -> Response:
        return Response(metrics.render(), media_type=CONTENT_TYPE, headers=_NO_STORE)

    async def answer_alive(request: Request) -> Response:
        return PlainTextResponse("ok", headers=_NO_STORE)

    async def answer_ready(request: Request) -> Response:
        checks = health.check()
        is_ready = all(checks.values())
        return JSONResponse({"ready": is_ready, "checks": checks}, 200 if is_ready else 503, headers=_NO_STORE)

    return [
        Route("/metrics", answer_metrics),
        Route("/healthz", answer_alive),
        Route("/readyz", answer_ready),
    ]
